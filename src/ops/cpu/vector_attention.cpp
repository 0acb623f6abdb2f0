// Block-sparse and dense attention: which tiles of keys each tile of queries meets. The arithmetic is in
// kernels/fused_attention.cpp.
#include "core/threads.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/vector_elements.h"
#include "ops/cpu/vector_operations.h"
#include "ops/cpu/vector_scratch.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace flashvsr::ops {
namespace {

using kernels::AttentionTile;
using kernels::kTileTokens;
static_assert(kTileTokens == kBlockTokens);

// Keys and values are packed for as many heads at a time as fit into this (at least one head).
constexpr std::size_t kPackedBudget = std::size_t{64} << 20;

float logit_scale(std::int64_t head_dim) { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

}  // namespace

const kernels::AttentionKernels& VectorOperations::attention_kernels() const {
  return compute_type() == DType::f32 ? table_.attention_f32 : table_.attention_bf16;
}

Tensor VectorOperations::do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                                             std::int64_t heads) {
  const kernels::AttentionKernels& kernel = attention_kernels();
  const std::int64_t dim = q.dim(1), head_dim = dim / heads, query_blocks = q.dim(0) / kBlockTokens;
  const std::int64_t key_blocks = keys.key_blocks();
  const Tensor result = allocate_compute(q.shape());
  const auto *offsets = mask.offsets.data<std::int32_t>(), *indices = mask.indices.data<std::int32_t>();
  const std::size_t packed_bytes = kernel.packed_bytes(head_dim), scratch_bytes = kernel.scratch_bytes(head_dim);

  const std::size_t head_bytes = static_cast<std::size_t>(std::max<std::int64_t>(key_blocks, 1)) * packed_bytes;
  const std::int64_t group_heads =
      std::clamp(static_cast<std::int64_t>(kPackedBudget / head_bytes), std::int64_t{1}, heads);
  const Tensor packed = do_allocate({group_heads * static_cast<std::int64_t>(head_bytes)}, DType::u8);
  const auto packed_tile = [&](std::int64_t head, std::int64_t block) {
    return static_cast<std::byte*>(packed.mutable_raw()) +
           static_cast<std::size_t>(head % group_heads * key_blocks + block) * packed_bytes;
  };

  for (std::int64_t first_head = 0; first_head < heads; first_head += group_heads) {
    const std::int64_t end_head = std::min(first_head + group_heads, heads);
    const std::int64_t first_row = first_head * query_blocks, end_row = end_head * query_blocks;
    // Pack what some row of the group keeps.
    std::vector<bool> used(static_cast<std::size_t>((end_head - first_head) * key_blocks));
    for (std::int64_t row = first_row; row < end_row; ++row) {
      const std::int64_t place = (row - first_row) / query_blocks * key_blocks;
      for (std::int32_t i = offsets[row]; i < offsets[row + 1]; ++i) {
        used[static_cast<std::size_t>(place + indices[i])] = true;
      }
    }
    std::vector<std::int64_t> wanted;
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i]) wanted.push_back(static_cast<std::int64_t>(i));
    }
    parallel_for_each(static_cast<std::int64_t>(wanted.size()), [&](std::int64_t index) {
      const std::int64_t place = wanted[static_cast<std::size_t>(index)];
      const std::int64_t head = first_head + place / key_blocks, block = place % key_blocks;
      const std::int64_t window = block / keys.window_blocks;
      const std::int64_t ring_block =
          keys.slots[static_cast<std::size_t>(window)] * keys.window_blocks + block % keys.window_blocks;
      const std::int64_t offset = ring_block * kBlockTokens * dim + head * head_dim;
      kernel.pack(element(keys.k, offset), element(keys.v, offset), dim, kBlockTokens, head_dim,
                  packed_tile(head, block));
    });
    // The longest rows first: what is left at the end is short, and the threads end together.
    std::vector<std::int64_t> rows;
    for (std::int64_t row = first_row; row < end_row; ++row) rows.push_back(row);
    const auto length = [&](std::int64_t row) { return offsets[row + 1] - offsets[row]; };
    std::ranges::stable_sort(rows, [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
    parallel_for_each(end_row - first_row, [&](std::int64_t index) {
      const std::int64_t row = rows[static_cast<std::size_t>(index)];
      const std::int64_t head = row / query_blocks, query_block = row % query_blocks;
      std::vector<const std::byte*> tiles;
      tiles.reserve(static_cast<std::size_t>(length(row)));
      for (std::int32_t i = offsets[row]; i < offsets[row + 1]; ++i) tiles.push_back(packed_tile(head, indices[i]));
      const std::int64_t offset = query_block * kBlockTokens * dim + head * head_dim;
      kernel.attend({.q = element(q, offset),
                     .q_stride = dim,
                     .rows = kBlockTokens,
                     .head_dim = head_dim,
                     .scale = logit_scale(head_dim),
                     .keys = tiles.data(),
                     .key_tiles = length(row),
                     .out = mutable_element(result, offset),
                     .out_stride = dim,
                     .scratch = thread_scratch(scratch_bytes)});
    });
  }
  return result;
}

