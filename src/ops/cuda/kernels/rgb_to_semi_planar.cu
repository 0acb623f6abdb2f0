#include "ops/cuda/kernels/semi_planar.cuh"

namespace flashvsr::cuda {
namespace {

// RGB of a pixel before the quad, and of the quad's; columns beyond the border repeat it.
template <bool Aligned>
__device__ __forceinline__ void load_pixels(const std::uint8_t* row, int x, int width,
                                            std::uint8_t (&bytes)[kRgb + kQuadBytes]) {
  const std::uint8_t* before = row + std::int64_t{max(x - 1, 0)} * kRgb;
#pragma unroll
  for (int i = 0; i < kRgb; ++i) bytes[i] = before[i];
  if constexpr (Aligned) {
    alignas(4) std::uint8_t quad[kQuadBytes];
#pragma unroll
    for (int i = 0; i < kRgb; ++i) {
      reinterpret_cast<std::uint32_t*>(quad)[i] =
          reinterpret_cast<const std::uint32_t*>(row + std::int64_t{x} * kRgb)[i];
    }
#pragma unroll
    for (int i = 0; i < kQuadBytes; ++i) bytes[kRgb + i] = quad[i];
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const std::uint8_t* pixel = row + std::int64_t{min(x + i, width - 1)} * kRgb;
#pragma unroll
      for (int c = 0; c < kRgb; ++c) bytes[kRgb + i * kRgb + c] = pixel[c];
    }
  }
}

// Four pixels of two rows, which share two samples of chroma, a thread.
template <typename Sample, bool Aligned>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    rgb_to_semi_planar_kernel(const std::uint8_t* __restrict__ rgb, YccFromRgb conversion, SemiPlanar image) {
  using rounded::add;
  using rounded::multiply;
  const int x = (static_cast<int>(blockIdx.x) * kBlockColumns + static_cast<int>(threadIdx.x)) * kQuad;
  if (x >= image.width) return;
  const bool centered = image.siting == ChromaSiting::center;
  const int last = image.width - 1;
  ChromaColumns taps[2];
#pragma unroll
  for (int s = 0; s < 2; ++s) taps[s] = chroma_columns(x / 2 + s, image.width, centered);
  const auto step = static_cast<int>(gridDim.y) * kBlockRows;
  for (int chroma_y = static_cast<int>(blockIdx.y) * kBlockRows + static_cast<int>(threadIdx.y);
       chroma_y < image.chroma_height(); chroma_y += step) {
    float cb_sum[2] = {0.0f, 0.0f}, cr_sum[2] = {0.0f, 0.0f};
    const int rows = min(2, image.height - 2 * chroma_y);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (r >= rows) break;
      const std::int64_t y = 2 * std::int64_t{chroma_y} + r;
      std::uint8_t bytes[kRgb + kQuadBytes];
      load_pixels<Aligned>(rgb + y * image.width * kRgb, x, image.width, bytes);
      // Blue and red minus luma.
      float blue[1 + kQuad], red[1 + kQuad];
      Pack<Sample, kQuad> luma;
#pragma unroll
      for (int i = 0; i < 1 + kQuad; ++i) {
        const auto r8 = static_cast<float>(bytes[kRgb * i]), g8 = static_cast<float>(bytes[kRgb * i + 1]),
                   b8 = static_cast<float>(bytes[kRgb * i + 2]);
        const float level = luma_level(conversion, r8, g8, b8);
        blue[i] = add(b8, -level);
        red[i] = add(r8, -level);
        if (i > 0) {
          luma.values[i - 1] = static_cast<Sample>(luma_code(conversion, level) << kCodeShift<Sample>);
        }
      }
      auto* luma_row = reinterpret_cast<Sample*>(image.luma + y * image.luma_stride) + x;
      if constexpr (Aligned) {
        *reinterpret_cast<Pack<Sample, kQuad>*>(luma_row) = luma;
      } else {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) {
          if (x + i <= last) luma_row[i] = luma.values[i];
        }
      }
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const int own = 1 + 2 * s;
        // The columns of chroma_columns, by their places here; behind the border the own one's.
        const bool pair = x + 2 * s < last;
        const float next_blue = pair ? blue[own + 1] : blue[own], next_red = pair ? red[own + 1] : red[own];
        const float blues[3] = {centered ? blue[own] : blue[own - 1], centered ? next_blue : blue[own], next_blue};
        const float reds[3] = {centered ? red[own] : red[own - 1], centered ? next_red : red[own], next_red};
#pragma unroll
        for (int tap = 0; tap < 3; ++tap) {
          cb_sum[s] = add(cb_sum[s], multiply(taps[s].weights[tap], blues[tap]));
          cr_sum[s] = add(cr_sum[s], multiply(taps[s].weights[tap], reds[tap]));
        }
      }
    }
    Pack<Sample, 4> chroma;
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      const float inverse = multiply(rows == 2 ? 0.5f : 1.0f, taps[s].inverse_sum);
      const unsigned cb = chroma_code(conversion, multiply(cb_sum[s], inverse), conversion.cb_scale);
      const unsigned cr = chroma_code(conversion, multiply(cr_sum[s], inverse), conversion.cr_scale);
      chroma.values[2 * s] = static_cast<Sample>(cb << kCodeShift<Sample>);
      chroma.values[2 * s + 1] = static_cast<Sample>(cr << kCodeShift<Sample>);
    }
    auto* chroma_row = reinterpret_cast<Sample*>(image.chroma + chroma_y * image.chroma_stride) + x;
    if constexpr (Aligned) {
      *reinterpret_cast<Pack<Sample, 4>*>(chroma_row) = chroma;
    } else {
      const int count = 2 * min(2, image.chroma_width() - x / 2);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i < count) chroma_row[i] = chroma.values[i];
      }
    }
  }
}

template <typename Sample>
cudaError_t launch(const std::uint8_t* rgb, const YccFromRgb& conversion, const SemiPlanar& image,
                   cudaStream_t stream) {
  const dim3 grid = grid_over(image.width, image.chroma_height()), block{kBlockColumns, kBlockRows, 1};
  if (is_aligned_in_quads<Sample>(image, rgb)) {
    rgb_to_semi_planar_kernel<Sample, true><<<grid, block, 0, stream>>>(rgb, conversion, image);
  } else {
    rgb_to_semi_planar_kernel<Sample, false><<<grid, block, 0, stream>>>(rgb, conversion, image);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t load_rgb_to_semi_planar() {
  return load_kernels(rgb_to_semi_planar_kernel<std::uint8_t, false>, rgb_to_semi_planar_kernel<std::uint8_t, true>,
                      rgb_to_semi_planar_kernel<std::uint16_t, false>, rgb_to_semi_planar_kernel<std::uint16_t, true>);
}

cudaError_t launch_rgb_to_semi_planar(const std::uint8_t* rgb, const YccFromRgb& conversion, const SemiPlanar& image,
                                      cudaStream_t stream) {
  return image.ten_bits ? launch<std::uint16_t>(rgb, conversion, image, stream)
                        : launch<std::uint8_t>(rgb, conversion, image, stream);
}

}  // namespace flashvsr::cuda
