// compare_clips A B [LEAST_DB]: how far two videos of one size and length are apart: peak signal to noise ratio over all
// frames, that of the worst one, and the largest difference of a value. Exit status 1 if they cannot be compared, or the
// first of these figures is below LEAST_DB.
#include "core/error.h"
#include "media/media.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace {

using flashvsr::ErrorCode;
using flashvsr::fail;
using flashvsr::media::Frame;

double decibels(double squares, double values) {
  if (squares == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * values / squares);
}

double compare(const char* name_a, const char* name_b) {
  const auto a = flashvsr::media::open_source(name_a), b = flashvsr::media::open_source(name_b);
  Frame frame_a, frame_b;
  double squares = 0, values = 0, worst = std::numeric_limits<double>::infinity();
  int largest = 0, frames = 0, worst_frame = 0;
  for (;; ++frames) {
    const bool more = a->read(frame_a);
    if (more != b->read(frame_b)) {
      fail(ErrorCode::invalid_argument, "{} ends after {} frames, the other goes on", more ? name_b : name_a, frames);
    }
    if (!more) break;
    if (frame_a.width != frame_b.width || frame_a.height != frame_b.height) {
      fail(ErrorCode::invalid_argument, "{} is {}x{}, {} is {}x{}", name_a, frame_a.width, frame_a.height, name_b,
           frame_b.width, frame_b.height);
    }
    double of_frame = 0;
    for (std::size_t i = 0; i < frame_a.rgb.size(); ++i) {
      const int difference = std::abs(int{frame_a.rgb[i]} - int{frame_b.rgb[i]});
      largest = std::max(largest, difference);
      of_frame += difference * difference;
    }
    const auto count = static_cast<double>(frame_a.rgb.size());
    if (decibels(of_frame, count) < worst) {
      worst = decibels(of_frame, count);
      worst_frame = frames;
    }
    squares += of_frame;
    values += count;
  }
  const double all = decibels(squares, values);
  fmt::print("{} frames, {:.2f} dB, worst {:.2f} dB in frame {}, largest difference {}\n", frames, all, worst,
             worst_frame, largest);
  return all;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 3 && argument_count != 4) {
    fmt::print(stderr, "usage: compare_clips A B [LEAST_DB]\n");
    return 2;
  }
  try {
    const double least = argument_count == 4 ? std::stod(arguments[3]) : 0;
    return compare(arguments[1], arguments[2]) >= least ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "compare_clips: {}\n", error.what());
    return 1;
  }
}
