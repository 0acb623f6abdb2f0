// Norms, the order of tokens, and q, k, v. The arithmetic is in kernels/fused_rows.cpp.
#include "core/rope.h"
#include "core/threads.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/vector_elements.h"
#include "ops/cpu/vector_operations.h"
#include "ops/cpu/vector_scratch.h"
#include "ops/cpu/window_order.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kPatchSide = 2;

std::int64_t row_grain(std::int64_t dim) { return std::max<std::int64_t>(kValueGrain / dim, 1); }

}  // namespace

// ---------------------------------------------------------------------------------------------------------- norms

Tensor VectorOperations::layer_norm_rows(const Tensor& x, const float* scale, const float* shift) {
  const std::int64_t dim = x.dim(-1);
  const Tensor result = allocate_compute(x.shape());
  const auto kernel = table_.rows.layer_norm[kernel_index(x.dtype())][kernel_index(compute_type())];
  parallel_for(x.elements() / dim, row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
    kernel(element(x, begin * dim), scale, shift, end - begin, dim, mutable_element(result, begin * dim));
  });
  return result;
}

Tensor VectorOperations::do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) {
  return layer_norm_rows(x, f32_values(weight).data(), f32_values(bias).data());
}

Tensor VectorOperations::do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  std::vector<float> factors(scale.data<float>(), scale.data<float>() + scale.elements());
  for (float& factor : factors) factor += 1.0f;
  return layer_norm_rows(x, factors.data(), shift.data<float>());
}

Tensor VectorOperations::do_rms_norm(const Tensor& x, const Parameter& weight) {
  const std::int64_t dim = x.dim(-1);
  const float* weights = f32_values(weight).data();
  const Tensor result = allocate_compute(x.shape());
  const auto kernel = table_.rows.rms_norm[kernel_index(x.dtype())][kernel_index(compute_type())];
  parallel_for(x.elements() / dim, row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
    kernel(element(x, begin * dim), weights, end - begin, dim, mutable_element(result, begin * dim));
  });
  return result;
}

Tensor VectorOperations::do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) {
  const std::int64_t dim = x.dim(-1);
  const float* gammas = f32_values(gamma).data();
  const bool with_silu = activation == Activation::silu;
  const Tensor result = allocate_compute(x.shape());
  const auto kernel = table_.rows.channel_rms_norm[kernel_index(x.dtype())][kernel_index(compute_type())];
  parallel_for(x.elements() / dim, row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
    kernel(element(x, begin * dim), gammas, end - begin, dim, with_silu, mutable_element(result, begin * dim));
  });
  return result;
}

// ------------------------------------------------------------------------------------------------ order of tokens

// Eight tokens of a window's row lie together in either order.
Tensor VectorOperations::do_to_windows(const Tensor& x) {
  const TokenGrid grid{.latents = x.dim(0), .rows = x.dim(1), .columns = x.dim(2)};
  const std::int64_t channels = x.dim(3);
  const Tensor result = do_allocate({grid.tokens(), channels}, x.dtype());
  const std::size_t bytes = static_cast<std::size_t>(kWindowSide * channels) * size_of(x.dtype());
  const std::int64_t runs = grid.tokens() / kWindowSide;
  parallel_for(runs, row_grain(kWindowSide * channels), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t run = begin; run < end; ++run) {
      const std::int64_t token = run * kWindowSide;
      std::memcpy(mutable_element(result, token * channels),
                  element(x, raster_index(token_position(token, grid), grid) * channels), bytes);
    }
  });
  return result;
}

Tensor VectorOperations::do_patchify(const Tensor& latents) {
  const std::int64_t channels = latents.dim(3), width = latents.dim(2), depth = channels * kPatchSide * kPatchSide;
  const TokenGrid grid{.latents = latents.dim(0), .rows = latents.dim(1) / kPatchSide, .columns = width / kPatchSide};
  const Tensor result = allocate_compute({grid.tokens(), depth});
  const Tensor source = as_f32(latents);
  const auto convert = table_.elementwise.convert[0][kernel_index(compute_type())];
  parallel_for(grid.tokens(), row_grain(depth), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> patch(static_cast<std::size_t>(depth));
    for (std::int64_t token = begin; token < end; ++token) {
      const TokenPosition at = token_position(token, grid);
      for (std::int64_t i = 0; i < kPatchSide; ++i) {
        const std::int64_t row = (at.latent * grid.rows + at.row) * kPatchSide + i;
        const float* in = source.data<float>() + (row * width + at.column * kPatchSide) * channels;
        for (std::int64_t j = 0; j < kPatchSide; ++j) {
          float* out = patch.data() + i * kPatchSide + j;
          for (std::int64_t c = 0; c < channels; ++c) out[c * kPatchSide * kPatchSide] = *in++;
        }
      }
      convert(patch.data(), depth, mutable_element(result, token * depth));
    }
  });
  return result;
}

