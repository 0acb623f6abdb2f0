#include "stream/memory_plan.h"

#include "stream/stream.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace flashvsr::stream {
namespace {

// The first chunk has more tokens than later ones, which have more to remember. After these nothing is new.
constexpr std::int64_t kPlannedChunks = 3;
// Memory is taken from devices in steps of this.
constexpr std::size_t kStep = std::size_t{32} << 20;
// Parts of the profile.
constexpr std::array<const char*, 4> kParts{"projector", "dit", "decoder", "frames"};

std::size_t in_steps(std::size_t bytes) { return (bytes + kStep - 1) / kStep * kStep; }

// Views keep all of what they are part of.
std::size_t bytes_of(const Tensor& x) { return x ? x.storage()->bytes() : 0; }

std::size_t memory_bytes(const StreamState& state) {
  std::size_t bytes = bytes_of(state.projector.cache1) + bytes_of(state.projector.cache2);
  for (const Tensor& memory : state.tiny_decoder.memory) bytes += bytes_of(memory);
  for (const auto& [name, front] : state.full_decoder.front) bytes += bytes_of(front);
  return bytes;
}

}  // namespace

std::size_t MemoryPlan::largest_working() const {
  std::size_t largest = 0;
  for (const auto& [name, bytes] : working) largest = std::max(largest, bytes);
  return largest;
}

MemoryPlan plan_memory(const weights::ModelFiles& files, const StreamSettings& settings,
                       const ops::PlanningSettings& planning) {
  ops::PlanningOperations operations(planning);
  const Networks networks(operations, files);
  StreamSettings silent = settings;
  silent.noise = nullptr;
  silent.progress = nullptr;
  Stream stream(networks, silent);
  MemoryPlan plan;
  plan.constants = operations.memory_in_use();
  operations.forget_peaks();

  const Shape frame{1, settings.input_height, settings.input_width, 3};
  for (std::int64_t chunk = 0; chunk < kPlannedChunks; ++chunk) {
    // Those of the chunk before have been received when the next one runs.
    const std::int64_t frames = chunk == 0 ? kFirstChunkFrames : kChunkFrames;
    for (std::int64_t i = 0; i < frames; ++i) {
      if (i + 1 == frames) {
        const std::size_t waiting = stream.state().pending.size() + 1;
        plan.waiting_frames = std::max(plan.waiting_frames, waiting * bytes_of(stream.state().pending.back()));
        stream.state().finished.clear();
      }
      stream.send(operations.zeros(frame, DType::u8));
    }
    plan.memories = std::max(plan.memories, memory_bytes(stream.state()));
  }
  const ops::KvCache& cache = stream.state().kv_cache;
  plan.kv_cache = cache.k.bytes() + cache.v.bytes() + cache.k_means.bytes();

  plan.spilled_windows = settings.spilled_windows.value_or(0);
  plan.spilled = operations.host_bytes();

  const std::size_t kept = plan.constants + plan.kv_cache + plan.waiting_frames + plan.memories;
  for (const char* part : kParts) {
    const auto found = operations.peaks().find(part);
    const std::size_t peak = found == operations.peaks().end() ? 0 : found->second;
    plan.working.emplace_back(part, peak > kept ? peak - kept : 0);
  }
  if (planning.own_memory) {
    plan.weights = in_steps(operations.weights());
  } else {
    for (const WeightMap* map : {&files.projector, &files.dit, settings.full_decoder ? &files.vae : &files.decoder}) {
      for (const auto& [name, parameter] : *map) plan.weights += parameter.values().bytes();
    }
  }
  const std::size_t named = kept + plan.largest_working(), held = in_steps(operations.held());
  plan.gaps = held > named ? held - named : 0;
  plan.total = plan.weights + std::max(held, named);
  return plan;
}

MemoryPlan fitting_plan(const MemoryPlan& plan, const weights::ModelFiles& files, const StreamSettings& settings,
                        const ops::PlanningSettings& planning, std::size_t available) {
  MemoryPlan result = plan;
  result.available = available;
  // The host's memory is no help where it is what is planned.
  if (result.total <= available || settings.spilled_windows || !planning.own_memory) return result;
  const std::int64_t layers = files.config.layers, most = layers * settings.kv_chunks;
  const std::int64_t first = chunk_at(0).latents / ops::kWindowLatents;
  const auto slots = [&](std::int64_t spilled) {
    return ops::kv_cache_slots(layers, settings.kv_chunks, first, spilled);
  };
  const std::size_t window = plan.kv_cache / static_cast<std::size_t>(slots(0));
  StreamSettings trial = settings;
  // Gaps change with the cache: what the figures promise is tried, and more is spilled where they were wrong.
  for (std::int64_t spilled = 1; spilled <= most; ++spilled) {
    const std::int64_t saved = slots(0) - slots(spilled);
    const bool promising = saved > 0 && plan.total - static_cast<std::size_t>(saved) * window <= available;
    if (!promising && spilled < most) continue;
    trial.spilled_windows = spilled;
    result = plan_memory(files, trial, planning);
    result.available = available;
    if (result.total <= available) break;
  }
  return result;
}

ops::PlanningSettings planning_settings(const ops::Operations& operations) {
  return {.compute = operations.compute_type(),
          .residual = operations.residual_type(),
          .own_memory = operations.device_memory() > 0};
}

void require_memory(const MemoryPlan& plan, const StreamSettings& settings) {
  const auto gigabytes = [](std::size_t bytes) { return static_cast<double>(bytes) / 1e9; };
  if (plan.total > plan.available) {
    fail(ErrorCode::out_of_memory,
         "an output of {}x{} needs {:.1f} GB of memory, of which the KV cache takes {:.1f} GB{}; {:.1f} GB are there: "
         "choose a smaller output or fewer chunks in the KV cache (now {})",
         settings.output_width, settings.output_height, gigabytes(plan.total), gigabytes(plan.kv_cache),
         plan.spilled > 0 ? fmt::format(", with {:.1f} GB more in the host's memory", gigabytes(plan.spilled)) : "",
         gigabytes(plan.available), settings.kv_chunks);
  }
  const auto host = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // The host has other uses for its memory.
  if (plan.spilled > host / 4 * 3) {
    fail(ErrorCode::out_of_memory,
         "an output of {}x{} needs {:.1f} GB of the host's memory for the KV cache, which has {:.1f} GB: choose a "
         "smaller output or fewer chunks in the KV cache (now {})",
         settings.output_width, settings.output_height, gigabytes(plan.spilled), gigabytes(host), settings.kv_chunks);
  }
}

}  // namespace flashvsr::stream
