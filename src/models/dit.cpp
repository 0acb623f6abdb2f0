#include "models/dit.h"

#include <cmath>
#include <utility>

namespace flashvsr::models {
namespace {

constexpr double kTimestep = 1000.0;
constexpr double kTheta = 1e4;

// [1, freq_dim] f32: cosines, then sines, computed in double.
Tensor sinusoidal_embedding(std::int64_t freq_dim) {
  Tensor result = allocate_host({1, freq_dim}, DType::f32);
  const std::int64_t half = freq_dim / 2;
  auto* values = result.mutable_data<float>();
  for (std::int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(kTheta, -2.0 * static_cast<double>(i) / static_cast<double>(freq_dim));
    values[i] = static_cast<float>(std::cos(kTimestep * frequency));
    values[half + i] = static_cast<float>(std::sin(kTimestep * frequency));
  }
  return result;
}

class WeightReader {
 public:
  explicit WeightReader(const WeightMap& weights) : weights_(weights) {}
  const Parameter& parameter(const std::string& name) const { return weights_.at(name); }
  ops::LinearWeights linear(const std::string& name) const {
    return {weights_.at(name + ".weight"), weights_.at(name + ".bias")};
  }

 private:
  const WeightMap& weights_;
};

Tensor row(const Tensor& table, std::int64_t index) { return table.sliced(index, index + 1).reshaped({table.dim(-1)}); }

}  // namespace

DiT::DiT(ops::Operations& operations, const weights::ModelFiles& files) : ops_(operations), heads_(files.config.heads) {
  const ops::ProfilePart part(ops_, "prompt");
  const WeightReader read(files.dit);
  const std::int64_t dim = files.config.dim;
  patch_embedding_ = read.linear("patch_embedding");
  patch_embedding_.weight = patch_embedding_.weight.reshaped({dim, patch_embedding_.weight.shape().elements() / dim});
  head_ = read.linear("head.head");

  // The timestep is fixed, so its embedding, and with it modulation and gates, are constants of the model.
  constexpr auto kF32 = DType::f32;
  constexpr auto kSilu = ops::Activation::silu;
  Tensor x = ops_.from_host(sinusoidal_embedding(files.config.freq_dim), ops_.compute_type());
  x = ops_.linear(x, read.linear("time_embedding.0"), {.activation = kSilu, .once = true});
  time_embedding_ = ops_.linear(x, read.linear("time_embedding.2"), {.output = kF32, .once = true});
  x = ops_.cast(ops_.activation(time_embedding_, kSilu), ops_.compute_type());
  time_projection_ =
      ops_.linear(x, read.linear("time_projection.1"), {.output = kF32, .once = true}).reshaped({6, dim});

  for (std::int64_t layer = 0; layer < files.config.layers; ++layer) {
    const std::string name = "blocks." + std::to_string(layer) + ".";
    Block block;
    const Tensor table = ops_.constant(read.parameter(name + "modulation"), kF32).reshaped({6, dim});
    const Tensor modulation = ops_.add(table, time_projection_);
    block.modulation = {.shift_msa = row(modulation, 0),
                        .scale_msa = row(modulation, 1),
                        .gate_msa = row(modulation, 2),
                        .shift_mlp = row(modulation, 3),
                        .scale_mlp = row(modulation, 4),
                        .gate_mlp = row(modulation, 5)};
    const std::string self = name + "self_attn.", cross = name + "cross_attn.";
    block.self_attention = {.q = read.linear(self + "q"),
                            .k = read.linear(self + "k"),
                            .v = read.linear(self + "v"),
                            .o = read.linear(self + "o"),
                            .norm_q = read.parameter(self + "norm_q.weight"),
                            .norm_k = read.parameter(self + "norm_k.weight")};
    block.cross_attention = {.q = read.linear(cross + "q"),
                             .o = read.linear(cross + "o"),
                             .norm_q = read.parameter(cross + "norm_q.weight"),
                             .k = {},
                             .v = {}};
    block.norm3_weight = read.parameter(name + "norm3.weight");
    block.norm3_bias = read.parameter(name + "norm3.bias");
    block.ffn_in = read.linear(name + "ffn.0");
    block.ffn_out = read.linear(name + "ffn.2");
    blocks_.push_back(std::move(block));
  }
  // The head is modulated by the embedding itself, not by its projection.
  const Tensor table = ops_.constant(read.parameter("head.modulation"), kF32).reshaped({2, dim});
  head_shift_ = row(ops_.add(table.sliced(0, 1), time_embedding_), 0);
  head_scale_ = row(ops_.add(table.sliced(1, 2), time_embedding_), 0);
  read_prompt(files, files.prompt);
}

DiT::DiT(const DiT& other, const weights::ModelFiles& files, const Parameter& prompt) : DiT(other) {
  read_prompt(files, prompt);
}

// Keys and values of the prompt, constants of the model like the prompt.
void DiT::read_prompt(const weights::ModelFiles& files, const Parameter& prompt) {
  const ops::ProfilePart part(ops_, "prompt");
  const WeightReader read(files.dit);
  Tensor context = ops_.from_host(prompt.values(), ops_.compute_type());
  context = context.reshaped({context.elements() / context.dim(-1), context.dim(-1)});
  context =
      ops_.linear(context, read.linear("text_embedding.0"), {.activation = ops::Activation::gelu_tanh, .once = true});
  context = ops_.linear(context, read.linear("text_embedding.2"), {.once = true});
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    const std::string name = "blocks." + std::to_string(layer) + ".cross_attn.";
    CrossAttention& attention = blocks_[layer].cross_attention;
    const Tensor k = ops_.rms_norm(ops_.linear(context, read.linear(name + "k"), {.once = true}),
                                   read.parameter(name + "norm_k.weight"));
    const Tensor v = ops_.linear(context, read.linear(name + "v"), {.once = true});
    const Shape shape{1, k.dim(0), k.dim(1)};
    attention.k = k.reshaped(shape);
    attention.v = v.reshaped(shape);
  }
}

