#include "op_cases.h"

#include "core/convert.h"
#include "core/noise.h"
#include "ops/cpu/reference_operations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace flashvsr::ops::test {
namespace {

std::vector<float> floats(const Tensor& host) {
  std::vector<float> values(static_cast<std::size_t>(host.elements()));
  convert_to_f32(host.raw(), host.dtype(), values);
  return values;
}

struct Run {
  std::vector<Tensor> results;  // on the host
  double seconds = 0;
};

Run run_case(Operations& operations, const OpCase& op_case, std::uint64_t seed, bool absolute = false) {
  Run run;
  Inputs inputs(operations, seed, absolute);
  const auto start = std::chrono::steady_clock::now();
  std::vector<Tensor> results = op_case.run(inputs);
  operations.synchronize();
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const Tensor& result : results) run.results.push_back(operations.to_host(result));
  return run;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

bool is_float_result(const Tensor& x) { return x.dtype() == DType::f32 || x.dtype() == DType::bf16; }

// The largest error of a result as a part of what is allowed there; above 1 is a failure.
double worst_error(const Tensor& result, const Tensor& expected, const Tensor* sizes, const OpCase& op_case,
                   DType compute) {
  const Tolerance& tolerance = op_case.tolerance;
  if (result.shape() != expected.shape() || result.dtype() != expected.dtype()) return INFINITY;
  const std::vector<float> values = floats(result), wanted = floats(expected);
  const std::vector<float> magnitudes = sizes ? floats(*sizes) : std::vector<float>();
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == wanted[i]) continue;
    if (!is_float_result(result) || tolerance.f32_roundings == 0) return INFINITY;
    const double magnitude = sizes ? std::abs(static_cast<double>(magnitudes[i])) : tolerance.magnitude.value_or(0);
    double allowed = tolerance.f32_roundings * 0x1p-24 * magnitude;
    if (compute == DType::bf16) allowed += tolerance.bf16_roundings * 0x1p-8 * magnitude;
    if (result.dtype() == DType::bf16) allowed += 0x1p-7 * std::abs(static_cast<double>(wanted[i]));
    const double error = std::abs(static_cast<double>(values[i]) - static_cast<double>(wanted[i]));
    // Infinities and NaN that differ are never within bounds.
    worst = error <= allowed ? std::max(worst, error / allowed) : std::isfinite(error) ? error / allowed : INFINITY;
    if (worst > 1) return worst;
  }
  return worst;
}

