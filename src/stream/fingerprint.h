// A 64-bit fingerprint (FNV-1a): tells data apart, protects against accidents, not against forgery.
#pragma once

#include "core/parameter.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace flashvsr::stream {

class Fingerprint {
 public:
  Fingerprint& add(std::uint64_t value);
  Fingerprint& add(std::string_view text);
  Fingerprint& add(std::span<const std::byte> bytes);
  // Type, shape and the first bytes of a weight: enough to tell models apart without reading all of them.
  Fingerprint& add_sample(const Parameter& parameter);
  Fingerprint& add_values(const Parameter& parameter);
  std::uint64_t value() const { return value_; }

 private:
  Fingerprint& add_form(const Parameter& parameter);

  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace flashvsr::stream
