// Planar Y'CbCr and RGB, against the definitions of BT.601 and BT.709 in double.
#include "media/color.h"
#include "support.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashvsr::media::test {
namespace {

struct Ycc {
  double y, cb, cr;
};

// The definition: Y = Kr R + Kg G + Kb B, Cb = (B - Y) / (2 (1 - Kb)), Cr likewise, quantized.
Ycc truth(const std::array<int, 3>& rgb, double kr, double kb, bool full) {
  const double r = rgb[0] / 255.0, g = rgb[1] / 255.0, b = rgb[2] / 255.0;
  const double y = kr * r + (1 - kr - kb) * g + kb * b;
  const double cb = (b - y) / (2 * (1 - kb)), cr = (r - y) / (2 * (1 - kr));
  if (full) return {255 * y, 128 + 255 * cb, 128 + 255 * cr};
  return {16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr};
}

TEST(Color, EveryMatrixAndRangeFollowsItsDefinition) {
  struct Case {
    ColorMatrix matrix;
    double kr, kb;
  };
  for (const Case& matrix : {Case{ColorMatrix::bt601_525, 0.299, 0.114}, Case{ColorMatrix::bt601_625, 0.299, 0.114},
                             Case{ColorMatrix::bt709, 0.2126, 0.0722}, Case{ColorMatrix::bt2020, 0.2627, 0.0593}}) {
    for (const ColorRange range : {ColorRange::limited, ColorRange::full}) {
      for (const int subsampling : {0, 1}) {
        PlanarFormat format;
        format.width = 4, format.height = 2;
        format.log2_chroma_width = format.log2_chroma_height = subsampling;
        format.matrix = matrix.matrix;
        format.range = range;
        for (const auto& color : kColors) {
          const Frame frame = solid(4, 2, static_cast<std::uint8_t>(color[0]), static_cast<std::uint8_t>(color[1]),
                                    static_cast<std::uint8_t>(color[2]));
          std::vector<std::uint8_t> planar(format.frame_bytes());
          rgb_to_planar(format, frame.rgb.data(), planar.data());
          const Ycc expected = truth(color, matrix.kr, matrix.kb, range == ColorRange::full);
          // Rounding to the nearest code, and a little for the sums in f32; 255.5 has no code (full range chroma).
          const double tolerance = 0.5 + 1e-3;
          EXPECT_NEAR(planar[0], expected.y, tolerance);
          EXPECT_NEAR(planar[8], std::min(expected.cb, 255.0), tolerance);
          EXPECT_NEAR(planar[8 + format.plane_bytes(1)], std::min(expected.cr, 255.0), tolerance);

          std::vector<std::uint8_t> back(frame.rgb.size());
          planar_to_rgb(format, planar.data(), back.data());
          // Half a code of luma and of both differences, at the steepest slope that the way back has (blue from Cb:
          // 2 (1 - Kb) x 255 / 224 < 2.15), then rounding.
          for (std::size_t i = 0; i < back.size(); ++i) EXPECT_NEAR(back[i], frame.rgb[i], 2) << "sample " << i;
        }
      }
    }
  }
}

TEST(Color, DeepSamplesAgreeWithEightBits) {
  PlanarFormat eight, ten;
  eight.width = ten.width = 6, eight.height = ten.height = 4;
  ten.bit_depth = 10;
  const Frame frame = gradient(6, 4, 3);
  std::vector<std::uint8_t> planar(eight.frame_bytes());
  rgb_to_planar(eight, frame.rgb.data(), planar.data());
  std::vector<std::uint8_t> deep;
  for (const std::uint8_t sample : planar) {
    deep.push_back(static_cast<std::uint8_t>(sample << 2 & 0xFF));
    deep.push_back(static_cast<std::uint8_t>(sample >> 6));
  }
  ASSERT_EQ(deep.size(), ten.frame_bytes());
  std::vector<std::uint8_t> from_eight(frame.rgb.size()), from_ten(frame.rgb.size());
  planar_to_rgb(eight, planar.data(), from_eight.data());
  planar_to_rgb(ten, deep.data(), from_ten.data());
  EXPECT_EQ(from_eight, from_ten);
}

// A ramp of chroma shows where its samples lie: linear interpolation at the right places gives the ramp again.
TEST(Color, ChromaIsInterpolatedWhereItsSamplesLie) {
  for (const ChromaSiting siting : {ChromaSiting::center, ChromaSiting::left}) {
    PlanarFormat format;
    format.width = 32, format.height = 8;
    format.siting = siting;
    format.matrix = ColorMatrix::bt601_525;
    format.range = ColorRange::full;
    std::vector<std::uint8_t> planar(format.frame_bytes(), 128);
    const double offset = siting == ChromaSiting::center ? 0.5 : 0.0;
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 16; ++x)  // Cr rises by one code per luma sample
        planar[static_cast<std::size_t>(32 * 8 + 16 * 4 + 16 * y + x)] =
            static_cast<std::uint8_t>(100 + 2 * x + (siting == ChromaSiting::center ? 1 : 0));
    std::vector<std::uint8_t> rgb(32 * 8 * 3);
    planar_to_rgb(format, planar.data(), rgb.data());
    for (int x = 1; x < 30; ++x) {
      const double cr = 100 + (x - offset) + (siting == ChromaSiting::center ? 1 : 0);
      const double red = 128 + 1.402 * (cr - 128);
      EXPECT_NEAR(rgb[static_cast<std::size_t>(32 * 3 * 4 + 3 * x)], red, 0.5 + 1e-3) << "x = " << x;
    }
  }
}

