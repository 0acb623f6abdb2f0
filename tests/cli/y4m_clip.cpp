#include "y4m_clip.h"

#include <cmath>
#include <sstream>
#include <stdexcept>

namespace flashvsr::cli::test {
namespace {

constexpr double kFirstMean = 60, kMeanStep = 2;

}  // namespace

double mean_of_frame(int frame) { return kFirstMean + kMeanStep * frame; }

std::string make_y4m(int width, int height, int frames) {
  std::string data =
      "YUV4MPEG2 W" + std::to_string(width) + " H" + std::to_string(height) + " F25:1 Ip A1:1 C444 XCOLORRANGE=FULL\n";
  for (int frame = 0; frame < frames; ++frame) {
    data += "FRAME\n";
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const double texture = ((x / 2 + y / 2) % 2 == 0 ? 12 : -12);
        data += static_cast<char>(static_cast<unsigned char>(std::lround(mean_of_frame(frame) + texture)));
      }
    }
    data.append(static_cast<std::size_t>(2 * width * height), static_cast<char>(128));
  }
  return data;
}

Y4mClip parse_y4m(const std::string& data) {
  Y4mClip clip;
  const std::size_t end = data.find('\n');
  if (data.rfind("YUV4MPEG2", 0) != 0 || end == std::string::npos) throw std::runtime_error("no YUV4MPEG2 header");
  clip.header = data.substr(0, end);
  std::istringstream words(clip.header);
  std::string chroma = "420";
  for (std::string word; words >> word;) {
    if (word[0] == 'W') clip.width = std::stoi(word.substr(1));
    if (word[0] == 'H') clip.height = std::stoi(word.substr(1));
    if (word[0] == 'C') chroma = word.substr(1, 3);
  }
  const auto luma = static_cast<std::size_t>(clip.width) * static_cast<std::size_t>(clip.height);
  const auto half = [](int side) { return static_cast<std::size_t>((side + 1) / 2); };
  const std::size_t planes = chroma == "444"   ? 3 * luma
                             : chroma == "420" ? luma + 2 * half(clip.width) * half(clip.height)
                                               : throw std::runtime_error("chroma " + chroma);
  for (std::size_t at = end + 1; at < data.size();) {
    const std::size_t line = data.find('\n', at);
    if (data.compare(at, 5, "FRAME") != 0 || line == std::string::npos || data.size() - line - 1 < planes) {
      throw std::runtime_error("broken frame");
    }
    std::vector<std::uint8_t> values(luma);
    double sum = 0;
    for (std::size_t i = 0; i < luma; ++i) {
      values[i] = static_cast<std::uint8_t>(data[line + 1 + i]);
      sum += values[i];
    }
    clip.luma_means.push_back(sum / static_cast<double>(luma));
    clip.luma.push_back(std::move(values));
    at = line + 1 + planes;
  }
  return clip;
}

}  // namespace flashvsr::cli::test
