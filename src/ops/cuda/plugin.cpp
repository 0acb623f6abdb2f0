#include "ops/cuda/plugin.h"

#include "ops/cuda/cuda_operations.h"

namespace flashvsr::ops {
namespace {

Operations* make(const CudaPluginSettings& settings) {
  CudaSettings cuda_settings{.device = settings.device};
  if (settings.f32) cuda_settings.compute = cuda_settings.residual = DType::f32;
  return new CudaOperations(cuda_settings);
}

void require_device(int device) { cuda::require_device(device); }

std::string describe() {
  int count = 0;
  cuda::check(cudaGetDeviceCount(&count), "counting devices");
  std::string text;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    cuda::check(cudaGetDeviceProperties(&properties, i), "asking for a device's properties");
    text += fmt::format("{}cuda:{} {} (sm_{}{}, {:.1f} GB)", i == 0 ? "" : ", ", i, properties.name, properties.major,
                        properties.minor, static_cast<double>(properties.totalGlobalMem) / 1e9);
  }
  return text;
}

}  // namespace
}  // namespace flashvsr::ops

extern "C" __attribute__((visibility("default"))) const flashvsr::ops::CudaPlugin* flashvsr_cuda_plugin() {
  static const flashvsr::ops::CudaPlugin plugin{flashvsr::ops::kCudaPluginVersion, flashvsr::ops::require_device,
                                                flashvsr::ops::make, flashvsr::ops::describe};
  return &plugin;
}
