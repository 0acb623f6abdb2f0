// Convolutions to very few channels on Hopper (the last one of a decoder: 128 channels to RGB).
#pragma once

#include "ops/cuda/kernels/convolution.h"

#include <cuda_bf16.h>

namespace flashvsr::cuda {

inline constexpr int kNarrowConvolutionRows = 32;

// As the general kernel, besides: one source, no residual, kt = 1, at most 512 channels, and out_channels * kh * kw at
// most 32.
bool convolution_narrow_hopper_supports(const ConvolutionArguments& arguments);

// weights: bf16 [32][channels in multiples of 64], row tap * out_channels + o, padded with zeros.
cudaError_t launch_convolution_narrow_hopper(const ConvolutionArguments& arguments, const __nv_bfloat16* weights,
                                             int multiprocessors, cudaStream_t stream);

}  // namespace flashvsr::cuda
