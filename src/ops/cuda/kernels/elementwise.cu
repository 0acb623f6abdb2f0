#include "ops/cuda/kernels/elementwise.h"

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/elements.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPack = 8;

// Eight elements a thread where they can be moved at once, single ones at the end.
template <typename X, typename Y, typename Function>
__global__ void __launch_bounds__(kThreads)
    map_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t elements, Function function) {
  const std::int64_t packs = elements / kPack, step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs; i += step) {
    const auto in = reinterpret_cast<const Pack<X, kPack>*>(x)[i];
    Pack<Y, kPack> out;
#pragma unroll
    for (int j = 0; j < kPack; ++j) out.values[j] = from_float<Y>(function(to_float(in.values[j])));
    reinterpret_cast<Pack<Y, kPack>*>(y)[i] = out;
  }
  const std::int64_t rest = packs * kPack + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (rest < elements) y[rest] = from_float<Y>(function(to_float(x[rest])));
}

// The same one element a thread, for addresses that packs cannot be read from.
template <typename X, typename Y, typename Function>
__global__ void __launch_bounds__(kThreads)
    single_map_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t elements, Function function) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    y[i] = from_float<Y>(function(to_float(x[i])));
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <typename Function>
cudaError_t map(const void* x, DType x_type, void* y, DType y_type, std::int64_t elements, cudaStream_t stream,
                const Function& function) {
  return with_float_type(x_type, [&]<typename X>(X) {
    return with_float_type(y_type, [&]<typename Y>(Y) {
      const auto* from = static_cast<const X*>(x);
      auto* to = static_cast<Y*>(y);
      if (aligned(x) && aligned(y)) {
        map_kernel<X, Y><<<blocks_for(elements / kPack + kPack, kThreads), kThreads, 0, stream>>>(from, to, elements,
                                                                                                function);
      } else {
        single_map_kernel<X, Y><<<blocks_for(elements, kThreads), kThreads, 0, stream>>>(from, to, elements, function);
      }
      return cudaGetLastError();
    });
  });
}

struct Affine {
  float scale, shift;
  // Two roundings, as everywhere.
  __device__ float operator()(float x) const { return __fadd_rn(__fmul_rn(x, scale), shift); }
};
struct Identity {
  __device__ float operator()(float x) const { return x; }
};
struct Clamp {
  float low, high;
  __device__ float operator()(float x) const { return fminf(fmaxf(x, low), high); }
};
struct SoftClamp {
  float limit;
  __device__ float operator()(float x) const { return soft_clamp(x, limit); }
};
template <Activation Kind>
struct Activate {
  __device__ float operator()(float x) const { return activate<Kind>(x); }
};

template <typename A, typename B>
__global__ void __launch_bounds__(kThreads) add_kernel(const A* __restrict__ a, const B* __restrict__ b,
                                                       A* __restrict__ y, float sign, std::int64_t elements) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    y[i] = from_float<A>(to_float(a[i]) + sign * to_float(b[i]));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    channel_affine_kernel(const T* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ shift,
                          T* __restrict__ y, std::int64_t elements, std::int64_t channels) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    const std::int64_t c = i % channels;
    y[i] = from_float<T>(__fadd_rn(__fmul_rn(to_float(x[i]), scale[c]), shift[c]));
  }
}

}  // namespace

cudaError_t launch_unary(UnaryKind kind, const void* x, DType x_type, void* y, DType y_type, std::int64_t elements,
                         float a, float b, cudaStream_t stream) {
  const auto apply = [&](const auto& function) { return map(x, x_type, y, y_type, elements, stream, function); };
  switch (kind) {
    case UnaryKind::cast: return apply(Identity{});
    case UnaryKind::affine: return apply(Affine{a, b});
    case UnaryKind::relu: return apply(Activate<Activation::relu>{});
    case UnaryKind::silu: return apply(Activate<Activation::silu>{});
    case UnaryKind::gelu_tanh: return apply(Activate<Activation::gelu_tanh>{});
    case UnaryKind::soft_clamp: return apply(SoftClamp{a});
    case UnaryKind::clamp: return apply(Clamp{a, b});
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_add(const void* a, DType a_type, const void* b, DType b_type, void* y, float sign,
                       std::int64_t elements, cudaStream_t stream) {
  return with_float_type(a_type, [&]<typename A>(A) {
    return with_float_type(b_type, [&]<typename B>(B) {
      add_kernel<<<blocks_for(elements, kThreads), kThreads, 0, stream>>>(
          static_cast<const A*>(a), static_cast<const B*>(b), static_cast<A*>(y), sign, elements);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_channel_affine(const void* x, DType type, const float* scale, const float* shift, void* y,
                                  std::int64_t elements, std::int64_t channels, cudaStream_t stream) {
  return with_float_type(type, [&]<typename T>(T) {
    channel_affine_kernel<<<blocks_for(elements, kThreads), kThreads, 0, stream>>>(
        static_cast<const T*>(x), scale, shift, static_cast<T*>(y), elements, channels);
    return cudaGetLastError();
  });
}

}  // namespace flashvsr::cuda
