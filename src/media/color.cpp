#include "media/color.h"

#include "core/error.h"
#include "core/ycc_picture.h"

namespace flashvsr::media {

namespace {

// The planes one after another without padding.
YccPicture picture_of(const PlanarFormat& format, std::uint8_t* planar) {
  YccPicture picture{.width = format.width,
                     .height = format.height,
                     .bit_depth = format.bit_depth,
                     .has_chroma = format.has_chroma,
                     .log2_chroma_width = format.log2_chroma_width,
                     .log2_chroma_height = format.log2_chroma_height,
                     .siting = format.siting,
                     .matrix = static_cast<int>(format.matrix),
                     .full_range = format.range == ColorRange::full};
  const int sample_bytes = format.bit_depth > 8 ? 2 : 1;
  picture.luma = planar;
  picture.luma_stride = std::ptrdiff_t{sample_bytes} * format.width;
  if (format.has_chroma) {
    picture.cb = planar + format.plane_bytes(0);
    picture.cr = picture.cb + format.plane_bytes(1);
    picture.chroma_stride = std::ptrdiff_t{sample_bytes} * format.plane_width(1);
  }
  return picture;
}

}  // namespace

std::string to_string(const ColorTags& tags) {
  std::string matrix;
  switch (tags.matrix) {
    case ColorMatrix::rgb: matrix = "RGB"; break;
    case ColorMatrix::bt709: matrix = "BT.709"; break;
    case ColorMatrix::bt601_625:
    case ColorMatrix::bt601_525: matrix = "BT.601"; break;
    case ColorMatrix::bt2020: matrix = "BT.2020"; break;
    case ColorMatrix::unspecified: matrix = "no matrix said"; break;
    default: matrix = fmt::format("matrix {}", static_cast<int>(tags.matrix)); break;
  }
  switch (tags.range) {
    case ColorRange::limited: return matrix + ", limited range";
    case ColorRange::full: return matrix + ", full range";
    default: return matrix + ", no range said";
  }
}

ColorTags assumed_tags(const ColorTags& found, int height, bool rgb) {
  ColorTags tags = found;
  if (rgb) {
    tags.matrix = ColorMatrix::rgb;
    tags.range = ColorRange::full;
    if (tags.primaries == ColorPrimaries::unspecified) tags.primaries = ColorPrimaries::bt709;
    if (tags.transfer == ColorTransfer::unspecified) tags.transfer = ColorTransfer::srgb;
    return tags;
  }
  // An RGB matrix on Y'CbCr samples is a tag gone wrong.
  if (tags.matrix == ColorMatrix::unspecified || tags.matrix == ColorMatrix::rgb) {
    if (height > kStandardDefinitionLines) {
      tags.matrix = ColorMatrix::bt709;
    } else {
      tags.matrix = height == kStandardDefinitionLines ? ColorMatrix::bt601_625 : ColorMatrix::bt601_525;
    }
  }
  if (tags.range == ColorRange::unspecified) tags.range = ColorRange::limited;
  if (tags.primaries == ColorPrimaries::unspecified) {
    // Only the two broadcast sizes are known to have their own primaries; small clips from elsewhere have BT.709's.
    if (tags.matrix == ColorMatrix::bt2020) {
      tags.primaries = ColorPrimaries::bt2020;
    } else if (height == 576) {
      tags.primaries = ColorPrimaries::bt601_625;
    } else if (height == 480 || height == 486) {
      tags.primaries = ColorPrimaries::bt601_525;
    } else {
      tags.primaries = ColorPrimaries::bt709;
    }
  }
  if (tags.transfer == ColorTransfer::unspecified) tags.transfer = ColorTransfer::bt709;
  return tags;
}

ColorTags output_tags(const ColorTags& source, int height) {
  ColorTags tags = source;
  tags.range = ColorRange::limited;
  if (source.matrix != ColorMatrix::bt2020) {
    if (height > kStandardDefinitionLines) {
      tags.matrix = ColorMatrix::bt709;
    } else {
      tags.matrix = source.primaries == ColorPrimaries::bt601_625 ? ColorMatrix::bt601_625 : ColorMatrix::bt601_525;
    }
  }
  // Players show video with sRGB's and BT.709's transfer alike, but many know the latter only.
  if (source.transfer == ColorTransfer::srgb) tags.transfer = ColorTransfer::bt709;
  return tags;
}

LumaWeights luma_weights(ColorMatrix matrix) { return flashvsr::luma_weights(static_cast<int>(matrix)); }

int PlanarFormat::plane_width(int plane) const {
  return plane == 0 ? width : (width + (1 << log2_chroma_width) - 1) >> log2_chroma_width;
}

int PlanarFormat::plane_height(int plane) const {
  return plane == 0 ? height : (height + (1 << log2_chroma_height) - 1) >> log2_chroma_height;
}

std::size_t PlanarFormat::plane_bytes(int plane) const {
  return static_cast<std::size_t>(plane_width(plane)) * static_cast<std::size_t>(plane_height(plane)) *
         (bit_depth > 8 ? 2 : 1);
}

std::size_t PlanarFormat::frame_bytes() const {
  return plane_bytes(0) + (has_chroma ? plane_bytes(1) + plane_bytes(2) : 0);
}

void planar_to_rgb(const PlanarFormat& format, const std::uint8_t* planar, std::uint8_t* rgb) {
  // Only read.
  load_rgb_rows(picture_of(format, const_cast<std::uint8_t*>(planar)), 0, format.height, rgb);
}

void rgb_to_planar(const PlanarFormat& format, const std::uint8_t* rgb, std::uint8_t* planar) {
  require(format.has_chroma, "rgb_to_planar writes Y'CbCr with chroma");
  store_rgb_rows(picture_of(format, planar), 0, format.plane_height(1), rgb);
}

}  // namespace flashvsr::media
