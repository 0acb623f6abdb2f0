// A point in a stream's work that others can wait for.
#pragma once

#include <cuda_runtime.h>

namespace flashvsr::cuda {

class Event {
 public:
  // One that has happened. Throws Error(device).
  Event();
  // One that happens when `stream` has done what was issued on it so far. Throws Error(device).
  explicit Event(cudaStream_t stream);
  // One that streams still wait for goes when it has happened.
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // From now on it is the point up to which work has been issued on `stream`.
  [[nodiscard]] cudaError_t record(cudaStream_t stream) { return cudaEventRecord(event_, stream); }
  // `what` is for the message of an Error(device).
  bool has_happened(const char* what) const;
  void wait(const char* what) const;
  // The same where nothing may be thrown.
  void drain() const noexcept { cudaEventSynchronize(event_); }
  // What is issued on `stream` from now on waits for it.
  void hold_back(cudaStream_t stream) const;

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace flashvsr::cuda
