// The eight ways in which a picture can be turned and mirrored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flashvsr::media {

// Pixel (x, y) of a stored picture is shown at (x', y'): with `transpose` x and y change places, then each axis may be
// reversed.
struct Orientation {
  bool transpose = false;
  bool reverse_x = false;  // of the shown picture
  bool reverse_y = false;

  bool upright() const { return !transpose && !reverse_x && !reverse_y; }
  bool mirrored() const { return transpose ? reverse_x == reverse_y : reverse_x != reverse_y; }
  // Degrees clockwise, after mirroring left to right if mirrored().
  int rotation() const;
};

// From the nine numbers of an MP4 display matrix. `exact`: whether it was one of the eight (up to scale).
Orientation orientation_of_matrix(std::span<const std::int32_t, 9> matrix, bool& exact);
// From the Exif tag, 1..8; anything else is upright.
Orientation orientation_of_exif(int tag);

// Copies `width` x `height` pixels of 3 bytes with rows `stride` bytes apart to `target`, packed, as shown.
void orient(const Orientation& orientation, const std::uint8_t* rgb, std::ptrdiff_t stride, int width, int height,
            std::uint8_t* target);

}  // namespace flashvsr::media
