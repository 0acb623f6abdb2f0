// Gaussian noise with the same bits on every processor and for every way of cutting the video.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns (seed, position) into 128
// random bits; Box and Muller's transform turns them into four normal numbers. Logarithm, sine and cosine are evaluated
// here by series, with correctly rounded operations only (core/rounded.h), so that nothing depends on a mathematical
// library. The header compiles for the host and, unchanged, inside a CUDA kernel.
#pragma once

#include "core/rounded.h"

#include <cstdint>

namespace flashvsr::noise {

using rounded::add;
using rounded::bits_of;
using rounded::divide;
using rounded::float_of;
using rounded::multiply;
using rounded::multiply_add;
using rounded::square_root;

// ------------------------------------------------------------------------------------------------------ Philox

struct Counter {
  std::uint32_t words[4];
};

// Ten rounds, as the paper recommends.
FLASHVSR_HOST_DEVICE inline Counter philox4x32_10(Counter counter, std::uint64_t key) {
  std::uint32_t key_low = static_cast<std::uint32_t>(key), key_high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter.words[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter.words[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.words[1] ^ key_low, static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.words[3] ^ key_high, static_cast<std::uint32_t>(a)}};
    key_low += 0x9E3779B9u;   // the golden ratio
    key_high += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

// ---------------------------------------------------------------------------------------------------- Gaussian

// Natural logarithm of a normal number in (0, 1], to about 1 ulp.
FLASHVSR_HOST_DEVICE inline float natural_logarithm(float x) {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)): adding the distance from sqrt(1/2) to 1 carries into the exponent
  // exactly where m would fall below sqrt(1/2).
  constexpr std::uint32_t kOne = 0x3f800000u, kRootHalf = 0x3f3504f3u;
  const std::uint32_t shifted = bits_of(x) + (kOne - kRootHalf);
  const auto exponent = static_cast<std::int32_t>(shifted >> 23) - 127;
  const float m = float_of((shifted & 0x007fffffu) + kRootHalf);
  // log m = 2 artanh((m - 1) / (m + 1)), |s| < 0.172: the series to s^11 leaves 1e-10.
  const float s = divide(add(m, -1.0f), add(m, 1.0f));
  const float s2 = multiply(s, s);
  float series = 1.0f / 11.0f;
  series = multiply_add(series, s2, 1.0f / 9.0f);
  series = multiply_add(series, s2, 1.0f / 7.0f);
  series = multiply_add(series, s2, 1.0f / 5.0f);
  series = multiply_add(series, s2, 1.0f / 3.0f);
  const float twice_s = add(s, s);
  const float log_m = multiply_add(multiply(series, s2), twice_s, twice_s);
  return multiply_add(static_cast<float>(exponent), 0.693147180559945f, log_m);
}

struct Pair {
  float first, second;
};

// Cosine and sine of 2 pi turn / 2^32.
FLASHVSR_HOST_DEVICE inline Pair cosine_and_sine(std::uint32_t turn) {
  // The nearest quarter turn, and what is left: at most an eighth of a turn either way.
  const std::uint32_t quarter = (turn + 0x20000000u) >> 30;
  const auto rest = static_cast<std::int32_t>(turn - (quarter << 30));
  const float x = multiply(static_cast<float>(rest), 1.4629180792671596e-9f);  // 2 pi / 2^32
  const float x2 = multiply(x, x);
  float sine = 1.0f / 362880.0f;
  sine = multiply_add(sine, x2, -1.0f / 5040.0f);
  sine = multiply_add(sine, x2, 1.0f / 120.0f);
  sine = multiply_add(sine, x2, -1.0f / 6.0f);
  sine = multiply_add(multiply(sine, x2), x, x);
  float cosine = -1.0f / 3628800.0f;
  cosine = multiply_add(cosine, x2, 1.0f / 40320.0f);
  cosine = multiply_add(cosine, x2, -1.0f / 720.0f);
  cosine = multiply_add(cosine, x2, 1.0f / 24.0f);
  cosine = multiply_add(cosine, x2, -0.5f);
  cosine = multiply_add(cosine, x2, 1.0f);
  switch (quarter & 3u) {
    case 0: return {cosine, sine};
    case 1: return {-sine, cosine};
    case 2: return {-cosine, -sine};
    default: return {sine, -cosine};
  }
}

// Two independent standard normal numbers of two words of random bits (Box and Muller).
FLASHVSR_HOST_DEVICE inline Pair normal_pair(std::uint32_t radius_bits, std::uint32_t turn) {
  // In [2^-33, 1]: the middle of each of 2^32 intervals, rounded. The largest radius is 6.76.
  const float uniform = multiply_add(static_cast<float>(radius_bits), 0x1p-32f, 0x1p-33f);
  const float radius = square_root(multiply(-2.0f, natural_logarithm(uniform)));
  const Pair direction = cosine_and_sine(turn);
  return {multiply(radius, direction.first), multiply(radius, direction.second)};
}

struct Quad {
  float values[4];
};

// Channels 4 * group .. 4 * group + 3 of the noise at column x and row y of latent `latent` of the stream. group < 256.
FLASHVSR_HOST_DEVICE inline Quad gaussian(std::uint64_t seed, std::uint32_t x, std::uint32_t y, std::uint64_t latent,
                                          std::uint32_t group) {
  const auto latent_high = static_cast<std::uint32_t>(latent >> 32);
  const Counter bits = philox4x32_10({{x, y, static_cast<std::uint32_t>(latent), (latent_high << 8) ^ group}}, seed);
  const Pair a = normal_pair(bits.words[0], bits.words[1]), b = normal_pair(bits.words[2], bits.words[3]);
  return {{a.first, a.second, b.first, b.second}};
}

}  // namespace flashvsr::noise
