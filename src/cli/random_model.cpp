#include "cli/random_model.h"

#include "core/error.h"
#include "core/threads.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace flashvsr::cli {
namespace {

// SplitMix64: a good hash of a counter, so that weights can be filled in parallel.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Sum of four uniform 16-bit values, scaled to deviation 1: near enough to a Gaussian.
float draw(std::uint64_t counter) {
  const std::uint64_t bits = mix(counter);
  const auto sum =
      static_cast<double>((bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48));
  return static_cast<float>((sum / 65536.0 - 2.0) * std::sqrt(3.0));
}

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : seed_(seed) {}

  void values(WeightMap& weights, const std::string& name, const Shape& shape, double deviation, double mean) {
    Tensor tensor = allocate_host(shape, DType::bf16);
    auto* data = tensor.mutable_data<BFloat16>();
    const std::uint64_t stream = mix(seed_ + 0x1000 * ++made_);
    parallel_for(tensor.elements(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const double value = mean + deviation * static_cast<double>(draw(stream + static_cast<std::uint64_t>(i)));
        data[i] = BFloat16(static_cast<float>(value));
      }
    });
    weights.insert_or_assign(name, Parameter(name, tensor));
  }

  void layer(WeightMap& weights, const std::string& name, const Shape& shape, bool bias = true, double gain = 1) {
    const std::int64_t outputs = shape[0], fan_in = shape.elements() / outputs;
    values(weights, name + ".weight", shape, gain / std::sqrt(static_cast<double>(fan_in)), 0);
    if (bias) values(weights, name + ".bias", {outputs}, 0.05, 0);
  }

  void gain(WeightMap& weights, const std::string& name, const Shape& shape) { values(weights, name, shape, 0.2, 1); }

 private:
  std::uint64_t seed_, made_ = 0;
};

void make_dit(const weights::ModelConfig& config, Maker& make, WeightMap& weights) {
  const std::int64_t dim = config.dim;
  make.layer(weights, "patch_embedding", {dim, 16, 1, 2, 2});
  make.layer(weights, "text_embedding.0", {dim, config.text_dim});
  make.layer(weights, "text_embedding.2", {dim, dim});
  make.layer(weights, "time_embedding.0", {dim, config.freq_dim});
  make.layer(weights, "time_embedding.2", {dim, dim});
  make.layer(weights, "time_projection.1", {6 * dim, dim});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string name = fmt::format("blocks.{}.", layer);
    make.values(weights, name + "modulation", {1, 6, dim}, 0.1, 0);
    for (const char* kind : {"self_attn.", "cross_attn."}) {
      for (const char* part : {"q", "k", "v", "o"}) make.layer(weights, name + kind + part, {dim, dim});
      for (const char* part : {"norm_q", "norm_k"}) make.gain(weights, name + kind + part + ".weight", {dim});
    }
    make.gain(weights, name + "norm3.weight", {dim});
    make.values(weights, name + "norm3.bias", {dim}, 0.1, 0);
    make.layer(weights, name + "ffn.0", {config.ffn_dim, dim});
    make.layer(weights, name + "ffn.2", {dim, config.ffn_dim});
  }
  make.values(weights, "head.modulation", {1, 2, dim}, 0.1, 0);
  make.layer(weights, "head.head", {64, dim});
}

void make_projector(const weights::ModelConfig& config, Maker& make, WeightMap& weights) {
  const auto [first, second] = config.lq_hidden;
  make.layer(weights, "conv1", {first, 768, 4, 3, 3});
  make.gain(weights, "norm1.gamma", {first, 1, 1, 1});
  make.layer(weights, "conv2", {second, first, 4, 3, 3});
  make.gain(weights, "norm2.gamma", {second, 1, 1, 1});
  make.layer(weights, "linear_layers.0", {config.dim, second});
}

