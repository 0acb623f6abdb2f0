#include "cli/golden_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "weights/safetensors.h"

namespace flashvsr::cli {
namespace {

using nlohmann::json;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) fail(ErrorCode::io, "{}: cannot be opened; a golden set needs its config.json", path.string());
  json config = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) fail(ErrorCode::format, "{}: is not a JSON object", path.string());
  return config;
}

// Reads typed values of one object and names file and key when one is wrong.
class ConfigReader {
 public:
  ConfigReader(const json& object, std::string origin) : object_(object), origin_(std::move(origin)) {}

  bool has(const char* key) const { return object_.contains(key); }

  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const {
    const json& value = at(key);
    if (!value.is_number_integer() || value < low || value > high) {
      fail(ErrorCode::format, "{}: {} must be an integer from {} to {}, not {}", origin_, key, low, high, value.dump());
    }
    return value.get<std::int64_t>();
  }

  std::int64_t integer_or(const char* key, std::int64_t low, std::int64_t high, std::int64_t otherwise) const {
    return has(key) ? integer(key, low, high) : otherwise;
  }

  double positive(const char* key) const {
    const json& value = at(key);
    if (!value.is_number() || !(value.get<double>() > 0) || value.get<double>() > 1e6) {
      fail(ErrorCode::format, "{}: {} must be a positive number, not {}", origin_, key, value.dump());
    }
    return value.get<double>();
  }

  const json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail(ErrorCode::format, "{}: {} is missing", origin_, key);
    return *found;
  }

  ConfigReader object(const char* key) const {
    const json& value = at(key);
    if (!value.is_object()) fail(ErrorCode::format, "{}: {} must be an object", origin_, key);
    return {value, origin_ + ": " + key};
  }

  const json& json_object() const { return object_; }
  const std::string& origin() const { return origin_; }

 private:
  const json& object_;
  std::string origin_;
};

constexpr std::int64_t kLargestSide = 1 << 14;
constexpr std::int64_t kMostLayers = 1 << 10;

AttentionProbe read_probe(const ConfigReader& read) {
  AttentionProbe probe;
  probe.step = read.integer("step", 0, 1 << 20);
  probe.layer = read.integer("layer", 0, kMostLayers);
  const json& heads = read.at("heads");
  if (!heads.is_array() || heads.empty()) fail(ErrorCode::format, "{}: heads must be a list", read.origin());
  for (const json& head : heads) {
    if (!head.is_number_unsigned()) fail(ErrorCode::format, "{}: heads must be numbers", read.origin());
    probe.heads.push_back(head.get<std::int64_t>());
  }
  return probe;
}

ops::LocalWindow read_local_window(const ConfigReader& read) {
  if (!read.has("local_window")) return ops::LocalWindow::truncated;
  const json& value = read.at("local_window");
  if (value == "truncated") return ops::LocalWindow::truncated;
  if (value == "preserved") return ops::LocalWindow::preserved;
  fail(ErrorCode::format, "{}: local_window must be \"truncated\" or \"preserved\", not {}", read.origin(),
       value.dump());
}

GoldenConfig read_config(const std::filesystem::path& path) {
  const json object = read_json(path);
  const ConfigReader read(object, path.string());
  GoldenConfig config;
  if (read.has("name") && read.at("name").is_string()) config.name = read.at("name").get<std::string>();
  config.scale = read.integer_or("scale", 1, 16, 4);
  config.height = read.integer("height", 128, kLargestSide);
  config.width = read.integer("width", 128, kLargestSide);
  if (config.height % 128 != 0 || config.width % 128 != 0) {
    fail(ErrorCode::format, "{}: height and width must be multiples of 128, not {} and {}", path.string(),
         config.height, config.width);
  }
  config.topk_ratio = read.positive("topk_ratio");
  config.kv_ratio = read.integer("kv_ratio", 1, 1 << 10);
  config.local_range = read.integer("local_range", 1, 1 << 10);
  config.local_window = read_local_window(read);
  config.layers = read.integer("num_layers", 1, kMostLayers);
  config.has_vae = read.integer_or("vae_dim", 0, 1 << 12, 0) > 0;
  if (read.has("attention_op")) config.attention_probe = read_probe(read.object("attention_op"));

  const ConfigReader tolerance = read.object("tolerance");
  config.tolerance_f32 = tolerance.positive("f32");
  if (tolerance.has("bf16")) {
    const ConfigReader kinds = tolerance.object("bf16");
    for (const auto& [kind, value] : kinds.json_object().items()) {
      config.tolerance_bf16[kind] = kinds.positive(kind.c_str());
    }
  }
  return config;
}

}  // namespace

