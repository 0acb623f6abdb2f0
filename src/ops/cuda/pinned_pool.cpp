#include "ops/cuda/pinned_pool.h"

#include "ops/cuda/device.h"

namespace flashvsr::cuda {

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
  check(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault), "pinning host memory");
}

PinnedBuffer::~PinnedBuffer() {
  event_.drain();
  cudaFreeHost(data_);
}

void PinnedBuffer::in_use_until_now(cudaStream_t stream) { check(event_.record(stream), "recording an event"); }

bool PinnedBuffer::idle() const { return event_.has_happened("asking for a copy"); }

void PinnedBuffer::wait() const { event_.wait("waiting for a copy"); }

std::shared_ptr<PinnedBuffer> PinnedPool::take(std::size_t bytes, std::size_t most) {
  std::unique_ptr<PinnedBuffer> buffer;
  {
    const std::scoped_lock lock(mutex_);
    // Not one that is much too large: it may be wanted for what it was made for.
    const auto fits = [bytes](const PinnedBuffer& candidate) {
      return candidate.bytes() >= bytes && candidate.bytes() / 4 <= bytes;
    };
    auto chosen = free_.end();
    for (auto candidate = free_.begin(); candidate != free_.end(); ++candidate) {
      if (!fits(**candidate)) continue;
      if (chosen == free_.end() && total_ + bytes > most) chosen = candidate;  // the oldest, if none is idle
      if ((*candidate)->idle()) {
        chosen = candidate;
        break;
      }
    }
    if (chosen != free_.end()) {
      buffer = std::move(*chosen);
      free_.erase(chosen);
    } else {
      total_ += bytes;
    }
  }
  if (buffer) {
    buffer->wait();
  } else {
    buffer = std::make_unique<PinnedBuffer>(bytes);
  }
  return std::shared_ptr<PinnedBuffer>(buffer.release(), [pool = shared_from_this()](PinnedBuffer* returned) {
    const std::scoped_lock lock(pool->mutex_);
    pool->free_.emplace_back(returned);
  });
}

}  // namespace flashvsr::cuda
