// Element-wise kernels. Pointers are to device memory, elements contiguous; types are f32 or bf16 unless said otherwise.
#pragma once

#include "core/dtype.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

enum class UnaryKind : std::uint8_t { cast, affine, relu, silu, gelu_tanh, soft_clamp, clamp };

// y = kind(x; a, b): affine x * a + b, soft_clamp a * tanh(x / a), clamp to [a, b]; the types may differ.
cudaError_t launch_unary(UnaryKind kind, const void* x, DType x_type, void* y, DType y_type, std::int64_t elements,
                         float a, float b, cudaStream_t stream);

// y = a + sign * b, in the type of a.
cudaError_t launch_add(const void* a, DType a_type, const void* b, DType b_type, void* y, float sign,
                       std::int64_t elements, cudaStream_t stream);

// y = x * scale[c] + shift[c], c the innermost dimension; scale and shift f32.
cudaError_t launch_channel_affine(const void* x, DType type, const float* scale, const float* shift, void* y,
                                  std::int64_t elements, std::int64_t channels, cudaStream_t stream);

}  // namespace flashvsr::cuda
