// oneDNN: nearest upsampling, a 1x1 convolution and a 3x3 convolution merged into one step (ops/merged_upsampling.h).
// (The same as a 4x4 deconvolution of stride 2, which oneDNN runs at a tenth of the rate of convolutions.)
#include "core/threads.h"
#include "ops/cpu/onednn_engine.h"
#include "ops/cpu/onednn_gather.h"
#include "ops/cpu/onednn_operations.h"
#include "ops/merged_upsampling.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kPhases = kUpsamplingPhases;
// Bytes of source rows and result rows that a thread works on at a time: about a core's second-level cache.
constexpr std::int64_t kBandBytes = std::int64_t{3} << 18;
constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Of all frames and phases.
struct MergedUpsampling {
  std::vector<float> values;
};

}  // namespace

OneDnnOperations::WeightSource OneDnnOperations::merged_weights(const Parameter& conv, const Parameter& grow,
                                                                std::int64_t frames, std::int64_t part) {
  return [this, &conv, &grow, frames, part](const void* wanted) {
    const std::int64_t out = conv.dim(0), channels = conv.dim(1);
    const std::uint64_t grow_id = grow ? grow.id() : 0;
    return engine_->packed(
        {conv.id(), grow_id, static_cast<std::uint64_t>(part)}, *static_cast<const dnnl::memory::desc*>(wanted),
        {out, channels, 2, 2}, dnnl::memory::format_tag::oihw, [&](const onednn::Engine::Pack& pack) {
          const auto& merged = prepared().get<MergedUpsampling>({conv.id(), grow_id}, [&] {
            return MergedUpsampling{merged_upsampling(
                compute_values(conv), grow ? compute_values(grow) : std::vector<float>(), out, channels, frames)};
          });
          pack({DType::f32, merged.values.data() + part * out * channels * 4});
        });
  };
}

