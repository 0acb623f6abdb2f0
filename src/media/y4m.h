// YUV4MPEG2: raw video with a text header, in files and pipes. Needs no library.
#pragma once

#include "media/color.h"
#include "media/media.h"

#include <memory>
#include <string>
#include <string_view>

namespace flashvsr::media {

inline constexpr std::string_view kY4mMagic = "YUV4MPEG2";

// Largest frame that is read or written, in pixels: far above any real video, and low enough that a forged header
// cannot ask for all memory.
inline constexpr std::int64_t kMaxPixels = 100'000'000;
inline constexpr int kMaxDimension = 65535;

// What a stream header says.
struct Y4mHeader {
  PlanarFormat format;
  std::string color_space = "420jpeg";  // after C
  Rational frame_rate{25, 1};
  Rational sample_aspect{1, 1};
  ColorRange range = ColorRange::unspecified;
  bool interlaced = false;
};

// `line`: without the line feed. `path` is for messages. Throws Error(format) or Error(unsupported).
Y4mHeader parse_y4m_header(std::string_view line, const std::string& path);

// "-" is standard input, or standard output.
std::unique_ptr<FrameSource> open_y4m_source(const std::string& path);
std::unique_ptr<FrameSink> open_y4m_sink(const std::string& path, const VideoInfo& source,
                                         const SinkSettings& settings);

}  // namespace flashvsr::media
