// AdaIN colour fix: every frame's channels take the mean and deviation of the reference's. Pointers are to device
// memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace flashvsr::cuda {

// Bytes of scratch memory, 16-byte aligned.
std::size_t adain_scratch_bytes(std::int64_t frames, std::int64_t pixels);

// video f32, reference u8, result f32: all [frames, pixels, 3]. A frame's result does not depend on the others.
cudaError_t launch_adain(const float* video, const std::uint8_t* reference, float* result, std::int64_t frames,
                         std::int64_t pixels, void* scratch, cudaStream_t stream);

}  // namespace flashvsr::cuda
