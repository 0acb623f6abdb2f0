// Reference: operations on frames of pixels.
#include "core/threads.h"
#include "ops/bicubic.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/reference_operations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kRgb = 3;
constexpr int kWaveletLevels = 5;

}  // namespace

// Horizontal pass, then vertical pass; each rounds to u8. An axis that keeps its size is left alone, as in Pillow.
Tensor ReferenceOperations::do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const std::int64_t count = frames.dim(0), in_height = frames.dim(1), in_width = frames.dim(2);
  constexpr std::int32_t kHalf = 1 << (kBicubicBits - 1);
  Tensor x = frames;
  if (width != in_width) {
    const BicubicAxis axis = bicubic_axis(in_width, width);
    const Tensor resized = do_allocate({count, in_height, width, kRgb}, DType::u8);
    parallel_for(count * in_height, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::uint8_t* in = x.data<std::uint8_t>() + row * in_width * kRgb;
        std::uint8_t* out = resized.mutable_data<std::uint8_t>() + row * width * kRgb;
        for (std::int64_t i = 0; i < width; ++i) {
          const auto index = static_cast<std::size_t>(i);
          const std::int32_t* weights = axis.weights.data() + i * axis.stride;
          for (std::int64_t c = 0; c < kRgb; ++c) {
            std::int32_t sum = kHalf;
            for (std::int64_t j = 0; j < axis.count[index]; ++j) {
              sum += in[(axis.first[index] + j) * kRgb + c] * weights[j];
            }
            out[i * kRgb + c] = bicubic_pixel(sum);
          }
        }
      }
    });
    x = resized;
  }
  if (height != in_height) {
    const BicubicAxis axis = bicubic_axis(in_height, height);
    const Tensor resized = do_allocate({count, height, width, kRgb}, DType::u8);
    const std::int64_t row_values = width * kRgb;
    parallel_for(count * height, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int32_t> sums(static_cast<std::size_t>(row_values));
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t frame = row / height, i = row % height;
        const auto index = static_cast<std::size_t>(i);
        const std::int32_t* weights = axis.weights.data() + i * axis.stride;
        std::ranges::fill(sums, kHalf);
        for (std::int64_t j = 0; j < axis.count[index]; ++j) {
          const std::uint8_t* in = x.data<std::uint8_t>() + (frame * in_height + axis.first[index] + j) * row_values;
          for (std::size_t v = 0; v < sums.size(); ++v) sums[v] += in[v] * weights[j];
        }
        std::ranges::transform(sums, resized.mutable_data<std::uint8_t>() + row * row_values, bicubic_pixel);
      }
    });
    x = resized;
  }
  return x;
}

Tensor ReferenceOperations::do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const std::int64_t in_height = frames.dim(1), in_width = frames.dim(2);
  const Tensor result = do_allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
  const std::size_t pixel = static_cast<std::size_t>(frames.dim(3)) * size_of(frames.dtype());
  const auto* in = static_cast<const std::byte*>(frames.raw());
  auto* out = static_cast<std::byte*>(result.mutable_raw());
  parallel_for(frames.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t in_row = row / height * in_height + std::min(row % height, in_height - 1);
      for (std::int64_t x = 0; x < width; ++x) {
        std::memcpy(out + static_cast<std::size_t>(row * width + x) * pixel,
                    in + static_cast<std::size_t>(in_row * in_width + std::min(x, in_width - 1)) * pixel, pixel);
      }
    }
  });
  return result;
}

Tensor ReferenceOperations::do_crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height,
                                    std::int64_t width) {
  const std::int64_t in_height = frames.dim(1), in_width = frames.dim(2);
  const Tensor result = do_allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
  const std::size_t pixel = static_cast<std::size_t>(frames.dim(3)) * size_of(frames.dtype());
  const auto* in = static_cast<const std::byte*>(frames.raw());
  auto* out = static_cast<std::byte*>(result.mutable_raw());
  const std::size_t row_bytes = static_cast<std::size_t>(width) * pixel;
  parallel_for(frames.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t in_row = row / height * in_height + top + row % height;
      std::memcpy(out + static_cast<std::size_t>(row) * row_bytes,
                  in + static_cast<std::size_t>(in_row * in_width + left) * pixel, row_bytes);
    }
  });
  return result;
}

void ReferenceOperations::do_add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left,
                                      const Tensor& row_weights, const Tensor& column_weights) {
  const std::int64_t channels = tile.dim(3), rows = std::min(tile.dim(1), frame.dim(1) - top);
  const std::int64_t columns = std::min(tile.dim(2), frame.dim(2) - left);
  const float *down = row_weights.data<float>(), *across = column_weights.data<float>();
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t y = begin; y < end; ++y) {
      const float* from = tile.data<float>() + y * tile.dim(2) * channels;
      float* to = frame.mutable_data<float>() + ((top + y) * frame.dim(2) + left) * channels;
      for (std::int64_t x = 0; x < columns; ++x, from += channels, to += channels) {
        const float weight = down[y] * across[x];
        for (std::int64_t c = 0; c < channels; ++c) to[c] += weight * from[c];
      }
    }
  });
}