Tensor VectorOperations::do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) {
  const kernels::AttentionKernels& kernel = attention_kernels();
  const std::int64_t batch = q.dim(0), count = q.dim(1), dim = q.dim(2), head_dim = dim / heads, keys = k.dim(1);
  const std::int64_t key_tiles = (keys + kTileTokens - 1) / kTileTokens;
  const std::int64_t query_tiles = (count + kTileTokens - 1) / kTileTokens;
  const Tensor result = allocate_compute(q.shape());
  const std::size_t packed_bytes = kernel.packed_bytes(head_dim), scratch_bytes = kernel.scratch_bytes(head_dim);

  // A unit is one head of one batch entry of k and v. Where these are shared, all queries of a head belong to its unit.
  const std::int64_t units = k.dim(0) * heads, batch_per_unit = batch / k.dim(0);
  const std::size_t unit_bytes = static_cast<std::size_t>(key_tiles) * packed_bytes;
  const std::int64_t group_units =
      std::clamp(static_cast<std::int64_t>(kPackedBudget / unit_bytes), std::int64_t{1}, units);
  const Tensor packed = do_allocate({group_units * static_cast<std::int64_t>(unit_bytes)}, DType::u8);
  const auto keys_of_tile = [&](std::int64_t tile) { return std::min(kTileTokens, keys - tile * kTileTokens); };
  const auto packed_tile = [&](std::int64_t unit, std::int64_t tile) {
    return static_cast<std::byte*>(packed.mutable_raw()) +
           static_cast<std::size_t>(unit % group_units * key_tiles + tile) * packed_bytes;
  };

  for (std::int64_t first = 0; first < units; first += group_units) {
    const std::int64_t end = std::min(first + group_units, units);
    parallel_for_each((end - first) * key_tiles, [&](std::int64_t index) {
      const std::int64_t unit = first + index / key_tiles, tile = index % key_tiles;
      const std::int64_t offset = (unit / heads * keys + tile * kTileTokens) * dim + unit % heads * head_dim;
      kernel.pack(element(k, offset), element(v, offset), dim, keys_of_tile(tile), head_dim, packed_tile(unit, tile));
    });
    parallel_for_each((end - first) * batch_per_unit * query_tiles, [&](std::int64_t index) {
      const std::int64_t unit = first + index / (batch_per_unit * query_tiles), query_tile = index % query_tiles;
      const std::int64_t entry = unit / heads * batch_per_unit + index / query_tiles % batch_per_unit;
      std::vector<const std::byte*> tiles;
      tiles.reserve(static_cast<std::size_t>(key_tiles));
      for (std::int64_t tile = 0; tile < key_tiles; ++tile) tiles.push_back(packed_tile(unit, tile));
      const std::int64_t begin = query_tile * kTileTokens;
      const std::int64_t offset = (entry * count + begin) * dim + unit % heads * head_dim;
      kernel.attend({.q = element(q, offset),
                     .q_stride = dim,
                     .rows = std::min(kTileTokens, count - begin),
                     .head_dim = head_dim,
                     .scale = logit_scale(head_dim),
                     .keys = tiles.data(),
                     .key_tiles = key_tiles,
                     .last_keys = keys_of_tile(key_tiles - 1),
                     .out = mutable_element(result, offset),
                     .out_stride = dim,
                     .scratch = thread_scratch(scratch_bytes)});
    });
  }
  return result;
}

}  // namespace flashvsr::ops
