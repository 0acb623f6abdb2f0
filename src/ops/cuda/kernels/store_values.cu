#include "ops/cuda/kernels/store_values.h"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

// A launch's arguments are 4 KiB at most.
constexpr int kValues = 896, kThreads = 128;

struct Values {
  float values[kValues];
};

__global__ void __launch_bounds__(kThreads)
    store_values_kernel(float* to, int count, const __grid_constant__ Values values) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) to[i] = values.values[i];
}

}  // namespace

cudaError_t launch_store_values(float* to, const float* from, std::int64_t count, cudaStream_t stream) {
  for (std::int64_t done = 0; done < count; done += kValues) {
    const auto part = static_cast<int>(std::min<std::int64_t>(kValues, count - done));
    Values values{};
    std::copy_n(from + done, part, values.values);
    store_values_kernel<<<1, kThreads, 0, stream>>>(to + done, part, values);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace flashvsr::cuda
