// Copies between a device's memory and the host's that run beside computing.
#pragma once

#include "core/tensor.h"

namespace flashvsr::ops {

// The bytes of `from` go to `to`.
struct CopyPair {
  Tensor to, from;
};

// Copies that were started together; what a back end knows them by.
class Copies {
 public:
  virtual ~Copies() = default;
};

}  // namespace flashvsr::ops
