#include "support.h"

#include "core/error.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

// Under LeakSanitizer: x265 forgets some of its parameters at every opening.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions() { return "leak:libx265\n"; }

namespace flashvsr::media::test {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "flashvsr-media-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder can be made");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

std::vector<std::string> TemporaryFolder::entries() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string run(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start: " + command);
  std::string output;
  std::array<char, 4096> buffer{};
  while (const std::size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), got);
  const int status = pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("failed: " + command + "\n" + output);
  return output;
}

void ffmpeg(const std::string& arguments) {
  run("ffmpeg -hide_banner -loglevel error -nostdin -y -threads 1 " + arguments + " 2>&1");
}

std::vector<std::string> ffprobe(const std::string& arguments) {
  std::istringstream output(run("ffprobe -v error -of csv=p=0 " + arguments + " 2>&1"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(output, line);) {
    while (!line.empty() && line.back() == ',') line.pop_back();
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

void write_text(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

bool exists(const std::string& path) { return fs::exists(path); }

Video read_video(const std::string& path) {
  const auto source = open_source(path);
  Video video;
  video.info = source->info();
  for (Frame frame; source->read(frame);) video.frames.push_back(frame);
  video.notes = source->take_notes();
  return video;
}

SinkSettings same_size(const VideoInfo& source) {
  SinkSettings settings;
  settings.width = source.width;
  settings.height = source.height;
  settings.threads = 2;
  return settings;
}

std::vector<std::string> copy_video(const std::string& from, const std::string& to,
                                    const std::function<void(SinkSettings&)>& adjust, std::string* pixel_format) {
  const auto source = open_source(from);
  SinkSettings settings = same_size(source->info());
  if (adjust) adjust(settings);
  const auto sink = open_sink(to, source->info(), settings);
  if (pixel_format != nullptr) *pixel_format = sink->info().pixel_format;
  for (Frame frame; source->read(frame);) sink->write(frame);
  sink->finish();
  return sink->take_notes();
}

bool any_contains(const std::vector<std::string>& notes, const std::string& part) {
  return std::any_of(notes.begin(), notes.end(),
                     [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return {};
}

Frame solid(int width, int height, std::uint8_t red, std::uint8_t green, std::uint8_t blue) {
  Frame frame{width, height, {}, 0, 1};
  for (int i = 0; i < width * height; ++i)
    for (const std::uint8_t value : {red, green, blue}) frame.rgb.push_back(value);
  return frame;
}

Frame gradient(int width, int height, int number) {
  Frame frame{width, height, {}, number, 1};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const int red = 40 + 150 * x / width, green = 40 + 150 * y / height, blue = (60 + 5 * number) % 200;
      for (const int value : {red, green, blue}) frame.rgb.push_back(static_cast<std::uint8_t>(value));
    }
  return frame;
}

int largest_difference(const Frame& a, const Frame& b) {
  if (a.width != b.width || a.height != b.height || a.rgb.size() != b.rgb.size()) return 256;
  int largest = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) largest = std::max(largest, std::abs(a.rgb[i] - b.rgb[i]));
  return largest;
}

double mean_difference(const Frame& a, const Frame& b) {
  if (a.width != b.width || a.height != b.height || a.rgb.size() != b.rgb.size()) return 256;
  double sum = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

VideoInfo plain_source(int width, int height) {
  VideoInfo info;
  info.kind = SourceKind::y4m;
  info.width = width;
  info.height = height;
  info.color_assumed = {ColorMatrix::rgb, ColorRange::full, ColorPrimaries::bt709, ColorTransfer::srgb};
  return info;
}

}  // namespace flashvsr::media::test
