// Arithmetic in one instruction, wherever the compiler would take more.
#pragma once

#include <cstdint>

namespace flashvsr::cuda::ptx {

// 2^x to about 2^-22. What is too small to be a normal number is zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A pair of bf16, the first of which lies in the lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Of pairs of bf16.
__device__ __forceinline__ std::uint32_t max_bf16(std::uint32_t a, std::uint32_t b) {
  std::uint32_t most;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(most) : "r"(a), "r"(b));
  return most;
}

}  // namespace flashvsr::cuda::ptx
