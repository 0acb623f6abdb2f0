// Attention in bf16 on the tensor cores of any GPU from sm_80 on: block-sparse and dense.
#pragma once

#include "ops/cuda/kernels/attention_arguments.h"

#include <cstddef>

namespace flashvsr::cuda {

// Multiples of 16 up to 128; 256 and 384.
bool attention_portable_takes(int head_dim);

// type bf16, rows of q, k, v and out 16-byte aligned. shared_bytes: what a multiprocessor has. Returns
// cudaErrorInvalidValue for another head dim or type.
cudaError_t launch_attention_portable(const AttentionArguments& arguments, std::size_t shared_bytes,
                                      cudaStream_t stream);

}  // namespace flashvsr::cuda