Tensor OneDnnOperations::upsample_merged(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                         std::int64_t frame, Activation activation) {
  const std::int64_t images = x.dim(0), height = x.dim(1), width = x.dim(2), in = x.dim(3), out = conv.weight.dim(0);
  const Tensor source = product_operand(x);
  const std::int64_t frames = grow ? grow.dim(0) / in : 1;
  const Tensor result = do_allocate({images, 2 * height, 2 * width, out}, written_type(compute_type()));
  const auto pixel_bytes = static_cast<std::int64_t>(size_of(product_type_));
  const std::int64_t row_bytes = width * (in + 2 * out) * pixel_bytes;
  const int threads = omp_get_max_threads();
  std::int64_t bands = std::max((height * row_bytes + kBandBytes - 1) / kBandBytes, (threads + images - 1) / images);
  const std::int64_t rows = (height + bands - 1) / bands;
  bands = (height + rows - 1) / rows;
  const std::int64_t items = images * bands;
  const auto workers = static_cast<int>(std::min<std::int64_t>(threads, items));

  // Two convolutions (result columns 0 and 1 modulo 2) of the source rows of a band for one row phase.
  struct Step {
    std::int64_t first_row, rows;  // of the source, relative to the band; of each half of the result
    std::array<std::shared_ptr<const onednn::Product>, 2> products;
  };
  const auto make_step = [&](std::int64_t band, std::int64_t row_phase) {
    const std::int64_t begin = band * rows, end = std::min(height, begin + rows);
    const std::int64_t first = begin - 1 + row_phase, last = end + row_phase;  // exclusive
    const std::int64_t clipped = std::max<std::int64_t>(first, 0);
    Step step{clipped - begin, end - begin, {}};
    for (std::int64_t column_phase = 0; column_phase < 2; ++column_phase) {
      step.products[static_cast<std::size_t>(column_phase)] =
          engine_->convolution({.type = product_type_,
                                .output = result.dtype(),
                                .height = std::min(last, height) - clipped,
                                .width = width,
                                .in = in,
                                .out = out,
                                .kernel = {1, 2, 2},
                                .pad_top = first < 0 ? 1 : 0,
                                .pad_bottom = last > height ? 1 : 0,
                                .pad_left = 1 - column_phase,
                                .pad_right = column_phase,
                                .epilogue = {.bias = static_cast<bool>(conv.bias), .activation = activation}},
                               workers == 1 ? 0 : 1);
    }
    return step;
  };
  // Zeros lie above the first band and below the last, which may have fewer rows; the others are alike.
  struct Plan {
    std::array<Step, 2> steps;         // by row phase
    std::vector<const void*> weights;  // by phase
  };
  std::size_t scratch_bytes = 0;
  const auto make_plan = [&](std::int64_t band) {
    Plan plan{{make_step(band, 0), make_step(band, 1)}, {}};
    for (std::int64_t phase = 0; phase < kPhases; ++phase) {
      const Step& step = plan.steps[static_cast<std::size_t>(phase / 2)];
      const onednn::Product& product = *step.products[static_cast<std::size_t>(phase % 2)];
      plan.weights.push_back(merged_weights(conv.weight, grow, frames, frame * kPhases + phase)(&product.weights));
      scratch_bytes = std::max(scratch_bytes, aligned(product.scratchpad_bytes()));
    }
    return plan;
  };
  const Plan first_plan = make_plan(0), last_plan = make_plan(bands - 1);
  const Plan inner_plan = make_plan(std::min<std::int64_t>(1, bands - 1));

  const std::size_t out_pixel = static_cast<std::size_t>(out) * size_of(result.dtype());
  const std::size_t out_row = static_cast<std::size_t>(width) * out_pixel;
  const std::size_t half_bytes = aligned(static_cast<std::size_t>(rows) * out_row);
  const Tensor buffers = do_allocate({workers, static_cast<std::int64_t>(2 * half_bytes + scratch_bytes)}, DType::u8);
  const float* bias = bias_values(conv.bias);
  std::atomic<std::int64_t> next{0};
  const auto run_item = [&](std::int64_t item, std::byte* buffer) {
    const std::int64_t image = item / bands, band = item % bands;
    const Plan& plan = band == 0 ? first_plan : band + 1 == bands ? last_plan : inner_plan;
    for (std::int64_t row_phase = 0; row_phase < 2; ++row_phase) {
      const Step& step = plan.steps[static_cast<std::size_t>(row_phase)];
      for (std::size_t column_phase = 0; column_phase < 2; ++column_phase) {
        const std::int64_t offset = (image * height + band * rows + step.first_row) * width * in * pixel_bytes;
        engine_->run(*step.products[column_phase],
                     {.source = static_cast<const std::byte*>(source.raw()) + offset,
                      .weights = plan.weights[static_cast<std::size_t>(2 * row_phase) + column_phase],
                      .bias = bias,
                      .result = buffer + column_phase * half_bytes,
                      .scratchpad = buffer + 2 * half_bytes});
      }
      auto* target = static_cast<std::byte*>(result.mutable_raw());
      for (std::int64_t row = 0; row < step.rows; ++row) {
        const auto result_row = static_cast<std::size_t>(2 * (image * height + band * rows + row) + row_phase);
        const std::byte* half = buffer + static_cast<std::size_t>(row) * out_row;
        onednn::interleave(half, out_pixel, half + half_bytes, out_pixel, width, target + result_row * 2 * out_row);
      }
    }
  };
  parallel_for(workers, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t worker = begin; worker < end; ++worker) {
      std::byte* buffer = static_cast<std::byte*>(buffers.mutable_raw()) + worker * buffers.dim(1);
      for (std::int64_t item = next.fetch_add(1); item < items; item = next.fetch_add(1)) run_item(item, buffer);
    }
  });
  return rounded(result, compute_type());
}

Tensor OneDnnOperations::do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) {
  return upsample_merged(x, {}, conv, 0, activation);
}

Tensor OneDnnOperations::do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                                 std::int64_t frame, Activation activation) {
  return upsample_merged(x, grow, conv, frame, activation);
}

}  // namespace flashvsr::ops
