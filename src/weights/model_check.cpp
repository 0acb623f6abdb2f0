// Sizes of a model from its tensors, and strict names and shapes.
#include "weights/architecture.h"
#include "weights/bytes.h"
#include "weights/model_files.h"

#include <algorithm>
#include <charconv>

namespace flashvsr::weights {
namespace {

constexpr std::int64_t kMostLayers = 1024;
constexpr std::int64_t kPublishedHeadDim = 128;

bool is_weight_type(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16 || type == DType::f64;
}

// One network's tensors with the words that errors use for them.
class Network {
 public:
  Network(const WeightMap& weights, std::string file, std::string prefix)
      : weights_(weights), file_(std::move(file)), prefix_(std::move(prefix)) {}

  // Extent of one dimension of the tensor, which must have `rank`. Sizes are at least 1.
  std::int64_t size(const std::string& name, std::size_t rank, std::ptrdiff_t index) const {
    const auto found = weights_.find(name);
    if (found == weights_.end()) fail(ErrorCode::format, "{}: tensor {} is missing", file_, label(name));
    const Shape& shape = found->second.shape();
    if (shape.rank() != rank) {
      fail(ErrorCode::format, "{}: tensor {}: expected {} dimensions, found {}", file_, label(name), rank,
           shape.to_string());
    }
    if (shape[index] < 1) {
      fail(ErrorCode::format, "{}: tensor {} is empty: {}", file_, label(name), shape.to_string());
    }
    return shape[index];
  }

  // The highest N of "prefix.N.", plus 1.
  std::int64_t count_numbered(std::string_view prefix) const {
    std::int64_t count = 0;
    for (auto it = weights_.lower_bound(prefix); it != weights_.end() && it->first.starts_with(prefix); ++it) {
      const std::string_view rest = std::string_view(it->first).substr(prefix.size());
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
      if (error == std::errc() && number >= count && number < kMostLayers) count = number + 1;
    }
    return count;
  }

  void check(const ShapeMap& expected) const {
    std::string first_missing, first_unknown;
    std::int64_t missing = 0, unknown = 0;
    for (const auto& [name, shape] : expected) {
      if (!weights_.contains(name) && missing++ == 0) first_missing = name;
    }
    for (const auto& [name, parameter] : weights_) {
      if (!expected.contains(name) && unknown++ == 0) first_unknown = name;
    }
    const auto others = [](std::int64_t count) { return count > 1 ? fmt::format(" (and {} more)", count - 1) : ""; };
    if (missing > 0) {
      fail(ErrorCode::format, "{}: tensor {} is missing{}{}", file_, label(first_missing), others(missing),
           unknown > 0 ? fmt::format("; {} is not known{}", label(first_unknown), others(unknown)) : "");
    }
    if (unknown > 0) {
      fail(ErrorCode::format, "{}: tensor {} is not part of this network{}", file_, label(first_unknown),
           others(unknown));
    }
    for (const auto& [name, shape] : expected) {
      const Parameter& parameter = weights_.find(name)->second;
      if (parameter.shape() != shape) {
        fail(ErrorCode::format, "{}: tensor {}: expected {}, found {}", file_, label(name), shape.to_string(),
             parameter.shape().to_string());
      }
      if (!is_weight_type(parameter.dtype())) {
        fail(ErrorCode::format, "{}: tensor {}: expected floating point values, found {}", file_, label(name),
             name_of(parameter.dtype()));
      }
    }
  }

 private:
  std::string label(const std::string& name) const { return quote(prefix_ + name); }

  const WeightMap& weights_;
  std::string file_, prefix_;
};

// Takes over what the tensors say; what the configuration said before must agree.
class SizeSetter {
 public:
  explicit SizeSetter(std::string origin) : origin_(std::move(origin)) {}

  void set(std::int64_t& value, std::int64_t found, const char* key) const {
    if (value != 0 && value != found) {
      fail(ErrorCode::format, "{}: \"{}\" is {}, but the tensors are made for {}", origin_, key, value, found);
    }
    value = found;
  }

