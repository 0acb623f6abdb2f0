// Own block choices against given ones: where top-k flips for rounding alone.
#pragma once

#include "core/tensor.h"

#include <cstdint>

namespace flashvsr::cli {

struct MaskComparison {
  std::int64_t entries = 0;
  std::int64_t differing = 0;
  // Of those, the ones whose softmax score is not within 1e-5 (relative) of the threshold of its query window.
  std::int64_t beyond_near_ties = 0;
};

// own, given: host u8 [heads, query blocks, key blocks]; scores: host f32 of the same shape, before the softmax, -inf
// outside the local window, from which `own` was chosen. The threshold is the (k+1)-th largest softmax score of a head
// and query window of `window_blocks` query blocks, k = int(window_blocks^2 * topk_ratio) - 1.
MaskComparison compare_masks(const Tensor& own, const Tensor& given, const Tensor& scores, std::int64_t window_blocks,
                             double topk_ratio);

}  // namespace flashvsr::cli
