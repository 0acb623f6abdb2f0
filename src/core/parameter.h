// Trained weights: immutable host memory (usually a mapped file) with an identity that back ends cache by.
#pragma once

#include "core/tensor.h"

#include <map>
#include <string>
#include <vector>

namespace flashvsr {

// A named weight. Back ends keep what they derive from it (uploaded, converted, reordered, folded or merged copies)
// under id(), so the values must not change while the parameter is in use. Values are f32, bf16 (or f16, f64 as
// stored in a file); a back end converts.
class Parameter {
 public:
  Parameter() = default;
  // `values` is a host tensor.
  Parameter(std::string name, Tensor values);

  explicit operator bool() const { return static_cast<bool>(values_); }
  const std::string& name() const { return name_; }
  const Shape& shape() const { return values_.shape(); }
  std::int64_t dim(std::ptrdiff_t index) const { return values_.dim(index); }
  DType dtype() const { return values_.dtype(); }
  const Tensor& values() const { return values_; }
  // Unique in the process, never reused. A reshaped parameter keeps it.
  std::uint64_t id() const { return id_; }
  Parameter reshaped(const Shape& shape) const;

  // All values as f32, in order.
  std::vector<float> to_f32() const;

 private:
  std::string name_;
  Tensor values_;
  std::uint64_t id_ = 0;
};

using WeightMap = std::map<std::string, Parameter, std::less<>>;

}  // namespace flashvsr
