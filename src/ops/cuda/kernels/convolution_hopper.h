// Convolutions on Hopper's tensor cores: implicit products of pixels and weights.
#pragma once

#include "ops/cuda/kernels/convolution.h"

#include <cuda_bf16.h>

namespace flashvsr::cuda {

// Weights for launch_convolution_hopper: bf16 [rows][kt][chunks][kh * kw][64]; a chunk is 64 channels of one source,
// padded with zeros, those of the first source first; rows are output channels, padded with zeros.
struct HopperWeightLayout {
  int rows = 0, kt = 0, chunks = 0, taps = 0;
  // Channels of the first source start at chunk 0, those of the second at this one.
  int second_chunk = 0;

  std::int64_t columns() const { return std::int64_t{kt} * chunks * taps * 64; }
};
HopperWeightLayout hopper_weight_layout(const ConvolutionArguments& arguments);

// bf16 sources without `front`, zero padding, stride 1 in space, kernels up to 3 x 3, channels in multiples of 8.
bool convolution_hopper_supports(const ConvolutionArguments& arguments);

cudaError_t launch_convolution_hopper(const ConvolutionArguments& arguments, const __nv_bfloat16* weights,
                                      int multiprocessors, cudaStream_t stream);

}  // namespace flashvsr::cuda
