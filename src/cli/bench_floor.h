// The least time that work can take on an H200, as far as is known.
#pragma once

#include "ops/operations.h"

#include <string>

namespace flashvsr::cli {

// Whether the floor is known for this back end: bf16 on a device like the H200 (compute capability 9.0, 132
// multiprocessors, 4.3 TB/s).
bool has_floor(const ops::Operations& operations);

// Of an operation of a part of the profile (ops/profile.h).
double floor_seconds(const std::string& part, const std::string& operation, const ops::Work& work);

}  // namespace flashvsr::cli
