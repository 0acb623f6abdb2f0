// Pixels as bytes and as the networks see them, in [-1, 1]: the same bits as on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

inline constexpr int kRgb = 3;

// Whether an address can be read as T's.
template <typename T>
bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignof(T) == 0;
}

// v / 255 * 2 - 1, each step rounded. The quotient comes from the rounded reciprocal and one correction, which gives
// the correctly rounded one for all bytes; doubling it is exact.
__device__ __forceinline__ float video_value(float v) {
  constexpr float kReciprocal = 1.0f / 255.0f;
  const float guess = __fmul_rn(v, kReciprocal);
  const float quotient = __fmaf_rn(__fmaf_rn(-255.0f, guess, v), kReciprocal, guess);
  return __fmaf_rn(quotient, 2.0f, -1.0f);
}
__device__ __forceinline__ float video_value(std::uint8_t pixel) { return video_value(static_cast<float>(pixel)); }

// The inverse, halves away from zero; what is not a number becomes 0.
__device__ __forceinline__ std::uint8_t byte_value(float x) {
  const float scaled = __fmul_rn(__fadd_rn(x, 1.0f), 127.5f);
  // fmaxf gives the other operand for what is not a number.
  const float clipped = fminf(fmaxf(scaled, 0.0f), 255.0f);
  const float whole = truncf(clipped);
  return static_cast<std::uint8_t>(static_cast<unsigned>(whole) + (__fsub_rn(clipped, whole) >= 0.5f ? 1u : 0u));
}

}  // namespace flashvsr::cuda
