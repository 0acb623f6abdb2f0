// Copies between state on the device and in the host's memory, beside the stream that computes.
#pragma once

#include "core/tensor.h"
#include "ops/copies.h"
#include "ops/cuda/event.h"

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>

namespace flashvsr::cuda {

class Device;

// One stream a direction, so that both can be under way at once, and one for finished frames, which do not wait behind
// state. Memory that copies use keeps the streams alive.
class CopyStreams : public std::enable_shared_from_this<CopyStreams> {
 public:
  // Throws Error(device).
  static std::shared_ptr<CopyStreams> create();
  ~CopyStreams();
  CopyStreams(const CopyStreams&) = delete;
  CopyStreams& operator=(const CopyStreams&) = delete;

  // `device` as memory that copies may use: before it goes, they have ended.
  Tensor guarded(const Tensor& device);
  // Pinned memory. Throws Error(out_of_memory).
  Tensor host_memory(const Shape& shape, DType type);

  cudaStream_t stream(ops::CopyDirection direction) const {
    return direction == ops::CopyDirection::to_host ? to_host_ : to_device_;
  }
  // Copies in this direction that are started from now on begin when `after` have ended and `computing` has done what
  // was issued on it so far.
  void hold_back(ops::CopyDirection direction, std::span<const std::shared_ptr<ops::Copies>> after,
                 cudaStream_t computing) const;
  std::shared_ptr<ops::Copies> start(ops::CopyDirection direction, std::span<const ops::CopyPair> pairs);
  // What is issued on `waiting` from now on waits for the copies.
  static void finish(const ops::Copies& copies, cudaStream_t waiting);
  // Copies a finished tensor behind what the device has computed so far, beside what is issued on it from now on: by way
  // of memory of its own, so that when the tensor's is free again does not depend on how fast the link is.
  void download(void* host, const Tensor& from, const Device& device);
  cudaStream_t downloading() const { return downloading_; }
  // Waits on the host.
  void synchronize() const;

 private:
  CopyStreams() = default;

  cudaStream_t to_device_ = nullptr, to_host_ = nullptr, downloading_ = nullptr;
  struct Outbox {
    Tensor memory;
    Event free;
  };
  std::array<Outbox, 2> outboxes_;  // take turns
  std::size_t next_outbox_ = 0;
};

}  // namespace flashvsr::cuda
