// Conversion between u8 pixels and values in [-1, 1], bit for bit as on the CPU. Pointers are to device memory.
#pragma once

#include "core/dtype.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// f32 or bf16 -> u8: round((x + 1) * 127.5), halves away from zero, clipped; NaN becomes 0.
cudaError_t launch_to_bytes(const void* x, DType type, std::uint8_t* bytes, std::int64_t elements, cudaStream_t stream);

// u8 -> f32: v / 255 * 2 - 1.
cudaError_t launch_to_video(const std::uint8_t* bytes, float* video, std::int64_t elements, cudaStream_t stream);

}  // namespace flashvsr::cuda
