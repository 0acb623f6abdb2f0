// Locality-constrained top-k selection of key blocks, and lists of what a mask keeps.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace flashvsr::cuda {

// Scores and mask are [heads, query windows, window_blocks, key_blocks]. Of a head's query window, a segment, all rows
// together are kept that lie strictly above the (budget + 1)-th largest softmax weight.
struct SelectBlocks {
  const float* scores;  // -inf: not allowed
  std::uint8_t* mask;
  std::int32_t* counts;  // [segments * window_blocks]: kept blocks of a row
  void* work;            // select_blocks_work() bytes
  int segments, window_blocks, key_blocks;
  std::int64_t budget;
};

std::size_t select_blocks_work(int segments, int window_blocks, int key_blocks);
cudaError_t launch_select_blocks(const SelectBlocks& select, cudaStream_t stream);

// Keeps every score above -inf; rows [rows, key_blocks].
cudaError_t launch_allowed_blocks(const float* scores, std::uint8_t* mask, std::int32_t* counts, int rows,
                                  int key_blocks, cudaStream_t stream);

// offsets [rows + 1] and the ascending indices of what each row keeps.
cudaError_t launch_block_lists(const std::uint8_t* mask, const std::int32_t* counts, int rows, int key_blocks,
                               std::int32_t* offsets, std::int32_t* indices, cudaStream_t stream);

}  // namespace flashvsr::cuda
