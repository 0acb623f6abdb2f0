#include "core/ycc_picture.h"

#include "core/error.h"

#include <algorithm>
#include <vector>

namespace flashvsr {
namespace {

void load_samples(const YccPicture& picture, const std::uint8_t* bytes, int step, int count, float* row) {
  if (picture.bit_depth == 8) {
    for (int x = 0; x < count; ++x) row[x] = static_cast<float>(bytes[x * step]);
    return;
  }
  for (int x = 0; x < count; ++x) {
    const std::uint8_t* sample = bytes + 2 * x * step;
    const unsigned word = static_cast<unsigned>(sample[0]) | static_cast<unsigned>(sample[1]) << 8;
    row[x] = static_cast<float>(word >> picture.shift);
  }
}

void store_sample(const YccPicture& picture, std::uint8_t* row, std::size_t index, unsigned code) {
  if (picture.bit_depth == 8) {
    row[index] = static_cast<std::uint8_t>(code);
    return;
  }
  const unsigned word = code << picture.shift;
  row[2 * index] = static_cast<std::uint8_t>(word & 0xFFu);
  row[2 * index + 1] = static_cast<std::uint8_t>(word >> 8);
}

// Two rows of chroma samples.
struct ChromaRows {
  explicit ChromaRows(const YccPicture& picture)
      : first(static_cast<std::size_t>(picture.chroma_width())), second(first.size()) {}
  std::vector<float> first, second;
};

// One row of chroma at full width.
void load_chroma(const YccPicture& picture, const std::uint8_t* plane, int y, ChromaRows& rows, float* row) {
  const int columns = picture.chroma_width();
  const ChromaTap vertical =
      chroma_tap(y, picture.chroma_height(), picture.log2_chroma_height, picture.siting != ChromaSiting::top_left);
  load_samples(picture, plane + picture.chroma_stride * vertical.first, picture.chroma_step, columns,
               rows.first.data());
  if (vertical.second_weight > 0.0f) {
    load_samples(picture, plane + picture.chroma_stride * vertical.second, picture.chroma_step, columns,
                 rows.second.data());
    for (std::size_t x = 0; x < rows.first.size(); ++x) {
      rows.first[x] = between(rows.first[x], rows.second[x], vertical.second_weight);
    }
  }
  for (int x = 0; x < picture.width; ++x) {
    const ChromaTap tap = chroma_tap(x, columns, picture.log2_chroma_width, picture.siting == ChromaSiting::center);
    row[x] = between(rows.first[static_cast<std::size_t>(tap.first)], rows.first[static_cast<std::size_t>(tap.second)],
                     tap.second_weight);
  }
}

}  // namespace

void load_rgb_rows(const YccPicture& picture, int begin, int end, std::uint8_t* rgb) {
  const RgbFromYcc conversion = rgb_from_ycc(picture.matrix, picture.full_range, picture.bit_depth);
  const auto width = static_cast<std::size_t>(picture.width);
  std::vector<float> luma(width), cb(width, conversion.chroma_offset), cr(width, conversion.chroma_offset);
  ChromaRows rows(picture);
  for (int y = begin; y < end; ++y) {
    load_samples(picture, picture.luma + picture.luma_stride * y, 1, picture.width, luma.data());
    if (picture.has_chroma) {
      load_chroma(picture, picture.cb, y, rows, cb.data());
      load_chroma(picture, picture.cr, y, rows, cr.data());
    }
    std::uint8_t* out = rgb + width * 3 * static_cast<std::size_t>(y);
    for (std::size_t x = 0; x < width; ++x, out += 3) {
      const RgbPixel pixel = rgb_pixel(conversion, luma[x], cb[x], cr[x]);
      out[0] = pixel.red, out[1] = pixel.green, out[2] = pixel.blue;
    }
  }
}

void store_rgb_rows(const YccPicture& picture, int begin, int end, const std::uint8_t* rgb) {
  require(picture.has_chroma && picture.siting != ChromaSiting::top_left,
          "pictures are written with chroma, sited left or center");
  const YccFromRgb conversion = ycc_from_rgb(picture.matrix, picture.full_range, picture.bit_depth);
  const auto width = static_cast<std::size_t>(picture.width),
             samples = static_cast<std::size_t>(picture.chroma_width());
  const auto step = static_cast<std::size_t>(picture.chroma_step);
  const bool centered = picture.siting == ChromaSiting::center;
  // Blue and red minus luma: of the pixels of a row; sums over what a chroma sample is made of.
  std::vector<float> blue(width), red(width), cb_sum(samples), cr_sum(samples);
  for (int chroma_y = begin; chroma_y < end; ++chroma_y) {
    std::ranges::fill(cb_sum, 0.0f);
    std::ranges::fill(cr_sum, 0.0f);
    const int first_row = chroma_y << picture.log2_chroma_height;
    const int end_row = std::min(first_row + (1 << picture.log2_chroma_height), picture.height);
    for (int y = first_row; y < end_row; ++y) {
      const std::uint8_t* in = rgb + width * 3 * static_cast<std::size_t>(y);
      std::uint8_t* luma = picture.luma + picture.luma_stride * y;
      for (std::size_t x = 0; x < width; ++x, in += 3) {
        const auto r = static_cast<float>(in[0]), g = static_cast<float>(in[1]), b = static_cast<float>(in[2]);
        const float level = luma_level(conversion, r, g, b);
        store_sample(picture, luma, x, luma_code(conversion, level));
        blue[x] = b - level;
        red[x] = r - level;
      }
      for (std::size_t sample = 0; sample < samples; ++sample) {
        if (picture.log2_chroma_width == 0) {
          cb_sum[sample] += blue[sample];
          cr_sum[sample] += red[sample];
          continue;
        }
        const ChromaColumns taps = chroma_columns(static_cast<int>(sample), picture.width, centered);
        for (std::size_t tap = 0; tap < 3; ++tap) {
          const auto column = static_cast<std::size_t>(taps.columns[tap]);
          cb_sum[sample] += taps.weights[tap] * blue[column];
          cr_sum[sample] += taps.weights[tap] * red[column];
        }
      }
    }
    const float inverse_rows = end_row - first_row == 2 ? 0.5f : 1.0f;
    std::uint8_t *cb = picture.cb + picture.chroma_stride * chroma_y,
                 *cr = picture.cr + picture.chroma_stride * chroma_y;
    for (std::size_t sample = 0; sample < samples; ++sample) {
      // All weights are powers of two: nothing is rounded here.
      const float inverse =
          inverse_rows * (picture.log2_chroma_width == 0
                              ? 1.0f
                              : chroma_columns(static_cast<int>(sample), picture.width, centered).inverse_sum);
      store_sample(picture, cb, sample * step, chroma_code(conversion, cb_sum[sample] * inverse, conversion.cb_scale));
      store_sample(picture, cr, sample * step, chroma_code(conversion, cr_sum[sample] * inverse, conversion.cr_scale));
    }
  }
}

}  // namespace flashvsr
