// Public operations of the networks: projector, DiT, decoders.
#include "ops/operation_checks.h"
#include "ops/operations.h"

namespace flashvsr::ops {
namespace {

double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

bool is_linear(const LinearWeights& weights, std::int64_t in) {
  return weights.weight && weights.weight.shape().rank() == 2 && weights.weight.dim(1) == in &&
         is_bias(weights.bias, weights.weight.dim(0));
}

bool is_grid(const TokenGrid& grid) {
  return grid.latents > 0 && grid.latents % kWindowLatents == 0 && grid.rows > 0 && grid.rows % kWindowSide == 0 &&
         grid.columns > 0 && grid.columns % kWindowSide == 0 && grid.first_latent >= 0 && grid.heads > 0;
}

// q, k and the head dimension: even, and at least one rotated pair per axis.
bool has_heads(std::int64_t dim, std::int64_t heads) { return heads > 0 && dim % heads == 0; }

bool is_view(const KeyValueView& keys, DType type) {
  if (!has_rank(keys.k, 3) || !has_rank(keys.v, 3) || keys.k.shape() != keys.v.shape() || keys.window_blocks <= 0 ||
      keys.k.dim(1) != kBlockTokens || keys.k.dtype() != type || keys.v.dtype() != type) {
    return false;
  }
  for (const std::int64_t slot : keys.slots) {
    if (slot < 0 || (slot + 1) * keys.window_blocks > keys.k.dim(0)) return false;
  }
  return true;
}

void check_qkv(const char* operation, const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
               const TokenGrid& grid, DType type) {
  check(has_rank(qkv, 2) && qkv.dtype() == type && qkv.dim(1) % 3 == 0, operation,
        "qkv must be [tokens, 3 dim] in the compute type", {qkv});
  const std::int64_t dim = qkv.dim(1) / 3;
  check(is_grid(grid) && qkv.dim(0) == grid.tokens(), operation, "tokens must be those of a grid of whole windows",
        {qkv});
  check(has_heads(dim, grid.heads) && dim / grid.heads % 2 == 0, operation, "dim must be heads x an even number",
        {qkv});
  check(norm_q && norm_k && norm_q.shape().elements() == dim && norm_k.shape().elements() == dim, operation,
        "the norms of q and k need one weight per channel", {qkv, norm_q, norm_k});
}

}  // namespace

// ------------------------------------------------------------------------------------------ projector, Wan VAE

Tensor Operations::conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                          const Conv3dOptions& options) {
  const Parameter& weight = weights.weight;
  check(has_rank(x, 4) && x.dtype() == compute_type() && x.elements() > 0, "conv3d",
        "x must be [T, H, W, C] in the compute type", {x});
  check(weight && weight.shape().rank() == 5 && weight.dim(1) == x.dim(3) && is_bias(weights.bias, weight.dim(0)) &&
            weight.dim(3) % 2 == 1 && weight.dim(4) % 2 == 1,
        "conv3d", "the weight must be [out, C, kt, odd, odd], the bias [out]", {x, weight, weights.bias});
  check(!front || (has_rank(front, 4) && front.dtype() == x.dtype() && front.dim(1) == x.dim(1) &&
                   front.dim(2) == x.dim(2) && front.dim(3) == x.dim(3)),
        "conv3d", "front must agree with x in all but the number of frames", {front, x});
  const std::int64_t frames = x.dim(0) + (front ? front.dim(0) : 0) - weight.dim(2);
  check(frames >= 0 && options.time_stride > 0, "conv3d", "there are fewer frames than the kernel is long",
        {front, x, weight});
  Conv3dOptions resolved = options;
  resolved.output = options.output.value_or(compute_type());
  check(is_float_type(*resolved.output), "conv3d", "the result is f32 or bf16", {x});
  const double flops = 2 * product({frames / options.time_stride + 1, x.dim(1), x.dim(2), weight.dim(0), weight.dim(1),
                                    weight.dim(2), weight.dim(3), weight.dim(4)});
  return measured(*this, "conv3d", computing(flops, front, x), [&] { return do_conv3d(front, x, weights, resolved); });
}

