#include "ops/bicubic.h"

#include <cmath>

namespace flashvsr::ops {
namespace {

// Keys' cubic convolution kernel with a = -0.5. The order of the operations is Pillow's: the last bit counts.
double cubic_kernel(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

}  // namespace

BicubicAxis bicubic_axis(std::int64_t input_size, std::int64_t output_size) {
  const double scale = static_cast<double>(input_size) / static_cast<double>(output_size);
  // Shrinking widens the kernel, which suppresses aliasing.
  const double kernel_scale = std::max(scale, 1.0);
  const double support = 2.0 * kernel_scale;
  BicubicAxis axis;
  axis.stride = static_cast<std::int64_t>(std::ceil(support)) * 2 + 1;
  axis.weights.resize(static_cast<std::size_t>(axis.stride * output_size));
  std::vector<double> kernel(static_cast<std::size_t>(axis.stride));
  for (std::int64_t i = 0; i < output_size; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const std::int64_t first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const std::int64_t end = std::min(static_cast<std::int64_t>(center + support + 0.5), input_size);
    const double inverse_scale = 1.0 / kernel_scale;
    double sum = 0.0;
    for (std::int64_t j = 0; j < end - first; ++j) {
      const double value = cubic_kernel((static_cast<double>(j + first) - center + 0.5) * inverse_scale);
      kernel[static_cast<std::size_t>(j)] = value;
      sum += value;
    }
    for (std::int64_t j = 0; j < end - first; ++j) {
      double value = kernel[static_cast<std::size_t>(j)];
      if (sum != 0.0) value /= sum;
      value *= 1 << kBicubicBits;
      axis.weights[static_cast<std::size_t>(i * axis.stride + j)] =
          static_cast<std::int32_t>(value < 0.0 ? value - 0.5 : value + 0.5);
    }
    axis.first.push_back(first);
    axis.count.push_back(end - first);
  }
  return axis;
}

}  // namespace flashvsr::ops
