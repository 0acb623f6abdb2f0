// Colours through FFmpeg's formats, both ways, against the definitions.
#include "core/error.h"
#include "support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace flashvsr::media::test {
namespace {

// The nearest Y'CbCr codes of a colour, 8 bits.
std::array<int, 3> encode(const std::array<int, 3>& rgb, double kr, double kb, bool full) {
  const double r = rgb[0] / 255.0, g = rgb[1] / 255.0, b = rgb[2] / 255.0;
  const double y = kr * r + (1 - kr - kb) * g + kb * b;
  const double cb = (b - y) / (2 * (1 - kb)), cr = (r - y) / (2 * (1 - kr));
  const auto round = [](double value) { return std::clamp(static_cast<int>(std::lround(value)), 0, 255); };
  if (full) return {round(255 * y), round(128 + 255 * cb), round(128 + 255 * cr)};
  return {round(16 + 219 * y), round(128 + 224 * cb), round(128 + 224 * cr)};
}

// A video of one colour per frame in 4:2:0, made of bytes: only its tags say what they mean.
void write_patches(const std::string& path, int width, int height, double kr, double kb, bool full,
                   const std::string& tags) {
  std::string raw;
  const auto pixels = static_cast<std::size_t>(width * height);
  for (const auto& color : kColors) {
    const auto codes = encode(color, kr, kb, full);
    raw.append(pixels, static_cast<char>(codes[0]));
    raw.append(pixels / 4, static_cast<char>(codes[1]));
    raw.append(pixels / 4, static_cast<char>(codes[2]));
  }
  write_text(path + ".yuv", raw);
  ffmpeg(fmt::format("-f rawvideo -pix_fmt yuv420p -s {}x{} -r 5 -i '{}.yuv' -c:v libx264 -crf 0 {} '{}'", width,
                     height, path, tags, path));
}

struct Standard {
  const char* tags;
  int height;  // decides where nothing is said
  double kr, kb;
  bool full;
};

TEST(VideoColor, MatrixAndRangeAreRespected) {
  const TemporaryFolder folder;
  constexpr double kr601 = 0.299, kb601 = 0.114, kr709 = 0.2126, kb709 = 0.0722;
  for (const Standard& standard : {
           Standard{"-colorspace smpte170m -color_range tv", 96, kr601, kb601, false},
           Standard{"-colorspace bt709 -color_range tv", 96, kr709, kb709, false},
           Standard{"-colorspace bt709 -color_range pc", 96, kr709, kb709, true},
           Standard{"-colorspace bt470bg -color_range pc", 96, kr601, kb601, true},
           Standard{"-colorspace bt2020nc -color_range tv", 96, 0.2627, 0.0593, false},
           Standard{"-colorspace smpte170m -color_range tv", 608, kr601, kb601, false},
           Standard{"", 576, kr601, kb601, false},
           Standard{"", 578, kr709, kb709, false},
       }) {
    SCOPED_TRACE(fmt::format("{} at {} lines", standard.tags, standard.height));
    const std::string path = folder / "in.mp4";
    write_patches(path, 64, standard.height, standard.kr, standard.kb, standard.full, standard.tags);
    const Video video = read_video(path);
    ASSERT_EQ(video.frames.size(), kColors.size());
    EXPECT_EQ(any_contains(video.notes, "does not say its colour matrix"), standard.tags[0] == '\0');
    for (std::size_t i = 0; i < kColors.size(); ++i)
      for (std::size_t c = 0; c < 3; ++c)
        // Rounding of the codes at the slope of the way back (2.15 x 0.5 + 1.17 x 0.5), and swscale's own.
        EXPECT_NEAR(video.frames[i].rgb[c], kColors[i][c], 2) << "colour " << i << " channel " << c;
  }
}

// The output's codes are those of the matrix that it is tagged with; read by FFmpeg's program without any conversion.
TEST(VideoColor, OutputIsEncodedAsItIsTagged) {
  const TemporaryFolder folder;
  for (const int height : {96, 608}) {
    for (const char* name : {"out.mp4", "out.mkv", "out.mov"}) {
      SCOPED_TRACE(fmt::format("{} {}", name, height));
      const VideoInfo source = plain_source(64, height);
      SinkSettings settings = same_size(source);
      settings.overwrite = true;
      settings.crf = 0;
      const auto sink = open_sink(folder / name, source, settings);
      for (std::size_t i = 0; i < kColors.size(); ++i) {
        Frame frame = solid(64, height, static_cast<std::uint8_t>(kColors[i][0]),
                            static_cast<std::uint8_t>(kColors[i][1]), static_cast<std::uint8_t>(kColors[i][2]));
        frame.pts = static_cast<std::int64_t>(i);
        sink->write(frame);
      }
      sink->finish();
      const bool high = height > 576;
      const auto tags =
          ffprobe("-select_streams v:0 -show_entries stream=color_range,color_space,color_transfer,color_primaries '" +
                  folder / name + "'");
      ASSERT_EQ(tags.size(), 1U);
      EXPECT_EQ(tags[0], high ? "tv,bt709,bt709,bt709" : "tv,smpte170m,bt709,bt709");
      ffmpeg("-i '" + folder / name + "' -f rawvideo -pix_fmt yuv420p '" + folder / "out.yuv'");
      const std::string raw = read_text(folder / "out.yuv");
      const auto pixels = static_cast<std::size_t>(64 * height);
      ASSERT_EQ(raw.size(), kColors.size() * pixels * 3 / 2);
      for (std::size_t i = 0; i < kColors.size(); ++i) {
        const auto codes = encode(kColors[i], high ? 0.2126 : 0.299, high ? 0.0722 : 0.114, false);
        const std::size_t frame = i * pixels * 3 / 2;
        EXPECT_NEAR(static_cast<std::uint8_t>(raw[frame]), codes[0], 1) << i;
        EXPECT_NEAR(static_cast<std::uint8_t>(raw[frame + pixels]), codes[1], 1) << i;
        EXPECT_NEAR(static_cast<std::uint8_t>(raw[frame + pixels * 5 / 4]), codes[2], 1) << i;
      }
    }
  }
}

// Chroma of H.264 lies on the left luma sample: a ramp must come back without a shift.
TEST(VideoColor, ChromaSitsWhereItBelongs) {
  const TemporaryFolder folder;
  const int width = 96, height = 64;
  const VideoInfo source = plain_source(width, height);
  Frame ramp{width, height, {}, 0, 1};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (const int value : {60 + x, 110, 200 - x}) ramp.rgb.push_back(static_cast<std::uint8_t>(value));
  SinkSettings settings = same_size(source);
  settings.crf = 0;
  const auto sink = open_sink(folder / "out.mp4", source, settings);
  EXPECT_EQ(sink->info().pixel_format, "yuv420p");
  sink->write(ramp);
  sink->finish();
  EXPECT_EQ(ffprobe("-select_streams v:0 -show_entries stream=chroma_location '" + folder / "out.mp4'").at(0), "left");
  const Video video = read_video(folder / "out.mp4");
  double shift = 0;
  int count = 0;
  for (int y = 8; y < height - 8; ++y)
    for (int x = 8; x < width - 8; ++x) {
      const auto index = static_cast<std::size_t>(3 * (y * width + x));
      shift += video.frames[0].rgb[index] - ramp.rgb[index];
      ++count;
      EXPECT_NEAR(video.frames[0].rgb[index], ramp.rgb[index], 3);
    }
  // Half a pixel of shift would be half a level of red on the mean of the ramp.
  EXPECT_LT(std::abs(shift / count), 0.25);
}

TEST(VideoColor, TenBitsAndOtherFormatsAgree) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=96x64:rate=5 -frames:v 1 -pix_fmt rgb24 -f rawvideo '" + folder / "truth.rgb'");
  const std::string truth = read_text(folder / "truth.rgb");
  for (const char* format : {"yuv444p", "yuv444p10le", "yuv444p12le", "yuv444p16le", "gbrp", "gbrp10le", "gbrp12le",
                             "gbrap", "rgb48le", "bgr0", "yuva444p"}) {
    SCOPED_TRACE(format);
    const bool rgb = !std::string(format).starts_with("yuv");
    // Where swscale goes from RGB to RGB by way of Y'CbCr, another matrix for the output would spoil the colours.
    ffmpeg(fmt::format(
        "-f rawvideo -pix_fmt rgb24 -s 96x64 -r 5 -i '{}' -vf "
        "scale={}flags=accurate_rnd+full_chroma_int+full_chroma_inp,format={} -colorspace {} -c:v ffv1 -strict -2 '{}'",
        folder / "truth.rgb", rgb ? "" : "out_color_matrix=bt709:", format, rgb ? "rgb" : "bt709", folder / "in.mkv"));
    const Video video = read_video(folder / "in.mkv");
    ASSERT_EQ(video.frames.size(), 1U);
    int largest = 0;
    for (std::size_t i = 0; i < truth.size(); ++i)
      largest = std::max(largest, std::abs(video.frames[0].rgb[i] - static_cast<std::uint8_t>(truth[i])));
    EXPECT_LE(largest, 3);
    EXPECT_EQ(video.info.alpha, std::string(format) == "yuva444p" || std::string(format) == "gbrap");
  }
}

