// Conversion of raw host values between element types.
#pragma once

#include "core/dtype.h"

#include <cstddef>
#include <span>

namespace flashvsr {

// `source` holds destination.size() values of `type`; u8 and integers convert by value. Unaligned sources are allowed.
void convert_to_f32(const void* source, DType type, std::span<float> destination);
// Rounds to nearest even; `destination` holds source.size() values of f32 or bf16.
void convert_from_f32(std::span<const float> source, DType type, void* destination);

}  // namespace flashvsr
