// Sums over the threads of a warp or a block, in an order that is the same in every run. All threads take part and all
// get the same bits.
#pragma once

#include <cuda_runtime.h>

namespace flashvsr::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Over neighbouring groups of `lanes` threads, a power of two.
template <typename T>
__device__ __forceinline__ T group_sum(T x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

// Of each of N values, a power of two: a lane gets the sum of value lane / (32 / N). Lanes share the work out, so that
// this takes little more than one sum.
template <int N>
__device__ __forceinline__ float warp_sums(const float (&values)[N]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float kept[N];
#pragma unroll
  for (int i = 0; i < N; ++i) kept[i] = values[i];
  int offset = kWarp / 2;
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float given = upper ? kept[i] : kept[i + half];
      kept[i] = (upper ? kept[i + half] : kept[i]) + __shfl_xor_sync(kAllLanes, given, offset);
    }
    offset /= 2;
  }
#pragma unroll
  for (; offset > 0; offset /= 2) kept[0] += __shfl_xor_sync(kAllLanes, kept[0], offset);
  return kept[0];
}

// The same over all warps of a block, at most MaxWarps. `scratch` is shared; there must be another barrier between this
// and its next use.
template <int N, int MaxWarps>
__device__ __forceinline__ float block_sums(const float (&values)[N], float (&scratch)[N][MaxWarps], int warps) {
  constexpr int kLanes = kWarp / N;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const float part = warp_sums(values);
  if (lane % kLanes == 0) scratch[lane / kLanes][warp] = part;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < (MaxWarps + kLanes - 1) / kLanes; ++i) {
    const int from = i * kLanes + lane % kLanes;
    if (from < warps) sum += scratch[lane / kLanes][from];
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  return sum;
}

template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}

// Of a block of `Threads`, a multiple of 32; `scratch` is shared and may be used again at once.
template <int Threads, typename T>
__device__ __forceinline__ T block_sum(T x, T (&scratch)[Threads / kWarp]) {
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  T sum = scratch[0];
#pragma unroll
  for (int warp = 1; warp < Threads / kWarp; ++warp) sum += scratch[warp];
  __syncthreads();
  return sum;
}

}  // namespace flashvsr::cuda