TEST(VideoColor, SixteenBitsAreRounded) {
  const TemporaryFolder folder;
  // v x 257 is exactly v in 16 bits.
  const Frame frame = gradient(48, 32, 1);
  std::string deep;
  for (const std::uint8_t value : frame.rgb) deep.append(2, static_cast<char>(value));
  write_text(folder / "deep.rgb", deep);
  ffmpeg("-f rawvideo -pix_fmt rgb48be -s 48x32 -i '" + folder / "deep.rgb' '" + folder / "deep.png'");
  const Video video = read_video(folder / "deep.png");
  EXPECT_EQ(video.info.bit_depth, 16);
  EXPECT_LE(largest_difference(video.frames[0], frame), 1);
}

TEST(VideoColor, GreyAndPalettesAreWhatTheyShow) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i color=0x808080:size=32x32 -frames:v 1 -pix_fmt gray '" + folder / "grey.png'");
  EXPECT_EQ(largest_difference(read_video(folder / "grey.png").frames[0], solid(32, 32, 128, 128, 128)), 0);
  ffmpeg(
      "-f lavfi -i color=0xC81E78:size=32x32:rate=10:duration=0.3 -filter_complex "
      "'split[a][b];[a]palettegen[p];[b][p]paletteuse' '" +
      folder / "a.gif'");
  const Video gif = read_video(folder / "a.gif");
  EXPECT_LE(largest_difference(gif.frames.at(0), solid(32, 32, 200, 30, 120)), 4);
}

}  // namespace
}  // namespace flashvsr::media::test
