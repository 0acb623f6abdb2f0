// The machine's memory.
#pragma once

#include <cstddef>
#include <optional>

namespace flashvsr {

// Bytes in all; nullopt where the system does not say.
std::optional<std::size_t> physical_memory();

}  // namespace flashvsr
