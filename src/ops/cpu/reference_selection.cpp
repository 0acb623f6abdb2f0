// Reference: which key blocks a query block attends to.
#include "core/threads.h"
#include "ops/cpu/reference_operations.h"
#include "ops/cpu/selection.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace flashvsr::ops {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

}  // namespace

BlockRange local_window(std::int64_t index, std::int64_t blocks, const Locality& locality) {
  std::int64_t begin = index - locality.range / 2;
  if (locality.window == LocalWindow::preserved) {
    begin = std::min(std::max<std::int64_t>(begin, 0), std::max<std::int64_t>(blocks - locality.range, 0));
  }
  return {std::max<std::int64_t>(begin, 0), std::min(begin + locality.range, blocks)};
}

std::int64_t selection_budget(std::int64_t window_blocks, std::int64_t key_blocks, double topk_ratio) {
  const auto square = static_cast<double>(window_blocks * window_blocks);
  const std::int64_t pairs = window_blocks * key_blocks;
  // Compared as a double first: the ratio may be beyond any integer.
  const double budget = square * topk_ratio;
  if (budget >= static_cast<double>(pairs)) return pairs - 1;
  return std::max<std::int64_t>(static_cast<std::int64_t>(budget) - 1, 0);
}

BlockMask ReferenceOperations::do_block_mask(const Tensor& host_mask) {
  const std::int64_t rows = host_mask.dim(0) * host_mask.dim(1), key_blocks = host_mask.dim(2);
  BlockMask result;
  result.mask = ReferenceOperations::do_from_host(host_mask, DType::u8);
  result.offsets = do_allocate({rows + 1}, DType::i32);
  const auto* mask = result.mask.data<std::uint8_t>();
  const auto kept = std::count_if(mask, mask + rows * key_blocks, [](std::uint8_t keep) { return keep != 0; });
  result.indices = do_allocate({kept}, DType::i32);
  auto *offsets = result.offsets.mutable_data<std::int32_t>(), *indices = result.indices.mutable_data<std::int32_t>();
  std::int32_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    offsets[row] = count;
    for (std::int64_t block = 0; block < key_blocks; ++block) {
      if (mask[row * key_blocks + block] != 0) indices[count++] = static_cast<std::int32_t>(block);
    }
  }
  offsets[rows] = count;
  return result;
}

Tensor ReferenceOperations::do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                                            const Locality& locality) {
  const std::int64_t dim = q_means.dim(1), head_dim = dim / grid.heads;
  const std::int64_t query_blocks = grid.blocks(), key_blocks = keys.key_blocks(), window = grid.window_blocks();
  const std::int64_t columns = grid.block_columns();
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const Tensor result = do_allocate({grid.heads, query_blocks, key_blocks}, DType::f32);
  parallel_for(grid.heads * query_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t head = row / query_blocks, query = row % query_blocks;
      // The same window in every chunk in view.
      const BlockRange rows = local_window(query % window / columns, grid.block_rows(), locality);
      const BlockRange cols = local_window(query % window % columns, columns, locality);
      const float* q = q_means.data<float>() + query * dim + head * head_dim;
      for (std::int64_t key = 0; key < key_blocks; ++key) {
        const std::int64_t place = key % window;
        float& score = result.mutable_data<float>()[row * key_blocks + key];
        if (!rows.contains(place / columns) || !cols.contains(place % columns)) {
          score = kForbidden;
          continue;
        }
        const std::int64_t ring_block = keys.slots[static_cast<std::size_t>(key / window)] * window + place;
        const float* k = keys.k_means.data<float>() + ring_block * dim + head * head_dim;
        double sum = 0;
        for (std::int64_t c = 0; c < head_dim; ++c) sum += static_cast<double>(q[c]) * static_cast<double>(k[c]);
        score = static_cast<float>(sum) * scale;
      }
    }
  });
  return result;
}

BlockMask ReferenceOperations::do_select_blocks(const Tensor& scores, std::int64_t window_blocks,
                                                const Selection& selection) {
  const std::int64_t heads = scores.dim(0), query_blocks = scores.dim(1), key_blocks = scores.dim(2);
  const Tensor mask = allocate_host(scores.shape(), DType::u8);
  const float* all_scores = scores.data<float>();
  auto* kept = mask.mutable_data<std::uint8_t>();
  if (selection.all_allowed) {
    for (std::int64_t i = 0; i < scores.elements(); ++i) kept[i] = all_scores[i] > kForbidden ? 1 : 0;
    return do_block_mask(mask);
  }
  const std::int64_t pairs = window_blocks * key_blocks;
  const std::int64_t budget = selection_budget(window_blocks, key_blocks, selection.topk_ratio);
  parallel_for(heads * query_blocks / window_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> weights(static_cast<std::size_t>(pairs)), sorted;
    for (std::int64_t window = begin; window < end; ++window) {
      const float* window_scores = all_scores + window * pairs;
      for (std::int64_t row = 0; row < window_blocks; ++row) {
        block_softmax(window_scores + row * key_blocks, key_blocks, weights.data() + row * key_blocks);
      }
      sorted = weights;
      std::ranges::nth_element(sorted, sorted.begin() + budget, std::greater<>());
      const float threshold = sorted[static_cast<std::size_t>(budget)];
      for (std::int64_t i = 0; i < pairs; ++i) {
        kept[window * pairs + i] = weights[static_cast<std::size_t>(i)] > threshold ? 1 : 0;
      }
    }
  });
  return do_block_mask(mask);
}

void block_softmax(const float* scores, std::int64_t count, float* weights) {
  const float largest = *std::max_element(scores, scores + count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    // A row without an allowed block has no weights, rather than NaN.
    weights[i] = largest > kForbidden ? std::exp(scores[i] - largest) : 0.0f;
    sum += static_cast<double>(weights[i]);
  }
  if (sum == 0) return;
  const auto total = static_cast<float>(sum);
  for (std::int64_t i = 0; i < count; ++i) weights[i] /= total;
}

}  // namespace flashvsr::ops
