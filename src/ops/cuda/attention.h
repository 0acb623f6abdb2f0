// Attention of the CUDA back end: which kernels are used, and their work space.
#pragma once

#include "ops/cuda/device.h"

namespace flashvsr::ops {

struct CudaAttention {
  explicit CudaAttention(cuda::Device&) {}
};

}  // namespace flashvsr::ops
