// What is done where a stream does not fit into memory.
#pragma once

#include "stream/memory_plan.h"

#include <cstddef>

namespace flashvsr::stream {

// `plan`, or, if that needs more than `available` bytes, the first of these that does not:
// 1. smaller slices of the tiny decoder: they compute a few rows twice;
// 2. as many of the KV cache's windows in the host's memory as are needed: they are copied beside computing. Nothing to
//    be gained where the host's memory is what is planned;
// 3. all of them there, and smaller slices: a slice saves less than a window, so it comes last;
// 4. tiles, with all windows in the host's memory, ever smaller ones (tile_ladder): overlaps are computed several
//    times, and borders may show.
// Slices are as large as fits. What the settings say stays as it is. If nothing fits: the plan that needs least.
MemoryPlan fitting_plan(const MemoryPlan& plan, const weights::ModelFiles& files, const StreamSettings& settings,
                        const ops::PlanningSettings& planning, std::size_t available);

// Throws Error(out_of_memory), which names what is needed, what is there and what to do, if the plan needs more than is
// available, on the device or of the host's memory.
void require_memory(const MemoryPlan& plan, const StreamSettings& settings);

}  // namespace flashvsr::stream
