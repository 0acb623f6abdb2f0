#include "weights/architecture.h"

namespace flashvsr::weights {
namespace {

constexpr std::int64_t kLatentChannels = 16;
constexpr std::int64_t kPixelsOfToken = 3 * 16 * 16;     // space-to-depth of the projector
constexpr std::int64_t kPixelsOfLatent = 3 * 4 * 8 * 8;  // and of the tiny decoder's condition

class ShapeMapMaker {
 public:
  void add(const std::string& name, const Shape& shape) { shapes_.emplace(name, shape); }

  // A linear layer or a convolution: weight, and a bias of as many values as the weight has outputs.
  void layer(const std::string& name, const Shape& shape, bool bias = true) {
    add(name + ".weight", shape);
    if (bias) add(name + ".bias", {shape[0]});
  }

  ShapeMap take() { return std::move(shapes_); }

 private:
  ShapeMap shapes_;
};

// One half of the Wan VAE: `side` is "encoder" or "decoder", d its base width.
class VaeSide {
 public:
  VaeSide(ShapeMapMaker& make, std::string side, std::int64_t d) : make_(make), side_(std::move(side)), d_(d) {}

  void residual(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
    make_.add(name + ".residual.0.gamma", {inputs, 1, 1, 1});
    make_.layer(name + ".residual.2", {outputs, inputs, 3, 3, 3});
    make_.add(name + ".residual.3.gamma", {outputs, 1, 1, 1});
    make_.layer(name + ".residual.6", {outputs, outputs, 3, 3, 3});
    if (inputs != outputs) make_.layer(name + ".shortcut", {outputs, inputs, 1, 1, 1});
  }

  void middle(std::int64_t channels) {
    const std::string name = side_ + ".middle";
    residual(name + ".0", channels, channels);
    make_.add(name + ".1.norm.gamma", {channels, 1, 1});
    make_.layer(name + ".1.to_qkv", {3 * channels, channels, 1, 1});
    make_.layer(name + ".1.proj", {channels, channels, 1, 1});
    residual(name + ".2", channels, channels);
  }

  void head(std::int64_t channels, std::int64_t outputs) {
    make_.add(side_ + ".head.0.gamma", {channels, 1, 1, 1});
    make_.layer(side_ + ".head.2", {outputs, channels, 3, 3, 3});
  }

  // Two residual blocks a level; space halves after the first three levels, time after the second and third.
  void encoder() {
    make_.layer(side_ + ".conv1", {d_, 3, 3, 3, 3});
    const std::int64_t widths[] = {d_, 2 * d_, 4 * d_, 4 * d_};
    std::int64_t channels = d_;
    int number = 0;
    const auto next = [&] { return fmt::format("{}.downsamples.{}", side_, number++); };
    for (int level = 0; level < 4; ++level) {
      for (int block = 0; block < 2; ++block) {
        residual(next(), channels, widths[level]);
        channels = widths[level];
      }
      if (level == 3) break;
      const std::string name = next();
      make_.layer(name + ".resample.1", {channels, channels, 3, 3});
      if (level > 0) make_.layer(name + ".time_conv", {channels, channels, 3, 1, 1});
    }
    middle(channels);
    head(channels, 2 * kLatentChannels);
  }

  // Three residual blocks a level; space doubles after the first three levels and halves the width, time doubles after
  // the first two.
  void decoder() {
    const std::int64_t widths[] = {4 * d_, 4 * d_, 2 * d_, d_};
    make_.layer(side_ + ".conv1", {widths[0], kLatentChannels, 3, 3, 3});
    middle(widths[0]);
    std::int64_t channels = widths[0];
    int number = 0;
    const auto next = [&] { return fmt::format("{}.upsamples.{}", side_, number++); };
    for (int level = 0; level < 4; ++level) {
      for (int block = 0; block < 3; ++block) {
        residual(next(), channels, widths[level]);
        channels = widths[level];
      }
      if (level == 3) break;
      const std::string name = next();
      make_.layer(name + ".resample.1", {channels / 2, channels, 3, 3});
      if (level < 2) make_.layer(name + ".time_conv", {2 * channels, channels, 3, 1, 1});
      channels /= 2;
    }
    head(channels, 3);
  }