Tensor Operations::channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) {
  check(is_float(x) && x.shape().rank() > 0 && gamma && gamma.shape().elements() == x.dim(-1), "channel_rms_norm",
        "gamma needs one value per channel of x", {x, gamma});
  check(activation == Activation::none || activation == Activation::silu, "channel_rms_norm",
        "SiLU or no activation follows", {x});
  return measured(*this, "channel_rms_norm", reading(x), [&] { return do_channel_rms_norm(x, gamma, activation); });
}

Tensor Operations::channels_to_frames(const Tensor& x) {
  check(has_rank(x, 4) && is_float(x) && x.dim(3) % 2 == 0, "channels_to_frames",
        "x must be [T, H, W, C] with an even number of channels", {x});
  return measured(*this, "channels_to_frames", reading(x), [&] { return do_channels_to_frames(x); });
}

// ----------------------------------------------------------------------------------------------------------- DiT

Tensor Operations::linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) {
  check(has_rank(x, 2) && x.dtype() == compute_type(), "linear", "x must be [tokens, in] in the compute type", {x});
  check(is_linear(weights, x.dim(1)), "linear", "the weight must be [out, in], the bias [out]",
        {x, weights.weight, weights.bias});
  const std::int64_t out = weights.weight.dim(0);
  check(!options.gate || is_vector(*options.gate, out), "linear", "the gate must be f32 [out]",
        {options.gate ? *options.gate : Tensor(), weights.weight});
  const Tensor residual = options.residual ? *options.residual : Tensor();
  check(!options.residual || (is_float(residual) && residual.elements() == x.dim(0) * out && residual.dim(-1) == out),
        "linear", "the residual must be [tokens, out]", {residual, x, weights.weight});
  LinearOptions resolved = options;
  resolved.output = options.output.value_or(residual ? residual.dtype() : compute_type());
  check(is_float_type(*resolved.output), "linear", "the result is f32 or bf16", {x});
  Work work = computing(2 * product({x.dim(0), x.dim(1), out}), x, residual);
  work.bytes += product({x.dim(1), out, static_cast<std::int64_t>(size_of(compute_type()))});
  return measured(*this, "linear", work, [&] { return do_linear(x, weights, resolved); });
}

Tensor Operations::linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) {
  check(has_rank(x, 2) && x.dtype() == compute_type(), "linear_concatenated",
        "x must be [tokens, in] in the compute type", {x});
  require(!weights.empty(), "linear_concatenated: no weights");
  Work work = reading(x);
  for (const LinearWeights& part : weights) {
    check(is_linear(part, x.dim(1)), "linear_concatenated", "every weight must be [out, in], its bias [out]",
          {x, part.weight, part.bias});
    work.flops += 2 * product({x.dim(0), x.dim(1), part.weight.dim(0)});
    work.bytes += product({x.dim(1), part.weight.dim(0), static_cast<std::int64_t>(size_of(compute_type()))});
  }
  return measured(*this, "linear", work, [&] { return do_linear_concatenated(x, weights); });
}

Tensor Operations::layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) {
  check(has_rank(x, 2) && is_float(x) && weight && bias && weight.shape().elements() == x.dim(1) &&
            bias.shape().elements() == x.dim(1),
        "layer_norm", "x must be [tokens, dim], weight and bias [dim]", {x, weight, bias});
  return measured(*this, "layer_norm", reading(x), [&] { return do_layer_norm(x, weight, bias); });
}

Tensor Operations::layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  check(has_rank(x, 2) && is_float(x) && is_vector(scale, x.dim(1)) && is_vector(shift, x.dim(1)),
        "layer_norm_modulated", "x must be [tokens, dim], scale and shift f32 [dim]", {x, scale, shift});
  return measured(*this, "layer_norm", reading(x), [&] { return do_layer_norm_modulated(x, scale, shift); });
}

Tensor Operations::rms_norm(const Tensor& x, const Parameter& weight) {
  check(has_rank(x, 2) && is_float(x) && weight && weight.shape().elements() == x.dim(1), "rms_norm",
        "x must be [tokens, dim], the weight [dim]", {x, weight});
  return measured(*this, "rms_norm", reading(x), [&] { return do_rms_norm(x, weight); });
}

