// The safetensors format: u64 header length, a JSON header (type, shape, data offsets of every tensor), raw data.
#pragma once

#include "core/parameter.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>

namespace flashvsr::weights {

struct SafetensorsFile {
  WeightMap tensors;
  std::map<std::string, std::string, std::less<>> metadata;
  // Well-formed tensors of element types (or of more than six dimensions) that this engine does not compute with:
  // name -> type and shape.
  std::map<std::string, std::string, std::less<>> unsupported;
};

// Maps the file; values stay in the mapping (a tensor that is not aligned to its element size is copied). Every byte
// of the header is checked before it is used: sizes, types, offsets; data without holes or overlaps, no name twice.
// Throws Error(format) naming the file and the tensor, Error(io) where the file cannot be read.
SafetensorsFile read_safetensors(const std::filesystem::path& path);

// The same from memory; `origin` names it in errors.
SafetensorsFile parse_safetensors(const std::shared_ptr<Storage>& file, const std::string& origin);

// Writes host tensors. The file appears under `path` when it is complete and on disk, or not at all; without
// `overwrite` an existing file is an Error(io).
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata, bool overwrite);

}  // namespace flashvsr::weights
