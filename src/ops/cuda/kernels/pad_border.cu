#include "ops/cuda/kernels/pad_border.h"

#include "ops/cuda/kernels/elements.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;

// 16 bytes a thread; a block row (blockIdx.y) is a row of one result frame.
__global__ void __launch_bounds__(kThreads) pad_border_kernel(BorderArguments a) {
  const int packs = a.bytes / 16, out_width = a.width + 2 * a.border_x, out_height = a.height + 2 * a.border_y;
  const int out_row = static_cast<int>(blockIdx.y), frame = static_cast<int>(blockIdx.z);
  const int row = min(max(out_row - a.border_y, 0), a.height - 1);
  const bool row_inside = out_row >= a.border_y && out_row < a.border_y + a.height;
  const void* const source = frame < a.front_frames ? a.front : a.frames;
  const std::int64_t source_frame = frame < a.front_frames ? frame : frame - a.front_frames;
  const auto* from = static_cast<const uint4*>(source) + (source_frame * a.height + row) * a.width * packs;
  auto* to = static_cast<uint4*>(a.out) + (std::int64_t{frame} * out_height + out_row) * out_width * packs;
  const int step = static_cast<int>(gridDim.x) * kThreads;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < out_width * packs;
       i += step) {
    const int out_column = i / packs, column = min(max(out_column - a.border_x, 0), a.width - 1);
    const bool inside = row_inside && out_column >= a.border_x && out_column < a.border_x + a.width;
    to[i] = inside || a.edge ? from[column * packs + i % packs] : make_uint4(0, 0, 0, 0);
  }
}

}  // namespace

cudaError_t launch_pad_border(const BorderArguments& a, cudaStream_t stream) {
  const unsigned packs_of_row = static_cast<unsigned>((a.width + 2 * a.border_x) * (a.bytes / 16));
  const dim3 grid((packs_of_row + kThreads - 1) / kThreads, static_cast<unsigned>(a.height + 2 * a.border_y),
                  static_cast<unsigned>(a.front_frames + a.frame_count));
  pad_border_kernel<<<grid, kThreads, 0, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