const Tensor& GoldenSet::at(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail(ErrorCode::format, "{}: holds no tensor {}", directory.string(), name);
  return found->second;
}

std::int64_t GoldenSet::schedule_frames() const { return (at("lr_frames").dim(0) - 1) / 8 * 8 + 1; }

std::int64_t GoldenSet::steps() const { return (schedule_frames() - 25) / 8 + 1; }

GoldenSet load_golden_set(const std::filesystem::path& directory) {
  GoldenSet set;
  set.directory = directory;
  set.config = read_config(directory / "config.json");
  for (const char* file : {"golden.safetensors", "attention.safetensors"}) {
    const std::filesystem::path path = directory / file;
    const bool optional = std::string_view(file) == "attention.safetensors";
    if (optional && !std::filesystem::exists(path)) continue;
    const weights::SafetensorsFile contents = weights::read_safetensors(path);
    set.unreadable.insert(contents.unsupported.begin(), contents.unsupported.end());
    for (const auto& [name, parameter] : contents.tensors) {
      if (!set.tensors.emplace(name, parameter.values()).second) {
        fail(ErrorCode::format, "{}: {} is already in golden.safetensors", path.string(), name);
      }
    }
  }
  if (!set.has("lr_frames")) {
    fail(ErrorCode::format, "{}: lr_frames is missing: without the clip nothing can be computed",
         (directory / "golden.safetensors").string());
  }
  const Tensor& frames = set.at("lr_frames");
  if (frames.dtype() != DType::u8 || frames.shape().rank() != 4 || frames.dim(3) != 3) {
    fail(ErrorCode::format, "{}: lr_frames must be U8 [frames, height, width, 3], not {} {}",
         (directory / "golden.safetensors").string(), name_of(frames.dtype()), frames.shape().to_string());
  }
  if (frames.dim(0) < 25) {
    fail(ErrorCode::format, "{}: lr_frames holds {} frames; the schedule needs at least 25",
         (directory / "golden.safetensors").string(), frames.dim(0));
  }
  return set;
}

std::vector<std::string> expected_inputs(const GoldenSet& set) {
  std::vector<std::string> names{"lr_frames", "noise", "crop_yxhw", "frame_index"};
  if (set.config.has_vae) names.insert(names.end(), {"vae.decode.in", "vae.encode.in"});
  return names;
}

std::vector<std::string> expected_outputs(const GoldenSet& set) {
  std::vector<std::string> names{"upscaled_frame_0", "upscaled_frame_last", "context", "time_embedding",
                                 "time_projection"};
  for (std::int64_t step = 0; step < set.steps(); ++step) {
    names.push_back(fmt::format("step{}.lq_latents.every11th", step));
    names.push_back(fmt::format("step{}.velocity", step));
    names.push_back(fmt::format("step{}.cache_rows", step));
    for (std::int64_t layer = 0; layer < set.config.layers; ++layer) names.push_back(mask_name(step, layer));
  }
  names.emplace_back("step0.hidden.after_block0.every37th");
  for (const char* frames : {"decoded_frames", "adain_frames", "wavelet_frames"}) {
    names.emplace_back(frames);
    names.push_back(std::string(frames) + ".mean_std");
  }
  if (set.config.has_vae) names.insert(names.end(), {"vae.decode.out", "vae.encode.out"});
  if (set.config.attention_probe) {
    for (const char* part : {"q", "k", "v", "scores", "block_mask", "out"}) {
      names.push_back(std::string("attention.") + part);
    }
  }
  return names;
}

std::string mask_name(std::int64_t step, std::int64_t layer) {
  return fmt::format("step{}.block_mask.layer{}", step, layer);
}

std::string kind_of(const std::string& tensor) {
  std::string kind = tensor;
  if (kind.starts_with("step")) {
    const std::size_t dot = kind.find('.');
    const bool numbered = dot != std::string::npos && dot > 4 &&
                          std::all_of(kind.begin() + 4, kind.begin() + static_cast<std::ptrdiff_t>(dot),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
    if (numbered) kind.erase(0, dot + 1);
  }
  const std::size_t every = kind.find(".every");
  if (every != std::string::npos && kind.ends_with("th")) kind.erase(every);
  return kind;
}

}  // namespace flashvsr::cli