Tensor Operations::to_windows(const Tensor& x) {
  check(has_rank(x, 4) && x.dim(0) % kWindowLatents == 0 && x.dim(1) % kWindowSide == 0 && x.dim(2) % kWindowSide == 0,
        "to_windows", "x must be [latents, rows, columns, C] of whole windows (2, 8, 8)", {x});
  return measured(*this, "to_windows", reading(x), [&] { return do_to_windows(x); });
}

Tensor Operations::patchify(const Tensor& latents) {
  check(has_rank(latents, 4) && is_float(latents) && latents.dim(0) % kWindowLatents == 0 &&
            latents.dim(1) % (2 * kWindowSide) == 0 && latents.dim(2) % (2 * kWindowSide) == 0,
        "patchify", "latents must be [f, H/8, W/8, C] of whole windows", {latents});
  return measured(*this, "patchify", reading(latents), [&] { return do_patchify(latents); });
}

Tensor Operations::unpatchify(const Tensor& tokens, const TokenGrid& grid) {
  check(has_rank(tokens, 2) && is_grid(grid) && tokens.dim(0) == grid.tokens() && tokens.dim(1) % 4 == 0, "unpatchify",
        "tokens must be [tokens of the grid, 4 C]", {tokens});
  return measured(*this, "unpatchify", reading(tokens), [&] { return do_unpatchify(tokens, grid); });
}

QueryKeyValue Operations::split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                    const TokenGrid& grid) {
  check_qkv("split_qkv", qkv, norm_q, norm_k, grid, compute_type());
  return measured(*this, "split_qkv", reading(qkv), [&] { return do_split_qkv(qkv, norm_q, norm_k, grid); });
}

Query Operations::append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                             const Parameter& norm_k, const TokenGrid& grid) {
  check_qkv("append_qkv", qkv, norm_q, norm_k, grid, compute_type());
  require(layer < cache.layers.size(), "append_qkv: layer {} of a KV cache of {}", layer, cache.layers.size());
  require(cache.window_blocks == grid.window_blocks() && cache.new_windows == grid.latents / kWindowLatents,
          "append_qkv: a chunk of {} windows of {} blocks, but the KV cache expects {} of {}",
          grid.latents / kWindowLatents, grid.window_blocks(), cache.new_windows, cache.window_blocks);
  check(cache.k.dim(-1) * 3 == qkv.dim(1), "append_qkv", "the KV cache has another dim than qkv / 3", {cache.k, qkv});
  cache.append(*this, layer, cache.new_windows);
  // k and v are written too.
  const Work work{0, bytes_of(qkv) * 5 / 3};
  return measured(*this, "split_qkv", work, [&] { return do_append_qkv(cache, layer, qkv, norm_q, norm_k, grid); });
}

Query Operations::do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                                const Parameter& norm_k, const TokenGrid& grid) {
  const QueryKeyValue values = do_split_qkv(qkv, norm_q, norm_k, grid);
  const std::int64_t blocks = cache.window_blocks;
  const Shape shape{grid.blocks(), kBlockTokens, values.k.dim(-1)};
  const Tensor k = values.k.reshaped(shape), v = values.v.reshaped(shape);
  std::int64_t begin = 0;
  for (const std::int64_t slot : cache.newest_slots(layer, cache.new_windows)) {
    const std::int64_t end = begin + blocks;
    do_store(cache.k, slot * blocks, k.sliced(begin, end));
    do_store(cache.v, slot * blocks, v.sliced(begin, end));
    do_store(cache.k_means, slot * blocks, values.k_means.sliced(begin, end));
    begin = end;
  }
  return {values.q, values.q_means};
}

Tensor Operations::block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                                const Locality& locality) {
  check(is_grid(grid) && has_rank(q_means, 2) && q_means.dtype() == DType::f32 && q_means.dim(0) == grid.blocks() &&
            has_heads(q_means.dim(1), grid.heads),
        "block_scores", "q_means must be f32 [blocks of the grid, dim]", {q_means});
  check(is_view(keys, compute_type()) && keys.window_blocks == grid.window_blocks() && has_rank(keys.k_means, 2) &&
            keys.k_means.dtype() == DType::f32 && keys.k_means.dim(0) == keys.k.dim(0) &&
            keys.k_means.dim(1) == q_means.dim(1),
        "block_scores", "keys must be a ring of the grid's windows with f32 [ring blocks, dim] means",
        {q_means, keys.k, keys.k_means});
  require(locality.range > 0, "block_scores: a local range of {} blocks", locality.range);
  Work work = computing(2 * product({q_means.dim(0), keys.key_blocks(), q_means.dim(1)}), q_means);
  work.bytes += 4 * product({keys.key_blocks(), q_means.dim(1)});
  return measured(*this, "block_scores", work, [&] { return do_block_scores(q_means, keys, grid, locality); });
}

