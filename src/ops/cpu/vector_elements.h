// Small things that the vectorised operations share.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <cstdint>

namespace flashvsr::ops {

// The index of an element type in the kernel tables; other types have no kernels.
constexpr bool has_kernels(DType type) { return type == DType::f32 || type == DType::bf16; }
constexpr std::size_t kernel_index(DType type) { return type == DType::bf16 ? 1 : 0; }

inline const std::byte* element(const Tensor& x, std::int64_t index) {
  return static_cast<const std::byte*>(x.raw()) + static_cast<std::size_t>(index) * size_of(x.dtype());
}
inline std::byte* mutable_element(const Tensor& x, std::int64_t index) {
  return static_cast<std::byte*>(x.mutable_raw()) + static_cast<std::size_t>(index) * size_of(x.dtype());
}

// The least number of values that is worth a thread.
inline constexpr std::int64_t kValueGrain = 16384;

}  // namespace flashvsr::ops
