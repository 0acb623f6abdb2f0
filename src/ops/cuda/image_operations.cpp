// Images of other libraries, and frames that stay on the device.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/event.h"
#include "ops/cuda/image_exchange.h"

namespace flashvsr::ops {
namespace {

class EventArrival final : public Arrival {
 public:
  explicit EventArrival(cudaStream_t stream) : event_(stream) {}
  bool arrived() override { return event_.has_happened("asking for a frame"); }
  void wait() override { event_.wait("waiting for a frame"); }

 private:
  cuda::Event event_;
};

}  // namespace

std::shared_ptr<Arrival> CudaOperations::arrival() { return std::make_shared<EventArrival>(stream()); }

Tensor CudaOperations::do_read_image(const SemiPlanarImage& image) { return images_->read(image); }

void CudaOperations::do_write_image(const SemiPlanarImage& image, const Tensor& rgb) { images_->write(image, rgb); }

}  // namespace flashvsr::ops
