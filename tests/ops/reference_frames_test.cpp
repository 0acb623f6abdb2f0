#include "op_cases.h"
#include "ops/cpu/reference_operations.h"
#include "test_tensors.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashvsr::ops {
namespace {

using test::host_bytes;
using test::host_f32;
using test::values_of;

struct ResizeCase {
  std::int64_t height, width, new_height, new_width;
  std::uint64_t checksum;
};

// FNV-1a of the results of Pillow 9.4's Image.resize(..., Image.BICUBIC).
constexpr ResizeCase kResizeCases[] = {
    {1, 1, 3, 2, 0xfb802e79dffb3b4bull},        {1, 1, 1, 1, 0x6fe910182ff4d8ceull},
    {5, 7, 1, 1, 0x7abd7a1958f8c54aull},        {3, 4, 12, 16, 0xb35a514e5762fa29ull},
    {13, 17, 52, 68, 0x1aa59c9cf109c827ull},    {64, 48, 16, 12, 0xec7db6042db620b8ull},
    {33, 65, 100, 31, 0x73746e6726cc9544ull},   {7, 50, 7, 83, 0x6b83015da95fa5f6ull},
    {50, 7, 83, 7, 0xb054d661804efd25ull},      {1, 40, 40, 1, 0xf7c17f9da58f17c5ull},
    {66, 100, 264, 400, 0x69b9d28c69911917ull}, {100, 66, 99, 65, 0x96e04df7060c5491ull},
    {2, 300, 5, 7, 0x1869cc01ccf65adcull},      {300, 2, 7, 5, 0x5c5b9fefc50a378dull},
};

// The image that Pillow was given: a linear congruential generator, a quarter of the values at the bounds.
Tensor generated_image(std::int64_t height, std::int64_t width, std::uint32_t seed) {
  std::vector<std::uint8_t> pixels;
  for (std::int64_t i = 0; i < height * width * 3; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const std::uint32_t byte = seed >> 24;
    pixels.push_back(static_cast<std::uint8_t>(byte < 32 ? 0 : byte >= 224 ? 255 : byte));
  }
  return host_bytes({1, height, width, 3}, pixels);
}

TEST(ReferenceFrames, ResizeEqualsPillow) {
  ReferenceOperations operations({});
  std::uint32_t seed = 0;
  for (const ResizeCase& c : kResizeCases) {
    const Tensor image = operations.from_host(generated_image(c.height, c.width, ++seed));
    const Tensor resized = operations.to_host(operations.resize_bicubic(image, c.new_height, c.new_width));
    std::uint64_t hash = 0xcbf29ce484222325ull;
    for (std::int64_t i = 0; i < resized.elements(); ++i) {
      hash = (hash ^ resized.data<std::uint8_t>()[i]) * 0x100000001b3ull;
    }
    EXPECT_EQ(hash, c.checksum) << c.height << "x" << c.width << " to " << c.new_height << "x" << c.new_width;
  }
}

TEST(ReferenceFrames, ResizeTreatsEveryFrameAlone) {
  ReferenceOperations operations({});
  const Tensor a = generated_image(9, 5, 1), b = generated_image(9, 5, 2);
  const Tensor parts[] = {operations.from_host(a), operations.from_host(b)};
  const std::vector<float> both =
      values_of(operations, operations.resize_bicubic(operations.concatenate(parts), 4, 11));
  std::vector<float> single = values_of(operations, operations.resize_bicubic(parts[0], 4, 11));
  const std::vector<float> second = values_of(operations, operations.resize_bicubic(parts[1], 4, 11));
  single.insert(single.end(), second.begin(), second.end());
  EXPECT_EQ(both, single);
}

TEST(ReferenceFrames, PadRepeatsEdgesAndCropUndoesIt) {
  ReferenceOperations operations({});
  std::vector<std::uint8_t> pixels(2 * 3 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i);
  const Tensor frame = operations.from_host(host_bytes({1, 2, 3, 3}, pixels));
  const Tensor padded = operations.pad_edge(frame, 4, 5);
  const std::vector<float> values = values_of(operations, padded);
  for (std::int64_t y = 0; y < 4; ++y) {
    for (std::int64_t x = 0; x < 5; ++x) {
      const std::int64_t from = std::min<std::int64_t>(y, 1) * 3 + std::min<std::int64_t>(x, 2);
      EXPECT_EQ(values[static_cast<std::size_t>((y * 5 + x) * 3 + 1)], static_cast<float>(from * 3 + 1));
    }
  }
  EXPECT_EQ(values_of(operations, operations.crop(padded, 0, 0, 2, 3)), values_of(operations, frame));
}

TEST(ReferenceFrames, AddTileWeighsRowsAndColumnsAndCutsAtTheFrame) {
  ReferenceOperations operations({});
  const Tensor frame = operations.zeros({1, 3, 4, 2}, DType::f32);
  const Tensor down = operations.from_host(host_f32({2}, {1.0f, 0.5f}));
  const Tensor across = operations.from_host(host_f32({3}, {2.0f, 4.0f, 8.0f}));
  std::vector<float> values(12);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
  const Tensor tile = operations.from_host(host_f32({1, 2, 3, 2}, values));
  operations.add_tile(frame, tile, 1, 0, down, across);
  operations.add_tile(frame, tile, 2, 3, down, across);
  const std::vector<float> expected{0, 0, 0,  0,  0,  0,  0, 0,   // nothing above
                                    2, 4, 12, 16, 40, 48, 0, 0,   // 1..6 times 2, 4, 8
                                    7, 8, 18, 20, 44, 48, 2, 4};  // 7..12 times 1, 2, 4; then the corner of the other
  EXPECT_EQ(values_of(operations, frame), expected);
  EXPECT_THROW(operations.add_tile(frame, tile, 3, 0, down, across), Error);
  EXPECT_THROW(operations.add_tile(frame, tile, 0, -1, down, across), Error);
  EXPECT_THROW(operations.add_tile(frame, tile, 0, 0, across, down), Error);
}

TEST(ReferenceFrames, SpaceToDepthOrdersChannelFrameRowColumn) {
  ReferenceOperations operations({});
  constexpr std::int64_t frames = 4, height = 6, width = 8, spatial = 2, temporal = 2;
  std::vector<float> video(frames * height * width * 3);
  for (std::size_t i = 0; i < video.size(); ++i) video[i] = static_cast<float>(i);
  const Tensor x = operations.from_host(host_f32({frames, height, width, 3}, video));
  const Tensor result = operations.space_to_depth(x, spatial, temporal);
  ASSERT_EQ(result.shape(), (Shape{2, 3, 4, 24}));
  const std::vector<float> values = values_of(operations, result);
  for (std::int64_t t = 0; t < frames; ++t) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t column = 0; column < width; ++column) {
        for (std::int64_t c = 0; c < 3; ++c) {
          const std::int64_t depth =
              ((c * temporal + t % temporal) * spatial + y % spatial) * spatial + column % spatial;
          const std::int64_t place = ((t / temporal * 3 + y / spatial) * 4 + column / spatial) * 24 + depth;
          EXPECT_EQ(values[static_cast<std::size_t>(place)],
                    video[static_cast<std::size_t>(((t * height + y) * width + column) * 3 + c)]);
        }
      }
    }
  }
}

