// The kernels as function pointers, in groups; one table for each instruction set.
//
// Kernels run on the calling thread and know nothing of tensors: the operations in src/ops/cpu/vector_*.cpp divide the
// work among threads. "Element" is float or bf16 (std::uint16_t bits); strides count elements.
#pragma once

#include "ops/cpu/vector_isa.h"

#include <cstddef>
#include <cstdint>

namespace flashvsr::ops::kernels {

// Queries and keys are handled in tiles of up to this many tokens: an attention block (kBlockTokens).
inline constexpr std::int64_t kTileTokens = 128;

// One tile of queries of one head against tiles of keys and values that were packed before.
struct AttentionTile {
  const void* q = nullptr;  // [rows, head_dim] elements
  std::int64_t q_stride = 0;
  std::int64_t rows = 0;  // 1..kTileTokens
  std::int64_t head_dim = 0;
  float scale = 1;                         // logits = scale * q.k
  const std::byte* const* keys = nullptr;  // packed tiles, in order; none: the result is zero
  std::int64_t key_tiles = 0;
  std::int64_t last_keys = kTileTokens;  // valid keys of the last tile; all others are full
  void* out = nullptr;                   // [rows, head_dim] elements
  std::int64_t out_stride = 0;
  std::byte* scratch = nullptr;  // 64-byte aligned, of one thread
};

struct AttentionKernels {
  // Multiples of 64.
  std::size_t (*packed_bytes)(std::int64_t head_dim);
  std::size_t (*scratch_bytes)(std::int64_t head_dim);
  // k, v [keys, head_dim], keys 1..kTileTokens -> packed (64-byte aligned).
  void (*pack)(const void* k, const void* v, std::int64_t stride, std::int64_t keys, std::int64_t head_dim,
               std::byte* packed);
  // Softmax over all keys, f32 inside; exp has a relative error below 2e-7 (f32) or 4e-6 (bf16).
  void (*attend)(const AttentionTile& tile);
};

struct KernelTable {
  AttentionKernels attention_f32, attention_bf16;
};

// The table of an available level.
const KernelTable& table_for(Isa isa);

// Each level overwrites what it does better than the level below.
namespace baseline {
void add_attention(KernelTable& table);
}
#if defined(__x86_64__)
namespace v3 {
void add_attention(KernelTable& table);
}
namespace v4 {
void add_attention(KernelTable& table);
}
namespace v4_bf16 {
void add_attention(KernelTable& table);
}
#endif

}  // namespace flashvsr::ops::kernels
