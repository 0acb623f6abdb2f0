// What the attention kernels for any GPU are launched with: dense, or block-sparse over lists of kept blocks.
#pragma once

#include "core/dtype.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Windows in view whose slots travel with the launch; more of them need a table on the device (attention_slots.h).
inline constexpr int kAttentionLaunchSlots = 32;
// Tokens of one mask block.
inline constexpr int kAttentionBlock = 128;

// softmax(q k^T / sqrt(head_dim)) v for every head, head h in columns [h * head_dim, (h + 1) * head_dim).
//
// Dense (offsets is null): q and out [batch, queries, heads * head_dim], k and v [batch, keys, ...], or [1, keys, ...]
// that serve all entries of the batch; keys > 0.
//
// Block-sparse: batch 1, queries = query_blocks * 128. Row r = head * query_blocks + query block sees key blocks
// indices[offsets[r] .. offsets[r + 1]) alone; key block w * window_blocks + b lies at ring block slot[w] *
// window_blocks + b of k and v [ring blocks * 128, ...]. Rows without blocks give zeros.
struct AttentionArguments {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;
  DType type = DType::f32;  // of all four: f32 or bf16
  int heads = 0, head_dim = 0;
  int batch = 1, queries = 0, keys = 0;
  bool shared_keys = false;

  const int* offsets = nullptr;
  const int* indices = nullptr;
  int query_blocks = 0, window_blocks = 0;
  int slots[kAttentionLaunchSlots] = {};
  const int* slot_table = nullptr;  // used instead of `slots` if set
};

}  // namespace flashvsr::cuda
