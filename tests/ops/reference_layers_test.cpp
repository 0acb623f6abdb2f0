// Linear layers, norms and convolutions of the reference against their definitions in double.
#include "op_cases.h"
#include "ops/cpu/reference_operations.h"
#include "test_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace flashvsr::ops {
namespace {

using test::host_f32;
using test::parameter;
using test::random_parameter;
using test::random_tensor;
using test::values_of;

TEST(ReferenceLayers, LinearByHand) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(host_f32({2, 2}, {1, 2, 3, -4}));
  const LinearWeights weights{parameter({3, 2}, {1, 0, 0, 1, 1, 1}), parameter({3}, {0.5f, 0, -10})};
  EXPECT_EQ(values_of(operations, operations.linear(x, weights)), (std::vector<float>{1.5f, 2, -7, 3.5f, -4, -11}));
  // The gate multiplies what the activation gives; then the residual is added.
  const Tensor gate = operations.from_host(host_f32({3}, {2, 3, 4}));
  const Tensor residual = operations.from_host(host_f32({2, 3}, {100, 100, 100, 200, 200, 200}));
  const Tensor y =
      operations.linear(x, weights, {.activation = Activation::relu, .gate = &gate, .residual = &residual});
  EXPECT_EQ(values_of(operations, y), (std::vector<float>{103, 106, 100, 207, 200, 200}));
}

TEST(ReferenceLayers, LinearConcatenatedIsLinearsSideBySide) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(random_tensor({5, 7}, 1));
  const LinearWeights parts[] = {{random_parameter({3, 7}, 2), random_parameter({3}, 3)},
                                 {random_parameter({4, 7}, 4), {}}};
  const std::vector<float> both = values_of(operations, operations.linear_concatenated(x, parts));
  const std::vector<float> first = values_of(operations, operations.linear(x, parts[0]));
  const std::vector<float> second = values_of(operations, operations.linear(x, parts[1]));
  for (std::size_t token = 0; token < 5; ++token) {
    for (std::size_t c = 0; c < 7; ++c) {
      EXPECT_EQ(both[token * 7 + c], c < 3 ? first[token * 3 + c] : second[token * 4 + c - 3]);
    }
  }
}

TEST(ReferenceLayers, Bf16RoundsOperandsAndResultsOnly) {
  ReferenceOperations operations({.compute = DType::bf16});
  EXPECT_EQ(operations.residual_type(), DType::f32);
  // 257 is no bf16 number: as a weight it becomes 256; the sum 256 + 1 is exact inside and rounded at the end.
  const Tensor x = operations.from_host(host_f32({1, 2}, {1, 1}), DType::bf16);
  const LinearWeights weights{parameter({1, 2}, {257, 1}), {}};
  const Tensor rounded = operations.linear(x, weights), exact = operations.linear(x, weights, {.output = DType::f32});
  EXPECT_EQ(rounded.dtype(), DType::bf16);
  EXPECT_EQ(values_of(operations, rounded)[0], 256.0f);
  EXPECT_EQ(values_of(operations, exact)[0], 257.0f);
  // A residual decides the type of the result.
  const Tensor residual = operations.from_host(host_f32({1, 1}, {0.125f}));
  const Tensor y = operations.linear(x, weights, {.residual = &residual});
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(values_of(operations, y)[0], 257.125f);
}

