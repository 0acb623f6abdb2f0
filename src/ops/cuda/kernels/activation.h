// The kinds of activation that kernels fuse.
#pragma once

#include <cstdint>

namespace flashvsr::cuda {

// In the order of ops::Activation.
enum class Activation : std::uint8_t { none, relu, silu, gelu_tanh };

}  // namespace flashvsr::cuda
