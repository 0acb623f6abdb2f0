// Colour fixes: statistics of channels, and the low band of the wavelet.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/kernels/simd.h"

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

constexpr std::int64_t kRgb = 3;
constexpr int kHalfLanes = kLanes / 2;
typedef float HalfF32 __attribute__((vector_size(kHalfLanes * 4)));
typedef double F64 __attribute__((vector_size(kHalfLanes * 8)));

FLASHVSR_INLINE F32 clipped(F32 x) {
  const F32 lower = x < -1.0f ? splat(-1.0f) : x;
  return lower > 1.0f ? splat(1.0f) : lower;
}

// ------------------------------------------------------------------------------------------------- statistics

// In double: a variance as the difference of two large sums keeps enough digits.
void value_moments(const float* x, std::int64_t pixels, Moments& moments) {
  constexpr int kParts = 2 * kRgb;  // kLanes pixels
  F64 sums[kParts] = {}, squares[kParts] = {};
  std::int64_t pixel = 0;
  for (; pixel + kLanes <= pixels; pixel += kLanes, x += kLanes * kRgb) {
#pragma GCC unroll 6
    for (int part = 0; part < kParts; ++part) {
      const F64 value = __builtin_convertvector(load<HalfF32>(x + part * kHalfLanes), F64);
      sums[part] += value;
      squares[part] += value * value;
    }
  }
  for (int i = 0; i < kParts * kHalfLanes; ++i) {
    moments.sums[i % kRgb] += sums[i / kHalfLanes][i % kHalfLanes];
    moments.squares[i % kRgb] += squares[i / kHalfLanes][i % kHalfLanes];
  }
  for (; pixel < pixels; ++pixel) {
    for (std::int64_t c = 0; c < kRgb; ++c, ++x) {
      const auto value = static_cast<double>(*x);
      moments.sums[c] += value;
      moments.squares[c] += value * value;
    }
  }
}

// Exact: sums of integers. At most 2^15 pixels.
void byte_moments(const std::uint8_t* x, std::int64_t pixels, Moments& moments) {
  U32 sums[kRgb] = {}, squares[kRgb] = {};
  std::int64_t pixel = 0;
  for (; pixel + kLanes <= pixels; pixel += kLanes, x += kLanes * kRgb) {
#pragma GCC unroll 3
    for (int part = 0; part < kRgb; ++part) {
      const U32 value = __builtin_convertvector(load<U8>(x + part * kLanes), U32);
      sums[part] += value;
      squares[part] += value * value;
    }
  }
  for (int i = 0; i < kRgb * kLanes; ++i) {
    moments.sums[i % kRgb] += static_cast<double>(sums[i / kLanes][i % kLanes]);
    moments.squares[i % kRgb] += static_cast<double>(squares[i / kLanes][i % kLanes]);
  }
  for (; pixel < pixels; ++pixel) {
    for (std::int64_t c = 0; c < kRgb; ++c, ++x) {
      moments.sums[c] += *x;
      moments.squares[c] += *x * *x;
    }
  }
}

void match_channels(const float* x, std::int64_t pixels, const ChannelMatch& match, float* out) {
  F32 means[kRgb], scales[kRgb], targets[kRgb];
  for (int i = 0; i < kRgb * kLanes; ++i) {
    means[i / kLanes][i % kLanes] = match.means[i % kRgb];
    scales[i / kLanes][i % kLanes] = match.scales[i % kRgb];
    targets[i / kLanes][i % kLanes] = match.targets[i % kRgb];
  }
  const std::int64_t count = pixels * kRgb;
  const auto matched = [&](F32 value, int part) FLASHVSR_LAMBDA_INLINE {
    return clipped((value - means[part]) * scales[part] + targets[part]);
  };
  std::int64_t i = 0;
  for (; i + kRgb * kLanes <= count; i += kRgb * kLanes) {
#pragma GCC unroll 3
    for (int part = 0; part < kRgb; ++part) {
      store(out + i + part * kLanes, matched(load<F32>(x + i + part * kLanes), part));
    }
  }
  for (int part = 0; i < count; ++part, i += kLanes) {
    const Part access{min(kLanes, count - i)};
    access.store(out + i, matched(access.load(x + i), part));
  }
}

// ---------------------------------------------------------------------------------------------------- wavelet

constexpr int kLevels = 5;
// Pixels around a tile on which its result depends, after `level` levels have been applied.
constexpr std::int64_t halo_after(int level) { return 32 - (std::int64_t{1} << level); }
constexpr std::int64_t kPadding = 16;  // the largest dilation

struct Range {
  std::int64_t begin, end;
};

FLASHVSR_INLINE Range widened(std::int64_t begin, std::int64_t end, std::int64_t by, std::int64_t size) {
  return {max(begin - by, 0), min(end + by, size)};
}

// One tile, row by row: a row of the difference of reference and video goes through all levels as far as the rows
// around it are known. A level keeps its last 2 * dilation + 1 rows, filtered across; so everything stays in the cache.
// Every level replicates the edges of its own input.
class LowBand {
 public:
  explicit LowBand(const WaveletTile& tile) : tile_(tile), columns_(input_columns(tile)), stride_(row_values(tile)) {
    float* next = tile.scratch;
    for (int level = 0; level < kLevels; ++level) {
      rows_[level] = next + kPadding * kRgb;
      next += stride_;
      rings_[level] = next;
      next += ring_rows(level) * stride_;
    }
  }

