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

// The side that belongs to `side` in a picture of a : b (this side to the other), rounded, halves up; from 1 to `most`.
int matching(int side, std::int64_t a, std::int64_t b, int most) {
  const double exact = static_cast<double>(side) * static_cast<double>(a) / static_cast<double>(b);
  return static_cast<int>(std::clamp(std::floor(exact + 0.5), 1.0, static_cast<double>(most)));
}

// Whether some scale s gives both floor(w a s + 1/2) = W and floor(h s + 1/2) = H, pixels being a = p/q as wide as
// high: s lies in [(W - 1/2) / (w a), (W + 1/2) / (w a)) and in [(H - 1/2) / h, (H + 1/2) / h).
bool same_aspect(Size input, std::int64_t p, std::int64_t q, Size output) {
  const double w = input.width * static_cast<double>(p), h = input.height * static_cast<double>(q);
  const double W = output.width, H = output.height;  // products stay exact: below 2^53 for any sensible p and q
  return (2 * W - 1) * h < (2 * H + 1) * w && (2 * H - 1) * w < (2 * W + 1) * h;
}

std::string aspect(std::int64_t width, std::int64_t height) {
  const std::int64_t divisor = std::gcd(width, height);
  return fmt::format("{}:{}", width / divisor, height / divisor);
}

OutputPlan whole_frame(Size input, Size output) {
  OutputPlan plan;
  plan.cropped = input;
  plan.upscaled = plan.output = output;
  return plan;
}

// pad and crop: `p` and `q` are width and height of the input's pixels.
void fit_into(OutputPlan& plan, Size input, std::int64_t p, std::int64_t q, Fit fit) {
  const Size output = plan.output;
  const std::int64_t shown_width = input.width * p, shown_height = input.height * q;
  const bool output_is_wider = static_cast<double>(output.width) * static_cast<double>(shown_height) >
                               static_cast<double>(output.height) * static_cast<double>(shown_width);
  if (fit == Fit::crop) {
    if (output_is_wider) {
      plan.cropped.height = matching(input.width, p * output.height, q * output.width, input.height);
    } else {
      plan.cropped.width = matching(input.height, q * output.width, p * output.height, input.width);
    }
    plan.crop_left = (input.width - plan.cropped.width) / 2;
    plan.crop_top = (input.height - plan.cropped.height) / 2;
  } else {
    if (output_is_wider) {
      plan.upscaled.width = matching(output.height, shown_width, shown_height, output.width);
    } else {
      plan.upscaled.height = matching(output.width, shown_height, shown_width, output.height);
    }
    plan.pad_left = (output.width - plan.upscaled.width) / 2;
    plan.pad_top = (output.height - plan.upscaled.height) / 2;
  }
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
  const std::int64_t p = shape.sample_width, q = shape.sample_height;
  OutputPlan plan = whole_frame(input, output);
  if (same_aspect(input, 1, 1, output)) return plan;
  plan.square_pixels = true;
  if (same_aspect(input, p, q, output) || request.fit == Fit::stretch) return plan;
  if (request.fit == Fit::none) {
    fail(
        ErrorCode::invalid_argument,
        "the size {}x{} has the aspect {}, the input's {}x{} has {}: choose --fit stretch (distorts), pad (black bars) "
        "or crop (cuts the input)",
        output.width, output.height, aspect(output.width, output.height), input.width, input.height,
        aspect(input.width * p, input.height * q));
  }
  fit_into(plan, input, p, q, request.fit);
  return plan;
}

}  // namespace flashvsr::cli
