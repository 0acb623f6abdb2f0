#include "ops/cuda/kernels/row_norm.h"

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/octet.cuh"
#include "ops/cuda/kernels/reduce.cuh"
#include "ops/cuda/ptx/mbarrier.cuh"
#include "ops/cuda/ptx/mma.cuh"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kEpsilon = 1e-6f;

// Each kind: what is subtracted from a value (the mean, or nothing), what the remainder is multiplied by (from the sum
// of its squares and the part 1 / dim), the factor of a channel, and how a value of that channel leaves.
struct LayerNorm {
  static constexpr bool kCentred = true, kShifted = true;
  const float* scale;
  const float* shift;
  float offset;

  __device__ static float inverse(float squares, float part, int) { return rsqrtf(squares * part + kEpsilon); }
  __device__ float factor(float channel_scale) const { return offset + channel_scale; }
  __device__ static float value(float normalised, float factor, float term) { return normalised * factor + term; }
};

struct RmsNorm {
  static constexpr bool kCentred = false, kShifted = false;
  const float* scale;

  __device__ static float inverse(float squares, float part, int) { return rsqrtf(squares * part + kEpsilon); }
  __device__ static float factor(float channel_scale) { return channel_scale; }
  __device__ static float value(float normalised, float factor, float) { return normalised * factor; }
};

template <Activation After>
struct ChannelRmsNorm {
  static constexpr bool kCentred = false, kShifted = false;
  const float* scale;

  __device__ static float inverse(float squares, float, int dim) {
    return sqrtf(static_cast<float>(dim)) * fminf(rsqrtf(squares), 1e12f);
  }
  __device__ static float factor(float channel_scale) { return channel_scale; }
  __device__ static float value(float normalised, float factor, float) { return activate<After>(normalised * factor); }
};

constexpr int kMaxPacks = 3;    // of a thread
constexpr int kRowsAtOnce = 2;  // of a group of threads; they share what is read of scale and shift

// Rows of up to lanes * Packs octets: neighbouring groups of `lanes` threads, a power of two, hold two rows in
// registers, so that memory is read once.
template <typename X, typename Y, typename Kind, int Packs>
__global__ void __launch_bounds__(kThreads, 5)
    packed_norm_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t rows, int dim, int lanes, Kind kind) {
  constexpr int kRows = kRowsAtOnce;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1), packs = dim / kOctet;
  const std::int64_t group = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes, first = group * kRows;
  const float part = 1.0f / static_cast<float>(dim);

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
      const float away = sum * part;
      mean[r] = pivot + away;
      squares = fmaxf(squares - sum * away, 0.0f);
    }
    inverse[r] = Kind::inverse(squares, part, dim);
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
      const auto value = [&](int j) {
        const float normalised = (value_of(in[r][i], j) - mean[r]) * inverse[r];
        return kind.value(normalised, kind.factor(value_of(scale, j)), value_of(shift, j));
      };
      octets(y + (first + r) * dim)[pack] = octet_of<Y>(value);
    }
  }
}

constexpr int kMaxColumns = 384;            // octets of a row: threads of a block
constexpr int kColumnThreads = 768;         // what the registers of a multiprocessor hold at least
constexpr std::int64_t kMaxRows = 1 << 28;  // so that numbers of rows are ints
template <typename X, typename Y>
inline constexpr int kBatchRows = sizeof(X) + sizeof(Y) <= 4 ? 4 : 2;

// Shared memory: two batches.
template <typename X, typename Y>
constexpr int staged_bytes(int threads) {
  return 2 * kBatchRows<X, Y> * threads * static_cast<int>(sizeof(Octet<X>));
}

