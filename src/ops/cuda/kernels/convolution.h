// Convolutions of channels-last frames, in two and three dimensions, in one description for all kernels.
//
// result[f, y, x, o] = activation(bias[o] + residual[f, y, x, o] + sum over taps (t, i, j) and channels c of
//   weight[o, t, i, j, c] * source[f * time_stride + t, y * stride + i - pad_top, x * stride + j - pad_left, c])
//
// Source frames are `front_frames` frames of `front`, then those of `first`; the channels are those of `first`, then
// those of `second`. Positions outside of a frame hold zeros, or the nearest value of the frame.
#pragma once

#include "core/dtype.h"
#include "ops/cuda/kernels/activation.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// In the order of ops::Padding.
enum class ConvolutionPadding : std::uint8_t { zeros, edge };

struct ConvolutionArguments {
  // Of the sources and the weights: f32 or bf16.
  DType type = DType::bf16;
  const void* first = nullptr;   // [frames, height, width, first_channels]
  const void* second = nullptr;  // [frames, height, width, second_channels], or none
  const void* front = nullptr;   // [front_frames, height, width, first_channels], or none; never with `second`
  int first_channels = 0, second_channels = 0;
  int frames = 0, front_frames = 0, height = 0, width = 0;

  int kt = 1, kh = 1, kw = 1;
  int time_stride = 1, stride = 1;
  int pad_top = 0, pad_left = 0;  // what lies below and to the right follows from the size of the result
  ConvolutionPadding padding = ConvolutionPadding::zeros;

  // The result's element (f, y, x, o) lies at out + f * frame stride + y * row stride + x * column stride + o, in
  // elements; those of the residual alike.
  void* out = nullptr;
  DType out_type = DType::bf16;
  int out_frames = 0, out_height = 0, out_width = 0, out_channels = 0;
  std::int64_t out_frame_stride = 0, out_row_stride = 0, out_column_stride = 0;

  // 1, or 4: as many convolutions of the same source, the weights of one behind those of the other. Phase i, row i / 2
  // and column i % 2 of each 2 x 2 results, has pad_top - i / 2 and pad_left - i % 2, and writes i / 2 row strides and
  // i % 2 column strides of a phase behind `out`.
  int phases = 1;
  std::int64_t phase_row_stride = 0, phase_column_stride = 0;

  const float* bias = nullptr;     // [out_channels], or none
  const void* residual = nullptr;  // or none
  DType residual_type = DType::bf16;
  Activation activation = Activation::none;
};

// Weights of the plain and portable kernels are K-major: [out_channels][kt * kh * kw][channels], the channels of the
// first source, then those of the second, each padded with zeros to a multiple of the kernel's granule.
constexpr int padded_channels(int channels, int granule) { return (channels + granule - 1) / granule * granule; }

}  // namespace flashvsr::cuda
