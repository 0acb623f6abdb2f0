// q, k and v of a chunk in one pass: RMS norm of q and k over all heads, 3D RoPE in every head, block means.
#pragma once

#include "core/dtype.h"
#include "ops/cuda/kernels/window_grid.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Cosine and sine of every position and pair of channels of an axis, [positions, pairs]; an axis may have no pairs. A
// head's pairs lie in the order time, height, width.
struct RopeAngles {
  const float2 *time, *height, *width;
  int time_pairs, height_pairs, width_pairs;
};

struct SplitQkv {
  DType type;       // of qkv, q, k and v
  const void* qkv;  // [tokens, 3 dim] in window order
  const float *norm_q, *norm_k;
  RopeAngles angles;
  void* q;         // [tokens, dim]
  void *k, *v;     // [ring blocks, 128, dim]
  float* q_means;  // [blocks, dim]
  float* k_means;  // [ring blocks, dim]
  float* work;     // split_qkv_work() floats
  int dim, head_dim;
  WindowGrid grid;
  std::int64_t windows;
  // On the host: which window of the ring each window's k, v and k_means go to.
  const std::int64_t* slots;
};

std::int64_t split_qkv_work(std::int64_t windows, const WindowGrid& grid, std::int64_t dim);

cudaError_t launch_split_qkv(const SplitQkv& split, cudaStream_t stream);

}  // namespace flashvsr::cuda
