// side_by_side LOW HIGH FRAME OUT.png [LEFT TOP WIDTH HEIGHT]: frame number FRAME of two videos beside each other, that
// of LOW resized with the bicubic filter to the size of HIGH. LEFT TOP WIDTH HEIGHT: only this part, in pixels of HIGH.
#include "core/error.h"
#include "core/tensor.h"
#include "media/media.h"
#include "ops/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

using flashvsr::ErrorCode;
using flashvsr::media::Frame;

constexpr int kDividerWidth = 4;

// Letters of the two labels, 5x7 pixels, the highest bit of a row on the left.
struct Glyph {
  char letter;
  std::array<std::uint8_t, 7> rows;
};
constexpr std::array kGlyphs = {
    Glyph{'A', {0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}}, Glyph{'B', {0x1e, 0x11, 0x11, 0x1e, 0x11, 0x11, 0x1e}},
    Glyph{'C', {0x0e, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0e}}, Glyph{'F', {0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x10}},
    Glyph{'H', {0x11, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11}}, Glyph{'I', {0x0e, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0e}},
    Glyph{'L', {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f}}, Glyph{'R', {0x1e, 0x11, 0x11, 0x1e, 0x14, 0x12, 0x11}},
    Glyph{'S', {0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e}}, Glyph{'U', {0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0e}},
    Glyph{'V', {0x11, 0x11, 0x11, 0x11, 0x11, 0x0a, 0x04}},
};

void set_pixel(Frame& frame, int x, int y, std::uint8_t value) {
  if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) return;
  std::memset(&frame.rgb[3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(frame.width) +
                              static_cast<std::size_t>(x))],
              value, 3);
}

// White letters on a black plate, so that they can be read on any picture.
void draw_label(Frame& frame, int left, int top, std::string_view text, int scale) {
  const int width = (6 * static_cast<int>(text.size()) + 1) * scale;
  for (int y = -scale; y < 8 * scale; ++y) {
    for (int x = -scale; x < width - scale; ++x) set_pixel(frame, left + x, top + y, 0);
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto glyph =
        std::find_if(kGlyphs.begin(), kGlyphs.end(), [&](const Glyph& g) { return g.letter == text[i]; });
    if (glyph == kGlyphs.end()) continue;
    for (int y = 0; y < 7 * scale; ++y) {
      for (int x = 0; x < 5 * scale; ++x) {
        const bool ink = (glyph->rows[static_cast<std::size_t>(y / scale)] >> (4 - x / scale)) & 1;
        if (ink) set_pixel(frame, left + 6 * scale * static_cast<int>(i) + x, top + y, 255);
      }
    }
  }
}

Frame read_frame(const char* path, int number) {
  const auto source = flashvsr::media::open_source(path);
  Frame frame;
  for (int i = 0; i <= number; ++i) {
    if (!source->read(frame)) {
      flashvsr::fail(ErrorCode::invalid_argument, "{}: there is no frame {}: the video ends after {}", path, number, i);
    }
  }
  return frame;
}

Frame resized(const Frame& frame, int width, int height) {
  const flashvsr::Tensor pixels = flashvsr::allocate_host({1, frame.height, frame.width, 3}, flashvsr::DType::u8);
  std::memcpy(pixels.mutable_raw(), frame.rgb.data(), frame.rgb.size());
  const auto operations = flashvsr::ops::make_backend({.device = flashvsr::ops::Device::cpu});
  const flashvsr::Tensor large =
      operations->to_host(operations->resize_bicubic(operations->from_host(pixels), height, width));
  Frame result;
  result.width = width;
  result.height = height;
  result.rgb.resize(large.bytes());
  std::memcpy(result.rgb.data(), large.raw(), large.bytes());
  return result;
}

struct Area {
  int left = 0, top = 0, width = 0, height = 0;
};

Frame joined(const Frame& left, const Frame& right, const Area& area) {
  Frame result;
  result.width = 2 * area.width + kDividerWidth;
  result.height = area.height;
  const auto row_bytes = 3 * static_cast<std::size_t>(result.width);
  result.rgb.assign(row_bytes * static_cast<std::size_t>(area.height), 255);
  const auto part_bytes = 3 * static_cast<std::size_t>(area.width);
  for (int y = 0; y < area.height; ++y) {
    const auto from = 3 * (static_cast<std::size_t>(area.top + y) * static_cast<std::size_t>(left.width) +
                           static_cast<std::size_t>(area.left));
    std::uint8_t* row = result.rgb.data() + static_cast<std::size_t>(y) * row_bytes;
    std::memcpy(row, left.rgb.data() + from, part_bytes);
    std::memcpy(row + row_bytes - part_bytes, right.rgb.data() + from, part_bytes);
  }
  const int scale = std::max(1, area.height / 240);
  draw_label(result, 4 * scale, 4 * scale, "BICUBIC", scale);
  draw_label(result, area.width + kDividerWidth + 4 * scale, 4 * scale, "FLASHVSR", scale);
  return result;
}

int number_of(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    flashvsr::fail(ErrorCode::invalid_argument, "\"{}\" is not a whole number from 0 up", text);
  }
  return value;
}

void run(int argument_count, char** arguments) {
  const int number = number_of(arguments[3]);
  const Frame high = read_frame(arguments[2], number);
  const Frame low = resized(read_frame(arguments[1], number), high.width, high.height);
  Area area{.width = high.width, .height = high.height};
  if (argument_count == 9) {
    area = {number_of(arguments[5]), number_of(arguments[6]), number_of(arguments[7]), number_of(arguments[8])};
  }
  if (area.width < 1 || area.height < 1 || area.left > high.width - area.width ||
      area.top > high.height - area.height) {
    flashvsr::fail(ErrorCode::invalid_argument, "the part {}x{} at {},{} is not inside {}x{}", area.width, area.height,
                   area.left, area.top, high.width, high.height);
  }
  const Frame picture = joined(low, high, area);

  flashvsr::media::VideoInfo still;
  still.kind = flashvsr::media::SourceKind::still;
  still.path = arguments[1];
  still.width = picture.width;
  still.height = picture.height;
  still.frames_estimated = 1;
  flashvsr::media::SinkSettings settings;
  settings.width = picture.width;
  settings.height = picture.height;
  settings.overwrite = true;
  const auto sink = flashvsr::media::open_sink(arguments[4], still, settings);
  sink->write(picture);
  sink->finish();
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 5 && argument_count != 9) {
    fmt::print(stderr, "usage: side_by_side LOW HIGH FRAME OUT.png [LEFT TOP WIDTH HEIGHT]\n");
    return 2;
  }
  try {
    run(argument_count, arguments);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "side_by_side: {}\n", error.what());
    return 1;
  }
}
