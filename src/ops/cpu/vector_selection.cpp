// Scores of pairs of blocks.
#include "core/threads.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/selection.h"
#include "ops/cpu/vector_operations.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashvsr::ops {

Tensor VectorOperations::do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                                         const Locality& locality) {
  const std::int64_t dim = q_means.dim(1), head_dim = dim / grid.heads;
  const std::int64_t query_blocks = grid.blocks(), key_blocks = keys.key_blocks(), window = grid.window_blocks();
  const std::int64_t columns = grid.block_columns();
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const Tensor result = do_allocate({grid.heads, query_blocks, key_blocks}, DType::f32);
  parallel_for(grid.heads * query_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t head = row / query_blocks, query = row % query_blocks;
      const BlockRange rows = local_window(query % window / columns, grid.block_rows(), locality);
      const BlockRange cols = local_window(query % window % columns, columns, locality);
      const float* q = q_means.data<float>() + query * dim + head * head_dim;
      float* scores = result.mutable_data<float>() + row * key_blocks;
      std::fill_n(scores, key_blocks, -std::numeric_limits<float>::infinity());
      for (std::size_t view = 0; view < keys.slots.size(); ++view) {
        const float* means = keys.k_means.data<float>() + keys.slots[view] * window * dim + head * head_dim;
        float* window_scores = scores + static_cast<std::int64_t>(view) * window;
        for (std::int64_t y = rows.begin; y < rows.end; ++y) {
          for (std::int64_t place = y * columns + cols.begin; place < y * columns + cols.end; ++place) {
            window_scores[place] = static_cast<float>(table_.rows.dot(q, means + place * dim, head_dim)) * scale;
          }
        }
      }
    }
  });
  return result;
}

}  // namespace flashvsr::ops
