#include "media/color.h"

#include "core/error.h"

#include <algorithm>
#include <vector>

namespace flashvsr::media {

namespace {

// How sample values relate to the luma range [0, 1] and the chroma range [-1/2, 1/2], for one bit depth.
struct Quantization {
  float luma_offset, luma_span, chroma_offset, chroma_span;
};

Quantization quantization(int bit_depth, ColorRange range) {
  const auto scale = static_cast<float>(1 << (bit_depth - 8));
  if (range == ColorRange::full) {
    const auto largest = static_cast<float>((1 << bit_depth) - 1);
    return {0.0F, largest, 128.0F * scale, largest};
  }
  return {16.0F * scale, 219.0F * scale, 128.0F * scale, 224.0F * scale};
}

std::uint8_t to_byte(float value) { return static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F) + 0.5F); }

void load_row(const std::uint8_t* bytes, int bit_depth, int count, float* row) {
  if (bit_depth == 8) {
    for (int x = 0; x < count; ++x) row[x] = static_cast<float>(bytes[x]);
    return;
  }
  for (int x = 0; x < count; ++x)
    row[x] = static_cast<float>(static_cast<unsigned>(bytes[2 * x]) | static_cast<unsigned>(bytes[2 * x + 1]) << 8);
}

// Where an output sample lies between two chroma samples.
struct Tap {
  int first, second;
  float second_weight;
};

// `centered`: chroma samples lie between pairs of luma samples; otherwise on the first of each pair.
Tap chroma_tap(int position, int chroma_count, int log2_ratio, bool centered) {
  if (log2_ratio == 0) return {position, position, 0.0F};
  const bool odd = position % 2 != 0;
  const int sample = position / 2;
  if (centered) {
    const int neighbour = std::clamp(odd ? sample + 1 : sample - 1, 0, chroma_count - 1);
    return {sample, neighbour, 0.25F};
  }
  return {sample, std::min(sample + 1, chroma_count - 1), odd ? 0.5F : 0.0F};
}

// One row of chroma at full width, from two rows of samples.
void upsample_chroma(const PlanarFormat& format, const std::uint8_t* plane, int y, std::vector<float>& first,
                     std::vector<float>& second, float* row) {
  const int columns = format.plane_width(1);
  const int rows = format.plane_height(1);
  const std::size_t row_bytes = format.plane_bytes(1) / static_cast<std::size_t>(rows);
  const Tap vertical = chroma_tap(y, rows, format.log2_chroma_height, format.siting != ChromaSiting::top_left);
  load_row(plane + row_bytes * static_cast<std::size_t>(vertical.first), format.bit_depth, columns, first.data());
  if (vertical.second_weight > 0.0F) {
    load_row(plane + row_bytes * static_cast<std::size_t>(vertical.second), format.bit_depth, columns, second.data());
    for (std::size_t x = 0; x < static_cast<std::size_t>(columns); ++x)
      first[x] += (second[x] - first[x]) * vertical.second_weight;
  }
  for (int x = 0; x < format.width; ++x) {
    const Tap horizontal = chroma_tap(x, columns, format.log2_chroma_width, format.siting == ChromaSiting::center);
    const float left = first[static_cast<std::size_t>(horizontal.first)];
    row[x] = left + (first[static_cast<std::size_t>(horizontal.second)] - left) * horizontal.second_weight;
  }
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

LumaWeights luma_weights(ColorMatrix matrix) {
  switch (static_cast<int>(matrix)) {
    case 1: return {0.2126, 0.0722};
    case 4: return {0.30, 0.11};  // FCC
    case 5:
    case 6: return {0.299, 0.114};
    case 7: return {0.212, 0.087};  // SMPTE 240M
    case 9:
    case 10: return {0.2627, 0.0593};
    default:
      fail(ErrorCode::unsupported,
           "colour matrix {} of ITU-T H.273 is not supported: convert the input to BT.709 first",
           static_cast<int>(matrix));
  }
}

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
  const LumaWeights weights = luma_weights(format.matrix);
  const double green_weight = 1.0 - weights.red - weights.blue;
  const Quantization levels = quantization(format.bit_depth, format.range);
  // R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb, and G from Y = Kr R + Kg G + Kb B; all scaled to 0..255.
  const float luma_scale = 255.0F / levels.luma_span;
  const double chroma_scale = 255.0 / static_cast<double>(levels.chroma_span);
  const auto red_from_cr = static_cast<float>(2.0 * (1.0 - weights.red) * chroma_scale);
  const auto blue_from_cb = static_cast<float>(2.0 * (1.0 - weights.blue) * chroma_scale);
  const auto green_from_cr = static_cast<float>(-2.0 * (1.0 - weights.red) * weights.red / green_weight * chroma_scale);
  const auto green_from_cb =
      static_cast<float>(-2.0 * (1.0 - weights.blue) * weights.blue / green_weight * chroma_scale);

  const auto width = static_cast<std::size_t>(format.width);
  const std::size_t luma_row_bytes = format.plane_bytes(0) / static_cast<std::size_t>(format.height);
  std::vector<float> luma(width), cb(width, 0.0F), cr(width, 0.0F), first(width), second(width);
  for (int y = 0; y < format.height; ++y) {
    load_row(planar + luma_row_bytes * static_cast<std::size_t>(y), format.bit_depth, format.width, luma.data());
    if (format.has_chroma) {
      const std::uint8_t* cb_plane = planar + format.plane_bytes(0);
      upsample_chroma(format, cb_plane, y, first, second, cb.data());
      upsample_chroma(format, cb_plane + format.plane_bytes(1), y, first, second, cr.data());
      for (std::size_t x = 0; x < width; ++x) {
        cb[x] -= levels.chroma_offset;
        cr[x] -= levels.chroma_offset;
      }
    }
    std::uint8_t* pixel = rgb + width * 3 * static_cast<std::size_t>(y);
    for (std::size_t x = 0; x < width; ++x, pixel += 3) {
      const float level = (luma[x] - levels.luma_offset) * luma_scale;
      pixel[0] = to_byte(level + red_from_cr * cr[x]);
      pixel[1] = to_byte(level + green_from_cb * cb[x] + green_from_cr * cr[x]);
      pixel[2] = to_byte(level + blue_from_cb * cb[x]);
    }
  }
}

