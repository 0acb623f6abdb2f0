// Norms of rows of tokens or pixels, and q, k, v of one attention block.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/kernels/simd_math.h"

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

constexpr float kNormEpsilon = 1e-6f;
constexpr std::int64_t kBlockLatents = 2, kBlockSide = 8;

FLASHVSR_INLINE float square_root(float x) { return __builtin_sqrtf(x); }

// Sum of function(vector) over a row in four interleaved parts: shorter chains, and errors that grow more slowly.
template <typename Element, typename Function>
FLASHVSR_INLINE float sum_row(const Element* x, std::int64_t dim, const Function& function) {
  F32 sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sums[j] += function(load_f32(x + i + j * kLanes));
  }
  for (; i + kLanes <= dim; i += kLanes) sums[0] += function(load_f32(x + i));
  if (i < dim) {
    float lanes[kLanes];
    store(lanes, function(Part{dim - i}.load(x + i)));
    // The function of what is missing need not be zero.
    for (std::int64_t lane = dim - i; lane < kLanes; ++lane) lanes[lane] = 0.0f;
    sums[1] += load<F32>(lanes);
  }
  return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Element>
FLASHVSR_INLINE float sum_of_squares(const Element* x, std::int64_t dim) {
  return sum_row(x, dim, [](F32 value) FLASHVSR_LAMBDA_INLINE { return value * value; });
}

template <typename In, typename Out>
void layer_norm(const void* from, const float* scale, const float* shift, std::int64_t rows, std::int64_t dim,
                void* to) {
  const auto* x = static_cast<const In*>(from);
  auto* out = static_cast<Out*>(to);
  const float inverse_dim = 1.0f / static_cast<float>(dim);
  for (std::int64_t row = 0; row < rows; ++row, x += dim, out += dim) {
    const float mean = sum_row(x, dim, [](F32 value) FLASHVSR_LAMBDA_INLINE { return value; }) * inverse_dim;
    const float squares = sum_row(x, dim, [mean](F32 value) FLASHVSR_LAMBDA_INLINE {
      const F32 difference = value - mean;
      return difference * difference;
    });
    const float factor = 1.0f / square_root(squares * inverse_dim + kNormEpsilon);
    for_each_vector(dim, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
      access.store(out + i, (access.load(x + i) - mean) * factor * access.load(scale + i) + access.load(shift + i));
    });
  }
}

template <typename In, typename Out>
void rms_norm(const void* from, const float* weight, std::int64_t rows, std::int64_t dim, void* to) {
  const auto* x = static_cast<const In*>(from);
  auto* out = static_cast<Out*>(to);
  const float inverse_dim = 1.0f / static_cast<float>(dim);
  for (std::int64_t row = 0; row < rows; ++row, x += dim, out += dim) {
    const float factor = 1.0f / square_root(sum_of_squares(x, dim) * inverse_dim + kNormEpsilon);
    for_each_vector(dim, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
      access.store(out + i, access.load(x + i) * factor * access.load(weight + i));
    });
  }
}

template <typename In, typename Out>
void channel_rms_norm(const void* from, const float* gamma, std::int64_t rows, std::int64_t dim, bool with_silu,
                      void* to) {
  const auto* x = static_cast<const In*>(from);
  auto* out = static_cast<Out*>(to);
  const float root = square_root(static_cast<float>(dim));
  const auto normalise = [&](auto activation) FLASHVSR_LAMBDA_INLINE {
    for (std::int64_t row = 0; row < rows; ++row, x += dim, out += dim) {
      const float factor = root / max(square_root(sum_of_squares(x, dim)), 1e-12f);
      for_each_vector(dim, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
        access.store(out + i, activation(access.load(x + i) * factor * access.load(gamma + i)));
      });
    }
  };
  if (with_silu) {
    normalise([](F32 value) FLASHVSR_LAMBDA_INLINE { return silu(value); });
  } else {
    normalise([](F32 value) FLASHVSR_LAMBDA_INLINE { return value; });
  }
}

