// What becomes of a frame on its way: crop of the input, upscaling, bars. Pure arithmetic.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flashvsr::cli {

struct Size {
  int width = 0, height = 0;
  bool operator==(const Size&) const = default;
};

// Frames as a source gives them; pixels are sample_width : sample_height wide to high.
struct InputShape {
  Size size;
  std::int64_t sample_width = 1, sample_height = 1;
};

enum class Fit { none, stretch, pad, crop };

// What the user asked for: a size, or else a scale.
struct SizeRequest {
  std::optional<Size> size;
  double scale = 4;
  Fit fit = Fit::none;
};

struct OutputPlan {
  // Part of the input that is used, in input pixels; the whole frame unless fit is crop.
  int crop_left = 0, crop_top = 0;
  Size cropped;
  // What the model makes of it.
  Size upscaled;
  // Where that lies in the frame that is written; black around it where fit is pad.
  int pad_left = 0, pad_top = 0;
  Size output;
  // The size is no plain scale of the input's: the output has square pixels, whatever the input has. Otherwise the
  // shape of pixels stays.
  bool square_pixels = false;

  bool pads() const { return !(upscaled == output); }
};

// The largest side that a frame may have, in and out.
inline constexpr int kLargestSide = 65535;

// "1920x1080". nullopt if it is not two whole numbers from 1 to kLargestSide.
std::optional<Size> parse_size(std::string_view text);

// output = floor(input * scale + 1/2). Throws Error(invalid_argument) for an output without pixels or with sides over
// kLargestSide, and for a size of another aspect without fit. A size has the input's aspect if some scale gives it, or
// if it gives the shape in which an input without square pixels is shown. stretch and pad and crop go by that shape.
OutputPlan plan_output(const InputShape& input, const SizeRequest& request);

}  // namespace flashvsr::cli