// The three parts of a block, each with its norm in front and x added to its result.

Tensor DiT::self_attention(ops::KvCache& cache, std::size_t layer, const Tensor& x, const ops::TokenGrid& grid,
                           const AttentionSettings& settings, const DiTHooks& hooks) const {
  const Block& block = blocks_[layer];
  const SelfAttention& weights = block.self_attention;
  const ops::LinearWeights projections[] = {weights.q, weights.k, weights.v};
  Tensor qkv = ops_.linear_concatenated(
      ops_.layer_norm_modulated(x, block.modulation.scale_msa, block.modulation.shift_msa), projections);
  const ops::Query query = ops_.append_qkv(cache, layer, qkv, weights.norm_q, weights.norm_k, grid);
  qkv = {};
  const ops::KeyValueView keys = cache.view(layer);
  if (hooks.attention_inputs) hooks.attention_inputs(layer, query.q, keys);

  const Tensor scores = ops_.block_scores(query.q_means, keys, grid, settings.locality);
  ops::BlockMask mask = ops_.select_blocks(scores, grid.window_blocks(), settings.selection);
  if (hooks.choose_mask) mask = hooks.choose_mask(layer, scores, mask);
  const Tensor attended = ops_.sparse_attention(query.q, keys, mask, heads_);
  cache.release(ops_, layer);
  return ops_.linear(attended, weights.o, {.gate = &block.modulation.gate_msa, .residual = &x});
}

Tensor DiT::cross_attention(const Block& block, const Tensor& x) const {
  const CrossAttention& weights = block.cross_attention;
  Tensor q = ops_.linear(ops_.layer_norm(x, block.norm3_weight, block.norm3_bias), weights.q);
  q = ops_.rms_norm(q, weights.norm_q);
  q = ops_.attention(q.reshaped({1, q.dim(0), q.dim(1)}), weights.k, weights.v, heads_).reshaped(q.shape());
  return ops_.linear(q, weights.o, {.residual = &x});
}

// Window by window: the hidden layer is several times as wide as the tokens, and the first chunk has several windows.
Tensor DiT::feed_forward(const Block& block, const Tensor& x, std::int64_t windows) const {
  const Modulation& m = block.modulation;
  const std::int64_t tokens = x.dim(0) / windows;
  std::vector<Tensor> parts;
  for (std::int64_t window = 0; window < windows; ++window) {
    const Tensor residual = x.sliced(window * tokens, (window + 1) * tokens);
    const Tensor hidden = ops_.linear(ops_.layer_norm_modulated(residual, m.scale_mlp, m.shift_mlp), block.ffn_in,
                                      {.activation = ops::Activation::gelu_tanh});
    parts.push_back(ops_.linear(hidden, block.ffn_out, {.gate = &m.gate_mlp, .residual = &residual}));
  }
  return ops_.concatenate(parts);
}

Tensor DiT::run_chunk(ops::KvCache& cache, const Tensor& noise, Tensor lq_latents, std::int64_t first_latent,
                      const AttentionSettings& settings, const DiTHooks& hooks) const {
  const ops::ProfilePart part(ops_, "dit");
  const ops::TokenGrid grid{.latents = noise.dim(0),
                            .rows = noise.dim(1) / 2,
                            .columns = noise.dim(2) / 2,
                            .first_latent = first_latent,
                            .heads = heads_};
  const std::int64_t windows = grid.latents / ops::kWindowLatents;
  cache.begin_chunk(windows);
  Tensor x = ops_.to_windows(std::exchange(lq_latents, {}));
  x = ops_.linear(ops_.patchify(noise), patch_embedding_, {.residual = &x});
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    x = self_attention(cache, layer, x, grid, settings, hooks);
    x = cross_attention(blocks_[layer], x);
    x = feed_forward(blocks_[layer], x, windows);
    if (hooks.after_block) hooks.after_block(layer, x);
  }
  x = ops_.layer_norm_modulated(x, head_scale_, head_shift_);
  return ops_.unpatchify(ops_.linear(x, head_, {.output = DType::f32}), grid);
}

}  // namespace flashvsr::models
