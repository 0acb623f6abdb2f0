// Linear layers. What cuBLASLt fuses is one product; the rest is a product into f32 sums and one pass over them.
#include "ops/cuda/convolution.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/convolution.h"
#include "ops/cuda/kernels/row_epilogue.h"
#include "ops/cuda/linear.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

using cuda::check;

// The floats of a parameter that are copied to the device as they are: bf16 ones, or f32.
DType device_type(const Parameter& parameter) { return parameter.dtype() == DType::bf16 ? DType::bf16 : DType::f32; }

// x [rows, in] times a weight [out, in] as a convolution of a frame of one row, without anything after it, into
// columns of a wider result.
cuda::ConvolutionArguments as_convolution(const Tensor& x, std::int64_t out, void* result, DType output,
                                          std::int64_t result_columns) {
  return {.type = x.dtype(),
          .first = x.raw(),
          .first_channels = static_cast<int>(x.dim(1)),
          .frames = 1,
          .height = 1,
          .width = static_cast<int>(x.dim(0)),
          .out = result,
          .out_type = output,
          .out_frames = 1,
          .out_height = 1,
          .out_width = static_cast<int>(x.dim(0)),
          .out_channels = static_cast<int>(out),
          .out_frame_stride = x.dim(0) * result_columns,
          .out_row_stride = x.dim(0) * result_columns,
          .out_column_stride = result_columns};
}

ConvolutionWeights as_convolution(const Parameter& weight) {
  return {.weight = weight.reshaped({weight.dim(0), weight.dim(1), 1, 1})};
}

}  // namespace

const LinearOperands& CudaOperations::linear_operands(std::span<const LinearWeights> weights, const Tensor* gate,
                                                      DType bias_type) {
  std::vector<std::uint64_t> key{reinterpret_cast<std::uintptr_t>(gate ? gate->raw() : nullptr),
                                 static_cast<std::uint64_t>(bias_type)};
  std::int64_t out = 0;
  bool any_bias = false;
  for (const LinearWeights& part : weights) {
    key.push_back(part.weight.id());
    key.push_back(part.bias ? part.bias.id() : 0);
    out += part.weight.dim(0);
    any_bias = any_bias || part.bias;
  }
  const DType type = settings_.compute;
  return prepared_.get<LinearOperands>(std::move(key), [&]() -> LinearOperands {
    const Parameter &weight = weights[0].weight, &bias = weights[0].bias;
    const std::int64_t in = weight.dim(1);
    if (weights.size() == 1 && !gate) {
      return {on_device(weight, type), bias ? on_device(bias, bias_type) : Tensor(), {}};
    }
    LinearOperands operands{device_.allocate_weights({out, in}, type), {}, {}};
    if (any_bias) operands.bias = device_.allocate_weights({out}, bias_type);
    if (gate) {
      operands.gate = *gate;
      const auto scale = [&](const Parameter& parameter, const Tensor& scaled, std::int64_t columns) {
        const Tensor values = do_from_host(parameter.values(), device_type(parameter));
        check(cuda::launch_scale_rows(values.raw(), values.dtype(), gate->data<float>(), scaled.mutable_raw(),
                                      scaled.dtype(), out, columns, stream()),
              "folding a gate");
      };
      scale(weight, operands.weight, in);
      if (bias) scale(bias, operands.bias, 1);
      return operands;
    }
    // Copied part by part on the device.
    std::int64_t begin = 0;
    if (any_bias) check(cudaMemsetAsync(operands.bias.mutable_raw(), 0, operands.bias.bytes(), stream()), "stacking");
    for (const LinearWeights& part : weights) {
      do_store(operands.weight, begin, do_from_host(part.weight.values(), type));
      if (part.bias)
        do_store(operands.bias, begin, do_from_host(part.bias.values(), bias_type).reshaped({part.weight.dim(0)}));
      begin += part.weight.dim(0);
    }
    return operands;
  });
}

