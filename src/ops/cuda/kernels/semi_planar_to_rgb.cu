#include "ops/cuda/kernels/semi_planar.cuh"

namespace flashvsr::cuda {
namespace {

struct Chroma {
  float cb, cr;
};

__device__ __forceinline__ Chroma blend(const Chroma& first, const Chroma& second, float second_weight) {
  return {between(first.cb, second.cb, second_weight), between(first.cr, second.cr, second_weight)};
}

// Four pixels of a row a thread.
template <typename Sample, bool Aligned>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    semi_planar_to_rgb_kernel(SemiPlanar image, RgbFromYcc conversion, std::uint8_t* __restrict__ rgb) {
  const int x = (static_cast<int>(blockIdx.x) * kBlockColumns + static_cast<int>(threadIdx.x)) * kQuad;
  if (x >= image.width) return;
  const int columns = image.chroma_width();
  const bool centered = image.siting == ChromaSiting::center,
             vertically_between = image.siting != ChromaSiting::top_left;
  const auto step = static_cast<int>(gridDim.y) * kBlockRows;
  for (int y = static_cast<int>(blockIdx.y) * kBlockRows + static_cast<int>(threadIdx.y); y < image.height; y += step) {
    const ChromaTap rows = chroma_tap(y, image.chroma_height(), 1, vertically_between);
    const auto* first = reinterpret_cast<const Sample*>(image.chroma + rows.first * image.chroma_stride);
    const auto* second = reinterpret_cast<const Sample*>(image.chroma + rows.second * image.chroma_stride);
    // The sample before the first pixel's to the one behind the last one's; the border's is repeated.
    Chroma chroma[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = min(max(x / 2 - 1 + i, 0), columns - 1);
      const auto upper = load_samples<2, Aligned>(first, 2 * column);
      const auto lower = load_samples<2, Aligned>(second, 2 * column);
      constexpr int kShift = kCodeShift<Sample>;
      chroma[i] = blend({static_cast<float>(upper.values[0] >> kShift), static_cast<float>(upper.values[1] >> kShift)},
                        {static_cast<float>(lower.values[0] >> kShift), static_cast<float>(lower.values[1] >> kShift)},
                        rows.second_weight);
    }
    const auto* luma = reinterpret_cast<const Sample*>(image.luma + y * image.luma_stride);
    Pack<Sample, kQuad> levels;
    if constexpr (Aligned) {
      levels = load_samples<kQuad, true>(luma, x);
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) levels.values[i] = luma[min(x + i, image.width - 1)];
    }
    alignas(4) std::uint8_t bytes[kQuadBytes];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const bool odd = i % 2 == 1;
      const int own = 1 + i / 2;
      const Chroma at = centered ? blend(chroma[own], chroma[odd ? own + 1 : own - 1], 0.25f)
                                 : blend(chroma[own], chroma[own + 1], odd ? 0.5f : 0.0f);
      const RgbPixel pixel =
          rgb_pixel(conversion, static_cast<float>(levels.values[i] >> kCodeShift<Sample>), at.cb, at.cr);
      bytes[kRgb * i] = pixel.red;
      bytes[kRgb * i + 1] = pixel.green;
      bytes[kRgb * i + 2] = pixel.blue;
    }
    std::uint8_t* out = rgb + (std::int64_t{y} * image.width + x) * kRgb;
    if constexpr (Aligned) {
#pragma unroll
      for (int i = 0; i < kRgb; ++i) {
        reinterpret_cast<std::uint32_t*>(out)[i] = reinterpret_cast<const std::uint32_t*>(bytes)[i];
      }
    } else {
      const int count = min(kQuad, image.width - x) * kRgb;
#pragma unroll
      for (int i = 0; i < kQuadBytes; ++i) {
        if (i < count) out[i] = bytes[i];
      }
    }
  }
}

template <typename Sample>
cudaError_t launch(const SemiPlanar& image, const RgbFromYcc& conversion, std::uint8_t* rgb, cudaStream_t stream) {
  const dim3 grid = grid_over(image.width, image.height), block{kBlockColumns, kBlockRows, 1};
  if (is_aligned_in_quads<Sample>(image, rgb)) {
    semi_planar_to_rgb_kernel<Sample, true><<<grid, block, 0, stream>>>(image, conversion, rgb);
  } else {
    semi_planar_to_rgb_kernel<Sample, false><<<grid, block, 0, stream>>>(image, conversion, rgb);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t load_semi_planar_to_rgb() {
  return load_kernels(semi_planar_to_rgb_kernel<std::uint8_t, false>, semi_planar_to_rgb_kernel<std::uint8_t, true>,
                      semi_planar_to_rgb_kernel<std::uint16_t, false>, semi_planar_to_rgb_kernel<std::uint16_t, true>);
}

cudaError_t launch_semi_planar_to_rgb(const SemiPlanar& image, const RgbFromYcc& conversion, std::uint8_t* rgb,
                                      cudaStream_t stream) {
  return image.ten_bits ? launch<std::uint16_t>(image, conversion, rgb, stream)
                        : launch<std::uint8_t>(image, conversion, rgb, stream);
}

}  // namespace flashvsr::cuda
