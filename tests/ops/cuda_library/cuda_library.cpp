// A library in the place of libflashvsr_cuda.so: device 0 is there, and its back end is the plain reference.
#include "ops/cpu/reference_operations.h"
#include "ops/cuda/plugin.h"

#ifndef LIBRARY_VERSION
#define LIBRARY_VERSION flashvsr::ops::kCudaPluginVersion
#endif
#ifndef LIBRARY_ENTRY
#define LIBRARY_ENTRY flashvsr_cuda_plugin
#endif
#ifdef LIBRARY_NEEDS_DEPENDENCY
int dependency();
#else
static int dependency() { return 0; }
#endif

namespace flashvsr::ops {
namespace {

void require_device(int device) {
  if (device != dependency()) fail(ErrorCode::device, "there is no CUDA device {}: there is 1", device);
}

Operations* make(const CudaPluginSettings& settings) {
  require_device(settings.device);
  return new ReferenceOperations({.compute = settings.f32 ? DType::f32 : DType::bf16});
}

std::string describe() { fail(ErrorCode::out_of_memory, "no memory for a description that is too long to be short"); }

}  // namespace
}  // namespace flashvsr::ops

extern "C" __attribute__((visibility("default"))) const flashvsr::ops::CudaPlugin* LIBRARY_ENTRY() {
  static const flashvsr::ops::CudaPlugin plugin{LIBRARY_VERSION, flashvsr::ops::require_device, flashvsr::ops::make,
                                                flashvsr::ops::describe};
  return &plugin;
}
