// What the convolution kernels of ordinary loads share: walking over the reduction, finding source pixels, and what is
// done to a sum before it is stored.
//
// A convolution is a product of [result pixels, taps * channels] and [out_channels, taps * channels]; the first matrix
// is never made, its rows are gathered chunk by chunk. A chunk lies in one tap and one source.
#pragma once

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/convolution.h"
#include "ops/cuda/kernels/elements.cuh"

namespace flashvsr::cuda {

// A result pixel as the source position of its first tap.
struct ConvolutionPixel {
  int frame = 0, y = 0, x = 0;
  bool exists = false;
};

__device__ __forceinline__ std::int64_t convolution_pixels(const ConvolutionArguments& a) {
  return std::int64_t{a.out_frames} * a.out_height * a.out_width;
}

// The pixel's first source position, and where its channels go in the result (-1: there is no such pixel).
__device__ __forceinline__ ConvolutionPixel convolution_pixel(const ConvolutionArguments& a, std::int64_t index) {
  if (index >= convolution_pixels(a)) return {};
  const std::int64_t row = index / a.out_width;
  const int x = static_cast<int>(index - row * a.out_width);
  const int frame = static_cast<int>(row / a.out_height);
  const int y = static_cast<int>(row - std::int64_t{frame} * a.out_height);
  return {frame * a.time_stride, y * a.stride - a.pad_top, x * a.stride - a.pad_left, true};
}

__device__ __forceinline__ std::int64_t convolution_offset(const ConvolutionArguments& a, std::int64_t index) {
  if (index >= convolution_pixels(a)) return -1;
  const std::int64_t row = index / a.out_width, x = index - row * a.out_width;
  const std::int64_t frame = row / a.out_height, y = row - frame * a.out_height;
  return frame * a.out_frame_stride + y * a.out_row_stride + x * a.out_column_stride;
}

// Walks over chunks of `Chunk` channels in the order of the weights: taps, sources, channels.
template <int Chunk>
struct ConvolutionCursor {
  int t = 0, i = 0, j = 0;
  int channel = 0;
  bool in_second = false;

  __device__ __forceinline__ int channels(const ConvolutionArguments& a) const {
    return in_second ? a.second_channels : a.first_channels;
  }

  // Returns true if the chunk lies in another tap or source than the one before it.
  __device__ __forceinline__ bool advance(const ConvolutionArguments& a) {
    channel += Chunk;
    if (channel < channels(a)) return false;
    channel = 0;
    if (!in_second && a.second_channels > 0) {
      in_second = true;
      return true;
    }
    in_second = false;
    if (++j == a.kw) {
      j = 0;
      if (++i == a.kh) {
        i = 0;
        ++t;
      }
    }
    return true;
  }

  // The channels of the source pixel under the current tap; none where zeros lie around the frame.
  template <typename T>
  __device__ __forceinline__ const T* source(const ConvolutionArguments& a, const ConvolutionPixel& pixel) const {
    if (!pixel.exists || t >= a.kt) return nullptr;
    int frame = pixel.frame + t, y = pixel.y + i, x = pixel.x + j;
    if (a.padding == ConvolutionPadding::edge) {
      y = min(max(y, 0), a.height - 1);
      x = min(max(x, 0), a.width - 1);
    } else if (y < 0 || y >= a.height || x < 0 || x >= a.width) {
      return nullptr;
    }
    const void* frames = in_second ? a.second : a.first;
    if (frame < a.front_frames) {
      frames = a.front;
    } else {
      frame -= a.front_frames;
    }
    return static_cast<const T*>(frames) + ((std::int64_t{frame} * a.height + y) * a.width + x) * channels(a);
  }
};

__device__ __forceinline__ int convolution_chunks(const ConvolutionArguments& a, int chunk) {
  return a.kt * a.kh * a.kw * ((a.first_channels + chunk - 1) / chunk + (a.second_channels + chunk - 1) / chunk);
}

// Bias, residual and activation.
__device__ __forceinline__ float finished(const ConvolutionArguments& a, std::int64_t offset, int channel, float sum) {
  if (a.bias) sum += a.bias[channel];
  if (a.residual) {
    sum += a.residual_type == DType::f32 ? static_cast<const float*>(a.residual)[offset + channel]
                                         : to_float(static_cast<const __nv_bfloat16*>(a.residual)[offset + channel]);
  }
  return activate(sum, a.activation);
}

__device__ __forceinline__ void store_finished(const ConvolutionArguments& a, std::int64_t offset, int channel,
                                               float sum) {
  const float value = finished(a, offset, channel, sum);
  if (a.out_type == DType::f32) {
    static_cast<float*>(a.out)[offset + channel] = value;
  } else {
    static_cast<__nv_bfloat16*>(a.out)[offset + channel] = from_float<__nv_bfloat16>(value);
  }
}

}  // namespace flashvsr::cuda
