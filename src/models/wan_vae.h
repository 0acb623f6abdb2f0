// The Wan 2.1 video VAE: causal in time, so both directions stream.
#pragma once

#include "ops/operations.h"
#include "weights/model_files.h"

#include <map>
#include <string>
#include <vector>

namespace flashvsr::models {

// What the causal layers remember: the last frames that entered each. Keyed by the layer's name.
struct WanVaeState {
  bool started = false;
  std::map<std::string, Tensor> front;
};

// What encoder and decoder are built of.
class WanVaeBlocks {
 public:
  // side: "encoder" or "decoder".
  WanVaeBlocks(ops::Operations& operations, const WeightMap& weights, const std::string& side);

  bool has(const std::string& name) const;
  ops::ConvWeights convolution(const std::string& name) const;
  // "prefix.0", "prefix.1", ... as far as there are weights.
  std::vector<std::string> layers(const std::string& prefix) const;
  Tensor causal_convolution(WanVaeState& state, const std::string& name, const Tensor& x,
                            const ops::Conv3dOptions& options = {}) const;
  Tensor residual(WanVaeState& state, const std::string& name, const Tensor& x) const;
  Tensor middle(WanVaeState& state, const std::string& name, const Tensor& x) const;
  Tensor head(WanVaeState& state, const std::string& name, const Tensor& x) const;

 private:
  void remember(Tensor& front, const Tensor& x, std::int64_t frames) const;
  Tensor attention(const std::string& name, const Tensor& x) const;

  ops::Operations& ops_;
  WeightMap weights_;
  std::vector<ops::LinearWeights> qkv_;
  ops::LinearWeights proj_;
};

class WanVaeDecoder {
 public:
  WanVaeDecoder(ops::Operations& operations, const weights::ModelFiles& files);
  // The next normalised latents [n, h, w, 16] f32 of a stream -> video [4n (4n - 3 at the start), 8h, 8w, 3] f32,
  // clamped to [-1, 1]. How a stream is cut into calls does not change the result.
  Tensor push(WanVaeState& state, const Tensor& latents) const;

 private:
  void upsample_from(WanVaeState& state, std::size_t layer, Tensor x, std::vector<Tensor>& frames) const;

  ops::Operations& ops_;
  WanVaeBlocks blocks_;
  std::vector<std::string> upsamples_;
  Tensor mean_, std_;
};

class WanVaeEncoder {
 public:
  WanVaeEncoder(ops::Operations& operations, const weights::ModelFiles& files);
  // The next frames of a stream, video [t, H, W, 3] in [-1, 1]: 1 + 4k at the start, then multiples of 4 -> normalised
  // latents (mean of the posterior) [(t + 3) / 4 at the start, else t / 4, H/8, W/8, 16] f32.
  Tensor push(WanVaeState& state, const Tensor& video) const;

 private:
  Tensor halve_time(WanVaeState& state, const std::string& name, const Tensor& x) const;

  ops::Operations& ops_;
  WanVaeBlocks blocks_;
  std::vector<std::string> downsamples_;
  Tensor negative_mean_over_std_, inverse_std_;
  ops::ConvWeights posterior_mean_;
};

}  // namespace flashvsr::models
