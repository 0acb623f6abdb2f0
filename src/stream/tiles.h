// Tiles of a frame: parts that overlap, go through the networks one by one and are blended. For frames that do not fit
// into memory in one piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashvsr::stream {

// Tiles lie on the grid of attention blocks and have at least this many pixels in common with their neighbours.
inline constexpr std::int64_t kTileGrid = 128;
inline constexpr std::int64_t kTileOverlap = 128;
// In the middle of an overlap, where one tile fades into the next. Nearer to the border of a tile nothing of it is
// seen: there its convolutions saw zeros in the place of the picture.
inline constexpr std::int64_t kTileRamp = 64;
// Tiles that are made without being asked for have sides of at least so many pixels: smaller ones overlap so much that
// they cost more than they save.
inline constexpr std::int64_t kLeastTileSide = 512;

struct TileCounts {
  std::int64_t columns = 1, rows = 1;

  std::int64_t count() const { return columns * rows; }
  bool operator==(const TileCounts&) const = default;
};

// One direction of a frame. All sizes are pixels, multiples of 128.
struct TileAxis {
  std::int64_t size = 0;             // of every tile
  std::vector<std::int64_t> begins;  // where tiles begin, ascending
};

// The most tiles that `padded` pixels, a multiple of 128, have room for: of 256 pixels each, or one.
std::int64_t most_tiles(std::int64_t padded);
// `count` tiles, of the least size that covers `padded` pixels with overlaps. Throws if there is no room for so many.
TileAxis tile_axis(std::int64_t padded, std::int64_t count);
// What the values of tile `index` count from its first row or column to its last, f32 [axis.size]: one, but in overlaps
// with neighbours, where a linear ramp goes down to zero. Weights of all tiles sum to one, exactly, at every place.
std::vector<float> tile_weights(const TileAxis& axis, std::size_t index);

// Ever smaller tiles of a frame, beginning with those after the whole frame: a step makes the longer side of tiles
// shorter, as far as kLeastTileSide.
std::vector<TileCounts> tile_ladder(std::int64_t padded_width, std::int64_t padded_height);

}  // namespace flashvsr::stream