BlockMask Operations::select_blocks(const Tensor& scores, std::int64_t window_blocks, const Selection& selection) {
  check(has_rank(scores, 3) && scores.dtype() == DType::f32 && window_blocks > 0 && scores.dim(1) % window_blocks == 0,
        "select_blocks", "scores must be f32 [heads, query blocks of whole windows, key blocks]", {scores});
  require(selection.all_allowed || (selection.topk_ratio >= 0 && selection.topk_ratio < 1e18),
          "select_blocks: a top-k ratio of {}", selection.topk_ratio);
  return measured(*this, "select_blocks", reading(scores),
                  [&] { return do_select_blocks(scores, window_blocks, selection); });
}

BlockMask Operations::block_mask(const Tensor& host_mask) {
  check(has_rank(host_mask, 3) && host_mask.dtype() == DType::u8, "block_mask",
        "the mask must be u8 [heads, query blocks, key blocks]", {host_mask});
  return measured(*this, "block_mask", reading(host_mask), [&] { return do_block_mask(host_mask); });
}

Tensor Operations::sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                                    std::int64_t heads) {
  check(has_rank(q, 2) && q.dtype() == compute_type() && q.dim(0) % kBlockTokens == 0 && has_heads(q.dim(1), heads),
        "sparse_attention", "q must be [blocks x 128, dim] in the compute type", {q});
  check(is_view(keys, compute_type()) && keys.k.dim(2) == q.dim(1), "sparse_attention",
        "k and v must be [ring blocks, 128, dim] in the compute type", {q, keys.k, keys.v});
  check(has_rank(mask.mask, 3) && mask.mask.dim(0) == heads && mask.mask.dim(1) == q.dim(0) / kBlockTokens &&
            mask.mask.dim(2) == keys.key_blocks() && mask.offsets &&
            mask.offsets.elements() == heads * mask.mask.dim(1) + 1,
        "sparse_attention", "the mask must be [heads, query blocks, key blocks in view]", {q, mask.mask});
  // Of keys and values at least once what is in view.
  Work work = reading(q);
  work.bytes += 2 * product({keys.key_blocks(), kBlockTokens, q.dim(1), static_cast<std::int64_t>(size_of(q.dtype()))});
  const Tensor result =
      measured(*this, "sparse_attention", work, [&] { return do_sparse_attention(q, keys, mask, heads); });
  if (profile_.enabled) {
    count_kept_blocks("sparse_attention", mask, 4 * product({kBlockTokens, kBlockTokens, q.dim(1) / heads}));
  }
  return result;
}

Tensor Operations::attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) {
  check(has_rank(q, 3) && q.dtype() == compute_type() && has_heads(q.dim(2), heads), "attention",
        "q must be [batch, n, dim] in the compute type", {q});
  check(has_rank(k, 3) && has_rank(v, 3) && k.shape() == v.shape() && k.dtype() == q.dtype() &&
            v.dtype() == q.dtype() && k.dim(2) == q.dim(2) && k.dim(1) > 0 && (k.dim(0) == 1 || k.dim(0) == q.dim(0)),
        "attention", "k and v must be [batch or 1, m, dim] in the compute type", {q, k, v});
  const double flops = 4 * product({q.dim(0), q.dim(1), k.dim(1), q.dim(2)});
  return measured(*this, "attention", computing(flops, q, k, v), [&] { return do_attention(q, k, v, heads); });
}

// ---------------------------------------------------------------------------------- tiny decoder, Wan VAE