TEST(ReferenceFrames, BytesSurviveTheWayToVideoAndBack) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    ReferenceOperations operations({.compute = compute});
    std::vector<std::uint8_t> pixels(258);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i % 256);
    const Tensor bytes = operations.from_host(host_bytes({1, 1, 86, 3}, pixels));
    EXPECT_EQ(values_of(operations, operations.to_bytes(operations.to_video(bytes))), values_of(operations, bytes));
  }
}

TEST(ReferenceFrames, BytesAreRoundedAwayFromZeroAndClipped) {
  ReferenceOperations operations({});
  // (x + 1) * 127.5: 0.5 exactly, just below it, far outside, not a number.
  const float half = static_cast<float>(1.0 / 255.0 - 1.0);
  const Tensor x = operations.from_host(host_f32({6}, {-1.0f, half, 0.0f, 5.0f, -5.0f, NAN}));
  const std::vector<float> bytes = values_of(operations, operations.to_bytes(x));
  EXPECT_EQ(bytes[0], 0.0f);
  EXPECT_EQ(bytes[1], std::round((half + 1.0f) * 127.5f));
  EXPECT_EQ(bytes[2], 128.0f);  // 127.5
  EXPECT_EQ(bytes[3], 255.0f);
  EXPECT_EQ(bytes[4], 0.0f);
  EXPECT_EQ(bytes[5], 0.0f);
}

