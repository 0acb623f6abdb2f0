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
  // In double.
  double (*dot)(const float* a, const float* b, std::int64_t count);
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

// ---------------------------------------------------------------------------------------------------------- frames

// Bits behind the point of the weights of resampling.
inline constexpr int kResampleBits = 22;

// Pixels are interleaved RGB. Output column x is the sum of weights[x * weight_stride + i] times input column
// first[x] + i, i < count[x].
struct ColumnResampling {
  const std::uint8_t* in = nullptr;  // [rows, in_width, 3]
  std::int64_t rows = 0, in_width = 0, out_width = 0;
  const std::int64_t *first = nullptr, *count = nullptr;
  const std::int32_t* weights = nullptr;
  std::int64_t weight_stride = 0;
  std::uint8_t* out = nullptr;  // [rows, out_width, 3]
  std::uint8_t* scratch = nullptr;
};

// A row of patches of side x side pixels of several frames, every byte looked up in a table of 256 elements: [columns]
// [channels][frames][side][side].
struct BytePatches {
  const std::uint8_t* in = nullptr;  // the first patch of the first frame
  std::int64_t columns = 0, channels = 0, frames = 0, side = 0;
  std::int64_t frame_stride = 0, row_stride = 0;
  const void* table = nullptr;
  void* out = nullptr;
};

struct FrameKernels {
  // Sum of `taps` rows, `stride` bytes apart, rounded and clipped to bytes.
  void (*resample_row)(const std::uint8_t* in, std::int64_t stride, const std::int32_t* weights, std::int64_t taps,
                       std::int64_t count, std::uint8_t* out);
  void (*resample_columns)(const ColumnResampling& resampling);
  std::size_t (*resample_scratch)(std::int64_t in_width, std::int64_t out_width);
  void (*to_bytes[2])(const void* x, std::int64_t count, std::uint8_t* out);
  void (*to_video)(const std::uint8_t* x, std::int64_t count, float* out);
  void (*byte_patches[2])(const BytePatches& patches);
};

// Sums of values and of their squares of the three channels.
struct Moments {
  double sums[3] = {}, squares[3] = {};
};

struct ChannelMatch {
  float means[3], scales[3], targets[3];
};

// Rows [top, bottom) and columns [left, right) of a frame [height, width, 3]: result = video + low(reference - video),
// clipped to [-1, 1]; the low band being linear, these are the high bands of the video and the low band of the
// reference.
struct WaveletTile {
  const float* video = nullptr;
  const std::uint8_t* reference = nullptr;
  std::int64_t height = 0, width = 0;
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;
  float* out = nullptr;
  float* scratch = nullptr;
};

struct ColorKernels {
  // Adds to the moments. Bytes: at most 2^15 pixels a call.
  void (*value_moments)(const float* x, std::int64_t pixels, Moments& moments);
  void (*byte_moments)(const std::uint8_t* x, std::int64_t pixels, Moments& moments);
  // (x - mean) * scale + target, clipped to [-1, 1].
  void (*match_channels)(const float* x, std::int64_t pixels, const ChannelMatch& match, float* out);
  std::size_t (*wavelet_scratch)(const WaveletTile& tile);
  void (*wavelet)(const WaveletTile& tile);
};

struct KernelTable {
  AttentionKernels attention_f32, attention_bf16;
  RowKernels rows;
  ElementwiseKernels elementwise;
  FrameKernels frames;
  ColorKernels color;
};

// The table of an available level.
const KernelTable& table_for(Isa isa);

// Each level overwrites what it does better than the level below.
#define FLASHVSR_KERNELS_OF(isa)            \
  namespace isa {                           \
  void add_attention(KernelTable& table);   \
  void add_rows(KernelTable& table);        \
  void add_elementwise(KernelTable& table); \
  void add_frames(KernelTable& table);      \
  void add_color(KernelTable& table);       \
  }
FLASHVSR_KERNELS_OF(baseline)
#if defined(__x86_64__)
FLASHVSR_KERNELS_OF(v3)
FLASHVSR_KERNELS_OF(v4)
FLASHVSR_KERNELS_OF(v4_bf16)
#endif
#undef FLASHVSR_KERNELS_OF

}  // namespace flashvsr::ops::kernels
