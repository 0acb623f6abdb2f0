#include "cli/backend_options.h"
#include "cli/block_choice.h"
#include "cli/bounded_queue.h"
#include "cli/golden_judge.h"
#include "cli/golden_set.h"
#include "cli/host_layout.h"
#include "cli/reporter.h"
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

namespace flashvsr::cli {
namespace {

TEST(DeviceOption, NamesADeviceAndItsNumber) {
  for (const char* name : {"auto", "cpu", "cuda", "cpu-reference"}) {
    ASSERT_TRUE(parse_device(name)) << name;
    EXPECT_EQ(parse_device(name)->name, name);
    EXPECT_EQ(parse_device(name)->index, 0);
  }
  ASSERT_TRUE(parse_device("cuda:12"));
  EXPECT_EQ(parse_device("cuda:12")->name, "cuda");
  EXPECT_EQ(parse_device("cuda:12")->index, 12);
  for (const char* none :
       {"", "gpu", "cuda:", "cuda:x", "cuda:1 ", "cuda: 1", "cuda:-1", "cuda:99999999999", "cpu:1"}) {
    EXPECT_FALSE(parse_device(none)) << none;
  }
  BackendOptions options;
  options.device = "cuda:3";
  EXPECT_EQ(options.settings().device, ops::Device::cuda);
  EXPECT_EQ(options.settings().device_index, 3);
}

TEST(BoundedQueue, KeepsOrderAcrossThreadsAndEnds) {
  BoundedQueue<int> queue(2);
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) queue.push(i);
    queue.close();
  });
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(queue.pop(), i);
  EXPECT_EQ(queue.pop(), std::nullopt);
  producer.join();
}

TEST(BoundedQueue, AbortFreesABlockedProducer) {
  BoundedQueue<int> queue(1);
  EXPECT_TRUE(queue.push(1));
  bool pushed = true;
  std::thread producer([&] { pushed = queue.push(2); });
  queue.abort();
  producer.join();
  EXPECT_FALSE(pushed);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(Reporter, FormatsDurations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(7.4), "0:07");
  EXPECT_EQ(format_duration(60), "1:00");
  EXPECT_EQ(format_duration(3909), "1:05:09");
}

TEST(Reporter, MakesOneLine) { EXPECT_EQ(one_line("a\nb\r\n"), "a b"); }

TEST(GoldenSet, KindsAreNamesWithoutStepAndStride) {
  EXPECT_EQ(kind_of("step12.lq_latents.every11th"), "lq_latents");
  EXPECT_EQ(kind_of("step0.velocity"), "velocity");
  EXPECT_EQ(kind_of("step0.hidden.after_block0.every37th"), "hidden.after_block0");
  EXPECT_EQ(kind_of("vae.decode.out"), "vae.decode.out");
  EXPECT_EQ(kind_of("steps.x"), "steps.x");
}

Tensor mask_of(const std::vector<std::uint8_t>& values, const Shape& shape) {
  Tensor mask = allocate_host(shape, DType::u8);
  std::copy(values.begin(), values.end(), mask.mutable_data<std::uint8_t>());
  return mask;
}

// Two query blocks, two key blocks, top-k over the four pairs: k = int(4 * .75) - 1 = 2, so the threshold is the third
// largest softmax score and two blocks are kept.
TEST(BlockChoice, TellsNearTiesFromErrors) {
  Tensor scores = allocate_host({1, 2, 2}, DType::f32);
  const auto set_scores = [&](float a, float b, float c, float d) {
    const float values[] = {a, b, c, d};
    std::copy_n(values, 4, scores.mutable_data<float>());
  };
  const Tensor own = mask_of({1, 0, 1, 0}, {1, 2, 2}), given = mask_of({1, 1, 1, 0}, {1, 2, 2});
  // Softmax rows: (.88, .12) and (.73, .27): the threshold is .27, entry 1 with .12 is far from it.
  set_scores(2, 0, 1, 0);
  MaskComparison result = compare_masks(own, given, scores, 2, 0.75);
  EXPECT_EQ(result.entries, 4);
  EXPECT_EQ(result.differing, 1);
  EXPECT_EQ(result.beyond_near_ties, 1);
  // Entry 1 and entry 3 now differ by 2e-6 relative.
  set_scores(1, 0.000002f, 1, 0);
  result = compare_masks(own, given, scores, 2, 0.75);
  EXPECT_EQ(result.differing, 1);
  EXPECT_EQ(result.beyond_near_ties, 0);
  // A block outside the local window is never a near-tie.
  set_scores(1, -std::numeric_limits<float>::infinity(), 1, 0);
  result = compare_masks(own, given, scores, 2, 0.75);
  EXPECT_EQ(result.beyond_near_ties, 1);
}

TEST(GoldenJudge, AllowsFewFlips) {
  EXPECT_LE(allowed_flips(648), 648 / 20);
  EXPECT_GE(allowed_flips(648), 648 / 100);
  EXPECT_LE(allowed_flips(100000), 100000 / 60);
}

TEST(HostLayout, PermutesLikeIndices) {
  Tensor x = allocate_host({2, 3, 4}, DType::f32);
  std::iota(x.mutable_data<float>(), x.mutable_data<float>() + 24, 0.0f);
  const Tensor y = permuted(x, {2, 0, 1});
  ASSERT_EQ(y.shape(), (Shape{4, 2, 3}));
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) {
        EXPECT_EQ(y.data<float>()[(k * 2 + i) * 3 + j], x.data<float>()[(i * 3 + j) * 4 + k]);
      }
    }
  }
}

TEST(HostLayout, WindowsBecomeRaster) {
  const ops::TokenGrid grid{.latents = 2, .rows = 8, .columns = 16};
  Tensor tokens = allocate_host({grid.tokens(), 1}, DType::f32);
  std::iota(tokens.mutable_data<float>(), tokens.mutable_data<float>() + grid.tokens(), 0.0f);
  const Tensor raster = windows_to_raster(tokens, grid);
  // Latent 1, row 2, column 9: block 1, and inside it latent 1, row 2, column 1.
  EXPECT_EQ(raster.data<float>()[(1 * 8 + 2) * 16 + 9], 128 + (1 * 8 + 2) * 8 + 1);
}

}  // namespace
}  // namespace flashvsr::cli
