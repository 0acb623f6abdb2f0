#include "ops/cpu/vector_operations.h"

#include "ops/cpu/kernels/kernel_table.h"

namespace flashvsr::ops {

VectorOperations::VectorOperations(const CpuSettings& settings, Isa isa)
    : ReferenceOperations(settings), isa_(isa), table_(kernels::table_for(isa)) {
  require(isa <= best_isa(), "kernels for {} on a processor that has only {}", name_of(isa), name_of(best_isa()));
}

}  // namespace flashvsr::ops
