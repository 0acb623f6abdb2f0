// Pictures of many formats, written sample by sample by definition, to RGB.
#include "media/ffmpeg/pixels.h"
#include "support.h"

#include <gtest/gtest.h>

extern "C" {
#include <libavutil/imgutils.h>
}

#include <cmath>
#include <cstring>
#include <random>

namespace flashvsr::media::test {
namespace {

constexpr int kWidth = 64, kHeight = 32;

AVPixelFormat format_named(const char* name) {
  const AVPixelFormat format = av_get_pix_fmt(name);
  if (format == AV_PIX_FMT_NONE) throw std::runtime_error(std::string("no pixel format ") + name);
  return format;
}

// Full range for RGB and grey, except limited grey; BT.709 in the limited range for the rest.
double level_of(const AVPixFmtDescriptor& description, int component, const std::array<double, 3>& rgb, bool limited) {
  const int depth = description.comp[component].depth;
  const double largest = (1 << depth) - 1, step = std::ldexp(1.0, depth - 8);
  const bool alpha = (description.flags & AV_PIX_FMT_FLAG_ALPHA) != 0 && component == description.nb_components - 1;
  if (alpha) return largest;
  if ((description.flags & AV_PIX_FMT_FLAG_RGB) != 0) return rgb[static_cast<std::size_t>(component)] * largest;
  if (description.nb_components <= 2) return limited ? step * (16 + 219 * rgb[0]) : rgb[0] * largest;
  const double luma = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  if (component == 0) return step * (16 + 219 * luma);
  return step * (128 + 224 * (component == 1 ? (rgb[2] - luma) / 1.8556 : (rgb[0] - luma) / 1.5748));
}

// `truth` has one colour for all pixels that share a chroma sample.
AvFrame picture_of(const Frame& truth, AVPixelFormat format, bool limited) {
  const AVPixFmtDescriptor& description = *av_pix_fmt_desc_get(format);
  AvFrame picture = make_frame();
  picture->width = truth.width;
  picture->height = truth.height;
  picture->format = format;
  if (limited) picture->color_range = AVCOL_RANGE_MPEG;
  if (av_frame_get_buffer(picture.get(), 64) < 0) throw std::bad_alloc();
  for (const AVBufferRef* buffer : picture->buf)
    if (buffer != nullptr) std::memset(buffer->data, 0, buffer->size);
  for (int component = 0; component < description.nb_components; ++component) {
    const bool chroma = (component == 1 || component == 2) && (description.flags & AV_PIX_FMT_FLAG_RGB) == 0;
    const int across = chroma ? description.log2_chroma_w : 0, down = chroma ? description.log2_chroma_h : 0;
    std::vector<std::uint16_t> row(static_cast<std::size_t>(truth.width >> across));
    for (int y = 0; y < truth.height >> down; ++y) {
      for (std::size_t x = 0; x < row.size(); ++x) {
        const std::uint8_t* pixel =
            &truth.rgb[3 * (static_cast<std::size_t>((y << down) * truth.width) + (x << across))];
        const double level =
            level_of(description, component, {pixel[0] / 255.0, pixel[1] / 255.0, pixel[2] / 255.0}, limited);
        row[x] = static_cast<std::uint16_t>(std::lround(level));
      }
      std::array<std::uint8_t*, 4> planes{picture->data[0], picture->data[1], picture->data[2], picture->data[3]};
      av_write_image_line2(row.data(), planes.data(), picture->linesize, &description, 0, y, component,
                           truth.width >> across, sizeof row[0]);
    }
  }
  return picture;
}

// Every pixel on its own, or (`patches`) colours that cover 8 x 8 pixels.
Frame random_colors(bool grey, bool patches) {
  Frame frame = solid(kWidth, kHeight, 0, 0, 0);
  std::mt19937 random(1);
  std::uniform_int_distribution<int> level(0, 255);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      std::uint8_t* pixel = &frame.rgb[static_cast<std::size_t>(3 * (y * kWidth + x))];
      if (patches && (x % 8 != 0 || y % 8 != 0)) {
        const int first = 3 * (y / 8 * 8 * kWidth + x / 8 * 8);
        std::memcpy(pixel, &frame.rgb[static_cast<std::size_t>(first)], 3);
        continue;
      }
      for (int channel = 0; channel < 3; ++channel)
        pixel[channel] = grey && channel > 0 ? pixel[0] : static_cast<std::uint8_t>(level(random));
    }
  }
  return frame;
}

// Over the whole picture, or (`patches`) the middle of every patch, which chroma from outside does not reach.
int difference(const Frame& got, const Frame& expected, bool patches) {
  int largest = 0;
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      if (patches && (x % 8 < 3 || x % 8 > 4 || y % 8 < 3 || y % 8 > 4)) continue;
      for (int channel = 0; channel < 3; ++channel) {
        const auto i = static_cast<std::size_t>(3 * (y * kWidth + x) + channel);
        largest = std::max(largest, std::abs(got.rgb[i] - expected.rgb[i]));
      }
    }
  }
  return largest;
}

struct Case {
  const char* name;
  // swscale drops bits of deep RGB and grey where 255 / (2^depth - 1) is meant: at most one level more. Codes of 8 bits
  // are rounded at the slope of the way back (2.15 x 0.5 + 1.17 x 0.5).
  int bound;
  bool limited = false;
};

constexpr Case kCases[] = {
    {"gbrp", 0},        {"gbrap", 0},       {"bgra", 0},           {"gray", 0},         {"ya8", 0},
    {"gbrp9le", 1},     {"gbrp10le", 1},    {"gbrp12le", 1},       {"gbrp14le", 1},     {"gbrp16le", 1},
    {"gbrap10le", 1},   {"gbrap12le", 1},   {"gbrap16le", 1},      {"rgb48le", 1},      {"rgb48be", 1},
    {"rgba64le", 1},    {"x2rgb10le", 1},   {"gray10le", 1},       {"gray12le", 1},     {"gray16le", 1},
    {"ya16le", 1},      {"gray", 1, true},  {"gray10le", 1, true}, {"yuv444p", 2},      {"yuva444p", 2},
    {"yuv444p10le", 1}, {"yuv444p12le", 1}, {"yuv444p16le", 1},    {"yuva444p16le", 1}, {"yuv420p", 2},
    {"yuva420p", 2},    {"nv12", 2},        {"yuv420p10le", 1},    {"yuva420p10le", 1}, {"p010le", 1},
    {"p016le", 1},      {"yuv422p10le", 1}, {"yuyv422", 2},
};

TEST(Pixels, EveryFormatGivesTheColoursThatItHolds) {
  for (const Case& format_case : kCases) {
    SCOPED_TRACE(fmt::format("{}{}", format_case.name, format_case.limited ? ", limited range" : ""));
    const AVPixelFormat format = format_named(format_case.name);
    const AVPixFmtDescriptor& description = *av_pix_fmt_desc_get(format);
    const bool patches = description.log2_chroma_w > 0;
    const Frame truth = random_colors(description.nb_components <= 2, patches);
    const AvFrame picture = picture_of(truth, format, format_case.limited);
    ColorTags tags = assumed_tags(found_tags(*picture), kHeight, format);
    if (!is_rgb(format)) tags.matrix = ColorMatrix::bt709;
    RgbReader reader;
    Frame frame;
    reader.read(*picture, tags, {}, 0, 0, "picture", frame);
    ASSERT_EQ(frame.width, kWidth);
    ASSERT_EQ(frame.height, kHeight);
    EXPECT_LE(difference(frame, truth, patches), format_case.bound);
  }
}

}  // namespace
}  // namespace flashvsr::media::test
