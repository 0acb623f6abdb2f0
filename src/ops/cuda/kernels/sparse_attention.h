// Block-sparse attention over lists of kept blocks (paper section 3.3), head dim 128, bf16.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace flashvsr::cuda {

inline constexpr int kAttentionMaxWindows = 32;

// Row r = head * query_blocks + query block keeps key blocks indices[offsets[r] .. offsets[r + 1]), all on the device:
// nothing about them is known to the host. Key block w * window_blocks + b lies at ring block slots[w] * window_blocks
// + b. Rows without blocks give zeros.
struct SparseAttentionArguments {
  const __nv_bfloat16* q = nullptr;  // [query_blocks * 128, dim]
  const __nv_bfloat16* k = nullptr;  // [ring_blocks * 128, dim]
  const __nv_bfloat16* v = nullptr;
  __nv_bfloat16* out = nullptr;  // like q
  const int* offsets = nullptr;  // [heads * query_blocks + 1]
  const int* indices = nullptr;
  int heads = 0, query_blocks = 0, ring_blocks = 0;
  int window_blocks = 0, windows = 0;
  int slots[kAttentionMaxWindows] = {};
  void* workspace = nullptr;  // sparse_attention_workspace() bytes
};

std::size_t sparse_attention_workspace(int multiprocessors);

// Hopper: TMA, wgmma, warp specialisation. Every block of the persistent grid takes the same number of kept blocks; a
// row that is split between two is combined by a second, tiny kernel.
cudaError_t launch_sparse_attention_hopper(const SparseAttentionArguments& arguments, int multiprocessors,
                                           cudaStream_t stream);

}  // namespace flashvsr::cuda
