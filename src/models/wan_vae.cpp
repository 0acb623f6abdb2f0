#include "models/wan_vae.h"

#include <algorithm>
#include <array>

namespace flashvsr::models {
namespace {

// Latents are normalised per channel by the statistics of the training set (Wan 2.1).
constexpr std::array<float, 16> kLatentMean{-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                            -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                            -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
constexpr std::array<float, 16> kLatentStd{2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                                           3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};

Tensor channel_values(ops::Operations& operations, float (*value)(std::size_t)) {
  Tensor host = allocate_host({16}, DType::f32);
  for (std::size_t i = 0; i < 16; ++i) host.mutable_data<float>()[i] = value(i);
  return operations.from_host(host);
}

}  // namespace

// ------------------------------------------------------------------------------------- blocks of both directions

WanVaeBlocks::WanVaeBlocks(ops::Operations& operations, const WeightMap& weights, const std::string& side)
    : ops_(operations), weights_(weights) {
  // The middle's attention as four linears: a 1x1 convolution is one.
  const std::string name = side + ".middle.1.";
  const Parameter &qkv = weights_.at(name + "to_qkv.weight"), &qkv_bias = weights_.at(name + "to_qkv.bias");
  const std::int64_t channels = qkv.dim(1);
  for (std::int64_t i = 0; i < 3; ++i) {
    const std::int64_t begin = i * channels, end = begin + channels;
    qkv_.push_back({Parameter(qkv.name(), qkv.values().sliced(begin, end).reshaped({channels, channels})),
                    Parameter(qkv_bias.name(), qkv_bias.values().sliced(begin, end))});
  }
  proj_ = {weights_.at(name + "proj.weight").reshaped({channels, channels}), weights_.at(name + "proj.bias")};
}

bool WanVaeBlocks::has(const std::string& name) const { return weights_.contains(name); }

ops::ConvWeights WanVaeBlocks::convolution(const std::string& name) const {
  return {weights_.at(name + ".weight"), weights_.at(name + ".bias")};
}

std::vector<std::string> WanVaeBlocks::layers(const std::string& prefix) const {
  std::vector<std::string> result;
  for (int number = 0;; ++number) {
    const std::string name = prefix + "." + std::to_string(number);
    const auto first = weights_.lower_bound(name + ".");
    if (first == weights_.end() || first->first.compare(0, name.size() + 1, name + ".") != 0) return result;
    result.push_back(name);
  }
}

// Zeros in front of the stream; afterwards the last frames that went in.
Tensor WanVaeBlocks::causal_convolution(WanVaeState& state, const std::string& name, const Tensor& x,
                                        const ops::Conv3dOptions& options) const {
  const ops::ConvWeights weights = convolution(name);
  const std::int64_t front_frames = weights.weight.dim(2) - 1;
  if (front_frames == 0) return ops_.conv3d({}, x, weights, options);
  Tensor& front = state.front[name];
  if (!front) front = ops_.zeros({front_frames, x.dim(1), x.dim(2), x.dim(3)}, x.dtype());
  const Tensor y = ops_.conv3d(front, x, weights, options);
  remember(front, x, front_frames);
  return y;
}

void WanVaeBlocks::remember(Tensor& front, const Tensor& x, std::int64_t frames) const {
  if (x.dim(0) < frames) {
    const Tensor both[] = {front.sliced(front.dim(0) - frames + x.dim(0), front.dim(0)), x};
    front = ops_.concatenate(both);
  } else {
    front = x.sliced(x.dim(0) - frames, x.dim(0));
  }
}

// (RMS norm over channels, SiLU, convolution) twice, plus x or its 1x1x1 shortcut.
Tensor WanVaeBlocks::residual(WanVaeState& state, const std::string& name, const Tensor& x) const {
  constexpr auto kSilu = ops::Activation::silu;
  const Tensor y = causal_convolution(state, name + ".residual.2",
                                      ops_.channel_rms_norm(x, weights_.at(name + ".residual.0.gamma"), kSilu));
  const Tensor z = causal_convolution(state, name + ".residual.6",
                                      ops_.channel_rms_norm(y, weights_.at(name + ".residual.3.gamma"), kSilu));
  return ops_.add(z, has(name + ".shortcut.weight") ? causal_convolution(state, name + ".shortcut", x) : x);
}

// Single-head attention inside each frame.
Tensor WanVaeBlocks::attention(const std::string& name, const Tensor& x) const {
  const Tensor normed = ops_.channel_rms_norm(x, weights_.at(name + ".norm.gamma"), ops::Activation::none);
  const Shape tokens{x.elements() / x.dim(-1), x.dim(-1)};
  const Shape frames{x.dim(0), x.dim(1) * x.dim(2), x.dim(3)};
  const Tensor flat = normed.reshaped(tokens);
  const Tensor attended =
      ops_.attention(ops_.linear(flat, qkv_[0]).reshaped(frames), ops_.linear(flat, qkv_[1]).reshaped(frames),
                     ops_.linear(flat, qkv_[2]).reshaped(frames), 1);
  const Tensor residual = x.reshaped(tokens);
  return ops_.linear(attended.reshaped(tokens), proj_, {.residual = &residual}).reshaped(x.shape());
}

Tensor WanVaeBlocks::middle(WanVaeState& state, const std::string& name, const Tensor& x) const {
  return residual(state, name + ".2", attention(name + ".1", residual(state, name + ".0", x)));
}

Tensor WanVaeBlocks::head(WanVaeState& state, const std::string& name, const Tensor& x) const {
  const Tensor y = ops_.channel_rms_norm(x, weights_.at(name + ".head.0.gamma"), ops::Activation::silu);
  return causal_convolution(state, name + ".head.2", y, {.output = DType::f32});
}

// ------------------------------------------------------------------------------------------------------- decoder

WanVaeDecoder::WanVaeDecoder(ops::Operations& operations, const weights::ModelFiles& files)
    : ops_(operations),
      blocks_(operations, files.vae, "decoder"),
      upsamples_(blocks_.layers("decoder.upsamples")),
      mean_(channel_values(operations, [](std::size_t i) { return kLatentMean[i]; })),
      std_(channel_values(operations, [](std::size_t i) { return kLatentStd[i]; })) {}

Tensor WanVaeDecoder::push(WanVaeState& state, const Tensor& latents) const {
  const ops::ProfilePart part(ops_, "decoder");
  std::vector<Tensor> frames;
  for (std::int64_t i = 0; i < latents.dim(0); ++i) {
    const Tensor latent = ops_.channel_affine(latents.sliced(i, i + 1), std_, mean_);
    Tensor x = blocks_.causal_convolution(state, "conv2", ops_.cast(latent, ops_.compute_type()));
    x = blocks_.causal_convolution(state, "decoder.conv1", x);
    upsample_from(state, 0, blocks_.middle(state, "decoder.middle", x), frames);
    state.started = true;
  }
  return ops_.concatenate(frames);
}

// Runs one frame through the layers from `layer` on. Where time doubles, the two frames go on one after the other, so
// that the wide layers at full resolution never hold more than one.
void WanVaeDecoder::upsample_from(WanVaeState& state, std::size_t layer, Tensor x, std::vector<Tensor>& frames) const {
  for (; layer < upsamples_.size(); ++layer) {
    const std::string& name = upsamples_[layer];
    if (blocks_.has(name + ".residual.0.gamma")) {
      x = blocks_.residual(state, name, x);
      continue;
    }
    const ops::ConvWeights resample = blocks_.convolution(name + ".resample.1");
    // Every latent but the first becomes two frames.
    if (state.started && blocks_.has(name + ".time_conv.weight")) {
      const Tensor pair = ops_.channels_to_frames(blocks_.causal_convolution(state, name + ".time_conv", x));
      for (std::int64_t i = 0; i < 2; ++i) {
        upsample_from(state, layer + 1, ops_.upsample_conv2d(pair.sliced(i, i + 1), resample), frames);
      }
      return;
    }
    x = ops_.upsample_conv2d(x, resample);
  }
  frames.push_back(ops_.clamp(blocks_.head(state, "decoder", x), -1.0f, 1.0f));
}

// ------------------------------------------------------------------------------------------------------- encoder

WanVaeEncoder::WanVaeEncoder(ops::Operations& operations, const weights::ModelFiles& files)
    : ops_(operations),
      blocks_(operations, files.vae, "encoder"),
      downsamples_(blocks_.layers("encoder.downsamples")),
      negative_mean_over_std_(
          channel_values(operations, [](std::size_t i) { return -kLatentMean[i] / kLatentStd[i]; })),
      inverse_std_(channel_values(operations, [](std::size_t i) { return 1.0f / kLatentStd[i]; })) {
  // Of the posterior's mean and log variance only the mean is used.
  const Parameter &weight = files.vae.at("conv1.weight"), &bias = files.vae.at("conv1.bias");
  const std::int64_t latents = weight.dim(0) / 2;
  posterior_mean_ = {Parameter(weight.name(), weight.values().sliced(0, latents)),
                     Parameter(bias.name(), bias.values().sliced(0, latents))};
}

Tensor WanVaeEncoder::push(WanVaeState& state, const Tensor& video) const {
  const ops::ProfilePart part(ops_, "encoder");
  require(video.dim(0) % 4 == (state.started ? 0 : 1), "the encoder takes 4k + 1 frames, then multiples of 4");
  Tensor x = blocks_.causal_convolution(state, "encoder.conv1", ops_.cast(video, ops_.compute_type()));
  for (const std::string& name : downsamples_) {
    if (blocks_.has(name + ".residual.0.gamma")) {
      x = blocks_.residual(state, name, x);
      continue;
    }
    x = ops_.conv2d(x, blocks_.convolution(name + ".resample.1"),
                    {.stride = 2, .pad_top = 0, .pad_bottom = 1, .pad_left = 0, .pad_right = 1});
    if (blocks_.has(name + ".time_conv.weight")) x = halve_time(state, name + ".time_conv", x);
  }
  x = blocks_.head(state, "encoder", blocks_.middle(state, "encoder.middle", x));
  state.started = true;
  const Tensor mean = ops_.conv3d({}, ops_.cast(x, ops_.compute_type()), posterior_mean_, {.output = DType::f32});
  return ops_.channel_affine(mean, inverse_std_, negative_mean_over_std_);
}

// Frame 0 passes; of the others, three neighbours (the first shared with the pair before) become one.
Tensor WanVaeEncoder::halve_time(WanVaeState& state, const std::string& name, const Tensor& x) const {
  Tensor& front = state.front[name];
  const ops::ConvWeights weights = blocks_.convolution(name);
  const Tensor last = x.sliced(x.dim(0) - 1, x.dim(0));
  const Tensor previous = std::exchange(front, last);
  if (state.started) return ops_.conv3d(previous, x, weights, {.time_stride = 2});
  if (x.dim(0) == 1) return x;
  const Tensor parts[] = {x.sliced(0, 1), ops_.conv3d({}, x, weights, {.time_stride = 2})};
  return ops_.concatenate(parts);
}

}  // namespace flashvsr::models
