// Pixels: resampling, and conversion between bytes and values. Rounding here is part of the result, so sums and
// products are not fused.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/kernels/simd.h"

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

constexpr std::int64_t kRgb = 3;

FLASHVSR_INLINE I32 load_bytes(const std::uint8_t* from) { return __builtin_convertvector(load<U8>(from), I32); }
FLASHVSR_INLINE I32 splat(std::int32_t value) { return value + I32{}; }

FLASHVSR_INLINE U8 resampled(I32 sum) {
  const I32 value = sum >> kResampleBits;
  const I32 low = value < 0 ? I32{} : value;
  return __builtin_convertvector(low > 255 ? splat(255) : low, U8);
}

void resample_row(const std::uint8_t* in, std::int64_t stride, const std::int32_t* weights, std::int64_t taps,
                  std::int64_t count, std::uint8_t* out) {
  constexpr std::int32_t kHalf = 1 << (kResampleBits - 1);
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    I32 sum = splat(kHalf);
    for (std::int64_t tap = 0; tap < taps; ++tap) sum += load_bytes(in + tap * stride + i) * weights[tap];
    store(out + i, resampled(sum));
  }
  for (; i < count; ++i) {
    std::int32_t sum = kHalf;
    for (std::int64_t tap = 0; tap < taps; ++tap) sum += in[tap * stride + i] * weights[tap];
    const std::int32_t value = sum >> kResampleBits;
    out[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

// kLanes rows at a time, side by side in a vector: then all rows of a column share first input and weights.
void resample_columns(const ColumnResampling& r) {
  constexpr std::int32_t kHalf = 1 << (kResampleBits - 1);
  const std::int64_t in_values = r.in_width * kRgb, out_values = r.out_width * kRgb;
  std::uint8_t *const turned = r.scratch, *const turned_out = turned + in_values * kLanes;
  for (std::int64_t begin = 0; begin < r.rows; begin += kLanes) {
    const std::int64_t rows = min(kLanes, r.rows - begin);
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      // Lanes without a row repeat the last one.
      const std::uint8_t* row = r.in + (begin + min(lane, rows - 1)) * in_values;
      for (std::int64_t i = 0; i < in_values; ++i) turned[i * kLanes + lane] = row[i];
    }
    for (std::int64_t x = 0; x < r.out_width; ++x) {
      const std::uint8_t* in = turned + r.first[x] * kRgb * kLanes;
      const std::int32_t* weights = r.weights + x * r.weight_stride;
      I32 sums[kRgb] = {splat(kHalf), splat(kHalf), splat(kHalf)};
      for (std::int64_t tap = 0; tap < r.count[x]; ++tap, in += kRgb * kLanes) {
        for (std::int64_t c = 0; c < kRgb; ++c) sums[c] += load_bytes(in + c * kLanes) * weights[tap];
      }
      for (std::int64_t c = 0; c < kRgb; ++c) store(turned_out + (x * kRgb + c) * kLanes, resampled(sums[c]));
    }
    for (std::int64_t lane = 0; lane < rows; ++lane) {
      std::uint8_t* row = r.out + (begin + lane) * out_values;
      for (std::int64_t i = 0; i < out_values; ++i) row[i] = turned_out[i * kLanes + lane];
    }
  }
}

std::size_t resample_scratch(std::int64_t in_width, std::int64_t out_width) {
  return static_cast<std::size_t>((in_width + out_width) * kRgb * kLanes);
}

// round((x + 1) * 127.5), halves away from zero; what is not a number becomes 0.
template <typename Element>
void to_bytes(const void* from, std::int64_t count, std::uint8_t* out) {
  const auto* x = static_cast<const Element*>(from);
  for_each_vector(count, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
    const F32 scaled = (access.load(x + i) + 1.0f) * 127.5f;
    const F32 above = scaled > 0.0f ? scaled : F32{};
    const F32 clipped = above > 255.0f ? FLASHVSR_ISA::splat(255.0f) : above;
    const I32 whole = __builtin_convertvector(clipped, I32);
    // A comparison gives -1 where it holds.
    const I32 rounded = whole - (clipped - __builtin_convertvector(whole, F32) >= 0.5f);
    access.store(out + i, __builtin_convertvector(rounded, U8));
  });
}

void to_video(const std::uint8_t* from, std::int64_t count, float* out) {
  for_each_vector(count, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
    access.store(out + i, access.load(from + i) / 255.0f * 2.0f - 1.0f);
  });
}

// Side: the patch's side where it is known when this is compiled, else 0.
template <typename Element, int Side>
FLASHVSR_INLINE void patches(const BytePatches& p) {
  const std::int64_t side = Side > 0 ? Side : p.side;
  const auto* table = static_cast<const Element*>(p.table);
  auto* out = static_cast<Element*>(p.out);
  for (std::int64_t x = 0; x < p.columns; ++x) {
    const std::uint8_t* patch = p.in + x * side * p.channels;
    for (std::int64_t c = 0; c < p.channels; ++c) {
      for (std::int64_t frame = 0; frame < p.frames; ++frame) {
        const std::uint8_t* in = patch + frame * p.frame_stride + c;
        for (std::int64_t row = 0; row < side; ++row, in += p.row_stride) {
#pragma GCC unroll 16
          for (std::int64_t column = 0; column < side; ++column) *out++ = table[in[column * p.channels]];
        }
      }
    }
  }
}

template <typename Element>
void byte_patches(const BytePatches& p) {
  switch (p.side) {
    case 8: patches<Element, 8>(p); break;
    case 16: patches<Element, 16>(p); break;
    default: patches<Element, 0>(p); break;
  }
}

}  // namespace

void add_frames(KernelTable& table) {
  table.frames = {
      .resample_row = resample_row,
      .resample_columns = resample_columns,
      .resample_scratch = resample_scratch,
      .to_bytes = {to_bytes<float>, to_bytes<std::uint16_t>},
      .to_video = to_video,
      .byte_patches = {byte_patches<float>, byte_patches<std::uint16_t>},
  };
}

}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
