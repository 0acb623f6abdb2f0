// How much memory a stream needs, before any work starts.
#pragma once

#include "ops/operations.h"
#include "ops/planning_operations.h"
#include "stream/tiles.h"
#include "weights/model_files.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace flashvsr::stream {

struct StreamSettings;

// Bytes. Each amount is its largest at any time of a stream.
struct MemoryPlan {
  std::size_t weights = 0;         // in the forms that products take, and libraries' work space
  std::size_t constants = 0;       // modulation, gates, keys and values of the prompt
  std::size_t kv_cache = 0;        // without what is spilled
  std::size_t waiting_frames = 0;  // LR frames that chunks still need
  std::size_t memories = 0;        // what projector and decoder remember
  std::size_t sent_images = 0;     // frames that were sent as images and that the device has not come to
  std::size_t finished = 0;        // HR frames that wait on the device
  // Of each network, what it needs besides: not at the same time. In the order in which they run.
  std::vector<std::pair<std::string, std::size_t>> working;
  std::size_t gaps = 0;  // between tensors
  std::size_t total = 0;
  std::size_t unavoidable = 0;                    // of the total, what no smaller slice, spilled window or tile saves
  std::size_t available = ops::kUnboundedMemory;  // to all of it
  // Of the KV cache, in the host's memory; no part of the total.
  std::int64_t spilled_windows = 0;
  std::size_t spilled = 0;
  std::size_t decoder_slice = 0;  // StreamSettings::decoder_slice_bytes; 0 with the full decoder
  TileCounts tiles;
  std::int64_t tile_width = 0, tile_height = 0;  // pixels; of the padded frame if it is not cut

  std::size_t largest_working() const;
};

// Runs the first chunks of a stream on a back end that computes nothing. Throws what Stream's constructor throws for
// the settings.
MemoryPlan plan_memory(const weights::ModelFiles& files, const StreamSettings& settings,
                       const ops::PlanningSettings& planning);

// How the memory of `operations` has to be planned.
ops::PlanningSettings planning_settings(const ops::Operations& operations);

}  // namespace flashvsr::stream