// Whether a back end that has thrown an error can go on; a device that has lost its state cannot.
bool still_works(Operations& operations) {
  try {
    operations.synchronize();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Tensor random_tensor(const Shape& shape, std::uint64_t seed, float scale, float offset) {
  Tensor result = allocate_host(shape, DType::f32);
  auto* values = result.mutable_data<float>();
  for (std::int64_t i = 0; i < result.elements(); i += 4) {
    const noise::Quad quad = noise::gaussian(seed, static_cast<std::uint32_t>(i / 4), 0, 0, 0);
    for (std::int64_t j = i; j < std::min(i + 4, result.elements()); ++j) {
      values[j] = quad.values[j - i] * scale + offset;
    }
  }
  return result;
}

Parameter random_parameter(const Shape& shape, std::uint64_t seed, float scale, float offset) {
  return Parameter("random", random_tensor(shape, seed, scale, offset));
}

Tensor random_bytes(const Shape& shape, std::uint64_t seed) {
  Tensor result = allocate_host(shape, DType::u8);
  auto* values = result.mutable_data<std::uint8_t>();
  for (std::int64_t i = 0; i < result.elements(); ++i) {
    const auto word = noise::philox4x32_10({{static_cast<std::uint32_t>(i), 0, 0, 1}}, seed).words[0];
    // A quarter of the values lie at the bounds.
    values[i] = word % 8 == 0 ? 0 : word % 8 == 1 ? 255 : static_cast<std::uint8_t>(word >> 8);
  }
  return result;
}

Tensor Inputs::host(const Shape& shape, float scale, float offset) {
  Tensor values = random_tensor(shape, seed_++, scale, offset);
  if (absolute_) {
    auto* data = values.mutable_data<float>();
    for (std::int64_t i = 0; i < values.elements(); ++i) data[i] = std::abs(data[i]);
  }
  return values;
}

Tensor Inputs::tensor(const Shape& shape, float scale, float offset, std::optional<DType> type) {
  return operations_.from_host(host(shape, scale, offset), type.value_or(operations_.compute_type()));
}

Tensor Inputs::bytes(const Shape& shape) { return operations_.from_host(random_bytes(shape, seed_++)); }

Parameter Inputs::parameter(const Shape& shape, float scale, float offset) {
  return Parameter("random", host(shape, scale, offset));
}

Tolerance product_tolerance(std::int64_t terms) {
  const double root = std::sqrt(static_cast<double>(terms));
  // Rounding a weight to bf16 errs by 2^-9 / sqrt(3) in the mean square; five deviations of their sum lie at about
  // 2^-7 / root of the sum of sizes, and as much again where the reference rounds and the other does not.
  return {.f32_roundings = 2 * root + 8, .bf16_roundings = 4 / root};
}

void expect_equal_to_reference(const Factory& factory, DType compute) {
  const bool times = std::getenv("FLASHVSR_TEST_TIMES") != nullptr;
  std::vector<OpCase> cases;
  const auto append = [&cases](std::vector<OpCase> more) {
    std::move(more.begin(), more.end(), std::back_inserter(cases));
  };
  append(elementwise_cases());
  append(frame_cases());
  append(network_cases());
  append(attention_cases());
  if (times) append(large_cases());
  expect_equal_to_reference(factory, compute, cases);
}

void expect_equal_to_reference(const Factory& factory, DType compute, const std::vector<OpCase>& cases) {
  const bool times = std::getenv("FLASHVSR_TEST_TIMES") != nullptr;
  const char* wanted = std::getenv("FLASHVSR_TEST_CASES");
  ReferenceOperations reference(CpuSettings{.compute = compute});
  // Sizes of terms are wanted without the rounding of results.
  ReferenceOperations sizes(CpuSettings{.compute = DType::f32});
  const std::unique_ptr<Operations> tested = factory({.compute = compute});
  const std::unique_ptr<Operations> one_thread = factory({.compute = compute, .threads = 1});
  std::uint64_t seed = 1;
  for (const OpCase& op_case : cases) {
    seed += 1000;
    if (wanted != nullptr && op_case.name.find(wanted) == std::string::npos) continue;
    const std::string name = op_case.name + (compute == DType::bf16 ? " in bf16" : " in f32");
    SCOPED_TRACE(name);
    // What runs last is known even if the program ends there.
    if (wanted != nullptr) fmt::print(stderr, "{}\n", name);
    const Run expected = run_case(reference, op_case, seed);
    const bool scaled = op_case.tolerance.f32_roundings > 0 && !op_case.tolerance.magnitude;
    const Run absolute = scaled ? run_case(sizes, op_case, seed, true) : Run();
    Run first, again, single;
    try {
      first = run_case(*tested, op_case, seed);
      again = run_case(*tested, op_case, seed);
      single = run_case(*one_thread, op_case, seed);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      if (still_works(*tested)) continue;
      ADD_FAILURE() << "the back end can do no more: cases after this one are left out";
      return;
    }
    if (first.results.size() != expected.results.size()) {
      ADD_FAILURE() << first.results.size() << " results instead of " << expected.results.size();
      continue;
    }
    double worst = 0;
    for (std::size_t i = 0; i < expected.results.size(); ++i) {
      const Tensor* size = scaled ? &absolute.results[i] : nullptr;
      const double error = worst_error(first.results[i], expected.results[i], size, op_case, compute);
      EXPECT_LE(error, 1) << "result " << i << ": error as a part of what is allowed";
      EXPECT_LE(worst_error(single.results[i], expected.results[i], size, op_case, compute), 1)
          << "result " << i << " on one thread";
      EXPECT_TRUE(same_bits(first.results[i], again.results[i])) << "result " << i << " when run again";
      worst = std::max(worst, error);
    }
    if (times) {
      fmt::print("{:60} reference {:9.3f} ms, {} {:9.3f} ms, error {:.2f} of what is allowed\n", op_case.name,
                 expected.seconds * 1e3, tested->name(), again.seconds * 1e3, worst);
    }
  }
}

}  // namespace flashvsr::ops::test
