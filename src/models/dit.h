// The diffusion transformer, one step at t = 1000, chunk by chunk (paper sections 3.2 to 3.4).
#pragma once

#include "ops/operations.h"
#include "weights/model_files.h"

#include <functional>
#include <vector>

namespace flashvsr::models {

// How self-attention chooses its blocks.
struct AttentionSettings {
  ops::Locality locality;
  ops::Selection selection;
};

// Windows into a run, for verification and training. All optional.
struct DiTHooks {
  // Block scores and the own choice of a layer; returns the mask to use.
  std::function<ops::BlockMask(std::size_t layer, const Tensor& scores, const ops::BlockMask& own)> choose_mask;
  // q [tokens, dim] and the keys and values in view, before attention.
  std::function<void(std::size_t layer, const Tensor& q, const ops::KeyValueView& keys)> attention_inputs;
  // Hidden state [tokens, dim] after a block, window order.
  std::function<void(std::size_t layer, const Tensor& hidden)> after_block;
};

class DiT {
 public:
  // Computes what the fixed timestep and the fixed prompt determine: modulation, gates, prompt keys and values.
  DiT(ops::Operations& operations, const weights::ModelFiles& files);
  // Another prompt [tokens, text_dim] (host, any float type) for the same DiT, with which it shares all else.
  DiT(const DiT& other, const weights::ModelFiles& files, const Parameter& prompt);

  std::int64_t layers() const { return static_cast<std::int64_t>(blocks_.size()); }
  // Latents of a chunk: noise [f, H/8, W/8, 16] f32; lq_latents [f, H/16, W/16, dim] residual type, raster order; f
  // even; the chunk's windows are appended to `cache`. -> velocity [f, H/8, W/8, 16] f32; latent = noise - velocity.
  Tensor run_chunk(ops::KvCache& cache, const Tensor& noise, Tensor lq_latents, std::int64_t first_latent,
                   const AttentionSettings& settings, const DiTHooks& hooks = {}) const;

  const Tensor& time_embedding() const { return time_embedding_; }    // [1, dim] f32
  const Tensor& time_projection() const { return time_projection_; }  // [6, dim] f32

 private:
  struct SelfAttention {
    ops::LinearWeights q, k, v, o;
    Parameter norm_q, norm_k;
  };
  struct CrossAttention {
    ops::LinearWeights q, o;
    Parameter norm_q;
    Tensor k, v;  // of the prompt, [1, tokens, dim]
  };
  struct Modulation {
    Tensor shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp;  // [dim] f32
  };
  struct Block {
    Modulation modulation;
    SelfAttention self_attention;
    CrossAttention cross_attention;
    Parameter norm3_weight, norm3_bias;
    ops::LinearWeights ffn_in, ffn_out;
  };

  void read_prompt(const weights::ModelFiles& files, const Parameter& prompt);
  Tensor self_attention(ops::KvCache& cache, std::size_t layer, const Tensor& x, const ops::TokenGrid& grid,
                        const AttentionSettings& settings, const DiTHooks& hooks) const;
  Tensor cross_attention(const Block& block, const Tensor& x) const;
  Tensor feed_forward(const Block& block, const Tensor& x, std::int64_t windows) const;

  ops::Operations& ops_;
  std::int64_t heads_;
  ops::LinearWeights patch_embedding_, head_;
  Tensor time_embedding_, time_projection_;
  Tensor head_shift_, head_scale_;
  std::vector<Block> blocks_;
};

}  // namespace flashvsr::models
