#include "ops/cuda/kernels/space_to_depth.h"

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/octet.cuh"
#include "ops/cuda/kernels/pixels.cuh"

#include <bit>
#include <type_traits>

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBytes = 256;
constexpr int kPack = 8, kPackBits = 3;

// Gives an element's value. A byte has 256 of them, which every block computes once.
template <typename X>
struct Values {
  float limit;

  __device__ explicit Values(float soft_limit) : limit(soft_limit) {}
  __device__ float operator()(X x) const { return limit > 0 ? soft_clamp(to_float(x), limit) : to_float(x); }
};

template <>
struct Values<std::uint8_t> {
  const float* table;

  __device__ explicit Values(float limit) {
    __shared__ float values[kBytes];
    for (int i = static_cast<int>(threadIdx.x); i < kBytes; i += kThreads) {
      const float value = video_value(static_cast<std::uint8_t>(i));
      values[i] = limit > 0 ? soft_clamp(value, limit) : value;
    }
    __syncthreads();
    table = values;
  }
  __device__ float operator()(std::uint8_t x) const { return table[x]; }
};

// Byte k of a word as a float: the byte becomes the last one of 2^23's mantissa.
__device__ __forceinline__ float byte_of(std::uint32_t word, unsigned k) {
  return __fadd_rn(__uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u + k)), -8388608.0f);
}

// A byte's value as it is stored: for bf16 one rounding less gives the same bits, for all 256 bytes.
template <typename Y>
__device__ __forceinline__ float stored_value(float byte) {
  return __fmaf_rn(byte, 2.0f / 255.0f, -1.0f);
}
template <>
__device__ __forceinline__ float stored_value<float>(float byte) {
  return video_value(byte);
}

// Bytes without a limit, RGB, sides and frames of a patch that are powers of two, sides eight or more: eight columns of
// all three channels a thread. A look-up would wait for banks, since every lane looks up another byte. Grid: parts of a
// line of tokens, lines, groups.
template <typename Y>
__global__ void __launch_bounds__(kThreads)
    byte_patches_kernel(const std::uint8_t* __restrict__ frames, Y* __restrict__ y, unsigned width, unsigned temporal,
                        unsigned spatial_bits, unsigned plane_bits) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x, token = i >> plane_bits;
  if (token >= width) return;
  const unsigned within = i & ((1u << plane_bits) - 1), row_bits = spatial_bits - kPackBits;
  const unsigned frame_row = within >> row_bits, frame = frame_row >> spatial_bits;
  const unsigned row = frame_row & ((1u << spatial_bits) - 1);
  const unsigned column = (token << spatial_bits) + (within & ((1u << row_bits) - 1)) * kPack;
  const unsigned line = blockIdx.y, height = gridDim.y, group = blockIdx.z;
  const unsigned in_row = (((group * temporal + frame) * height + line) << spatial_bits) + row;
  const auto* from =
      reinterpret_cast<const uint2*>(frames + (std::int64_t{in_row} * (width << spatial_bits) + column) * kRgb);
  std::uint32_t words[2 * kRgb];
#pragma unroll
  for (int k = 0; k < kRgb; ++k) {
    const uint2 pair = from[k];
    words[2 * k] = pair.x;
    words[2 * k + 1] = pair.y;
  }
  auto* to = octets(y) + (((std::int64_t{group} * height + line) * width + token) * kRgb << plane_bits) + within;
#pragma unroll
  for (int c = 0; c < kRgb; ++c) {
    to[static_cast<unsigned>(c) << plane_bits] = octet_of<Y>([&](int j) {
      const auto element = static_cast<unsigned>(j * kRgb + c);
      return stored_value<Y>(byte_of(words[element / 4], element % 4));
    });
  }
}

// RGB, sides that are multiples of eight: eight columns of all three channels a thread, which lie together in the
// input; threads side by side write side by side. Grid: lines of tokens, parts of a line.
template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads)
    rgb_patches_kernel(const X* __restrict__ frames, Y* __restrict__ y, DepthShape shape, float limit) {
  const Values<X> value(limit);
  const auto spatial = static_cast<unsigned>(shape.spatial), width = static_cast<unsigned>(shape.width);
  const unsigned row_packs = spatial / kPack, plane = static_cast<unsigned>(shape.temporal) * spatial * row_packs;
  const unsigned i = blockIdx.y * kThreads + threadIdx.x, token = i / plane, within = i % plane;
  if (token >= width) return;
  const unsigned frame_row = within / row_packs, frame = frame_row / spatial, row = frame_row % spatial;
  const unsigned column = token * spatial + within % row_packs * kPack;
  const std::int64_t line = blockIdx.x, group = line / shape.height;
  const std::int64_t in_row = ((group * shape.temporal + frame) * shape.height + line % shape.height) * spatial + row;
  const X* from = frames + (in_row * width * spatial + column) * kRgb;
  Pack<X, kPack> in[kRgb];
#pragma unroll
  for (int k = 0; k < kRgb; ++k) in[k] = reinterpret_cast<const Pack<X, kPack>*>(from)[k];
  Y* to = y + ((line * width + token) * kRgb * plane + within) * kPack;
#pragma unroll
  for (int c = 0; c < kRgb; ++c) {
    Pack<Y, kPack> out;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const int element = j * kRgb + c;
      out.values[j] = from_float<Y>(value(in[element / kPack].values[element % kPack]));
    }
    *reinterpret_cast<Pack<Y, kPack>*>(to + std::int64_t{c} * plane * kPack) = out;
  }
}

