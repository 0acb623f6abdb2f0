// Convolutions of any shape in f32 arithmetic: true f32, and bf16 shapes that the tensor cores cannot be fed with.
#pragma once

#include "ops/cuda/kernels/convolution.h"

namespace flashvsr::cuda {

// Channels of each source in the weights are padded to a multiple of this.
inline constexpr int kPlainConvolutionGranule = 16;

// weights: see convolution.h, of arguments.type.
cudaError_t launch_convolution_plain(const ConvolutionArguments& arguments, const void* weights, cudaStream_t stream);

}  // namespace flashvsr::cuda
