// Attention of one tile of queries, tile by tile of keys with a running softmax (Dao et al., FlashAttention-2): logits
// never leave the cache. Both matrix products use one register-blocked micro-kernel over operands that are packed as
// "words": a word is a float, or a pair of bf16 that one instruction multiplies and adds (AVX512-BF16). Without that
// instruction bf16 operands are widened when they are packed, and arithmetic is that of f32.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/kernels/simd_math.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

// The micro-kernel computes kRows x (up to kVectors * kLanes) results in registers.
#if defined(__AVX512F__)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr int kVectors = 2;
constexpr std::int64_t kPanel = kVectors * kLanes;
// Query rows whose logits are alive at the same time: they and their probabilities stay in the first cache.
constexpr std::int64_t kRowGroup = 32;

// ------------------------------------------------------------------------------------------------ operand types

struct FloatWords {
  using Word = float;
  static constexpr std::int64_t kPerWord = 1;
  static constexpr bool kPrecise = true;
  static FLASHVSR_INLINE F32 multiply_add(Word a, F32 b, F32 sum) { return a * b + sum; }
  static FLASHVSR_INLINE Word word(float first, float) { return first; }
  // Probabilities of two vectors of keys -> words.
  static FLASHVSR_INLINE void store_pair(Word* to, F32 first, F32 second) {
    store(to, first);
    store(to + kLanes, second);
  }
};

#if defined(__AVX512BF16__)
struct Bf16Words {
  using Word = std::uint32_t;
  static constexpr std::int64_t kPerWord = 2;
  static constexpr bool kPrecise = false;
  static FLASHVSR_INLINE F32 multiply_add(Word a, F32 b, F32 sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(a)), (__m512bh)b);
  }
  static FLASHVSR_INLINE Word word(std::uint16_t first, std::uint16_t second) {
    return first | static_cast<Word>(second) << 16;
  }
  static FLASHVSR_INLINE void store_pair(Word* to, F32 first, F32 second) {
    store(to, _mm512_cvtne2ps_pbh(second, first));
  }
};
#endif

// Element of the tensors -> element of a word.
FLASHVSR_INLINE float convert(const float* from, float) { return *from; }
FLASHVSR_INLINE float convert(const std::uint16_t* from, float) { return widen(*from); }
FLASHVSR_INLINE std::uint16_t convert(const std::uint16_t* from, std::uint32_t) { return *from; }

// --------------------------------------------------------------------------------------------------- packed tiles

// Columns [begin, begin + width) of a right operand lie together, word by word: word k of column begin + n is at
// begin * words + k * width + n. Keys: columns are keys, words run over the head dimension. Values: columns are the
// head dimension, words run over the keys.
template <typename Words>
struct Layout {
  explicit Layout(std::int64_t head_dim)
      : key_words(round_up(head_dim, Words::kPerWord) / Words::kPerWord),
        value_columns(round_up(head_dim, kLanes)),
        value_words(kTileTokens / Words::kPerWord) {}
  std::int64_t key_size() const { return round_up(key_words * kTileTokens, 16); }
  std::int64_t value_size() const { return round_up(value_words * value_columns, 16); }

  std::int64_t key_words, value_columns, value_words;
};

// Where a thread keeps what belongs to its tile of queries.
template <typename Words>
struct Scratch {
  using Word = typename Words::Word;
  static constexpr std::int64_t kProbabilityStride = kTileTokens / Words::kPerWord;

  Scratch(std::byte* memory, const Layout<Words>& layout) {
    std::byte* next = memory;
    const auto take = [&](std::int64_t words) {
      std::byte* const begin = next;
      next += round_up(words * 4, 64);
      return begin;
    };
    q = reinterpret_cast<Word*>(take(kTileTokens * layout.key_words));
    out = reinterpret_cast<float*>(take(kTileTokens * layout.value_columns));
    sums = reinterpret_cast<float*>(take(kTileTokens * kLanes));
    maxima = reinterpret_cast<float*>(take(kTileTokens));
    factors = reinterpret_cast<float*>(take(kTileTokens));
    logits = reinterpret_cast<float*>(take(kRowGroup * kTileTokens));
    probabilities = reinterpret_cast<Word*>(take(kRowGroup * kProbabilityStride));
    bytes = static_cast<std::size_t>(next - memory);
  }

  Word* q;              // [rows / kRows][key_words][kRows]
  float* out;           // [rows][value_columns], not yet divided by the sums
  float* sums;          // [rows][kLanes]: partial sums of the probabilities
  float* maxima;        // [rows], of the scaled logits in powers of two
  float* factors;       // [rows]: what the newest maximum makes of the older results
  float* logits;        // [kRowGroup][kTileTokens]
  Word* probabilities;  // [kRowGroup][kProbabilityStride]
  std::size_t bytes;
};

template <typename Words>
std::size_t packed_bytes(std::int64_t head_dim) {
  const Layout<Words> layout(head_dim);
  return static_cast<std::size_t>(layout.key_size() + layout.value_size()) * 4;
}

