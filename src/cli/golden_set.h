// A golden set on disk: tensors of the published model with its weights and configuration, to judge this engine by.
#pragma once

#include "core/tensor.h"
#include "ops/types.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace flashvsr::cli {

// Which self-attention attention.safetensors holds.
struct AttentionProbe {
  std::int64_t step = 0, layer = 0;
  std::vector<std::int64_t> heads;  // the ones kept, ascending
};

// What config.json says about the run; sizes of the networks come from the weights.
struct GoldenConfig {
  std::string name;
  std::int64_t scale = 4;
  std::int64_t height = 0, width = 0;  // output pixels, multiples of 128
  double topk_ratio = 1.0;             // used as it stands
  std::int64_t kv_ratio = 3;
  std::int64_t local_range = 11;
  ops::LocalWindow local_window = ops::LocalWindow::truncated;
  std::int64_t layers = 0;
  bool has_vae = false;
  std::optional<AttentionProbe> attention_probe;
  double tolerance_f32 = 0;
  std::map<std::string, double> tolerance_bf16;  // by kind: "velocity", "decoded_frames", ...
};

struct GoldenSet {
  std::filesystem::path directory;
  GoldenConfig config;
  std::map<std::string, Tensor> tensors;          // golden.safetensors and attention.safetensors, host, as stored
  std::map<std::string, std::string> unreadable;  // of element types that no set holds: name -> type and shape

  bool has(const std::string& name) const { return tensors.contains(name); }
  // Throws Error(format) if there is none.
  const Tensor& at(const std::string& name) const;
  // How many LR frames the schedule uses: the largest F = 8n+1 that the clip holds.
  std::int64_t schedule_frames() const;
  std::int64_t steps() const;
};

// Throws Error that names the file and the cause. Missing tensors are no error here: expected_tensors lists them.
GoldenSet load_golden_set(const std::filesystem::path& directory);

// What a set of this configuration has to hold.
std::vector<std::string> expected_inputs(const GoldenSet& set);
std::vector<std::string> expected_outputs(const GoldenSet& set);

// "step{i}.block_mask.layer{l}"
std::string mask_name(std::int64_t step, std::int64_t layer);

// The name without "step{i}." and ".every{n}th": the key of tolerances.
std::string kind_of(const std::string& tensor);

}  // namespace flashvsr::cli
