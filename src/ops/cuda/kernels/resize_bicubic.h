// Bicubic resampling of u8 RGB frames with the integer weights of ops/bicubic.h: Pillow's result bit for bit. Pointers
// are to device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Output i of an axis is the sum over j < count[i] of weights[i * stride + j] times input first[i] + j.
struct ResampledAxis {
  const std::int32_t* first;
  const std::int32_t* count;
  const std::int32_t* weights;
  int stride;
};

// [rows, in_width, 3] -> [rows, width, 3]
cudaError_t launch_resample_columns(const std::uint8_t* in, std::int64_t rows, std::int64_t in_width, std::uint8_t* out,
                                    std::int64_t width, const ResampledAxis& axis, cudaStream_t stream);

// [frames, in_height, row_values] -> [frames, height, row_values]
cudaError_t launch_resample_rows(const std::uint8_t* in, std::int64_t frames, std::int64_t in_height, std::uint8_t* out,
                                 std::int64_t height, std::int64_t row_values, const ResampledAxis& axis,
                                 cudaStream_t stream);

}  // namespace flashvsr::cuda
