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
  std::int64_t frames = 1;
  for (auto stage = stages_.rbegin(); stage != stages_.rend(); ++stage) stage->last_frames = frames *= stage->frames;
  conv_out1_ = convolution("24");
  conv_out_ = convolution("26");
}

TinyDecoder::TinyDecoder(const TinyDecoder& other, std::size_t slice_bytes) : TinyDecoder(other) {
  slice_bytes_ = slice_bytes;
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

// A frame goes through all later stages before the next one grows. Memories see the same frames in the same order as if
// each stage had finished all frames first. x becomes the decoder's frames from first_frame on.
void TinyDecoder::run_stage(TinyDecoderState& state, std::size_t number, Tensor x, std::int64_t first_frame,
                            const TakeFrame& take, const DecodedFrames& wanted) const {
  const Stage& stage = stages_[number];
  for (std::size_t i = 0; i < 3; ++i) x = mem_block(stage.mem_blocks[i], state.memory[3 * number + i], x);
  if (number + 1 == stages_.size()) {
    // Nothing behind the last memory is remembered.
    for (std::int64_t i = 0; i < stage.frames; ++i) {
      if (first_frame + i >= wanted.begin && first_frame + i < wanted.end) take(to_video(x, i));
    }
    return;
  }
  for (std::int64_t i = 0; i < stage.frames; ++i) {
    // No activation: the MemBlocks of the next stage take the sum as it is.
    Tensor grown = ops_.upsample_grow_conv2d(x, stage.grow, stage.conv, i);
    if (i + 1 == stage.frames) x = {};
    run_stage(state, number + 1, std::move(grown), first_frame + i * stages_[number + 1].last_frames, take, wanted);
  }
}

// What lies behind the last MemBlock, in slices of as many rows as slice_bytes_ allows: x [1, H/2, W/2, C] -> the
// frame-th that it grows into, [1, H, W, 3].
Tensor TinyDecoder::to_video(const Tensor& x, std::int64_t frame) const {
  const Stage& stage = stages_.back();
  const std::int64_t height = x.dim(1), channels = stage.conv.weight.dim(0);
  // The frame, and the same after another convolution.
  const std::int64_t row_values = 2 * 2 * x.dim(2) * channels * 2;
  const auto row_bytes = static_cast<std::int64_t>(static_cast<std::size_t>(row_values) * size_of(x.dtype()));
  const std::int64_t most = std::max<std::int64_t>(static_cast<std::int64_t>(slice_bytes_) / row_bytes, 1);
  const std::int64_t slices = (height + most - 1) / most, rows = (height + slices - 1) / slices;
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0; begin < height; begin += rows) {
    parts.push_back(slice_to_video(x, frame, begin, std::min(height, begin + rows)));
  }
  return ops_.concatenate(parts).reshaped({1, 2 * height, 2 * x.dim(2), 3});
}

// Rows [begin, end) of x [1, H/2, W/2, C] -> rows [2 begin, 2 end) of the frame, [rows, W, 3]. Three convolutions see
// one row more each than they give; only beyond the frame are these zeros.
Tensor TinyDecoder::slice_to_video(const Tensor& x, std::int64_t frame, std::int64_t begin, std::int64_t end) const {
  constexpr std::int64_t kMargin = 2;
  const Stage& stage = stages_.back();
  const std::int64_t height = x.dim(1);
  const std::int64_t first = std::max<std::int64_t>(begin - kMargin, 0), last = std::min(height, end + kMargin);
  const bool top = begin == 0, bottom = end == height;
  constexpr auto kRelu = ops::Activation::relu;
  Tensor y = ops_.upsample_grow_conv2d(rows_of(x, first, last), stage.grow, stage.conv, frame, kRelu);
  // What two more convolutions need; the rows outside of that saw zeros where there are none.
  const std::int64_t from = std::max<std::int64_t>(2 * begin - 2, 0), to = std::min(2 * height, 2 * end + 2);
  const int pad_top = top ? 1 : 0, pad_bottom = bottom ? 1 : 0;
  y = ops_.conv2d(rows_of(y, from - 2 * first, to - 2 * first), conv_out1_,
                  {.pad_top = pad_top, .pad_bottom = pad_bottom, .activation = kRelu});
  y = ops_.conv2d(y, conv_out_, {.pad_top = pad_top, .pad_bottom = pad_bottom, .output = DType::f32});
  y = ops_.affine(y, 2.0f, -1.0f, DType::f32);  // the decoder speaks [0, 1]
  return y.reshaped({y.dim(1), y.dim(2), y.dim(3)});
}

void TinyDecoder::push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent, const TakeFrame& take,
                       const DecodedFrames& wanted) const {
  const ops::ProfilePart part(ops_, "decoder");
  constexpr auto kRelu = ops::Activation::relu;
  Tensor x;
  {
    const Tensor pixels = ops_.space_to_depth(condition, kSpatial, kTemporal, kSoftClamp);
    const Tensor latents = ops_.soft_clamp(ops_.cast(latent, ops_.compute_type()), kSoftClamp);
    x = ops_.conv2d(pixels, conv_in_, {.second = &latents, .activation = kRelu});
  }
  x = ops_.conv2d(x, conv_in2_, {.activation = kRelu});
  run_stage(state, 0, std::move(x), 0, take, wanted);
}

std::vector<Tensor> TinyDecoder::push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent) const {
  std::vector<Tensor> frames;
  push(state, condition, latent, [&frames](Tensor frame) { frames.push_back(std::move(frame)); });
  return frames;
}

}  // namespace flashvsr::models
