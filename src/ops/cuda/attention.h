// Attention of the CUDA back end: which kernels are used, and their work space.
#pragma once

#include "ops/cuda/device.h"

namespace flashvsr::ops {

// From the fastest to the most general; a call that a path cannot take (type, head dim, number of windows) goes to the
// next one.
// - hopper: sm_90, bf16, heads of 128 columns, whole blocks of 128 tokens.
// - portable: bf16, the head dims of cuda::attention_portable_takes.
// - plain: anything; f32 always.
enum class AttentionPath : std::uint8_t { hopper, portable, plain };

struct CudaAttention {
  // The path is the fastest of the device, or FLASHVSR_CUDA_ATTENTION (hopper, portable, plain). Throws
  // Error(invalid_argument) if that is none of them or the device does not have it.
  explicit CudaAttention(cuda::Device& device);

  AttentionPath path;
  Tensor workspace;  // of the Hopper kernel; there is none without it
};

}  // namespace flashvsr::ops
