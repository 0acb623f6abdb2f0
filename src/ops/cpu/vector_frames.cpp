// Operations on frames of pixels. The arithmetic is in kernels/frames.cpp.
#include "core/threads.h"
#include "ops/bicubic.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/vector_elements.h"
#include "ops/cpu/vector_operations.h"
#include "ops/cpu/vector_scratch.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kRgb = 3;
static_assert(kernels::kResampleBits == kBicubicBits);

std::int64_t row_grain(std::int64_t values) { return std::max<std::int64_t>(kValueGrain / values, 1); }

}  // namespace

Tensor VectorOperations::do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const std::int64_t count = frames.dim(0), in_height = frames.dim(1), in_width = frames.dim(2);
  Tensor x = frames;
  if (width != in_width) {
    const BicubicAxis axis = bicubic_axis(in_width, width);
    const Tensor resized = do_allocate({count, in_height, width, kRgb}, DType::u8);
    const std::size_t scratch_bytes = table_.frames.resample_scratch(in_width, width);
    // Kernels take rows by the sixteen at most.
    parallel_for(count * in_height, 16, [&](std::int64_t begin, std::int64_t end) {
      table_.frames.resample_columns({.in = x.data<std::uint8_t>() + begin * in_width * kRgb,
                                      .rows = end - begin,
                                      .in_width = in_width,
                                      .out_width = width,
                                      .first = axis.first.data(),
                                      .count = axis.count.data(),
                                      .weights = axis.weights.data(),
                                      .weight_stride = axis.stride,
                                      .out = resized.mutable_data<std::uint8_t>() + begin * width * kRgb,
                                      .scratch = reinterpret_cast<std::uint8_t*>(thread_scratch(scratch_bytes))});
    });
    x = resized;
  }
  if (height != in_height) {
    const BicubicAxis axis = bicubic_axis(in_height, height);
    const Tensor resized = do_allocate({count, height, width, kRgb}, DType::u8);
    const std::int64_t row_values = width * kRgb;
    parallel_for(count * height, row_grain(row_values), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t frame = row / height, i = row % height;
        const auto index = static_cast<std::size_t>(i);
        table_.frames.resample_row(x.data<std::uint8_t>() + (frame * in_height + axis.first[index]) * row_values,
                                   row_values, axis.weights.data() + i * axis.stride, axis.count[index], row_values,
                                   resized.mutable_data<std::uint8_t>() + row * row_values);
      }
    });
    x = resized;
  }
  return x;
}

Tensor VectorOperations::do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const std::int64_t in_height = frames.dim(1), in_width = frames.dim(2), channels = frames.dim(3);
  const Tensor result = do_allocate({frames.dim(0), height, width, channels}, frames.dtype());
  const std::size_t pixel = static_cast<std::size_t>(channels) * size_of(frames.dtype());
  parallel_for(frames.dim(0) * height, row_grain(width * channels), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t in_row = row / height * in_height + std::min(row % height, in_height - 1);
      std::byte* out = mutable_element(result, row * width * channels);
      std::memcpy(out, element(frames, in_row * in_width * channels), static_cast<std::size_t>(in_width) * pixel);
      const std::byte* last = out + static_cast<std::size_t>(in_width - 1) * pixel;
      for (std::int64_t x = in_width; x < width; ++x) {
        std::memcpy(out + static_cast<std::size_t>(x) * pixel, last, pixel);
      }
    }
  });
  return result;
}

Tensor VectorOperations::do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                                           float soft_clamp) {
  const std::int64_t in_height = frames.dim(1), in_width = frames.dim(2), channels = frames.dim(3);
  const std::int64_t groups = frames.dim(0) / temporal, height = in_height / spatial, width = in_width / spatial;
  const std::int64_t depth = channels * temporal * spatial * spatial;
  if (frames.dtype() != DType::u8) {
    return ReferenceOperations::do_space_to_depth(frames, spatial, temporal, soft_clamp);
  }
  // A byte has 256 values.
  std::array<float, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = video_value(static_cast<std::uint8_t>(i));
    values[i] = soft_clamp > 0 ? soft_clamped(value, soft_clamp) : value;
  }
  std::array<std::uint16_t, 256> rounded_values{};
  std::ranges::transform(values, rounded_values.begin(), [](float value) { return BFloat16(value).bits; });
  const bool is_f32 = compute_type() == DType::f32;
  const void* table = is_f32 ? static_cast<const void*>(values.data()) : rounded_values.data();

  const Tensor result = allocate_compute({groups, height, width, depth});
  const auto kernel = table_.frames.byte_patches[kernel_index(compute_type())];
  parallel_for(groups * height, row_grain(width * depth), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t in_row = row / height * temporal * in_height + row % height * spatial;
      kernel({.in = frames.data<std::uint8_t>() + in_row * in_width * channels,
              .columns = width,
              .channels = channels,
              .frames = temporal,
              .side = spatial,
              .frame_stride = in_height * in_width * channels,
              .row_stride = in_width * channels,
              .table = table,
              .out = mutable_element(result, row * width * depth)});
    }
  });
  return result;
}

Tensor VectorOperations::do_to_bytes(const Tensor& video) {
  const Tensor result = do_allocate(video.shape(), DType::u8);
  const auto kernel = table_.frames.to_bytes[kernel_index(video.dtype())];
  parallel_for(video.elements(), kValueGrain, [&](std::int64_t begin, std::int64_t end) {
    kernel(element(video, begin), end - begin, result.mutable_data<std::uint8_t>() + begin);
  });
  return result;
}

Tensor VectorOperations::do_to_video(const Tensor& frames) {
  const Tensor result = do_allocate(frames.shape(), DType::f32);
  parallel_for(frames.elements(), kValueGrain, [&](std::int64_t begin, std::int64_t end) {
    table_.frames.to_video(frames.data<std::uint8_t>() + begin, end - begin, result.mutable_data<float>() + begin);
  });
  return result;
}

}  // namespace flashvsr::ops
