// How the program and libflashvsr_cuda.so, which it loads when it needs it, agree.
#pragma once

#include "ops/operations.h"

namespace flashvsr::ops {

struct CudaPluginSettings {
  int device = 0;
  bool f32 = false;
};

// Name of the file, and of the one C function that it exports.
inline constexpr const char* kCudaPluginFile = "libflashvsr_cuda.so";
inline constexpr const char* kCudaPluginEntry = "flashvsr_cuda_plugin";

struct CudaPlugin {
  // Both sides must have been built from the same sources. Read before anything else.
  const char* version;
  // Throws Error(device) with the reason if the device cannot be used.
  void (*require_device)(int device);
  // Gives a new back end, or throws Error(device).
  Operations* (*make)(const CudaPluginSettings& settings);
  // One line about all devices, e.g. "cuda:0 NVIDIA H200 (sm_90, 139.8 GB)"; throws Error(device).
  std::string (*describe)();
};

inline constexpr const char* kCudaPluginVersion = "flashvsr-cuda-4";

}  // namespace flashvsr::ops
