#include "cli/backend_options.h"
#include "cli/commands.h"
#include "core/error.h"
#include "weights/model_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>

namespace flashvsr::cli {
namespace {

struct ConvertOptions {
  std::string input, output, variant;
  bool overwrite = false;
};

int convert(const ConvertOptions& options) {
  const std::filesystem::path output = options.output;
  // Asked before gigabytes are read; write_packed asks again.
  if (!options.overwrite && std::filesystem::exists(output)) {
    fail(ErrorCode::io, "{}: exists already; --overwrite replaces it", output.string());
  }
  const weights::ModelFiles files = weights::load_model(options.input, variant_of(options.variant));
  weights::write_packed(files, output, options.overwrite);
  fmt::print("{}: {} {}, {:.1f} MB\n", output.string(), files.config.name, weights::to_string(files.config.variant),
             static_cast<double>(std::filesystem::file_size(output)) / 1e6);
  return kSuccess;
}

}  // namespace

Command add_convert_command(CLI::App& program) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command = program.add_subcommand("convert", "Pack a folder of published files into one file");
  command->add_option("folder", options->input, "Folder of published files, or a packed file")->required();
  command->add_option("-o,--output", options->output, "Packed file to write (.safetensors)")->required();
  add_variant_option(*command, options->variant);
  command->add_flag("--overwrite", options->overwrite, "Replace the output if it exists");
  return {command, [options] { return convert(*options); }};
}

}  // namespace flashvsr::cli
