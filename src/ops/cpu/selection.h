// The rules of locality-constrained top-k selection, shared by the CPU back ends and their tests.
#pragma once

#include "ops/types.h"

#include <cstdint>

namespace flashvsr::ops {

struct BlockRange {
  std::int64_t begin, end;
  bool contains(std::int64_t index) const { return index >= begin && index < end; }
};

// Rows (or columns) of key blocks that a query block in row (or column) `index` of `blocks` may see.
BlockRange local_window(std::int64_t index, std::int64_t blocks, const Locality& locality);

// k, how many pairs of a query window may be kept: int(S * S * ratio) - 1 in double, at most all pairs but one. Kept is
// what lies strictly above the (k+1)-th largest. A ratio so small that k would be -1 has no meaning in the published
// code (it fails there); here it keeps nothing, like k = 0, its limit.
std::int64_t selection_budget(std::int64_t window_blocks, std::int64_t key_blocks, double topk_ratio);

// Softmax of one row of scores; -inf gives 0.
void block_softmax(const float* scores, std::int64_t count, float* weights);

}  // namespace flashvsr::ops
