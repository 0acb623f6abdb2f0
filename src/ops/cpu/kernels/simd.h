// Vectors of the width that the instruction set of this compilation has, by the compiler's vector extension.
//
// Everything in src/ops/cpu/kernels/*.cpp is compiled once for each instruction set, each time in a namespace of its
// own (FLASHVSR_ISA). These files include nothing that defines inline functions or templates outside of that namespace
// (no standard containers or algorithms): the linker keeps one copy of such a function for the whole program, and it
// might be the one with instructions that the processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef FLASHVSR_ISA
#define FLASHVSR_ISA baseline
#endif

#define FLASHVSR_INLINE inline __attribute__((always_inline))
#define FLASHVSR_LAMBDA_INLINE __attribute__((always_inline))

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float F32 __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t I32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t U32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t U16 __attribute__((vector_size(kLanes * 2)));
typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

// Memory of any type, unaligned.
template <typename Vector>
FLASHVSR_INLINE Vector load(const void* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <typename Vector>
FLASHVSR_INLINE void store(void* to, Vector value) {
  __builtin_memcpy(to, &value, sizeof value);
}

FLASHVSR_INLINE F32 splat(float value) { return value - F32{}; }
FLASHVSR_INLINE F32 max(F32 a, F32 b) { return a > b ? a : b; }
FLASHVSR_INLINE F32 min(F32 a, F32 b) { return a < b ? a : b; }
FLASHVSR_INLINE float max(float a, float b) { return a > b ? a : b; }
FLASHVSR_INLINE std::int64_t min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
FLASHVSR_INLINE std::int64_t max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
FLASHVSR_INLINE constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

FLASHVSR_INLINE U32 bits_of(F32 value) { return __builtin_bit_cast(U32, value); }
FLASHVSR_INLINE F32 float_of(U32 bits) { return __builtin_bit_cast(F32, bits); }

// bf16 as its bits.
FLASHVSR_INLINE float widen(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}
FLASHVSR_INLINE F32 widen(U16 bits) { return float_of(__builtin_convertvector(bits, U32) << 16); }
// To nearest, ties to even; NaN stays NaN.
FLASHVSR_INLINE std::uint16_t narrow(float value) {
  const auto u = __builtin_bit_cast(std::uint32_t, value);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  return static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
FLASHVSR_INLINE U16 narrow(F32 value) {
  const U32 u = bits_of(value);
  const U32 rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const U32 quiet = (u >> 16) | 0x40u;
  return __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded, U16);
}

// Element types of activations: float, or bf16 as std::uint16_t (u8 is only read).
FLASHVSR_INLINE F32 load_f32(const float* from) { return load<F32>(from); }
FLASHVSR_INLINE F32 load_f32(const std::uint16_t* from) { return widen(load<U16>(from)); }
FLASHVSR_INLINE F32 load_f32(const std::uint8_t* from) { return __builtin_convertvector(load<U8>(from), F32); }
FLASHVSR_INLINE void store_f32(float* to, F32 value) { store(to, value); }
FLASHVSR_INLINE void store_f32(std::uint16_t* to, F32 value) { store(to, narrow(value)); }
FLASHVSR_INLINE float get(const float* from) { return *from; }
FLASHVSR_INLINE float get(const std::uint16_t* from) { return widen(*from); }
FLASHVSR_INLINE void put(float* to, float value) { *to = value; }
FLASHVSR_INLINE void put(std::uint16_t* to, float value) { *to = narrow(value); }

// A whole vector of elements in memory, or the `count` < kLanes at the end of a row; what is missing reads as zero.
struct Whole {
  template <typename Element>
  FLASHVSR_INLINE F32 load(const Element* from) const {
    return load_f32(from);
  }
  template <typename Element>
  FLASHVSR_INLINE void store(Element* to, F32 value) const {
    store_f32(to, value);
  }
  FLASHVSR_INLINE void store(std::uint8_t* to, U8 value) const { FLASHVSR_ISA::store(to, value); }
};
struct Part {
  std::int64_t count;

  template <typename Element>
  FLASHVSR_INLINE F32 load(const Element* from) const {
    Element elements[kLanes] = {};
    for (std::int64_t i = 0; i < count; ++i) elements[i] = from[i];
    return load_f32(elements);
  }
  template <typename Element>
  FLASHVSR_INLINE void store(Element* to, F32 value) const {
    Element elements[kLanes];
    store_f32(elements, value);
    for (std::int64_t i = 0; i < count; ++i) to[i] = elements[i];
  }
  FLASHVSR_INLINE void store(std::uint8_t* to, U8 value) const {
    for (std::int64_t i = 0; i < count; ++i) to[i] = value[i];
  }
};

// body(position, access) for every vector of a row of `count` elements.
template <typename Body>
FLASHVSR_INLINE void for_each_vector(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, Whole{});
  if (i < count) body(i, Part{count - i});
}

// Lane i receives lane i + width (of the first 2 * width lanes; what the others receive is of no use).
template <int Width>
FLASHVSR_INLINE F32 upper(F32 x) {
#if defined(__AVX512F__)
  if constexpr (Width == 8) {
    return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  } else if constexpr (Width == 4) {
    return __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  } else if constexpr (Width == 2) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  } else {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  }
#elif defined(__AVX2__)
  if constexpr (Width == 4) {
    return __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3);
  } else if constexpr (Width == 2) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5);
  } else {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
  }
#else
  if constexpr (Width == 2) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1);
  } else {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2);
  }
#endif
}

// In a fixed order, so that results do not hang on how a loop is cut.
FLASHVSR_INLINE float sum_of(F32 x) {
  if constexpr (kLanes >= 16) x += upper<8>(x);
  if constexpr (kLanes >= 8) x += upper<4>(x);
  x += upper<2>(x);
  x += upper<1>(x);
  return x[0];
}
FLASHVSR_INLINE float max_of(F32 x) {
  if constexpr (kLanes >= 16) x = max(x, upper<8>(x));
  if constexpr (kLanes >= 8) x = max(x, upper<4>(x));
  x = max(x, upper<2>(x));
  x = max(x, upper<1>(x));
  return x[0];
}

}  // namespace
}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
