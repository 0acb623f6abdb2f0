#include "models/tiny_decoder.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <random>

namespace flashvsr::models {
namespace {

constexpr std::int64_t kWidth = 64, kHeight = 48;

// All frames of two latents, one after the other.
std::vector<float> decode(ops::Operations& operations, const weights::ModelFiles& files, std::size_t slice_bytes) {
  const TinyDecoder decoder(operations, files, slice_bytes);
  TinyDecoderState state;
  std::mt19937 random(5);
  std::vector<float> values;
  for (int latent = 0; latent < 2; ++latent) {
    const Tensor condition = allocate_host({4, kHeight, kWidth, 3}, DType::u8);
    for (std::int64_t i = 0; i < condition.elements(); ++i) {
      condition.mutable_data<std::uint8_t>()[i] = static_cast<std::uint8_t>(random());
    }
    const Tensor latents = allocate_host({1, kHeight / 8, kWidth / 8, 16}, DType::f32);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < latents.elements(); ++i) latents.mutable_data<float>()[i] = normal(random);
    const std::vector<Tensor> frames =
        decoder.push(state, operations.from_host(condition), operations.from_host(latents));
    EXPECT_EQ(frames.size(), 4U);
    for (const Tensor& frame : frames) {
      EXPECT_EQ(frame.shape(), (Shape{1, kHeight, kWidth, 3}));
      const Tensor host = operations.to_host(frame);
      values.insert(values.end(), host.data<float>(), host.data<float>() + host.elements());
    }
  }
  return values;
}

bool have_same_values(ops::Operations& operations, const Tensor& x, const Tensor& y) {
  const Tensor a = operations.to_host(x), b = operations.to_host(y);
  return std::equal(a.data<float>(), a.data<float>() + a.elements(), b.data<float>());
}

// Slices of one row, of some that do not divide the height, and the whole frame.
TEST(TinyDecoder, SlicesDoNotShow) {
  const weights::ModelFiles& files = stream::attention_model().networks.files;
  const std::int64_t channels = files.config.tc_channels[3];
  const auto row_bytes = static_cast<std::size_t>(2 * 2 * kWidth * channels * 4);
  for (const ops::Device device : {ops::Device::cpu_reference, ops::Device::cpu}) {
    const auto operations = ops::make_backend({device, ops::Precision::f32, 0});
    const std::vector<float> whole = decode(*operations, files, TinyDecoder::kSliceBytes);
    for (const std::size_t rows : {1, 5, 7, 16, 23}) {
      const std::vector<float> sliced = decode(*operations, files, rows * row_bytes);
      ASSERT_EQ(sliced.size(), whole.size());
      for (std::size_t i = 0; i < whole.size(); ++i) {
        // Other shapes may be multiplied in another order by a library, but not by plain loops.
        const float bound = device == ops::Device::cpu_reference ? 0.0f : 2e-5f * (1 + std::abs(whole[i]));
        ASSERT_NEAR(sliced[i], whole[i], bound) << rows << " rows, value " << i;
      }
    }
  }
}

// Frames come one by one, with the same bits.
TEST(TinyDecoder, GivesEachFrameAsSoonAsItIsThere) {
  const auto& model = stream::attention_model();
  ops::Operations& operations = *model.operations;
  const TinyDecoder decoder(operations, model.networks.files);
  const Tensor condition = operations.zeros({4, kHeight, kWidth, 3}, DType::u8);
  const Tensor latent = operations.zeros({1, kHeight / 8, kWidth / 8, 16}, DType::f32);
  TinyDecoderState together, apart;
  const std::vector<Tensor> expected = decoder.push(together, condition, latent);
  std::size_t count = 0;
  decoder.push(apart, condition, latent,
               [&](const Tensor& frame) { EXPECT_TRUE(have_same_values(operations, frame, expected.at(count++))); });
  EXPECT_EQ(count, expected.size());
}

// Frames that are not wanted are not given, and the memory is that of all of them.
TEST(TinyDecoder, LeavesOutWhatIsNotWanted) {
  const auto& model = stream::attention_model();
  ops::Operations& operations = *model.operations;
  const TinyDecoder decoder(operations, model.networks.files);
  const Tensor condition = operations.zeros({4, kHeight, kWidth, 3}, DType::u8);
  const Tensor latent = operations.zeros({1, kHeight / 8, kWidth / 8, 16}, DType::f32);
  const auto equal = [&](const Tensor& x, const Tensor& y) { return have_same_values(operations, x, y); };
  for (const DecodedFrames wanted : {DecodedFrames{3, 4}, {0, 1}, {1, 3}, {0, 0}, {2, 4}}) {
    TinyDecoderState whole, part;
    const std::vector<Tensor> expected = decoder.push(whole, condition, latent);
    std::int64_t frame = wanted.begin;
    const auto take = [&](const Tensor& x) { EXPECT_TRUE(equal(x, expected.at(static_cast<std::size_t>(frame++)))); };
    decoder.push(part, condition, latent, take, wanted);
    EXPECT_EQ(frame, wanted.end);
    for (std::size_t i = 0; i < whole.memory.size(); ++i) EXPECT_TRUE(equal(whole.memory[i], part.memory[i])) << i;
  }
}

}  // namespace
}  // namespace flashvsr::models
