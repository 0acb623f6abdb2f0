#include "ops/cuda/kernels/row_norm.h"

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/octet.cuh"
#include "ops/cuda/kernels/reduce.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kEpsilon = 1e-6f;

// Each kind: what is subtracted from a value (the mean, or nothing), what the remainder is multiplied by, and how a
// value of channel c leaves.
struct LayerNorm {
  static constexpr bool kCentred = true, kShifted = true;
  const float* scale;
  const float* shift;
  float offset;

  __device__ static float inverse(float squares, int dim) {
    return 1.0f / sqrtf(squares / static_cast<float>(dim) + kEpsilon);
  }
  __device__ float value(float normalised, float factor, float term) const {
    return normalised * (offset + factor) + term;
  }
};

struct RmsNorm {
  static constexpr bool kCentred = false, kShifted = false;
  const float* scale;

  __device__ static float inverse(float squares, int dim) {
    return 1.0f / sqrtf(squares / static_cast<float>(dim) + kEpsilon);
  }
  __device__ float value(float normalised, float factor, float) const { return normalised * factor; }
};

struct ChannelRmsNorm {
  static constexpr bool kCentred = false, kShifted = false;
  const float* scale;
  Activation activation;

  __device__ static float inverse(float squares, int dim) {
    return sqrtf(static_cast<float>(dim)) / fmaxf(sqrtf(squares), 1e-12f);
  }
  __device__ float value(float normalised, float factor, float) const {
    const float x = normalised * factor;
    return activation == Activation::silu ? activate<Activation::silu>(x) : x;
  }
};

// Rows that a group of threads holds at once, as registers allow.
template <typename X, int Packs>
inline constexpr int kRowsAtOnce = Packs * sizeof(X) <= 12 ? 2 : 1;

// Rows of up to lanes * Packs octets: neighbouring groups of `lanes` threads, a power of two, hold one or two rows in
// registers, so that memory is read once. Two rows share what is read of scale and shift.
template <typename X, typename Y, typename Kind, int Packs>
__global__ void __launch_bounds__(kThreads, Packs * sizeof(X) <= 24 ? 5 : 3)
    packed_norm_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t rows, int dim, int lanes, Kind kind) {
  constexpr int kRows = kRowsAtOnce<X, Packs>;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1), packs = dim / kOctet;
  const std::int64_t group = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes, first = group * kRows;

  Octet<X> in[kRows][Packs];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const Octet<X>* row = octets(x + (first + r) * dim);
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
      const int pack = lane + i * lanes;
      in[r][i] = first + r < rows && pack < packs ? row[pack] : Octet<X>{};
    }
  }

  // Both sums in one pass: differences from the row's first value, so that nothing cancels where the mean is large.
  float mean[kRows] = {}, inverse[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float pivot = 0, sum = 0, squares = 0;
    if constexpr (Kind::kCentred) pivot = __shfl_sync(0xffffffffu, value_of(in[r][0], 0), 0, lanes);
#pragma unroll
    for (int i = 0; i < Packs; ++i) {
      if (lane + i * lanes < packs) {
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
          const float difference = value_of(in[r][i], j) - pivot;
          sum += difference;
          squares += difference * difference;
        }
      }
      in[r][i].forget_values();
    }
    squares = group_sum(squares, lanes);
    if constexpr (Kind::kCentred) {
      sum = group_sum(sum, lanes);
      const float away = sum / static_cast<float>(dim);
      mean[r] = pivot + away;
      squares = fmaxf(squares - sum * away, 0.0f);
    }
    inverse[r] = Kind::inverse(squares, dim);
  }

#pragma unroll
  for (int i = 0; i < Packs; ++i) {
    const int pack = lane + i * lanes;
    if (pack >= packs) continue;
    const Octet<float> scale = octets(kind.scale)[pack];
    Octet<float> shift{};
    if constexpr (Kind::kShifted) shift = octets(kind.shift)[pack];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= rows) continue;
      Octet<Y> out;
#pragma unroll
      for (int j = 0; j < kOctet; j += 2) {
        float pair[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float normalised = (value_of(in[r][i], j + k) - mean[r]) * inverse[r];
          pair[k] = kind.value(normalised, value_of(scale, j + k), value_of(shift, j + k));
        }
        set_pair(out, j / 2, pair[0], pair[1]);
      }
      octets(y + (first + r) * dim)[pack] = out;
    }
  }
}