Tensor VectorOperations::do_unpatchify(const Tensor& tokens, const TokenGrid& grid) {
  const std::int64_t depth = tokens.dim(1), channels = depth / (kPatchSide * kPatchSide);
  const std::int64_t width = grid.columns * kPatchSide, row_values = kPatchSide * channels;
  const Tensor result = do_allocate({grid.latents, grid.rows * kPatchSide, width, channels}, tokens.dtype());
  const std::size_t bytes = static_cast<std::size_t>(row_values) * size_of(tokens.dtype());
  parallel_for(grid.tokens(), row_grain(depth), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const TokenPosition at = token_position(token, grid);
      for (std::int64_t i = 0; i < kPatchSide; ++i) {
        const std::int64_t row = (at.latent * grid.rows + at.row) * kPatchSide + i;
        std::memcpy(mutable_element(result, (row * width + at.column * kPatchSide) * channels),
                    element(tokens, token * depth + i * row_values), bytes);
      }
    }
  });
  return result;
}

// -------------------------------------------------------------------------------------------------------- q, k, v

namespace {

// As kernels::RotaryAxis has them.
std::array<std::vector<float>, 2> expanded(const RopeAxis& axis) {
  std::array<std::vector<float>, 2> result;
  for (std::size_t i = 0; i < axis.cosines.size(); ++i) {
    const auto cosine = static_cast<float>(axis.cosines[i]), sine = static_cast<float>(axis.sines[i]);
    result[0].insert(result[0].end(), {cosine, cosine});
    result[1].insert(result[1].end(), {-sine, sine});
  }
  return result;
}

}  // namespace

const VectorOperations::RotaryTables& VectorOperations::rotary_tables(const TokenGrid& grid, std::int64_t head_dim) {
  const std::array<std::int64_t, 5> key{head_dim, grid.first_latent, grid.latents, grid.rows, grid.columns};
  if (rotary_.key != key) {
    const RopeTables tables = flashvsr::rope_tables(head_dim, grid.first_latent, grid.latents, grid.rows, grid.columns);
    rotary_ = {key, expanded(tables.time), expanded(tables.height), expanded(tables.width)};
  }
  return rotary_;
}

void VectorOperations::split_qkv_into(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                      const TokenGrid& grid, const QueryKeyValue& to,
                                      const std::vector<std::int64_t>& key_blocks) {
  const std::int64_t dim = qkv.dim(1) / 3, head_dim = dim / grid.heads, block_values = kBlockTokens * dim;
  const float *weight_q = f32_values(norm_q).data(), *weight_k = f32_values(norm_k).data();
  const RotaryTables& tables = rotary_tables(grid, head_dim);
  const RopeSplit split = rope_split(head_dim);
  const auto kernel = table_.rows.split_qkv_block[kernel_index(compute_type())];
  const auto scratch_bytes = static_cast<std::size_t>(2 * dim + 2 * head_dim) * sizeof(float);
  parallel_for_each(grid.blocks(), [&](std::int64_t block) {
    const std::int64_t key_block = key_blocks[static_cast<std::size_t>(block)];
    const TokenPosition at = token_position(block * kBlockTokens, grid);
    const auto axis = [](const std::array<std::vector<float>, 2>& table, std::int64_t position, std::int64_t channels) {
      const std::int64_t offset = position * channels;
      return kernels::RotaryAxis{table[0].data() + offset, table[1].data() + offset, channels};
    };
    kernel({.qkv = element(qkv, 3 * block * block_values),
            .dim = dim,
            .head_dim = head_dim,
            .norm_q = weight_q,
            .norm_k = weight_k,
            .time = axis(tables.time, at.latent, split.time),
            .height = axis(tables.height, at.row, split.height),
            .width = axis(tables.width, at.column, split.width),
            .q = mutable_element(to.q, block * block_values),
            .k = mutable_element(to.k, key_block * block_values),
            .v = mutable_element(to.v, key_block * block_values),
            .q_means = to.q_means.mutable_data<float>() + block * dim,
            .k_means = to.k_means.mutable_data<float>() + key_block * dim,
            .scratch = reinterpret_cast<float*>(thread_scratch(scratch_bytes))});
  });
}

QueryKeyValue VectorOperations::do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                             const TokenGrid& grid) {
  const std::int64_t dim = qkv.dim(1) / 3;
  const Shape tokens{grid.tokens(), dim}, blocks{grid.blocks(), dim};
  const QueryKeyValue result{allocate_compute(tokens), allocate_compute(tokens), allocate_compute(tokens),
                             do_allocate(blocks, DType::f32), do_allocate(blocks, DType::f32)};
  std::vector<std::int64_t> in_order;
  for (std::int64_t block = 0; block < grid.blocks(); ++block) in_order.push_back(block);
  split_qkv_into(qkv, norm_q, norm_k, grid, result, in_order);
  return result;
}

// STATE: k, v and their means go directly to the slots of the current chunk.
Query VectorOperations::do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                                      const Parameter& norm_k, const TokenGrid& grid) {
  const std::int64_t dim = qkv.dim(1) / 3, window_blocks = cache.window_blocks;
  const QueryKeyValue values{allocate_compute({grid.tokens(), dim}), cache.k, cache.v,
                             do_allocate({grid.blocks(), dim}, DType::f32), cache.k_means};
  std::vector<std::int64_t> blocks;
  for (const std::int64_t slot : cache.newest_slots(layer, cache.new_windows)) {
    for (std::int64_t block = 0; block < window_blocks; ++block) blocks.push_back(slot * window_blocks + block);
  }
  split_qkv_into(qkv, norm_q, norm_k, grid, values, blocks);
  return {values.q, values.q_means};
}

}  // namespace flashvsr::ops