 private:
  std::string origin_;
};

void size_heads(ModelConfig& config, const std::string& origin) {
  if (config.heads == 0) {
    if (config.dim % kPublishedHeadDim != 0) {
      fail(ErrorCode::format,
           "{}: \"num_heads\" is missing, and the width of {} is no multiple of the published head size {}", origin,
           config.dim, kPublishedHeadDim);
    }
    config.heads = config.dim / kPublishedHeadDim;
  }
  if (config.dim % config.heads != 0 || config.dim / config.heads % 2 != 0) {
    fail(ErrorCode::format, "{}: \"num_heads\" of {} does not cut the width of {} into heads of an even size", origin,
         config.heads, config.dim);
  }
}

}  // namespace

void check_and_size(ModelFiles& files, const std::filesystem::path& origin) {
  const bool folder = std::filesystem::is_directory(origin);
  const auto file_of = [&](const char* name) { return folder ? (origin / name).string() : origin.string(); };
  const auto network = [&](const WeightMap& weights, const char* name, const char* prefix) {
    return Network(weights, file_of(name), folder ? "" : prefix);
  };
  ModelConfig& config = files.config;
  const std::string configuration = file_of("config.json");
  const SizeSetter sizes(configuration);

  const Network dit = network(files.dit, kDitFile, "dit.");
  sizes.set(config.dim, dit.size("patch_embedding.weight", 5, 0), "dim");
  sizes.set(config.layers, dit.count_numbered("blocks."), "num_layers");
  if (config.layers == 0) fail(ErrorCode::format, "{}: the DiT has no blocks", file_of(kDitFile));
  sizes.set(config.ffn_dim, dit.size("blocks.0.ffn.0.weight", 2, 0), "ffn_dim");
  sizes.set(config.text_dim, dit.size("text_embedding.0.weight", 2, 1), "text_dim");
  sizes.set(config.freq_dim, dit.size("time_embedding.0.weight", 2, 1), "freq_dim");
  size_heads(config, configuration);
  if (config.freq_dim % 2 != 0) {
    fail(ErrorCode::format, "{}: the time embedding has an odd number of frequencies: {}", file_of(kDitFile),
         config.freq_dim);
  }
  dit.check(dit_shapes(config));

  const Network projector = network(files.projector, kProjectorFile, "projector.");
  sizes.set(config.lq_hidden[0], projector.size("conv1.weight", 5, 0), "lq_hidden");
  sizes.set(config.lq_hidden[1], projector.size("conv2.weight", 5, 0), "lq_hidden");
  projector.check(projector_shapes(config));

  if (files.decoder.empty() && files.vae.empty()) {
    fail(ErrorCode::format, "{}: has neither the tiny decoder ({}) nor the Wan VAE ({})", origin.string(), kDecoderFile,
         kVaeFile);
  }
  if (files.decoder.empty()) {
    config.tc_channels = {};
  } else {
    const Network decoder = network(files.decoder, kDecoderFile, "decoder.");
    constexpr const char* kFirstOfWidth[] = {"decoder.1.weight", "decoder.10.weight", "decoder.16.weight",
                                             "decoder.22.weight"};
    for (std::size_t i = 0; i < 4; ++i)
      sizes.set(config.tc_channels[i], decoder.size(kFirstOfWidth[i], 4, 0), "tc_channels");
    decoder.check(decoder_shapes(config));
  }
  if (files.vae.empty()) {
    config.vae_dim = 0;
  } else {
    const Network vae = network(files.vae, kVaeFile, "vae.");
    sizes.set(config.vae_dim, vae.size("encoder.conv1.weight", 5, 0), "vae_dim");
    vae.check(vae_shapes(config));
  }

  const WeightMap prompt{{"prompt", files.prompt}};
  const Network prompt_file(prompt, file_of(kPromptFile), "");
  sizes.set(config.text_tokens, prompt_file.size("prompt", 2, 0), "text_tokens");
  prompt_file.check({{"prompt", {config.text_tokens, config.text_dim}}});
}

}  // namespace flashvsr::weights
