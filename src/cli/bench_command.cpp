#include "cli/backend_options.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "cli/random_model.h"
#include "core/error.h"
#include "core/threads.h"
#include "stream/model_search.h"
#include "weights/model_files.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

struct BenchOptions {
  std::string model, variant, config, size = "1280x720";
  bool random_weights = false, full_decoder = false, json = false;
  std::int64_t frames = 37;
  int repeat = 1;
  BackendOptions backend;
};

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

weights::ModelFiles load(const BenchOptions& options) {
  constexpr std::uint64_t kSeed = 1;
  if (!options.config.empty()) return random_model(read_config(options.config), kSeed);
  const std::filesystem::path path = stream::find_model(options.model.empty() ? stream::kBuiltInModel : options.model);
  weights::ModelFiles files = weights::load_model(path, variant_of(options.variant));
  return options.random_weights ? random_model(files.config, kSeed) : files;
}

ordered_json describe(const std::vector<PartResult>& parts, std::int64_t frames) {
  ordered_json list = ordered_json::array();
  for (const PartResult& part : parts) {
    list.push_back({{"name", part.name},
                    {"ms_per_frame", 1e3 * part.seconds / static_cast<double>(frames)},
                    {"gflop_per_frame", 1e-9 * part.flops / static_cast<double>(frames)},
                    {"gflop_per_s", part.seconds > 0 ? 1e-9 * part.flops / part.seconds : 0},
                    {"share_of_measured_rate", part.seconds > 0 ? part.ideal_seconds / part.seconds : 0}});
  }
  return list;
}

void print(const ordered_json& report) {
  const auto number = [](const ordered_json& value) { return value.get<double>(); };
  fmt::print("{} on {} in {}, {} threads, {}x{}, {} frames\n", report["model"].get<std::string>(),
             report["device"].get<std::string>(), report["precision"].get<std::string>(), report["threads"].get<int>(),
             report["width"].get<int>(), report["height"].get<int>(), report["frames"].get<int>());
  fmt::print("machine: linear {:.1f} GFLOP/s, convolution {:.1f} GFLOP/s, measured through the same operations\n\n",
             number(report["linear_gflop_per_s"]), number(report["convolution_gflop_per_s"]));
  for (const char* list : {"parts", "networks"}) {
    fmt::print("{:12} {:>12} {:>14} {:>10} {:>17}\n", list, "ms/frame", "GFLOP/frame", "GFLOP/s", "of measured rate");
    for (const ordered_json& part : report[list]) {
      const bool counted = number(part["gflop_per_frame"]) > 0;
      fmt::print("{:12} {:12.2f} {:>14} {:>10} {:>17}\n", part["name"].get<std::string>(), number(part["ms_per_frame"]),
                 counted ? fmt::format("{:.3f}", number(part["gflop_per_frame"])) : "-",
                 counted ? fmt::format("{:.1f}", number(part["gflop_per_s"])) : "-",
                 counted ? fmt::format("{:.0f} %", 100 * number(part["share_of_measured_rate"])) : "-");
    }
    fmt::print("\n");
  }
  const ordered_json& steady = report["steady_fps"];
  fmt::print("FPS           {:.3f}, steady {}\n", number(report["fps"]),
             steady.is_null() ? "unknown: more frames are needed" : fmt::format("{:.3f}", number(steady)));
  fmt::print("first output  {:.2f} s\n", number(report["first_output_seconds"]));
  fmt::print("loading       {:.2f} s\n", number(report["load_seconds"]));
  fmt::print("peak memory   {:.0f} MB process, {:.0f} MB of it the back end's activations and state\n",
             number(report["peak_process_bytes"]) / 1e6, number(report["peak_backend_bytes"]) / 1e6);
  if (number(report["device_bytes"]) > 0) {
    fmt::print("on the device {:.0f} MB held for everything\n", number(report["device_bytes"]) / 1e6);
  }
}

int bench(const BenchOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto operations = ops::make_backend(options.backend.settings());
  weights::ModelFiles files = load(options);
  const std::string name = files.config.name;
  const BenchSettings settings{.output = *parse_size(options.size),
                               .scale = files.config.scale,
                               .frames = options.frames,
                               .repeat = options.repeat,
                               .full_decoder = options.full_decoder};
  const stream::Networks networks(*operations, std::move(files));
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const MachineRates rates = measure_rates(*operations);
  const BenchResult result = run_bench(networks, settings, rates);

  ordered_json report;
  report["model"] = name;
  report["device"] = operations->name();
  report["precision"] = operations->compute_type() == DType::bf16 ? "bf16" : "f32";
  report["threads"] = options.backend.threads > 0 ? options.backend.threads : available_threads();
  report["width"] = settings.output.width;
  report["height"] = settings.output.height;
  report["frames"] = result.frames;
  report["linear_gflop_per_s"] = 1e-9 * rates.linear;
  report["convolution_gflop_per_s"] = 1e-9 * rates.convolution;
  report["parts"] = describe(result.parts, result.frames);
  report["networks"] = describe(result.networks, result.frames);
  report["fps"] = static_cast<double>(result.frames) / result.seconds;
  report["steady_fps"] = result.steady_frames > 0
                             ? ordered_json(static_cast<double>(result.steady_frames) / result.steady_seconds)
                             : ordered_json();
  report["first_output_seconds"] = result.first_output_seconds;
  report["load_seconds"] = load_seconds;
  report["peak_process_bytes"] = peak_process_bytes();
  report["peak_backend_bytes"] = result.backend_peak_bytes;
  report["device_bytes"] = result.device_bytes;
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    print(report);
  }
  return kSuccess;
}

}  // namespace

Command add_bench_command(CLI::App& program) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = program.add_subcommand("bench", "Measure speed and memory, part by part");
  auto* model = command->add_option("--model", options->model, "Name of an installed model, packed file, or folder")
                    ->default_str("the built-in one");
  add_variant_option(*command, options->variant);
  command->add_option("--config", options->config, "Random weights of these sizes: published, nano, or a JSON file")
      ->excludes(model);
  command->add_flag("--random-weights", options->random_weights, "Only the sizes of the model, random weights");
  command->add_option("--size", options->size, "Output size")
      ->check(CLI::Validator([](const std::string& text) { return parse_size(text) ? "" : "must be WIDTHxHEIGHT"; },
                             "WxH", "size"))
      ->capture_default_str();
  command->add_option("--frames", options->frames, "Frames to upscale; the first chunk gives 21, each later one 8")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--repeat", options->repeat, "Runs; the least time of each part counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--full-decoder", options->full_decoder, "The Wan VAE instead of the tiny decoder");
  add_backend_options(*command, options->backend, {"auto", "f32", "bf16"});
  command->add_flag("--json", options->json, "As JSON");
  return {command, [options] { return bench(*options); }};
}

}  // namespace flashvsr::cli
