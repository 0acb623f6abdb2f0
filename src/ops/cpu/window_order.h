// Window order: blocks in the order (time window, window row, window column), tokens inside a block (t, h, w).
#pragma once

#include "ops/types.h"

#include <cstdint>

namespace flashvsr::ops {

// Latent within the run, token row and column in the frame.
struct TokenPosition {
  std::int64_t latent, row, column;
};

// Of the token at `index` in window order.
inline TokenPosition token_position(std::int64_t index, const TokenGrid& grid) {
  const std::int64_t block = index / kBlockTokens, inside = index % kBlockTokens;
  const std::int64_t window = block / grid.window_blocks(), place = block % grid.window_blocks();
  return {window * kWindowLatents + inside / (kWindowSide * kWindowSide),
          place / grid.block_columns() * kWindowSide + inside / kWindowSide % kWindowSide,
          place % grid.block_columns() * kWindowSide + inside % kWindowSide};
}

inline std::int64_t raster_index(const TokenPosition& at, const TokenGrid& grid) {
  return (at.latent * grid.rows + at.row) * grid.columns + at.column;
}

}  // namespace flashvsr::ops
