// Reference: convolutions, as sums over taps.
#include "core/threads.h"
#include "ops/cpu/reference_math.h"
#include "ops/cpu/reference_operations.h"

#include <algorithm>
#include <optional>

namespace flashvsr::ops {
namespace {

// [kt, kh, kw, in, out]: the inner loop runs over outputs.
struct TapWeight {
  std::vector<float> values;
};

TapWeight by_taps(const std::vector<float>& weight, std::int64_t out, std::int64_t in) {
  const std::int64_t taps = static_cast<std::int64_t>(weight.size()) / (out * in);
  TapWeight result{std::vector<float>(weight.size())};
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t i = 0; i < in; ++i) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        result.values[static_cast<std::size_t>((tap * in + i) * out + o)] =
            weight[static_cast<std::size_t>((o * in + i) * taps + tap)];
      }
    }
  }
  return result;
}

// sums[o] += sum over c of x[c] * weight[c, o].
void accumulate(const float* x, std::int64_t in, const float* weight, std::int64_t out, float* sums) {
  for (std::int64_t c = 0; c < in; ++c) {
    const float value = x[c], *row = weight + c * out;
    for (std::int64_t o = 0; o < out; ++o) sums[o] += value * row[o];
  }
}

// The input position of a tap, or nothing where zeros lie around the frame.
std::optional<std::int64_t> position(std::int64_t index, std::int64_t size, Padding padding) {
  if (padding == Padding::edge) return std::clamp<std::int64_t>(index, 0, size - 1);
  if (index < 0 || index >= size) return std::nullopt;
  return index;
}

}  // namespace

const float* ReferenceOperations::tap_weight(const Parameter& weight) {
  return prepared_
      .get<TapWeight>({weight.id()}, [&] { return by_taps(compute_values(weight), weight.dim(0), weight.dim(1)); })
      .values.data();
}

Tensor ReferenceOperations::do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                                      const Conv3dOptions& options) {
  const Tensor before = front ? as_f32(front) : Tensor(), source = as_f32(x);
  const std::int64_t front_frames = front ? front.dim(0) : 0;
  const std::int64_t height = x.dim(1), width = x.dim(2), in = x.dim(3);
  const Parameter& w = weights.weight;
  const std::int64_t out = w.dim(0), kt = w.dim(2), kh = w.dim(3), kw = w.dim(4);
  const std::int64_t frames = (front_frames + x.dim(0) - kt) / options.time_stride + 1;
  const float* weight = tap_weight(w);
  const float* bias = weights.bias ? f32_values(weights.bias).data() : nullptr;
  const Tensor result = do_allocate({frames, height, width, out}, DType::f32);
  parallel_for(frames * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t frame = row / height, y = row % height;
      for (std::int64_t column = 0; column < width; ++column) {
        float* sums = result.mutable_data<float>() + (row * width + column) * out;
        for (std::int64_t o = 0; o < out; ++o) sums[o] = bias ? bias[o] : 0.0f;
        for (std::int64_t t = 0; t < kt; ++t) {
          const std::int64_t time = frame * options.time_stride + t;
          const float* pixels = time < front_frames
                                    ? before.data<float>() + time * height * width * in
                                    : source.data<float>() + (time - front_frames) * height * width * in;
          for (std::int64_t i = 0; i < kh; ++i) {
            const auto in_row = position(y + i - kh / 2, height, options.padding);
            if (!in_row) continue;
            for (std::int64_t j = 0; j < kw; ++j) {
              const auto in_column = position(column + j - kw / 2, width, options.padding);
              if (!in_column) continue;
              accumulate(pixels + (*in_row * width + *in_column) * in, in, weight + ((t * kh + i) * kw + j) * in * out,
                         out, sums);
            }
          }
        }
      }
    }
  });
  return rounded(result, *options.output);
}

