// The low pass is linear, so low(reference) - low(video) = low(reference - video): one image to filter instead of two.
// It is a product of a filter along rows and one along columns, which commute, edges included: all five levels along
// rows first, then all five along columns, each in shared memory.
#include "ops/cuda/kernels/wavelet.h"

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kLevels = 5;
// Pixels on either side that a result depends on: 1 + 2 + 4 + 8 + 16.
constexpr int kReach = (1 << kLevels) - 1;

__device__ __forceinline__ float low_pass(float a, float b, float c) { return 0.25f * (a + c) + 0.5f * b; }

// ---------------------------------------------------------------------------------------------------- along rows

constexpr int kRowThreads = 256;
constexpr int kRowPixels = 512;  // of the result, a block
constexpr int kRowValues = (kRowPixels + 2 * kReach) * kRgb;

// Grid: rows, parts of a row. across = filtered (reference - video).
__global__ void __launch_bounds__(kRowThreads)
    low_pass_rows_kernel(const float* __restrict__ video, const std::uint8_t* __restrict__ reference,
                         float* __restrict__ across, std::int64_t width) {
  __shared__ float buffers[2][kRowValues];
  const std::int64_t row = std::int64_t{blockIdx.x} * width * kRgb;
  const std::int64_t begin = std::int64_t{blockIdx.y} * kRowPixels;
  // Pixels [low, high) of the row lie in the buffers.
  const std::int64_t low = begin < kReach ? 0 : begin - kReach;
  const std::int64_t high = begin + kRowPixels + kReach < width ? begin + kRowPixels + kReach : width;
  // In values from `low` on: where the block's result and the frame's edges lie.
  const int first = static_cast<int>(begin - low) * kRgb, values = static_cast<int>(high - low) * kRgb;
  const int count = static_cast<int>(width - begin < kRowPixels ? width - begin : kRowPixels) * kRgb;
  for (int i = static_cast<int>(threadIdx.x); i < values; i += kRowThreads) {
    const std::int64_t at = row + low * kRgb + i;
    buffers[0][i] = video_value(reference[at]) - video[at];
  }
#pragma unroll
  for (int level = 0; level < kLevels; ++level) {
    __syncthreads();
    const float* from = buffers[level % 2];
    float* to = buffers[1 - level % 2];
    const int step = (1 << level) * kRgb;
    // Later levels still reach this far.
    const int reach = (kReach - ((2 << level) - 1)) * kRgb;
    const int end = first + count + reach < values ? first + count + reach : values;
    for (int i = (first > reach ? first - reach : 0) + static_cast<int>(threadIdx.x); i < end; i += kRowThreads) {
      // What is beyond the buffers is beyond the frame, whose edges repeat.
      const float left = from[i >= step ? i - step : i % kRgb];
      const float right = from[i + step < values ? i + step : values - kRgb + i % kRgb];
      const float result = low_pass(left, from[i], right);
      if (level == kLevels - 1) {
        across[row + low * kRgb + i] = result;
      } else {
        to[i] = result;
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------- along columns

constexpr int kColumns = 32;  // values of a row, a block: one a lane
constexpr int kWarps = 8;
constexpr int kRows = 128;  // of the result, a block
constexpr int kBufferRows = kRows + 2 * kReach;

// Grid: parts of a row, parts of a column, frames. result = clamp(video + filtered across).
__global__ void __launch_bounds__(kColumns* kWarps)
    low_pass_columns_kernel(const float* __restrict__ video, const float* __restrict__ across,
                            float* __restrict__ result, std::int64_t height, std::int64_t row_values) {
  __shared__ float buffers[2][kBufferRows][kColumns];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t column = std::int64_t{blockIdx.x} * kColumns + lane;
  const bool there = column < row_values;
  const std::int64_t begin = std::int64_t{blockIdx.y} * kRows, frame = std::int64_t{blockIdx.z} * height;
  // Rows [low, high) of the frame lie in the buffers.
  const std::int64_t low = begin < kReach ? 0 : begin - kReach;
  const std::int64_t high = begin + kRows + kReach < height ? begin + kRows + kReach : height;
  const int first = static_cast<int>(begin - low), rows = static_cast<int>(high - low);
  const int count = static_cast<int>(height - begin < kRows ? height - begin : kRows);
#pragma unroll 4
  for (int y = warp; y < rows; y += kWarps) {
    buffers[0][y][lane] = there ? across[(frame + low + y) * row_values + column] : 0.0f;
  }
#pragma unroll
  for (int level = 0; level < kLevels; ++level) {
    __syncthreads();
    const auto& from = buffers[level % 2];
    auto& to = buffers[1 - level % 2];
    const int step = 1 << level, reach = kReach - ((2 << level) - 1);
    const int lower = first > reach ? first - reach : 0;
    const int upper = first + count + reach < rows ? first + count + reach : rows;
    // A warp goes along a chain of rows that are a step apart and reads each of them once. There are `step` chains,
    // which are cut or shared out so that there is one piece or more for every warp.
    const int pieces = step < kWarps ? kWarps / step : 1;
    const int links = (upper - lower + step - 1) / step, piece = (links + pieces - 1) / pieces;
    for (int chain = warp % (step < kWarps ? step : kWarps); chain < step; chain += kWarps) {
      const int y_begin = lower + chain + (step < kWarps ? warp / step : 0) * piece * step;
      const int y_end = y_begin + piece * step < upper ? y_begin + piece * step : upper;
      if (y_begin >= y_end) continue;
      // What is beyond the buffers is beyond the frame, whose edges repeat.
      float above = from[y_begin >= step ? y_begin - step : 0][lane], here = from[y_begin][lane];
      for (int y = y_begin; y < y_end; y += step) {
        const float below = from[y + step < rows ? y + step : rows - 1][lane];
        const float low_band = low_pass(above, here, below);
        if (level < kLevels - 1) {
          to[y][lane] = low_band;
        } else if (there) {
          const std::int64_t at = (frame + low + y) * row_values + column;
          result[at] = fminf(fmaxf(video[at] + low_band, -1.0f), 1.0f);
        }
        above = here;
        here = below;
      }
    }
  }
}

}  // namespace

cudaError_t launch_wavelet(const float* video, const std::uint8_t* reference, float* result, std::int64_t frames,
                           std::int64_t height, std::int64_t width, float* across, cudaStream_t stream) {
  if (frames == 0) return cudaSuccess;
  const auto parts = [](std::int64_t items, std::int64_t per_part) {
    return static_cast<unsigned>((items + per_part - 1) / per_part);
  };
  const dim3 rows(static_cast<unsigned>(frames * height), parts(width, kRowPixels));
  low_pass_rows_kernel<<<rows, kRowThreads, 0, stream>>>(video, reference, across, width);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) return status;
  const dim3 columns(parts(width * kRgb, kColumns), parts(height, kRows), static_cast<unsigned>(frames));
  low_pass_columns_kernel<<<columns, dim3(kColumns, kWarps), 0, stream>>>(video, across, result, height, width * kRgb);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
