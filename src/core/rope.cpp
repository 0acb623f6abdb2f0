#include "core/rope.h"

#include "core/error.h"

#include <cmath>

namespace flashvsr {

RopeSplit rope_split(std::int64_t head_dim) {
  require(head_dim > 0 && head_dim % 2 == 0, "RoPE rotates pairs of channels: a head dimension of {}", head_dim);
  const std::int64_t spatial = 2 * (head_dim / 6);
  return {head_dim - 2 * spatial, spatial, spatial};
}

RopeAxis rope_axis(std::int64_t first_position, std::int64_t positions, std::int64_t channels) {
  RopeAxis axis{channels / 2, {}, {}};
  axis.cosines.reserve(static_cast<std::size_t>(positions * axis.pairs));
  axis.sines.reserve(static_cast<std::size_t>(positions * axis.pairs));
  std::vector<double> frequencies;
  for (std::int64_t pair = 0; pair < axis.pairs; ++pair) {
    frequencies.push_back(std::pow(1e4, -2.0 * static_cast<double>(pair) / static_cast<double>(channels)));
  }
  for (std::int64_t i = 0; i < positions; ++i) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(first_position + i) * frequency;
      axis.cosines.push_back(std::cos(angle));
      axis.sines.push_back(std::sin(angle));
    }
  }
  return axis;
}

RopeTables rope_tables(std::int64_t head_dim, std::int64_t first_latent, std::int64_t latents, std::int64_t rows,
                       std::int64_t columns) {
  const RopeSplit split = rope_split(head_dim);
  return {rope_axis(first_latent, latents, split.time), rope_axis(0, rows, split.height),
          rope_axis(0, columns, split.width)};
}

}  // namespace flashvsr