Tensor ReferenceOperations::do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                                              float soft_clamp) {
  const Tensor video = frames.dtype() == DType::u8 ? ReferenceOperations::do_to_video(frames) : as_f32(frames);
  const std::int64_t in_height = frames.dim(1), in_width = frames.dim(2), channels = frames.dim(3);
  const std::int64_t groups = frames.dim(0) / temporal, height = in_height / spatial, width = in_width / spatial;
  const std::int64_t depth = channels * temporal * spatial * spatial;
  const Tensor result = do_allocate({groups, height, width, depth}, DType::f32);
  const float* in = video.data<float>();
  parallel_for(groups * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t group = row / height, y = row % height;
      for (std::int64_t x = 0; x < width; ++x) {
        float* out = result.mutable_data<float>() + (row * width + x) * depth;
        for (std::int64_t c = 0; c < channels; ++c) {
          for (std::int64_t t = 0; t < temporal; ++t) {
            for (std::int64_t i = 0; i < spatial; ++i) {
              const std::int64_t in_row = (group * temporal + t) * in_height + y * spatial + i;
              for (std::int64_t j = 0; j < spatial; ++j) {
                const float value = in[(in_row * in_width + x * spatial + j) * channels + c];
                *out++ = soft_clamp > 0 ? soft_clamped(value, soft_clamp) : value;
              }
            }
          }
        }
      }
    }
  });
  return rounded(result, settings_.compute);
}

// -------------------------------------------------------------------------------------------------------- colour

Tensor ReferenceOperations::do_adain(const Tensor& video, const Tensor& reference) {
  struct Statistics {
    double mean, deviation;
  };
  const std::int64_t pixels = video.dim(1) * video.dim(2);
  // Two passes, in double: the variance of a nearly constant frame survives.
  const auto statistics = [pixels](const float* x) {
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < pixels; ++i) sum += static_cast<double>(x[i * kRgb]);
    const double mean = sum / static_cast<double>(pixels);
    for (std::int64_t i = 0; i < pixels; ++i) {
      const double difference = static_cast<double>(x[i * kRgb]) - mean;
      squares += difference * difference;
    }
    return Statistics{mean, std::sqrt(squares / static_cast<double>(pixels) + 1e-5)};
  };
  const Tensor target = ReferenceOperations::do_to_video(reference);
  const Tensor result = do_allocate(video.shape(), DType::f32);
  parallel_for(video.dim(0) * kRgb, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t offset = plane / kRgb * pixels * kRgb + plane % kRgb;
      const float* x = video.data<float>() + offset;
      float* out = result.mutable_data<float>() + offset;
      const Statistics own = statistics(x), wanted = statistics(target.data<float>() + offset);
      const auto scale = static_cast<float>(wanted.deviation / own.deviation);
      const auto own_mean = static_cast<float>(own.mean), wanted_mean = static_cast<float>(wanted.mean);
      for (std::int64_t i = 0; i < pixels; ++i) {
        out[i * kRgb] = std::clamp((x[i * kRgb] - own_mean) * scale + wanted_mean, -1.0f, 1.0f);
      }
    }
  });
  return result;
}

// One binomial low pass (1 2 1) / 4 along rows and along columns, with `dilation` between the taps.
Tensor ReferenceOperations::binomial_low_pass(const Tensor& x, std::int64_t dilation) {
  const std::int64_t height = x.dim(1), width = x.dim(2), row_values = width * kRgb;
  const Tensor across = do_allocate(x.shape(), DType::f32), result = do_allocate(x.shape(), DType::f32);
  const float* in = x.data<float>();
  auto* middle = across.mutable_data<float>();
  auto* out = result.mutable_data<float>();
  const auto low_pass = [](float a, float b, float c) { return 0.25f * (a + c) + 0.5f * b; };
  parallel_for(x.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* line = in + row * row_values;
      for (std::int64_t column = 0; column < width; ++column) {
        const std::int64_t left = std::max<std::int64_t>(column - dilation, 0);
        const std::int64_t right = std::min(column + dilation, width - 1);
        for (std::int64_t c = 0; c < kRgb; ++c) {
          middle[row * row_values + column * kRgb + c] =
              low_pass(line[left * kRgb + c], line[column * kRgb + c], line[right * kRgb + c]);
        }
      }
    }
  });
  parallel_for(x.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = row / height * height, y = row % height;
      const float* above = middle + (first + std::max<std::int64_t>(y - dilation, 0)) * row_values;
      const float* below = middle + (first + std::min(y + dilation, height - 1)) * row_values;
      const float* line = middle + row * row_values;
      for (std::int64_t i = 0; i < row_values; ++i) out[row * row_values + i] = low_pass(above[i], line[i], below[i]);
    }
  });
  return result;
}

Tensor ReferenceOperations::do_wavelet(const Tensor& video, const Tensor& reference) {
  const auto low_band = [this](Tensor x) {
    for (int level = 0; level < kWaveletLevels; ++level) x = binomial_low_pass(x, std::int64_t{1} << level);
    return x;
  };
  const Tensor own = low_band(video), wanted = low_band(ReferenceOperations::do_to_video(reference));
  const Tensor result = do_allocate(video.shape(), DType::f32);
  const float *x = video.data<float>(), *low = own.data<float>(), *low_wanted = wanted.data<float>();
  auto* out = result.mutable_data<float>();
  parallel_for(video.elements(), 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = std::clamp(x[i] - low[i] + low_wanted[i], -1.0f, 1.0f);
  });
  return result;
}

}  // namespace flashvsr::ops
