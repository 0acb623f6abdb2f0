#include "ops/planning_operations.h"

#include "ops/merged_upsampling.h"

#include <algorithm>
#include <mutex>

namespace flashvsr::ops {
namespace {

constexpr std::size_t kAlignment = 1024;
// Of matrix products and of attention.
constexpr std::size_t kWorkSpace = std::size_t{84} << 20;
// Channels of each source and outputs of a convolution come in multiples of these.
constexpr std::int64_t kChannelGranule = 64, kOutputGranule = 128, kNarrowOutputs = 16;
// Parts of a block whose sums of q and k are added afterwards.
constexpr std::int64_t kBlockParts = 8;

std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::uint64_t address(const Tensor* x) { return reinterpret_cast<std::uintptr_t>(x ? x->raw() : nullptr); }

}  // namespace

// Addresses in the way of a device's pool, without memory.
class PlanningOperations::Pool : public std::enable_shared_from_this<Pool> {
 public:
  std::shared_ptr<Storage> allocate(std::size_t bytes) {
    const std::size_t taken = std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
    const std::scoped_lock lock(mutex_);
    const std::size_t offset = ranges_.take(taken, [](std::size_t) {});
    in_use_ += taken;
    peak_ = std::max(peak_, in_use_);
    return std::make_shared<Place>(shared_from_this(), offset, bytes, taken);
  }
  std::size_t in_use() const {
    const std::scoped_lock lock(mutex_);
    return in_use_;
  }
  std::size_t peak() const {
    const std::scoped_lock lock(mutex_);
    return peak_;
  }
  std::size_t held() const {
    const std::scoped_lock lock(mutex_);
    return ranges_.end();
  }

 private:
  class Place final : public Storage {
   public:
    Place(std::shared_ptr<Pool> pool, std::size_t offset, std::size_t bytes, std::size_t taken)
        : Storage(reinterpret_cast<void*>(kAlignment + offset), bytes),
          pool_(std::move(pool)),
          offset_(offset),
          taken_(taken) {}
    ~Place() override { pool_->give_back(offset_, taken_); }

   private:
    std::shared_ptr<Pool> pool_;
    std::size_t offset_, taken_;
  };

  void give_back(std::size_t offset, std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    ranges_.give_back(offset, bytes);
    in_use_ -= bytes;
  }

