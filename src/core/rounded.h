// Correctly rounded operations in f32: the same bits on the host and inside a CUDA kernel, where every operation is an
// intrinsic that no compiler flag contracts or weakens. On the host whoever includes this must compile with contraction
// off (-ffp-contract=off, as the whole project does) and without -ffast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define FLASHVSR_HOST_DEVICE __host__ __device__
#else
#define FLASHVSR_HOST_DEVICE
#endif

namespace flashvsr::rounded {

FLASHVSR_HOST_DEVICE inline float multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

FLASHVSR_HOST_DEVICE inline float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

FLASHVSR_HOST_DEVICE inline float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

// a * b + c, rounded once.
FLASHVSR_HOST_DEVICE inline float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

FLASHVSR_HOST_DEVICE inline float square_root(float a) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(a);
#else
  return std::sqrt(a);
#endif
}

FLASHVSR_HOST_DEVICE inline std::uint32_t bits_of(float a) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(a);
#else
  return std::bit_cast<std::uint32_t>(a);
#endif
}

FLASHVSR_HOST_DEVICE inline float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

}  // namespace flashvsr::rounded
