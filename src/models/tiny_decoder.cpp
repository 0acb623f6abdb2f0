#include "models/tiny_decoder.h"

#include <algorithm>
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

// Rows [begin, end) of x [1, H, W, C].
Tensor rows_of(const Tensor& x, std::int64_t begin, std::int64_t end) {
  const Tensor rows = x.reshaped({x.dim(1), x.dim(2), x.dim(3)}).sliced(begin, end);
  return rows.reshaped({1, end - begin, x.dim(2), x.dim(3)});
}

}  // namespace

TinyDecoder::TinyDecoder(ops::Operations& operations, const weights::ModelFiles& files, std::size_t slice_bytes)
    : ops_(operations), slice_bytes_(slice_bytes) {
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
  Tensor y = ops_.conv2d(x, block.conv[0], {.second = &memory, .activation = kRelu});
  memory = x;
  y = ops_.conv2d(y, block.conv[1], {.activation = kRelu});
  return ops_.conv2d(y, block.conv[2], {.residual = &x, .activation = kRelu});
}

// A frame goes through all later stages before the next one enters them. Memories see the same frames in the same order
// as if each stage had finished all frames first.
void TinyDecoder::run_stage(TinyDecoderState& state, std::size_t number, Tensor x, const TakeFrame& take) const {
  const Stage& stage = stages_[number];
  for (std::size_t i = 0; i < 3; ++i) x = mem_block(stage.mem_blocks[i], state.memory[3 * number + i], x);
  if (number + 1 == stages_.size()) {
    std::vector<Tensor> video = to_video(x);
    x = {};
    for (Tensor& frame : video) take(std::move(frame));
    return;
  }
  // No activation: the MemBlocks of the next stage take the sum as it is.
  std::vector<Tensor> grown = ops_.upsample_grow_conv2d(x, stage.grow, stage.conv, stage.frames);
  x = {};
  for (Tensor& frame : grown) run_stage(state, number + 1, std::move(frame), take);
}

// What lies behind the last MemBlock, in slices of as many rows as slice_bytes_ allows: x [1, H/2, W/2, C] -> frames
// [1, H, W, 3].
std::vector<Tensor> TinyDecoder::to_video(const Tensor& x) const {
  const Stage& stage = stages_.back();
  const std::int64_t height = x.dim(1), channels = stage.conv.weight.dim(0);
  // The frames that x grows into, and one after another convolution.
  const std::int64_t row_values = 2 * 2 * x.dim(2) * channels * (stage.frames + 1);
  const auto row_bytes = static_cast<std::int64_t>(static_cast<std::size_t>(row_values) * size_of(x.dtype()));
  const std::int64_t most = std::max<std::int64_t>(static_cast<std::int64_t>(slice_bytes_) / row_bytes, 1);
  const std::int64_t slices = (height + most - 1) / most, rows = (height + slices - 1) / slices;
  std::vector<std::vector<Tensor>> parts(static_cast<std::size_t>(stage.frames));
  for (std::int64_t begin = 0; begin < height; begin += rows) {
    std::vector<Tensor> slice = slice_to_video(x, begin, std::min(height, begin + rows));
    for (std::size_t frame = 0; frame < parts.size(); ++frame) parts[frame].push_back(std::move(slice[frame]));
  }
  std::vector<Tensor> video;
  for (std::vector<Tensor>& frame : parts) {
    video.push_back(ops_.concatenate(frame).reshaped({1, 2 * height, 2 * x.dim(2), 3}));
    frame.clear();
  }
  return video;
}

// Rows [begin, end) of x [1, H/2, W/2, C] -> rows [2 begin, 2 end) of the frames, [rows, W, 3]. Three convolutions see
// one row more each than they give; only beyond the frame are these zeros.
std::vector<Tensor> TinyDecoder::slice_to_video(const Tensor& x, std::int64_t begin, std::int64_t end) const {
  constexpr std::int64_t kMargin = 2;
  const Stage& stage = stages_.back();
  const std::int64_t height = x.dim(1);
  const std::int64_t first = std::max<std::int64_t>(begin - kMargin, 0), last = std::min(height, end + kMargin);
  const bool top = begin == 0, bottom = end == height;
  constexpr auto kRelu = ops::Activation::relu;
  std::vector<Tensor> frames =
      ops_.upsample_grow_conv2d(rows_of(x, first, last), stage.grow, stage.conv, stage.frames, kRelu);
  // What two more convolutions need; the rows outside of that saw zeros where there are none.
  const std::int64_t from = std::max<std::int64_t>(2 * begin - 2, 0), to = std::min(2 * height, 2 * end + 2);
  for (Tensor& frame : frames) {
    const int pad_top = top ? 1 : 0, pad_bottom = bottom ? 1 : 0;
    Tensor y = ops_.conv2d(rows_of(frame, from - 2 * first, to - 2 * first), conv_out1_,
                           {.pad_top = pad_top, .pad_bottom = pad_bottom, .activation = kRelu});
    frame = {};
    y = ops_.conv2d(y, conv_out_, {.pad_top = pad_top, .pad_bottom = pad_bottom, .output = DType::f32});
    y = ops_.affine(y, 2.0f, -1.0f, DType::f32);  // the decoder speaks [0, 1]
    frame = y.reshaped({y.dim(1), y.dim(2), y.dim(3)});
  }
  return frames;
}

void TinyDecoder::push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent,
                       const TakeFrame& take) const {
  const ops::ProfilePart part(ops_, "decoder");
  constexpr auto kRelu = ops::Activation::relu;
  Tensor x;
  {
    const Tensor pixels = ops_.space_to_depth(condition, kSpatial, kTemporal, kSoftClamp);
    const Tensor latents = ops_.soft_clamp(ops_.cast(latent, ops_.compute_type()), kSoftClamp);
    x = ops_.conv2d(pixels, conv_in_, {.second = &latents, .activation = kRelu});
  }
  x = ops_.conv2d(x, conv_in2_, {.activation = kRelu});
  run_stage(state, 0, std::move(x), take);
}

std::vector<Tensor> TinyDecoder::push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent) const {
  std::vector<Tensor> frames;
  push(state, condition, latent, [&frames](Tensor frame) { frames.push_back(std::move(frame)); });
  return frames;
}

}  // namespace flashvsr::models
