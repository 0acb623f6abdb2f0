// Making the back end; memory and element-wise operations.
#include "ops/cuda/cuda_operations.h"

#include "core/convert.h"
#include "ops/cuda/attention.h"
#include "ops/cuda/convolution.h"
#include "ops/cuda/image_exchange.h"
#include "ops/cuda/kernels/elementwise.h"
#include "ops/cuda/linear.h"
#include "ops/cuda/rope_angles.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

using cuda::check;

cuda::UnaryKind unary_kind(Activation kind) {
  switch (kind) {
    case Activation::relu: return cuda::UnaryKind::relu;
    case Activation::silu: return cuda::UnaryKind::silu;
    case Activation::gelu_tanh: return cuda::UnaryKind::gelu_tanh;
    case Activation::none: break;
  }
  return cuda::UnaryKind::cast;
}

// Pinned memory as a tensor's storage.
class PinnedStorage final : public Storage {
 public:
  PinnedStorage(std::shared_ptr<cuda::PinnedBuffer> buffer, std::size_t bytes)
      : Storage(buffer->data(), bytes), buffer_(std::move(buffer)) {}

 private:
  std::shared_ptr<cuda::PinnedBuffer> buffer_;
};

class PinnedArrival final : public Arrival {
 public:
  explicit PinnedArrival(std::shared_ptr<cuda::PinnedBuffer> buffer) : buffer_(std::move(buffer)) {}
  bool arrived() override { return buffer_->idle(); }
  void wait() override { buffer_->wait(); }

 private:
  std::shared_ptr<cuda::PinnedBuffer> buffer_;
};

}  // namespace

CudaOperations::CudaOperations(const CudaSettings& settings)
    : settings_(settings),
      device_(settings.device),
      copies_(cuda::CopyStreams::create()),
      images_(cuda::ImageExchange::create(device_)),
      linear_(std::make_unique<CudaLinear>(device_)),
      convolution_path_(chosen_convolution_path(device_)),
      attention_(std::make_unique<CudaAttention>(device_)),
      rope_(std::make_unique<CudaRope>(device_)) {
  require(settings.compute == DType::f32 || settings.compute == DType::bf16, "the compute type is f32 or bf16");
}

CudaOperations::~CudaOperations() {
  // Tensors may outlive the back end; what they were computed by may not.
  cudaStreamSynchronize(device_.stream());
  images_->close();
}

const Tensor& CudaOperations::on_device(const Parameter& parameter, DType type) {
  return prepared_.get<Tensor>({parameter.id(), static_cast<std::uint64_t>(type)}, [&] {
    return upload_weights(parameter.values().raw(), parameter.shape(), parameter.dtype(), type);
  });
}

Tensor CudaOperations::upload_weights(const void* host, const Shape& shape, DType host_type, DType type) {
  const Tensor result = device_.allocate_weights(shape, type);
  if (host_type == type) {
    device_.upload(result.mutable_raw(), host, result.bytes());
    return result;
  }
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  convert_to_f32(host, host_type, values);
  if (type == DType::f32) {
    device_.upload(result.mutable_raw(), values.data(), result.bytes());
    return result;
  }
  std::vector<BFloat16> rounded(values.size());
  convert_from_f32(values, type, rounded.data());
  device_.upload(result.mutable_raw(), rounded.data(), result.bytes());
  return result;
}

// -------------------------------------------------------------------------------------------------------- memory

Tensor CudaOperations::do_allocate(const Shape& shape, DType type) { return allocate(shape, type); }

Tensor CudaOperations::do_from_host(const Tensor& host, DType type) {
  const Tensor result = allocate(host.shape(), type);
  if (host.dtype() == type) {
    device_.upload(result.mutable_raw(), host.raw(), host.bytes());
    return result;
  }
  std::vector<float> values(static_cast<std::size_t>(host.elements()));
  convert_to_f32(host.raw(), host.dtype(), values);
  if (type == DType::f32) {
    device_.upload(result.mutable_raw(), values.data(), result.bytes());
    return result;
  }
  std::vector<BFloat16> rounded(values.size());
  convert_from_f32(values, type, rounded.data());
  device_.upload(result.mutable_raw(), rounded.data(), result.bytes());
  return result;
}

Tensor CudaOperations::do_to_host(const Tensor& x) {
  const Tensor host = allocate_host(x.shape(), x.dtype());
  device_.download(host.mutable_raw(), x.raw(), x.bytes());
  return host;
}

