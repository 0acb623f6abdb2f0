// Scores of pairs of attention blocks.
#pragma once

#include "ops/cuda/kernels/window_grid.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

struct BlockScores {
  const float* q_means;  // [query blocks, heads * head_dim]
  const float* k_means;  // [ring blocks, heads * head_dim]
  float* scores;         // [heads, query blocks, key windows * S]
  int heads, head_dim, query_blocks;
  WindowGrid grid;
  // On the host: the ring's windows in view, oldest first.
  const std::int64_t* slots;
  int key_windows;
  // A query block sees `range` rows and columns of blocks around its own; at the frame's edges the window is cut off,
  // or moved to stay whole (preserved). Other scores are -inf.
  int range;
  bool preserved;
};

// Products of block means / sqrt(head_dim).
cudaError_t launch_block_scores(const BlockScores& scores, cudaStream_t stream);

}  // namespace flashvsr::cuda