// Mean and biased standard deviation of one channel, in double.
std::pair<double, double> statistics(const std::vector<float>& values, std::size_t channel) {
  double sum = 0, squares = 0;
  const double count = static_cast<double>(values.size()) / 3;
  for (std::size_t i = channel; i < values.size(); i += 3) sum += static_cast<double>(values[i]);
  for (std::size_t i = channel; i < values.size(); i += 3) {
    squares += std::pow(static_cast<double>(values[i]) - sum / count, 2);
  }
  return {sum / count, std::sqrt(squares / count)};
}

TEST(ReferenceFrames, AdainTakesOverMeanAndDeviation) {
  ReferenceOperations operations({});
  const Shape shape{1, 40, 50, 3};
  const Tensor video = operations.from_host(test::random_tensor(shape, 1, 0.1f, 0.3f));
  // Grey levels near the middle, so that nothing is clipped.
  Tensor pixels = test::random_bytes(shape, 2);
  for (std::int64_t i = 0; i < pixels.elements(); ++i) {
    auto& pixel = pixels.mutable_data<std::uint8_t>()[i];
    pixel = static_cast<std::uint8_t>(96 + pixel / 4);
  }
  const Tensor reference = operations.from_host(pixels);
  const std::vector<float> result = values_of(operations, operations.adain(video, reference));
  const std::vector<float> wanted = values_of(operations, operations.to_video(reference));
  for (std::size_t c = 0; c < 3; ++c) {
    const auto [mean, deviation] = statistics(result, c);
    const auto [wanted_mean, wanted_deviation] = statistics(wanted, c);
    const double own_variance = std::pow(statistics(values_of(operations, video), c).second, 2);
    // The 1e-5 under both roots is part of the definition.
    const double expected =
        std::sqrt(own_variance / (own_variance + 1e-5)) * std::sqrt(wanted_deviation * wanted_deviation + 1e-5);
    EXPECT_NEAR(mean, wanted_mean, 8 * 0x1p-24);
    EXPECT_NEAR(deviation, expected, 8 * 0x1p-24);
  }
}

// The definition: a 3x3 kernel with 2^i between its taps, level by level.
std::vector<double> low_band(std::vector<double> x, std::int64_t height, std::int64_t width) {
  for (std::int64_t level = 0; level < 5; ++level) {
    const std::int64_t dilation = std::int64_t{1} << level;
    std::vector<double> y(x.size());
    for (std::int64_t row = 0; row < height; ++row) {
      for (std::int64_t column = 0; column < width; ++column) {
        for (std::int64_t c = 0; c < 3; ++c) {
          double sum = 0;
          for (std::int64_t i = -1; i <= 1; ++i) {
            for (std::int64_t j = -1; j <= 1; ++j) {
              const std::int64_t from_row = std::clamp<std::int64_t>(row + i * dilation, 0, height - 1);
              const std::int64_t from_column = std::clamp<std::int64_t>(column + j * dilation, 0, width - 1);
              const double weight = (i == 0 ? 0.5 : 0.25) * (j == 0 ? 0.5 : 0.25);
              sum += weight * x[static_cast<std::size_t>((from_row * width + from_column) * 3 + c)];
            }
          }
          y[static_cast<std::size_t>((row * width + column) * 3 + c)] = sum;
        }
      }
    }
    x = y;
  }
  return x;
}

TEST(ReferenceFrames, WaveletExchangesTheLowBand) {
  ReferenceOperations operations({});
  for (const auto& [height, width] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 45}, {70, 33}}) {
    const Shape shape{2, height, width, 3};
    const Tensor video = operations.from_host(test::random_tensor(shape, 3, 0.3f));
    const Tensor reference = operations.from_host(test::random_bytes(shape, 4));
    const std::vector<float> result = values_of(operations, operations.wavelet(video, reference));
    for (std::int64_t frame = 0; frame < 2; ++frame) {
      const auto as_double = [&](const Tensor& x) {
        const std::vector<float> values = values_of(operations, x.sliced(frame, frame + 1));
        return std::vector<double>(values.begin(), values.end());
      };
      const std::vector<double> own = as_double(video), wanted = as_double(operations.to_video(reference));
      const std::vector<double> own_low = low_band(own, height, width), low = low_band(wanted, height, width);
      for (std::size_t i = 0; i < own.size(); ++i) {
        const double expected = std::clamp(own[i] - own_low[i] + low[i], -1.0, 1.0);
        // Ten averages per band round by half a unit of values below 2 each.
        EXPECT_NEAR(static_cast<double>(result[static_cast<std::size_t>(frame) * own.size() + i]), expected,
                    40 * 0x1p-24);
      }
    }
  }
}

}  // namespace
}  // namespace flashvsr::ops
