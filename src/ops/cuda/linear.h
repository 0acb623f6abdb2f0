// Matrix products of the CUDA back end through cuBLASLt.
#pragma once

#include "ops/cuda/device.h"

namespace flashvsr::ops {

struct CudaLinear {
  explicit CudaLinear(cuda::Device&) {}
};

}  // namespace flashvsr::ops
