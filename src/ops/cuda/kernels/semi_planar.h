// NV12 and P010 in device memory to RGB and back, bit for bit as on the CPU (core/color_conversion.h). Pointers are to
// device memory.
#pragma once

#include "core/color_conversion.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// Samples of 8 bits, or the upper 10 of 16 bits; chroma of 4:2:0, Cb and Cr in turns.
struct SemiPlanar {
  std::uint8_t *luma, *chroma;
  std::int64_t luma_stride, chroma_stride;  // bytes
  int width, height;
  bool ten_bits;
  ChromaSiting siting;

  FLASHVSR_HOST_DEVICE int chroma_width() const { return (width + 1) / 2; }
  FLASHVSR_HOST_DEVICE int chroma_height() const { return (height + 1) / 2; }
};

// Loads the kernels: the first launch of a kernel that is not there yet waits for all work of the device.
cudaError_t load_semi_planar_to_rgb();
cudaError_t load_rgb_to_semi_planar();

// -> [height, width, 3]
cudaError_t launch_semi_planar_to_rgb(const SemiPlanar& image, const RgbFromYcc& conversion, std::uint8_t* rgb,
                                      cudaStream_t stream);

// [height, width, 3] -> image; siting left or center.
cudaError_t launch_rgb_to_semi_planar(const std::uint8_t* rgb, const YccFromRgb& conversion, const SemiPlanar& image,
                                      cudaStream_t stream);

}  // namespace flashvsr::cuda
