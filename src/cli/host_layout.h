// Rearrangements of host tensors between the engine's channels-last layouts and the layouts of golden sets.
#pragma once

#include "core/tensor.h"
#include "ops/operations.h"
#include "ops/types.h"

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace flashvsr::cli {

// Values of a host tensor of any type as f32, the same shape.
Tensor host_f32(const Tensor& host);
// A tensor of a back end as host f32.
Tensor fetch_f32(ops::Operations& operations, const Tensor& x);
// Dimension i of the result is dimension order[i] of `x` (host f32).
Tensor permuted(const Tensor& x, std::initializer_list<std::size_t> order);
// Rows 0, stride, 2 stride, ... of [rows, columns] f32 as [1, n, columns].
Tensor every_row(const Tensor& x, std::int64_t stride);
// Tokens [tokens, C] f32 in window order -> raster order (latent, row, column).
Tensor windows_to_raster(const Tensor& tokens, const ops::TokenGrid& grid);
// [tokens, dim] f32 -> [tokens / 128, 128, head_dim * heads.size()], the channels of `heads` only.
Tensor select_heads(const Tensor& tokens, std::int64_t head_count, std::span<const std::int64_t> heads);
// Means over the tokens of each block: [blocks * 128, dim] f32 -> [blocks, dim] f32.
Tensor block_means(const Tensor& tokens);

}  // namespace flashvsr::cli
