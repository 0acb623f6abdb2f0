// Convolutions on Hopper: whether the kernel can do one, and its weights.
#include "core/convert.h"
#include "core/threads.h"
#include "ops/cuda/convolution.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/convolution_hopper.h"
#include "ops/cuda/kernels/convolution_narrow_hopper.h"
#include "ops/cuda/kernels/pad_border.h"
#include "ops/merged_upsampling.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

using cuda::check;

// How many values are converted and uploaded at a time: weights may be large.
constexpr std::int64_t kSlab = std::int64_t{1} << 24;

struct HopperWeights {
  Tensor values;  // [parts, rows, columns] bf16
};
struct NarrowWeights {
  Tensor values;  // [32, channels in multiples of 64] bf16
};

// The values that products in bf16 take.
std::vector<float> rounded_values(const Parameter& parameter) {
  std::vector<float> values = parameter ? parameter.to_f32() : std::vector<float>();
  for (float& value : values) value = round_to_bf16(value);
  return values;
}

// Row `from` [channels, kt, taps] into `to` [kt, chunks, taps, 64].
void pack_row(const float* from, std::int64_t first_channels, std::int64_t channels,
              const cuda::HopperWeightLayout& layout, BFloat16* to) {
  const std::int64_t taps = layout.taps;
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    const bool of_first = channel < first_channels;
    const std::int64_t inside = of_first ? channel : channel - first_channels;
    const std::int64_t chunk = inside / 64 + (of_first ? 0 : layout.second_chunk);
    for (std::int64_t t = 0; t < layout.kt; ++t) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        to[((t * layout.chunks + chunk) * taps + tap) * 64 + inside % 64] =
            BFloat16(from[(channel * layout.kt + t) * taps + tap]);
      }
    }
  }
}

// `sources`, `front` and padding as the kernel wants them: joined frames, with a border where edges are repeated.
Tensor joined(const cuda::ConvolutionArguments& arguments, const cuda::Device& device) {
  const bool edge = arguments.padding == cuda::ConvolutionPadding::edge;
  const int border_y = edge ? arguments.kh / 2 : 0, border_x = edge ? arguments.kw / 2 : 0;
  const Tensor result = device.allocate({arguments.front_frames + arguments.frames, arguments.height + 2 * border_y,
                                         arguments.width + 2 * border_x, arguments.first_channels},
                                        DType::bf16);
  check(cuda::launch_pad_border({.front = arguments.front,
                                 .frames = arguments.first,
                                 .front_frames = arguments.front_frames,
                                 .frame_count = arguments.frames,
                                 .height = arguments.height,
                                 .width = arguments.width,
                                 .bytes = arguments.first_channels * 2,
                                 .border_y = border_y,
                                 .border_x = border_x,
                                 .edge = edge,
                                 .out = result.mutable_raw()},
                                device.stream()),
        "joining frames");
  return result;
}

}  // namespace

