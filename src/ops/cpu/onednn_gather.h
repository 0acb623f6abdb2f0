// Copies that put the input of a convolution together in a small buffer: two sources side by side in the channels,
// frames from two tensors, replicated edges.
#pragma once

#include "ops/types.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashvsr::ops::onednn {

// What one output frame is computed from. `second` is empty or as long as `first`; pixels of the two have the given
// bytes and lie side by side in the buffer.
struct GatheredFrame {
  std::vector<const std::byte*> first, second;  // one [height, width, channels] per frame of the kernel
  std::int64_t height = 0, width = 0;
  std::size_t first_bytes = 0, second_bytes = 0;  // per pixel
  Padding padding = Padding::zeros;
  std::int64_t columns = 0;  // that are added on each side (edge only)

  std::size_t row_bytes() const { return static_cast<std::size_t>(width + 2 * columns) * (first_bytes + second_bytes); }
};

// Rows [begin, begin + rows) of every frame; rows outside of the frame are zeros or its nearest row.
void gather(const GatheredFrame& frame, std::int64_t begin, std::int64_t rows, std::byte* buffer);

// Runs of `first_bytes` from `first` and of `second_bytes` from `second`, in turn, `count` times.
void interleave(const std::byte* first, std::size_t first_bytes, const std::byte* second, std::size_t second_bytes,
                std::int64_t count, std::byte* result);

}  // namespace flashvsr::ops::onednn
