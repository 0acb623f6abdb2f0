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

  // Begins when `computing` has done what was issued on it so far.
  std::shared_ptr<ops::Copies> start(std::span<const ops::CopyPair> pairs, cudaStream_t computing);
  // What is issued on `computing` from now on waits for the copies.
  static void finish(const ops::Copies& copies, cudaStream_t computing);
  // Copies a finished tensor behind what `computing` has done so far, beside what is issued on it from now on: by way
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
