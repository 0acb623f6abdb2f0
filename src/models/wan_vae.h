// The Wan 2.1 video VAE: causal in time, so both directions stream.
#pragma once

#include "ops/operations.h"
#include "weights/model_files.h"

#include <map>
#include <string>
#include <vector>

namespace flashvsr::models {

// What every causal convolution remembers: its last input frames. Keyed by the layer's name.
struct WanVaeState {
  bool started = false;
  std::map<std::string, Tensor> front;
};

class WanVaeDecoder {
 public:
  WanVaeDecoder(ops::Operations& operations, const weights::ModelFiles& files);
  // The next normalised latents [n, h, w, 16] f32 of a stream -> video [4n (4n - 3 at the start), 8h, 8w, 3] f32,
  // clamped to [-1, 1]. How a stream is cut into calls does not change the result.
  Tensor push(WanVaeState& state, const Tensor& latents) const;

 private:
  Tensor push_steady(WanVaeState& state, const Tensor& latents, bool first) const;

  ops::Operations& ops_;
  WeightMap weights_;
};

class WanVaeEncoder {
 public:
  WanVaeEncoder(ops::Operations& operations, const weights::ModelFiles& files);
  // The next frames of a stream, video [t, H, W, 3] in [-1, 1]: 1 + 4k at the start, then multiples of 4 -> normalised
  // latents (mean of the posterior) [(t + 3) / 4 at the start, else t / 4, H/8, W/8, 16] f32.
  Tensor push(WanVaeState& state, const Tensor& video) const;

 private:
  ops::Operations& ops_;
  WeightMap weights_;
};

}  // namespace flashvsr::models
