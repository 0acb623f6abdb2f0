#include "cli/output_size.h"

#include "core/error.h"

#include <gtest/gtest.h>

namespace flashvsr::cli {
namespace {

OutputPlan plan(Size input, SizeRequest request) { return plan_output({.size = input}, request); }

TEST(OutputSize, ScaleRoundsHalvesUp) {
  struct Case {
    Size input;
    double scale;
    Size output;
  };
  for (const Case& c :
       {Case{{17, 13}, 1, {17, 13}}, Case{{17, 13}, 1.5, {26, 20}}, Case{{17, 13}, 4, {68, 52}},
        Case{{100, 66}, 2, {200, 132}}, Case{{641, 359}, 1.5, {962, 539}}, Case{{641, 359}, 3, {1923, 1077}},
        Case{{641, 359}, 0.5, {321, 180}}, Case{{1, 1}, 0.5, {1, 1}}}) {
    const OutputPlan result = plan(c.input, {.size = {}, .scale = c.scale});
    EXPECT_EQ(result.output, c.output) << c.input.width << " x " << c.scale;
    EXPECT_EQ(result.upscaled, c.output);
    EXPECT_EQ(result.cropped, c.input);
    EXPECT_FALSE(result.square_pixels);
    EXPECT_FALSE(result.pads());
  }
}

TEST(OutputSize, ScaleOutOfRangeFails) {
  EXPECT_THROW(plan({1, 1}, {.size = {}, .scale = 0.25}), Error);
  EXPECT_THROW(plan({40000, 2}, {.size = {}, .scale = 4}), Error);
}

TEST(OutputSize, SizeOfTheSameAspectNeedsNoFit) {
  // 853x480 is 16:9 up to the rounding of 853.33.
  for (const auto& [input, output] : {std::pair<Size, Size>{{480, 270}, {1920, 1080}},
                                      {{853, 480}, {1920, 1080}},
                                      {{641, 359}, {962, 539}},
                                      {{1920, 1080}, {1280, 720}}}) {
    const OutputPlan result = plan(input, {.size = output});
    EXPECT_EQ(result.output, output);
    EXPECT_EQ(result.cropped, input);
    EXPECT_FALSE(result.square_pixels);
  }
}

TEST(OutputSize, SizeOfAnotherAspectNamesBothAndTheChoices) {
  try {
    plan({640, 480}, {.size = Size{1920, 1080}});
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* part : {"16:9", "4:3", "1920x1080", "640x480", "stretch", "pad", "crop"}) {
      EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
    }
  }
  // One row too many for the rounding of a scale.
  EXPECT_THROW(plan({480, 270}, {.size = Size{1920, 1083}}), Error);
}

TEST(OutputSize, StretchTakesTheSizeAsItIs) {
  const OutputPlan result = plan({640, 480}, {.size = Size{1920, 1080}, .fit = Fit::stretch});
  EXPECT_EQ(result.upscaled, (Size{1920, 1080}));
  EXPECT_EQ(result.cropped, (Size{640, 480}));
  EXPECT_TRUE(result.square_pixels);
}

TEST(OutputSize, PadCentresThePicture) {
  OutputPlan result = plan({640, 480}, {.size = Size{1920, 1080}, .fit = Fit::pad});
  EXPECT_EQ(result.upscaled, (Size{1440, 1080}));
  EXPECT_EQ(result.pad_left, 240);
  EXPECT_EQ(result.pad_top, 0);
  EXPECT_EQ(result.output, (Size{1920, 1080}));
  EXPECT_TRUE(result.pads());

  result = plan({1920, 800}, {.size = Size{1280, 720}, .fit = Fit::pad});
  EXPECT_EQ(result.upscaled, (Size{1280, 533}));
  EXPECT_EQ(result.pad_left, 0);
  EXPECT_EQ(result.pad_top, 93);
}

TEST(OutputSize, CropCentresTheCut) {
  OutputPlan result = plan({640, 480}, {.size = Size{1920, 1080}, .fit = Fit::crop});
  EXPECT_EQ(result.cropped, (Size{640, 360}));
  EXPECT_EQ(result.crop_left, 0);
  EXPECT_EQ(result.crop_top, 60);
  EXPECT_EQ(result.upscaled, (Size{1920, 1080}));
  EXPECT_FALSE(result.pads());

  result = plan({1920, 800}, {.size = Size{1280, 720}, .fit = Fit::crop});
  EXPECT_EQ(result.cropped, (Size{1422, 800}));
  EXPECT_EQ(result.crop_left, 249);
}

TEST(OutputSize, ExtremeAspectsKeepAPixel) {
  const OutputPlan padded = plan({5000, 1}, {.size = Size{100, 100}, .fit = Fit::pad});
  EXPECT_EQ(padded.upscaled, (Size{100, 1}));
  const OutputPlan cut = plan({5000, 1}, {.size = Size{1, 5000}, .fit = Fit::crop});
  EXPECT_EQ(cut.cropped, (Size{1, 1}));
}

TEST(OutputSize, ShownShapeOfAnamorphicPixelsNeedsNoFit) {
  // PAL with pixels of 16:15 is shown 4:3.
  const InputShape pal{.size = {720, 576}, .sample_width = 16, .sample_height = 15};
  const OutputPlan square = plan_output(pal, {.size = Size{1536, 1152}});
  EXPECT_TRUE(square.square_pixels);
  const OutputPlan same = plan_output(pal, {.size = Size{1440, 1152}});
  EXPECT_FALSE(same.square_pixels);
  EXPECT_THROW(plan_output(pal, {.size = Size{1920, 1080}}), Error);
  // The shown picture of 4:3 in 16:9 leaves bars of an eighth on each side, or loses an eighth above and below.
  const OutputPlan padded = plan_output(pal, {.size = Size{1920, 1080}, .fit = Fit::pad});
  EXPECT_EQ(padded.upscaled, (Size{1440, 1080}));
  EXPECT_TRUE(padded.square_pixels);
  const OutputPlan cut = plan_output(pal, {.size = Size{1920, 1080}, .fit = Fit::crop});
  EXPECT_EQ(cut.cropped, (Size{720, 432}));
}

TEST(OutputSize, ParsesSizes) {
  EXPECT_EQ(parse_size("1920x1080"), (Size{1920, 1080}));
  EXPECT_EQ(parse_size("1x1"), (Size{1, 1}));
  for (const char* wrong : {"", "1920", "1920x", "x1080", "1920X1080", "0x10", "10x0", "-1x5", "65536x1", "1x65536",
                            "12x34x56", "1920x1080 ", "99999999999x2", "1.5x2"}) {
    EXPECT_EQ(parse_size(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace flashvsr::cli