// Any sides and channels: one element of the result at a time.
template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads) patches_kernel(const X* __restrict__ frames, Y* __restrict__ y,
                                                           DepthShape shape, std::int64_t elements, float limit) {
  const Values<X> value(limit);
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    std::int64_t rest = i;
    const auto next = [&rest](std::int64_t size) {
      const std::int64_t index = rest % size;
      rest /= size;
      return index;
    };
    const std::int64_t column = next(shape.spatial), row = next(shape.spatial), frame = next(shape.temporal);
    const std::int64_t c = next(shape.channels), x = next(shape.width), line = next(shape.height);
    const std::int64_t in_row = ((rest * shape.temporal + frame) * shape.height + line) * shape.spatial + row;
    const std::int64_t in_column = x * shape.spatial + column;
    y[i] = from_float<Y>(value(frames[(in_row * shape.width * shape.spatial + in_column) * shape.channels + c]));
  }
}

// Whether there is a kernel for it, which then runs.
template <typename Y>
bool launch_bytes(const std::uint8_t* frames, Y* y, const DepthShape& shape, cudaStream_t stream) {
  const auto power_of_two = [](std::int64_t x) { return std::has_single_bit(static_cast<std::uint64_t>(x)); };
  constexpr std::int64_t kMostBlocks = 65535, kMostRows = std::int64_t{1} << 31;
  const std::int64_t row_packs = shape.spatial / kPack, plane = shape.temporal * shape.spatial * row_packs;
  if (shape.channels != kRgb || shape.spatial < kPack || !power_of_two(shape.spatial) ||
      !power_of_two(shape.temporal) || shape.height > kMostBlocks || shape.groups > kMostBlocks ||
      shape.groups * shape.temporal * shape.height * shape.spatial >= kMostRows || shape.width * plane >= kMostRows ||
      !is_aligned<uint2>(frames) || !is_aligned<Octet<Y>>(y)) {
    return false;
  }
  const auto log2 = [](std::int64_t x) {
    return static_cast<unsigned>(std::countr_zero(static_cast<std::uint64_t>(x)));
  };
  const dim3 blocks(static_cast<unsigned>((shape.width * plane + kThreads - 1) / kThreads),
                    static_cast<unsigned>(shape.height), static_cast<unsigned>(shape.groups));
  byte_patches_kernel<Y><<<blocks, kThreads, 0, stream>>>(frames, y, static_cast<unsigned>(shape.width),
                                                          static_cast<unsigned>(shape.temporal), log2(shape.spatial),
                                                          log2(plane));
  return true;
}

template <typename X, typename Y>
cudaError_t launch(const X* frames, Y* y, const DepthShape& shape, float limit, cudaStream_t stream) {
  const std::int64_t elements =
      shape.groups * shape.height * shape.width * shape.channels * shape.temporal * shape.spatial * shape.spatial;
  if (elements == 0) return cudaSuccess;
  if constexpr (std::is_same_v<X, std::uint8_t>) {
    if (!(limit > 0) && launch_bytes(frames, y, shape, stream)) return cudaGetLastError();
  }
  if (shape.channels == kRgb && shape.spatial % kPack == 0 && is_aligned<Pack<X, kPack>>(frames) &&
      is_aligned<Pack<Y, kPack>>(y)) {
    const std::int64_t lines = shape.groups * shape.height, line_packs = elements / lines / (kRgb * kPack);
    const dim3 blocks(static_cast<unsigned>(lines), static_cast<unsigned>((line_packs + kThreads - 1) / kThreads));
    rgb_patches_kernel<X, Y><<<blocks, kThreads, 0, stream>>>(frames, y, shape, limit);
  } else {
    patches_kernel<X, Y><<<blocks_for(elements, kThreads), kThreads, 0, stream>>>(frames, y, shape, elements, limit);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_space_to_depth(const void* frames, DType frames_type, void* y, DType y_type, const DepthShape& shape,
                                  float limit, cudaStream_t stream) {
  return with_float_type(y_type, [&]<typename Y>(Y) {
    auto* to = static_cast<Y*>(y);
    if (frames_type == DType::u8) {
      return launch(static_cast<const std::uint8_t*>(frames), to, shape, limit, stream);
    }
    return with_float_type(
        frames_type, [&]<typename X>(X) { return launch(static_cast<const X*>(frames), to, shape, limit, stream); });
  });
}

}  // namespace flashvsr::cuda