void make_decoder(const weights::ModelConfig& config, Maker& make, WeightMap& weights) {
  const auto [c0, c1, c2, c3] = config.tc_channels;
  make.layer(weights, "decoder.1", {c0, 784, 3, 3});
  make.layer(weights, "decoder.3", {c0, c0, 3, 3}, false);
  struct Stage {
    std::array<int, 3> blocks;
    std::int64_t channels;
    int grow;
    std::int64_t frames;
    int conv;
    std::int64_t next;
  };
  for (const Stage& stage : {Stage{{5, 6, 7}, c0, 9, 1, 10, c1}, Stage{{11, 12, 13}, c1, 15, 2, 16, c2},
                             Stage{{17, 18, 19}, c2, 21, 2, 22, c3}}) {
    const std::int64_t c = stage.channels;
    for (const int block : stage.blocks) {
      make.layer(weights, fmt::format("decoder.{}.conv.0", block), {c, 2 * c, 3, 3});
      make.layer(weights, fmt::format("decoder.{}.conv.2", block), {c, c, 3, 3});
      make.layer(weights, fmt::format("decoder.{}.conv.4", block), {c, c, 3, 3}, true, 0.3);
    }
    make.layer(weights, fmt::format("decoder.{}.conv", stage.grow), {stage.frames * c, c, 1, 1}, false);
    make.layer(weights, fmt::format("decoder.{}", stage.conv), {stage.next, c, 3, 3}, false);
  }
  make.layer(weights, "decoder.24", {c3, c3, 3, 3}, false);
  make.layer(weights, "decoder.26", {3, c3, 3, 3});
}

void residual_block(Maker& make, WeightMap& weights, const std::string& name, std::int64_t in, std::int64_t out) {
  make.gain(weights, name + ".residual.0.gamma", {in, 1, 1, 1});
  make.layer(weights, name + ".residual.2", {out, in, 3, 3, 3}, true, 0.6);
  make.gain(weights, name + ".residual.3.gamma", {out, 1, 1, 1});
  make.layer(weights, name + ".residual.6", {out, out, 3, 3, 3}, true, 0.6);
  if (in != out) make.layer(weights, name + ".shortcut", {out, in, 1, 1, 1});
}

void middle_and_head(Maker& make, WeightMap& weights, const std::string& side, std::int64_t middle, std::int64_t last,
                     std::int64_t outputs) {
  residual_block(make, weights, side + ".middle.0", middle, middle);
  make.gain(weights, side + ".middle.1.norm.gamma", {middle, 1, 1});
  make.layer(weights, side + ".middle.1.to_qkv", {3 * middle, middle, 1, 1});
  make.layer(weights, side + ".middle.1.proj", {middle, middle, 1, 1});
  residual_block(make, weights, side + ".middle.2", middle, middle);
  make.gain(weights, side + ".head.0.gamma", {last, 1, 1, 1});
  make.layer(weights, side + ".head.2", {outputs, last, 3, 3, 3}, true, 0.6);
}

void make_vae_encoder(std::int64_t d, Maker& make, WeightMap& weights) {
  make.layer(weights, "encoder.conv1", {d, 3, 3, 3, 3});
  std::int64_t channels = d;
  int number = 0;
  // Output channels of a level, and whether it ends with a step down in space, and in time.
  struct Level {
    std::int64_t outputs;
    bool down, down_in_time;
  };
  for (const Level& level :
       {Level{d, true, false}, Level{2 * d, true, true}, Level{4 * d, true, true}, Level{4 * d, false, false}}) {
    for (int i = 0; i < 2; ++i) {
      residual_block(make, weights, fmt::format("encoder.downsamples.{}", number++), channels, level.outputs);
      channels = level.outputs;
    }
    if (!level.down) continue;
    const std::string name = fmt::format("encoder.downsamples.{}", number++);
    make.layer(weights, name + ".resample.1", {channels, channels, 3, 3});
    if (level.down_in_time) make.layer(weights, name + ".time_conv", {channels, channels, 3, 1, 1});
  }
  middle_and_head(make, weights, "encoder", 4 * d, 4 * d, 32);
}

