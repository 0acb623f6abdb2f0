// Window order on the device: blocks in the order (time window, window row, window column), tokens inside a block
// (t, h, w); ops/cpu/window_order.h is the same on the host.
#pragma once

#include "ops/cuda/kernels/window_grid.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Latent within the run, token row and column in the frame.
struct TokenPosition {
  int latent, row, column;
};

// Of token `inside` of block `block`.
__device__ __forceinline__ TokenPosition token_position(int block, int inside, const WindowGrid& grid) {
  const int window = block / grid.window_blocks, place = block % grid.window_blocks;
  return {window * kWindowLatents + inside / (kWindowSide * kWindowSide),
          place / grid.block_columns * kWindowSide + inside / kWindowSide % kWindowSide,
          place % grid.block_columns * kWindowSide + inside % kWindowSide};
}

__device__ __forceinline__ TokenPosition token_position(std::int64_t token, const WindowGrid& grid) {
  return token_position(static_cast<int>(token / kBlockTokens), static_cast<int>(token % kBlockTokens), grid);
}

}  // namespace flashvsr::cuda