// Rows of any length at any address: a block a row, which is read once for each sum and once for the result.
template <typename X, typename Y, typename Kind>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t rows, int dim, Kind kind) {
  __shared__ float scratch[kThreads / kWarp];
  const int thread = static_cast<int>(threadIdx.x);
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const X* in = x + row * dim;
    float mean = 0;
    if constexpr (Kind::kCentred) {
      float sum = 0;
      for (int c = thread; c < dim; c += kThreads) sum += to_float(in[c]);
      mean = block_sum<kThreads>(sum, scratch) / static_cast<float>(dim);
    }
    float squares = 0;
    for (int c = thread; c < dim; c += kThreads) {
      const float difference = to_float(in[c]) - mean;
      squares += difference * difference;
    }
    const float inverse = Kind::inverse(block_sum<kThreads>(squares, scratch), dim);
#pragma unroll 1
    for (int c = thread; c < dim; c += kThreads) {
      float shift = 0;
      if constexpr (Kind::kShifted) shift = kind.shift[c];
      y[row * dim + c] = from_float<Y>(kind.value((to_float(in[c]) - mean) * inverse, kind.scale[c], shift));
    }
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <typename X, typename Y, int Packs, typename Kind>
void launch_packed(const X* x, Y* y, std::int64_t rows, int dim, int lanes, const Kind& kind, cudaStream_t stream) {
  const int rows_per_block = kThreads / lanes * kRowsAtOnce<X, Packs>;
  const auto blocks = static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block);
  packed_norm_kernel<X, Y, Kind, Packs><<<blocks, kThreads, 0, stream>>>(x, y, rows, dim, lanes, kind);
}

template <typename X, typename Y, typename Kind>
cudaError_t launch(const RowNorm& norm, const Kind& kind, bool parameters_aligned, cudaStream_t stream) {
  if (norm.rows == 0) return cudaSuccess;
  const auto* x = static_cast<const X*>(norm.x);
  auto* y = static_cast<Y*>(norm.y);
  const int packs = norm.dim / kOctet;
  if (norm.dim % kOctet != 0 || packs > 12 * kWarp || !aligned(x) || !aligned(y) || !parameters_aligned) {
    norm_kernel<X, Y, Kind><<<blocks_for(norm.rows, 1), kThreads, 0, stream>>>(x, y, norm.rows, norm.dim, kind);
    return cudaGetLastError();
  }
  // As few threads a row as hold it in three packs each, so that short rows leave none idle.
  int lanes = 1;
  while (lanes < kWarp && packs > 3 * lanes) lanes *= 2;
  const int packs_per_lane = (packs + lanes - 1) / lanes;
  const auto with = [&]<int Packs>() { launch_packed<X, Y, Packs>(x, y, norm.rows, norm.dim, lanes, kind, stream); };
  if (packs_per_lane == 1) {
    with.template operator()<1>();
  } else if (packs_per_lane == 2) {
    with.template operator()<2>();
  } else if (packs_per_lane == 3) {
    with.template operator()<3>();
  } else if (packs_per_lane <= 6) {
    with.template operator()<6>();
  } else {
    with.template operator()<12>();
  }
  return cudaGetLastError();
}

template <typename Kind>
cudaError_t launch_any(const RowNorm& norm, const Kind& kind, bool parameters_aligned, cudaStream_t stream) {
  return with_float_type(norm.x_type, [&]<typename X>(X) {
    return with_float_type(norm.y_type,
                           [&]<typename Y>(Y) { return launch<X, Y>(norm, kind, parameters_aligned, stream); });
  });
}

}  // namespace

cudaError_t launch_layer_norm(const RowNorm& norm, const float* scale, float offset, const float* shift,
                              cudaStream_t stream) {
  return launch_any(norm, LayerNorm{scale, shift, offset}, aligned(scale) && aligned(shift), stream);
}

cudaError_t launch_rms_norm(const RowNorm& norm, const float* weight, cudaStream_t stream) {
  return launch_any(norm, RmsNorm{weight}, aligned(weight), stream);
}

cudaError_t launch_channel_rms_norm(const RowNorm& norm, const float* gamma, Activation activation,
                                    cudaStream_t stream) {
  if (norm.x_type != norm.y_type) return cudaErrorInvalidValue;
  return with_float_type(norm.x_type, [&]<typename T>(T) {
    return launch<T, T>(norm, ChannelRmsNorm{gamma, activation}, aligned(gamma), stream);
  });
}

}  // namespace flashvsr::cuda
