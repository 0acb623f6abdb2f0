// Images of other libraries, and frames that stay on the device.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/image_exchange.h"

namespace flashvsr::ops {
namespace {

using cuda::check;

class EventArrival final : public Arrival {
 public:
  explicit EventArrival(cudaStream_t stream) {
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
    const cudaError_t status = cudaEventRecord(event_, stream);
    if (status != cudaSuccess) cudaEventDestroy(event_);
    check(status, "recording an event");
  }
  ~EventArrival() override { cudaEventDestroy(event_); }
  EventArrival(const EventArrival&) = delete;
  EventArrival& operator=(const EventArrival&) = delete;

  bool arrived() override {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) return false;
    check(status, "asking for a frame");
    return true;
  }
  void wait() override { check(cudaEventSynchronize(event_), "waiting for a frame"); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

std::shared_ptr<Arrival> CudaOperations::arrival() { return std::make_shared<EventArrival>(stream()); }

Tensor CudaOperations::do_read_image(const SemiPlanarImage& image) { return images_->read(image); }

void CudaOperations::do_write_image(const SemiPlanarImage& image, const Tensor& rgb) { images_->write(image, rgb); }

}  // namespace flashvsr::ops
