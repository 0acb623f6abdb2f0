// Eight neighbouring elements as they lie in memory, moved 16 bytes at a time and converted only where they are used:
// bf16 takes half the registers of its f32 values.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

inline constexpr int kOctet = 8;

template <typename T>
struct alignas(16) Octet {
  static constexpr int kWords = kOctet * sizeof(T) / 4;
  std::uint32_t words[kWords];

  // Makes the compiler forget the f32 values, so that it converts again later rather than keep them.
  __device__ __forceinline__ void forget_values() {
    if constexpr (sizeof(T) < 4) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) asm volatile("" : "+r"(words[i]));
    }
  }
};

template <typename T>
__device__ __forceinline__ const Octet<T>* octets(const T* x) {
  return reinterpret_cast<const Octet<T>*>(x);
}
template <typename T>
__device__ __forceinline__ Octet<T>* octets(T* x) {
  return reinterpret_cast<Octet<T>*>(x);
}

__device__ __forceinline__ float value_of(const Octet<float>& octet, int i) { return __uint_as_float(octet.words[i]); }
__device__ __forceinline__ float value_of(const Octet<__nv_bfloat16>& octet, int i) {
  const std::uint32_t word = octet.words[i / 2];
  return __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
}

// Elements 2 * pair and 2 * pair + 1.
__device__ __forceinline__ void set_pair(Octet<float>& octet, int pair, float first, float second) {
  octet.words[2 * pair] = __float_as_uint(first);
  octet.words[2 * pair + 1] = __float_as_uint(second);
}
__device__ __forceinline__ void set_pair(Octet<__nv_bfloat16>& octet, int pair, float first, float second) {
  const __nv_bfloat162 rounded = __floats2bfloat162_rn(first, second);
  octet.words[pair] = *reinterpret_cast<const std::uint32_t*>(&rounded);
}

// Of the values value(0) .. value(7).
template <typename T, typename Value>
__device__ __forceinline__ Octet<T> octet_of(const Value& value) {
  Octet<T> octet;
#pragma unroll
  for (int i = 0; i < kOctet; i += 2) {
    const float first = value(i), second = value(i + 1);
    set_pair(octet, i / 2, first, second);
  }
  return octet;
}

}  // namespace flashvsr::cuda