// f32 result of a convolution over x ++ second, both f32, with a prepared [kh, kw, in, out] weight.
Tensor ReferenceOperations::convolved(const Tensor& x, const Tensor& second, const float* weight, const float* bias,
                                      std::int64_t out, std::int64_t kh, std::int64_t kw,
                                      const Conv2dOptions& options) {
  const std::int64_t in_height = x.dim(1), in_width = x.dim(2), first_in = x.dim(3);
  const std::int64_t second_in = second ? second.dim(3) : 0, in = first_in + second_in;
  const std::int64_t height = (in_height + options.pad_top + options.pad_bottom - kh) / options.stride + 1;
  const std::int64_t width = (in_width + options.pad_left + options.pad_right - kw) / options.stride + 1;
  const Tensor residual = options.residual ? as_f32(*options.residual) : Tensor();
  const Tensor result = do_allocate({x.dim(0), height, width, out}, DType::f32);
  parallel_for(x.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t frame = row / height, y = row % height;
      for (std::int64_t column = 0; column < width; ++column) {
        const std::int64_t offset = (row * width + column) * out;
        float* sums = result.mutable_data<float>() + offset;
        for (std::int64_t o = 0; o < out; ++o) sums[o] = bias ? bias[o] : 0.0f;
        for (std::int64_t i = 0; i < kh; ++i) {
          const auto in_row = position(y * options.stride + i - options.pad_top, in_height, Padding::zeros);
          if (!in_row) continue;
          for (std::int64_t j = 0; j < kw; ++j) {
            const auto in_column = position(column * options.stride + j - options.pad_left, in_width, Padding::zeros);
            if (!in_column) continue;
            const std::int64_t pixel = (frame * in_height + *in_row) * in_width + *in_column;
            const float* tap = weight + (i * kw + j) * in * out;
            accumulate(x.data<float>() + pixel * first_in, first_in, tap, out, sums);
            if (second) {
              accumulate(second.data<float>() + pixel * second_in, second_in, tap + first_in * out, out, sums);
            }
          }
        }
        for (std::int64_t o = 0; o < out; ++o) {
          if (residual) sums[o] += residual.data<float>()[offset + o];
          sums[o] = activate(sums[o], options.activation);
        }
      }
    }
  });
  return result;
}

Tensor ReferenceOperations::do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) {
  const Parameter& w = weights.weight;
  const float* bias = weights.bias ? f32_values(weights.bias).data() : nullptr;
  const Tensor result = convolved(as_f32(x), options.second ? as_f32(*options.second) : Tensor(), tap_weight(w), bias,
                                  w.dim(0), w.dim(2), w.dim(3), options);
  return rounded(result, *options.output);
}

// Every pixel of f32 x becomes 2 x 2 equal ones.
Tensor ReferenceOperations::upsampled(const Tensor& x) {
  const std::int64_t height = 2 * x.dim(1), width = 2 * x.dim(2), channels = x.dim(3);
  const Tensor result = do_allocate({x.dim(0), height, width, channels}, DType::f32);
  parallel_for(x.dim(0) * height, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t column = 0; column < width; ++column) {
        const float* in = x.data<float>() + (row / 2 * (width / 2) + column / 2) * channels;
        std::copy_n(in, channels, result.mutable_data<float>() + (row * width + column) * channels);
      }
    }
  });
  return result;
}

Tensor ReferenceOperations::do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) {
  const float* bias = conv.bias ? f32_values(conv.bias).data() : nullptr;
  const Tensor result = convolved(upsampled(as_f32(x)), {}, tap_weight(conv.weight), bias, conv.weight.dim(0), 3, 3,
                                  {.activation = activation});
  return rounded(result, settings_.compute);
}

// As the network is written; what merges the steps is tested against this. Values between the steps are not rounded:
// back ends that merge have none.
Tensor ReferenceOperations::do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                                    std::int64_t frame, Activation activation) {
  const std::int64_t channels = x.dim(3);
  const float* bias = conv.bias ? f32_values(conv.bias).data() : nullptr;
  // Frame k takes output channels k C .. (k + 1) C - 1 of the 1x1 convolution.
  const std::vector<float> all = compute_values(grow);
  const auto begin = all.begin() + frame * channels * channels;
  const TapWeight part = by_taps(std::vector<float>(begin, begin + channels * channels), channels, channels);
  constexpr Conv2dOptions kUnpadded{.pad_top = 0, .pad_bottom = 0, .pad_left = 0, .pad_right = 0};
  const Tensor grown = convolved(upsampled(as_f32(x)), {}, part.values.data(), nullptr, channels, 1, 1, kUnpadded);
  const Tensor result =
      convolved(grown, {}, tap_weight(conv.weight), bias, conv.weight.dim(0), 3, 3, {.activation = activation});
  return rounded(result, settings_.compute);
}

Tensor ReferenceOperations::do_channels_to_frames(const Tensor& x) {
  const std::int64_t pixels = x.dim(1) * x.dim(2), channels = x.dim(3) / 2;
  const Tensor result = do_allocate({2 * x.dim(0), x.dim(1), x.dim(2), channels}, x.dtype());
  const std::size_t half = static_cast<std::size_t>(channels) * size_of(x.dtype());
  const auto* in = static_cast<const std::byte*>(x.raw());
  auto* out = static_cast<std::byte*>(result.mutable_raw());
  for (std::int64_t frame = 0; frame < result.dim(0); ++frame) {
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      const auto source = static_cast<std::size_t>((frame / 2 * pixels + pixel) * 2 + frame % 2);
      std::copy_n(in + source * half, half, out + static_cast<std::size_t>(frame * pixels + pixel) * half);
    }
  }
  return result;
}

}  // namespace flashvsr::ops
