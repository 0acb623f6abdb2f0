#include "cli/output_size.h"

#include "core/error.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace flashvsr::cli {
namespace {

int scaled(int side, double scale) { return static_cast<int>(std::floor(side * scale + 0.5)); }

// round(a * b / c), halves up
int scaled(int a, int b, int c) {
  const std::int64_t product = 2 * static_cast<std::int64_t>(a) * b + c;
  return static_cast<int>(std::max<std::int64_t>(product / (2 * static_cast<std::int64_t>(c)), 1));
}

// Whether some scale s gives both floor(w a s + 1/2) = W and floor(h s + 1/2) = H, pixels being a = p/q as wide as
// high: s lies in [(W - 1/2) / (w a), (W + 1/2) / (w a)) and in [(H - 1/2) / h, (H + 1/2) / h).
bool same_aspect(Size input, std::int64_t p, std::int64_t q, Size output) {
  const double w = input.width * static_cast<double>(p), h = input.height * static_cast<double>(q);
  const double W = output.width, H = output.height;  // products stay exact: below 2^53 for any sensible p and q
  return (2 * W - 1) * h < (2 * H + 1) * w && (2 * H - 1) * w < (2 * W + 1) * h;
}

std::string aspect(Size size) {
  const int divisor = std::gcd(size.width, size.height);
  return fmt::format("{}:{}", size.width / divisor, size.height / divisor);
}

OutputPlan whole_frame(Size input, Size output) { return {.cropped = input, .upscaled = output, .output = output}; }

OutputPlan fitted(Size input, Size output, Fit fit) {
  OutputPlan plan = whole_frame(input, output);
  // Products of the sides across: which of the two is wider?
  const std::int64_t input_wide = static_cast<std::int64_t>(input.width) * output.height;
  const std::int64_t output_wide = static_cast<std::int64_t>(output.width) * input.height;
  if (fit == Fit::crop) {
    if (output_wide > input_wide) {
      plan.cropped.height = std::min(input.height, scaled(input.width, output.height, output.width));
    } else {
      plan.cropped.width = std::min(input.width, scaled(input.height, output.width, output.height));
    }
    plan.crop_left = (input.width - plan.cropped.width) / 2;
    plan.crop_top = (input.height - plan.cropped.height) / 2;
  } else {
    if (output_wide > input_wide) {
      plan.upscaled.width = std::min(output.width, scaled(input.width, output.height, input.height));
    } else {
      plan.upscaled.height = std::min(output.height, scaled(input.height, output.width, input.width));
    }
    plan.pad_left = (output.width - plan.upscaled.width) / 2;
    plan.pad_top = (output.height - plan.upscaled.height) / 2;
  }
  return plan;
}

}  // namespace

std::optional<Size> parse_size(std::string_view text) {
  Size size;
  const char* end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  if (width.ec != std::errc() || width.ptr == end || *width.ptr != 'x') return std::nullopt;
  const auto height = std::from_chars(width.ptr + 1, end, size.height);
  if (height.ec != std::errc() || height.ptr != end) return std::nullopt;
  const auto allowed = [](int side) { return side >= 1 && side <= kLargestSide; };
  return allowed(size.width) && allowed(size.height) ? std::optional(size) : std::nullopt;
}

OutputPlan plan_output(const InputShape& shape, const SizeRequest& request) {
  const Size input = shape.size;
  require(input.width > 0 && input.height > 0, "plan_output: input of {}x{}", input.width, input.height);
  if (!request.size) {
    const double longest = std::max(input.width, input.height) * request.scale;
    if (!(request.scale > 0) || !(longest <= kLargestSide)) {
      fail(ErrorCode::invalid_argument, "scale {} makes of {}x{} a frame of more than {} pixels a side", request.scale,
           input.width, input.height, kLargestSide);
    }
    const Size output{scaled(input.width, request.scale), scaled(input.height, request.scale)};
    if (output.width < 1 || output.height < 1) {
      fail(ErrorCode::invalid_argument, "scale {} leaves nothing of {}x{}", request.scale, input.width, input.height);
    }
    return whole_frame(input, output);
  }
  const Size output = *request.size;
  OutputPlan plan = whole_frame(input, output);
  if (same_aspect(input, 1, 1, output)) return plan;
  plan.stretched = true;
  if (same_aspect(input, shape.sample_width, shape.sample_height, output) || request.fit == Fit::stretch) return plan;
  if (request.fit == Fit::none) {
    fail(
        ErrorCode::invalid_argument,
        "the size {}x{} has the aspect {}, the input's {}x{} has {}: choose --fit stretch (distorts), pad (black bars) "
        "or crop (cuts the input)",
        output.width, output.height, aspect(output), input.width, input.height, aspect(input));
  }
  return fitted(input, output, request.fit);
}

}  // namespace flashvsr::cli
