#include "core/parameter.h"

#include "core/convert.h"

#include <atomic>

namespace flashvsr {

Parameter::Parameter(std::string name, Tensor values) : name_(std::move(name)), values_(std::move(values)) {
  static std::atomic<std::uint64_t> next{1};
  id_ = next.fetch_add(1);
}

Parameter Parameter::reshaped(const Shape& shape) const {
  Parameter copy = *this;
  copy.values_ = values_.reshaped(shape);
  return copy;
}

std::vector<float> Parameter::to_f32() const {
  std::vector<float> result(static_cast<std::size_t>(values_.elements()));
  convert_to_f32(values_.raw(), values_.dtype(), result);
  return result;
}

}  // namespace flashvsr
