// A few values from the host to the device, in the order of the stream and without waiting for anything: they travel
// with the launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// `from` is host memory, free again when this returns.
cudaError_t launch_store_values(float* to, const float* from, std::int64_t count, cudaStream_t stream);

}  // namespace flashvsr::cuda
