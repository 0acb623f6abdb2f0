// Finds and loads libflashvsr_cuda.so, the CUDA back end. The program needs neither a driver nor CUDA's libraries to
// start: it says what is missing when CUDA is asked for.
#pragma once

#include "ops/cuda/plugin.h"

#include <filesystem>
#include <string>
#include <vector>

namespace flashvsr::ops {

// Where the library is looked for: beside the file that holds this code, in the library folder next to it, and, by its
// name alone, wherever the system looks.
std::vector<std::filesystem::path> cuda_library_places();

// Loads the first of `places` that is there; a place without folder is left to the system. Throws Error(device) that
// names the places if there is none, the library that it misses in turn, or the version that it has and should have.
const CudaPlugin& load_cuda_library(const std::vector<std::filesystem::path>& places);

// Throws Error(device) if there is no NVIDIA driver.
void require_cuda_driver();

// The library of cuda_library_places(), loaded once. Throws Error(device) as above.
const CudaPlugin& cuda_library();

// Why no CUDA device can be used here, found out once; empty if one can.
const std::string& cuda_unavailable_reason();

}  // namespace flashvsr::ops
