#include "ops/cuda/kernels/attention_slots.h"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

constexpr int kSlotsOfLaunch = 512;

struct SlotValues {
  int values[kSlotsOfLaunch];
};

__global__ void write_slots_kernel(const __grid_constant__ SlotValues slots, int count, int* table) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) table[i] = slots.values[i];
}

}  // namespace

cudaError_t launch_write_slots(const std::int64_t* slots, std::int64_t count, int* table, cudaStream_t stream) {
  for (std::int64_t begin = 0; begin < count; begin += kSlotsOfLaunch) {
    const auto part = static_cast<int>(std::min<std::int64_t>(kSlotsOfLaunch, count - begin));
    SlotValues values{};
    std::transform(slots + begin, slots + begin + part, values.values,
                   [](std::int64_t slot) { return static_cast<int>(slot); });
    write_slots_kernel<<<1, kSlotsOfLaunch, 0, stream>>>(values, part, table + begin);
    if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace flashvsr::cuda
