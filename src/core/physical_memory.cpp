#include "core/physical_memory.h"

#include <unistd.h>

namespace flashvsr {

std::optional<std::size_t> physical_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return std::nullopt;
  return static_cast<std::size_t>(pages) * static_cast<std::size_t>(page);
}

}  // namespace flashvsr