void rgb_to_planar(const PlanarFormat& format, const std::uint8_t* rgb, std::uint8_t* planar) {
  require(format.bit_depth == 8 && format.has_chroma && format.siting == ChromaSiting::center,
          "rgb_to_planar writes 8-bit Y'CbCr with centered chroma");
  const LumaWeights weights = luma_weights(format.matrix);
  const Quantization levels = quantization(8, format.range);
  const auto red = static_cast<float>(weights.red), blue = static_cast<float>(weights.blue);
  const float green = static_cast<float>(1.0 - weights.red - weights.blue);
  const float luma_scale = levels.luma_span / 255.0F;
  const auto cb_scale =
      static_cast<float>(static_cast<double>(levels.chroma_span) / 255.0 / (2.0 * (1.0 - weights.blue)));
  const auto cr_scale =
      static_cast<float>(static_cast<double>(levels.chroma_span) / 255.0 / (2.0 * (1.0 - weights.red)));

  const auto width = static_cast<std::size_t>(format.width);
  const auto chroma_width = static_cast<std::size_t>(format.plane_width(1));
  std::uint8_t* cb_plane = planar + format.plane_bytes(0);
  std::uint8_t* cr_plane = cb_plane + format.plane_bytes(1);
  // Sums of blue and red minus luma over the pixels that share a chroma sample, and how many those are.
  std::vector<float> cb_sum(chroma_width), cr_sum(chroma_width), count(chroma_width);
  for (int chroma_y = 0; chroma_y < format.plane_height(1); ++chroma_y) {
    std::fill(cb_sum.begin(), cb_sum.end(), 0.0F);
    std::fill(cr_sum.begin(), cr_sum.end(), 0.0F);
    std::fill(count.begin(), count.end(), 0.0F);
    const int first_row = chroma_y << format.log2_chroma_height;
    const int end_row = std::min(first_row + (1 << format.log2_chroma_height), format.height);
    for (int y = first_row; y < end_row; ++y) {
      const std::uint8_t* pixel = rgb + width * 3 * static_cast<std::size_t>(y);
      std::uint8_t* luma = planar + width * static_cast<std::size_t>(y);
      for (std::size_t x = 0; x < width; ++x, pixel += 3) {
        const auto r = static_cast<float>(pixel[0]), g = static_cast<float>(pixel[1]), b = static_cast<float>(pixel[2]);
        const float level = red * r + green * g + blue * b;
        luma[x] = to_byte(level * luma_scale + levels.luma_offset);
        const std::size_t sample = x >> format.log2_chroma_width;
        cb_sum[sample] += b - level;
        cr_sum[sample] += r - level;
        count[sample] += 1.0F;
      }
    }
    const std::size_t row = chroma_width * static_cast<std::size_t>(chroma_y);
    for (std::size_t x = 0; x < chroma_width; ++x) {
      cb_plane[row + x] = to_byte(cb_sum[x] / count[x] * cb_scale + levels.chroma_offset);
      cr_plane[row + x] = to_byte(cr_sum[x] / count[x] * cr_scale + levels.chroma_offset);
    }
  }
}

}  // namespace flashvsr::media
