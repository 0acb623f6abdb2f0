#include "cli/backend_options.h"
#include "cli/build_info.h"
#include "cli/commands.h"
#include "cli/memory_report.h"
#include "cli/output_size.h"
#include "cli/random_model.h"
#include "core/error.h"
#include "ops/cuda_loader.h"
#include "stream/fitting_plan.h"
#include "stream/model_search.h"
#include "stream/stream.h"
#include "weights/model_files.h"
#include "weights/unfilled_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

struct InfoOptions {
  std::string model, variant, config, plan_size, tiles = "auto";
  bool json = false, full_decoder = false;
  std::int64_t kv_chunks = 0;
  BackendOptions backend;
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

// Frames of that size out of the model's scale, with its recommended settings.
stream::StreamSettings planned_settings(const InfoOptions& options, const weights::ModelConfig& config) {
  const Size size = *parse_size(options.plan_size);
  stream::StreamSettings settings;
  settings.output_width = size.width;
  settings.output_height = size.height;
  settings.input_width = std::max<std::int64_t>(size.width / config.scale, 1);
  settings.input_height = std::max<std::int64_t>(size.height / config.scale, 1);
  settings.full_decoder = options.full_decoder;
  settings.color_fix = stream::parse_color_fix(config.color_fix);
  settings.sparse_ratio = config.sparse_ratio;
  settings.local_range = config.local_range;
  settings.local_window = stream::parse_local_window(config.local_window);
  settings.kv_chunks = options.kv_chunks > 0 ? options.kv_chunks : config.kv_ratio;
  if (const auto tiles = tiles_of(options.tiles)) settings.tiles = stream::TileCounts{tiles->width, tiles->height};
  return settings;
}

ordered_json plan(const InfoOptions& options) {
  const weights::ModelFiles files =
      options.config.empty()
          ? weights::load_model(stream::find_model(options.model.empty() ? stream::kBuiltInModel : options.model),
                                weights::parse_variant(options.variant))
          : weights::unfilled_model(read_config(options.config));
  const stream::StreamSettings settings = planned_settings(options, files.config);
  const ops::BackendSettings backend = options.backend.settings();
  std::unique_ptr<ops::Operations> operations;
  ops::PlanningSettings planning;
  // A device that is not here can be planned for all the same.
  if (backend.device == ops::Device::cuda && !ops::cuda_unavailable_reason().empty()) {
    if (backend.precision == ops::Precision::f32) planning.compute = planning.residual = DType::f32;
  } else {
    operations = ops::make_backend(backend);
    planning = stream::planning_settings(*operations);
  }
  stream::MemoryPlan plan = stream::plan_memory(files, settings, planning);
  if (operations || backend.memory_limit > 0) {
    const std::size_t available = operations ? operations->available_memory() : backend.memory_limit;
    plan = stream::fitting_plan(plan, files, settings, planning, available);
  }
  ordered_json report = describe(plan);
  report["model"] = files.config.name;
  report["device"] = operations ? operations->name() : "cuda";
  report["precision"] = planning.compute == DType::bf16 ? "bf16" : "f32";
  report["width"] = settings.output_width;
  report["height"] = settings.output_height;
  return report;
}

void print_plan(const ordered_json& plan) {
  fmt::print("{}x{}, {}, on {} in {}:\n", plan["width"].get<int>(), plan["height"].get<int>(),
             plan["model"].get<std::string>(), plan["device"].get<std::string>(), plan["precision"].get<std::string>());
  print_memory(plan);
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
  if (!options.plan_size.empty()) {
    const ordered_json report = plan(options);
    if (options.json) {
      fmt::print("{}\n", report.dump(2));
    } else {
      print_plan(report);
    }
    return kSuccess;
  }
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
  auto* model =
      command->add_option("model,--model", options->model, "Name of an installed model, packed file or folder");
  command->add_option("--variant", options->variant, "Which published model a folder holds; packed files say it")
      ->check(CLI::IsMember({"v1", "v1.1"}));
  auto* plan =
      command
          ->add_option("--plan", options->plan_size,
                       "Instead: how much memory an output of this size, WIDTHxHEIGHT, needs with the model (the "
                       "built-in one) and its recommended settings")
          ->check(CLI::Validator([](const std::string& text) { return parse_size(text) ? "" : "must be WIDTHxHEIGHT"; },
                                 "WxH", "size"));
  command->add_option("--config", options->config, "Plan a model of these sizes: published, nano, or a JSON file")
      ->excludes(model)
      ->needs(plan);
  command->add_option("--kv-chunks", options->kv_chunks, "Plan with this many chunks in the KV cache")
      ->check(CLI::Range(1, 1024))
      ->needs(plan);
  command->add_flag("--full-decoder", options->full_decoder, "Plan with the Wan VAE instead of the tiny decoder")
      ->needs(plan);
  add_backend_options(*command, options->backend, {"auto", "f32", "bf16"});
  add_tiles_option(*command, options->tiles)->needs(plan);
  command->add_flag("--json", options->json, "As JSON");
  return {command, [options] { return info(*options); }};
}

}  // namespace flashvsr::cli
