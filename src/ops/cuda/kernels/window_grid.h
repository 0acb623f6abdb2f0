// A grid of tokens as kernels are told of it.
#pragma once

#include <cstdint>

namespace flashvsr::cuda {

// As in ops/types.h.
inline constexpr int kWindowLatents = 2;
inline constexpr int kWindowSide = 8;
inline constexpr int kBlockTokens = kWindowLatents * kWindowSide * kWindowSide;

// rows x columns tokens a latent; window_blocks blocks of 2x8x8 tokens a time window, block_columns of them side by
// side.
struct WindowGrid {
  int rows, columns;
  int window_blocks, block_columns;
};

inline WindowGrid window_grid(std::int64_t rows, std::int64_t columns) {
  const std::int64_t block_columns = columns / kWindowSide;
  return {static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(rows / kWindowSide * block_columns),
          static_cast<int>(block_columns)};
}

}  // namespace flashvsr::cuda