void make_vae_decoder(std::int64_t d, Maker& make, WeightMap& weights) {
  make.layer(weights, "decoder.conv1", {4 * d, 16, 3, 3, 3});
  int number = 0;
  struct Level {
    std::int64_t inputs, outputs;
    bool up, up_in_time;
  };
  for (const Level& level : {Level{4 * d, 4 * d, true, true}, Level{2 * d, 4 * d, true, true},
                             Level{2 * d, 2 * d, true, false}, Level{d, d, false, false}}) {
    for (int i = 0; i < 3; ++i) {
      const std::int64_t inputs = i == 0 ? level.inputs : level.outputs;
      residual_block(make, weights, fmt::format("decoder.upsamples.{}", number++), inputs, level.outputs);
    }
    if (!level.up) continue;
    const std::string name = fmt::format("decoder.upsamples.{}", number++);
    make.layer(weights, name + ".resample.1", {level.outputs / 2, level.outputs, 3, 3});
    if (level.up_in_time) make.layer(weights, name + ".time_conv", {2 * level.outputs, level.outputs, 3, 1, 1});
  }
  middle_and_head(make, weights, "decoder", 4 * d, d, 3);
}

void require_sizes(const weights::ModelConfig& config) {
  const bool complete = config.dim > 0 && config.heads > 0 && config.ffn_dim > 0 && config.layers > 0 &&
                        config.text_dim > 0 && config.text_tokens > 0 && config.freq_dim > 0 &&
                        config.lq_hidden[0] > 0 && config.lq_hidden[1] > 0 && config.tc_channels[0] > 0 &&
                        config.tc_channels[1] > 0 && config.tc_channels[2] > 0 && config.tc_channels[3] > 0;
  if (!complete) {
    fail(ErrorCode::invalid_argument,
         "the configuration of {} lacks a size: dim, num_heads, ffn_dim, num_layers, text_dim, text_tokens, freq_dim, "
         "lq_hidden and tc_channels are all needed",
         config.name);
  }
}

}  // namespace

weights::ModelConfig published_config() {
  weights::ModelConfig config;
  config.name = "published sizes, random weights";
  config.dim = 1536, config.heads = 12, config.ffn_dim = 8960, config.layers = 30;
  config.text_dim = 4096, config.text_tokens = 512, config.freq_dim = 256;
  config.lq_hidden = {2048, 3072};
  config.tc_channels = {512, 256, 128, 128};
  return config;
}

weights::ModelConfig nano_config() {
  weights::ModelConfig config;
  config.name = "nano sizes, random weights";
  config.dim = 256, config.heads = 2, config.ffn_dim = 768, config.layers = 3;
  config.text_dim = 64, config.text_tokens = 8, config.freq_dim = 256;
  config.lq_hidden = {96, 160};
  config.tc_channels = {128, 128, 32, 16};
  config.local_range = 3;
  config.color_fix = "wavelet";
  return config;
}

weights::ModelConfig read_config(const std::string& name) {
  if (name == "published") return published_config();
  if (name == "nano") return nano_config();
  std::ifstream file(name);
  if (!file) fail(ErrorCode::io, "{}: neither \"published\", \"nano\", nor a JSON file that can be opened", name);
  const nlohmann::json object = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) fail(ErrorCode::format, "{}: is not a JSON object", name);
  weights::ModelConfig config;
  weights::update_from_json(config, object, name);
  return config;
}

weights::ModelFiles random_model(const weights::ModelConfig& config, std::uint64_t seed) {
  require_sizes(config);
  weights::ModelFiles files;
  files.config = config;
  Maker make(seed);
  make_dit(config, make, files.dit);
  make_projector(config, make, files.projector);
  make_decoder(config, make, files.decoder);
  if (config.vae_dim > 0) {
    make_vae_encoder(config.vae_dim, make, files.vae);
    make.layer(files.vae, "conv1", {32, 32, 1, 1, 1});
    make.layer(files.vae, "conv2", {16, 16, 1, 1, 1});
    make_vae_decoder(config.vae_dim, make, files.vae);
  }
  WeightMap prompt;
  make.values(prompt, "prompt", {config.text_tokens, config.text_dim}, 1, 0);
  files.prompt = prompt.at("prompt");
  weights::check_and_size(files, config.name);
  return files;
}

}  // namespace flashvsr::cli