template <typename Words>
std::size_t scratch_bytes(std::int64_t head_dim) {
  return Scratch<Words>(nullptr, Layout<Words>(head_dim)).bytes;
}

// Word `index` of `count` elements that lie `stride` apart; what is missing is zero.
template <typename Words, typename Element>
FLASHVSR_INLINE typename Words::Word gather(const Element* from, std::int64_t stride, std::int64_t count,
                                            std::int64_t index) {
  using Word = typename Words::Word;
  const std::int64_t first = index * Words::kPerWord, second = first + Words::kPerWord - 1;
  const auto element = [&](std::int64_t i) {
    return i < count ? convert(from + i * stride, Word{}) : decltype(convert(from, Word{})){};
  };
  return Words::word(element(first), element(second));
}

template <typename Words, typename Element>
void pack(const void* k_memory, const void* v_memory, std::int64_t stride, std::int64_t keys, std::int64_t head_dim,
          std::byte* packed) {
  using Word = typename Words::Word;
  const Layout<Words> layout(head_dim);
  const auto *k = static_cast<const Element*>(k_memory), *v = static_cast<const Element*>(v_memory);
  Word* to = reinterpret_cast<Word*>(packed);
  for (std::int64_t begin = 0; begin < kTileTokens; begin += kPanel) {
    for (std::int64_t n = 0; n < kPanel; ++n) {
      Word* const column = to + begin * layout.key_words + n;
      const Element* const key = k + (begin + n) * stride;
      const std::int64_t count = begin + n < keys ? head_dim : 0;
      for (std::int64_t word = 0; word < layout.key_words; ++word) {
        column[word * kPanel] = gather<Words>(key, 1, count, word);
      }
    }
  }
  to += layout.key_size();
  for (std::int64_t begin = 0; begin < layout.value_columns; begin += kPanel) {
    const std::int64_t width = min(kPanel, layout.value_columns - begin);
    const std::int64_t valid = min(width, head_dim - begin);
    for (std::int64_t word = 0; word < layout.value_words; ++word) {
      Word* const row = to + begin * layout.value_words + word * width;
      for (std::int64_t n = 0; n < valid; ++n) row[n] = gather<Words>(v + begin + n, stride, keys, word);
      for (std::int64_t n = valid; n < width; ++n) row[n] = Word{};
    }
  }
}

// --------------------------------------------------------------------------------------------------- micro-kernel

// kRows rows of a left operand times `Vectors` vectors of columns. Word k of row m of the left operand is at
// left[m * RowStride + k * WordStride]. result = factors * result + product, or the product alone.
template <typename Words, int Vectors, std::int64_t RowStride, std::int64_t WordStride>
FLASHVSR_INLINE void multiply_tile(const typename Words::Word* left, const typename Words::Word* right,
                                   std::int64_t words, float* result, std::int64_t result_stride,
                                   const float* factors) {
  F32 sums[kRows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < Vectors; ++n) {
      sums[m][n] = factors ? factors[m] * load<F32>(result + m * result_stride + n * kLanes) : F32{};
    }
  }
  for (std::int64_t word = 0; word < words; ++word) {
    F32 columns[Vectors];
#pragma GCC unroll 16
    for (int n = 0; n < Vectors; ++n) columns[n] = load<F32>(right + n * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 16
      for (int n = 0; n < Vectors; ++n) {
        sums[m][n] = Words::multiply_add(left[m * RowStride], columns[n], sums[m][n]);
      }
    }
    left += WordStride;
    right += Vectors * kLanes;
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < Vectors; ++n) store(result + m * result_stride + n * kLanes, sums[m][n]);
  }
}

// --------------------------------------------------------------------------------------------------- softmax

// Turns a row of logits into probabilities relative to the new maximum of the row.
// columns: a multiple of kPanel, of which `keys` are valid.
template <typename Words>
FLASHVSR_INLINE void softmax_row(float* logits, std::int64_t columns, std::int64_t keys, float scale, bool first,
                                 float& row_maximum, float& row_factor, float* row_sums,
                                 typename Words::Word* probabilities) {
  for (std::int64_t key = keys; key < columns; ++key) logits[key] = -__builtin_inff();
  F32 maxima = max(load<F32>(logits), load<F32>(logits + kLanes));
  for (std::int64_t n = kPanel; n < columns; n += kPanel) {
    maxima = max(maxima, max(load<F32>(logits + n), load<F32>(logits + n + kLanes)));
  }
  // The scale is positive, so it may be applied after the maximum is taken.
  const float here = scale * max_of(maxima);
  const float maximum = first ? here : max(row_maximum, here);
  F32 factor = {};
  if (!first) factor = exp2_negative<Words::kPrecise>(splat(row_maximum - maximum));
  F32 sum_a = first ? F32{} : factor * load<F32>(row_sums), sum_b = {};
  for (std::int64_t n = 0; n < columns; n += kPanel) {
    const F32 a = exp2_negative<Words::kPrecise>(load<F32>(logits + n) * scale - maximum);
    const F32 b = exp2_negative<Words::kPrecise>(load<F32>(logits + n + kLanes) * scale - maximum);
    sum_a += a;
    sum_b += b;
    Words::store_pair(probabilities + n / Words::kPerWord, a, b);
  }
  store(row_sums, sum_a + sum_b);
  row_maximum = maximum;
  row_factor = factor[0];
}

