// Copies between a device's memory and the host's that run beside computing.
#pragma once

#include "core/tensor.h"
#include "ops/profile.h"

#include <memory>

namespace flashvsr::ops {

enum class CopyDirection { to_device, to_host };

// The bytes of `from` go to `to`.
struct CopyPair {
  Tensor to, from;
};

// Copies that were started together; what a back end knows them by.
class Copies {
 public:
  virtual ~Copies() = default;
};

// Where copies begin and end in the order of those of their direction; null from back ends that copy at once.
struct CopyMarks {
  std::unique_ptr<Mark> begin, end;
};

}  // namespace flashvsr::ops