HostCopy CudaOperations::do_start_to_host(const Tensor& x) {
  // Finished frames wait in such memory, so that its amount is up to the caller.
  constexpr auto kNoLimit = ~std::size_t{0} / 2;
  const std::shared_ptr<cuda::PinnedBuffer> buffer =
      device_.pinned().take(std::max<std::size_t>(x.bytes(), 1), kNoLimit);
  copies_->download(buffer->data(), x, device_);
  buffer->in_use_until_now(copies_->downloading());
  return HostCopy(Tensor(x.shape(), x.dtype(), std::make_shared<PinnedStorage>(buffer, x.bytes())),
                  std::make_shared<PinnedArrival>(buffer));
}

Tensor CudaOperations::do_zeros(const Shape& shape, DType type) {
  const Tensor result = allocate(shape, type);
  check(cudaMemsetAsync(result.mutable_raw(), 0, result.bytes(), stream()), "zeros");
  return result;
}

Tensor CudaOperations::do_cast(const Tensor& x, DType type) {
  const Tensor result = allocate(x.shape(), type);
  check(cuda::launch_unary(cuda::UnaryKind::cast, x.raw(), x.dtype(), result.mutable_raw(), type, x.elements(), 0, 0,
                           stream()),
        "cast");
  return result;
}

Tensor CudaOperations::do_concatenate(std::span<const Tensor> parts) {
  std::vector<std::int64_t> dims(parts[0].shape().dims().begin(), parts[0].shape().dims().end());
  dims[0] = 0;
  for (const Tensor& part : parts) dims[0] += part.dim(0);
  const Tensor result = allocate(Shape(dims), parts[0].dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    do_store(result, begin, part);
    begin += part.dim(0);
  }
  return result;
}

void CudaOperations::do_store(const Tensor& destination, std::int64_t begin, const Tensor& x) {
  if (x.bytes() == 0) return;
  const Tensor target = destination.sliced(begin, begin + x.dim(0));
  check(cudaMemcpyAsync(target.mutable_raw(), x.raw(), x.bytes(), cudaMemcpyDeviceToDevice, stream()), "store");
}

// -------------------------------------------------------------------------------------------------- element-wise

Tensor CudaOperations::do_add(const Tensor& a, const Tensor& b, float sign) {
  const Tensor result = allocate(a.shape(), a.dtype());
  check(cuda::launch_add(a.raw(), a.dtype(), b.raw(), b.dtype(), result.mutable_raw(), sign, a.elements(), stream()),
        "add");
  return result;
}

Tensor CudaOperations::do_affine(const Tensor& x, float scale, float shift, DType type) {
  const Tensor result = allocate(x.shape(), type);
  check(cuda::launch_unary(cuda::UnaryKind::affine, x.raw(), x.dtype(), result.mutable_raw(), type, x.elements(), scale,
                           shift, stream()),
        "affine");
  return result;
}

Tensor CudaOperations::do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const Tensor result = allocate(x.shape(), x.dtype());
  check(cuda::launch_channel_affine(x.raw(), x.dtype(), scale.data<float>(), shift.data<float>(), result.mutable_raw(),
                                    x.elements(), x.dim(-1), stream()),
        "channel_affine");
  return result;
}

Tensor CudaOperations::do_activation(const Tensor& x, Activation kind) {
  if (kind == Activation::none) return x;
  const Tensor result = allocate(x.shape(), x.dtype());
  check(cuda::launch_unary(unary_kind(kind), x.raw(), x.dtype(), result.mutable_raw(), x.dtype(), x.elements(), 0, 0,
                           stream()),
        "activation");
  return result;
}

Tensor CudaOperations::do_soft_clamp(const Tensor& x, float limit) {
  const Tensor result = allocate(x.shape(), x.dtype());
  check(cuda::launch_unary(cuda::UnaryKind::soft_clamp, x.raw(), x.dtype(), result.mutable_raw(), x.dtype(),
                           x.elements(), limit, 0, stream()),
        "soft_clamp");
  return result;
}

Tensor CudaOperations::do_clamp(const Tensor& x, float low, float high) {
  const Tensor result = allocate(x.shape(), x.dtype());
  check(cuda::launch_unary(cuda::UnaryKind::clamp, x.raw(), x.dtype(), result.mutable_raw(), x.dtype(), x.elements(),
                           low, high, stream()),
        "clamp");
  return result;
}

}  // namespace flashvsr::ops
