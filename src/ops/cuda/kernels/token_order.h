// Kernels that only change the order of what they move.
#pragma once

#include "core/dtype.h"
#include "ops/cuda/kernels/window_grid.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace flashvsr::cuda {

// Tokens of `bytes` bytes in raster order (latent, row, column) -> window order.
cudaError_t launch_to_windows(const void* x, void* y, std::int64_t tokens, std::size_t bytes, const WindowGrid& grid,
                              cudaStream_t stream);

// Latents [f, 2 rows, 2 columns, C] -> tokens [.., 4 C] in window order, channels (c, row, column) of the 2x2 patch;
// the types are f32 or bf16.
cudaError_t launch_patchify(const void* x, DType x_type, void* y, DType y_type, std::int64_t tokens, int channels,
                            const WindowGrid& grid, cudaStream_t stream);

// Tokens in window order with channels (row, column, c) -> [f, 2 rows, 2 columns, C]; a pixel has `bytes` bytes.
cudaError_t launch_unpatchify(const void* x, void* y, std::int64_t tokens, std::size_t bytes, const WindowGrid& grid,
                              cudaStream_t stream);

// [T, pixels, 2, half] -> [T, 2, pixels, half]; a half has `bytes` bytes.
cudaError_t launch_channels_to_frames(const void* x, void* y, std::int64_t frames, std::int64_t pixels,
                                      std::size_t bytes, cudaStream_t stream);

}  // namespace flashvsr::cuda
