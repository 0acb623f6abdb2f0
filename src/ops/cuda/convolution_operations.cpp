// Convolutions: which kernel does them, and the weights as kernels want them.
#include "core/threads.h"
#include "ops/cuda/convolution.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/convolution.h"
#include "ops/cuda/kernels/convolution_plain.h"
#include "ops/cuda/kernels/convolution_portable.h"
#include "ops/merged_upsampling.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace flashvsr::ops {
namespace {

using cuda::check;

int narrowed(std::int64_t value) { return static_cast<int>(value); }

// The values that products in `type` take.
std::vector<float> rounded_values(const Parameter& parameter, DType type) {
  std::vector<float> values = parameter.to_f32();
  if (type == DType::bf16 && parameter.dtype() != DType::bf16) {
    for (float& value : values) value = round_to_bf16(value);
  }
  return values;
}

// [rows, channels, taps] to [rows, taps, padded first + padded second].
std::vector<float> packed_by_taps(const std::vector<float>& values, std::int64_t rows, std::int64_t first,
                                  std::int64_t second, std::int64_t taps, int granule) {
  const std::int64_t padded_first = cuda::padded_channels(narrowed(first), granule);
  const std::int64_t padded = padded_first + cuda::padded_channels(narrowed(second), granule);
  std::vector<float> result(static_cast<std::size_t>(rows * taps * padded), 0.0f);
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* from = values.data() + row * (first + second) * taps;
      float* to = result.data() + row * taps * padded;
      for (std::int64_t channel = 0; channel < first + second; ++channel) {
        const std::int64_t place = channel < first ? channel : padded_first + channel - first;
        for (std::int64_t tap = 0; tap < taps; ++tap) to[tap * padded + place] = from[channel * taps + tap];
      }
    }
  });
  return result;
}

// All parts of one weight: [parts, out, taps, channels].
struct PackedConvolution {
  Tensor values;
};

}  // namespace

ConvolutionPath chosen_convolution_path(const cuda::Device& device) {
  const bool has_hopper = device.architecture() == 90;
  const char* variable = std::getenv("FLASHVSR_CUDA_CONVOLUTION");
  if (!variable || !*variable) return has_hopper ? ConvolutionPath::hopper : ConvolutionPath::portable;
  const std::string_view name = variable;
  if (name == "plain") return ConvolutionPath::plain;
  if (name == "portable") return ConvolutionPath::portable;
  if (name == "hopper" && has_hopper) return ConvolutionPath::hopper;
  fail(ErrorCode::invalid_argument,
       "FLASHVSR_CUDA_CONVOLUTION is \"{}\": it must be {}portable or plain on {} (compute capability {}.{})", name,
       has_hopper ? "hopper, " : "", device.properties().name, device.properties().major, device.properties().minor);
}

const void* CudaOperations::packed_weights(const ConvolutionWeights& weights, int granule) {
  const Parameter& weight = weights.weight;
  const std::int64_t out = weight.dim(0), channels = weight.dim(1), frames = weights.upsampled_frames;
  const std::int64_t parts = frames > 0 ? frames * kUpsamplingPhases : 1;
  const std::uint64_t grow_id = weights.grow ? weights.grow.id() : 0;
  const auto& packed = prepared_.get<PackedConvolution>(
      {weight.id(), grow_id, static_cast<std::uint64_t>(frames), static_cast<std::uint64_t>(weights.second_channels),
       static_cast<std::uint64_t>(granule)},
      [&] {
        std::vector<float> values = rounded_values(weight, settings_.compute);
        if (frames > 0) {
          values = merged_upsampling(
              values, weights.grow ? rounded_values(weights.grow, settings_.compute) : std::vector<float>(), out,
              channels, frames);
        }
        const std::int64_t taps = static_cast<std::int64_t>(values.size()) / (parts * out * channels);
        values = packed_by_taps(values, parts * out, channels - weights.second_channels, weights.second_channels, taps,
                                granule);
        const std::int64_t padded = static_cast<std::int64_t>(values.size()) / (parts * out * taps);
        return PackedConvolution{
            upload_weights(values.data(), {parts, out, taps, padded}, DType::f32, settings_.compute)};
      });
  return packed.values.sliced(weights.part, weights.part + 1).raw();
}

bool CudaOperations::convolve_fast(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights) {
  if (convolution_path_ == ConvolutionPath::hopper && convolve_hopper(arguments, weights)) return true;
  if (convolution_path_ != ConvolutionPath::plain && arguments.phases == 1 &&
      cuda::convolution_portable_supports(arguments)) {
    const void* packed = packed_weights(weights, cuda::kPortableConvolutionGranule);
    check(cuda::launch_convolution_portable(arguments, packed, stream()), "convolution");
    return true;
  }
  return false;
}

