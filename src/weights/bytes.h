// Untrusted bytes of weight files: views, little-endian reads, and names from files made fit for messages.
#pragma once

#include "core/error.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace flashvsr::weights {

// Both file formats are little-endian and their values are used where they lie.
static_assert(std::endian::native == std::endian::little);

using Bytes = std::span<const std::byte>;

// The caller has checked that offset + sizeof(T) lies inside.
template <typename T>
T read_at(Bytes bytes, std::uint64_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

inline std::string_view as_text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// `text` in quotes, on one line, control characters escaped, cut after 120 bytes.
std::string quote(std::string_view text);

// Throws Error(format) for what people often have instead of weights: pointers of Git LFS and web pages.
void refuse_lookalikes(Bytes file, const std::string& origin);

}  // namespace flashvsr::weights
