// How much memory there is, and state in the host's memory.
#include "ops/cuda/cuda_operations.h"

namespace flashvsr::ops {

std::size_t CudaOperations::do_available_memory() const { return device_.held_memory() + device_.free_memory(); }

Tensor CudaOperations::transfer_memory(const Shape& shape, DType type) { return copies_->guarded(zeros(shape, type)); }

Tensor CudaOperations::host_memory(const Shape& shape, DType type) { return copies_->host_memory(shape, type); }

std::shared_ptr<Copies> CudaOperations::do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                                        std::span<const std::shared_ptr<Copies>> after,
                                                        CopyMarks* marks) {
  copies_->hold_back(direction, after, stream());
  if (marks) marks->begin = mark_on(copies_->stream(direction));
  std::shared_ptr<Copies> started = copies_->start(direction, pairs);
  if (marks) marks->end = mark_on(copies_->stream(direction));
  return started;
}

void CudaOperations::do_finish_copies(const Copies& copies) { cuda::CopyStreams::finish(copies, stream()); }

void CudaOperations::synchronize() {
  device_.synchronize();
  copies_->synchronize();
}

}  // namespace flashvsr::ops
