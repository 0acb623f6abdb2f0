// Kernel tables: the plain kernels first, each level overrides.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/vector_isa.h"

#include <array>
#include <cstddef>

namespace flashvsr::ops::kernels {
namespace {

constexpr std::size_t kLevels = 4;

std::array<KernelTable, kLevels> make_tables() {
  std::array<KernelTable, kLevels> tables;
  KernelTable table;
  baseline::add_attention(table);
  baseline::add_rows(table);
  baseline::add_elementwise(table);
  baseline::add_frames(table);
  baseline::add_color(table);
  tables.fill(table);
#if defined(__x86_64__)
  v3::add_attention(table);
  v3::add_rows(table);
  v3::add_elementwise(table);
  v3::add_frames(table);
  v3::add_color(table);
  tables[1] = table;
  v4::add_attention(table);
  v4::add_rows(table);
  v4::add_elementwise(table);
  v4::add_frames(table);
  v4::add_color(table);
  tables[2] = table;
  v4_bf16::add_attention(table);
  tables[3] = table;
#endif
  return tables;
}

}  // namespace

const KernelTable& table_for(Isa isa) {
  static const std::array<KernelTable, kLevels> tables = make_tables();
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace flashvsr::ops::kernels
