#include "core/noise.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace flashvsr {
namespace {

using Words = std::array<std::uint32_t, 4>;

Words philox(const Words& counter, std::uint64_t key) {
  const noise::Counter result = noise::philox4x32_10({{counter[0], counter[1], counter[2], counter[3]}}, key);
  return {result.words[0], result.words[1], result.words[2], result.words[3]};
}

// Known answers of Random123 (kat_vectors, philox4x32, 10 rounds).
TEST(Noise, PhiloxKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox({ones, ones, ones, ones}, ~0ull), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822ull),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Noise, LogarithmIsAccurate) {
  double worst = 0;
  for (std::uint32_t bits = 0x2f000000u; bits <= 0x3f800000u; bits += 977) {  // 2^-33 .. 1
    const float x = std::bit_cast<float>(bits);
    const double exact = std::log(static_cast<double>(x));
    if (exact == 0) continue;
    worst = std::max(worst, std::abs(static_cast<double>(noise::natural_logarithm(x)) / exact - 1));
  }
  EXPECT_LE(worst, 2 * 0x1p-24 * 1.5);  // a unit in the last place and a half
  EXPECT_EQ(noise::natural_logarithm(1.0f), 0.0f);
}

TEST(Noise, SineAndCosineAreAccurate) {
  double worst = 0;
  for (std::uint64_t turn = 0; turn < 1ull << 32; turn += 1000003) {
    const double angle = static_cast<double>(turn) * 0x1p-32 * 2 * std::numbers::pi;
    const noise::Pair pair = noise::cosine_and_sine(static_cast<std::uint32_t>(turn));
    worst = std::max(worst, std::abs(static_cast<double>(pair.first) - std::cos(angle)));
    worst = std::max(worst, std::abs(static_cast<double>(pair.second) - std::sin(angle)));
  }
  EXPECT_LE(worst, 2 * 0x1p-24);
  const noise::Pair quarter = noise::cosine_and_sine(0x40000000u);
  EXPECT_EQ(quarter.first, 0.0f);
  EXPECT_EQ(quarter.second, 1.0f);
}

TEST(Noise, ExtremeBitsGiveFiniteNumbers) {
  for (const std::uint32_t radius : {0u, 1u, 0x7fffffffu, 0xffffff7fu, 0xffffffffu}) {
    for (const std::uint32_t turn : {0u, 0x1fffffffu, 0x20000000u, 0x80000000u, 0xffffffffu}) {
      const noise::Pair pair = noise::normal_pair(radius, turn);
      EXPECT_TRUE(std::isfinite(pair.first) && std::isfinite(pair.second));
      EXPECT_LE(std::hypot(pair.first, pair.second), 6.77f);
    }
  }
}

// All 16 channels of a piece of a stream's noise, channels innermost.
std::vector<float> piece(std::uint64_t seed, std::uint64_t latents, std::uint32_t rows, std::uint32_t columns) {
  std::vector<float> values;
  for (std::uint64_t latent = 0; latent < latents; ++latent) {
    for (std::uint32_t y = 0; y < rows; ++y) {
      for (std::uint32_t x = 0; x < columns; ++x) {
        for (std::uint32_t group = 0; group < 4; ++group) {
          const noise::Quad quad = noise::gaussian(seed, x, y, latent, group);
          values.insert(values.end(), quad.values, quad.values + 4);
        }
      }
    }
  }
  return values;
}

// Standard errors: of the mean 1/sqrt(n), of the variance sqrt(2/n), of the third and fourth moment sqrt(15/n) and
// sqrt(96/n). Five of each.
TEST(Noise, MomentsAreThoseOfANormalDistribution) {
  const std::vector<float> values = piece(42, 3, 128, 170);
  const auto n = static_cast<double>(values.size());
  double moments[4] = {};
  for (const float value : values) {
    double power = 1;
    for (double& moment : moments) moment += (power *= static_cast<double>(value)) / n;
  }
  EXPECT_NEAR(moments[0], 0, 5 / std::sqrt(n));
  EXPECT_NEAR(moments[1], 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(moments[2], 0, 5 * std::sqrt(15 / n));
  EXPECT_NEAR(moments[3], 3, 5 * std::sqrt(96 / n));
}

TEST(Noise, TailsAreThoseOfANormalDistribution) {
  const std::vector<float> values = piece(7, 2, 200, 200);
  const auto n = static_cast<double>(values.size());
  for (const double bound : {0.5, 1.0, 2.0, 3.0, 4.0}) {
    double beyond = 0;
    for (const float value : values) beyond += std::abs(static_cast<double>(value)) > bound ? 1 : 0;
    const double expected = n * std::erfc(bound / std::numbers::sqrt2);
    EXPECT_NEAR(beyond, expected, 5 * std::sqrt(expected)) << "beyond " << bound;
  }
}

TEST(Noise, NeighboursAreIndependent) {
  const std::vector<float> values = piece(3, 2, 64, 64);
  const auto n = static_cast<double>(values.size());
  for (const std::size_t distance : {1u, 2u, 4u, 16u, 16u * 64u, 16u * 64u * 64u}) {
    double sum = 0;
    for (std::size_t i = 0; i + distance < values.size(); ++i) {
      sum += static_cast<double>(values[i]) * static_cast<double>(values[i + distance]);
    }
    EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n - static_cast<double>(distance))) << "distance " << distance;
  }
}

TEST(Noise, DependsOnSeedAndEveryCoordinate) {
  const auto first = [](std::uint64_t seed, std::uint32_t x, std::uint32_t y, std::uint64_t latent,
                        std::uint32_t group) { return noise::gaussian(seed, x, y, latent, group).values[0]; };
  const float base = first(1, 2, 3, 4, 1);
  EXPECT_NE(base, first(1ull << 32 | 1, 2, 3, 4, 1));
  EXPECT_NE(base, first(2, 2, 3, 4, 1));
  EXPECT_NE(base, first(1, 3, 3, 4, 1));
  EXPECT_NE(base, first(1, 2, 4, 4, 1));
  EXPECT_NE(base, first(1, 2, 3, 5, 1));
  EXPECT_NE(base, first(1, 2, 3, 4 | 1ull << 32, 1));
  EXPECT_NE(base, first(1, 2, 3, 4, 2));
}

// Bits that must never change: a seed means the same video for ever, on every back end.
TEST(Noise, BitsArePinned) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const float value : piece(20251112, 2, 24, 40)) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3ull;
  }
  EXPECT_EQ(hash, 0x500e4ffb41a2f624ull);
}

}  // namespace
}  // namespace flashvsr
