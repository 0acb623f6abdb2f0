// Which instructions our own kernels may use.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace flashvsr::ops {

// In rising order; each level contains those below. Off x86 there is only the baseline.
enum class Isa : std::uint8_t {
  baseline,  // what every processor of the architecture has
  v3,        // AVX2, FMA, BMI
  v4,        // AVX-512 F, BW, CD, DQ, VL
  v4_bf16,   // and AVX512-BF16
};

std::string_view name_of(Isa isa);

// The highest level that this processor and this build have.
Isa best_isa();
// best_isa(), or less if the environment variable FLASHVSR_CPU_ISA (baseline, v3, v4, v4_bf16) says so. Throws
// Error(invalid_argument) if the variable holds another word.
Isa chosen_isa();
// All levels up to best_isa().
std::vector<Isa> available_isas();

}  // namespace flashvsr::ops
