// Memory of a CPU back end's tensors.
#pragma once

#include "core/tensor.h"
#include "ops/range_allocator.h"

#include <cstddef>
#include <memory>
#include <mutex>

namespace flashvsr::ops {

// One reserved range of addresses from which tensors are cut. Freed ranges merge with their neighbours and are used
// again for tensors of any size, so that a stream touches new pages only until its first chunks are done: afterwards
// there are neither page faults nor growth. Every tensor keeps its pool alive, and may be freed on any thread.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  // Throws Error(out_of_memory) if no addresses can be had.
  static std::shared_ptr<MemoryPool> create();
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // 64-byte aligned, contents undefined. Throws Error(out_of_memory).
  std::shared_ptr<Storage> allocate(std::size_t bytes);

  // Bytes of living tensors: now, and the most at any time.
  std::size_t in_use() const;
  std::size_t peak() const;
  // Bytes between the first and the last range in use, free ranges in between included.
  std::size_t held() const;
  // Gives the pages of free ranges back to the system. Happens by itself when nothing is in use, and when many
  // allocations in a row needed less than half of what is held (a large stream has ended, a small one goes on).
  void trim();

 private:
  class Block;
  class SmallBlock;

  MemoryPool(std::byte* base, std::size_t reserved);
  std::size_t take(std::size_t bytes);
  void give_back(std::size_t offset, std::size_t bytes);
  void grow_to(std::size_t end);
  void trim_locked();
  void count_allocation(std::size_t bytes);
  void count_release(std::size_t bytes);

  mutable std::mutex mutex_;
  std::byte* base_;
  std::size_t reserved_;
  std::size_t usable_ = 0;  // [0, usable_) may be read and written
  RangeAllocator ranges_;
  std::size_t in_use_ = 0, peak_ = 0;
  // Since trimming was last considered.
  std::size_t recent_peak_ = 0, recent_allocations_ = 0;
};

}  // namespace flashvsr::ops
