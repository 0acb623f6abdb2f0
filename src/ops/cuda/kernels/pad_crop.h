// Copies of frames [frames, height, width] of pixels of `pixel_bytes` bytes each, whatever is in them. Pointers are to
// device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

struct FrameSize {
  std::int64_t height, width;
};

// out[t, y, x] = in[t, min(y, from.height - 1), min(x, from.width - 1)]
cudaError_t launch_pad_edge(const void* in, FrameSize from, void* out, FrameSize to, std::int64_t frames,
                            std::int64_t pixel_bytes, cudaStream_t stream);

// out[t, y, x] = in[t, top + y, left + x]
cudaError_t launch_crop(const void* in, FrameSize from, std::int64_t top, std::int64_t left, void* out, FrameSize to,
                        std::int64_t frames, std::int64_t pixel_bytes, cudaStream_t stream);

}  // namespace flashvsr::cuda
