// Norms of the rows of a matrix [rows, dim]: LayerNorm, RMS norm, and the channel norm of the projector and the Wan
// VAE. Types are f32 or bf16, sums are f32.
#pragma once

#include "core/dtype.h"
#include "ops/cuda/kernels/activation.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

struct RowNorm {
  const void* x;
  void* y;
  DType x_type, y_type;
  std::int64_t rows;
  int dim;
  int multiprocessors;  // of the device
};

// (x - mean) / sqrt(variance + 1e-6) * (offset + scale[c]) + shift[c]; scale and shift f32 [dim].
cudaError_t launch_layer_norm(const RowNorm& norm, const float* scale, float offset, const float* shift,
                              cudaStream_t stream);

// x / sqrt(mean square + 1e-6) * weight[c].
cudaError_t launch_rms_norm(const RowNorm& norm, const float* weight, cudaStream_t stream);

// activation(x / max(||x||, 1e-12) * sqrt(dim) * gamma[c]).
cudaError_t launch_channel_rms_norm(const RowNorm& norm, const float* gamma, Activation activation,
                                    cudaStream_t stream);

}  // namespace flashvsr::cuda
