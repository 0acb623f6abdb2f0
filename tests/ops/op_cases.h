// One list of adversarial cases for every operation, by which a back end is held against the plain reference.
#pragma once

#include "ops/cpu/cpu_settings.h"
#include "ops/operations.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace flashvsr::ops::test {

// Normal numbers scale * n + offset on the host, f32, the same for the same seed.
Tensor random_tensor(const Shape& shape, std::uint64_t seed, float scale = 1.0f, float offset = 0.0f);
Parameter random_parameter(const Shape& shape, std::uint64_t seed, float scale = 1.0f, float offset = 0.0f);
Tensor random_bytes(const Shape& shape, std::uint64_t seed);

// Makes the inputs of a case: the same values for every back end. With `absolute` it gives their absolute values, so
// that a case which only adds and multiplies computes the sum of its terms' sizes: what rounding errors are relative
// to.
class Inputs {
 public:
  Inputs(Operations& operations, std::uint64_t seed, bool absolute)
      : operations_(operations), seed_(seed), absolute_(absolute) {}

  Operations& operations() { return operations_; }
  bool absolute() const { return absolute_; }
  // In the compute type, or in `type`.
  Tensor tensor(const Shape& shape, float scale = 1.0f, float offset = 0.0f, std::optional<DType> type = std::nullopt);
  Tensor bytes(const Shape& shape);
  Parameter parameter(const Shape& shape, float scale = 1.0f, float offset = 0.0f);

 private:
  Tensor host(const Shape& shape, float scale, float offset);

  Operations& operations_;
  std::uint64_t seed_;
  bool absolute_;
};

// How far a result may lie from the reference's: f32_roundings * 2^-24 * magnitude, and in bf16, in addition, one unit
// in the last place of the result and bf16_roundings * 2^-8 * magnitude. No magnitude: the case itself over absolute
// inputs. Zero roundings and types other than floats: equal.
struct Tolerance {
  double f32_roundings = 0;
  double bf16_roundings = 0;
  std::optional<double> magnitude = std::nullopt;
};

struct OpCase {
  std::string name;
  Tolerance tolerance;
  std::function<std::vector<Tensor>(Inputs&)> run;
};

// Sums of `terms` products: f32 errors grow like the root of their number; a back end may round weights that it has
// merged or folded to bf16 once more, whose errors are independent, too.
Tolerance product_tolerance(std::int64_t terms);

std::vector<OpCase> elementwise_cases();
std::vector<OpCase> frame_cases();
std::vector<OpCase> network_cases();
std::vector<OpCase> attention_cases();
// Sizes of the built-in model at 1280x720: for timing, and run only then.
std::vector<OpCase> large_cases();

using Factory = std::function<std::unique_ptr<Operations>(const CpuSettings&)>;

// Expects (GoogleTest) that the back end gives the reference's results in all cases, on one thread and on all, and the
// same bits when it runs again. With FLASHVSR_TEST_TIMES in the environment it also runs large_cases and prints the
// time of the reference, that of the tested back end, and the largest error as a part of what is allowed. With
// FLASHVSR_TEST_CASES=text it runs the cases whose names contain the text, and prints each name before it does. A case
// that fails or throws does not keep the others from running.
void expect_equal_to_reference(const Factory& factory, DType compute);
// The same for the given cases alone.
void expect_equal_to_reference(const Factory& factory, DType compute, const std::vector<OpCase>& cases);

}  // namespace flashvsr::ops::test
