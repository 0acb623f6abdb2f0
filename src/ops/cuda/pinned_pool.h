// Pinned host memory: what the device copies from and to while the host goes on.
#pragma once

#include "ops/cuda/event.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace flashvsr::cuda {

// A piece of pinned memory and the event after which the device no longer uses it.
class PinnedBuffer {
 public:
  // Throws Error(out_of_memory).
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  // The device is done with the buffer when it has done everything issued on `stream` so far.
  void in_use_until_now(cudaStream_t stream);
  bool idle() const;
  void wait() const;

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
  Event event_;
};

// Keeps buffers for the next who needs one: pinning memory takes milliseconds.
class PinnedPool : public std::enable_shared_from_this<PinnedPool> {
 public:
  // An idle buffer of `bytes` or more, which comes back when the last reference is dropped. Beyond `most` bytes in all
  // it waits for one rather than pin more, if there is one to wait for.
  std::shared_ptr<PinnedBuffer> take(std::size_t bytes, std::size_t most = std::size_t{256} << 20);

 private:
  std::mutex mutex_;
  std::list<std::unique_ptr<PinnedBuffer>> free_;  // oldest first
  std::size_t total_ = 0;
};

}  // namespace flashvsr::cuda
