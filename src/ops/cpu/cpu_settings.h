// How a CPU back end computes.
#pragma once

#include "core/dtype.h"

#include <cstddef>

namespace flashvsr::ops {

struct CpuSettings {
  // f32 or bf16: the type of activations and of the weights of products. Sums are f32 in either case.
  DType compute = DType::f32;
  // Type of the DiT's residual stream. f32 by default also in bf16: rounding it costs a third of the accuracy.
  DType residual = DType::f32;
  int threads = 0;  // 0: all cores
};

}  // namespace flashvsr::ops
