// The JSON header of a safetensors file, read without trust: bounded memory, bounded depth, exact types.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace flashvsr::weights {

struct SafetensorsEntry {
  std::string name, type;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0, end = 0;  // of the data, from the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the file
  std::map<std::string, std::string, std::less<>> metadata;
};

// Throws Error(format) naming `origin` for what is not JSON of the expected form. Offsets and types are not judged
// here.
SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& origin);

}  // namespace flashvsr::weights
