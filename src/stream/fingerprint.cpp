#include "stream/fingerprint.h"

#include <algorithm>
#include <cstring>

namespace flashvsr::stream {
namespace {

constexpr std::size_t kSampleBytes = 64;

}  // namespace

// FNV-1a over 64-bit words instead of bytes; the shift lets the high bits of a word reach the low ones.
Fingerprint& Fingerprint::add(std::uint64_t value) {
  value_ = (value_ ^ value) * 0x100000001b3u;
  value_ ^= value_ >> 32;
  return *this;
}

Fingerprint& Fingerprint::add(std::string_view text) { return add(std::as_bytes(std::span(text))); }

Fingerprint& Fingerprint::add(std::span<const std::byte> bytes) {
  add(std::uint64_t{bytes.size()});
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t size = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), size);
    add(word);
    bytes = bytes.subspan(size);
  }
  return *this;
}

Fingerprint& Fingerprint::add_form(const Parameter& parameter) {
  add(name_of(parameter.dtype()));
  for (const std::int64_t dim : parameter.shape().dims()) add(static_cast<std::uint64_t>(dim));
  return *this;
}

Fingerprint& Fingerprint::add_sample(const Parameter& parameter) {
  const Tensor& values = parameter.values();
  return add_form(parameter).add(
      std::span(static_cast<const std::byte*>(values.raw()), std::min(values.bytes(), kSampleBytes)));
}

Fingerprint& Fingerprint::add_values(const Parameter& parameter) {
  const Tensor& values = parameter.values();
  return add_form(parameter).add(std::span(static_cast<const std::byte*>(values.raw()), values.bytes()));
}

}  // namespace flashvsr::stream
