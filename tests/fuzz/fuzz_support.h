// What the fuzzers of the weight readers share.
#pragma once

#include "core/parameter.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace flashvsr::weights {

// A copy of the input in a block of exactly its size.
class InputStorage final : public Storage {
 public:
  InputStorage(const void* bytes, std::size_t size) : Storage(std::malloc(size ? size : 1), size) {
    if (size > 0) std::memcpy(data(), bytes, size);
  }
  ~InputStorage() override { std::free(data()); }
};

// Reads every byte of a tensor: whatever a reader lets through must lie in memory, aligned to its elements.
inline void touch(const Tensor& tensor) {
  volatile unsigned char sink = 0;
  const auto* bytes = static_cast<const unsigned char*>(tensor.raw());
  for (std::size_t i = 0; i < tensor.bytes(); ++i) sink = static_cast<unsigned char>(sink ^ bytes[i]);
  if (tensor.elements() > 0 && reinterpret_cast<std::uintptr_t>(bytes) % size_of(tensor.dtype()) != 0) std::abort();
}

// What one file can make the reader copy is bounded by the file.
inline void check(const WeightMap& tensors, const std::shared_ptr<Storage>& file) {
  std::size_t copied = 0;
  for (const auto& [name, parameter] : tensors) {
    touch(parameter.values());
    if (parameter.values().storage() != file) copied += parameter.values().bytes();
  }
  if (copied > file->bytes()) std::abort();
}

}  // namespace flashvsr::weights
