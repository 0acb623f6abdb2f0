// Small helpers for tests of operations.
#pragma once

#include "core/convert.h"
#include "core/parameter.h"
#include "core/tensor.h"
#include "ops/operations.h"

#include <algorithm>
#include <vector>

namespace flashvsr::ops::test {

inline Tensor host_f32(const Shape& shape, const std::vector<float>& values) {
  Tensor result = allocate_host(shape, DType::f32);
  require(static_cast<std::int64_t>(values.size()) == shape.elements(), "a test's tensor has the wrong size");
  std::ranges::copy(values, result.mutable_data<float>());
  return result;
}

inline Tensor host_bytes(const Shape& shape, const std::vector<std::uint8_t>& values) {
  Tensor result = allocate_host(shape, DType::u8);
  require(static_cast<std::int64_t>(values.size()) == shape.elements(), "a test's tensor has the wrong size");
  std::ranges::copy(values, result.mutable_data<std::uint8_t>());
  return result;
}

inline Parameter parameter(const Shape& shape, const std::vector<float>& values) {
  return Parameter("test", host_f32(shape, values));
}

// Any type as f32.
inline std::vector<float> values_of(Operations& operations, const Tensor& x) {
  const Tensor host = operations.to_host(x);
  std::vector<float> values(static_cast<std::size_t>(host.elements()));
  convert_to_f32(host.raw(), host.dtype(), values);
  return values;
}

}  // namespace flashvsr::ops::test