TEST(ReferenceLayers, NormsAgreeWithTheirDefinitions) {
  ReferenceOperations operations({});
  constexpr std::int64_t tokens = 3, dim = 37;
  const Tensor host = random_tensor({tokens, dim}, 1, 0.5f, 20);  // a mean far larger than the deviation
  const Tensor x = operations.from_host(host);
  const Parameter weight = random_parameter({dim}, 2), bias = random_parameter({dim}, 3);
  const std::vector<float> w = weight.to_f32(), b = bias.to_f32(), values = values_of(operations, x);
  const std::vector<float> layer = values_of(operations, operations.layer_norm(x, weight, bias));
  const Tensor scale = operations.constant(weight, DType::f32), shift = operations.constant(bias, DType::f32);
  const std::vector<float> modulated = values_of(operations, operations.layer_norm_modulated(x, scale, shift));
  const std::vector<float> rms = values_of(operations, operations.rms_norm(x, weight));
  const std::vector<float> channel =
      values_of(operations, operations.channel_rms_norm(x.reshaped({1, 1, tokens, dim}), weight, Activation::silu));
  for (std::size_t t = 0; t < tokens; ++t) {
    double sum = 0, squares = 0, variance = 0;
    const auto at = [&](std::size_t c) { return static_cast<double>(values[t * dim + c]); };
    for (std::size_t c = 0; c < dim; ++c) sum += at(c), squares += at(c) * at(c);
    for (std::size_t c = 0; c < dim; ++c) variance += std::pow(at(c) - sum / dim, 2) / dim;
    for (std::size_t c = 0; c < dim; ++c) {
      const auto wc = static_cast<double>(w[c]), bc = static_cast<double>(b[c]);
      const double normal = (at(c) - sum / dim) / std::sqrt(variance + 1e-6);
      // The mean is rounded to f32 before it is subtracted: half a unit in the last place of 20 over a deviation of .5.
      const double bound = 4 * 0x1p-24 * (20 / 0.4 + 4) * (1 + std::abs(wc)) + 0x1p-23;
      const std::size_t i = t * dim + c;
      EXPECT_NEAR(static_cast<double>(layer[i]), normal * wc + bc, bound);
      EXPECT_NEAR(static_cast<double>(modulated[i]), normal * (1 + wc) + bc, bound);
      const double root = at(c) / std::sqrt(squares / dim + 1e-6) * wc;
      EXPECT_NEAR(static_cast<double>(rms[i]), root, 4 * 0x1p-24 * std::abs(root));
      const double unit = at(c) / std::sqrt(squares) * std::sqrt(double{dim}) * wc;
      EXPECT_NEAR(static_cast<double>(channel[i]), unit / (1 + std::exp(-unit)), 16 * 0x1p-24 * std::abs(unit));
    }
  }
}

TEST(ReferenceLayers, ChannelNormOfNothingIsNothing) {
  ReferenceOperations operations({});
  const Tensor x = operations.zeros({1, 1, 1, 4}, DType::f32);
  const std::vector<float> y =
      values_of(operations, operations.channel_rms_norm(x, parameter({4}, {1, 2, 3, 4}), Activation::none));
  EXPECT_EQ(y, std::vector<float>(4, 0.0f));
}

// ------------------------------------------------------------------------------------------------- convolutions

struct Frames {
  std::vector<float> values;
  std::int64_t count, height, width, channels;

  double at(std::int64_t t, std::int64_t y, std::int64_t x, std::int64_t c, Padding padding) const {
    if (padding == Padding::edge) {
      y = std::clamp<std::int64_t>(y, 0, height - 1);
      x = std::clamp<std::int64_t>(x, 0, width - 1);
    }
    if (y < 0 || y >= height || x < 0 || x >= width) return 0;
    return static_cast<double>(values[static_cast<std::size_t>(((t * height + y) * width + x) * channels + c)]);
  }
};

