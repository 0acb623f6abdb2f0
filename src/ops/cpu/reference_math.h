// Scalar functions that several operations share, as the paper and PyTorch define them.
#pragma once

#include "ops/types.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace flashvsr::ops {

inline constexpr float kNormEpsilon = 1e-6f;

inline float silu(float x) { return x / (1.0f + std::exp(-x)); }

// GELU in its tanh form: sqrt(2 / pi) = 0.79788...
inline float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

inline float activate(float x, Activation kind) {
  switch (kind) {
    case Activation::none: return x;
    case Activation::relu: return std::max(x, 0.0f);
    case Activation::silu: return silu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
  }
  return x;
}

inline float soft_clamped(float x, float limit) { return limit * std::tanh(x / limit); }

// RMS norm of one token over all its channels.
inline void rms_normalise(const float* x, const float* weight, std::int64_t dim, float* result) {
  double squares = 0;
  for (std::int64_t c = 0; c < dim; ++c) squares += static_cast<double>(x[c]) * static_cast<double>(x[c]);
  const double mean = squares / static_cast<double>(dim);
  const auto inverse = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(kNormEpsilon)));
  for (std::int64_t c = 0; c < dim; ++c) result[c] = x[c] * inverse * weight[c];
}

// Pixels as the networks see them, in [-1, 1].
inline float video_value(std::uint8_t pixel) { return static_cast<float>(pixel) / 255.0f * 2.0f - 1.0f; }

// The inverse, halves away from zero; what is not a number becomes 0.
inline std::uint8_t byte_value(float x) {
  const float scaled = (x + 1.0f) * 127.5f;
  if (!(scaled > 0.0f)) return 0;
  return static_cast<std::uint8_t>(std::min(std::round(scaled), 255.0f));
}

}  // namespace flashvsr::ops
