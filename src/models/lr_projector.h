// The causal LR projector: pixels of the upsampled LR to tokens that join the DiT (paper section 3.2).
#pragma once

#include "ops/operations.h"
#include "weights/model_files.h"

namespace flashvsr::models {

// What the projector remembers of a stream: the last two frames that entered each convolution.
struct ProjectorState {
  bool started = false;
  Tensor cache1, cache2;
};

class LRProjector {
 public:
  LRProjector(ops::Operations& operations, const weights::ModelFiles& files);

  // Clip 0 of a stream: frame 0 [1, H, W, 3] u8, repeated four times. Fills the caches; gives no tokens.
  void start(ProjectorState& state, const Tensor& first_frame) const;
  // Every later clip: frames [4, H, W, 3] u8, H and W multiples of 16 -> [1, H/16, W/16, dim] residual type.
  Tensor push(ProjectorState& state, const Tensor& frames) const;

 private:
  Tensor causal_convolution(int number, const Tensor& front, const Tensor& x) const;

  ops::Operations& ops_;
  weights::Variant variant_;
  ops::ConvWeights conv_[2];
  Parameter gamma_[2];
  ops::LinearWeights linear_;
};

}  // namespace flashvsr::models
