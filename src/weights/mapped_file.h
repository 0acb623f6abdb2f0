// Files mapped into memory, read only: weights are used where they lie.
#pragma once

#include "core/tensor.h"

#include <filesystem>
#include <memory>

namespace flashvsr::weights {

// The whole file as storage, until the last tensor that uses it is gone. Throws Error(io) naming the file and the
// system's reason; directories, devices and pipes are refused, and so are empty files (Error(format)).
std::shared_ptr<Storage> map_file(const std::filesystem::path& path);

// A configuration file as text. Throws like map_file, and Error(format) above `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, std::size_t limit);

}  // namespace flashvsr::weights
