// The ring slots of windows in view as a table on the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// table[i] = slots[i]. The values travel with the launch, so that the host neither waits nor has to keep them.
cudaError_t launch_write_slots(const std::int64_t* slots, std::int64_t count, int* table, cudaStream_t stream);

}  // namespace flashvsr::cuda
