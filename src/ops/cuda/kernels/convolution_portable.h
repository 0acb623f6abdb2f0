// Convolutions on the tensor cores of any device, bf16 with f32 sums.
#pragma once

#include "ops/cuda/kernels/convolution.h"

namespace flashvsr::cuda {

// Channels of each source in the weights are padded to a multiple of this.
inline constexpr int kPortableConvolutionGranule = 32;

// bf16, channels in multiples of eight, sources aligned to 16 bytes; any kernel, stride, padding and result.
bool convolution_portable_supports(const ConvolutionArguments& arguments);

// weights: see convolution.h, bf16, 16-byte aligned.
cudaError_t launch_convolution_portable(const ConvolutionArguments& arguments, const void* weights,
                                        cudaStream_t stream);

}  // namespace flashvsr::cuda