void CudaOperations::convolve(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights) {
  if (convolve_fast(arguments, weights)) return;
  if (arguments.phases > 1) {
    for (int phase = 0; phase < arguments.phases; ++phase) {
      const std::int64_t row = phase / 2, column = phase % 2;
      cuda::ConvolutionArguments one = arguments;
      one.phases = 1;
      one.pad_top -= static_cast<int>(row);
      one.pad_left -= static_cast<int>(column);
      one.out = static_cast<std::byte*>(arguments.out) +
                (row * arguments.phase_row_stride + column * arguments.phase_column_stride) *
                    static_cast<std::int64_t>(size_of(arguments.out_type));
      ConvolutionWeights part = weights;
      part.part += phase;
      convolve(one, part);
    }
    return;
  }
  const void* packed = packed_weights(weights, cuda::kPlainConvolutionGranule);
  check(cuda::launch_convolution_plain(arguments, packed, stream()), "convolution");
}

Tensor CudaOperations::do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) {
  const Parameter& weight = weights.weight;
  const std::int64_t kh = weight.dim(2), kw = weight.dim(3), out = weight.dim(0);
  const std::int64_t height = (x.dim(1) + options.pad_top + options.pad_bottom - kh) / options.stride + 1;
  const std::int64_t width = (x.dim(2) + options.pad_left + options.pad_right - kw) / options.stride + 1;
  const Tensor result = allocate({x.dim(0), height, width, out}, *options.output);
  const std::int64_t second_channels = options.second ? options.second->dim(3) : 0;
  cuda::ConvolutionArguments arguments{
      .type = x.dtype(),
      .first = x.raw(),
      .second = options.second ? options.second->raw() : nullptr,
      .first_channels = narrowed(x.dim(3)),
      .second_channels = narrowed(second_channels),
      .frames = narrowed(x.dim(0)),
      .height = narrowed(x.dim(1)),
      .width = narrowed(x.dim(2)),
      .kh = narrowed(kh),
      .kw = narrowed(kw),
      .stride = options.stride,
      .pad_top = options.pad_top,
      .pad_left = options.pad_left,
      .out = result.mutable_raw(),
      .out_type = result.dtype(),
      .out_frames = narrowed(x.dim(0)),
      .out_height = narrowed(height),
      .out_width = narrowed(width),
      .out_channels = narrowed(out),
      .out_frame_stride = height * width * out,
      .out_row_stride = width * out,
      .out_column_stride = out,
      .bias = weights.bias ? on_device(weights.bias, DType::f32).data<float>() : nullptr,
      .activation = static_cast<cuda::Activation>(options.activation)};
  if (options.residual) {
    arguments.residual = options.residual->raw();
    arguments.residual_type = options.residual->dtype();
  }
  convolve(arguments, {.weight = weight, .second_channels = second_channels});
  return result;
}

Tensor CudaOperations::do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                                 const Conv3dOptions& options) {
  const Parameter& weight = weights.weight;
  const std::int64_t kt = weight.dim(2), kh = weight.dim(3), kw = weight.dim(4), out = weight.dim(0);
  const std::int64_t front_frames = front ? front.dim(0) : 0, height = x.dim(1), width = x.dim(2);
  const std::int64_t frames = (front_frames + x.dim(0) - kt) / options.time_stride + 1;
  const Tensor result = allocate({frames, height, width, out}, *options.output);
  convolve({.type = x.dtype(),
            .first = x.raw(),
            .front = front ? front.raw() : nullptr,
            .first_channels = narrowed(x.dim(3)),
            .frames = narrowed(x.dim(0)),
            .front_frames = narrowed(front_frames),
            .height = narrowed(height),
            .width = narrowed(width),
            .kt = narrowed(kt),
            .kh = narrowed(kh),
            .kw = narrowed(kw),
            .time_stride = options.time_stride,
            .pad_top = narrowed(kh / 2),
            .pad_left = narrowed(kw / 2),
            .padding = static_cast<cuda::ConvolutionPadding>(options.padding),
            .out = result.mutable_raw(),
            .out_type = result.dtype(),
            .out_frames = narrowed(frames),
            .out_height = narrowed(height),
            .out_width = narrowed(width),
            .out_channels = narrowed(out),
            .out_frame_stride = height * width * out,
            .out_row_stride = width * out,
            .out_column_stride = out,
            .bias = weights.bias ? on_device(weights.bias, DType::f32).data<float>() : nullptr},
           {.weight = weight});
  return result;
}

}  // namespace flashvsr::ops
