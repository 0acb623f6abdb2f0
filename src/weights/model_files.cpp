#include "weights/model_files.h"

#include "weights/bytes.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"
#include "weights/torch_archive.h"

#include <nlohmann/json.hpp>

namespace flashvsr::weights {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetadataKey = "flashvsr";
constexpr const char* kConfigFile = "config.json";
constexpr std::size_t kLongestConfig = std::size_t{1} << 20;
constexpr const char* kPromptName = "prompt";

nlohmann::json parse_configuration(const std::string& text, const std::string& origin) {
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    fail(ErrorCode::format, "{}: the configuration is not valid JSON at byte {}", origin, error.byte);
  }
  return json;
}

// Reads the configuration and settles the variant: what the caller asks for and what the model says must agree.
void configure(ModelConfig& config, const nlohmann::json& json, std::optional<Variant> asked,
               const std::string& origin) {
  update_from_json(config, json, origin);
  const bool stated = json.contains("variant");
  if (stated && asked && *asked != config.variant) {
    fail(ErrorCode::invalid_argument, "{}: these weights are {}, but {} was asked for; leave --variant out", origin,
         to_string(config.variant), to_string(*asked));
  }
  if (asked) config.variant = *asked;
  if (!stated && !asked) {
    fail(
        ErrorCode::invalid_argument,
        "{}: FlashVSR v1 and v1.1 have the same tensors and mixing them up gives ghosting and wrong colours; say which "
        "these are: --variant v1 or --variant v1.1 (or \"variant\" in config.json)",
        origin);
  }
}

bool has_file(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

fs::path expected_file(const fs::path& folder, const char* name) {
  if (!has_file(folder / name)) {
    const bool prompt = std::string_view(name) == kPromptFile;
    fail(ErrorCode::io, "{}: is missing; a model folder holds {}, {}, {}, {} and, if wanted, {}{}",
         (folder / name).string(), kDitFile, kProjectorFile, kDecoderFile, kPromptFile, kVaeFile,
         prompt ? "; the prompt file lies in FlashVSR's code repository" : "");
  }
  return folder / name;
}

WeightMap state_dict(const fs::path& path) {
  TorchArchive archive = read_torch_archive(path);
  if (archive.tensor) {
    fail(ErrorCode::format, "{}: holds one tensor alone; a state dict is expected", path.string());
  }
  return std::move(archive.tensors);
}

Parameter prompt_of(const fs::path& path) {
  const TorchArchive archive = read_torch_archive(path);
  if (!archive.tensor) fail(ErrorCode::format, "{}: holds a dictionary; one tensor is expected", path.string());
  const Shape& shape = archive.tensor.shape();
  if (!(shape.rank() == 2 || (shape.rank() == 3 && shape[0] == 1))) {
    fail(ErrorCode::format, "{}: expected the prompt as [1, tokens, text_dim], found {}", path.string(),
         shape.to_string());
  }
  return {kPromptName, archive.tensor.values().reshaped({shape[-2], shape[-1]})};
}

void refuse_unsupported(const SafetensorsFile& file, const fs::path& path) {
  if (file.unsupported.empty()) return;
  const auto& [name, type] = *file.unsupported.begin();
  fail(ErrorCode::format, "{}: tensor {} is {}, which no network here uses", path.string(), quote(name), type);
}

ModelFiles load_folder(const fs::path& folder, std::optional<Variant> variant) {
  ModelFiles files;
  nlohmann::json json = nlohmann::json::object();
  const fs::path config_file = folder / kConfigFile;
  const bool configured = has_file(config_file);
  if (configured) json = parse_configuration(read_text_file(config_file, kLongestConfig), config_file.string());
  // Files before the variant: in a folder of something else, the question for it would mislead.
  const fs::path dit_file = expected_file(folder, kDitFile);
  configure(files.config, json, variant, configured ? config_file.string() : folder.string());

  SafetensorsFile dit = read_safetensors(dit_file);
  refuse_unsupported(dit, dit_file);
  files.dit = std::move(dit.tensors);
  files.projector = state_dict(expected_file(folder, kProjectorFile));
  if (has_file(folder / kVaeFile)) files.vae = state_dict(folder / kVaeFile);
  if (files.vae.empty() || has_file(folder / kDecoderFile)) {
    files.decoder = state_dict(expected_file(folder, kDecoderFile));
  }
  files.prompt = prompt_of(expected_file(folder, kPromptFile));
  return files;
}

ModelFiles load_packed(const fs::path& path, std::optional<Variant> variant) {
  SafetensorsFile packed = read_safetensors(path);
  const auto text = packed.metadata.find(kMetadataKey);
  if (text == packed.metadata.end()) {
    fail(ErrorCode::format,
         "{}: is not a packed model (no \"{}\" in its metadata); give the folder of the published files, or pack it "
         "with flashvsr convert",
         path.string(), kMetadataKey);
  }
  if (text->second.size() > kLongestConfig) {
    fail(ErrorCode::format, "{}: its configuration has {} bytes", path.string(), text->second.size());
  }
  ModelFiles files;
  configure(files.config, parse_configuration(text->second, path.string()), variant, path.string());
  refuse_unsupported(packed, path);
  const std::pair<std::string_view, WeightMap*> networks[] = {
      {"dit.", &files.dit}, {"projector.", &files.projector}, {"decoder.", &files.decoder}, {"vae.", &files.vae}};
  for (const auto& [name, parameter] : packed.tensors) {
    if (name == kPromptName) {
      files.prompt = parameter;
      continue;
    }
    WeightMap* network = nullptr;
    std::string inner;
    for (const auto& [prefix, map] : networks) {
      if (name.starts_with(prefix)) network = map, inner = name.substr(prefix.size());
    }
    if (!network) fail(ErrorCode::format, "{}: tensor {} belongs to no network", path.string(), quote(name));
    network->emplace(inner, Parameter(inner, parameter.values()));
  }
  if (!files.prompt) fail(ErrorCode::format, "{}: tensor \"{}\" is missing", path.string(), kPromptName);
  return files;
}

}  // namespace

ModelFiles load_model(const fs::path& path, std::optional<Variant> variant) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  ModelFiles files = folder ? load_folder(path, variant) : load_packed(path, variant);
  check_and_size(files, path);
  return files;
}

void write_packed(const ModelFiles& files, const fs::path& output, bool overwrite) {
  std::map<std::string, Tensor> tensors;
  const std::pair<std::string, const WeightMap*> networks[] = {
      {"dit.", &files.dit}, {"projector.", &files.projector}, {"decoder.", &files.decoder}, {"vae.", &files.vae}};
  for (const auto& [prefix, map] : networks) {
    for (const auto& [name, parameter] : *map) tensors.emplace(prefix + name, parameter.values());
  }
  tensors.emplace(kPromptName, files.prompt.values());
  write_safetensors(output, tensors, {{kMetadataKey, to_json(files.config).dump()}}, overwrite);
}

}  // namespace flashvsr::weights
