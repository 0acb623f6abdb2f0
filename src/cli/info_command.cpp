#include "cli/build_info.h"
#include "cli/commands.h"
#include "core/error.h"
#include "stream/model_search.h"
#include "weights/model_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

struct InfoOptions {
  std::string model, variant;
  bool json = false;
};

std::int64_t count_parameters(const WeightMap& weights) {
  std::int64_t count = 0;
  for (const auto& [name, parameter] : weights) count += parameter.shape().elements();
  return count;
}

ordered_json describe_model(const InfoOptions& options) {
  const std::filesystem::path path = stream::find_model(options.model);
  const weights::ModelFiles files = weights::load_model(path, weights::parse_variant(options.variant));
  const weights::ModelConfig& config = files.config;
  ordered_json parameters;
  parameters["projector"] = count_parameters(files.projector);
  parameters["dit"] = count_parameters(files.dit);
  if (!files.decoder.empty()) parameters["tiny_decoder"] = count_parameters(files.decoder);
  if (!files.vae.empty()) parameters["vae"] = count_parameters(files.vae);
  return {{"name", config.name},
          {"path", path.string()},
          {"variant", weights::to_string(config.variant)},
          {"parameters", parameters},
          {"dit",
           {{"dim", config.dim},
            {"heads", config.heads},
            {"layers", config.layers},
            {"ffn_dim", config.ffn_dim},
            {"text_dim", config.text_dim},
            {"text_tokens", config.text_tokens}}},
          {"projector", {{"hidden", config.lq_hidden}}},
          {"decoders", {{"tiny", !files.decoder.empty()}, {"full", !files.vae.empty()}}},
          {"recommended",
           {{"scale", config.scale},
            {"color_fix", config.color_fix},
            {"sparse_ratio", config.sparse_ratio},
            {"local_range", config.local_range},
            {"local_window", config.local_window},
            {"kv_chunks", config.kv_ratio}}}};
}

void print_model(const ordered_json& model) {
  const auto million = [](const ordered_json& count) { return count.get<double>() / 1e6; };
  fmt::print("model       {} ({}), {}\n", model["name"].get<std::string>(), model["variant"].get<std::string>(),
             model["path"].get<std::string>());
  for (const auto& [network, count] : model["parameters"].items()) {
    fmt::print("  {:12}  {:9.2f} M parameters\n", network, million(count));
  }
  const ordered_json& dit = model["dit"];
  fmt::print("  DiT           {} layers, {} wide, {} heads, FFN {}\n", dit["layers"].get<int>(), dit["dim"].get<int>(),
             dit["heads"].get<int>(), dit["ffn_dim"].get<int>());
  const ordered_json& recommended = model["recommended"];
  fmt::print(
      "  recommended   --scale {} --color-fix {} --sparse-ratio {} --local-range {} --local-window {} "
      "--kv-chunks {}\n",
      recommended["scale"].get<int>(), recommended["color_fix"].get<std::string>(),
      recommended["sparse_ratio"].get<double>(), recommended["local_range"].get<int>(),
      recommended["local_window"].get<std::string>(), recommended["kv_chunks"].get<int>());
}

void print_all(const ordered_json& report) {
  const auto joined = [](const ordered_json& list) {
    return list.empty() ? std::string("none")
                        : fmt::format("{}", fmt::join(list.get<std::vector<std::string>>(), ", "));
  };
  const ordered_json& build = report["build"];
  fmt::print("flashvsr    {}\n", report["version"].get<std::string>());
  fmt::print("compiler    {} ({})\n", build["compiler"].get<std::string>(), build["type"].get<std::string>());
  for (const char* part : {"onednn", "ffmpeg", "cuda"}) {
    fmt::print("{:10}  {}", part, build[part].get<bool>() ? "in this build" : "not in this build");
    if (part == std::string_view("cuda") && build[part].get<bool>()) {
      fmt::print(" for compute capability {}", joined(build["cuda_architectures"]));
    }
    fmt::print("\n");
  }
  fmt::print("processor   {} threads; {}\n", report["processor"]["threads"].get<int>(),
             joined(report["processor"]["features"]));
  for (const ordered_json& device : report["devices"]) {
    const bool available = device["available"].get<bool>();
    fmt::print(
        "device      {}: {}{}\n", device["name"].get<std::string>(),
        available ? "default precision " + device["precision"].get<std::string>() : device["reason"].get<std::string>(),
        device.contains("hardware") ? "; " + device["hardware"].get<std::string>() : "");
  }
  fmt::print("models      {}\n", joined(report["models"]));
  if (report.contains("model")) print_model(report["model"]);
}

int info(const InfoOptions& options) {
  ordered_json report = build_information();
  report["models"] = ordered_json::array();
  for (const std::filesystem::path& path : stream::installed_models()) report["models"].push_back(path.string());
  if (!options.model.empty()) report["model"] = describe_model(options);
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    print_all(report);
  }
  return kSuccess;
}

}  // namespace

Command add_info_command(CLI::App& program) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = program.add_subcommand("info", "Say what this build and machine can do, and what a model is");
  command->add_option("model", options->model, "Name of an installed model, packed file or folder");
  command->add_option("--variant", options->variant, "Which published model a folder holds; packed files say it")
      ->check(CLI::IsMember({"v1", "v1.1"}));
  command->add_flag("--json", options->json, "As JSON");
  return {command, [options] { return info(*options); }};
}

}  // namespace flashvsr::cli
