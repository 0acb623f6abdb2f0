// Archives of torch.save (since PyTorch 1.6): a zip file with a pickle and raw storages. Nothing in them is executed.
#pragma once

#include "core/parameter.h"

#include <filesystem>
#include <memory>
#include <string>

namespace flashvsr::weights {

// What an archive holds: a state dict, or one tensor alone.
struct TorchArchive {
  WeightMap tensors;
  Parameter tensor;
};

// Maps the file; values stay in the mapping where they are contiguous and aligned, else they are copied. A state dict
// may lie under "state_dict", "model" or "params" of an outer dictionary. Throws Error(format) naming the file and what
// is wrong, for anything that a state dict does not need; Error(io) where the file cannot be read.
TorchArchive read_torch_archive(const std::filesystem::path& path);

// The same from memory; `origin` names it in errors.
TorchArchive parse_torch_archive(const std::shared_ptr<Storage>& file, const std::string& origin);

}  // namespace flashvsr::weights
