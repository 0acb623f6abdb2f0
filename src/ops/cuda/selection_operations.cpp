// Which key blocks a query block attends to.
#include "ops/cpu/selection.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/block_scores.h"
#include "ops/cuda/kernels/select_blocks.h"

#include <algorithm>
#include <limits>

namespace flashvsr::ops {
namespace {

using cuda::check;

// Lists hold 32-bit numbers of pairs.
void require_listable(const Shape& shape) {
  require(shape.elements() < std::numeric_limits<std::int32_t>::max(),
          "the masks {} have more pairs of blocks than their lists can number", shape.to_string());
}

}  // namespace

Tensor CudaOperations::do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                                       const Locality& locality) {
  const Tensor result = allocate({grid.heads, grid.blocks(), keys.key_blocks()}, DType::f32);
  // Beyond any frame's size every range is the same.
  constexpr std::int64_t kWidestRange = 1 << 29;
  const cuda::BlockScores arguments{.q_means = q_means.data<float>(),
                                    .k_means = keys.k_means.data<float>(),
                                    .scores = result.mutable_data<float>(),
                                    .heads = static_cast<int>(grid.heads),
                                    .head_dim = static_cast<int>(q_means.dim(1) / grid.heads),
                                    .query_blocks = static_cast<int>(grid.blocks()),
                                    .grid = cuda::window_grid(grid.rows, grid.columns),
                                    .slots = keys.slots.data(),
                                    .key_windows = static_cast<int>(keys.slots.size()),
                                    .range = static_cast<int>(std::min(locality.range, kWidestRange)),
                                    .preserved = locality.window == LocalWindow::preserved};
  check(cuda::launch_block_scores(arguments, stream()), "block_scores");
  return result;
}

BlockMask CudaOperations::do_select_blocks(const Tensor& scores, std::int64_t window_blocks,
                                           const Selection& selection) {
  require_listable(scores.shape());
  const std::int64_t rows = scores.dim(0) * scores.dim(1), key_blocks = scores.dim(2);
  const std::int64_t segments = rows / window_blocks;
  const Tensor counts = allocate({rows}, DType::i32);
  const Tensor mask = allocate(scores.shape(), DType::u8), offsets = allocate({rows + 1}, DType::i32);
  std::int64_t most = scores.elements();
  if (selection.all_allowed) {
    check(cuda::launch_allowed_blocks(scores.data<float>(), mask.mutable_data<std::uint8_t>(),
                                      counts.mutable_data<std::int32_t>(), static_cast<int>(rows),
                                      static_cast<int>(key_blocks), stream()),
          "select_blocks");
  } else {
    const std::int64_t budget = selection_budget(window_blocks, key_blocks, selection.topk_ratio);
    most = segments * budget;
    const auto work_bytes = cuda::select_blocks_work(static_cast<int>(segments), static_cast<int>(window_blocks),
                                                     static_cast<int>(key_blocks));
    const Tensor work = allocate({static_cast<std::int64_t>(work_bytes)}, DType::u8);
    const cuda::SelectBlocks arguments{.scores = scores.data<float>(),
                                       .mask = mask.mutable_data<std::uint8_t>(),
                                       .counts = counts.mutable_data<std::int32_t>(),
                                       .work = work.mutable_raw(),
                                       .segments = static_cast<int>(segments),
                                       .window_blocks = static_cast<int>(window_blocks),
                                       .key_blocks = static_cast<int>(key_blocks),
                                       .budget = budget};
    check(cuda::launch_select_blocks(arguments, stream()), "select_blocks");
  }
  // At least one entry, so that there is something to point at.
  const Tensor indices = allocate({std::max<std::int64_t>(most, 1)}, DType::i32);
  check(cuda::launch_block_lists(mask.data<std::uint8_t>(), counts.data<std::int32_t>(), static_cast<int>(rows),
                                 static_cast<int>(key_blocks), offsets.mutable_data<std::int32_t>(),
                                 indices.mutable_data<std::int32_t>(), stream()),
        "listing the selected blocks");
  return {mask, offsets, indices};
}

BlockMask CudaOperations::do_block_mask(const Tensor& host_mask) {
  require_listable(host_mask.shape());
  const std::int64_t rows = host_mask.dim(0) * host_mask.dim(1), key_blocks = host_mask.dim(2);
  const auto* keeps = host_mask.data<std::uint8_t>();
  const Tensor offsets = allocate_host({rows + 1}, DType::i32);
  const auto kept = std::count_if(keeps, keeps + rows * key_blocks, [](std::uint8_t keep) { return keep != 0; });
  const Tensor indices = allocate_host({std::max<std::int64_t>(kept, 1)}, DType::i32);
  auto *offset = offsets.mutable_data<std::int32_t>(), *index = indices.mutable_data<std::int32_t>();
  std::int32_t count = 0;
  index[0] = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    offset[row] = count;
    for (std::int64_t block = 0; block < key_blocks; ++block) {
      if (keeps[row * key_blocks + block] != 0) index[count++] = static_cast<std::int32_t>(block);
    }
  }
  offset[rows] = count;
  return {do_from_host(host_mask, DType::u8), do_from_host(offsets, DType::i32), do_from_host(indices, DType::i32)};
}

}  // namespace flashvsr::ops
