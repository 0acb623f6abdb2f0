// Reference: memory and element-wise operations.
#include "core/convert.h"
#include "core/physical_memory.h"
#include "core/threads.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/reference_operations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kGrain = 4096;

void convert_between(const void* source, DType source_type, void* destination, DType type, std::int64_t count) {
  if (source_type == type) {
    std::memcpy(destination, source, static_cast<std::size_t>(count) * size_of(type));
  } else if (type == DType::f32) {
    convert_to_f32(source, source_type, {static_cast<float*>(destination), static_cast<std::size_t>(count)});
  } else {
    std::vector<float> values(static_cast<std::size_t>(count));
    convert_to_f32(source, source_type, values);
    convert_from_f32(values, type, destination);
  }
}

CpuSettings resolved(CpuSettings settings) {
  require(settings.compute == DType::f32 || settings.compute == DType::bf16, "the CPU computes in F32 or BF16, not {}",
          name_of(settings.compute));
  require(settings.residual == DType::f32 || settings.residual == settings.compute,
          "the residual stream is F32 or of the compute type, not {}", name_of(settings.residual));
  if (settings.threads <= 0) settings.threads = available_threads();
  return settings;
}

}  // namespace

ReferenceOperations::ReferenceOperations(const CpuSettings& settings)
    : settings_(resolved(settings)), pool_(MemoryPool::create()) {}

std::shared_ptr<Copies> ReferenceOperations::do_start_copies(CopyDirection, std::span<const CopyPair> pairs,
                                                             std::span<const std::shared_ptr<Copies>>, CopyMarks*) {
  for (const CopyPair& pair : pairs) std::memcpy(pair.to.mutable_raw(), pair.from.raw(), pair.from.bytes());
  return std::make_shared<Copies>();
}

void ReferenceOperations::do_finish_copies(const Copies&) {}

std::size_t ReferenceOperations::do_available_memory() const { return physical_memory().value_or(kUnboundedMemory); }

// One value after the other: result[i] = function(x[i]).
template <typename Function>
Tensor ReferenceOperations::map(const Tensor& x, DType type, const Function& function) {
  const Tensor source = as_f32(x), result = do_allocate(x.shape(), DType::f32);
  const float* in = source.data<float>();
  auto* out = result.mutable_data<float>();
  parallel_for(x.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = function(in[i]);
  });
  return rounded(result, type);
}

const std::vector<float>& ReferenceOperations::f32_values(const Parameter& parameter) {
  struct Values {
    std::vector<float> values;
  };
  return prepared_.get<Values>({parameter.id()}, [&] { return Values{parameter.to_f32()}; }).values;
}

std::vector<float> ReferenceOperations::compute_values(const Parameter& parameter) const {
  std::vector<float> values = parameter.to_f32();
  if (settings_.compute == DType::bf16) std::ranges::transform(values, values.begin(), round_to_bf16);
  return values;
}

Tensor ReferenceOperations::do_allocate(const Shape& shape, DType type) {
  return Tensor(shape, type, pool_->allocate(static_cast<std::size_t>(shape.elements()) * size_of(type)));
}

Tensor ReferenceOperations::do_from_host(const Tensor& host, DType type) {
  const Tensor result = do_allocate(host.shape(), type);
  convert_between(host.raw(), host.dtype(), result.mutable_raw(), type, host.elements());
  return result;
}

// Results are given away for good, so they must not keep the pool alive: a copy on the heap.
Tensor ReferenceOperations::do_to_host(const Tensor& x) {
  const Tensor result = allocate_host(x.shape(), x.dtype());
  std::memcpy(result.mutable_raw(), x.raw(), x.bytes());
  return result;
}

Tensor ReferenceOperations::do_zeros(const Shape& shape, DType type) {
  const Tensor result = do_allocate(shape, type);
  std::memset(result.mutable_raw(), 0, result.bytes());
  return result;
}

Tensor ReferenceOperations::do_cast(const Tensor& x, DType type) {
  const Tensor result = do_allocate(x.shape(), type);
  const auto* source = static_cast<const std::byte*>(x.raw());
  auto* destination = static_cast<std::byte*>(result.mutable_raw());
  const auto from = static_cast<std::int64_t>(size_of(x.dtype())), to = static_cast<std::int64_t>(size_of(type));
  parallel_for(x.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    convert_between(source + begin * from, x.dtype(), destination + begin * to, type, end - begin);
  });
  return result;
}

Tensor ReferenceOperations::do_concatenate(std::span<const Tensor> parts) {
  std::int64_t entries = 0;
  for (const Tensor& part : parts) entries += part.dim(0);
  std::vector<std::int64_t> dims(parts[0].shape().dims().begin(), parts[0].shape().dims().end());
  dims[0] = entries;
  const Tensor result = do_allocate(Shape(dims), parts[0].dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    ReferenceOperations::do_store(result, begin, part);
    begin += part.dim(0);
  }
  return result;
}

void ReferenceOperations::do_store(const Tensor& destination, std::int64_t begin, const Tensor& x) {
  const Tensor target = destination.sliced(begin, begin + x.dim(0));
  // A tensor may be stored over itself or a neighbour.
  std::memmove(target.mutable_raw(), x.raw(), x.bytes());
}

Tensor ReferenceOperations::do_add(const Tensor& a, const Tensor& b, float sign) {
  const Tensor first = as_f32(a), second = as_f32(b), result = do_allocate(a.shape(), DType::f32);
  const float *x = first.data<float>(), *y = second.data<float>();
  auto* out = result.mutable_data<float>();
  parallel_for(a.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = x[i] + sign * y[i];
  });
  return rounded(result, a.dtype());
}

Tensor ReferenceOperations::do_affine(const Tensor& x, float scale, float shift, DType type) {
  return map(x, type, [=](float value) { return value * scale + shift; });
}

Tensor ReferenceOperations::do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const Tensor source = as_f32(x), result = do_allocate(x.shape(), DType::f32);
  const std::int64_t channels = x.dim(-1);
  const float *in = source.data<float>(), *scales = scale.data<float>(), *shifts = shift.data<float>();
  auto* out = result.mutable_data<float>();
  parallel_for(x.elements() / channels, kGrain / channels, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t c = 0; c < channels; ++c) {
        out[i * channels + c] = in[i * channels + c] * scales[c] + shifts[c];
      }
    }
  });
  return rounded(result, x.dtype());
}

Tensor ReferenceOperations::do_activation(const Tensor& x, Activation kind) {
  return map(x, x.dtype(), [=](float value) { return activate(value, kind); });
}

Tensor ReferenceOperations::do_soft_clamp(const Tensor& x, float limit) {
  return map(x, x.dtype(), [=](float value) { return soft_clamped(value, limit); });
}

Tensor ReferenceOperations::do_clamp(const Tensor& x, float low, float high) {
  return map(x, x.dtype(), [=](float value) { return std::clamp(value, low, high); });
}

Tensor ReferenceOperations::do_to_video(const Tensor& frames) {
  const Tensor result = do_allocate(frames.shape(), DType::f32);
  const auto* in = frames.data<std::uint8_t>();
  auto* out = result.mutable_data<float>();
  parallel_for(frames.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = video_value(in[i]);
  });
  return result;
}

Tensor ReferenceOperations::do_to_bytes(const Tensor& video) {
  const Tensor source = as_f32(video), result = do_allocate(video.shape(), DType::u8);
  const float* in = source.data<float>();
  auto* out = result.mutable_data<std::uint8_t>();
  parallel_for(video.elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = byte_value(in[i]);
  });
  return result;
}

}  // namespace flashvsr::ops
