#include "cli/backend_options.h"
#include "cli/bench_report.h"
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
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace flashvsr::cli {
namespace {

struct BenchOptions {
  std::string model, variant, config, size = "1280x720";
  bool random_weights = false, full_decoder = false, detail = false, json = false;
  std::int64_t frames = 37;
  int repeat = 1;
  BackendOptions backend;
};

weights::ModelFiles load(const BenchOptions& options) {
  constexpr std::uint64_t kSeed = 1;
  if (!options.config.empty()) return random_model(read_config(options.config), kSeed);
  const std::filesystem::path path = stream::find_model(options.model.empty() ? stream::kBuiltInModel : options.model);
  weights::ModelFiles files = weights::load_model(path, variant_of(options.variant));
  return options.random_weights ? random_model(files.config, kSeed) : files;
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
  const BenchResult result = run_bench(networks, settings);
  // Last, because the back end keeps their weights.
  const MachineRates rates = measure_rates(*operations);
  const BenchSubject subject{.model = name,
                             .output = settings.output,
                             .threads = options.backend.threads > 0 ? options.backend.threads : available_threads(),
                             .load_seconds = load_seconds,
                             .rates = rates};
  const nlohmann::ordered_json report = describe_bench(subject, result, *operations);
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    print_bench(report, options.detail);
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
  command->add_option("--repeat", options->repeat, "Runs: the median of all counts, of an operation the least")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--full-decoder", options->full_decoder, "The Wan VAE instead of the tiny decoder");
  add_backend_options(*command, options->backend, {"auto", "f32", "bf16"});
  command->add_flag("--detail", options->detail, "Every operation of every part");
  command->add_flag("--json", options->json, "As JSON, with every operation");
  return {command, [options] { return bench(*options); }};
}

}  // namespace flashvsr::cli
