// Options of `upscale` and what they mean to the C API.
#pragma once

#include "cli/output_size.h"
#include "flashvsr/flashvsr.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>

namespace flashvsr::cli {

struct UpscaleOptions {
  std::string input, output;
  std::optional<double> scale;  // default: the model's
  std::string size, fit;
  std::string model, variant;
  std::string device = "auto", precision = "auto", decoder = "tiny", color_fix = "auto";
  std::string sparse_ratio;  // number or "all"; empty: the model's
  int local_range = 0;       // 0: the model's
  std::string local_window;  // empty: the model's
  int kv_chunks = 0;         // 0: the model's
  std::uint64_t seed = 0;
  int threads = 0;
  double memory_limit = 0;  // GB; 0: none
  std::string tiles = "auto";
  std::string video = "auto", codec;
  std::optional<double> crf;
  bool overwrite = false, quiet = false, json = false;
};

void add_upscale_options(CLI::App& command, UpscaleOptions& options);

flashvsr_model_settings model_settings(const UpscaleOptions& options);
// Without sizes and callbacks.
flashvsr_stream_settings stream_settings(const UpscaleOptions& options);
SizeRequest size_request(const UpscaleOptions& options, double model_scale);

}  // namespace flashvsr::cli
