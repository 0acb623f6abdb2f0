#include "core/color_conversion.h"

#include "core/error.h"

namespace flashvsr {
namespace {

// How codes relate to the luma range [0, 1] and the chroma range [-1/2, 1/2].
struct Quantization {
  float luma_offset, luma_span, chroma_offset, chroma_span;
};

Quantization quantization(int bit_depth, bool full_range) {
  require(bit_depth >= 8 && bit_depth <= 16, "samples of {} bits", bit_depth);
  const auto scale = static_cast<float>(1 << (bit_depth - 8));
  if (full_range) {
    const auto largest = static_cast<float>((1 << bit_depth) - 1);
    return {0.0f, largest, 128.0f * scale, largest};
  }
  return {16.0f * scale, 219.0f * scale, 128.0f * scale, 224.0f * scale};
}

}  // namespace

LumaWeights luma_weights(int matrix) {
  switch (matrix) {
    case 1: return {0.2126, 0.0722};
    case 4: return {0.30, 0.11};  // FCC
    case 5:
    case 6: return {0.299, 0.114};
    case 7: return {0.212, 0.087};  // SMPTE 240M
    case 9:
    case 10: return {0.2627, 0.0593};
    default:
      fail(ErrorCode::unsupported,
           "colour matrix {} of ITU-T H.273 is not supported: convert the input to BT.709 first", matrix);
  }
}

RgbFromYcc rgb_from_ycc(int matrix, bool full_range, int bit_depth) {
  const LumaWeights weights = luma_weights(matrix);
  const double green_weight = 1.0 - weights.red - weights.blue;
  const Quantization levels = quantization(bit_depth, full_range);
  // R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb, and G from Y = Kr R + Kg G + Kb B; all scaled to 0..255.
  const double scale = 255.0 / static_cast<double>(levels.chroma_span);
  const double red = 2.0 * (1.0 - weights.red), blue = 2.0 * (1.0 - weights.blue);
  return {.luma_offset = levels.luma_offset,
          .luma_scale = 255.0f / levels.luma_span,
          .chroma_offset = levels.chroma_offset,
          .red_from_cr = static_cast<float>(red * scale),
          .green_from_cb = static_cast<float>(-blue * weights.blue / green_weight * scale),
          .green_from_cr = static_cast<float>(-red * weights.red / green_weight * scale),
          .blue_from_cb = static_cast<float>(blue * scale)};
}

YccFromRgb ycc_from_rgb(int matrix, bool full_range, int bit_depth) {
  const LumaWeights weights = luma_weights(matrix);
  const Quantization levels = quantization(bit_depth, full_range);
  const double scale = static_cast<double>(levels.chroma_span) / 255.0;
  return {.red = static_cast<float>(weights.red),
          .green = static_cast<float>(1.0 - weights.red - weights.blue),
          .blue = static_cast<float>(weights.blue),
          .luma_scale = levels.luma_span / 255.0f,
          .luma_offset = levels.luma_offset,
          .cb_scale = static_cast<float>(scale / (2.0 * (1.0 - weights.blue))),
          .cr_scale = static_cast<float>(scale / (2.0 * (1.0 - weights.red))),
          .chroma_offset = levels.chroma_offset,
          .largest = static_cast<float>((1 << bit_depth) - 1)};
}

}  // namespace flashvsr
