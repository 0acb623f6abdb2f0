// Which colours a video means, and the conversion between planar Y'CbCr and 8-bit RGB.
#pragma once

#include "core/color_conversion.h"
#include "media/media.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace flashvsr::media {

// Tallest picture that is taken for standard definition (BT.601) when nothing is said.
inline constexpr int kStandardDefinitionLines = 576;

// Fills in what `found` leaves open for a picture of `height` lines: BT.601 up to 576 lines, BT.709 above, limited
// range. `rgb`: the file holds RGB, so no matrix, full range, and sRGB's transfer.
ColorTags assumed_tags(const ColorTags& found, int height, bool rgb);

// Tags of Y'CbCr output of `height` lines for RGB frames that came from `source` (all specified): BT.2020 stays,
// otherwise the matrix fits the size; limited range; primaries and transfer are not changed by this engine.
ColorTags output_tags(const ColorTags& source, int height);

using flashvsr::ChromaSiting;

// Throws Error(unsupported) for a matrix that is not one of luma and two colour differences (ICtCp, YCgCo).
LumaWeights luma_weights(ColorMatrix matrix);

struct PlanarFormat {
  int width = 0, height = 0;  // pixels, >= 1
  int bit_depth = 8;          // 8..16; more than 8: two bytes per sample, little endian
  bool has_chroma = true;
  int log2_chroma_width = 1;  // 0 or 1: chroma samples per luma sample, halved (rounded up) that many times
  int log2_chroma_height = 1;
  ChromaSiting siting = ChromaSiting::center;
  ColorMatrix matrix = ColorMatrix::bt709;
  ColorRange range = ColorRange::limited;

  int planes() const { return has_chroma ? 3 : 1; }
  int plane_width(int plane) const;
  int plane_height(int plane) const;
  std::size_t plane_bytes(int plane) const;
  std::size_t frame_bytes() const;
};

// `planar`: the planes one after another without padding, frame_bytes() in all; `rgb`: [height][width][3].
void planar_to_rgb(const PlanarFormat& format, const std::uint8_t* planar, std::uint8_t* rgb);
// Chroma is the mean of the pixels around a sample; siting center or left.
void rgb_to_planar(const PlanarFormat& format, const std::uint8_t* rgb, std::uint8_t* planar);

}  // namespace flashvsr::media
