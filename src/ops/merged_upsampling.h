// Nearest upsampling, a 1x1 convolution and a 3x3 convolution merged into one step.
//
// Of the nine taps of a 3x3 convolution over doubled pixels, those that fall on the same source pixel add up: each of
// the four phases (row and column of a result pixel modulo 2) is a 2x2 convolution of the source, 4/9 of the work. A
// 1x1 convolution before it multiplies into its weights. Zeros around the doubled frame are zeros around the source.
#pragma once

#include <cstdint>
#include <vector>

namespace flashvsr::ops {

inline constexpr std::int64_t kUpsamplingPhases = 4;

// The 2x2 convolutions of all frames and phases: [frames, 4, out, channels, 2, 2], phase = 2 * row + column, merged in
// double. conv [out, channels, 3, 3]; grow [frames * channels, channels], or empty where there is no 1x1 convolution.
// Phase 0 of the rows sees source rows y - 1 and y, phase 1 rows y and y + 1; columns alike.
std::vector<float> merged_upsampling(const std::vector<float>& conv, const std::vector<float>& grow, std::int64_t out,
                                     std::int64_t channels, std::int64_t frames);

}  // namespace flashvsr::ops
