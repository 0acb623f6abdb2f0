#include "ops/cuda/kernels/block_scores.h"

#include <algorithm>
#include <cmath>

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSide = 16;  // of the square of threads
constexpr int kQueries = 32, kKeys = 64, kChannels = 64;
static_assert(kThreads % kChannels == 0 && kKeys + kQueries <= kThreads);
// Windows of keys that one launch takes, as their slots are passed by value.
constexpr int kMaxWindows = 128;

struct Arguments {
  const float *q_means, *k_means;
  float* scores;
  int heads, head_dim, query_blocks, key_blocks;
  WindowGrid grid;
  int first_key, keys;  // of this launch
  int range;
  bool preserved;
  float scale;
  int slots[kMaxWindows];
};

struct Range {
  int begin, end;
  __device__ bool contains(int i) const { return i >= begin && i < end; }
};

// The same as local_window() of the CPU back end.
__device__ Range local_window(int index, int blocks, int range, bool preserved) {
  int begin = index - range / 2;
  if (preserved) begin = min(max(begin, 0), max(blocks - range, 0));
  return {max(begin, 0), min(begin + range, blocks)};
}

// A tile of query and key blocks of one head; a thread has every 16th of both. A tile outside of every local window
// costs nothing but its -inf.
__global__ void __launch_bounds__(kThreads) block_scores_kernel(const __grid_constant__ Arguments a) {
  // Rows are padded so that neighbouring keys lie in different banks.
  __shared__ float q[kQueries][kChannels + 1], k[kKeys][kChannels + 1];
  // Where the rows of the tile lie, or -1: worked out once, as slots and windows take divisions.
  __shared__ std::int64_t query_rows[kQueries], key_rows[kKeys];
  const int tx = static_cast<int>(threadIdx.x) % kSide, ty = static_cast<int>(threadIdx.x) / kSide;
  const int head = static_cast<int>(blockIdx.z);
  const int first_query = static_cast<int>(blockIdx.y) * kQueries, first_key = static_cast<int>(blockIdx.x) * kKeys;
  const int window_blocks = a.grid.window_blocks, columns = a.grid.block_columns, rows = window_blocks / columns;
  const std::int64_t dim = std::int64_t{a.heads} * a.head_dim;

  bool allowed[kQueries / kSide][kKeys / kSide], any = false;
#pragma unroll
  for (int i = 0; i < kQueries / kSide; ++i) {
    const int place = (first_query + ty + i * kSide) % window_blocks;
    const Range row_range = local_window(place / columns, rows, a.range, a.preserved);
    const Range column_range = local_window(place % columns, columns, a.range, a.preserved);
#pragma unroll
    for (int j = 0; j < kKeys / kSide; ++j) {
      const int key_place = (first_key + tx + j * kSide) % window_blocks;
      allowed[i][j] = row_range.contains(key_place / columns) && column_range.contains(key_place % columns);
      any = any || allowed[i][j];
    }
  }

  float sums[kQueries / kSide][kKeys / kSide] = {};
  if (__syncthreads_or(any)) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kKeys) {
      const int key = first_key + thread;
      const std::int64_t block =
          key < a.keys ? std::int64_t{a.slots[key / window_blocks]} * window_blocks + key % window_blocks : -1;
      key_rows[thread] = block < 0 ? -1 : block * dim + head * a.head_dim;
    } else if (thread < kKeys + kQueries) {
      const int query = first_query + thread - kKeys;
      query_rows[thread - kKeys] = query < a.query_blocks ? query * dim + head * a.head_dim : -1;
    }
    __syncthreads();
    for (int channel = 0; channel < a.head_dim; channel += kChannels) {
      const int c = thread % kChannels;
      const bool exists = channel + c < a.head_dim;
#pragma unroll
      for (int row = 0; row < kQueries; row += kThreads / kChannels) {
        const std::int64_t from = query_rows[row + thread / kChannels];
        q[row + thread / kChannels][c] = exists && from >= 0 ? a.q_means[from + channel + c] : 0.0f;
      }
#pragma unroll
      for (int row = 0; row < kKeys; row += kThreads / kChannels) {
        const std::int64_t from = key_rows[row + thread / kChannels];
        k[row + thread / kChannels][c] = exists && from >= 0 ? a.k_means[from + channel + c] : 0.0f;
      }
      __syncthreads();
#pragma unroll 8
      for (int c = 0; c < kChannels; ++c) {
        float queries[kQueries / kSide], keys[kKeys / kSide];
#pragma unroll
        for (int i = 0; i < kQueries / kSide; ++i) queries[i] = q[ty + i * kSide][c];
#pragma unroll
        for (int j = 0; j < kKeys / kSide; ++j) keys[j] = k[tx + j * kSide][c];
#pragma unroll
        for (int i = 0; i < kQueries / kSide; ++i) {
#pragma unroll
          for (int j = 0; j < kKeys / kSide; ++j) sums[i][j] += queries[i] * keys[j];
        }
      }
      __syncthreads();
    }
  }

#pragma unroll
  for (int i = 0; i < kQueries / kSide; ++i) {
    const int query = first_query + ty + i * kSide;
#pragma unroll
    for (int j = 0; j < kKeys / kSide; ++j) {
      const int key = first_key + tx + j * kSide;
      if (query >= a.query_blocks || key >= a.keys) continue;
      const std::int64_t row = std::int64_t{head} * a.query_blocks + query;
      a.scores[row * a.key_blocks + a.first_key + key] = allowed[i][j] ? sums[i][j] * a.scale : -INFINITY;
    }
  }
}

}  // namespace

cudaError_t launch_block_scores(const BlockScores& scores, cudaStream_t stream) {
  const int window_blocks = scores.grid.window_blocks;
  if (scores.query_blocks == 0) return cudaSuccess;
  for (int window = 0; window < scores.key_windows; window += kMaxWindows) {
    const int windows = std::min(kMaxWindows, scores.key_windows - window);
    Arguments arguments{.q_means = scores.q_means,
                        .k_means = scores.k_means,
                        .scores = scores.scores,
                        .heads = scores.heads,
                        .head_dim = scores.head_dim,
                        .query_blocks = scores.query_blocks,
                        .key_blocks = scores.key_windows * window_blocks,
                        .grid = scores.grid,
                        .first_key = window * window_blocks,
                        .keys = windows * window_blocks,
                        .range = scores.range,
                        .preserved = scores.preserved,
                        .scale = 1.0f / std::sqrt(static_cast<float>(scores.head_dim)),
                        .slots = {}};
    for (int i = 0; i < windows; ++i) arguments.slots[i] = static_cast<int>(scores.slots[window + i]);
    const dim3 blocks(static_cast<unsigned>((arguments.keys + kKeys - 1) / kKeys),
                      static_cast<unsigned>((scores.query_blocks + kQueries - 1) / kQueries),
                      static_cast<unsigned>(scores.heads));
    block_scores_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace flashvsr::cuda
