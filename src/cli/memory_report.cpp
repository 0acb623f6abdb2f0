#include "cli/memory_report.h"

#include <fmt/format.h>

#include <string>

namespace flashvsr::cli {

using nlohmann::ordered_json;

ordered_json describe(const stream::MemoryPlan& plan) {
  ordered_json working;
  for (const auto& [name, bytes] : plan.working) working[name] = bytes;
  const bool known = plan.available != ops::kUnboundedMemory;
  return {{"weights", plan.weights},
          {"constants", plan.constants},
          {"kv_cache", plan.kv_cache},
          {"waiting_frames", plan.waiting_frames},
          {"memories", plan.memories},
          {"working", working},
          {"gaps", plan.gaps},
          {"total", plan.total},
          {"spilled_windows", plan.spilled_windows},
          {"spilled", plan.spilled},
          {"available", known ? ordered_json(plan.available) : ordered_json()},
          {"fits", known ? ordered_json(plan.total <= plan.available) : ordered_json()}};
}

void print_memory(const ordered_json& plan) {
  const auto row = [](const std::string& name, const ordered_json& bytes) {
    fmt::print("  {:34} {:9.3f} GB {:9.3f} GiB\n", name, bytes.get<double>() / 1e9,
               bytes.get<double>() / (1024.0 * 1024.0 * 1024.0));
  };
  row("weights, work space of libraries", plan["weights"]);
  row("modulation, prompt", plan["constants"]);
  row("KV cache", plan["kv_cache"]);
  row("LR frames that wait", plan["waiting_frames"]);
  row("memory of projector and decoder", plan["memories"]);
  for (const auto& [name, bytes] : plan["working"].items()) row("while at work: " + name, bytes);
  row("gaps", plan["gaps"]);
  row("in all, with the largest at work", plan["total"]);
  if (plan["spilled"].get<double>() > 0) row("KV cache in the host's memory", plan["spilled"]);
  if (!plan["available"].is_null())
    row(plan["fits"].get<bool>() ? "available" : "available: NOT ENOUGH", plan["available"]);
}

}  // namespace flashvsr::cli
