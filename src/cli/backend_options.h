// Options that several subcommands share.
#pragma once

#include "ops/backend.h"
#include "weights/model_files.h"

#include <CLI/CLI.hpp>

#include <optional>
#include <string>

namespace flashvsr::cli {

struct BackendOptions {
  std::string device = "auto", precision;
  int threads = 0;

  ops::BackendSettings settings() const;
};

// --device, --precision and --threads for the subcommands that run back ends directly. `precisions` are the allowed
// ones, the first is the default.
void add_backend_options(CLI::App& command, BackendOptions& options, const std::vector<std::string>& precisions);

// --variant v1|v1.1
void add_variant_option(CLI::App& command, std::string& variant);
std::optional<weights::Variant> variant_of(const std::string& option);  // empty: nullopt

}  // namespace flashvsr::cli