TEST(ReferenceLayers, Conv3dAgreesWithItsDefinition) {
  ReferenceOperations operations({});
  constexpr std::int64_t front = 2, frames = 4, height = 3, width = 4, in = 3, out = 5, kt = 4;
  const Tensor all = random_tensor({front + frames, height, width, in}, 1);
  const Parameter weight = random_parameter({out, in, kt, 3, 3}, 2), bias = random_parameter({out}, 3);
  const Frames source{values_of(operations, operations.from_host(all)), front + frames, height, width, in};
  const std::vector<float> w = weight.to_f32(), b = bias.to_f32();
  for (const Padding padding : {Padding::zeros, Padding::edge}) {
    const Tensor y = operations.conv3d(operations.from_host(all.sliced(0, front)),
                                       operations.from_host(all.sliced(front, front + frames)), {weight, bias},
                                       {.time_stride = 2, .padding = padding});
    ASSERT_EQ(y.shape(), (Shape{2, height, width, out}));
    const std::vector<float> values = values_of(operations, y);
    std::size_t index = 0;
    for (std::int64_t t = 0; t < 2; ++t) {
      for (std::int64_t row = 0; row < height; ++row) {
        for (std::int64_t column = 0; column < width; ++column) {
          for (std::int64_t o = 0; o < out; ++o, ++index) {
            double sum = static_cast<double>(b[static_cast<std::size_t>(o)]), sizes = std::abs(sum);
            for (std::int64_t c = 0; c < in; ++c) {
              for (std::int64_t tap = 0; tap < kt * 9; ++tap) {
                const std::int64_t k = tap / 9, i = tap / 3 % 3, j = tap % 3;
                const double term = source.at(2 * t + k, row + i - 1, column + j - 1, c, padding) *
                                    static_cast<double>(w[static_cast<std::size_t>((o * in + c) * kt * 9 + tap)]);
                sum += term;
                sizes += std::abs(term);
              }
            }
            const double roundings = test::product_tolerance(in * kt * 9).f32_roundings;
            EXPECT_NEAR(static_cast<double>(values[index]), sum, roundings * 0x1p-24 * sizes);
          }
        }
      }
    }
  }
}

TEST(ReferenceLayers, Conv2dAgreesWithItsDefinition) {
  ReferenceOperations operations({});
  constexpr std::int64_t height = 5, width = 6, in = 4, out = 3;
  const Tensor host = random_tensor({1, height, width, in}, 1), x = operations.from_host(host);
  const Parameter weight = random_parameter({out, in, 3, 3}, 2), bias = random_parameter({out}, 3);
  const Frames source{values_of(operations, x), 1, height, width, in};
  const std::vector<float> w = weight.to_f32(), b = bias.to_f32();
  const Conv2dOptions same{}, down{.stride = 2, .pad_top = 0, .pad_bottom = 1, .pad_left = 0, .pad_right = 1};
  for (const Conv2dOptions& options : {same, down}) {
    const Tensor y = operations.conv2d(x, {weight, bias}, options);
    EXPECT_EQ(y.shape(), (options.stride == 1 ? Shape{1, 5, 6, out} : Shape{1, 2, 3, out}));
    const std::vector<float> values = values_of(operations, y);
    for (std::int64_t row = 0; row < y.dim(1); ++row) {
      for (std::int64_t column = 0; column < y.dim(2); ++column) {
        for (std::int64_t o = 0; o < out; ++o) {
          double sum = static_cast<double>(b[static_cast<std::size_t>(o)]), sizes = std::abs(sum);
          for (std::int64_t c = 0; c < in; ++c) {
            for (std::int64_t tap = 0; tap < 9; ++tap) {
              const double term = source.at(0, row * options.stride + tap / 3 - options.pad_top,
                                            column * options.stride + tap % 3 - options.pad_left, c, Padding::zeros) *
                                  static_cast<double>(w[static_cast<std::size_t>((o * in + c) * 9 + tap)]);
              sum += term;
              sizes += std::abs(term);
            }
          }
          EXPECT_NEAR(static_cast<double>(values[static_cast<std::size_t>((row * y.dim(2) + column) * out + o)]), sum,
                      test::product_tolerance(in * 9).f32_roundings * 0x1p-24 * sizes);
        }
      }
    }
  }
}

