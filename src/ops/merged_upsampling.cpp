#include "ops/merged_upsampling.h"

#include "core/threads.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kPhases = kUpsamplingPhases;

// The row (or column) of the 2x2 kernel of phase `phase` that tap `tap` of the three falls on. Phase 0 sees source rows
// y - 1 and y (taps 0 | 1, 2), phase 1 rows y and y + 1 (taps 0, 1 | 2).
std::int64_t merged_tap(std::int64_t phase, std::int64_t tap) { return (tap + 1 + phase) / 2 - phase; }

}  // namespace

std::vector<float> merged_upsampling(const std::vector<float>& conv, const std::vector<float>& grow, std::int64_t out,
                                     std::int64_t channels, std::int64_t frames) {
  std::vector<float> merged(static_cast<std::size_t>(frames * kPhases * out * channels * 4));
  parallel_for_each(frames * kPhases * out, [&](std::int64_t item) {
    const std::int64_t frame = item / (kPhases * out), phase = item / out % kPhases, o = item % out;
    std::vector<double> sums(static_cast<std::size_t>(channels * 4)), result(sums.size());
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t tap = 0; tap < 9; ++tap) {
        const std::int64_t position = 2 * merged_tap(phase / 2, tap / 3) + merged_tap(phase % 2, tap % 3);
        sums[static_cast<std::size_t>(4 * c + position)] +=
            static_cast<double>(conv[static_cast<std::size_t>((o * channels + c) * 9 + tap)]);
      }
    }
    if (grow.empty()) {
      result = sums;
    } else {
      for (std::int64_t c = 0; c < channels; ++c) {
        const float* row = grow.data() + (frame * channels + c) * channels;
        for (std::int64_t i = 0; i < channels; ++i) {
          for (std::int64_t position = 0; position < 4; ++position) {
            result[static_cast<std::size_t>(4 * i + position)] +=
                sums[static_cast<std::size_t>(4 * c + position)] * static_cast<double>(row[i]);
          }
        }
      }
    }
    std::ranges::transform(result, merged.begin() + item * channels * 4,
                           [](double value) { return static_cast<float>(value); });
  });
  return merged;
}

}  // namespace flashvsr::ops
