// Pixels to channels. Pointers are to device memory.
#pragma once

#include "core/dtype.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Sizes of the result: [groups, height, width, channels * temporal * spatial * spatial], from frames
// [groups * temporal, height * spatial, width * spatial, channels].
struct DepthShape {
  std::int64_t groups, height, width, channels, spatial, temporal;
};

// Channels in the order (c, frame, row, column). u8 pixels become v / 255 * 2 - 1, f32 and bf16 are taken as they are;
// limit > 0: limit * tanh(value / limit). The result is f32 or bf16.
cudaError_t launch_space_to_depth(const void* frames, DType frames_type, void* y, DType y_type, const DepthShape& shape,
                                  float limit, cudaStream_t stream);

}  // namespace flashvsr::cuda