// A convolution over the concatenation of channels.
TEST(ReferenceLayers, SecondSourceExtendsTheChannels) {
  ReferenceOperations operations({});
  constexpr std::int64_t pixels = 4 * 5, first = 3, second = 2;
  const Tensor whole = random_tensor({1, 4, 5, first + second}, 1);
  std::vector<float> a, b;
  for (std::int64_t i = 0; i < pixels * (first + second); ++i) {
    (i % (first + second) < first ? a : b).push_back(whole.data<float>()[i]);
  }
  const Tensor x = operations.from_host(host_f32({1, 4, 5, first}, a));
  const Tensor y = operations.from_host(host_f32({1, 4, 5, second}, b));
  const ConvWeights weights{random_parameter({6, first + second, 3, 3}, 2), random_parameter({6}, 3)};
  EXPECT_EQ(values_of(operations, operations.conv2d(x, weights, {.second = &y})),
            values_of(operations, operations.conv2d(operations.from_host(whole), weights)));
}

TEST(ReferenceLayers, ResidualIsAddedBeforeTheActivation) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(host_f32({1, 1, 2, 1}, {1, -1}));
  const Tensor residual = operations.from_host(host_f32({1, 1, 2, 1}, {-3, 5}));
  const ConvWeights identity{parameter({1, 1, 1, 1}, {1}), {}};
  const Conv2dOptions options{.pad_top = 0,
                              .pad_bottom = 0,
                              .pad_left = 0,
                              .pad_right = 0,
                              .residual = &residual,
                              .activation = Activation::relu};
  EXPECT_EQ(values_of(operations, operations.conv2d(x, identity, options)), (std::vector<float>{0, 4}));
}

TEST(ReferenceLayers, UpsamplingIsTheConvolutionOfTheLargerFrame) {
  ReferenceOperations operations({});
  constexpr std::int64_t height = 3, width = 2, in = 3, out = 4;
  const Tensor host = random_tensor({1, height, width, in}, 1);
  std::vector<float> large;
  for (std::int64_t y = 0; y < 2 * height; ++y) {
    for (std::int64_t x = 0; x < 2 * width; ++x) {
      const float* pixel = host.data<float>() + (y / 2 * width + x / 2) * in;
      large.insert(large.end(), pixel, pixel + in);
    }
  }
  const Tensor upsampled = operations.from_host(host_f32({1, 2 * height, 2 * width, in}, large));
  const ConvWeights weights{random_parameter({out, in, 3, 3}, 2), random_parameter({out}, 3)};
  const Tensor x = operations.from_host(host);
  EXPECT_EQ(values_of(operations, operations.upsample_conv2d(x, weights, Activation::relu)),
            values_of(operations, operations.conv2d(upsampled, weights, {.activation = Activation::relu})));
  // With a growth into two frames between the steps: frame k takes channels k C .. (k + 1) C - 1.
  const Parameter grow = random_parameter({2 * in, in, 1, 1}, 4);
  const Conv2dOptions unpadded{.pad_top = 0, .pad_bottom = 0, .pad_left = 0, .pad_right = 0};
  for (std::int64_t frame = 0; frame < 2; ++frame) {
    const Parameter part("part", grow.values().sliced(frame * in, (frame + 1) * in));
    const Tensor grown = operations.conv2d(upsampled, {part, {}}, unpadded);
    EXPECT_EQ(values_of(operations, operations.upsample_grow_conv2d(x, grow, weights, frame)),
              values_of(operations, operations.conv2d(grown, weights)));
  }
  EXPECT_THROW(operations.upsample_grow_conv2d(x, grow, weights, 2), Error);
  EXPECT_THROW(operations.upsample_grow_conv2d(x, grow, weights, -1), Error);
}

TEST(ReferenceLayers, ChannelHalvesBecomeFrames) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(host_f32({2, 1, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}));
  const Tensor y = operations.channels_to_frames(x);
  EXPECT_EQ(y.shape(), (Shape{4, 1, 2, 1}));
  EXPECT_EQ(values_of(operations, y), (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
}

}  // namespace
}  // namespace flashvsr::ops
