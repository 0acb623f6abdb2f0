#include "ops/cuda/kernels/bytes.h"

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
// Packs of one thread, read before any of them is written.
constexpr int kUnroll = 4;

// y = function(x), Count elements a pack. The few elements behind the last pack are converted by the first block.
template <typename X, typename Y, int Count, typename Function>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t elements, Function function) {
  const std::int64_t packs = elements / Count;
  const std::int64_t first = std::int64_t{blockIdx.x} * (kThreads * kUnroll) + threadIdx.x;
  Pack<X, Count> in[kUnroll];
#pragma unroll
  for (int k = 0; k < kUnroll; ++k) {
    const std::int64_t i = first + k * kThreads;
    if (i < packs) in[k] = reinterpret_cast<const Pack<X, Count>*>(x)[i];
  }
#pragma unroll
  for (int k = 0; k < kUnroll; ++k) {
    const std::int64_t i = first + k * kThreads;
    if (i >= packs) break;
    Pack<Y, Count> out;
#pragma unroll
    for (int j = 0; j < Count; ++j) out.values[j] = function(in[k].values[j]);
    reinterpret_cast<Pack<Y, Count>*>(y)[i] = out;
  }
  const std::int64_t rest = packs * Count + threadIdx.x;
  if (blockIdx.x == 0 && rest < elements) y[rest] = function(x[rest]);
}

struct ToBytes {
  template <typename X>
  __device__ std::uint8_t operator()(X x) const {
    return byte_value(to_float(x));
  }
};

struct ToVideo {
  __device__ float operator()(std::uint8_t x) const { return video_value(x); }
};

template <typename X, typename Y, int Count, typename Function>
cudaError_t launch(const X* x, Y* y, std::int64_t elements, cudaStream_t stream, const Function& function) {
  const std::int64_t packs = (elements + Count - 1) / Count;
  const auto blocks = static_cast<unsigned>((packs + kThreads * kUnroll - 1) / (kThreads * kUnroll));
  if (blocks == 0) return cudaSuccess;
  convert_kernel<X, Y, Count><<<blocks, kThreads, 0, stream>>>(x, y, elements, function);
  return cudaGetLastError();
}

// Packs of up to 16 bytes a side where both addresses allow it.
template <typename X, typename Y, typename Function>
cudaError_t convert(const X* x, Y* y, std::int64_t elements, cudaStream_t stream, const Function& function) {
  constexpr int kCount = 16 / static_cast<int>(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));
  if (is_aligned<Pack<X, kCount>>(x) && is_aligned<Pack<Y, kCount>>(y)) {
    return launch<X, Y, kCount>(x, y, elements, stream, function);
  }
  return launch<X, Y, 1>(x, y, elements, stream, function);
}

}  // namespace

cudaError_t launch_to_bytes(const void* x, DType type, std::uint8_t* bytes, std::int64_t elements,
                            cudaStream_t stream) {
  return with_float_type(
      type, [&]<typename X>(X) { return convert(static_cast<const X*>(x), bytes, elements, stream, ToBytes{}); });
}

cudaError_t launch_to_video(const std::uint8_t* bytes, float* video, std::int64_t elements, cudaStream_t stream) {
  return convert(bytes, video, elements, stream, ToVideo{});
}

}  // namespace flashvsr::cuda
