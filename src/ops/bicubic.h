// Pillow's bicubic resampling, as a table of integer weights per output row or column.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace flashvsr::ops {

// Weights of one axis in 22-bit fixed point. Output i is the sum over j < count[i] of weights[i * stride + j] times
// input first[i] + j, plus half a unit, shifted down by kBicubicBits and clipped to u8.
struct BicubicAxis {
  std::int64_t stride = 0;
  std::vector<std::int64_t> first, count;
  std::vector<std::int32_t> weights;
};

inline constexpr int kBicubicBits = 22;

inline std::uint8_t bicubic_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBicubicBits, 0, 255));
}

BicubicAxis bicubic_axis(std::int64_t input_size, std::int64_t output_size);

}  // namespace flashvsr::ops
