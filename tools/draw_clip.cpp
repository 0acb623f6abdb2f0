// draw_clip WIDTHxHEIGHT FRAMES OUT: a test pattern as YUV4MPEG2 (OUT: a .y4m file, or - for standard output). Waves and
// edges that move at several speeds, fine lines, and grain: nothing in it is constant or still. The same everywhere.
#include "core/error.h"
#include "media/media.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string_view>

namespace {

using flashvsr::media::Frame;

struct ClipSize {
  int width = 0, height = 0;
};

int number_of(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    flashvsr::fail(flashvsr::ErrorCode::invalid_argument, "\"{}\" is not a whole number from 1 up", text);
  }
  return value;
}

ClipSize size_of(std::string_view text) {
  const std::size_t cross = text.find('x');
  if (cross == std::string_view::npos) {
    flashvsr::fail(flashvsr::ErrorCode::invalid_argument, "\"{}\" is not WIDTHxHEIGHT", text);
  }
  return {number_of(text.substr(0, cross)), number_of(text.substr(cross + 1))};
}

void draw(Frame& frame, int number) {
  frame.rgb.resize(3 * static_cast<std::size_t>(frame.width) * static_cast<std::size_t>(frame.height));
  const double time = number;
  const double disc_x = frame.width * (0.5 + 0.3 * std::sin(0.09 * time));
  const double disc_y = frame.height * (0.5 + 0.3 * std::cos(0.07 * time));
  auto grain = static_cast<std::uint32_t>(number * 7919 + 1);
  std::size_t i = 0;
  for (int y = 0; y < frame.height; ++y) {
    for (int x = 0; x < frame.width; ++x) {
      const bool disc = std::hypot(x - disc_x, y - disc_y) < 0.2 * frame.height;
      const bool line = (x + y + number) % 23 < 2;
      for (int channel = 0; channel < 3; ++channel) {
        const double wave = std::sin(0.11 * x + 0.05 * (channel + 1) * y + 0.3 * time);
        const double value = (disc ? 170 - 40 * channel : 110) + 60 * wave + (line ? 50 : 0);
        grain = grain * 1664525u + 1013904223u;
        frame.rgb[i++] = static_cast<std::uint8_t>(std::fmin(value + (grain >> 28), 255));
      }
    }
  }
}

void run(char** arguments) {
  const ClipSize size = size_of(arguments[1]);
  const int frames = number_of(arguments[2]);
  flashvsr::media::VideoInfo source;
  source.path = "a test pattern";
  source.width = size.width;
  source.height = size.height;
  source.frames_estimated = frames;
  flashvsr::media::SinkSettings settings;
  settings.width = size.width;
  settings.height = size.height;
  settings.overwrite = true;
  const auto sink = flashvsr::media::open_sink(arguments[3], source, settings);
  Frame frame;
  frame.width = size.width;
  frame.height = size.height;
  frame.duration = 1;
  for (int i = 0; i < frames; ++i) {
    draw(frame, i);
    frame.pts = i;
    sink->write(frame);
  }
  sink->finish();
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 4) {
    fmt::print(stderr, "usage: draw_clip WIDTHxHEIGHT FRAMES OUT\n");
    return 2;
  }
  try {
    run(arguments);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "draw_clip: {}\n", error.what());
    return 1;
  }
}
