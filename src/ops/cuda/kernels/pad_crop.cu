#include "ops/cuda/kernels/pad_crop.h"

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 128;

// All sizes across are in units: the largest of 1, 2, 4, 8 and 16 bytes that everything is a multiple of.
struct Copy {
  std::int64_t in_height, in_row;  // rows of a frame, units of a row
  std::int64_t height, row;
  std::int64_t top, left;  // of the copied part in the input
  std::int64_t pixel;      // units of a pixel
};

// One block a row of the output; rows and columns beyond the input repeat its last ones. Count units are written at
// once.
template <typename Unit, int Count>
__global__ void __launch_bounds__(kThreads)
    copy_rows_kernel(const Unit* __restrict__ in, Unit* __restrict__ out, Copy copy) {
  const std::int64_t frame = blockIdx.x / copy.height, y = copy.top + blockIdx.x % copy.height;
  const std::int64_t in_y = y < copy.in_height ? y : copy.in_height - 1;
  const Unit* from = in + (frame * copy.in_height + in_y) * copy.in_row;
  Unit* to = out + std::int64_t{blockIdx.x} * copy.row;
  for (std::int64_t i = std::int64_t{threadIdx.x} * Count; i < copy.row; i += kThreads * Count) {
    Pack<Unit, Count> pack;
#pragma unroll
    for (int j = 0; j < Count; ++j) {
      std::int64_t x = copy.left + i + j;
      if (x >= copy.in_row) x = copy.in_row - copy.pixel + x % copy.pixel;
      pack.values[j] = from[x];
    }
    *reinterpret_cast<Pack<Unit, Count>*>(to + i) = pack;
  }
}

template <typename Unit, int Count>
cudaError_t launch(const void* in, void* out, std::int64_t rows, const Copy& copy, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  copy_rows_kernel<Unit, Count><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(static_cast<const Unit*>(in),
                                                                                      static_cast<Unit*>(out), copy);
  return cudaGetLastError();
}

// `copy` in bytes.
cudaError_t copy_rows(const void* in, void* out, std::int64_t frames, Copy copy, cudaStream_t stream) {
  const std::int64_t rows = frames * copy.height;
  const auto in_units_of = [&](std::int64_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(in) | reinterpret_cast<std::uintptr_t>(out);
    const bool fits = address % static_cast<std::uintptr_t>(bytes) == 0 && copy.in_row % bytes == 0 &&
                      copy.row % bytes == 0 && copy.left % bytes == 0;
    // Where columns are repeated, a unit lies in one pixel.
    const bool repeats = copy.left + copy.row > copy.in_row;
    if (!fits || (repeats && copy.pixel % bytes != 0)) return false;
    copy.in_row /= bytes;
    copy.row /= bytes;
    copy.left /= bytes;
    copy.pixel = repeats ? copy.pixel / bytes : 1;
    return true;
  };
  if (in_units_of(16)) return launch<uint4, 1>(in, out, rows, copy, stream);
  if (in_units_of(8)) return launch<uint2, 1>(in, out, rows, copy, stream);
  if (in_units_of(4)) return launch<std::uint32_t, 1>(in, out, rows, copy, stream);
  if (in_units_of(2)) return launch<std::uint16_t, 1>(in, out, rows, copy, stream);
  if (copy.row % 4 == 0 && is_aligned<std::uint32_t>(out)) {
    return launch<std::uint8_t, 4>(in, out, rows, copy, stream);
  }
  return launch<std::uint8_t, 1>(in, out, rows, copy, stream);
}

}  // namespace

cudaError_t launch_pad_edge(const void* in, FrameSize from, void* out, FrameSize to, std::int64_t frames,
                            std::int64_t pixel_bytes, cudaStream_t stream) {
  return copy_rows(in, out, frames,
                   {.in_height = from.height,
                    .in_row = from.width * pixel_bytes,
                    .height = to.height,
                    .row = to.width * pixel_bytes,
                    .top = 0,
                    .left = 0,
                    .pixel = pixel_bytes},
                   stream);
}

cudaError_t launch_crop(const void* in, FrameSize from, std::int64_t top, std::int64_t left, void* out, FrameSize to,
                        std::int64_t frames, std::int64_t pixel_bytes, cudaStream_t stream) {
  return copy_rows(in, out, frames,
                   {.in_height = from.height,
                    .in_row = from.width * pixel_bytes,
                    .height = to.height,
                    .row = to.width * pixel_bytes,
                    .top = top,
                    .left = left * pixel_bytes,
                    .pixel = pixel_bytes},
                   stream);
}

}  // namespace flashvsr::cuda
