// Nearest upsampling merged with the convolutions after it: each phase of the result is a 2x2 convolution of the source
// (ops/merged_upsampling.h), written with strides of two rows and two columns.
#include "ops/cuda/convolution.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/convolution.h"
#include "ops/merged_upsampling.h"

namespace flashvsr::ops {

Tensor CudaOperations::upsample_merged(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                       std::int64_t frame, Activation activation) {
  const std::int64_t images = x.dim(0), height = x.dim(1), width = x.dim(2), out = conv.weight.dim(0);
  const std::int64_t frames = grow ? grow.dim(0) / x.dim(3) : 1;
  cuda::ConvolutionArguments arguments{.type = x.dtype(),
                                       .first = x.raw(),
                                       .first_channels = static_cast<int>(x.dim(3)),
                                       .frames = static_cast<int>(images),
                                       .height = static_cast<int>(height),
                                       .width = static_cast<int>(width),
                                       .kh = 2,
                                       .kw = 2,
                                       .out_type = settings_.compute,
                                       .out_frames = static_cast<int>(images),
                                       .out_height = static_cast<int>(height),
                                       .out_width = static_cast<int>(width),
                                       .out_channels = static_cast<int>(out),
                                       .out_frame_stride = 4 * height * width * out,
                                       .out_row_stride = 4 * width * out,
                                       .out_column_stride = 2 * out,
                                       .bias = conv.bias ? on_device(conv.bias, DType::f32).data<float>() : nullptr,
                                       .activation = static_cast<cuda::Activation>(activation)};
  const Tensor result = allocate({images, 2 * height, 2 * width, out}, settings_.compute);
  arguments.pad_top = arguments.pad_left = 1;
  arguments.phases = static_cast<int>(kUpsamplingPhases);
  arguments.phase_row_stride = 2 * width * out;
  arguments.phase_column_stride = out;
  arguments.out = result.mutable_raw();
  convolve(arguments,
           {.weight = conv.weight, .grow = grow, .upsampled_frames = frames, .part = frame * kUpsamplingPhases});
  return result;
}

Tensor CudaOperations::do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) {
  return upsample_merged(x, {}, conv, 0, activation);
}

Tensor CudaOperations::do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                               std::int64_t frame, Activation activation) {
  return upsample_merged(x, grow, conv, frame, activation);
}

}  // namespace flashvsr::ops
