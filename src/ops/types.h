// Values that operations take and give besides tensors.
#pragma once

#include "core/color_conversion.h"
#include "core/parameter.h"
#include "core/tensor.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace flashvsr::ops {

// An attention block is a window of 2 latents x 8 x 8 tokens (paper section 3.3).
inline constexpr std::int64_t kWindowLatents = 2;
inline constexpr std::int64_t kWindowSide = 8;
inline constexpr std::int64_t kBlockTokens = kWindowLatents * kWindowSide * kWindowSide;

enum class Activation : std::uint8_t { none, relu, silu, gelu_tanh };

// weight [out, in], bias [out] (may be absent).
struct LinearWeights {
  Parameter weight;
  Parameter bias;
};

// weight [out, in, (kt,) kh, kw] as PyTorch stores it, bias [out] (may be absent).
struct ConvWeights {
  Parameter weight;
  Parameter bias;
};

struct LinearOptions {
  Activation activation = Activation::none;
  // result = residual + gate * activation(x W^T + b). The gate is [out] f32; a back end may fold it into the weights
  // and keep the folded copy under (weight, gate storage), so a gate must stay unchanged while it lives.
  const Tensor* gate = nullptr;
  const Tensor* residual = nullptr;
  // Default: the type of the residual if there is one, else the compute type.
  std::optional<DType> output = std::nullopt;
  // The weights are used this once, so that a back end need not keep what it derives from them.
  bool once = false;
};

struct Conv2dOptions {
  int stride = 1;
  // Zeros around the frame.
  int pad_top = 1, pad_bottom = 1, pad_left = 1, pad_right = 1;
  // result = activation(conv(x ++ second) + bias + residual): the weight's input channels are those of x, then those
  // of `second` (the two-source form of a convolution over a concatenation).
  const Tensor* second = nullptr;
  const Tensor* residual = nullptr;
  Activation activation = Activation::none;
  std::optional<DType> output = std::nullopt;  // default: the compute type
};

enum class Padding : std::uint8_t { zeros, edge };

struct Conv3dOptions {
  int time_stride = 1;
  Padding padding = Padding::zeros;            // in space, (kh/2, kw/2) on each side; time is padded by `front` alone
  std::optional<DType> output = std::nullopt;  // default: the compute type
};

// Where a run of tokens lies: `latents` latents of rows x columns tokens, latent 0 of the run being latent
// `first_latent` of the stream. Token rows and columns are multiples of 8, latents of 2.
struct TokenGrid {
  std::int64_t latents = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t first_latent = 0;
  std::int64_t heads = 1;

  std::int64_t tokens() const { return latents * rows * columns; }
  std::int64_t blocks() const { return tokens() / kBlockTokens; }
  std::int64_t block_rows() const { return rows / kWindowSide; }
  std::int64_t block_columns() const { return columns / kWindowSide; }
  // S: blocks of one time window.
  std::int64_t window_blocks() const { return block_rows() * block_columns(); }
};

// q, k, v [tokens, dim] compute type, in window order; block means [blocks, dim] f32, taken over the f32 values before
// they are rounded.
struct QueryKeyValue {
  Tensor q, k, v;
  Tensor q_means, k_means;
};

struct Query {
  Tensor q;        // [tokens, dim] compute type
  Tensor q_means;  // [blocks, dim] f32
};

enum class LocalWindow : std::uint8_t { truncated, preserved };

// Which key blocks a query block may see (paper section 3.4).
struct Locality {
  std::int64_t range = 11;  // R, in blocks
  LocalWindow window = LocalWindow::truncated;
};

// Top-k over all S x (S * windows in view) pairs of a query window and head: k = int(S*S*topk_ratio) - 1, capped at
// pairs - 1; kept is what lies strictly above the (k+1)-th largest softmax score.
struct Selection {
  double topk_ratio = 1.0;
  bool all_allowed = false;  // keep every block of the local window instead
};

// Kept (query block, key block) pairs. mask u8 [heads, query blocks, key blocks], key blocks oldest first; the same as
// lists: row r = head * query_blocks + query block keeps indices[offsets[r] .. offsets[r+1]), ascending.
struct BlockMask {
  Tensor mask;
  Tensor offsets;  // i32 [heads * query blocks + 1]
  Tensor indices;  // i32, at least offsets[last] entries
};

// Keys and values as a ring of windows of S blocks. Block b of logical window w lies at ring block
// slots[w] * window_blocks + b.
struct KeyValueView {
  Tensor k, v;                      // [ring blocks, 128, dim] compute type
  Tensor k_means;                   // [ring blocks, dim] f32
  std::vector<std::int64_t> slots;  // logical windows in view, oldest first
  std::int64_t window_blocks = 0;   // S

  std::int64_t key_blocks() const { return static_cast<std::int64_t>(slots.size()) * window_blocks; }
};

// A picture of Y'CbCr 4:2:0 in the back end's memory that belongs to somebody else: NV12 (8 bits), or P010 (10 bits,
// the upper ones of 16). One sample of Cb and one of Cr take turns.
struct SemiPlanarImage {
  void *luma = nullptr, *chroma = nullptr;          // 10 bits: even addresses and strides
  std::int64_t luma_stride = 0, chroma_stride = 0;  // bytes from row to row
  std::int64_t width = 0, height = 0;               // pixels; chroma is rounded up
  int bit_depth = 8;                                // or 10
  int matrix = 1;                                   // of ITU-T H.273
  bool full_range = false;
  ChromaSiting siting = ChromaSiting::left;

  std::int64_t sample_bytes() const { return bit_depth > 8 ? 2 : 1; }
  std::int64_t chroma_width() const { return (width + 1) / 2; }
  std::int64_t chroma_height() const { return (height + 1) / 2; }
  double bytes() const {
    return static_cast<double>(sample_bytes() * (width * height + 2 * chroma_width() * chroma_height()));
  }
};

// A device that is not the host.
struct Hardware {
  std::string name;            // "NVIDIA H200"; empty: there is none
  std::string bus_address;     // PCI: "0000:19:00.0"
  int compute_capability = 0;  // 90 stands for 9.0
  int multiprocessors = 0;
  std::size_t memory = 0;  // bytes
};

}  // namespace flashvsr::ops