  static std::size_t scratch_bytes(const WaveletTile& tile) {
    std::int64_t rows = 0;
    for (int level = 0; level < kLevels; ++level) rows += 1 + ring_rows(level);
    // Vectors may run over the end of the last row.
    return static_cast<std::size_t>(rows * row_values(tile) + kLanes) * sizeof(float);
  }

  void run() {
    const Range rows = widened(tile_.top, tile_.bottom, halo_after(0), tile_.height);
    const std::int64_t count = (columns_.end - columns_.begin) * kRgb;
    for (std::int64_t y = rows.begin; y < rows.end; ++y) {
      const std::int64_t offset = (y * tile_.width + columns_.begin) * kRgb;
      const std::uint8_t* reference = tile_.reference + offset;
      const float* video = tile_.video + offset;
      float* row = rows_[0];
      for_each_vector(count, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
        access.store(row + i, access.load(reference + i) * (2.0f / 255.0f) - 1.0f - access.load(video + i));
      });
      push(0, y);
    }
  }

 private:
  static std::int64_t dilation(int level) { return std::int64_t{1} << level; }
  static std::int64_t ring_rows(int level) { return 2 * dilation(level) + 1; }
  static Range input_columns(const WaveletTile& tile) {
    return widened(tile.left, tile.right, halo_after(0), tile.width);
  }
  static std::int64_t row_values(const WaveletTile& tile) {
    const Range columns = input_columns(tile);
    return round_up((columns.end - columns.begin + 2 * kPadding) * kRgb, 16);
  }

  static FLASHVSR_INLINE F32 low_pass(const float* before, const float* here, const float* after) {
    return 0.25f * (load<F32>(before) + load<F32>(after)) + 0.5f * load<F32>(here);
  }
  float* ring_row(int level, std::int64_t y) const { return rings_[level] + y % ring_rows(level) * stride_; }

  // rows_[level] holds row y of the level's input.
  void push(int level, std::int64_t y) {
    const std::int64_t d = dilation(level), shift = d * kRgb;
    const Range in = widened(tile_.left, tile_.right, halo_after(level), tile_.width);
    const Range out = widened(tile_.left, tile_.right, halo_after(level + 1), tile_.width);
    float* const row = rows_[level];
    if (in.begin == 0) {
      for (std::int64_t i = -shift; i < 0; ++i) row[i] = row[(i + shift) % kRgb];
    }
    if (in.end == tile_.width) {
      float* const end = row + (in.end - columns_.begin) * kRgb;
      for (std::int64_t i = 0; i < shift; ++i) end[i] = end[i % kRgb - kRgb];
    }
    const std::int64_t begin = (out.begin - columns_.begin) * kRgb, end = (out.end - columns_.begin) * kRgb;
    float* const across = ring_row(level, y);
    for (std::int64_t i = begin; i < end; i += kLanes) {
      store(across + i, low_pass(row + i - shift, row + i, row + i + shift));
    }
    // The row above by the dilation is complete; behind the last row, so are all.
    const Range rows = widened(tile_.top, tile_.bottom, halo_after(level + 1), tile_.height);
    const std::int64_t last = min(y == tile_.height - 1 ? y : y - d, rows.end - 1);
    for (std::int64_t r = max(y - d, rows.begin); r <= last; ++r) {
      const float* above = ring_row(level, max(r - d, 0));
      const float* here = ring_row(level, r);
      const float* below = ring_row(level, min(r + d, tile_.height - 1));
      if (level + 1 < kLevels) {
        float* const next = rows_[level + 1];
        for (std::int64_t i = begin; i < end; i += kLanes) {
          store(next + i, low_pass(above + i, here + i, below + i));
        }
        push(level + 1, r);
      } else {
        finish(r, above + begin, here + begin, below + begin, end - begin);
      }
    }
  }

  void finish(std::int64_t y, const float* above, const float* here, const float* below, std::int64_t count) const {
    const std::int64_t offset = (y * tile_.width + tile_.left) * kRgb;
    const float* video = tile_.video + offset;
    float* out = tile_.out + offset;
    for_each_vector(count, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
      access.store(out + i, clipped(access.load(video + i) + low_pass(above + i, here + i, below + i)));
    });
  }

  const WaveletTile& tile_;
  Range columns_;        // of the input; where the rows below begin
  std::int64_t stride_;  // of rows, in floats
  float* rows_[kLevels];
  float* rings_[kLevels];
};

std::size_t wavelet_scratch(const WaveletTile& tile) { return LowBand::scratch_bytes(tile); }
void wavelet(const WaveletTile& tile) { LowBand(tile).run(); }

}  // namespace

void add_color(KernelTable& table) {
  table.color = {
      .value_moments = value_moments,
      .byte_moments = byte_moments,
      .match_channels = match_channels,
      .wavelet_scratch = wavelet_scratch,
      .wavelet = wavelet,
  };
}

}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
