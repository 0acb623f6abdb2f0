// Exponential function and what is made of it.
#pragma once

#include "ops/cpu/kernels/simd.h"

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

constexpr float kLog2e = 1.44269504f;

// 2^x for x <= 0, as 2^n * polynomial(x - n). Below -125 it stays at 2^-125. The polynomials are minimax fits on
// [-1/2, 1/2]: relative errors 2e-9 (Precise) and 3e-6 before rounding.
template <bool Precise>
FLASHVSR_INLINE F32 exp2_negative(F32 x) {
  constexpr float kRoundsToInteger = 12582912.0f;  // 1.5 * 2^23: integers fall into the lowest bits
  const F32 clamped = max(splat(-125.0f), x);      // in this order NaN stays
  const F32 shifted = clamped + kRoundsToInteger;
  const F32 f = clamped - (shifted - kRoundsToInteger);
  F32 p;
  if constexpr (Precise) {
    p = splat(0.000153458124f);
    p = p * f + 0.00133999309f;
    p = p * f + 0.00961848907f;
    p = p * f + 0.0555032864f;
    p = p * f + 0.240226462f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
  } else {
    p = splat(0.00957010221f);
    p = p * f + 0.0559178591f;
    p = p * f + 0.240247443f;
    p = p * f + 0.693121791f;
    p = p * f + 0.999999285f;
  }
  return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

FLASHVSR_INLINE F32 absolute(F32 x) { return float_of(bits_of(x) & 0x7fffffffu); }
FLASHVSR_INLINE F32 with_sign_of(F32 magnitude, F32 x) {
  return float_of(bits_of(magnitude) | (bits_of(x) & 0x80000000u));
}

// To 3e-7 of the larger of |x| and 1e-36.
FLASHVSR_INLINE F32 silu(F32 x) {
  const F32 e = exp2_negative<true>(absolute(x) * -kLog2e);
  const F32 numerator = x < 0.0f ? e : splat(1.0f);
  return x * numerator / (e + 1.0f);
}

// Relative error below 5e-7.
FLASHVSR_INLINE F32 tanh(F32 x) {
  const F32 z = absolute(x);
  const F32 e = exp2_negative<true>(z * (-2.0f * kLog2e));
  const F32 far = (1.0f - e) / (1.0f + e);
  // 1 - e cancels where x is small: there an odd polynomial, a minimax fit on [0, 0.625] with relative error 5e-9.
  const F32 z2 = z * z;
  F32 p = splat(-0.00570498686f);
  p = p * z2 + 0.020639088f;
  p = p * z2 - 0.0537397154f;
  p = p * z2 + 0.133314416f;
  p = p * z2 - 0.333332807f;
  const F32 near = z + z * z2 * p;
  return with_sign_of(z < 0.625f ? near : far, x);
}

// What is not a number stays so.
FLASHVSR_INLINE F32 relu(F32 x) { return x < 0.0f ? F32{} : x; }
FLASHVSR_INLINE F32 gelu_tanh(F32 x) {
  constexpr float kRoot = 0.7978845608f;  // sqrt(2 / pi)
  return 0.5f * x * (1.0f + tanh(kRoot * (x + 0.044715f * x * x * x)));
}

}  // namespace
}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
