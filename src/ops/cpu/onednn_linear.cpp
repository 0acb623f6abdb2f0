// oneDNN: linear layers.
#include "ops/cpu/onednn_engine.h"
#include "ops/cpu/onednn_operations.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

// A weight in the type of products multiplies as it lies in the (mapped) file, 4 to 12 % slower than in the layout that
// oneDNN prefers. Packed copies are kept of small ones only, where that costs no memory worth mentioning, and not for
// a few rows: those are multiplied once, when a model is loaded.
constexpr std::size_t kLargestPackedWeight = std::size_t{2} << 20;
constexpr std::int64_t kFewRows = 64;

}  // namespace

// x [rows, in] times a weight [out, in], into `out` columns of a result whose rows are `stride` columns long.
struct OneDnnOperations::Multiplication {
  const void* x = nullptr;
  std::int64_t rows = 0, in = 0, out = 0;
  const void* in_place = nullptr;  // the weight as it lies, or
  WeightSource packed = {};
  const float* bias = nullptr;
  void* result = nullptr;
  DType output = DType::f32;
  std::int64_t stride = 0;
  const float* gate = nullptr;
  Tensor residual = {};
  Activation activation = Activation::none;
  bool residual_first = false;
};

void OneDnnOperations::multiply(const Multiplication& m) {
  if (m.rows == 0) return;
  onednn::Epilogue epilogue{.bias = m.bias != nullptr,
                            .activation = m.activation,
                            .gate = m.gate != nullptr,
                            .residual_first = m.residual_first};
  if (m.residual) epilogue.residual = m.residual.dtype();
  const auto product = engine_->matmul({.type = product_type_,
                                        .output = m.output,
                                        .rows = m.rows,
                                        .in = m.in,
                                        .out = m.out,
                                        .result_stride = m.stride,
                                        .in_place = m.in_place != nullptr,
                                        .epilogue = epilogue});
  const Tensor scratchpad = do_allocate({static_cast<std::int64_t>(product->scratchpad_bytes())}, DType::u8);
  engine_->run(*product, {.source = m.x,
                          .weights = m.in_place ? m.in_place : m.packed(&product->weights),
                          .bias = m.bias,
                          .result = m.result,
                          .gate = m.gate,
                          .residual = m.residual ? m.residual.raw() : nullptr,
                          .scratchpad = scratchpad.mutable_raw()});
}

bool OneDnnOperations::multiplies_in_place(const Parameter& weight, std::int64_t rows) const {
  return multiplies_as_stored(weight) && (rows < kFewRows || weight.values().bytes() > kLargestPackedWeight);
}

// Several weights of one input are packed as one of all their outputs.
OneDnnOperations::WeightSource OneDnnOperations::matmul_weights(std::span<const LinearWeights> weights) {
  return [this, weights](const void* wanted) {
    std::vector<std::uint64_t> key;
    std::int64_t out = 0;
    for (const LinearWeights& part : weights) {
      key.push_back(part.weight.id());
      out += part.weight.dim(0);
    }
    const auto make = [&](const onednn::Engine::Pack& pack) {
      if (weights.size() == 1 && multiplies_as_stored(weights[0].weight)) {
        return pack({product_type_, weights[0].weight.values().raw()});
      }
      std::vector<float> values;
      for (const LinearWeights& part : weights) {
        const std::vector<float> part_values = compute_values(part.weight);
        values.insert(values.end(), part_values.begin(), part_values.end());
      }
      pack({DType::f32, values.data()});
    };
    return engine_->packed(key, *static_cast<const dnnl::memory::desc*>(wanted), {weights[0].weight.dim(1), out},
                           dnnl::memory::format_tag::ba, make);
  };
}

Tensor OneDnnOperations::do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) {
  const std::int64_t rows = x.dim(0), in = x.dim(1), out = weights.weight.dim(0);
  const Tensor source = product_operand(x), result = do_allocate({rows, out}, written_type(*options.output));
  Tensor residual = options.residual ? *options.residual : Tensor();
  if (residual && product_type_ == DType::f32) residual = as_f32(residual);
  const bool in_place =
      multiplies_in_place(weights.weight, rows) || (options.once && multiplies_as_stored(weights.weight));
  multiply({.x = source.raw(),
            .rows = rows,
            .in = in,
            .out = out,
            .in_place = in_place ? weights.weight.values().raw() : nullptr,
            .packed = matmul_weights({&weights, 1}),
            .bias = bias_values(weights.bias),
            .result = result.mutable_raw(),
            .output = result.dtype(),
            .stride = out,
            .gate = options.gate ? options.gate->data<float>() : nullptr,
            .residual = residual,
            .activation = options.activation});
  return rounded(result, *options.output);
}

Tensor OneDnnOperations::do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) {
  const std::int64_t rows = x.dim(0), in = x.dim(1);
  std::int64_t out = 0;
  bool in_place = true, any_bias = false;
  for (const LinearWeights& part : weights) {
    out += part.weight.dim(0);
    in_place = in_place && multiplies_in_place(part.weight, rows);
    any_bias = any_bias || part.bias;
  }
  const Tensor source = product_operand(x), result = do_allocate({rows, out}, written_type(compute_type()));
  Multiplication m{.x = source.raw(),
                   .rows = rows,
                   .in = in,
                   .out = out,
                   .result = result.mutable_raw(),
                   .output = result.dtype(),
                   .stride = out};
  if (in_place) {
    for (const LinearWeights& part : weights) {
      m.out = part.weight.dim(0);
      m.in_place = part.weight.values().raw();
      m.bias = bias_values(part.bias);
      multiply(m);
      m.result = static_cast<std::byte*>(m.result) + static_cast<std::size_t>(m.out) * size_of(m.output);
    }
    return rounded(result, compute_type());
  }
  Tensor biases;
  if (any_bias) {
    biases = do_zeros({out}, DType::f32);
    float* position = biases.mutable_data<float>();
    for (const LinearWeights& part : weights) {
      if (part.bias) std::ranges::copy(f32_values(part.bias), position);
      position += part.weight.dim(0);
    }
    m.bias = biases.data<float>();
  }
  m.packed = matmul_weights(weights);
  multiply(m);
  return rounded(result, compute_type());
}

// A convolution 1x1 is a linear layer over pixels.
Tensor OneDnnOperations::pointwise(const Tensor& x, const ConvWeights& weights, const Tensor& residual,
                                   Activation activation, DType output) {
  const std::int64_t in = x.dim(3), out = weights.weight.dim(0), rows = x.elements() / in;
  const LinearWeights linear{weights.weight.reshaped({out, in}), weights.bias};
  const Tensor source = product_operand(x);
  const Tensor result = do_allocate({x.dim(0), x.dim(1), x.dim(2), out}, written_type(output));
  multiply({.x = source.raw(),
            .rows = rows,
            .in = in,
            .out = out,
            .in_place = multiplies_in_place(linear.weight, rows) ? linear.weight.values().raw() : nullptr,
            .packed = matmul_weights({&linear, 1}),
            .bias = bias_values(linear.bias),
            .result = result.mutable_raw(),
            .output = result.dtype(),
            .stride = out,
            .residual = residual && product_type_ == DType::f32 ? as_f32(residual) : residual,
            .activation = activation,
            .residual_first = true});
  return rounded(result, output);
}

}  // namespace flashvsr::ops