// Long rows: a thread has one octet of every row of the block's batches, so that scale and shift stay in its registers;
// the next batch is on its way to shared memory while this one is worked on. A thread reads what it has fetched
// itself.
template <typename X, typename Y, typename Kind>
__global__ void __launch_bounds__(kMaxColumns, kColumnThreads / kMaxColumns)
    column_norm_kernel(const X* __restrict__ x, Y* __restrict__ y, int rows, int dim, float part, Kind kind) {
  constexpr int kRows = kBatchRows<X, Y>, kLanes = kWarp / kRows;
  __shared__ float scratch[2][kRows][kMaxColumns / kWarp];
  extern __shared__ uint4 dynamic_shared[];
  auto* staged = reinterpret_cast<Octet<X>*>(dynamic_shared);
  const int column = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), warps = threads / kWarp;
  const bool there = column < dim / kOctet;

  // Beyond the last row: that row once more, which nobody stores.
  const auto fetch = [&](int first, int stage) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const auto* from = reinterpret_cast<const uint4*>(x + std::int64_t{min(first + r, rows - 1)} * dim);
      auto* to = reinterpret_cast<uint4*>(staged + (stage * kRows + r) * threads + column);
      constexpr int kPieces = sizeof(Octet<X>) / sizeof(uint4);
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        ptx::copy_async_16(ptx::shared_address(to + piece), from + (there ? column * kPieces + piece : 0), there);
      }
    }
  };
  int first = static_cast<int>(blockIdx.x) * kRows;
  const int step = static_cast<int>(gridDim.x) * kRows;
  if (first < rows) fetch(first, 0);
  ptx::copy_async_commit();
  Octet<float> factor{}, shift{};
  if (there) {
    const Octet<float> scale = octets(kind.scale)[column];
    factor = octet_of<float>([&](int j) { return kind.factor(value_of(scale, j)); });
    if constexpr (Kind::kShifted) shift = octets(kind.shift)[column];
  }

  for (int stage = 0; first < rows; first += step, stage ^= 1) {
    if (first + step < rows) fetch(first + step, stage ^ 1);
    ptx::copy_async_commit();
    ptx::copy_async_wait<1>();
    Octet<X> in[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) in[r] = staged[(stage * kRows + r) * threads + column];

    // Of each sum, neighbouring lanes get that of one row, and tell the others.
    float sums[kRows];
    float mean[kRows] = {};
    if constexpr (Kind::kCentred) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        sums[r] = 0;
#pragma unroll
        for (int j = 0; j < kOctet; ++j) sums[r] += value_of(in[r], j);
        in[r].forget_values();
      }
      const float own = block_sums(sums, scratch[0], warps) * part;
#pragma unroll
      for (int r = 0; r < kRows; ++r) mean[r] = __shfl_sync(kAllLanes, own, r * kLanes);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      sums[r] = 0;
#pragma unroll
      for (int j = 0; j < kOctet; ++j) {
        const float difference = value_of(in[r], j) - mean[r];
        sums[r] += difference * difference;
      }
      if (Kind::kCentred && !there) sums[r] = 0;
      in[r].forget_values();
    }
    const float own = Kind::inverse(block_sums(sums, scratch[Kind::kCentred ? 1 : stage], warps), part, dim);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float inverse = __shfl_sync(kAllLanes, own, r * kLanes), away = -mean[r] * inverse;
      Octet<Y> out;
#pragma unroll
      for (int j = 0; j < kOctet; j += 2) {
        float pair[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float scaled = value_of(in[r], j + k) * inverse;
          pair[k] =
              kind.value(Kind::kCentred ? scaled + away : scaled, value_of(factor, j + k), value_of(shift, j + k));
        }
        set_pair(out, j / 2, pair[0], pair[1]);
      }
      if (there && first + r < rows) octets(y + std::int64_t{first + r} * dim)[column] = out;
    }
  }
}

