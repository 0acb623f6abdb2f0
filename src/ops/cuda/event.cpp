#include "ops/cuda/event.h"

#include "ops/cuda/device.h"

namespace flashvsr::cuda {

Event::Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event"); }

Event::Event(cudaStream_t stream) : Event() { check(record(stream), "recording an event"); }

Event::~Event() { cudaEventDestroy(event_); }

bool Event::has_happened(const char* what) const {
  const cudaError_t status = cudaEventQuery(event_);
  if (status == cudaErrorNotReady) return false;
  check(status, what);
  return true;
}

void Event::wait(const char* what) const { check(cudaEventSynchronize(event_), what); }

void Event::hold_back(cudaStream_t stream) const { check(cudaStreamWaitEvent(stream, event_), "waiting for an event"); }

}  // namespace flashvsr::cuda
