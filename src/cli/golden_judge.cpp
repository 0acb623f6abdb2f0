#include "cli/golden_judge.h"

#include "cli/host_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

namespace flashvsr::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kAttentionInputs = 1e-3;
constexpr float kOutsideWindow = -1e29f;

bool is_mask(const std::string& kind) { return kind.find("block_mask") != std::string::npos; }
bool is_attention_input(const std::string& kind) {
  return kind == "attention.q" || kind == "attention.k" || kind == "attention.v";
}
bool is_integer(DType type) { return type == DType::u8 || type == DType::i64 || type == DType::i32; }

struct Difference {
  double max_abs = kInfinity, relative_l2 = kInfinity;
};

// Scores outside the local window (-1e30) only have to agree. NaN anywhere gives NaN, which passes no tolerance.
Difference difference(const Tensor& ours, const Tensor& golden) {
  if (!(ours.shape() == golden.shape())) return {};
  const Tensor a = host_f32(ours), b = host_f32(golden);
  double largest = 0, error = 0, norm = 0;
  for (std::int64_t i = 0; i < a.elements(); ++i) {
    const float x = a.data<float>()[i], y = b.data<float>()[i];
    if ((x < kOutsideWindow) != (y < kOutsideWindow)) return {};
    if (y < kOutsideWindow) continue;
    const double delta = std::abs(static_cast<double>(x) - static_cast<double>(y));
    if (!(delta <= largest)) largest = delta;
    error += delta * delta;
    norm += static_cast<double>(y) * static_cast<double>(y);
  }
  return {largest, std::sqrt(error) / std::max(std::sqrt(norm), 1e-30)};
}

struct Limit {
  double tolerance = 0;
  std::string note;
};

Limit f32_limit(const GoldenConfig& config, const std::string& kind) {
  if (is_attention_input(kind)) return {kAttentionInputs, "rounded to bf16"};
  return {config.tolerance_f32, ""};
}

Limit bf16_limit(const GoldenConfig& config, const std::string& kind) {
  const auto given = [&](const std::string& name) -> std::optional<double> {
    const auto found = config.tolerance_bf16.find(name);
    return found == config.tolerance_bf16.end() ? std::nullopt : std::optional(found->second);
  };
  if (const auto named = given(kind)) return {*named, ""};
  if (kind == "attention.scores") return {config.tolerance_f32, "as in f32"};
  if (kind.ends_with(".mean_std")) {
    const std::string frames = kind.substr(0, kind.size() - std::string(".mean_std").size());
    if (const auto derived = given(frames)) return {*derived, "as " + frames};
  } else if (const auto velocity = given("velocity")) {
    const bool after_projector = kind.starts_with("hidden") || is_attention_input(kind);
    const double latents = after_projector ? given("lq_latents").value_or(0) : 0;
    return latents > *velocity ? Limit{latents, "as lq_latents"} : Limit{*velocity, "as velocity"};
  }
  return {0, "tolerance.bf16 of config.json names nothing that bounds it"};
}

void judge_mask(const GoldenRun& run, DType compute_type, GoldenRow& row) {
  const auto found = run.masks.find(row.name);
  if (found == run.masks.end()) {
    row.note = "differs in shape or type";
    return;
  }
  const MaskComparison& comparison = found->second;
  const bool own_inputs = row.name != "attention.block_mask";
  row.note = fmt::format("{} of {} blocks differ", comparison.differing, comparison.entries);
  if (compute_type == DType::f32 || !own_inputs) {
    if (comparison.differing > 0) row.note += fmt::format(", {} beyond near-ties", comparison.beyond_near_ties);
    row.tolerance = 0;
    row.ok = comparison.beyond_near_ties == 0;
  } else {
    row.tolerance = static_cast<double>(allowed_flips(comparison.entries));
    row.ok = comparison.differing <= allowed_flips(comparison.entries);
    row.note += fmt::format(", at most {} may", allowed_flips(comparison.entries));
  }
}

GoldenRow judge_tensor(const GoldenSet& set, const GoldenRun& run, DType compute_type, const std::string& name) {
  GoldenRow row{.name = name, .max_abs = kInfinity, .relative_l2 = kInfinity, .note = ""};
  const auto golden = set.tensors.find(name);
  const auto ours = run.outputs.find(name);
  if (golden == set.tensors.end()) {
    row.note = "missing in the set";
    return row;
  }
  if (ours == run.outputs.end()) {
    row.note = "not computed: its inputs or the weights for it are missing";
    return row;
  }
  const Tensor &expected = golden->second, &computed = ours->second;
  if (!(expected.shape() == computed.shape())) {
    row.note = fmt::format("shape {}, computed {}", expected.shape().to_string(), computed.shape().to_string());
    return row;
  }
  if (is_integer(expected.dtype()) != is_integer(computed.dtype())) {
    row.note = fmt::format("type {}, computed {}", name_of(expected.dtype()), name_of(computed.dtype()));
    return row;
  }
  const Difference measured = difference(computed, expected);
  row.max_abs = measured.max_abs;
  row.relative_l2 = measured.relative_l2;
  const std::string kind = kind_of(name);
  if (is_mask(kind)) {
    judge_mask(run, compute_type, row);
    return row;
  }
  if (is_integer(expected.dtype()) || kind == "context") {
    row.ok = measured.max_abs == 0;
    return row;
  }
  const Limit limit = compute_type == DType::f32 ? f32_limit(set.config, kind) : bf16_limit(set.config, kind);
  row.tolerance = limit.tolerance;
  row.note = limit.note;
  row.ok = measured.relative_l2 <= limit.tolerance;
  return row;
}

}  // namespace

std::int64_t allowed_flips(std::int64_t entries) {
  constexpr double kRate = 0.01;
  const double mean = kRate * static_cast<double>(entries);
  return static_cast<std::int64_t>(std::ceil(mean + 4 * std::sqrt(2 * mean)));
}

std::vector<GoldenRow> judge(const GoldenSet& set, const GoldenRun& run, DType compute_type) {
  std::vector<GoldenRow> rows;
  const std::vector<std::string> inputs = expected_inputs(set), outputs = expected_outputs(set);
  std::set<std::string> known(inputs.begin(), inputs.end());
  known.insert(outputs.begin(), outputs.end());
  const auto add_failure = [&rows](const std::string& name, const std::string& note) {
    rows.push_back({.name = name, .max_abs = kInfinity, .relative_l2 = kInfinity, .note = note});
  };
  for (const std::string& name : inputs) {
    if (!set.has(name)) add_failure(name, "input missing in the set");
  }
  for (const std::string& name : outputs) rows.push_back(judge_tensor(set, run, compute_type, name));
  for (const auto& [name, tensor] : set.tensors) {
    if (!known.contains(name)) add_failure(name, "not a tensor of a set with this config.json");
  }
  for (const auto& [name, description] : set.unreadable)
    add_failure(name, "of a type that no set holds: " + description);
  return rows;
}

}  // namespace flashvsr::cli
