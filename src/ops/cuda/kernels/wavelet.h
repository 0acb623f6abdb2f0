// Wavelet colour fix: the high bands of the video and the low band of the reference. Pointers are to device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// video f32, reference u8, result f32: all [frames, height, width, 3]; across: scratch of the result's size.
cudaError_t launch_wavelet(const float* video, const std::uint8_t* reference, float* result, std::int64_t frames,
                           std::int64_t height, std::int64_t width, float* across, cudaStream_t stream);

}  // namespace flashvsr::cuda
