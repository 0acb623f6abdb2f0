// Norms.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/row_norm.h"

namespace flashvsr::ops {
namespace {

using cuda::check;

cuda::RowNorm row_norm(const cuda::Device& device, const Tensor& x, const Tensor& result) {
  const std::int64_t dim = x.dim(-1);
  return {.x = x.raw(),
          .y = result.mutable_raw(),
          .x_type = x.dtype(),
          .y_type = result.dtype(),
          .rows = dim > 0 ? x.elements() / dim : 0,
          .dim = static_cast<int>(dim),
          .multiprocessors = device.multiprocessors()};
}

}  // namespace

Tensor CudaOperations::do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) {
  const Tensor& scale = on_device(weight, DType::f32);
  const Tensor& shift = on_device(bias, DType::f32);
  const Tensor result = allocate(x.shape(), settings_.compute);
  check(cuda::launch_layer_norm(row_norm(device_, x, result), scale.data<float>(), 0, shift.data<float>(), stream()),
        "layer_norm");
  return result;
}

Tensor CudaOperations::do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const Tensor result = allocate(x.shape(), settings_.compute);
  check(cuda::launch_layer_norm(row_norm(device_, x, result), scale.data<float>(), 1, shift.data<float>(), stream()),
        "layer_norm_modulated");
  return result;
}

Tensor CudaOperations::do_rms_norm(const Tensor& x, const Parameter& weight) {
  const Tensor& weights = on_device(weight, DType::f32);
  const Tensor result = allocate(x.shape(), settings_.compute);
  check(cuda::launch_rms_norm(row_norm(device_, x, result), weights.data<float>(), stream()), "rms_norm");
  return result;
}

Tensor CudaOperations::do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) {
  const Tensor& gammas = on_device(gamma, DType::f32);
  const Tensor result = allocate(x.shape(), x.dtype());
  const auto kind = activation == Activation::silu ? cuda::Activation::silu : cuda::Activation::none;
  check(cuda::launch_channel_rms_norm(row_norm(device_, x, result), gammas.data<float>(), kind, stream()),
        "channel_rms_norm");
  return result;
}

}  // namespace flashvsr::ops
