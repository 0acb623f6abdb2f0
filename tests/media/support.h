// Folders that vanish, commands, and whole videos in memory.
#pragma once

#include "media/media.h"

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace flashvsr::media::test {

// Colours that a conversion must keep: black, white, primaries, mixtures, grey.
inline constexpr std::array<std::array<int, 3>, 8> kColors = {{{0, 0, 0},
                                                               {255, 255, 255},
                                                               {255, 0, 0},
                                                               {0, 255, 0},
                                                               {0, 0, 255},
                                                               {200, 30, 120},
                                                               {17, 99, 201},
                                                               {128, 128, 128}}};

// A folder of its own for a test; removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Names of what it holds, hidden files too, sorted.
  std::vector<std::string> entries() const;

 private:
  std::string path_;
};

// Standard output of a shell command; throws if it fails.
std::string run(const std::string& command);
// ffmpeg -i ... with nothing said unless it fails.
void ffmpeg(const std::string& arguments);
// The lines of ffprobe's output.
std::vector<std::string> ffprobe(const std::string& arguments);

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& contents);
bool exists(const std::string& path);

struct Video {
  VideoInfo info;
  std::vector<Frame> frames;
  std::vector<std::string> notes;
};
Video read_video(const std::string& path);

// Settings for frames of the size of the source.
SinkSettings same_size(const VideoInfo& source);
// Reads `from`, writes the same frames to `to`; returns every note of the sink.
std::vector<std::string> copy_video(const std::string& from, const std::string& to,
                                    const std::function<void(SinkSettings&)>& adjust = {},
                                    std::string* pixel_format = nullptr);
bool any_contains(const std::vector<std::string>& notes, const std::string& part);

// The message of the Error that `action` throws; empty if it throws none. Fails the test if it has more than one line.
std::string error_of(const std::function<void()>& action);

// A frame of one colour; and a smooth one that differs from frame to frame.
Frame solid(int width, int height, std::uint8_t red, std::uint8_t green, std::uint8_t blue);
Frame gradient(int width, int height, int number);
// Largest difference of two samples at the same place.
int largest_difference(const Frame& a, const Frame& b);
double mean_difference(const Frame& a, const Frame& b);

// Info of a source that is not a file, for sinks.
VideoInfo plain_source(int width, int height);

}  // namespace flashvsr::media::test
