// Attention with any head dim, in f32 or bf16, without tensor cores: products and sums in f32.
#pragma once

#include "ops/cuda/kernels/attention_arguments.h"

namespace flashvsr::cuda {

cudaError_t launch_attention_plain(const AttentionArguments& arguments, cudaStream_t stream);

}  // namespace flashvsr::cuda