  mutable std::mutex mutex_;
  RangeAllocator ranges_;
  std::size_t in_use_ = 0, peak_ = 0;
};

PlanningOperations::PlanningOperations(const PlanningSettings& settings)
    : settings_(settings), pool_(std::make_shared<Pool>()), weights_(settings.own_memory ? kWorkSpace : 0) {}

std::size_t PlanningOperations::held() const { return pool_->held(); }
std::size_t PlanningOperations::memory_in_use() const { return pool_->in_use(); }
std::size_t PlanningOperations::peak_memory() const { return pool_->peak(); }

// ------------------------------------------------------------------------------------------------------- weights

void PlanningOperations::keep(std::vector<std::uint64_t> key, std::int64_t elements, DType type) {
  if (!settings_.own_memory) return;
  key.push_back(static_cast<std::uint64_t>(type));
  const std::size_t bytes = static_cast<std::size_t>(elements) * size_of(type);
  const std::size_t taken = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (kept_.emplace(std::move(key), taken).second) weights_ += taken;
}

void PlanningOperations::keep_vector(const Parameter& parameter, DType type) {
  if (parameter) keep({parameter.id()}, parameter.shape().elements(), type);
}

void PlanningOperations::keep_linear(std::span<const LinearWeights> weights, const Tensor* gate, DType bias_type) {
  std::vector<std::uint64_t> key, bias_key;
  std::int64_t elements = 0, out = 0;
  for (const LinearWeights& part : weights) {
    key.push_back(part.weight.id());
    if (part.bias) bias_key.push_back(part.bias.id());
    elements += part.weight.shape().elements();
    out += part.weight.dim(0);
  }
  if (gate) key.push_back(address(gate)), bias_key.push_back(address(gate));
  keep(std::move(key), elements, settings_.compute);
  if (weights[0].bias) keep(std::move(bias_key), out, bias_type);
  // Stacked and folded on the device from what is uploaded as it is.
  if (settings_.own_memory && (gate || weights.size() > 1)) do_allocate(weights[0].weight.shape(), settings_.compute);
}

void PlanningOperations::keep_convolution(const Parameter& weight, std::int64_t first, std::int64_t second,
                                          std::int64_t parts, std::int64_t taps) {
  const std::int64_t channels = rounded_up(first, kChannelGranule) + rounded_up(second, kChannelGranule);
  const std::int64_t out = weight.dim(0);
  const std::int64_t rows = out <= kNarrowOutputs ? kNarrowOutputs : rounded_up(out, kOutputGranule);
  const bool packed = settings_.compute == DType::bf16;
  keep({weight.id(), static_cast<std::uint64_t>(second)},
       packed ? parts * rows * taps * channels : parts * out * taps * (first + second), settings_.compute);
}

// -------------------------------------------------------------------------------------------------------- memory

Tensor PlanningOperations::do_allocate(const Shape& shape, DType type) {
  Tensor result(shape, type, pool_->allocate(static_cast<std::size_t>(shape.elements()) * size_of(type)));
  std::size_t& peak = peaks_[profile().part];
  peak = std::max(peak, pool_->in_use());
  return result;
}

Tensor PlanningOperations::do_from_host(const Tensor& host, DType type) { return do_allocate(host.shape(), type); }
// Finished frames lie in the same memory if it is the host's.
Tensor PlanningOperations::do_to_host(const Tensor& x) { return settings_.own_memory ? x : like(x); }
Tensor PlanningOperations::do_zeros(const Shape& shape, DType type) { return do_allocate(shape, type); }
Tensor PlanningOperations::do_cast(const Tensor& x, DType type) { return do_allocate(x.shape(), type); }

Tensor PlanningOperations::do_concatenate(std::span<const Tensor> parts) {
  std::vector<std::int64_t> dims(parts[0].shape().dims().begin(), parts[0].shape().dims().end());
  dims[0] = 0;
  for (const Tensor& part : parts) dims[0] += part.dim(0);
  return do_allocate(Shape(std::span<const std::int64_t>(dims)), parts[0].dtype());
}

void PlanningOperations::do_store(const Tensor&, std::int64_t, const Tensor&) {}

// Given back with the stream alone.
Tensor PlanningOperations::host_memory(const Shape& shape, DType type) {
  class HostPlace final : public Storage {
   public:
    explicit HostPlace(std::size_t bytes) : Storage(reinterpret_cast<void*>(kAlignment), bytes) {}
  };
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  host_bytes_ += bytes;
  return Tensor(shape, type, std::make_shared<HostPlace>(bytes));
}
std::shared_ptr<Copies> PlanningOperations::do_start_copies(CopyDirection, std::span<const CopyPair>,
                                                            std::span<const std::shared_ptr<Copies>>, CopyMarks*) {
  return std::make_shared<Copies>();
}
void PlanningOperations::do_finish_copies(const Copies&) {}

// -------------------------------------------------------------------------------------------------- element-wise

Tensor PlanningOperations::do_add(const Tensor& a, const Tensor&, float) { return like(a); }
Tensor PlanningOperations::do_affine(const Tensor& x, float, float, DType type) { return do_allocate(x.shape(), type); }
Tensor PlanningOperations::do_channel_affine(const Tensor& x, const Tensor&, const Tensor&) { return like(x); }
Tensor PlanningOperations::do_activation(const Tensor& x, Activation kind) {
  return kind == Activation::none ? x : like(x);
}
Tensor PlanningOperations::do_soft_clamp(const Tensor& x, float) { return like(x); }
Tensor PlanningOperations::do_clamp(const Tensor& x, float, float) { return like(x); }

// -------------------------------------------------------------------------------------------------------- frames

Tensor PlanningOperations::do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) {
  // Between the horizontal and the vertical pass.
  const Tensor across = do_allocate({frames.dim(0), frames.dim(1), width, frames.dim(3)}, frames.dtype());
  return do_allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
}
Tensor PlanningOperations::do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) {
  return do_allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
}
Tensor PlanningOperations::do_crop(const Tensor& frames, std::int64_t, std::int64_t, std::int64_t height,
                                   std::int64_t width) {
  return do_allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
}
Tensor PlanningOperations::do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal, float) {
  return do_allocate({frames.dim(0) / temporal, frames.dim(1) / spatial, frames.dim(2) / spatial,
                      frames.dim(3) * temporal * spatial * spatial},
                     settings_.compute);
}
Tensor PlanningOperations::do_to_bytes(const Tensor& video) { return do_allocate(video.shape(), DType::u8); }
Tensor PlanningOperations::do_to_video(const Tensor& frames) { return do_allocate(frames.shape(), DType::f32); }
Tensor PlanningOperations::do_read_image(const SemiPlanarImage& image) {
  return do_allocate({1, image.height, image.width, 3}, DType::u8);
}
void PlanningOperations::do_write_image(const SemiPlanarImage&, const Tensor&) {}
Tensor PlanningOperations::do_adain(const Tensor& video, const Tensor&) { return like(video); }
Tensor PlanningOperations::do_wavelet(const Tensor& video, const Tensor&) {
  const Tensor result = like(video), across = like(video);
  return result;
}

