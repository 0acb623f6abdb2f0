// A model as its weights and configuration: from a folder of published files or from one packed file.
#pragma once

#include "core/parameter.h"

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace flashvsr::weights {

// The two published projectors. Their tensors are alike, so the variant cannot be seen in them.
enum class Variant : std::uint8_t { v1, v1_1 };

std::string to_string(Variant variant);                  // "v1", "v1.1"
std::optional<Variant> parse_variant(std::string_view);  // accepts exactly those

// Sizes come from the tensors; what tensors cannot say comes from config.json or the packed file's metadata.
struct ModelConfig {
  std::string name = "unnamed";
  Variant variant = Variant::v1_1;
  // DiT
  std::int64_t dim = 0, heads = 0, ffn_dim = 0, layers = 0, text_dim = 0, text_tokens = 0, freq_dim = 0;
  // LR projector
  std::array<std::int64_t, 2> lq_hidden{};
  // Tiny conditional decoder; zeros if the model has none
  std::array<std::int64_t, 4> tc_channels{};
  // Wan VAE's base width; 0: the model has none
  std::int64_t vae_dim = 0;
  // Recommended settings (the published ones where the file is silent)
  std::int64_t scale = 4;
  double sparse_ratio = 2.0;
  std::int64_t local_range = 11;
  std::int64_t kv_ratio = 3;
  std::string local_window = "truncated";
  std::string color_fix = "adain";
};

struct ModelFiles {
  ModelConfig config;
  WeightMap dit, projector, decoder, vae;  // published key names
  Parameter prompt;                        // [tokens, text_dim]
};

inline constexpr const char* kDitFile = "diffusion_pytorch_model_streaming_dmd.safetensors";
inline constexpr const char* kProjectorFile = "LQ_proj_in.ckpt";
inline constexpr const char* kDecoderFile = "TCDecoder.ckpt";
inline constexpr const char* kVaeFile = "Wan2.1_VAE.pth";
inline constexpr const char* kPromptFile = "posi_prompt.pth";

// `path`: a folder of published files or a packed .safetensors file. Checks that every expected tensor is there with
// the expected shape and that nothing unknown is; throws Error(format) that names file, tensor, and both shapes. A raw
// folder needs `variant` or a config.json with "variant" (Error(invalid_argument) otherwise, and when the two
// disagree); a packed file carries it.
ModelFiles load_model(const std::filesystem::path& path, std::optional<Variant> variant);

// Checks names and shapes of the maps against each other and fills the sizes of `config`. Used by load_model; `origin`
// names the file of each network in errors.
void check_and_size(ModelFiles& files, const std::filesystem::path& origin);

// Packs a loaded model into one safetensors file: tensors "dit.*", "projector.*", "decoder.*", "vae.*", "prompt" in
// their stored types, the configuration as JSON under the metadata key "flashvsr". Written to a temporary name and
// renamed when complete.
void write_packed(const ModelFiles& files, const std::filesystem::path& output, bool overwrite);

nlohmann::json to_json(const ModelConfig& config);
// Takes over the keys that are present; throws Error(format) on wrong types or values out of range.
void update_from_json(ModelConfig& config, const nlohmann::json& json, const std::string& origin);

}  // namespace flashvsr::weights
