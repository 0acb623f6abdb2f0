// YUV4MPEG2 clips in memory for tests: 4:4:4, 8 bit, full range grey.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flashvsr::cli::test {

// A textured grey picture whose mean rises with the frame number: mean_of_frame(i).
std::string make_y4m(int width, int height, int frames);
double mean_of_frame(int frame);

struct Y4mClip {
  std::string header;  // first line
  int width = 0, height = 0;
  std::vector<double> luma_means;  // of every frame
  std::vector<std::vector<std::uint8_t>> luma;
};

// Throws std::runtime_error if `data` is no complete clip.
Y4mClip parse_y4m(const std::string& data);

}  // namespace flashvsr::cli::test
