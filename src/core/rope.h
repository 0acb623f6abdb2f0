// Three-dimensional rotary position embedding (RoPE) of the DiT: angles from absolute positions, without a table's
// limit.
#pragma once

#include <cstdint>
#include <vector>

namespace flashvsr {

// How a head's channels are divided among the axes: 2 * (head_dim / 6) each for height and width, the rest for time
// (128 = 44 + 42 + 42). Channels of a head lie in the order time, height, width.
struct RopeSplit {
  std::int64_t time = 0, height = 0, width = 0;
};

// head_dim is even and positive.
RopeSplit rope_split(std::int64_t head_dim);

// Cosines and sines of `positions` consecutive positions along one axis, [positions, pairs]: pair i of an axis with d
// channels turns by position * 10000^(-2i/d). Computed in double, so that they stay exact at any distance.
struct RopeAxis {
  std::int64_t pairs = 0;
  std::vector<double> cosines, sines;
};

RopeAxis rope_axis(std::int64_t first_position, std::int64_t positions, std::int64_t channels);

// The three axes of a run of latents; rows and columns count from 0 in the frame.
struct RopeTables {
  RopeAxis time, height, width;
};

RopeTables rope_tables(std::int64_t head_dim, std::int64_t first_latent, std::int64_t latents, std::int64_t rows,
                       std::int64_t columns);

}  // namespace flashvsr