// ------------------------------------------------------------------------------------------ projector, Wan VAE

Tensor PlanningOperations::do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                                     const Conv3dOptions& options) {
  const Parameter& weight = weights.weight;
  const std::int64_t kt = weight.dim(2), kh = weight.dim(3), kw = weight.dim(4),
                     front_frames = front ? front.dim(0) : 0;
  const std::int64_t frames = front_frames + x.dim(0);
  keep_convolution(weight, x.dim(3), 0, 1, kt * kh * kw);
  keep_vector(weights.bias, DType::f32);
  const Tensor result =
      do_allocate({(frames - kt) / options.time_stride + 1, x.dim(1), x.dim(2), weight.dim(0)}, *options.output);
  // Joined, with the border that repeated edges need.
  const bool edge = options.padding == Padding::edge;
  const std::int64_t rows = x.dim(1) + (edge ? kh - 1 : 0), columns = x.dim(2) + (edge ? kw - 1 : 0);
  if (edge || front_frames > 0) do_allocate({frames, rows, columns, x.dim(3)}, x.dtype());
  return result;
}
Tensor PlanningOperations::do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation) {
  keep_vector(gamma, DType::f32);
  return do_allocate(x.shape(), settings_.compute);
}
Tensor PlanningOperations::do_channels_to_frames(const Tensor& x) {
  return do_allocate({2 * x.dim(0), x.dim(1), x.dim(2), x.dim(3) / 2}, x.dtype());
}

// ----------------------------------------------------------------------------------------------------------- DiT

Tensor PlanningOperations::do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) {
  const Shape shape{x.dim(0), weights.weight.dim(0)};
  const Tensor result = do_allocate(shape, *options.output);
  Tensor passing;
  if (options.once) {
    passing = do_allocate(weights.weight.shape(), settings_.compute);
  } else {
    keep_linear({&weights, 1}, options.gate, *options.output);
  }
  // What products cannot add goes through sums in f32.
  const bool other_residual = options.residual && options.residual->dtype() != *options.output;
  if (other_residual && *options.output != DType::f32) do_allocate(shape, DType::f32);
  return result;
}

Tensor PlanningOperations::do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) {
  std::int64_t out = 0;
  for (const LinearWeights& part : weights) out += part.weight.dim(0);
  keep_linear(weights, nullptr, settings_.compute);
  return do_allocate({x.dim(0), out}, settings_.compute);
}

Tensor PlanningOperations::do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) {
  keep_vector(weight, DType::f32);
  keep_vector(bias, DType::f32);
  return do_allocate(x.shape(), settings_.compute);
}
Tensor PlanningOperations::do_layer_norm_modulated(const Tensor& x, const Tensor&, const Tensor&) {
  return do_allocate(x.shape(), settings_.compute);
}
Tensor PlanningOperations::do_rms_norm(const Tensor& x, const Parameter& weight) {
  keep_vector(weight, DType::f32);
  return do_allocate(x.shape(), settings_.compute);
}

Tensor PlanningOperations::do_to_windows(const Tensor& x) {
  return do_allocate({x.dim(0) * x.dim(1) * x.dim(2), x.dim(3)}, x.dtype());
}
Tensor PlanningOperations::do_patchify(const Tensor& latents) {
  return do_allocate({latents.dim(0) * (latents.dim(1) / 2) * (latents.dim(2) / 2), 4 * latents.dim(3)},
                     settings_.compute);
}
Tensor PlanningOperations::do_unpatchify(const Tensor& tokens, const TokenGrid& grid) {
  return do_allocate({grid.latents, 2 * grid.rows, 2 * grid.columns, tokens.dim(1) / 4}, tokens.dtype());
}

