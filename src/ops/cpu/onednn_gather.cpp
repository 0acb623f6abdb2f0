#include "ops/cpu/onednn_gather.h"

#include <algorithm>
#include <cstring>

namespace flashvsr::ops::onednn {
namespace {

// Runs of one fixed length: the copies become a few vector moves.
template <std::size_t kBytes>
void interleave_equal(const std::byte* first, const std::byte* second, std::int64_t count, std::byte* result) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(result, first, kBytes);
    std::memcpy(result + kBytes, second, kBytes);
    first += kBytes;
    second += kBytes;
    result += 2 * kBytes;
  }
}

}  // namespace

void interleave(const std::byte* first, std::size_t first_bytes, const std::byte* second, std::size_t second_bytes,
                std::int64_t count, std::byte* result) {
  if (first_bytes == second_bytes) {
    switch (first_bytes) {
      case 32: return interleave_equal<32>(first, second, count, result);
      case 64: return interleave_equal<64>(first, second, count, result);
      case 128: return interleave_equal<128>(first, second, count, result);
      case 256: return interleave_equal<256>(first, second, count, result);
      default: break;
    }
  }
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(result, first, first_bytes);
    std::memcpy(result + first_bytes, second, second_bytes);
    first += first_bytes;
    second += second_bytes;
    result += first_bytes + second_bytes;
  }
}

void gather(const GatheredFrame& frame, std::int64_t begin, std::int64_t rows, std::byte* buffer) {
  const std::size_t pixel = frame.first_bytes + frame.second_bytes, row_bytes = frame.row_bytes();
  const auto width = static_cast<std::size_t>(frame.width), columns = static_cast<std::size_t>(frame.columns);
  for (std::size_t time = 0; time < frame.first.size(); ++time) {
    for (std::int64_t row = begin; row < begin + rows; ++row, buffer += row_bytes) {
      const bool outside = row < 0 || row >= frame.height;
      if (outside && frame.padding == Padding::zeros) {
        std::memset(buffer, 0, row_bytes);
        continue;
      }
      const auto source_pixel = static_cast<std::size_t>(std::clamp<std::int64_t>(row, 0, frame.height - 1)) * width;
      std::byte* inner = buffer + columns * pixel;
      const std::byte* first = frame.first[time] + source_pixel * frame.first_bytes;
      if (frame.second.empty()) {
        std::memcpy(inner, first, width * pixel);
      } else {
        const std::byte* second = frame.second[time] + source_pixel * frame.second_bytes;
        interleave(first, frame.first_bytes, second, frame.second_bytes, frame.width, inner);
      }
      for (std::size_t i = 0; i < columns; ++i) {
        std::memcpy(buffer + i * pixel, inner, pixel);
        std::memcpy(inner + (width + i) * pixel, inner + (width - 1) * pixel, pixel);
      }
    }
  }
}

}  // namespace flashvsr::ops::onednn
