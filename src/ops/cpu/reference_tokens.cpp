// Reference: the order of tokens, and q, k, v.
#include "core/noise.h"
#include "core/rope.h"
#include "core/threads.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/reference_operations.h"
#include "ops/cpu/window_order.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kPatchSide = 2;

}  // namespace

Tensor ReferenceOperations::do_to_windows(const Tensor& x) {
  const TokenGrid grid{.latents = x.dim(0), .rows = x.dim(1), .columns = x.dim(2)};
  const Tensor result = do_allocate({grid.tokens(), x.dim(3)}, x.dtype());
  const std::size_t bytes = static_cast<std::size_t>(x.dim(3)) * size_of(x.dtype());
  const auto* in = static_cast<const std::byte*>(x.raw());
  auto* out = static_cast<std::byte*>(result.mutable_raw());
  for (std::int64_t token = 0; token < grid.tokens(); ++token) {
    const auto raster = static_cast<std::size_t>(raster_index(token_position(token, grid), grid));
    std::copy_n(in + raster * bytes, bytes, out + static_cast<std::size_t>(token) * bytes);
  }
  return result;
}

Tensor ReferenceOperations::do_patchify(const Tensor& latents) {
  const std::int64_t channels = latents.dim(3), width = latents.dim(2);
  const TokenGrid grid{.latents = latents.dim(0), .rows = latents.dim(1) / kPatchSide, .columns = width / kPatchSide};
  const Tensor source = as_f32(latents);
  const Tensor result = do_allocate({grid.tokens(), channels * kPatchSide * kPatchSide}, DType::f32);
  const float* in = source.data<float>();
  auto* out = result.mutable_data<float>();
  for (std::int64_t token = 0; token < grid.tokens(); ++token) {
    const TokenPosition at = token_position(token, grid);
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < kPatchSide; ++i) {
        for (std::int64_t j = 0; j < kPatchSide; ++j) {
          const std::int64_t row = (at.latent * grid.rows + at.row) * kPatchSide + i;
          *out++ = in[(row * width + at.column * kPatchSide + j) * channels + c];
        }
      }
    }
  }
  return rounded(result, settings_.compute);
}

Tensor ReferenceOperations::do_unpatchify(const Tensor& tokens, const TokenGrid& grid) {
  const std::int64_t channels = tokens.dim(1) / (kPatchSide * kPatchSide), width = grid.columns * kPatchSide;
  const Tensor result = do_allocate({grid.latents, grid.rows * kPatchSide, width, channels}, tokens.dtype());
  const std::size_t bytes = static_cast<std::size_t>(channels) * size_of(tokens.dtype());
  const auto* in = static_cast<const std::byte*>(tokens.raw());
  auto* out = static_cast<std::byte*>(result.mutable_raw());
  for (std::int64_t token = 0; token < grid.tokens(); ++token) {
    const TokenPosition at = token_position(token, grid);
    for (std::int64_t i = 0; i < kPatchSide; ++i) {
      for (std::int64_t j = 0; j < kPatchSide; ++j) {
        const std::int64_t row = (at.latent * grid.rows + at.row) * kPatchSide + i;
        const auto pixel = static_cast<std::size_t>(row * width + at.column * kPatchSide + j);
        std::copy_n(in, bytes, out + pixel * bytes);
        in += bytes;
      }
    }
  }
  return result;
}

QueryKeyValue ReferenceOperations::do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                                const TokenGrid& grid) {
  const std::int64_t dim = qkv.dim(1) / 3, head_dim = dim / grid.heads, tokens = grid.tokens();
  const Tensor source = as_f32(qkv);
  const Tensor q = do_allocate({tokens, dim}, DType::f32), k = do_allocate({tokens, dim}, DType::f32);
  const Tensor v = do_allocate({tokens, dim}, DType::f32);
  const float *weight_q = f32_values(norm_q).data(), *weight_k = f32_values(norm_k).data();
  const RopeTables tables = rope_tables(head_dim, grid.first_latent, grid.latents, grid.rows, grid.columns);

  // Turns the pairs of one axis, from channel `x` of a head on; returns where the next axis begins. In double, as the
  // published model does.
  const auto rotate = [](const RopeAxis& axis, std::int64_t at, float* x) {
    for (std::int64_t pair = 0; pair < axis.pairs; ++pair, x += 2) {
      const auto index = static_cast<std::size_t>(at * axis.pairs + pair);
      const double cosine = axis.cosines[index], sine = axis.sines[index];
      const auto a = static_cast<double>(x[0]), b = static_cast<double>(x[1]);
      x[0] = static_cast<float>(a * cosine - b * sine);
      x[1] = static_cast<float>(a * sine + b * cosine);
    }
    return x;
  };
  parallel_for(tokens, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float* in = source.data<float>() + token * 3 * dim;
      const TokenPosition at = token_position(token, grid);
      float *q_token = q.mutable_data<float>() + token * dim, *k_token = k.mutable_data<float>() + token * dim;
      rms_normalise(in, weight_q, dim, q_token);
      rms_normalise(in + dim, weight_k, dim, k_token);
      std::copy_n(in + 2 * dim, dim, v.mutable_data<float>() + token * dim);
      for (float* x : {q_token, k_token}) {
        for (std::int64_t head = 0; head < grid.heads; ++head) {
          x = rotate(tables.time, at.latent, x);
          x = rotate(tables.height, at.row, x);
          x = rotate(tables.width, at.column, x);
        }
      }
    }
  });

  const auto block_means = [&](const Tensor& x) {
    const Tensor means = do_allocate({grid.blocks(), dim}, DType::f32);
    parallel_for(grid.blocks(), 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<double> sums(static_cast<std::size_t>(dim));
      for (std::int64_t block = begin; block < end; ++block) {
        std::ranges::fill(sums, 0.0);
        for (std::int64_t token = block * kBlockTokens; token < (block + 1) * kBlockTokens; ++token) {
          const float* row = x.data<float>() + token * dim;
          for (std::size_t c = 0; c < sums.size(); ++c) sums[c] += static_cast<double>(row[c]);
        }
        std::ranges::transform(sums, means.mutable_data<float>() + block * dim,
                               [](double sum) { return static_cast<float>(sum / kBlockTokens); });
      }
    });
    return means;
  };
  const DType type = settings_.compute;
  return {rounded(q, type), rounded(k, type), rounded(v, type), block_means(q), block_means(k)};
}

Tensor ReferenceOperations::do_gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents,
                                              std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kChannels = 16, kGroup = 4;
  const Tensor result = do_allocate({latents, rows, columns, kChannels}, DType::f32);
  parallel_for(latents * rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      const auto latent = static_cast<std::uint64_t>(first_latent + line / rows);
      const auto y = static_cast<std::uint32_t>(line % rows);
      float* out = result.mutable_data<float>() + line * columns * kChannels;
      for (std::int64_t x = 0; x < columns; ++x) {
        for (std::int64_t group = 0; group < kChannels / kGroup; ++group, out += kGroup) {
          const noise::Quad quad =
              noise::gaussian(seed, static_cast<std::uint32_t>(x), y, latent, static_cast<std::uint32_t>(group));
          std::copy_n(quad.values, kGroup, out);
        }
      }
    }
  });
  return result;
}

}  // namespace flashvsr::ops
