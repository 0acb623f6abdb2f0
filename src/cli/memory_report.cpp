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
          {"sent_images", plan.sent_images},
          {"finished", plan.finished},
          {"working", working},
          {"gaps", plan.gaps},
          {"total", plan.total},
          {"spilled_windows", plan.spilled_windows},
          {"spilled", plan.spilled},
          {"decoder_slice", plan.decoder_slice},
          {"tiles", fmt::format("{}x{}", plan.tiles.columns, plan.tiles.rows)},
          {"tile_width", plan.tile_width},
          {"tile_height", plan.tile_height},
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
  if (plan["sent_images"].get<double>() > 0) row("images that were sent", plan["sent_images"]);
  if (plan["finished"].get<double>() > 0) row("finished frames that wait", plan["finished"]);
  for (const auto& [name, bytes] : plan["working"].items()) row("while at work: " + name, bytes);
  row("gaps", plan["gaps"]);
  row("in all, with the largest at work", plan["total"]);
  if (plan["spilled"].get<double>() > 0) {
    row(fmt::format("{} windows in the host's memory", plan["spilled_windows"].get<int>()), plan["spilled"]);
  }
  if (plan["decoder_slice"].get<double>() > 0) row("decoder: slices of at most", plan["decoder_slice"]);
  if (!plan["available"].is_null())
    row(plan["fits"].get<bool>() ? "available" : "available: NOT ENOUGH", plan["available"]);
  if (plan["tiles"] != "1x1") {
    fmt::print("  {} tiles of {}x{} pixels, which cost quality at their borders\n", plan["tiles"].get<std::string>(),
               plan["tile_width"].get<int>(), plan["tile_height"].get<int>());
  }
}

}  // namespace flashvsr::cli
