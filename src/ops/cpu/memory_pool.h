// Memory of a CPU back end's tensors.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace flashvsr::ops {

// One reserved range of addresses from which tensors are cut. Freed ranges merge with their neighbours and are used
// again for tensors of any size, so that a stream touches new pages only until its first chunk is done: neither page
// faults nor memory grow afterwards. Every tensor keeps its pool alive, and may be freed on any thread.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  // Throws Error(out_of_memory) if the addresses cannot be had.
  static std::shared_ptr<MemoryPool> create();
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // 64-byte aligned, contents undefined. Throws Error(out_of_memory).
  std::shared_ptr<Storage> allocate(std::size_t bytes);

  // Bytes of living tensors: now, and the most at any time.
  std::size_t in_use() const;
  std::size_t peak() const;
  // Bytes of pages that the pool holds, free ranges included: never more than the furthest that it had to grow.
  std::size_t held() const;
  // Gives the pages of free ranges back to the system. Happens by itself when nothing is in use, and when for many
  // allocations less than half of what is held was needed (a large stream has ended, a small one goes on).
  void trim();

 private:
  class Block;

  MemoryPool(std::byte* base, std::size_t reserved);
  std::size_t take(std::size_t bytes);
  void give_back(std::size_t offset, std::size_t bytes);
  void trim_locked();
  void count(std::size_t bytes);

  mutable std::mutex mutex_;
  std::byte* base_;
  std::size_t reserved_;
  std::size_t end_ = 0;                             // the pool has used [0, end_) so far
  std::map<std::size_t, std::size_t> free_ranges_;  // offset -> bytes, never adjacent to each other
  std::size_t released_ = 0;                        // bytes inside [0, end_) whose pages were given back and not reused
  std::size_t in_use_ = 0, peak_ = 0;
  // Of the current run of allocations, after which trimming is considered.
  std::size_t recent_peak_ = 0, recent_allocations_ = 0;
};

}  // namespace flashvsr::ops
