// A whole stream against the published model: schedule, positions, cache, conditions and colour fix at once. Blocks are
// the engine's own choice: no score of this set is a near-tie.
#include "stream_fixture.h"
#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

namespace flashvsr::stream {
namespace {

// The set's tolerance: relative L2 in f32.
constexpr double kTolerance = 2e-5, kTopkRatio = 1.4;

double relative_distance(const std::vector<float>& values, const std::vector<float>& expected) {
  EXPECT_EQ(values.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(values.size(), expected.size()); ++i) {
    difference += std::pow(static_cast<double>(values[i]) - static_cast<double>(expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class GoldenStream : public testing::Test {
 protected:
  GoldenStream()
      : golden_(
            weights::read_safetensors(std::string(FLASHVSR_SOURCE_DIR) + "/tests/golden/attention/golden.safetensors")
                .tensors) {}

  Tensor host(const Tensor& x) const { return attention_model().operations->to_host(x); }

  // Channels last [f, h, w, 16] -> [16, f, h, w], as the set stores it.
  std::vector<float> planar(const Tensor& x) const {
    const Tensor values = host(x);
    const std::int64_t positions = values.elements() / 16;
    std::vector<float> result(static_cast<std::size_t>(values.elements()));
    for (std::int64_t i = 0; i < values.elements(); ++i) {
      result[static_cast<std::size_t>(i % 16 * positions + i / 16)] = values.data<float>()[i];
    }
    return result;
  }

  // Every 11th token of the chunk, counted over all its latents.
  void sample_tokens(std::vector<float>& samples, std::int64_t& token, const Tensor& tokens) const {
    const Tensor values = host(tokens);
    const std::int64_t dim = values.dim(-1);
    for (std::int64_t i = 0; i < values.elements() / dim; ++i, ++token) {
      const float* row = values.data<float>() + i * dim;
      if (token % 11 == 0) samples.insert(samples.end(), row, row + dim);
    }
  }

  const WeightMap golden_;
};

TEST_F(GoldenStream, EqualsThePublishedModel) {
  const Tensor lr = golden_.at("lr_frames").values();
  const std::vector<float> noise = golden_.at("noise").to_f32();
  const std::int64_t latents = golden_.at("noise").dim(2);
  StreamSettings settings = make_settings(lr.dim(2), lr.dim(1), 4);
  settings.color_fix = ColorFix::adain;
  settings.topk_ratio = kTopkRatio;
  settings.noise = [&](std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values) {
    const std::int64_t size = rows * columns;
    for (std::int64_t channel = 0; channel < 16; ++channel) {
      std::copy_n(noise.begin() + (channel * latents + latent) * size, size, values + channel * size);
    }
  };

  Stream stream(attention_model().networks, settings);
  std::vector<float> tokens;
  std::int64_t token = 0, chunks = 0;
  std::map<std::int64_t, std::vector<float>> decoded, fixed;
  StreamHooks hooks;
  hooks.before_chunk = [&](const Chunk&) {
    tokens.clear();
    token = 0;
  };
  hooks.lq_latents = [&](std::int64_t, const Tensor& x) { sample_tokens(tokens, token, x); };
  hooks.velocity = [&](const Chunk& chunk, const Tensor& velocity) {
    const std::string step = "step" + std::to_string(chunk.index) + ".";
    EXPECT_LE(relative_distance(tokens, golden_.at(step + "lq_latents.every11th").to_f32()), kTolerance) << step;
    EXPECT_LE(relative_distance(planar(velocity), golden_.at(step + "velocity").to_f32()), kTolerance) << step;
    EXPECT_EQ(stream.state().tiles.at(0).kv_cache.kept_blocks(),
              golden_.at(step + "cache_rows").values().data<std::int64_t>()[0]);
    ++chunks;
  };
  const auto keep = [&](std::map<std::int64_t, std::vector<float>>& frames) {
    return [&](std::int64_t frame, const Tensor& video) {
      const Tensor values = host(video);
      frames[frame] = {values.data<float>(), values.data<float>() + values.elements()};
    };
  };
  hooks.decoded = keep(decoded);
  hooks.color_fixed = keep(fixed);
  stream.set_hooks(hooks);
  Clip clip;
  const std::int64_t frame_bytes = lr.elements() / lr.dim(0);
  for (std::int64_t i = 0; i < lr.dim(0); ++i) {
    const auto* frame = lr.data<std::uint8_t>() + i * frame_bytes;
    clip.emplace_back(frame, frame + frame_bytes);
  }
  const Clip output = send_all(stream, clip);
  EXPECT_EQ(chunks, 5);
  EXPECT_EQ(output.size(), 53u);

  // Cut out as the set keeps it: [3, frames, height, width].
  const auto* crop = golden_.at("crop_yxhw").values().data<std::int64_t>();
  const Tensor index = golden_.at("frame_index").values();
  const auto cut = [&](const std::map<std::int64_t, std::vector<float>>& frames) {
    std::vector<float> result;
    for (std::int64_t channel = 0; channel < 3; ++channel) {
      for (std::int64_t i = 0; i < index.elements(); ++i) {
        const std::vector<float>& frame = frames.at(index.data<std::int64_t>()[i]);
        for (std::int64_t y = crop[0]; y < crop[0] + crop[2]; ++y) {
          for (std::int64_t x = crop[1]; x < crop[1] + crop[3]; ++x) {
            result.push_back(frame[static_cast<std::size_t>((y * settings.output_width + x) * 3 + channel)]);
          }
        }
      }
    }
    return result;
  };
  EXPECT_LE(relative_distance(cut(decoded), golden_.at("decoded_frames").to_f32()), kTolerance);
  EXPECT_LE(relative_distance(cut(fixed), golden_.at("adain_frames").to_f32()), kTolerance);
}

}  // namespace
}  // namespace flashvsr::stream