QueryKeyValue PlanningOperations::do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                               const TokenGrid& grid) {
  keep_vector(norm_q, DType::f32);
  keep_vector(norm_k, DType::f32);
  const Shape tokens{grid.tokens(), qkv.dim(1) / 3}, blocks{grid.blocks(), qkv.dim(1) / 3};
  return {do_allocate(tokens, qkv.dtype()), do_allocate(tokens, qkv.dtype()), do_allocate(tokens, qkv.dtype()),
          do_allocate(blocks, DType::f32), do_allocate(blocks, DType::f32)};
}

Query PlanningOperations::do_append_qkv(KvCache&, std::size_t, const Tensor& qkv, const Parameter& norm_q,
                                        const Parameter& norm_k, const TokenGrid& grid) {
  keep_vector(norm_q, DType::f32);
  keep_vector(norm_k, DType::f32);
  const std::int64_t dim = qkv.dim(1) / 3;
  const Query query{do_allocate({grid.tokens(), dim}, qkv.dtype()), do_allocate({grid.blocks(), dim}, DType::f32)};
  do_allocate({2, grid.blocks(), kBlockParts, dim}, DType::f32);
  return query;
}

Tensor PlanningOperations::do_block_scores(const Tensor&, const KeyValueView& keys, const TokenGrid& grid,
                                           const Locality&) {
  return do_allocate({grid.heads, grid.blocks(), keys.key_blocks()}, DType::f32);
}

BlockMask PlanningOperations::do_select_blocks(const Tensor& scores, std::int64_t, const Selection&) {
  const std::int64_t rows = scores.dim(0) * scores.dim(1);
  const Tensor counts = do_allocate({rows}, DType::i32), work = do_allocate(scores.shape(), DType::f32);
  return {do_allocate(scores.shape(), DType::u8), do_allocate({rows + 1}, DType::i32),
          do_allocate({scores.elements()}, DType::i32)};
}

BlockMask PlanningOperations::do_block_mask(const Tensor& host_mask) {
  const std::int64_t rows = host_mask.dim(0) * host_mask.dim(1);
  return {do_allocate(host_mask.shape(), DType::u8), do_allocate({rows + 1}, DType::i32),
          do_allocate({host_mask.elements()}, DType::i32)};
}

Tensor PlanningOperations::do_sparse_attention(const Tensor& q, const KeyValueView&, const BlockMask&, std::int64_t) {
  return like(q);
}
Tensor PlanningOperations::do_attention(const Tensor& q, const Tensor&, const Tensor&, std::int64_t) { return like(q); }

// ------------------------------------------------------------------------------ tiny conditional decoder, Wan VAE

Tensor PlanningOperations::do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) {
  const std::int64_t kh = weights.weight.dim(2), kw = weights.weight.dim(3);
  keep_convolution(weights.weight, x.dim(3), options.second ? options.second->dim(3) : 0, 1, kh * kw);
  keep_vector(weights.bias, DType::f32);
  return do_allocate(
      {x.dim(0), (x.dim(1) + options.pad_top + options.pad_bottom - kh) / options.stride + 1,
       (x.dim(2) + options.pad_left + options.pad_right - kw) / options.stride + 1, weights.weight.dim(0)},
      *options.output);
}

Tensor PlanningOperations::do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) {
  return do_upsample_grow_conv2d(x, {}, conv, 0, activation);
}

Tensor PlanningOperations::do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                                   std::int64_t, Activation) {
  constexpr std::int64_t kMergedTaps = 4;
  const std::int64_t frames = grow ? grow.dim(0) / x.dim(3) : 1;
  keep_convolution(conv.weight, x.dim(3), 0, frames * kUpsamplingPhases, kMergedTaps);
  keep_vector(conv.bias, DType::f32);
  return do_allocate({x.dim(0), 2 * x.dim(1), 2 * x.dim(2), conv.weight.dim(0)}, settings_.compute);
}

Tensor PlanningOperations::do_gaussian_noise(std::uint64_t, std::int64_t, std::int64_t latents, std::int64_t rows,
                                             std::int64_t columns) {
  constexpr std::int64_t kLatentChannels = 16;
  return do_allocate({latents, rows, columns, kLatentChannels}, DType::f32);
}

}  // namespace flashvsr::ops
