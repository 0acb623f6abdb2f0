#include "core/convert.h"

#include "core/error.h"

#include <cstring>

namespace flashvsr {
namespace {

template <typename T>
T load(const void* source, std::size_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(source) + index * sizeof(T), sizeof(T));
  return value;
}

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace

void convert_to_f32(const void* source, DType type, std::span<float> destination) {
  const std::size_t n = destination.size();
  if (n == 0) return;
  switch (type) {
    case DType::f32: std::memcpy(destination.data(), source, n * sizeof(float)); return;
    case DType::bf16:
      for (std::size_t i = 0; i < n; ++i) destination[i] = static_cast<float>(load<BFloat16>(source, i));
      return;
    case DType::f16:
      for (std::size_t i = 0; i < n; ++i) destination[i] = half_to_float(load<std::uint16_t>(source, i));
      return;
    case DType::f64:
      for (std::size_t i = 0; i < n; ++i) destination[i] = static_cast<float>(load<double>(source, i));
      return;
    case DType::u8:
      for (std::size_t i = 0; i < n; ++i) destination[i] = static_cast<float>(load<std::uint8_t>(source, i));
      return;
    case DType::i32:
      for (std::size_t i = 0; i < n; ++i) destination[i] = static_cast<float>(load<std::int32_t>(source, i));
      return;
    case DType::i64:
      for (std::size_t i = 0; i < n; ++i) destination[i] = static_cast<float>(load<std::int64_t>(source, i));
      return;
  }
}

void convert_from_f32(std::span<const float> source, DType type, void* destination) {
  if (type == DType::f32) {
    std::memcpy(destination, source.data(), source.size_bytes());
    return;
  }
  require(type == DType::bf16, "conversion from f32 to {}", name_of(type));
  for (std::size_t i = 0; i < source.size(); ++i) {
    const BFloat16 value(source[i]);
    std::memcpy(static_cast<std::byte*>(destination) + i * sizeof(value), &value, sizeof(value));
  }
}

}  // namespace flashvsr
