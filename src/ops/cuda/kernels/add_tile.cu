#include "ops/cuda/kernels/add_tile.h"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;

// One block a row.
__global__ void __launch_bounds__(kThreads) add_tile_kernel(TileSum sum) {
  const std::int64_t y = blockIdx.x;
  const float* from = sum.tile + y * sum.tile_width * sum.channels;
  float* to = sum.frame + ((sum.top + y) * sum.frame_width + sum.left) * sum.channels;
  const float row_weight = sum.row_weights[y];
  for (std::int64_t i = threadIdx.x; i < sum.columns * sum.channels; i += kThreads) {
    const float weight = __fmul_rn(row_weight, sum.column_weights[i / sum.channels]);
    to[i] = __fadd_rn(to[i], __fmul_rn(weight, from[i]));
  }
}

}  // namespace

cudaError_t launch_add_tile(const TileSum& sum, cudaStream_t stream) {
  add_tile_kernel<<<static_cast<unsigned>(sum.rows), kThreads, 0, stream>>>(sum);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
