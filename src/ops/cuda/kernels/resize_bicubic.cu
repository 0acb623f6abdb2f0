#include "ops/cuda/kernels/resize_bicubic.h"

#include "ops/bicubic.h"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 128;
constexpr std::int32_t kHalf = 1 << (ops::kBicubicBits - 1);

__device__ __forceinline__ std::uint8_t resampled(std::int32_t sum) {
  return static_cast<std::uint8_t>(min(max(sum >> ops::kBicubicBits, 0), 255));
}

// One value of some rows a thread, which share its weights.
constexpr int kRows = 4;

__global__ void __launch_bounds__(kThreads)
    resample_columns_kernel(const std::uint8_t* __restrict__ in, std::int64_t rows, std::int64_t in_values,
                            std::uint8_t* __restrict__ out, std::int64_t values, ResampledAxis axis) {
  const std::int64_t value = std::int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (value >= values) return;
  const std::int64_t x = value / kRgb, first_row = std::int64_t{blockIdx.x} * kRows;
  const std::int64_t begin = std::int64_t{axis.first[x]} * kRgb + value % kRgb;
  const int taps = axis.count[x];
  const std::int32_t* weights = axis.weights + x * axis.stride;
  const std::uint8_t* from[kRows];
  std::int32_t sums[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    // Rows that there are not repeat the last one.
    const std::int64_t row = first_row + r < rows ? first_row + r : rows - 1;
    from[r] = in + row * in_values + begin;
    sums[r] = kHalf;
  }
  for (int j = 0; j < taps; ++j) {
    const std::int32_t weight = weights[j];
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums[r] += from[r][j * kRgb] * weight;
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (first_row + r < rows) out[(first_row + r) * values + value] = resampled(sums[r]);
  }
}

// Count values of one row a thread.
template <int Count>
__global__ void __launch_bounds__(kThreads)
    resample_rows_kernel(const std::uint8_t* __restrict__ in, std::int64_t in_height, std::uint8_t* __restrict__ out,
                         std::int64_t height, std::int64_t row_values, ResampledAxis axis) {
  using Values = Pack<std::uint8_t, Count>;
  const std::int64_t value = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * Count;
  if (value >= row_values) return;
  const std::int64_t frame = blockIdx.x / height, y = blockIdx.x % height;
  const int taps = axis.count[y];
  const std::int32_t* weights = axis.weights + y * axis.stride;
  const std::uint8_t* from = in + (frame * in_height + axis.first[y]) * row_values + value;
  std::int32_t sums[Count];
#pragma unroll
  for (int i = 0; i < Count; ++i) sums[i] = kHalf;
#pragma unroll 4
  for (int j = 0; j < taps; ++j, from += row_values) {
    const std::int32_t weight = weights[j];
    const Values row = *reinterpret_cast<const Values*>(from);
#pragma unroll
    for (int i = 0; i < Count; ++i) sums[i] += row.values[i] * weight;
  }
  Values result;
#pragma unroll
  for (int i = 0; i < Count; ++i) result.values[i] = resampled(sums[i]);
  *reinterpret_cast<Values*>(out + std::int64_t{blockIdx.x} * row_values + value) = result;
}

unsigned blocks_of(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

template <int Count>
cudaError_t resample_rows(const std::uint8_t* in, std::int64_t frames, std::int64_t in_height, std::uint8_t* out,
                          std::int64_t height, std::int64_t row_values, const ResampledAxis& axis,
                          cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(frames * height), blocks_of(row_values, kThreads * Count));
  resample_rows_kernel<Count><<<blocks, kThreads, 0, stream>>>(in, in_height, out, height, row_values, axis);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_resample_columns(const std::uint8_t* in, std::int64_t rows, std::int64_t in_width, std::uint8_t* out,
                                    std::int64_t width, const ResampledAxis& axis, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const dim3 blocks(blocks_of(rows, kRows), blocks_of(width * kRgb, kThreads));
  resample_columns_kernel<<<blocks, kThreads, 0, stream>>>(in, rows, in_width * kRgb, out, width * kRgb, axis);
  return cudaGetLastError();
}

cudaError_t launch_resample_rows(const std::uint8_t* in, std::int64_t frames, std::int64_t in_height, std::uint8_t* out,
                                 std::int64_t height, std::int64_t row_values, const ResampledAxis& axis,
                                 cudaStream_t stream) {
  if (frames == 0) return cudaSuccess;
  const auto packs_of = [&](int count) {
    const auto address = reinterpret_cast<std::uintptr_t>(in) | reinterpret_cast<std::uintptr_t>(out);
    return row_values % count == 0 && address % static_cast<std::uintptr_t>(count) == 0;
  };
  if (packs_of(8)) return resample_rows<8>(in, frames, in_height, out, height, row_values, axis, stream);
  if (packs_of(4)) return resample_rows<4>(in, frames, in_height, out, height, row_values, axis, stream);
  return resample_rows<1>(in, frames, in_height, out, height, row_values, axis, stream);
}

}  // namespace flashvsr::cuda
