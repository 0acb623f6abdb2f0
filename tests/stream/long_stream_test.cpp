// Streams without end: constant memory, positions without limit.
#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kWidth = 32, kHeight = 32;

TEST(LongStream, MemoryDoesNotGrow) {
  const TestModel model("attention");
  Stream stream(model.networks, make_settings(kWidth, kHeight, 4));
  std::size_t peak = 0, in_use = 0;
  for (std::int64_t i = 0; stream.state().chunk <= 20; ++i) {
    ASSERT_TRUE(stream.send(wave_frame(i, kWidth, kHeight).data(), kWidth * 3));
    if (stream.state().finished.empty()) continue;
    receive_all(stream);
    if (stream.state().chunk == 4) peak = model.operations->peak_memory(), in_use = model.operations->memory_in_use();
  }
  EXPECT_GT(peak, 0u);
  EXPECT_EQ(model.operations->peak_memory(), peak);
  EXPECT_EQ(model.operations->memory_in_use(), in_use);
}

std::vector<float> to_vector(ops::Operations& operations, const Tensor& x) {
  const Tensor host = operations.to_host(x);
  return {host.data<float>(), host.data<float>() + host.elements()};
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

// RoPE is relative: a stream whose counters were set forward must go on as the one that was left alone, once the cache
// holds windows from behind the jump alone.
class Jump : public testing::TestWithParam<std::int64_t> {
 protected:
  static constexpr std::int64_t kJumpAt = 1, kChunks = 7;

  // Velocities by chunk of a stream whose counters jump by `jump` chunks in front of chunk kJumpAt.
  static std::map<std::int64_t, std::vector<float>> velocities(std::int64_t jump) {
    TestModel& model = attention_model();
    StreamSettings settings = make_settings(kWidth, kHeight, 4);
    // No thresholds, so that rounding cannot flip a block; a short cache, so that the jump is soon forgotten.
    settings.all_allowed_blocks = true;
    settings.kv_chunks = 1;
    std::int64_t offset = 0;  // in latents
    settings.noise = [&](std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values) {
      ops::Operations& operations = *model.operations;
      const Tensor noise = operations.to_host(operations.gaussian_noise(3, latent - offset, 1, rows, columns));
      std::memcpy(values, noise.raw(), noise.bytes());
    };
    std::map<std::int64_t, std::vector<float>> result;
    StreamHooks hooks;
    hooks.velocity = [&](const Chunk& chunk, const Tensor& velocity) {
      result[chunk.index] = to_vector(*model.operations, velocity);
    };
    Stream stream(model.networks, settings);
    stream.set_hooks(hooks);
    for (std::int64_t i = 0; i < chunk_at(kChunks - 1).frames_needed; ++i) {
      if (i == chunk_at(kJumpAt - 1).frames_needed) {
        StreamState& state = stream.state();
        state.chunk += jump;
        for (std::int64_t* frames : {&state.frames_received, &state.frames_scheduled, &state.frames_done,
                                     &state.frames_delivered, &state.first_pending}) {
          *frames += kChunkFrames * jump;
        }
        offset = jump * kChunkFrames / kFramesPerLatent;
      }
      send_all(stream, {wave_frame(i, kWidth, kHeight)});
    }
    return result;
  }
};

// 600 chunks are 4,821 frames, beyond the 1,024 positions (4,093 frames) of the published table; 2^32 chunks show that
// nothing counts in 32 bits.
TEST_P(Jump, PositionsHaveNoLimit) {
  const std::int64_t jump = GetParam() - kJumpAt;
  const auto here = velocities(0), there = velocities(jump);
  ASSERT_EQ(there.rbegin()->first, kChunks - 1 + jump);
  // Right behind the jump the cached keys are far away: that must show, or positions play no part at all.
  EXPECT_GT(relative_distance(there.at(GetParam()), here.at(kJumpAt)), 1e-3);
  // With one chunk in the cache, each layer reaches one chunk further back.
  const std::int64_t settled = kJumpAt + attention_model().networks.files.config.layers;
  ASSERT_LT(settled, kChunks);
  // An angle is exact to 2^-53 of itself; besides, cosines and sums round in f32: some hundreds of operations in a row
  // at half an ulp each.
  const double latent = static_cast<double>(chunk_at(GetParam() + kChunks).first_latent);
  const double tolerance = 200 * static_cast<double>(std::numeric_limits<float>::epsilon()) +
                           4 * latent * std::numeric_limits<double>::epsilon();
  for (std::int64_t chunk = settled; chunk < kChunks; ++chunk) {
    const std::vector<float>& values = there.at(chunk + jump);
    for (const float value : values) ASSERT_TRUE(std::isfinite(value));
    EXPECT_LT(relative_distance(values, here.at(chunk)), tolerance) << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(LongStream, Jump, testing::Values(600, std::int64_t{1} << 32));

}  // namespace
}  // namespace flashvsr::stream
