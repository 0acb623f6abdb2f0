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
