// Activations on one f32 value.
#pragma once

#include "ops/cuda/kernels/activation.h"
#include "ops/cuda/ptx/arithmetic.cuh"

namespace flashvsr::cuda {

// e^x to about 2^-21. What is too small to be a normal number is zero.
__device__ __forceinline__ float fast_exp(float x) {
  constexpr float kLog2OfE = 1.4426950408889634f;
  return ptx::exp2_approx(x * kLog2OfE);
}

template <Activation Kind>
__device__ __forceinline__ float activate(float x) {
  if constexpr (Kind == Activation::relu) return fmaxf(x, 0.0f);
  if constexpr (Kind == Activation::silu) return __fdividef(x, 1.0f + fast_exp(-x));
  if constexpr (Kind == Activation::gelu_tanh) {
    // x / 2 (1 + tanh(u)) with tanh(u) = 1 - 2 / (1 + e^2u): one exponential.
    constexpr float kRootTwoOverPi = 0.7978845608028654f;
    const float u = kRootTwoOverPi * (x + 0.044715f * x * x * x);
    return x - x / (1.0f + __expf(2.0f * u));
  }
  return x;
}

// The same with the kind known at run time only.
__device__ __forceinline__ float activate(float x, Activation kind) {
  switch (kind) {
    case Activation::relu: return activate<Activation::relu>(x);
    case Activation::silu: return activate<Activation::silu>(x);
    case Activation::gelu_tanh: return activate<Activation::gelu_tanh>(x);
    case Activation::none: break;
  }
  return x;
}

// limit * tanh(x / limit)
__device__ __forceinline__ float soft_clamp(float x, float limit) { return limit * tanhf(x / limit); }

}  // namespace flashvsr::cuda