// Cr rises by four codes per pixel: the sample on the left pixel is that pixel's value, the one between is the mean of
// both. At the border the left one's mean holds its pixel three times, and the next once.
TEST(Color, ChromaIsWrittenWhereItsSamplesLie) {
  for (const int bit_depth : {8, 10}) {
    const double unit = bit_depth == 8 ? 1 : 4;
    for (const ChromaSiting siting : {ChromaSiting::center, ChromaSiting::left}) {
      PlanarFormat format;
      format.width = 15, format.height = 3;
      format.bit_depth = bit_depth;
      format.siting = siting;
      format.matrix = ColorMatrix::bt601_525;
      format.range = ColorRange::full;
      Frame frame = solid(15, 3, 0, 90, 90);
      for (int i = 0; i < 45; ++i) frame.rgb[static_cast<std::size_t>(3 * i)] = static_cast<std::uint8_t>(8 * (i % 15));
      std::vector<std::uint8_t> planar(format.frame_bytes());
      rgb_to_planar(format, frame.rgb.data(), planar.data());
      const auto cr_of_red = [](double red) { return 128 + (red - (0.299 * red + 0.701 * 90)) / 1.402; };
      for (int x = 0; x < 8; ++x) {
        double column = 2 * x + (siting == ChromaSiting::center ? 0.5 : 0.0);
        if (siting == ChromaSiting::center && x == 7) column = 14;
        if (siting == ChromaSiting::left && x == 0) column = 0.25;
        if (siting == ChromaSiting::left && x == 7) column = 13.75;
        const std::size_t place =
            (format.plane_bytes(0) + format.plane_bytes(1)) / (bit_depth > 8 ? 2 : 1) + static_cast<std::size_t>(x);
        const int code = bit_depth == 8 ? planar[place] : planar[2 * place] | planar[2 * place + 1] << 8;
        // The full range of 10 bits ends at 1023, not 1020.
        const double scale = bit_depth == 8 ? 1 : 1023.0 / 255.0;
        EXPECT_NEAR(code, 128 * unit + (cr_of_red(8 * column) - 128) * scale, 0.5 + 1e-3)
            << "x = " << x << ", siting " << static_cast<int>(siting) << ", " << bit_depth << " bits";
      }
    }
  }
}

TEST(Color, UntaggedVideoIsJudgedByItsSize) {
  EXPECT_EQ(assumed_tags({}, 576, false).matrix, ColorMatrix::bt601_625);
  EXPECT_EQ(assumed_tags({}, 480, false).matrix, ColorMatrix::bt601_525);
  EXPECT_EQ(assumed_tags({}, 577, false).matrix, ColorMatrix::bt709);
  EXPECT_EQ(assumed_tags({}, 577, false).range, ColorRange::limited);
  ColorTags found;
  found.matrix = ColorMatrix::bt709;
  found.range = ColorRange::full;
  EXPECT_EQ(assumed_tags(found, 100, false).matrix, ColorMatrix::bt709);
  EXPECT_EQ(assumed_tags(found, 100, false).range, ColorRange::full);
  EXPECT_EQ(assumed_tags({}, 100, true).matrix, ColorMatrix::rgb);
}

TEST(Color, OutputIsTaggedByItsSize) {
  const ColorTags small = assumed_tags({}, 240, false);
  EXPECT_EQ(output_tags(small, 576).matrix, ColorMatrix::bt601_525);
  EXPECT_EQ(output_tags(small, 577).matrix, ColorMatrix::bt709);
  EXPECT_EQ(output_tags(small, 577).primaries, small.primaries);
  ColorTags wide = small;
  wide.matrix = ColorMatrix::bt2020;
  EXPECT_EQ(output_tags(wide, 2160).matrix, ColorMatrix::bt2020);
}

TEST(Color, MatricesThatAreNoneAreRefused) {
  EXPECT_NE(error_of([] { luma_weights(static_cast<ColorMatrix>(8)); }), "");
  EXPECT_NE(error_of([] { luma_weights(ColorMatrix::unspecified); }), "");
}

}  // namespace
}  // namespace flashvsr::media::test
