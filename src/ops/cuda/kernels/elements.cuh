// Loading, storing and visiting elements of f32, bf16 and u8 tensors.
#pragma once

#include "core/dtype.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(std::uint8_t x) { return static_cast<float>(x); }

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// N elements, moved by one access where their size allows (16 bytes at most).
template <typename T, int N>
struct alignas(sizeof(T) * N <= 16 ? sizeof(T) * N : 16) Pack {
  T values[N];
};

// Threads of one launch over `items` items, `threads` a block: enough to fill any device several times over, so that
// kernels stride over what is left.
inline unsigned blocks_for(std::int64_t items, int threads, std::int64_t most = 1 << 16) {
  const std::int64_t blocks = (items + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// Calls function(T{}) with the C++ type of a float type.
template <typename Function>
cudaError_t with_float_type(DType type, const Function& function) {
  switch (type) {
    case DType::f32: return function(float{});
    case DType::bf16: return function(__nv_bfloat16{});
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace flashvsr::cuda
