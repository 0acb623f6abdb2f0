// Element-wise operations.
#include "core/threads.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/vector_elements.h"
#include "ops/cpu/vector_operations.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

// kernel(input, count, output) on runs of x.
template <typename Kernel>
void for_runs(const Tensor& x, const Tensor& result, const Kernel& kernel) {
  parallel_for(x.elements(), kValueGrain, [&](std::int64_t begin, std::int64_t end) {
    kernel(element(x, begin), end - begin, mutable_element(result, begin));
  });
}

}  // namespace

Tensor VectorOperations::do_cast(const Tensor& x, DType type) {
  if (!has_kernels(x.dtype()) || !has_kernels(type)) return ReferenceOperations::do_cast(x, type);
  const Tensor result = do_allocate(x.shape(), type);
  for_runs(x, result, table_.elementwise.convert[kernel_index(x.dtype())][kernel_index(type)]);
  return result;
}

Tensor VectorOperations::do_add(const Tensor& a, const Tensor& b, float sign) {
  const Tensor result = do_allocate(a.shape(), a.dtype());
  const auto kernel = table_.elementwise.add[kernel_index(a.dtype())][kernel_index(b.dtype())];
  parallel_for(a.elements(), kValueGrain, [&](std::int64_t begin, std::int64_t end) {
    kernel(element(a, begin), element(b, begin), sign, end - begin, mutable_element(result, begin));
  });
  return result;
}

Tensor VectorOperations::do_affine(const Tensor& x, float scale, float shift, DType type) {
  if (!has_kernels(x.dtype()) || !has_kernels(type)) return ReferenceOperations::do_affine(x, scale, shift, type);
  const Tensor result = do_allocate(x.shape(), type);
  const auto kernel = table_.elementwise.affine[kernel_index(x.dtype())][kernel_index(type)];
  for_runs(x, result, [&](const void* in, std::int64_t count, void* out) { kernel(in, scale, shift, count, out); });
  return result;
}

Tensor VectorOperations::do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const std::int64_t channels = x.dim(-1);
  const Tensor result = do_allocate(x.shape(), x.dtype());
  const auto kernel = table_.elementwise.channel_affine[kernel_index(x.dtype())];
  parallel_for(x.elements() / channels, kValueGrain / channels, [&](std::int64_t begin, std::int64_t end) {
    kernel(element(x, begin * channels), scale.data<float>(), shift.data<float>(), end - begin, channels,
           mutable_element(result, begin * channels));
  });
  return result;
}

Tensor VectorOperations::do_activation(const Tensor& x, Activation kind) {
  const kernels::ElementwiseKernels& kernels = table_.elementwise;
  const std::size_t type = kernel_index(x.dtype());
  const Tensor result = do_allocate(x.shape(), x.dtype());
  switch (kind) {
    case Activation::none: for_runs(x, result, kernels.convert[type][type]); break;
    case Activation::relu: for_runs(x, result, kernels.relu[type]); break;
    case Activation::silu: for_runs(x, result, kernels.silu[type]); break;
    case Activation::gelu_tanh: for_runs(x, result, kernels.gelu_tanh[type]); break;
  }
  return result;
}

Tensor VectorOperations::do_soft_clamp(const Tensor& x, float limit) {
  const Tensor result = do_allocate(x.shape(), x.dtype());
  const auto kernel = table_.elementwise.soft_clamp[kernel_index(x.dtype())];
  for_runs(x, result, [&](const void* in, std::int64_t count, void* out) { kernel(in, limit, count, out); });
  return result;
}

Tensor VectorOperations::do_clamp(const Tensor& x, float low, float high) {
  const Tensor result = do_allocate(x.shape(), x.dtype());
  const auto kernel = table_.elementwise.clamp[kernel_index(x.dtype())];
  for_runs(x, result, [&](const void* in, std::int64_t count, void* out) { kernel(in, low, high, count, out); });
  return result;
}

}  // namespace flashvsr::ops
