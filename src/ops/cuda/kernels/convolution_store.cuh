// How the Hopper convolution writes what a warpgroup has accumulated: bias, residual, activation, rounding.
#pragma once

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/convolution.h"
#include "ops/cuda/kernels/elements.cuh"

#include <cstdint>

namespace flashvsr::cuda {

// 8 x 16 pixels of a frame, the work of a warpgroup.
struct Half {
  int frame, y, x;
  bool valid;
};

__device__ __forceinline__ std::uint32_t packed(float2 value) {
  const __nv_bfloat162 pair = __float22bfloat162_rn(value);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Four threads hold a pair of columns of each of four groups of eight columns; afterwards thread i holds group i. Its
// own inverse.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4], int lane) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = lane & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const std::uint32_t given = upper ? words[i] : words[i | bit];
      const std::uint32_t taken = __shfl_xor_sync(0xffffffffu, given, bit);
      if (upper)
        words[i] = taken;
      else
        words[i | bit] = taken;
    }
  }
}

// One pass for each kind, so that the choice is made once and not for every element.
template <int Size>
__device__ __forceinline__ void activate_all(float (&d)[Size], Activation kind) {
  const auto apply = [&d]<Activation Kind>() {
#pragma unroll
    for (int i = 0; i < Size; ++i) d[i] = activate<Kind>(d[i]);
  };
  switch (kind) {
    case Activation::relu: return apply.template operator()<Activation::relu>();
    case Activation::silu: return apply.template operator()<Activation::silu>();
    case Activation::gelu_tanh: return apply.template operator()<Activation::gelu_tanh>();
    case Activation::none: break;
  }
}

// Where results of a half go: `phase` elements further than those of phase 0.
struct Place {
  Half half;
  std::int64_t phase;
  int n0;
};

// bf16 results, channels in multiples of 8: 64 contiguous bytes a pixel and store. d is 8 x 8 pixels by 128 channels.
__device__ __forceinline__ void store_wide(const ConvolutionArguments& c, float (&d)[64], const Place& place, int y0) {
  const Half& half = place.half;
  const int n0 = place.n0;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32, quad = lane % 4;
  const int x = half.x + lane / 4, y = y0 + 2 * warp, columns = c.out_channels - n0;
  const bool inside = half.valid && x < c.out_width;
  const std::int64_t pixel =
      half.frame * c.out_frame_stride + y * c.out_row_stride + x * c.out_column_stride + place.phase + n0;
  if (c.bias != nullptr) {
    const float2* bias = reinterpret_cast<const float2*>(c.bias + n0) + quad;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      const float2 value = 8 * j < columns ? __ldg(bias + 4 * j) : make_float2(0, 0);
      d[4 * j] += value.x, d[4 * j + 1] += value.y, d[4 * j + 2] += value.x, d[4 * j + 3] += value.y;
    }
  }
  if (c.residual != nullptr) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      // As results are written: all loads of 16 bytes are under way before the first is used.
      const bool row_inside = inside && y + h < c.out_height;
      const auto* const residual =
          static_cast<const __nv_bfloat16*>(c.residual) + pixel + h * c.out_row_stride + 8 * quad;
      uint4 loaded[4];
#pragma unroll
      for (int group = 0; group < 4; ++group) {
        loaded[group] = row_inside && 32 * group + 8 * quad < columns
                            ? __ldg(reinterpret_cast<const uint4*>(residual + 32 * group))
                            : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int group = 0; group < 4; ++group) {
        std::uint32_t words[4] = {loaded[group].x, loaded[group].y, loaded[group].z, loaded[group].w};
        transpose_quad(words, lane);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int j = 4 * group + i;
          const float2 value = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&words[i]));
          d[4 * j + 2 * h] += value.x, d[4 * j + 2 * h + 1] += value.y;
        }
      }
    }
  }
  activate_all(d, c.activation);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    auto* const out = static_cast<__nv_bfloat16*>(c.out) + pixel + h * c.out_row_stride + 8 * quad;
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = 4 * group + i;
        words[i] = packed(make_float2(d[4 * j + 2 * h], d[4 * j + 2 * h + 1]));
      }
      transpose_quad(words, lane);
      if (inside && y + h < c.out_height && 32 * group + 8 * quad < columns) {
        *reinterpret_cast<uint4*>(out + 32 * group) = make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

// Any result, one element at a time.
template <int Size>
__device__ __forceinline__ void store_single(const ConvolutionArguments& c, float (&d)[Size], const Place& place,
                                             int y0) {
  const Half& half = place.half;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int x = half.x + lane / 4;
  const auto visit = [&](const auto& function) {
#pragma unroll
    for (int i = 0; i < Size; ++i) {
      const int y = y0 + 2 * warp + i / 2 % 2, column = place.n0 + 8 * (i / 4) + 2 * (lane % 4) + i % 2;
      if (!half.valid || x >= c.out_width || y >= c.out_height || column >= c.out_channels) continue;
      function(d[i], column,
               half.frame * c.out_frame_stride + y * c.out_row_stride + x * c.out_column_stride + place.phase + column);
    }
  };
  if (c.bias != nullptr) visit([&](float& value, int column, std::int64_t) { value += c.bias[column]; });
  if (c.residual != nullptr) {
    visit([&](float& value, int, std::int64_t element) {
      value += c.residual_type == DType::f32 ? static_cast<const float*>(c.residual)[element]
                                             : to_float(static_cast<const __nv_bfloat16*>(c.residual)[element]);
    });
  }
  activate_all(d, c.activation);
  visit([&](float value, int, std::int64_t element) {
    if (c.out_type == DType::f32)
      static_cast<float*>(c.out)[element] = value;
    else
      static_cast<__nv_bfloat16*>(c.out)[element] = from_float<__nv_bfloat16>(value);
  });
}

}  // namespace flashvsr::cuda
