#include "ops/backend.h"

#include "ops/cpu/reference_operations.h"
#if FLASHVSR_HAVE_ONEDNN
#include "ops/cpu/onednn_operations.h"
#else
#include "ops/cpu/vector_operations.h"
#endif
#include "ops/cuda_loader.h"

namespace flashvsr::ops {
namespace {

// The most derived CPU back end of this build.
#if FLASHVSR_HAVE_ONEDNN
using FastCpuOperations = OneDnnOperations;
#else
using FastCpuOperations = VectorOperations;
#endif

bool multiplies_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

CpuSettings cpu_settings(const BackendSettings& settings, bool automatic_bf16) {
  const bool bf16 =
      settings.precision == Precision::bf16 || (settings.precision == Precision::automatic && automatic_bf16);
  return {.compute = bf16 ? DType::bf16 : DType::f32, .threads = settings.threads};
}

std::unique_ptr<Operations> make_cpu(const BackendSettings& settings) {
  return std::make_unique<FastCpuOperations>(cpu_settings(settings, multiplies_bf16()));
}

std::unique_ptr<Operations> make_cuda(const BackendSettings& settings) {
  return std::unique_ptr<Operations>(
      cuda_library().make({.device = settings.device_index, .f32 = settings.precision == Precision::f32}));
}

std::unique_ptr<Operations> make(const BackendSettings& settings) {
  switch (settings.device) {
    case Device::automatic: return cuda_unavailable_reason().empty() ? make_cuda(settings) : make_cpu(settings);
    case Device::cpu: return make_cpu(settings);
    // Plain loops gain nothing from bf16.
    case Device::cpu_reference: return std::make_unique<ReferenceOperations>(cpu_settings(settings, false));
    case Device::cuda: return make_cuda(settings);
  }
  fail(ErrorCode::internal, "device {} is none", static_cast<int>(settings.device));
}

}  // namespace

std::unique_ptr<Operations> make_backend(const BackendSettings& settings) {
  require(settings.threads >= 0, "{} threads", settings.threads);
  require(settings.device_index == 0 || settings.device == Device::cuda, "device {} of a back end that has but one",
          settings.device_index);
  std::unique_ptr<Operations> operations = make(settings);
  if (settings.memory_limit > 0) operations->limit_memory(settings.memory_limit);
  return operations;
}

}  // namespace flashvsr::ops
