// The kernels as function pointers, in groups; one table for each instruction set.
//
// Kernels run on the calling thread and know nothing of tensors: the operations in src/ops/cpu/vector_*.cpp divide the
// work among threads. "Element" is float or bf16 (std::uint16_t bits); strides count elements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flashvsr::ops {
enum class Isa : std::uint8_t;
}

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

// Cosines and sines along one axis from the block's first position on: [positions, channels], a pair's value twice, the
// sine of the first channel of a pair negated.
struct RotaryAxis {
  const float *cosines = nullptr, *sines = nullptr;
  std::int64_t channels = 0;
};

// One attention block (kBlockTokens tokens): RMS norm of q and k over dim, rotation, means over the block.
struct QkvBlock {
  const void* qkv = nullptr;  // [128, 3 dim] elements
  std::int64_t dim = 0, head_dim = 0;
  const float *norm_q = nullptr, *norm_k = nullptr;  // [dim]
  RotaryAxis time, height, width;
  void *q = nullptr, *k = nullptr, *v = nullptr;  // [128, dim] elements
  float *q_means = nullptr, *k_means = nullptr;   // [dim]
  float* scratch = nullptr;                       // 2 dim + 2 head_dim, of one thread
};

// Pairs of indices: element type of the input, then of the output (0: float, 1: bf16).
struct RowKernels {
  // (x - mean) / sqrt(variance + 1e-6) * scale + shift over `dim`.
  void (*layer_norm[2][2])(const void* x, const float* scale, const float* shift, std::int64_t rows, std::int64_t dim,
                           void* out);
  // x / sqrt(mean square + 1e-6) * weight.
  void (*rms_norm[2][2])(const void* x, const float* weight, std::int64_t rows, std::int64_t dim, void* out);
  // x / max(||x||, 1e-12) * sqrt(dim) * gamma, then SiLU if asked for.
  void (*channel_rms_norm[2][2])(const void* x, const float* gamma, std::int64_t rows, std::int64_t dim, bool with_silu,
                                 void* out);
  void (*split_qkv_block[2])(const QkvBlock& block);
};

// Of runs of `count` values. Single indices: the type of input and output; add: types of a (and the result) and b.
struct ElementwiseKernels {
  void (*convert[2][2])(const void* x, std::int64_t count, void* out);
  void (*affine[2][2])(const void* x, float scale, float shift, std::int64_t count, void* out);
  void (*add[2][2])(const void* a, const void* b, float sign, std::int64_t count, void* out);
  void (*channel_affine[2])(const void* x, const float* scale, const float* shift, std::int64_t rows, std::int64_t dim,
                            void* out);
  void (*relu[2])(const void* x, std::int64_t count, void* out);
  void (*silu[2])(const void* x, std::int64_t count, void* out);
  void (*gelu_tanh[2])(const void* x, std::int64_t count, void* out);
  void (*soft_clamp[2])(const void* x, float limit, std::int64_t count, void* out);
  void (*clamp[2])(const void* x, float low, float high, std::int64_t count, void* out);
};

struct KernelTable {
  AttentionKernels attention_f32, attention_bf16;
  RowKernels rows;
  ElementwiseKernels elementwise;
};

// The table of an available level.
const KernelTable& table_for(Isa isa);

// Each level overwrites what it does better than the level below.
#define FLASHVSR_KERNELS_OF(isa)            \
  namespace isa {                           \
  void add_attention(KernelTable& table);   \
  void add_rows(KernelTable& table);        \
  void add_elementwise(KernelTable& table); \
  }
FLASHVSR_KERNELS_OF(baseline)
#if defined(__x86_64__)
FLASHVSR_KERNELS_OF(v3)
FLASHVSR_KERNELS_OF(v4)
FLASHVSR_KERNELS_OF(v4_bf16)
#endif
#undef FLASHVSR_KERNELS_OF

}  // namespace flashvsr::ops::kernels
