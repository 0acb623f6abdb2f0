// Which queries a block of an attention kernel has, and the tiles of keys that they attend to.
#pragma once

#include "ops/cuda/kernels/attention_arguments.h"

#include <algorithm>
#include <cstdint>

namespace flashvsr::cuda {

// Blocks of the grid run over the query tiles of a head, then heads, then the batch, so that blocks that run at the
// same time read the same keys. Tokens are counted in int. Both tile sizes divide kAttentionBlock.
template <int QueryTile, int KeyTile>
class AttentionTiles {
 public:
  static_assert(kAttentionBlock % QueryTile == 0 && kAttentionBlock % KeyTile == 0);

  static std::int64_t blocks(const AttentionArguments& a) {
    const std::int64_t tiles = (static_cast<std::int64_t>(a.queries) + QueryTile - 1) / QueryTile;
    return static_cast<std::int64_t>(a.batch) * a.heads * tiles;
  }

  __device__ AttentionTiles(const AttentionArguments& arguments, unsigned block) : a_(arguments) {
    const unsigned query_tiles = (static_cast<unsigned>(a_.queries) + QueryTile - 1) / QueryTile;
    const unsigned rest = block / query_tiles, entry = rest / static_cast<unsigned>(a_.heads);
    const int tile = static_cast<int>(block - rest * query_tiles);
    head_ = static_cast<int>(rest - entry * static_cast<unsigned>(a_.heads));
    query_row_ = static_cast<int>(entry) * a_.queries + tile * QueryTile;
    query_count_ = min(QueryTile, a_.queries - tile * QueryTile);
    if (a_.offsets) {
      const int row = head_ * a_.query_blocks + tile / (kAttentionBlock / QueryTile);
      begin_ = a_.offsets[row];
      count_ = (a_.offsets[row + 1] - begin_) * kTilesPerBlock;
    } else {
      begin_ = a_.shared_keys ? 0 : static_cast<int>(entry) * a_.keys;
      count_ = (a_.keys + KeyTile - 1) / KeyTile;
    }
  }

  __device__ int head() const { return head_; }
  // First token of the tile in q, and how many there are.
  __device__ int query_row() const { return query_row_; }
  __device__ int query_count() const { return query_count_; }
  // Tiles of keys.
  __device__ int count() const { return count_; }
  // First token in k and v of the tile's 128: of the block that it is a part of, or of the run counted from the first
  // key.
  __device__ int block_row(int tile) const {
    const int item = tile / kTilesPerBlock;
    if (!a_.offsets) return begin_ + item * kAttentionBlock;
    const int block = a_.indices[begin_ + item];
    const int window = block / a_.window_blocks;
    const int slot = a_.slot_table ? a_.slot_table[window] : a_.slots[window];
    return (slot * a_.window_blocks + block - window * a_.window_blocks) * kAttentionBlock;
  }
  // Where the tile begins there.
  __device__ static int row_in_block(int tile) { return tile % kTilesPerBlock * KeyTile; }
  // First token of the tile, and how many there are.
  __device__ int key_row(int tile) const { return block_row(tile) + row_in_block(tile); }
  __device__ int key_count(int tile) const { return a_.offsets ? KeyTile : min(KeyTile, a_.keys - tile * KeyTile); }

  static constexpr int kTilesPerBlock = kAttentionBlock / KeyTile;

 private:
  const AttentionArguments& a_;
  int query_row_ = 0, head_ = 0, query_count_ = 0, count_ = 0;
  int begin_ = 0;  // place of the first block in `indices`, or first key
};

}  // namespace flashvsr::cuda
