#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/golden_judge.h"
#include "cli/golden_run.h"
#include "cli/golden_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

namespace flashvsr::cli {
namespace {

struct VerifyOptions {
  std::string directory, variant;
  bool own_masks = false;
  BackendOptions backend;
};

bool all_inputs_present(const GoldenSet& set) {
  for (const char* name : {"noise", "crop_yxhw", "frame_index"}) {
    if (!set.has(name)) return false;
  }
  return true;
}

void print(const std::vector<GoldenRow>& rows) {
  std::size_t width = 6;
  for (const GoldenRow& row : rows) width = std::max(width, row.name.size());
  fmt::print("{:{}}  {:>9}  {:>9}  {:>9}  ok\n", "tensor", width, "max abs", "rel L2", "tolerance");
  for (const GoldenRow& row : rows) {
    fmt::print("{:{}}  {:9.2e}  {:9.2e}  {:9.2e}  {}{}\n", row.name, width, row.max_abs, row.relative_l2, row.tolerance,
               row.ok ? "ok" : "FAILED", row.note.empty() ? "" : "  (" + row.note + ")");
  }
}

int verify(const VerifyOptions& options) {
  const GoldenSet set = load_golden_set(options.directory);
  weights::ModelFiles files = weights::load_model(options.directory, std::nullopt);
  // Behind load_model's back, which refuses a variant that contradicts config.json: this shows what the mix-up does.
  if (const auto variant = variant_of(options.variant)) files.config.variant = *variant;

  const std::unique_ptr<ops::Operations> operations = ops::make_backend(options.backend.settings());
  // Without its inputs nothing can be computed, and every row says so.
  const GoldenRun run =
      all_inputs_present(set) ? run_golden_set(*operations, files, set, options.own_masks) : GoldenRun{};
  const std::vector<GoldenRow> rows = judge(set, run, operations->compute_type());
  print(rows);
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const GoldenRow& row) { return !row.ok; });
  fmt::print("{} passed, {} failed\n", static_cast<std::int64_t>(rows.size()) - failed, failed);
  return failed == 0 ? kSuccess : kFailure;
}

}  // namespace

Command add_verify_command(CLI::App& program) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App* command = program.add_subcommand("verify", "Run a golden set and compare every tensor");
  command->add_option("set", options->directory, "Folder of the golden set")->required();
  add_backend_options(*command, options->backend, {"f32", "bf16"});
  add_variant_option(*command, options->variant);
  command->add_flag("--own-masks", options->own_masks,
                    "Go on with the engine's own block choice where it differs by more than near-ties");
  return {command, [options] { return verify(*options); }};
}

}  // namespace flashvsr::cli
