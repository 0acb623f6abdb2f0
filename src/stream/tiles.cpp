#include "stream/tiles.h"

#include "core/error.h"

#include <algorithm>

namespace flashvsr::stream {
namespace {

// The least that `count` tiles of it cover `padded` with.
std::int64_t tile_size(std::int64_t padded, std::int64_t count) {
  const std::int64_t all = padded + (count - 1) * kTileOverlap;
  return (all + count * kTileGrid - 1) / (count * kTileGrid) * kTileGrid;
}

// The first count whose tiles are smaller than those of `count`; 0: that would make them too small.
std::int64_t next_count(std::int64_t padded, std::int64_t count) {
  const std::int64_t size = tile_size(padded, count);
  for (std::int64_t next = count + 1; next <= most_tiles(padded); ++next) {
    const std::int64_t smaller = tile_size(padded, next);
    if (smaller < kLeastTileSide) return 0;
    if (smaller < size) return next;
  }
  return 0;
}

// The middle between the end of one tile and the beginning of the next.
std::int64_t border(const TileAxis& axis, std::size_t index) {
  return (axis.begins[index] + axis.size + axis.begins[index + 1]) / 2;
}

// 0 in front of the ramp around `middle`, 1 behind it; exact in f32.
float ramp(std::int64_t place, std::int64_t middle) {
  const std::int64_t half_steps = 2 * (place - middle) + 1 + kTileRamp;
  return static_cast<float>(std::clamp<std::int64_t>(half_steps, 0, 2 * kTileRamp)) / static_cast<float>(2 * kTileRamp);
}

}  // namespace

std::int64_t most_tiles(std::int64_t padded) { return std::max<std::int64_t>((padded - kTileOverlap) / kTileGrid, 1); }

TileAxis tile_axis(std::int64_t padded, std::int64_t count) {
  require(padded > 0 && padded % kTileGrid == 0 && count >= 1 && count <= most_tiles(padded), "{} tiles of {} pixels",
          count, padded);
  TileAxis axis;
  axis.size = tile_size(padded, count);
  const std::int64_t steps = (padded - axis.size) / kTileGrid;
  for (std::int64_t i = 0; i < count; ++i) {
    axis.begins.push_back(count == 1 ? 0 : i * steps / (count - 1) * kTileGrid);
  }
  return axis;
}

std::vector<float> tile_weights(const TileAxis& axis, std::size_t index) {
  std::vector<float> weights(static_cast<std::size_t>(axis.size), 1.0f);
  for (std::int64_t i = 0; i < axis.size; ++i) {
    const std::int64_t place = axis.begins[index] + i;
    float& weight = weights[static_cast<std::size_t>(i)];
    if (index > 0) weight = ramp(place, border(axis, index - 1));
    if (index + 1 < axis.begins.size()) weight -= ramp(place, border(axis, index));
  }
  return weights;
}

std::vector<TileCounts> tile_ladder(std::int64_t padded_width, std::int64_t padded_height) {
  std::vector<TileCounts> ladder;
  TileCounts counts;
  for (;;) {
    const std::int64_t columns = next_count(padded_width, counts.columns);
    const std::int64_t rows = next_count(padded_height, counts.rows);
    const bool wide = tile_size(padded_width, counts.columns) >= tile_size(padded_height, counts.rows);
    if (columns > 0 && (wide || rows == 0)) {
      counts.columns = columns;
    } else if (rows > 0) {
      counts.rows = rows;
    } else {
      return ladder;
    }
    ladder.push_back(counts);
  }
}

}  // namespace flashvsr::stream
