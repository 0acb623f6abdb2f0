// Weighted parts of frames, added to the frames, bit for bit as on the CPU. Pointers are to device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

struct TileSum {
  const float* tile;  // [.., tile_width, channels]
  std::int64_t tile_width;
  float* frame;  // [.., frame_width, channels]
  std::int64_t frame_width;
  std::int64_t top, left;                // of the tile in the frame
  std::int64_t rows, columns, channels;  // of the tile that lie in the frame
  const float *row_weights, *column_weights;
};

// frame[top + y, left + x, c] += row_weights[y] * column_weights[x] * tile[y, x, c]
cudaError_t launch_add_tile(const TileSum& sum, cudaStream_t stream);

}  // namespace flashvsr::cuda
