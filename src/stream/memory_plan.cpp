#include "stream/memory_plan.h"

#include "stream/stream.h"

#include <algorithm>
#include <array>
#include <vector>

namespace flashvsr::stream {
namespace {

// The first chunk has more tokens than later ones, which have more to remember. After these nothing is new.
constexpr std::int64_t kPlannedChunks = 3;
// Frames that may be sent while the device works on two chunks.
constexpr std::int64_t kSentAhead = 2 * kChunkFrames + 1;
// HR frames that wait at most, in a drained stream: those of the planned chunks and of one more, which is cut off.
constexpr std::int64_t kMostFinished = 40, kFinishedLater = 3;
// Memory is taken from devices in steps of this.
constexpr std::size_t kStep = std::size_t{32} << 20;
// Parts of the profile.
constexpr std::array<const char*, 4> kParts{"projector", "dit", "decoder", "frames"};

std::size_t in_steps(std::size_t bytes) { return (bytes + kStep - 1) / kStep * kStep; }

// Views keep all of what they are part of.
std::size_t bytes_of(const Tensor& x) { return x ? x.storage()->bytes() : 0; }

std::size_t memory_bytes(const StreamState& state) {
  std::size_t bytes = 0;
  for (const TileState& tile : state.tiles) {
    bytes += bytes_of(tile.projector.cache1) + bytes_of(tile.projector.cache2);
    for (const Tensor& memory : tile.tiny_decoder.memory) bytes += bytes_of(memory);
    for (const auto& [name, front] : tile.full_decoder.front) bytes += bytes_of(front);
  }
  return bytes;
}

std::size_t kv_cache_bytes(const StreamState& state) {
  std::size_t bytes = 0;
  for (const TileState& tile : state.tiles) {
    // Tiles that share their slots have them one at a time.
    for (const Tensor* x : {&tile.kv_cache.k, &tile.kv_cache.v, &tile.kv_cache.k_means}) bytes += bytes_of(*x);
  }
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
  const Shape output{1, settings.output_height, settings.output_width, 3};
  std::vector<Tensor> finished;
  if (settings.image_output) plan.finished = static_cast<std::size_t>(kMostFinished * output.elements());
  for (std::int64_t chunk = 0; chunk < kPlannedChunks; ++chunk) {
    // Those of the chunk before have been received when the next one runs; images may all wait.
    const std::int64_t frames = chunk == 0 ? kFirstChunkFrames : kChunkFrames;
    for (std::int64_t i = 0; i < frames; ++i) {
      if (i + 1 == frames) {
        const std::size_t waiting = stream.state().pending.size() + 1;
        plan.waiting_frames = std::max(plan.waiting_frames, waiting * bytes_of(stream.state().pending.back()));
        if (settings.image_output) {
          for (const ops::HostCopy& done : stream.state().finished) finished.push_back(done.wait());
          for (std::int64_t j = 0; j < kFinishedLater && chunk + 1 == kPlannedChunks; ++j) {
            finished.push_back(operations.zeros(output, DType::u8));
          }
        }
        stream.state().finished.clear();
      }
      stream.send(operations.zeros(frame, DType::u8));
    }
    plan.memories = std::max(plan.memories, memory_bytes(stream.state()));
  }
  plan.kv_cache = kv_cache_bytes(stream.state());
  plan.spilled_windows = settings.spilled_windows.value_or(0);
  plan.spilled = operations.host_bytes();
  if (!settings.full_decoder) {
    plan.decoder_slice = settings.decoder_slice_bytes.value_or(models::TinyDecoder::kSliceBytes);
  }
  plan.tiles = settings.tiles.value_or(TileCounts{});
  plan.tile_width = stream.tile_width();
  plan.tile_height = stream.tile_height();

  const std::size_t kept = plan.constants + plan.kv_cache + plan.waiting_frames + plan.memories + plan.finished;
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
  if (planning.own_memory && settings.image_input) {
    plan.sent_images = in_steps(static_cast<std::size_t>(kSentAhead * frame.elements()));
  }
  plan.unavoidable = plan.weights + plan.sent_images + kept - (planning.own_memory ? plan.kv_cache : 0);
  const std::size_t named = kept + plan.largest_working(), held = in_steps(operations.held());
  plan.gaps = held > named ? held - named : 0;
  plan.total = plan.weights + plan.sent_images + std::max(held, named);
  return plan;
}

ops::PlanningSettings planning_settings(const ops::Operations& operations) {
  return {.compute = operations.compute_type(),
          .residual = operations.residual_type(),
          .own_memory = operations.device_memory() > 0};
}

}  // namespace flashvsr::stream
