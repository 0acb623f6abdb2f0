// What the profile and the benchmark ask of the device.
#include "ops/cuda/cuda_operations.h"

#include <array>

namespace flashvsr::ops {
namespace {

using cuda::check;

class EventMark final : public Mark {
 public:
  explicit EventMark(cudaStream_t stream) {
    check(cudaEventCreate(&event_), "making an event");
    if (const cudaError_t status = cudaEventRecord(event_, stream); status != cudaSuccess) {
      cudaEventDestroy(event_);
      check(status, "recording an event");
    }
  }
  ~EventMark() override { cudaEventDestroy(event_); }
  EventMark(const EventMark&) = delete;
  EventMark& operator=(const EventMark&) = delete;

  // Of marks of one back end.
  double seconds_since(const Mark& earlier) const override {
    check(cudaEventSynchronize(event_), "waiting for the device");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, static_cast<const EventMark&>(earlier).event_, event_), "reading a time");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

std::unique_ptr<Mark> CudaOperations::mark() { return mark_on(stream()); }

std::unique_ptr<Mark> CudaOperations::mark_on(cudaStream_t stream) { return std::make_unique<EventMark>(stream); }

Hardware CudaOperations::hardware() const {
  const cudaDeviceProp& properties = device_.properties();
  std::array<char, 32> address{};
  check(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), device_.index()),
        "asking where the device is");
  return {.name = properties.name,
          .bus_address = address.data(),
          .compute_capability = device_.architecture(),
          .multiprocessors = device_.multiprocessors(),
          .memory = properties.totalGlobalMem};
}

}  // namespace flashvsr::ops