// --------------------------------------------------------------------------------------------------- one tile

template <typename Words, typename Element>
void gather_queries(const AttentionTile& tile, const Layout<Words>& layout, typename Words::Word* to) {
  const auto* q = static_cast<const Element*>(tile.q);
  const std::int64_t rows = round_up(tile.rows, kRows);
  for (std::int64_t row = 0; row < rows; ++row) {
    typename Words::Word* const column = to + row / kRows * kRows * layout.key_words + row % kRows;
    const std::int64_t count = row < tile.rows ? tile.head_dim : 0;
    for (std::int64_t word = 0; word < layout.key_words; ++word) {
      column[word * kRows] = gather<Words>(q + row * tile.q_stride, 1, count, word);
    }
  }
}

// Rows [begin, end) against one tile of keys.
template <typename Words>
void attend_keys(const AttentionTile& tile, const Layout<Words>& layout, const Scratch<Words>& scratch,
                 const std::byte* packed, std::int64_t keys, bool first, std::int64_t begin, std::int64_t end) {
  using Word = typename Words::Word;
  const auto* const k = reinterpret_cast<const Word*>(packed);
  const Word* const v = k + layout.key_size();
  const std::int64_t key_columns = round_up(keys, kPanel);
  for (std::int64_t column = 0; column < key_columns; column += kPanel) {
    for (std::int64_t row = begin; row < end; row += kRows) {
      multiply_tile<Words, kVectors, 1, kRows>(scratch.q + row * layout.key_words, k + column * layout.key_words,
                                               layout.key_words, scratch.logits + (row - begin) * kTileTokens + column,
                                               kTileTokens, nullptr);
    }
  }
  constexpr std::int64_t kStride = Scratch<Words>::kProbabilityStride;
  for (std::int64_t row = begin; row < end; ++row) {
    softmax_row<Words>(scratch.logits + (row - begin) * kTileTokens, key_columns, keys, tile.scale * kLog2e, first,
                       scratch.maxima[row], scratch.factors[row], scratch.sums + row * kLanes,
                       scratch.probabilities + (row - begin) * kStride);
  }
  const std::int64_t words = key_columns / Words::kPerWord, columns = layout.value_columns;
  const auto product = [&]<int Vectors>(std::int64_t column) {
    for (std::int64_t row = begin; row < end; row += kRows) {
      multiply_tile<Words, Vectors, kStride, 1>(
          scratch.probabilities + (row - begin) * kStride, v + column * layout.value_words, words,
          scratch.out + row * columns + column, columns, first ? nullptr : scratch.factors + row);
    }
  };
  std::int64_t column = 0;
  for (; column + kPanel <= columns; column += kPanel) product.template operator()<kVectors>(column);
  if (column < columns) product.template operator()<1>(column);
}

template <typename Words, typename Element>
void attend(const AttentionTile& tile) {
  auto* const result = static_cast<Element*>(tile.out);
  if (tile.key_tiles == 0) {
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      for (std::int64_t c = 0; c < tile.head_dim; ++c) result[row * tile.out_stride + c] = Element{};
    }
    return;
  }
  const Layout<Words> layout(tile.head_dim);
  const Scratch<Words> scratch(tile.scratch, layout);
  gather_queries<Words, Element>(tile, layout, scratch.q);
  const std::int64_t rows = round_up(tile.rows, kRows);
  for (std::int64_t i = 0; i < tile.key_tiles; ++i) {
    const std::int64_t keys = i + 1 == tile.key_tiles ? tile.last_keys : kTileTokens;
    for (std::int64_t begin = 0; begin < rows; begin += kRowGroup) {
      attend_keys(tile, layout, scratch, tile.keys[i], keys, i == 0, begin, min(begin + kRowGroup, rows));
    }
  }
  for (std::int64_t row = 0; row < tile.rows; ++row) {
    const float inverse = 1.0f / sum_of(load<F32>(scratch.sums + row * kLanes));
    const float* const from = scratch.out + row * layout.value_columns;
    Element* const to = result + row * tile.out_stride;
    std::int64_t c = 0;
    for (; c + kLanes <= tile.head_dim; c += kLanes) store_f32(to + c, load<F32>(from + c) * inverse);
    for (; c < tile.head_dim; ++c) put(to + c, from[c] * inverse);
  }
}

template <typename Words, typename Element>
constexpr AttentionKernels kernels_of() {
  return {packed_bytes<Words>, scratch_bytes<Words>, pack<Words, Element>, attend<Words, Element>};
}

}  // namespace

void add_attention(KernelTable& table) {
#if defined(__AVX512BF16__)
  table.attention_bf16 = kernels_of<Bf16Words, std::uint16_t>();
#else
  table.attention_f32 = kernels_of<FloatWords, float>();
  table.attention_bf16 = kernels_of<FloatWords, std::uint16_t>();
#endif
}

}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