 private:
  ShapeMapMaker& make_;
  std::string side_;
  std::int64_t d_;
};

}  // namespace

ShapeMap dit_shapes(const ModelConfig& config) {
  ShapeMapMaker make;
  const std::int64_t dim = config.dim;
  make.layer("patch_embedding", {dim, kLatentChannels, 1, 2, 2});
  make.layer("text_embedding.0", {dim, config.text_dim});
  make.layer("text_embedding.2", {dim, dim});
  make.layer("time_embedding.0", {dim, config.freq_dim});
  make.layer("time_embedding.2", {dim, dim});
  make.layer("time_projection.1", {6 * dim, dim});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string name = fmt::format("blocks.{}.", layer);
    make.add(name + "modulation", {1, 6, dim});
    for (const char* kind : {"self_attn.", "cross_attn."}) {
      for (const char* part : {"q", "k", "v", "o"}) make.layer(name + kind + part, {dim, dim});
      for (const char* part : {"norm_q", "norm_k"}) make.add(name + kind + part + ".weight", {dim});
    }
    make.layer(name + "norm3", {dim});
    make.layer(name + "ffn.0", {config.ffn_dim, dim});
    make.layer(name + "ffn.2", {dim, config.ffn_dim});
  }
  make.add("head.modulation", {1, 2, dim});
  make.layer("head.head", {4 * kLatentChannels, dim});
  return make.take();
}

ShapeMap projector_shapes(const ModelConfig& config) {
  ShapeMapMaker make;
  const auto [first, second] = config.lq_hidden;
  make.layer("conv1", {first, kPixelsOfToken, 4, 3, 3});
  make.add("norm1.gamma", {first, 1, 1, 1});
  make.layer("conv2", {second, first, 4, 3, 3});
  make.add("norm2.gamma", {second, 1, 1, 1});
  make.layer("linear_layers.0", {config.dim, second});
  return make.take();
}

ShapeMap decoder_shapes(const ModelConfig& config) {
  // The numbers of the published checkpoint (an nn.Sequential). `frames`: that TGrow makes of one.
  struct Stage {
    int first_mem_block, grow, conv;
    std::int64_t frames;
  };
  constexpr Stage kStages[] = {{5, 9, 10, 1}, {11, 15, 16, 2}, {17, 21, 22, 2}};
  ShapeMapMaker make;
  const std::array<std::int64_t, 4>& c = config.tc_channels;
  make.layer("decoder.1", {c[0], kPixelsOfLatent + kLatentChannels, 3, 3});
  make.layer("decoder.3", {c[0], c[0], 3, 3}, false);
  for (std::size_t i = 0; i < 3; ++i) {
    const Stage& stage = kStages[i];
    for (int block = 0; block < 3; ++block) {
      const std::string name = fmt::format("decoder.{}.conv.", stage.first_mem_block + block);
      make.layer(name + "0", {c[i], 2 * c[i], 3, 3});
      make.layer(name + "2", {c[i], c[i], 3, 3});
      make.layer(name + "4", {c[i], c[i], 3, 3});
    }
    make.layer(fmt::format("decoder.{}.conv", stage.grow), {stage.frames * c[i], c[i], 1, 1}, false);
    make.layer(fmt::format("decoder.{}", stage.conv), {c[i + 1], c[i], 3, 3}, false);
  }
  make.layer("decoder.24", {c[3], c[3], 3, 3}, false);
  make.layer("decoder.26", {3, c[3], 3, 3});
  return make.take();
}

ShapeMap vae_shapes(const ModelConfig& config) {
  ShapeMapMaker make;
  VaeSide(make, "encoder", config.vae_dim).encoder();
  make.layer("conv1", {2 * kLatentChannels, 2 * kLatentChannels, 1, 1, 1});
  make.layer("conv2", {kLatentChannels, kLatentChannels, 1, 1, 1});
  VaeSide(make, "decoder", config.vae_dim).decoder();
  return make.take();
}

}  // namespace flashvsr::weights
