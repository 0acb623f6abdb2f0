#include "models/tiny_decoder.h"

#include <string>

namespace flashvsr::models {
namespace {

constexpr float kSoftClamp = 3.0f;
constexpr std::int64_t kSpatial = 8, kTemporal = 4;  // pixels and frames of a latent

// Numbers of the layers in the published checkpoint (an nn.Sequential).
struct StageLayers {
  std::array<int, 3> mem_blocks;
  int grow, conv;
};
constexpr std::array<StageLayers, 3> kStages{{{{5, 6, 7}, 9, 10}, {{11, 12, 13}, 15, 16}, {{17, 18, 19}, 21, 22}}};

}  // namespace

TinyDecoder::TinyDecoder(ops::Operations& operations, const weights::ModelFiles& files) : ops_(operations) {
  const WeightMap& weights = files.decoder;
  const auto convolution = [&](const std::string& layer) {
    const std::string name = "decoder." + layer;
    const auto bias = weights.find(name + ".bias");
    return ops::ConvWeights{weights.at(name + ".weight"), bias == weights.end() ? Parameter() : bias->second};
  };
  conv_in_ = convolution("1");
  conv_in2_ = convolution("3");
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      const std::string number = std::to_string(kStages[i].mem_blocks[j]);
      stages_[i].mem_blocks[j].conv = {convolution(number + ".conv.0"), convolution(number + ".conv.2"),
                                       convolution(number + ".conv.4")};
    }
    stages_[i].grow = weights.at("decoder." + std::to_string(kStages[i].grow) + ".conv.weight");
    stages_[i].conv = convolution(std::to_string(kStages[i].conv));
    stages_[i].frames = stages_[i].grow.dim(0) / stages_[i].grow.dim(1);
  }
  conv_out1_ = convolution("24");
  conv_out_ = convolution("26");
}

// ReLU(conv(ReLU(conv(ReLU(conv(x ++ previous x))))) + x)
Tensor TinyDecoder::mem_block(const MemBlock& block, Tensor& memory, const Tensor& x) const {
  if (!memory) memory = ops_.zeros(x.shape(), x.dtype());
  constexpr auto kRelu = ops::Activation::relu;
  const Tensor y = ops_.conv2d(x, block.conv[0], {.second = &memory, .activation = kRelu});
  const Tensor z = ops_.conv2d(y, block.conv[1], {.activation = kRelu});
  memory = x;
  return ops_.conv2d(z, block.conv[2], {.residual = &x, .activation = kRelu});
}

std::vector<Tensor> TinyDecoder::push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent) const {
  const ops::ProfilePart part(ops_, "decoder");
  constexpr auto kRelu = ops::Activation::relu;
  const Tensor pixels = ops_.space_to_depth(condition, kSpatial, kTemporal, kSoftClamp);
  const Tensor latents = ops_.soft_clamp(ops_.cast(latent, ops_.compute_type()), kSoftClamp);
  const Tensor x = ops_.conv2d(pixels, conv_in_, {.second = &latents, .activation = kRelu});
  std::vector<Tensor> frames{ops_.conv2d(x, conv_in2_, {.activation = kRelu})};

  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const Stage& stage = stages_[i];
    // Only the last stage is followed by a ReLU; the MemBlocks of the others take the sum as it is.
    const auto activation = i + 1 == stages_.size() ? kRelu : ops::Activation::none;
    std::vector<Tensor> grown;
    for (Tensor& frame : frames) {
      Tensor y = std::move(frame);
      for (std::size_t j = 0; j < 3; ++j) y = mem_block(stage.mem_blocks[j], state.memory[3 * i + j], y);
      for (Tensor& part_frame : ops_.upsample_grow_conv2d(y, stage.grow, stage.conv, stage.frames, activation)) {
        grown.push_back(std::move(part_frame));
      }
    }
    frames = std::move(grown);
  }
  for (Tensor& frame : frames) {
    const Tensor y = ops_.conv2d(frame, conv_out1_, {.activation = kRelu});
    const Tensor video = ops_.conv2d(y, conv_out_, {.output = DType::f32});
    frame = ops_.affine(video, 2.0f, -1.0f, DType::f32);  // the decoder speaks [0, 1]
  }
  return frames;
}

}  // namespace flashvsr::models
