// How a plan of memory is shown.
#pragma once

#include "stream/memory_plan.h"

#include <nlohmann/json.hpp>

namespace flashvsr::cli {

// Bytes; "available" is null where nothing is known of the device.
nlohmann::ordered_json describe(const stream::MemoryPlan& plan);

// The table of describe().
void print_memory(const nlohmann::ordered_json& plan);

}  // namespace flashvsr::cli
