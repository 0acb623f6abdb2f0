// What both directions between RGB and semi-planar images share.
#pragma once

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"
#include "ops/cuda/kernels/semi_planar.h"

namespace flashvsr::cuda {

// Pixels of a row that one thread converts: whole words of RGB.
inline constexpr int kQuad = 4;
inline constexpr int kQuadBytes = kQuad * kRgb;
inline constexpr int kBlockColumns = 32, kBlockRows = 8;  // threads

// Of a code inside a sample.
template <typename Sample>
inline constexpr int kCodeShift = sizeof(Sample) == 2 ? 6 : 0;

// Count samples from `row` on; one access where rows are aligned.
template <int Count, bool Aligned, typename Sample>
__device__ __forceinline__ Pack<Sample, Count> load_samples(const Sample* row, std::int64_t first) {
  if constexpr (Aligned) {
    return *reinterpret_cast<const Pack<Sample, Count>*>(row + first);
  } else {
    Pack<Sample, Count> pack;
#pragma unroll
    for (int i = 0; i < Count; ++i) pack.values[i] = row[first + i];
    return pack;
  }
}

// Whether quads of luma, pairs of chroma and quads of RGB start at multiples of their sizes in all rows.
template <typename Sample>
bool is_aligned_in_quads(const SemiPlanar& image, const std::uint8_t* rgb) {
  using Quad = Pack<Sample, kQuad>;
  return image.width % kQuad == 0 && is_aligned<std::uint32_t>(rgb) && is_aligned<Quad>(image.luma) &&
         is_aligned<Quad>(image.chroma) && image.luma_stride % static_cast<std::int64_t>(sizeof(Quad)) == 0 &&
         image.chroma_stride % static_cast<std::int64_t>(sizeof(Quad)) == 0;
}

// A grid of blocks over quads and rows; kernels stride over rows beyond it.
inline dim3 grid_over(int width, int rows) {
  const auto blocks = [](int count, int size) { return static_cast<unsigned>((count + size - 1) / size); };
  constexpr unsigned kMostRows = 32768;
  const unsigned y = blocks(rows, kBlockRows);
  return {blocks(width, kQuad * kBlockColumns), y < kMostRows ? y : kMostRows, 1};
}

// The first status that is no success.
template <typename... Kernels>
cudaError_t load_kernels(Kernels... kernels) {
  cudaFuncAttributes attributes;
  cudaError_t status = cudaSuccess;
  (void)(((status = cudaFuncGetAttributes(&attributes, kernels)) == cudaSuccess) && ...);
  return status;
}

}  // namespace flashvsr::cuda
