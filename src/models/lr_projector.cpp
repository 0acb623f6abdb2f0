#include "models/lr_projector.h"

namespace flashvsr::models {
namespace {

constexpr std::int64_t kSpatial = 16;  // pixels of a token's side
constexpr std::int64_t kFrontFrames = 2;

Tensor last_two(const Tensor& x) { return x.sliced(x.dim(0) - kFrontFrames, x.dim(0)); }

}  // namespace

LRProjector::LRProjector(ops::Operations& operations, const weights::ModelFiles& files)
    : ops_(operations), variant_(files.config.variant) {
  const WeightMap& weights = files.projector;
  for (int i = 0; i < 2; ++i) {
    const std::string number = std::to_string(i + 1);
    conv_[i] = {weights.at("conv" + number + ".weight"), weights.at("conv" + number + ".bias")};
    gamma_[i] = weights.at("norm" + number + ".gamma");
  }
  linear_ = {weights.at("linear_layers.0.weight"), weights.at("linear_layers.0.bias")};
}

// Convolution (4, 3, 3), stride (2, 1, 1), edges replicated in space, `front` in front in time; channel RMS norm, SiLU.
Tensor LRProjector::causal_convolution(int number, const Tensor& front, const Tensor& x) const {
  const Tensor y = ops_.conv3d(front, x, conv_[number], {.time_stride = 2, .padding = ops::Padding::edge});
  return ops_.channel_rms_norm(y, gamma_[number], ops::Activation::silu);
}

void LRProjector::start(ProjectorState& state, const Tensor& first_frame) const {
  const ops::ProfilePart part(ops_, "projector");
  const Tensor frame = ops_.space_to_depth(first_frame, kSpatial, 1);
  const Tensor clip[] = {frame, frame, frame, frame};
  const Tensor x = ops_.concatenate(clip);
  // Nothing lies in front of the first clip: its own edge, which is frame 0 again, is repeated.
  state.cache1 = last_two(x);
  state.cache2 = last_two(causal_convolution(0, state.cache1, x));
  state.started = true;
}

Tensor LRProjector::push(ProjectorState& state, const Tensor& frames) const {
  require(state.started, "the projector needs clip 0 first");
  const ops::ProfilePart part(ops_, "projector");
  const Tensor x = ops_.space_to_depth(frames, kSpatial, 1);
  // v1 puts the clip's own last two frames in front of it, a quirk that its weights were trained with; v1.1 is causal.
  const bool causal = variant_ == weights::Variant::v1_1;
  const Tensor y = causal_convolution(0, causal ? state.cache1 : last_two(x), x);
  const Tensor z = causal_convolution(1, causal ? state.cache2 : last_two(y), y);
  state.cache1 = last_two(x);
  state.cache2 = last_two(y);
  const Shape grid{z.dim(0), z.dim(1), z.dim(2), linear_.weight.dim(0)};
  const Tensor tokens = z.reshaped({z.elements() / z.dim(-1), z.dim(-1)});
  return ops_.linear(tokens, linear_, {.output = ops_.residual_type()}).reshaped(grid);
}

}  // namespace flashvsr::models