Tensor Operations::conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) {
  const Parameter& weight = weights.weight;
  const Tensor second = options.second ? *options.second : Tensor();
  check(has_rank(x, 4) && x.dtype() == compute_type() && x.elements() > 0, "conv2d",
        "x must be [N, H, W, C] in the compute type", {x});
  check(!options.second || (has_rank(second, 4) && second.dtype() == x.dtype() && second.dim(0) == x.dim(0) &&
                            second.dim(1) == x.dim(1) && second.dim(2) == x.dim(2)),
        "conv2d", "the second source must agree with x in all but the channels", {x, second});
  const std::int64_t in = x.dim(3) + (second ? second.dim(3) : 0);
  check(weight && weight.shape().rank() == 4 && weight.dim(1) == in && is_bias(weights.bias, weight.dim(0)), "conv2d",
        "the weight must be [out, channels of all sources, kh, kw], the bias [out]", {x, second, weight, weights.bias});
  const Conv2dOptions& o = options;
  const std::int64_t rows = x.dim(1) + o.pad_top + o.pad_bottom - weight.dim(2);
  const std::int64_t columns = x.dim(2) + o.pad_left + o.pad_right - weight.dim(3);
  check(o.stride > 0 && o.pad_top >= 0 && o.pad_bottom >= 0 && o.pad_left >= 0 && o.pad_right >= 0 && rows >= 0 &&
            columns >= 0,
        "conv2d", "the frame is smaller than the kernel", {x, weight});
  const Shape result{x.dim(0), rows / o.stride + 1, columns / o.stride + 1, weight.dim(0)};
  check(!o.residual || (is_float(*o.residual) && o.residual->shape() == result), "conv2d",
        "the residual must have the shape of the result", {x, weight, o.residual ? *o.residual : Tensor()});
  Conv2dOptions resolved = options;
  resolved.output = options.output.value_or(compute_type());
  check(is_float_type(*resolved.output), "conv2d", "the result is f32 or bf16", {x});
  const double flops = 2 * product({result.elements(), in, weight.dim(2), weight.dim(3)});
  const Work work = computing(flops, x, second, o.residual ? *o.residual : Tensor());
  return measured(*this, "conv2d", work, [&] { return do_conv2d(x, weights, resolved); });
}

Tensor Operations::upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) {
  const Parameter& weight = conv.weight;
  check(has_rank(x, 4) && x.dtype() == compute_type() && x.elements() > 0, "upsample_conv2d",
        "x must be [N, H, W, C] in the compute type", {x});
  check(weight && weight.shape() == Shape{weight.dim(0), x.dim(3), 3, 3} && is_bias(conv.bias, weight.dim(0)),
        "upsample_conv2d", "the weight must be [out, C, 3, 3], the bias [out]", {x, weight, conv.bias});
  // Of the nine taps four remain: the others fall on the same source pixels.
  const double flops = 2 * product({4 * x.elements(), weight.dim(0), 4});
  return measured(*this, "upsample_conv2d", computing(flops, x),
                  [&] { return do_upsample_conv2d(x, conv, activation); });
}

Tensor Operations::upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                        std::int64_t frame, Activation activation) {
  const Parameter& weight = conv.weight;
  check(has_rank(x, 4) && x.dtype() == compute_type() && x.dim(0) == 1 && x.elements() > 0, "upsample_grow_conv2d",
        "x must be [1, H, W, C] in the compute type", {x});
  const std::int64_t frames = grow ? grow.dim(0) / x.dim(3) : 0;
  check(frame >= 0 && frame < frames && grow.shape() == Shape{frames * x.dim(3), x.dim(3), 1, 1},
        "upsample_grow_conv2d", "the 1x1 weight must be [frames x C, C, 1, 1], and the frame one of them", {x, grow});
  check(weight && weight.shape() == Shape{weight.dim(0), x.dim(3), 3, 3} && is_bias(conv.bias, weight.dim(0)),
        "upsample_grow_conv2d", "the weight must be [out, C, 3, 3], the bias [out]", {x, weight, conv.bias});
  const double flops = 2 * product({4 * x.elements(), weight.dim(0), 4});
  return measured(*this, "upsample_conv2d", computing(flops, x),
                  [&] { return do_upsample_grow_conv2d(x, grow, conv, frame, activation); });
}

}  // namespace flashvsr::ops
