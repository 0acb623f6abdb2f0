// The arithmetic between 8-bit RGB and Y'CbCr: one definition for files, for operations on the host and for CUDA
// kernels, which all give the same bytes (core/rounded.h).
#pragma once

#include "core/rounded.h"

#include <cstdint>

namespace flashvsr {

// Where a chroma sample lies that several luma samples share.
enum class ChromaSiting : std::uint8_t {
  center,   // between them both ways (JPEG, MPEG-1)
  left,     // on the left one, vertically between (MPEG-2, H.264)
  top_left  // on the upper left one
};

// Weights of red and blue in luma.
struct LumaWeights {
  double red, blue;
};

// `matrix`: code point of ITU-T H.273 (1: BT.709, 5 and 6: BT.601, 9: BT.2020). Throws Error(unsupported) for one that
// is not of luma and two colour differences (ICtCp, YCgCo, RGB).
LumaWeights luma_weights(int matrix);

// Codes of `bit_depth` bits (8 to 16) -> RGB of 0 to 255.
struct RgbFromYcc {
  float luma_offset, luma_scale, chroma_offset;
  float red_from_cr, green_from_cb, green_from_cr, blue_from_cb;
};
RgbFromYcc rgb_from_ycc(int matrix, bool full_range, int bit_depth);

// RGB of 0 to 255 -> codes of `bit_depth` bits.
struct YccFromRgb {
  float red, green, blue;  // in luma
  float luma_scale, luma_offset, cb_scale, cr_scale, chroma_offset;
  float largest;  // code
};
YccFromRgb ycc_from_rgb(int matrix, bool full_range, int bit_depth);

// The nearest code from 0 to `largest`, halves up.
FLASHVSR_HOST_DEVICE inline unsigned nearest_code(float value, float largest) {
  const float low = value < 0.0f ? 0.0f : value, clipped = low > largest ? largest : low;
  return static_cast<unsigned>(rounded::add(clipped, 0.5f));
}

// --------------------------------------------------------------------------------------------------- Y'CbCr to RGB

// Where a luma sample lies between two samples of chroma.
struct ChromaTap {
  int first, second;
  float second_weight;
};

// `log2_ratio`: 0 or 1, luma samples to one of chroma; `between`: chroma lies between pairs of luma samples, else on
// the first of each.
FLASHVSR_HOST_DEVICE inline ChromaTap chroma_tap(int position, int chroma_count, int log2_ratio, bool between) {
  if (log2_ratio == 0) return {position, position, 0.0f};
  const bool odd = position % 2 != 0;
  const int sample = position / 2, last = chroma_count - 1;
  const int next = sample < last ? sample + 1 : last, previous = sample > 0 ? sample - 1 : 0;
  if (between) return {sample, odd ? next : previous, 0.25f};
  return {sample, next, odd ? 0.5f : 0.0f};
}

// Linear interpolation; a weight of 0 gives `first` itself.
FLASHVSR_HOST_DEVICE inline float between(float first, float second, float second_weight) {
  return rounded::add(first, rounded::multiply(rounded::add(second, -first), second_weight));
}

struct RgbPixel {
  std::uint8_t red, green, blue;
};

FLASHVSR_HOST_DEVICE inline RgbPixel rgb_pixel(const RgbFromYcc& from, float luma, float cb_code, float cr_code) {
  using rounded::add;
  using rounded::multiply;
  const float level = multiply(add(luma, -from.luma_offset), from.luma_scale);
  const float cb = add(cb_code, -from.chroma_offset), cr = add(cr_code, -from.chroma_offset);
  const float red = add(level, multiply(from.red_from_cr, cr));
  const float green = add(add(level, multiply(from.green_from_cb, cb)), multiply(from.green_from_cr, cr));
  const float blue = add(level, multiply(from.blue_from_cb, cb));
  constexpr float kLargest = 255.0f;
  return {static_cast<std::uint8_t>(nearest_code(red, kLargest)),
          static_cast<std::uint8_t>(nearest_code(green, kLargest)),
          static_cast<std::uint8_t>(nearest_code(blue, kLargest))};
}

// --------------------------------------------------------------------------------------------------- RGB to Y'CbCr

FLASHVSR_HOST_DEVICE inline float luma_level(const YccFromRgb& to, float red, float green, float blue) {
  using rounded::add;
  using rounded::multiply;
  return add(add(multiply(to.red, red), multiply(to.green, green)), multiply(to.blue, blue));
}

FLASHVSR_HOST_DEVICE inline unsigned luma_code(const YccFromRgb& to, float level) {
  return nearest_code(rounded::add(rounded::multiply(level, to.luma_scale), to.luma_offset), to.largest);
}

// `mean`: of blue (red) minus luma over the pixels that share the sample.
FLASHVSR_HOST_DEVICE inline unsigned chroma_code(const YccFromRgb& to, float mean, float scale) {
  return nearest_code(rounded::add(rounded::multiply(mean, scale), to.chroma_offset), to.largest);
}

// Columns of pixels that a chroma sample of half the width is the mean of: `center` its own two, or the one that there
// is at the border; `left` the one before (at the border the first), twice its own, and the one behind (at the border
// the last).
struct ChromaColumns {
  int columns[3];
  float weights[3];  // 0: not that one
  float inverse_sum;
};

FLASHVSR_HOST_DEVICE inline ChromaColumns chroma_columns(int sample, int width, bool centered) {
  const int own = 2 * sample, last = width - 1, next = own < last ? own + 1 : last;
  if (!centered) return {{own > 0 ? own - 1 : 0, own, next}, {1.0f, 2.0f, 1.0f}, 0.25f};
  const bool pair = own < last;
  return {{own, next, next}, {1.0f, pair ? 1.0f : 0.0f, 0.0f}, pair ? 0.5f : 1.0f};
}

}  // namespace flashvsr