Tensor CudaOperations::do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) {
  const std::int64_t rows = x.dim(0), in = x.dim(1), out = weights.weight.dim(0);
  const DType output = *options.output;
  const Tensor result = allocate({rows, out}, output);
  if (rows == 0) return result;

  // What is used once is uploaded as an activation.
  const auto operands_of = [&](const Tensor* gate, DType bias_type) -> LinearOperands {
    if (!options.once || gate) return linear_operands({&weights, 1}, gate, bias_type);
    return {do_from_host(weights.weight.values(), x.dtype()),
            weights.bias ? do_from_host(weights.bias.values(), bias_type) : Tensor(),
            {}};
  };
  CudaProduct product{.type = x.dtype(), .x = x.raw(), .rows = rows, .in = in, .out = out};
  const bool activated = options.activation != Activation::none;
  // Residuals in the type of the result are added by the product, before an activation; gates without one are part of
  // the weight.
  if ((!options.residual || (options.residual->dtype() == output && !activated)) && !(options.gate && activated)) {
    product.output = output;
    product.residual = options.residual ? options.residual->raw() : nullptr;
    product.activation = static_cast<cuda::Activation>(options.activation);
    product.result = result.mutable_raw();
    if (linear_->suits(product) && linear_->fuses(product)) {
      const LinearOperands operands = operands_of(options.gate, output);
      product.weight = operands.weight.raw();
      product.bias = operands.bias ? operands.bias.raw() : nullptr;
      if (linear_->multiply(product)) return result;
    }
  }

  const Tensor sums = output == DType::f32 ? result : allocate({rows, out}, DType::f32);
  product.output = DType::f32;
  product.bias = product.residual = nullptr;
  product.activation = cuda::Activation::none;
  product.result = sums.mutable_raw();
  bool multiplied = false;
  if (linear_->suits(product)) {
    const LinearOperands operands = operands_of(nullptr, DType::f32);
    product.weight = operands.weight.raw();
    multiplied = linear_->multiply(product);
  }
  if (!multiplied) {
    convolve(as_convolution(x, out, sums.mutable_raw(), DType::f32, out), as_convolution(weights.weight));
  }
  cuda::RowEpilogueArguments epilogue{
      .sums = sums.data<float>(),
      .rows = rows,
      .columns = out,
      .bias = weights.bias ? on_device(weights.bias, DType::f32).data<float>() : nullptr,
      .gate = options.gate ? options.gate->data<float>() : nullptr,
      .activation = static_cast<cuda::Activation>(options.activation),
      .out = result.mutable_raw(),
      .out_type = output};
  if (options.residual) {
    epilogue.residual = options.residual->raw();
    epilogue.residual_type = options.residual->dtype();
  }
  check(cuda::launch_row_epilogue(epilogue, stream()), "linear");
  return result;
}

Tensor CudaOperations::do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) {
  const std::int64_t rows = x.dim(0), in = x.dim(1);
  std::int64_t out = 0;
  for (const LinearWeights& part : weights) out += part.weight.dim(0);
  const DType type = settings_.compute;
  const Tensor result = allocate({rows, out}, type);
  if (rows == 0) return result;
  CudaProduct product{
      .type = type, .x = x.raw(), .rows = rows, .in = in, .out = out, .output = type, .result = result.mutable_raw()};
  if (linear_->suits(product)) {
    const LinearOperands& operands = linear_operands(weights, nullptr, type);
    product.weight = operands.weight.raw();
    product.bias = operands.bias ? operands.bias.raw() : nullptr;
    if (linear_->multiply(product)) return result;
  }
  auto* columns = static_cast<std::byte*>(result.mutable_raw());
  for (const LinearWeights& part : weights) {
    const std::int64_t part_out = part.weight.dim(0);
    cuda::ConvolutionArguments arguments = as_convolution(x, part_out, columns, type, out);
    if (part.bias) arguments.bias = on_device(part.bias, DType::f32).data<float>();
    convolve(arguments, as_convolution(part.weight));
    columns += static_cast<std::size_t>(part_out) * size_of(type);
  }
  return result;
}

}  // namespace flashvsr::ops
