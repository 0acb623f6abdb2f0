#include "media/orientation.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace flashvsr::media {

int Orientation::rotation() const {
  // Undo the mirroring first: it reverses the stored x axis, which a transposition shows as y.
  const bool x = transpose ? reverse_x : reverse_x != mirrored();
  const bool y = transpose ? reverse_y != mirrored() : reverse_y;
  if (!transpose) return x && y ? 180 : 0;
  return x ? 90 : (y ? 270 : 90);
}

Orientation orientation_of_matrix(std::span<const std::int32_t, 9> matrix, bool& exact) {
  // x' = a x + c y, y' = b x + d y.
  const double a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
  Orientation result;
  result.transpose = std::abs(b) + std::abs(c) > std::abs(a) + std::abs(d);
  result.reverse_x = (result.transpose ? c : a) < 0;
  result.reverse_y = (result.transpose ? b : d) < 0;
  const double kept = result.transpose ? std::min(std::abs(b), std::abs(c)) : std::min(std::abs(a), std::abs(d));
  const double dropped = result.transpose ? std::max(std::abs(a), std::abs(d)) : std::max(std::abs(b), std::abs(c));
  // Within half a degree.
  exact = dropped <= kept * 0.0087;
  return result;
}

Orientation orientation_of_exif(int tag) {
  switch (tag) {
    case 2: return {false, true, false};
    case 3: return {false, true, true};
    case 4: return {false, false, true};
    case 5: return {true, false, false};
    case 6: return {true, true, false};
    case 7: return {true, true, true};
    case 8: return {true, false, true};
    default: return {};
  }
}

void orient(const Orientation& orientation, const std::uint8_t* rgb, std::ptrdiff_t stride, int width, int height,
            std::uint8_t* target) {
  const int shown_width = orientation.transpose ? height : width;
  const int shown_height = orientation.transpose ? width : height;
  const std::ptrdiff_t row_bytes = std::ptrdiff_t{3} * shown_width;
  for (int y = 0; y < shown_height; ++y, target += row_bytes) {
    const int from_y = orientation.reverse_y ? shown_height - 1 - y : y;
    const int from_x = orientation.reverse_x ? shown_width - 1 : 0;
    const std::uint8_t* source = orientation.transpose ? rgb + from_x * stride + std::ptrdiff_t{3} * from_y
                                                       : rgb + from_y * stride + std::ptrdiff_t{3} * from_x;
    if (!orientation.transpose && !orientation.reverse_x) {
      std::memcpy(target, source, static_cast<std::size_t>(row_bytes));
      continue;
    }
    const std::ptrdiff_t step = (orientation.transpose ? stride : 3) * (orientation.reverse_x ? -1 : 1);
    for (std::ptrdiff_t offset = 0; offset < row_bytes; offset += 3, source += step) {
      target[offset] = source[0];
      target[offset + 1] = source[1];
      target[offset + 2] = source[2];
    }
  }
}

}  // namespace flashvsr::media
