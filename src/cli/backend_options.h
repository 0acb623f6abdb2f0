// Options that several subcommands share.
#pragma once

#include "cli/output_size.h"
#include "ops/backend.h"
#include "weights/model_files.h"

#include <CLI/CLI.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace flashvsr::cli {

// What --device says: "cuda:1" is {"cuda", 1}.
struct DeviceChoice {
  std::string name;
  int index = 0;
};

// nullopt for what is no device.
std::optional<DeviceChoice> parse_device(const std::string& text);
// --device, one of `names`, and cuda with a number.
void add_device_option(CLI::App& command, std::string& device, const std::vector<std::string>& names,
                       const std::string& description);

struct BackendOptions {
  std::string device = "auto", precision;
  int threads = 0;
  double memory_limit = 0;  // GB; 0: none

  ops::BackendSettings settings() const;
};

// --memory-limit, in GB.
void add_memory_limit_option(CLI::App& command, double& gigabytes);
std::size_t memory_limit_bytes(double gigabytes);

// --tiles: auto, off or CxR.
CLI::Option* add_tiles_option(CLI::App& command, std::string& tiles);
// Its columns and rows: 1x1 where it is off, nullopt where it is auto.
std::optional<Size> tiles_of(const std::string& option);

// --device, --precision, --threads and --memory-limit for the subcommands that run back ends directly. `precisions` are
// the allowed ones, the first is the default.
void add_backend_options(CLI::App& command, BackendOptions& options, const std::vector<std::string>& precisions);

// --variant v1|v1.1
void add_variant_option(CLI::App& command, std::string& variant);
std::optional<weights::Variant> variant_of(const std::string& option);  // empty: nullopt

}  // namespace flashvsr::cli
