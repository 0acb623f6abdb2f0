// oneDNN: convolutions.
//
// A convolution of one contiguous input runs on it as it lies. Where the input has to be put together first (two
// sources, frames of two tensors, replicated edges), that is done for bands of rows in buffers that stay in a core's
// cache: every thread gathers a band and convolves it at once, which costs no memory traffic for the copy.
#include "core/threads.h"
#include "ops/cpu/onednn_engine.h"
#include "ops/cpu/onednn_gather.h"
#include "ops/cpu/onednn_operations.h"

#include <omp.h>

#include <algorithm>
#include <atomic>

namespace flashvsr::ops {
namespace {

using onednn::ConvolutionShape;
using onednn::GatheredFrame;

// Bytes of a gathered band: about a core's second-level cache.
constexpr std::int64_t kBandBytes = std::int64_t{1} << 20;
constexpr std::int64_t kLeastBandRows = 4;
constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Rows of the result per band, so that the bands of all frames keep all threads busy.
std::int64_t band_rows(std::int64_t frames, std::int64_t height, std::int64_t input_row_bytes, std::int64_t overlap,
                       int threads) {
  const std::int64_t fitting =
      std::max(kBandBytes / std::max<std::int64_t>(input_row_bytes, 1) - overlap, kLeastBandRows);
  const std::int64_t bands = std::max(ceil_div(height, fitting), ceil_div(threads, frames));
  return ceil_div(height, bands);
}

const std::byte* bytes_of(const Tensor& x, std::int64_t offset) {
  return static_cast<const std::byte*>(x.raw()) + offset * static_cast<std::int64_t>(size_of(x.dtype()));
}

std::byte* mutable_bytes_of(const Tensor& x, std::int64_t offset) {
  return static_cast<std::byte*>(x.mutable_raw()) + offset * static_cast<std::int64_t>(size_of(x.dtype()));
}

}  // namespace

OneDnnOperations::WeightSource OneDnnOperations::convolution_weights(const Parameter& weight) {
  return [this, &weight](const void* wanted) {
    const bool has_time = weight.shape().rank() == 5;
    const auto& desc = *static_cast<const dnnl::memory::desc*>(wanted);
    dnnl::memory::dims dims(weight.shape().dims().begin(), weight.shape().dims().end());
    // A kernel of one frame convolves frames, not time.
    const bool drops_time = has_time && desc.dims().size() == 4;
    if (drops_time) dims.erase(dims.begin() + 2);
    const auto layout = dims.size() == 5 ? dnnl::memory::format_tag::oidhw : dnnl::memory::format_tag::oihw;
    return engine_->packed({weight.id()}, desc, dims, layout, [&](const onednn::Engine::Pack& pack) {
      if (multiplies_as_stored(weight)) return pack({product_type_, weight.values().raw()});
      const std::vector<float> values = compute_values(weight);
      pack({DType::f32, values.data()});
    });
  };
}

void OneDnnOperations::convolve(const ConvolutionShape& shape, const WeightSource& weights, const float* bias,
                                const Tensor& x, const Tensor& residual, const Tensor& result) {
  const auto product = engine_->convolution(shape, 0);
  const Tensor scratchpad = do_allocate({static_cast<std::int64_t>(product->scratchpad_bytes())}, DType::u8);
  engine_->run(*product, {.source = x.raw(),
                          .weights = weights(&product->weights),
                          .bias = bias,
                          .result = result.mutable_raw(),
                          .residual = residual ? residual.raw() : nullptr,
                          .scratchpad = scratchpad.mutable_raw()});
}

void OneDnnOperations::convolve_gathered(const ConvolutionShape& shape, const WeightSource& weights, const float* bias,
                                         std::span<const GatheredFrame> frames, std::int64_t pad_top,
                                         const Tensor& residual, const Tensor& result) {
  const std::int64_t height = result.dim(1), stride = shape.stride[1], kernel = shape.kernel[1];
  const auto frame_count = static_cast<std::int64_t>(frames.size());
  const std::int64_t frame_elements = height * result.dim(2) * result.dim(3), row_elements = frame_elements / height;
  const int threads = omp_get_max_threads();
  const auto input_row_bytes = shape.frames * static_cast<std::int64_t>(frames[0].row_bytes());
  const std::int64_t rows = band_rows(frame_count, height, stride * input_row_bytes, kernel - 1, threads);
  const std::int64_t bands = ceil_div(height, rows), items = frame_count * bands;
  const auto workers = static_cast<int>(std::min<std::int64_t>(threads, items));

  // All bands but the last of a frame have `rows` rows. A single band is convolved by all threads together.
  struct Band {
    std::int64_t rows, input_rows;
    std::shared_ptr<const onednn::Product> product;
    const void* weights;
  };
  const auto make_band = [&](std::int64_t band) {
    const std::int64_t band_height = std::min(rows, height - band * rows);
    ConvolutionShape band_shape = shape;
    band_shape.height = (band_height - 1) * stride + kernel;
    auto product = engine_->convolution(band_shape, workers == 1 ? 0 : 1);
    const void* packed = weights(&product->weights);
    return Band{band_height, band_shape.height, std::move(product), packed};
  };
  const Band first = make_band(0), last = make_band(bands - 1);

  const std::size_t buffer_bytes = aligned(static_cast<std::size_t>(first.input_rows * input_row_bytes));
  const std::size_t scratch_bytes =
      aligned(std::max(first.product->scratchpad_bytes(), last.product->scratchpad_bytes()));
  const Tensor buffers = do_allocate({workers, static_cast<std::int64_t>(buffer_bytes + scratch_bytes)}, DType::u8);
  std::atomic<std::int64_t> next{0};
  parallel_for(workers, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t worker = begin; worker < end; ++worker) {
      std::byte* buffer = mutable_bytes_of(buffers, worker * buffers.dim(1));
      for (std::int64_t item = next.fetch_add(1); item < items; item = next.fetch_add(1)) {
        const std::int64_t frame = item / bands, band = item % bands;
        const Band& plan = band + 1 == bands ? last : first;
        onednn::gather(frames[static_cast<std::size_t>(frame)], band * rows * stride - pad_top, plan.input_rows,
                       buffer);
        const std::int64_t offset = frame * frame_elements + band * rows * row_elements;
        engine_->run(*plan.product, {.source = buffer,
                                     .weights = plan.weights,
                                     .bias = bias,
                                     .result = mutable_bytes_of(result, offset),
                                     .residual = residual ? bytes_of(residual, offset) : nullptr,
                                     .scratchpad = buffer + buffer_bytes});
      }
    }
  });
}

