// Which kernels convolutions of the CUDA back end use, and their weights, wherever they come from.
#pragma once

#include "core/parameter.h"
#include "ops/cuda/device.h"

#include <cstdint>

namespace flashvsr::ops {

// The most special kernels that convolutions may use; what these cannot do is done by more general ones.
enum class ConvolutionPath : std::uint8_t { plain, portable, hopper };

// The best that the device has, or what FLASHVSR_CUDA_CONVOLUTION names. Throws Error(invalid_argument) if it names
// nothing that the device has.
ConvolutionPath chosen_convolution_path(const cuda::Device& device);

// Kept on the device, packed for the kernels that were used ([out][taps][padded channels], kernels/convolution.h).
struct ConvolutionWeights {
  Parameter weight;                  // [out, channels of all sources, (kt,) kh, kw]
  std::int64_t second_channels = 0;  // of the channels, the last ones

  // Where upsampled_frames > 0: weight is [out, C, 3, 3] and is merged with nearest upsampling and, if there is one,
  // the 1x1 weight grow [upsampled_frames * C, C, 1, 1] into 2x2 convolutions (ops/merged_upsampling.h), of which this
  // is number `part` = 4 * frame + phase.
  Parameter grow = {};
  std::int64_t upsampled_frames = 0, part = 0;
};

}  // namespace flashvsr::ops