const void* CudaOperations::hopper_weights(const ConvolutionWeights& weights, const cuda::HopperWeightLayout& layout) {
  const Parameter& weight = weights.weight;
  const std::int64_t out = weight.dim(0), channels = weight.dim(1), frames = weights.upsampled_frames;
  const std::int64_t parts = frames > 0 ? frames * kUpsamplingPhases : 1;
  const std::uint64_t grow_id = weights.grow ? weights.grow.id() : 0;
  const auto& packed = prepared_.get<HopperWeights>(
      {weight.id(), grow_id, static_cast<std::uint64_t>(frames), static_cast<std::uint64_t>(weights.second_channels)},
      [&] {
        std::vector<float> merged;
        if (frames > 0) {
          merged = merged_upsampling(rounded_values(weight), rounded_values(weights.grow), out, channels, frames);
        }
        const std::int64_t row_values = channels * layout.kt * layout.taps, columns = layout.columns();
        const Tensor values = device_.allocate_weights({parts, layout.rows, columns}, DType::bf16);
        check(cudaMemsetAsync(values.mutable_raw(), 0, values.bytes(), stream()), "weights");
        const std::int64_t most = std::clamp<std::int64_t>(kSlab / columns, 1, out);
        std::vector<float> slab;
        std::vector<BFloat16> rows;
        for (std::int64_t part = 0; part < parts; ++part) {
          for (std::int64_t first = 0; first < out; first += most) {
            const std::int64_t count = std::min(most, out - first);
            const float* from = merged.data() + (part * out + first) * row_values;
            if (frames == 0) {
              slab.resize(static_cast<std::size_t>(count * row_values));
              const auto offset = static_cast<std::size_t>(first * row_values) * size_of(weight.dtype());
              convert_to_f32(static_cast<const std::byte*>(weight.values().raw()) + offset, weight.dtype(), slab);
              from = slab.data();
            }
            rows.assign(static_cast<std::size_t>(count * columns), BFloat16());
            parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t row = begin; row < end; ++row) {
                pack_row(from + row * row_values, channels - weights.second_channels, channels, layout,
                         rows.data() + row * columns);
              }
            });
            device_.upload(values.mutable_data<BFloat16>() + (part * layout.rows + first) * columns, rows.data(),
                           rows.size() * sizeof(BFloat16));
          }
        }
        return HopperWeights{values};
      });
  return packed.values.sliced(weights.part, weights.part + 1).raw();
}

const void* CudaOperations::narrow_weights(const Parameter& weight) {
  return prepared_
      .get<NarrowWeights>(
          {weight.id()},
          [&] {
            const std::vector<float> values = weight.to_f32();
            const std::int64_t out = weight.dim(0), channels = weight.dim(1);
            const std::int64_t taps = weight.dim(2) * weight.dim(3), columns = (channels + 63) / 64 * 64;
            std::vector<BFloat16> rows(static_cast<std::size_t>(cuda::kNarrowConvolutionRows * columns));
            for (std::int64_t i = 0; i < out * channels * taps; ++i) {
              const std::int64_t tap = i % taps, channel = i / taps % channels, o = i / taps / channels;
              rows[static_cast<std::size_t>((tap * out + o) * columns + channel)] =
                  BFloat16(values[static_cast<std::size_t>(i)]);
            }
            return NarrowWeights{
                upload_weights(rows.data(), {cuda::kNarrowConvolutionRows, columns}, DType::bf16, DType::bf16)};
          })
      .values.raw();
}

bool CudaOperations::convolve_hopper(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights) {
  if (device_.architecture() != 90) return false;
  if (arguments.phases == 1 && weights.upsampled_frames == 0 && cuda::convolution_narrow_hopper_supports(arguments)) {
    const auto* packed = static_cast<const __nv_bfloat16*>(narrow_weights(weights.weight));
    check(cuda::launch_convolution_narrow_hopper(arguments, packed, device_.multiprocessors(), stream()),
          "convolution");
    return true;
  }
  cuda::ConvolutionArguments plain = arguments;
  Tensor frames;
  const bool edge = arguments.padding == cuda::ConvolutionPadding::edge && (arguments.kh > 1 || arguments.kw > 1);
  if (arguments.type == DType::bf16 && arguments.first_channels % 8 == 0 && arguments.second == nullptr &&
      (edge || arguments.front_frames > 0)) {
    plain.front = nullptr;
    plain.padding = cuda::ConvolutionPadding::zeros;
    if (!cuda::convolution_hopper_supports(plain)) return false;
    frames = joined(arguments, device_);
    plain.first = frames.raw();
    plain.frames = static_cast<int>(frames.dim(0));
    plain.front_frames = 0;
    plain.height = static_cast<int>(frames.dim(1));
    plain.width = static_cast<int>(frames.dim(2));
    plain.pad_top -= (plain.height - arguments.height) / 2;
    plain.pad_left -= (plain.width - arguments.width) / 2;
  }
  if (!cuda::convolution_hopper_supports(plain)) return false;
  const auto* packed = static_cast<const __nv_bfloat16*>(hopper_weights(weights, cuda::hopper_weight_layout(plain)));
  check(cuda::launch_convolution_hopper(plain, packed, device_.multiprocessors(), stream()), "convolution");
  return true;
}

}  // namespace flashvsr::ops
