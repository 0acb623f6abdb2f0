#include "ops/cpu/vector_isa.h"

#include "core/error.h"

#include <cstdlib>

namespace flashvsr::ops {
namespace {

constexpr Isa kLevels[] = {Isa::baseline, Isa::v3, Isa::v4, Isa::v4_bf16};

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::baseline: return "baseline";
    case Isa::v3: return "v3";
    case Isa::v4: return "v4";
    case Isa::v4_bf16: return "v4_bf16";
  }
  return "?";
}

Isa best_isa() {
#if defined(__x86_64__)
  // Exactly the flags that src/ops/CMakeLists.txt gives to the kernels.
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))) {
    return Isa::baseline;
  }
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))) {
    return Isa::v3;
  }
  return __builtin_cpu_supports("avx512bf16") ? Isa::v4_bf16 : Isa::v4;
#else
  return Isa::baseline;
#endif
}

Isa chosen_isa() {
  const Isa best = best_isa();
  const char* variable = std::getenv("FLASHVSR_CPU_ISA");
  if (!variable || !*variable) return best;
  for (const Isa level : kLevels) {
    if (name_of(level) == variable) return level < best ? level : best;
  }
  fail(ErrorCode::invalid_argument, "FLASHVSR_CPU_ISA is \"{}\": it must be baseline, v3, v4 or v4_bf16", variable);
}

std::vector<Isa> available_isas() {
  std::vector<Isa> result;
  for (const Isa level : kLevels) {
    if (level <= best_isa()) result.push_back(level);
  }
  return result;
}

}  // namespace flashvsr::ops
