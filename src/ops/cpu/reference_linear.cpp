// Reference: linear layers and norms.
#include "core/threads.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/reference_operations.h"

#include <cmath>

namespace flashvsr::ops {
namespace {

// [in, out]: the inner loop runs over outputs.
struct TransposedWeight {
  std::vector<float> values;
};

TransposedWeight transpose(const std::vector<float>& weight, std::int64_t out, std::int64_t in) {
  TransposedWeight result{std::vector<float>(weight.size())};
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t i = 0; i < in; ++i) {
      result.values[static_cast<std::size_t>(i * out + o)] = weight[static_cast<std::size_t>(o * in + i)];
    }
  }
  return result;
}

// Mean and 1 / sqrt(variance + eps) of a token, in double.
struct TokenStatistics {
  float mean, inverse_deviation;
};

TokenStatistics token_statistics(const float* x, std::int64_t dim) {
  double sum = 0, squares = 0;
  for (std::int64_t c = 0; c < dim; ++c) sum += static_cast<double>(x[c]);
  const double mean = sum / static_cast<double>(dim);
  for (std::int64_t c = 0; c < dim; ++c) {
    const double difference = static_cast<double>(x[c]) - mean;
    squares += difference * difference;
  }
  const double variance = squares / static_cast<double>(dim);
  return {static_cast<float>(mean), static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(kNormEpsilon)))};
}

}  // namespace

// Columns [column, column + out) of result (row stride `stride`) = x W^T + b, then activation, gate, residual.
void ReferenceOperations::linear_into(const Tensor& x_f32, const LinearWeights& weights, const LinearOptions& options,
                                      const Tensor& residual_f32, float* result, std::int64_t stride) {
  const std::int64_t in = weights.weight.dim(1), out = weights.weight.dim(0);
  const float* weight = prepared_
                            .get<TransposedWeight>({weights.weight.id()},
                                                   [&] { return transpose(compute_values(weights.weight), out, in); })
                            .values.data();
  const float* bias = weights.bias ? f32_values(weights.bias).data() : nullptr;
  const float* gate = options.gate ? options.gate->data<float>() : nullptr;
  parallel_for(x_f32.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float* x = x_f32.data<float>() + token * in;
      float* y = result + token * stride;
      for (std::int64_t o = 0; o < out; ++o) y[o] = 0.0f;
      for (std::int64_t i = 0; i < in; ++i) {
        const float value = x[i], *row = weight + i * out;
        for (std::int64_t o = 0; o < out; ++o) y[o] += value * row[o];
      }
      for (std::int64_t o = 0; o < out; ++o) {
        y[o] = activate(y[o] + (bias ? bias[o] : 0.0f), options.activation);
        if (gate) y[o] *= gate[o];
        if (residual_f32) y[o] += residual_f32.data<float>()[token * out + o];
      }
    }
  });
}

Tensor ReferenceOperations::do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) {
  const std::int64_t out = weights.weight.dim(0);
  const Tensor result = do_allocate({x.dim(0), out}, DType::f32);
  linear_into(as_f32(x), weights, options, options.residual ? as_f32(*options.residual) : Tensor(),
              result.mutable_data<float>(), out);
  return rounded(result, *options.output);
}

Tensor ReferenceOperations::do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) {
  std::int64_t out = 0, column = 0;
  for (const LinearWeights& part : weights) out += part.weight.dim(0);
  const Tensor source = as_f32(x), result = do_allocate({x.dim(0), out}, DType::f32);
  for (const LinearWeights& part : weights) {
    linear_into(source, part, {}, {}, result.mutable_data<float>() + column, out);
    column += part.weight.dim(0);
  }
  return rounded(result, settings_.compute);
}

// --------------------------------------------------------------------------------------------------------- norms

// (x - mean) / deviation * factor(c) + term(c).
template <typename Factor, typename Term>
Tensor ReferenceOperations::layer_normalised(const Tensor& x, const Factor& factor, const Term& term) {
  const std::int64_t dim = x.dim(1);
  const Tensor source = as_f32(x), result = do_allocate(x.shape(), DType::f32);
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float* in = source.data<float>() + token * dim;
      float* out = result.mutable_data<float>() + token * dim;
      const auto [mean, inverse_deviation] = token_statistics(in, dim);
      for (std::int64_t c = 0; c < dim; ++c) out[c] = (in[c] - mean) * inverse_deviation * factor(c) + term(c);
    }
  });
  return rounded(result, settings_.compute);
}

Tensor ReferenceOperations::do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) {
  const float *weights = f32_values(weight).data(), *biases = f32_values(bias).data();
  return layer_normalised(
      x, [=](std::int64_t c) { return weights[c]; }, [=](std::int64_t c) { return biases[c]; });
}

Tensor ReferenceOperations::do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const float *scales = scale.data<float>(), *shifts = shift.data<float>();
  return layer_normalised(
      x, [=](std::int64_t c) { return 1.0f + scales[c]; }, [=](std::int64_t c) { return shifts[c]; });
}

Tensor ReferenceOperations::do_rms_norm(const Tensor& x, const Parameter& weight) {
  const std::int64_t dim = x.dim(1);
  const float* weights = f32_values(weight).data();
  const Tensor source = as_f32(x), result = do_allocate(x.shape(), DType::f32);
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      rms_normalise(source.data<float>() + token * dim, weights, dim, result.mutable_data<float>() + token * dim);
    }
  });
  return rounded(result, settings_.compute);
}

Tensor ReferenceOperations::do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) {
  const std::int64_t channels = x.dim(-1);
  const float* gammas = f32_values(gamma).data();
  const float root = std::sqrt(static_cast<float>(channels));
  const Tensor source = as_f32(x), result = do_allocate(x.shape(), DType::f32);
  parallel_for(x.elements() / channels, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      const float* in = source.data<float>() + pixel * channels;
      float* out = result.mutable_data<float>() + pixel * channels;
      double squares = 0;
      for (std::int64_t c = 0; c < channels; ++c) squares += static_cast<double>(in[c]) * static_cast<double>(in[c]);
      const float norm = std::max(static_cast<float>(std::sqrt(squares)), 1e-12f);
      for (std::int64_t c = 0; c < channels; ++c) out[c] = activate(in[c] / norm * root * gammas[c], activation);
    }
  });
  return rounded(result, x.dtype());
}

}  // namespace flashvsr::ops
