// What follows a matrix product that the product itself cannot do, and weights scaled by a gate.
#pragma once

#include "core/dtype.h"
#include "ops/cuda/kernels/activation.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// out = residual + gate * activation(sums + bias), element by element of [rows, columns].
struct RowEpilogueArguments {
  const float* sums = nullptr;  // may be `out`
  std::int64_t rows = 0, columns = 0;
  const float* bias = nullptr;     // [columns], or none
  const float* gate = nullptr;     // [columns], or none
  const void* residual = nullptr;  // [rows, columns], or none
  DType residual_type = DType::f32;
  Activation activation = Activation::none;
  void* out = nullptr;
  DType out_type = DType::f32;
};

cudaError_t launch_row_epilogue(const RowEpilogueArguments& arguments, cudaStream_t stream);

// out[r, c] = gate[r] * x[r, c] of [rows, columns].
cudaError_t launch_scale_rows(const void* x, DType x_type, const float* gate, void* out, DType out_type,
                              std::int64_t rows, std::int64_t columns, cudaStream_t stream);

}  // namespace flashvsr::cuda
