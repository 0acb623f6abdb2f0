// Compares the vectorised CPU back end with the plain reference, at every instruction set that this machine has.
#pragma once

#include "ops/cpu/vector_operations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace flashvsr::ops::vector_test {

inline constexpr double kEpsilonF32 = 0x1p-24, kEpsilonBf16 = 0x1p-9;  // half a unit in the last place

inline double epsilon_of(DType type) { return type == DType::bf16 ? kEpsilonBf16 : kEpsilonF32; }

// Normal numbers times `deviation` plus `mean`; a function of the seed alone.
inline Tensor random_host(const Shape& shape, std::uint32_t seed, float deviation = 1.0f, float mean = 0.0f) {
  const Tensor result = allocate_host(shape, DType::f32);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::generate_n(result.mutable_data<float>(), result.elements(), [&] { return normal(generator); });
  return result;
}

inline Tensor random_bytes(const Shape& shape, std::uint32_t seed) {
  const Tensor result = allocate_host(shape, DType::u8);
  std::mt19937 generator(seed);
  std::generate_n(result.mutable_data<std::uint8_t>(), result.elements(),
                  [&] { return static_cast<std::uint8_t>(generator()); });
  return result;
}

inline Parameter random_parameter(const Shape& shape, std::uint32_t seed, float deviation = 1.0f, float mean = 0.0f) {
  return Parameter("random", random_host(shape, seed, deviation, mean));
}

inline std::vector<float> values_of(Operations& operations, const Tensor& x) {
  const Tensor host = operations.to_host(operations.cast(x, DType::f32));
  return {host.data<float>(), host.data<float>() + host.elements()};
}

// ||a - b|| <= tolerance ||b||. A value that is not finite fails.
inline void expect_close(Operations& operations, const Tensor& actual, Operations& reference, const Tensor& expected,
                         double tolerance, const std::string& what = "result") {
  ASSERT_EQ(actual.shape().to_string(), expected.shape().to_string()) << what;
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  const std::vector<float> a = values_of(operations, actual), b = values_of(reference, expected);
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(norm)) << what << " " << actual.shape().to_string();
}

inline void expect_equal(Operations& operations, const Tensor& actual, Operations& reference, const Tensor& expected,
                         const std::string& what = "result") {
  ASSERT_EQ(actual.shape().to_string(), expected.shape().to_string()) << what;
  ASSERT_EQ(actual.dtype(), expected.dtype()) << what;
  const Tensor a = operations.to_host(actual), b = reference.to_host(expected);
  EXPECT_TRUE(std::equal(static_cast<const std::byte*>(a.raw()), static_cast<const std::byte*>(a.raw()) + a.bytes(),
                         static_cast<const std::byte*>(b.raw())))
      << what << " " << actual.shape().to_string();
}

using Results = std::vector<Tensor>;
using Run = std::function<Results(Operations&)>;

// Runs the same operations on the reference and on the vectorised back end, at every instruction set and with one and
// with three threads. Results are equal within the tolerance (relative L2), or bit for bit if it is zero. All thread
// counts agree bit for bit.
inline void expect_like_reference(DType compute, double tolerance, const Run& run, DType residual = DType::f32) {
  ReferenceOperations reference({.compute = compute, .residual = residual});
  const Results expected = run(reference);
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(std::string(name_of(isa)) + ", " + std::string(name_of(compute)));
    VectorOperations operations({.compute = compute, .residual = residual, .threads = 1}, isa);
    VectorOperations threaded({.compute = compute, .residual = residual, .threads = 3}, isa);
    const Results actual = run(operations), from_threads = run(threaded);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const std::string what = "result " + std::to_string(i);
      if (tolerance > 0) {
        expect_close(operations, actual[i], reference, expected[i], tolerance, what);
      } else {
        expect_equal(operations, actual[i], reference, expected[i], what);
      }
      expect_equal(threaded, from_threads[i], operations, actual[i], what + " of three threads");
    }
  }
}

// Times are printed where FLASHVSR_TEST_TIMES is set: processor time of one thread, the least of several runs, which
// other work on the machine disturbs little.
inline bool times_wanted() { return std::getenv("FLASHVSR_TEST_TIMES") != nullptr; }

inline double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// `amount` of work, in units of 1e9 of `unit` (GFLOP or GB).
inline void print_times(const std::string& what, DType compute, double amount, const std::string& unit,
                        const std::function<std::function<void()>(Operations&)>& prepare) {
  const auto print = [&](const std::string& who, Operations& operations, int runs) {
    const auto body = prepare(operations);
    double seconds = 1e30;
    for (int i = 0; i < runs; ++i) {
      const double begin = processor_seconds();
      body();
      seconds = std::min(seconds, processor_seconds() - begin);
    }
    std::printf("%-28s %-4s %-10s %9.3f ms %8.1f %s/s\n", what.c_str(), std::string(name_of(compute)).c_str(),
                who.c_str(), seconds * 1e3, amount * 1e-9 / seconds, unit.c_str());
    std::fflush(stdout);
  };
  for (const Isa isa : available_isas()) {
    VectorOperations operations({.compute = compute, .threads = 1}, isa);
    print(std::string(name_of(isa)), operations, 7);
  }
  ReferenceOperations reference({.compute = compute, .threads = 1});
  print("reference", reference, 1);
}

}  // namespace flashvsr::ops::vector_test