Tensor OneDnnOperations::do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) {
  const Parameter& weight = weights.weight;
  const std::int64_t out = weight.dim(0), kh = weight.dim(2), kw = weight.dim(3);
  const bool unpadded = options.pad_top + options.pad_bottom + options.pad_left + options.pad_right == 0;
  Tensor residual = options.residual ? *options.residual : Tensor();
  if (kh == 1 && kw == 1 && options.stride == 1 && unpadded && !options.second) {
    return pointwise(x, weights, residual, options.activation, *options.output);
  }
  if (residual && product_type_ == DType::f32) residual = as_f32(residual);
  ConvolutionShape shape{
      .type = product_type_,
      .output = written_type(*options.output),
      .batch = x.dim(0),
      .height = x.dim(1),
      .width = x.dim(2),
      .in = weight.dim(1),
      .out = out,
      .kernel = {1, kh, kw},
      .stride = {1, options.stride, options.stride},
      .pad_top = options.pad_top,
      .pad_bottom = options.pad_bottom,
      .pad_left = options.pad_left,
      .pad_right = options.pad_right,
      .epilogue = {.bias = static_cast<bool>(weights.bias), .activation = options.activation, .residual_first = true}};
  if (residual) shape.epilogue.residual = residual.dtype();
  const std::int64_t height = (x.dim(1) + options.pad_top + options.pad_bottom - kh) / options.stride + 1;
  const std::int64_t width = (x.dim(2) + options.pad_left + options.pad_right - kw) / options.stride + 1;
  const Tensor source = product_operand(x), result = do_allocate({x.dim(0), height, width, out}, shape.output);
  const float* bias = bias_values(weights.bias);
  if (!options.second) {
    convolve(shape, convolution_weights(weight), bias, source, residual, result);
    return rounded(result, *options.output);
  }
  const Tensor second = product_operand(*options.second);
  std::vector<GatheredFrame> frames;
  for (std::int64_t i = 0; i < x.dim(0); ++i) {
    frames.push_back({.first = {bytes_of(source, i * source.elements() / x.dim(0))},
                      .second = {bytes_of(second, i * second.elements() / x.dim(0))},
                      .height = x.dim(1),
                      .width = x.dim(2),
                      .first_bytes = static_cast<std::size_t>(x.dim(3)) * size_of(product_type_),
                      .second_bytes = static_cast<std::size_t>(second.dim(3)) * size_of(product_type_)});
  }
  shape.batch = 1;
  shape.pad_top = shape.pad_bottom = 0;
  convolve_gathered(shape, convolution_weights(weight), bias, frames, options.pad_top, residual, result);
  return rounded(result, *options.output);
}

Tensor OneDnnOperations::do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                                   const Conv3dOptions& options) {
  const Parameter& weight = weights.weight;
  const std::int64_t out = weight.dim(0), kt = weight.dim(2), kh = weight.dim(3), kw = weight.dim(4);
  const std::int64_t front_frames = front ? front.dim(0) : 0, in_frames = front_frames + x.dim(0);
  if (kt == 1 && kh == 1 && kw == 1 && options.time_stride == 1 && front_frames == 0) {
    return pointwise(x, weights, {}, Activation::none, *options.output);
  }
  const bool edge = options.padding == Padding::edge;
  const std::int64_t columns = edge ? kw / 2 : 0;
  ConvolutionShape shape{.type = product_type_,
                         .output = written_type(*options.output),
                         .frames = kt,
                         .width = x.dim(2) + 2 * columns,
                         .in = weight.dim(1),
                         .out = out,
                         .kernel = {kt, kh, kw},
                         .pad_left = kw / 2 - columns,
                         .pad_right = kw / 2 - columns,
                         .epilogue = {.bias = static_cast<bool>(weights.bias)}};
  const std::int64_t frames = (in_frames - kt) / options.time_stride + 1;
  const Tensor before = front ? product_operand(front) : Tensor(), source = product_operand(x);
  const Tensor result = do_allocate({frames, x.dim(1), x.dim(2), out}, shape.output);
  const std::int64_t frame_elements = x.dim(1) * x.dim(2) * x.dim(3);
  std::vector<GatheredFrame> gathered;
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    GatheredFrame& taken = gathered.emplace_back();
    for (std::int64_t t = frame * options.time_stride; t < frame * options.time_stride + kt; ++t) {
      taken.first.push_back(t < front_frames ? bytes_of(before, t * frame_elements)
                                             : bytes_of(source, (t - front_frames) * frame_elements));
    }
    taken.height = x.dim(1);
    taken.width = x.dim(2);
    taken.first_bytes = static_cast<std::size_t>(x.dim(3)) * size_of(product_type_);
    taken.padding = options.padding;
    taken.columns = columns;
  }
  convolve_gathered(shape, convolution_weights(weight), bias_values(weights.bias), gathered, kh / 2, {}, result);
  return rounded(result, *options.output);
}

}  // namespace flashvsr::ops