// Rows of any length at any address: a block a row, which is read once for each sum and once for the result.
template <typename X, typename Y, typename Kind>
__global__ void __launch_bounds__(kThreads)
    norm_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t rows, int dim, Kind kind) {
  __shared__ float scratch[kThreads / kWarp];
  const int thread = static_cast<int>(threadIdx.x);
  const float part = 1.0f / static_cast<float>(dim);
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const X* in = x + row * dim;
    float mean = 0;
    if constexpr (Kind::kCentred) {
      float sum = 0;
      for (int c = thread; c < dim; c += kThreads) sum += to_float(in[c]);
      mean = block_sum<kThreads>(sum, scratch) * part;
    }
    float squares = 0;
    for (int c = thread; c < dim; c += kThreads) {
      const float difference = to_float(in[c]) - mean;
      squares += difference * difference;
    }
    const float inverse = Kind::inverse(block_sum<kThreads>(squares, scratch), part, dim);
#pragma unroll 1
    for (int c = thread; c < dim; c += kThreads) {
      float shift = 0;
      if constexpr (Kind::kShifted) shift = kind.shift[c];
      y[row * dim + c] =
          from_float<Y>(kind.value((to_float(in[c]) - mean) * inverse, kind.factor(kind.scale[c]), shift));
    }
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <typename X, typename Y, int Packs, typename Kind>
void launch_packed(const X* x, Y* y, std::int64_t rows, int dim, int lanes, const Kind& kind, cudaStream_t stream) {
  const int rows_per_block = kThreads / lanes * kRowsAtOnce;
  const auto blocks = static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block);
  packed_norm_kernel<X, Y, Kind, Packs><<<blocks, kThreads, 0, stream>>>(x, y, rows, dim, lanes, kind);
}

template <typename X, typename Y, typename Kind>
cudaError_t launch_columns(const X* x, Y* y, const RowNorm& norm, const Kind& kind, cudaStream_t stream) {
  const int threads = (norm.dim / kOctet + kWarp - 1) / kWarp * kWarp;
  const std::int64_t batches = (norm.rows + kBatchRows<X, Y> - 1) / kBatchRows<X, Y>;
  // As many blocks as are resident at once, or fewer if that takes as many turns: all take nearly as many.
  const std::int64_t resident = std::int64_t{norm.multiprocessors} * (kColumnThreads / threads);
  const std::int64_t turns = (batches + resident - 1) / resident;
  const auto blocks = static_cast<unsigned>((batches + turns - 1) / turns);
  const int shared = staged_bytes<X, Y>(threads);
  const cudaError_t status =
      cudaFuncSetAttribute(column_norm_kernel<X, Y, Kind>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (status != cudaSuccess) return status;
  column_norm_kernel<X, Y, Kind><<<blocks, static_cast<unsigned>(threads), shared, stream>>>(
      x, y, static_cast<int>(norm.rows), norm.dim, 1.0f / static_cast<float>(norm.dim), kind);
  return cudaGetLastError();
}

template <typename X, typename Y, typename Kind>
cudaError_t launch(const RowNorm& norm, const Kind& kind, bool parameters_aligned, cudaStream_t stream) {
  if (norm.rows == 0) return cudaSuccess;
  const auto* x = static_cast<const X*>(norm.x);
  auto* y = static_cast<Y*>(norm.y);
  const int packs = norm.dim / kOctet;
  const bool is_long = packs > kMaxPacks * kWarp, fits_columns = packs <= kMaxColumns && norm.rows <= kMaxRows;
  if (norm.dim % kOctet != 0 || (is_long && !fits_columns) || !aligned(x) || !aligned(y) || !parameters_aligned) {
    norm_kernel<X, Y, Kind><<<blocks_for(norm.rows, 1), kThreads, 0, stream>>>(x, y, norm.rows, norm.dim, kind);
    return cudaGetLastError();
  }
  if (is_long) return launch_columns<X, Y>(x, y, norm, kind, stream);
  // As few threads a row as hold it, so that short rows leave none idle.
  int lanes = 1;
  while (packs > kMaxPacks * lanes) lanes *= 2;
  const int packs_per_lane = (packs + lanes - 1) / lanes;
  if (packs_per_lane == 1) {
    launch_packed<X, Y, 1>(x, y, norm.rows, norm.dim, lanes, kind, stream);
  } else if (packs_per_lane == 2) {
    launch_packed<X, Y, 2>(x, y, norm.rows, norm.dim, lanes, kind, stream);
  } else {
    launch_packed<X, Y, kMaxPacks>(x, y, norm.rows, norm.dim, lanes, kind, stream);
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
    switch (activation) {
      case Activation::none: return launch<T, T>(norm, ChannelRmsNorm<Activation::none>{gamma}, aligned(gamma), stream);
      case Activation::silu: return launch<T, T>(norm, ChannelRmsNorm<Activation::silu>{gamma}, aligned(gamma), stream);
      default: return cudaErrorInvalidValue;
    }
  });
}

}  // namespace flashvsr::cuda