// Scores of blocks decide which are kept: a double's error does not move them.
double dot(const float* a, const float* b, std::int64_t count) {
  constexpr int kHalf = kLanes / 2, kChains = 4;
  typedef float HalfF32 __attribute__((vector_size(kHalf * 4)));
  typedef double F64 __attribute__((vector_size(kHalf * 8)));
  F64 sums[kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains * kHalf <= count; i += kChains * kHalf) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) {
      sums[chain] += __builtin_convertvector(load<HalfF32>(a + i + chain * kHalf), F64) *
                     __builtin_convertvector(load<HalfF32>(b + i + chain * kHalf), F64);
    }
  }
  const F64 all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double sum = 0;
  for (int lane = 0; lane < kHalf; ++lane) sum += all[lane];
  for (; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// ------------------------------------------------------------------------------------------------------- q, k, v

// Each channel's partner in its pair.
FLASHVSR_INLINE F32 swap_pairs(F32 x) { return upper<1>(x); }

// The rotation of one token, the same for every head: channel c becomes cosines[c] x[c] + sines[c] x[partner of c].
struct Rotation {
  float *cosines, *sines;  // [head_dim]
};

FLASHVSR_INLINE void copy_axis(const RotaryAxis& axis, std::int64_t position, std::int64_t begin, Rotation rotation) {
  if (axis.channels == 0) return;  // heads of fewer than six channels rotate in time alone
  const std::int64_t offset = position * axis.channels;
  __builtin_memcpy(rotation.cosines + begin, axis.cosines + offset, static_cast<std::size_t>(axis.channels) * 4);
  __builtin_memcpy(rotation.sines + begin, axis.sines + offset, static_cast<std::size_t>(axis.channels) * 4);
}

// RMS norm and rotation of one token of q or k; `sums` += the result before it is rounded.
template <typename Element>
FLASHVSR_INLINE void normalise_and_rotate(const Element* x, const float* weight, std::int64_t dim,
                                          std::int64_t head_dim, Rotation rotation, Element* out, float* sums) {
  const float factor = 1.0f / square_root(sum_of_squares(x, dim) / static_cast<float>(dim) + kNormEpsilon);
  for (std::int64_t head = 0; head < dim; head += head_dim) {
    std::int64_t c = 0;
    for (; c + kLanes <= head_dim; c += kLanes) {
      const std::int64_t i = head + c;
      const F32 value = load_f32(x + i) * factor * load<F32>(weight + i);
      const F32 rotated = value * load<F32>(rotation.cosines + c) + swap_pairs(value) * load<F32>(rotation.sines + c);
      store_f32(out + i, rotated);
      store(sums + i, load<F32>(sums + i) + rotated);
    }
    for (; c < head_dim; c += 2) {
      const std::int64_t i = head + c;
      const float a = get(x + i) * factor * weight[i], b = get(x + i + 1) * factor * weight[i + 1];
      const float first = a * rotation.cosines[c] + b * rotation.sines[c];
      const float second = b * rotation.cosines[c + 1] + a * rotation.sines[c + 1];
      put(out + i, first);
      put(out + i + 1, second);
      sums[i] += first;
      sums[i + 1] += second;
    }
  }
}

template <typename Element>
void split_qkv_block(const QkvBlock& block) {
  const std::int64_t dim = block.dim, head_dim = block.head_dim;
  const auto* qkv = static_cast<const Element*>(block.qkv);
  auto *q = static_cast<Element*>(block.q), *k = static_cast<Element*>(block.k), *v = static_cast<Element*>(block.v);
  // Means are sums of sums of eight tokens: rounding errors of 128 additions in a row would move near-ties of the
  // selection.
  float *q_sums = block.scratch, *k_sums = q_sums + dim;
  const Rotation rotation{k_sums + dim, k_sums + dim + head_dim};
  const auto size = static_cast<std::size_t>(dim);
  __builtin_memset(block.q_means, 0, size * 4);
  __builtin_memset(block.k_means, 0, size * 4);
  for (std::int64_t latent = 0; latent < kBlockLatents; ++latent) {
    copy_axis(block.time, latent, 0, rotation);
    for (std::int64_t row = 0; row < kBlockSide; ++row) {
      copy_axis(block.height, row, block.time.channels, rotation);
      __builtin_memset(q_sums, 0, 2 * size * 4);
      for (std::int64_t column = 0; column < kBlockSide; ++column) {
        copy_axis(block.width, column, block.time.channels + block.height.channels, rotation);
        normalise_and_rotate(qkv, block.norm_q, dim, head_dim, rotation, q, q_sums);
        normalise_and_rotate(qkv + dim, block.norm_k, dim, head_dim, rotation, k, k_sums);
        __builtin_memcpy(v, qkv + 2 * dim, size * sizeof(Element));
        qkv += 3 * dim;
        q += dim;
        k += dim;
        v += dim;
      }
      for (std::int64_t i = 0; i < dim; ++i) block.q_means[i] += q_sums[i];
      for (std::int64_t i = 0; i < dim; ++i) block.k_means[i] += k_sums[i];
    }
  }
  constexpr float kInverse = 1.0f / static_cast<float>(kTileTokens);
  for (std::int64_t i = 0; i < dim; ++i) block.q_means[i] *= kInverse;
  for (std::int64_t i = 0; i < dim; ++i) block.k_means[i] *= kInverse;
}

}  // namespace

void add_rows(KernelTable& table) {
  using Bf16 = std::uint16_t;
  table.rows = {
      .layer_norm = {{layer_norm<float, float>, layer_norm<float, Bf16>},
                     {layer_norm<Bf16, float>, layer_norm<Bf16, Bf16>}},
      .rms_norm = {{rms_norm<float, float>, rms_norm<float, Bf16>}, {rms_norm<Bf16, float>, rms_norm<Bf16, Bf16>}},
      .channel_rms_norm = {{channel_rms_norm<float, float>, channel_rms_norm<float, Bf16>},
                           {channel_rms_norm<Bf16, float>, channel_rms_norm<Bf16, Bf16>}},
      .split_qkv_block = {split_qkv_block<float>, split_qkv_block<Bf16>},
      .dot = dot,
  };
}

}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
