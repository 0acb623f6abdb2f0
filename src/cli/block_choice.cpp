#include "cli/block_choice.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace flashvsr::cli {
namespace {

constexpr double kNearTie = 1e-5;

// Softmax of one row of key blocks, in double.
void softmax(const float* scores, std::size_t count, double* weights) {
  const double largest = static_cast<double>(*std::max_element(scores, scores + count));
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += weights[i] = std::exp(static_cast<double>(scores[i]) - largest);
  for (std::size_t i = 0; i < count; ++i) weights[i] /= sum;
}

}  // namespace

MaskComparison compare_masks(const Tensor& own, const Tensor& given, const Tensor& scores, std::int64_t window_blocks,
                             double topk_ratio) {
  require(own.shape() == given.shape() && own.shape() == scores.shape(), "compare_masks: shapes {}, {}, {}",
          own.shape().to_string(), given.shape().to_string(), scores.shape().to_string());
  const auto key_blocks = static_cast<std::size_t>(own.dim(2));
  const auto rows = static_cast<std::size_t>(window_blocks);
  const std::size_t pairs = rows * key_blocks;
  const auto budget = static_cast<std::int64_t>(static_cast<double>(window_blocks * window_blocks) * topk_ratio) - 1;
  const auto k = static_cast<std::size_t>(std::clamp<std::int64_t>(budget, 0, static_cast<std::int64_t>(pairs) - 1));

  MaskComparison result{.entries = own.elements()};
  std::vector<double> weights(pairs), sorted;
  for (std::size_t begin = 0; begin < static_cast<std::size_t>(own.elements()); begin += pairs) {
    for (std::size_t row = 0; row < rows; ++row) {
      softmax(scores.data<float>() + begin + row * key_blocks, key_blocks, weights.data() + row * key_blocks);
    }
    sorted = weights;
    const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
    const double threshold = *kth;
    for (std::size_t i = 0; i < pairs; ++i) {
      const bool ours = own.data<std::uint8_t>()[begin + i] != 0, theirs = given.data<std::uint8_t>()[begin + i] != 0;
      if (ours == theirs) continue;
      ++result.differing;
      if (!(std::abs(weights[i] - threshold) <= kNearTie * threshold)) ++result.beyond_near_ties;
    }
  }
  return result;
}

}  // namespace flashvsr::cli
