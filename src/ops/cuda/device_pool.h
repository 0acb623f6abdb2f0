// Device memory of a CUDA back end's tensors.
#pragma once

#include "core/tensor.h"
#include "ops/range_allocator.h"

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace flashvsr::cuda {

// One reserved range of device addresses, backed by memory from its start as far as it was ever needed; tensors are cut
// from it. Freed ranges merge with their neighbours and are used again, so that a stream asks the driver for memory
// only until its first chunks are done. Every tensor keeps its pool alive, and may be freed on any thread.
class DevicePool : public std::enable_shared_from_this<DevicePool> {
 public:
  // Throws Error(device) if the driver cannot map memory.
  static std::shared_ptr<DevicePool> create(int device);
  ~DevicePool();
  DevicePool(const DevicePool&) = delete;
  DevicePool& operator=(const DevicePool&) = delete;

  // 1024-byte aligned, contents undefined. Throws Error(out_of_memory) that names the amounts.
  std::shared_ptr<Storage> allocate(std::size_t bytes);

  // Bytes of living tensors: now, and the most at any time.
  std::size_t in_use() const;
  std::size_t peak() const;
  // Bytes taken from the device.
  std::size_t held() const;

 private:
  class Block;
  struct Driver;

  DevicePool(int device, const Driver& driver, std::size_t granularity, std::size_t reserved, unsigned long long base);
  void give_back(std::size_t offset, std::size_t bytes);
  void grow_to(std::size_t end);

  mutable std::mutex mutex_;
  int device_;
  const Driver& driver_;
  std::size_t granularity_, reserved_;
  unsigned long long base_;
  struct Mapping {
    unsigned long long handle;
    std::size_t offset, bytes;
  };
  std::vector<Mapping> mappings_;
  std::size_t mapped_ = 0;  // [0, mapped_) has memory
  ops::RangeAllocator ranges_;
  std::size_t in_use_ = 0, peak_ = 0;
};

}  // namespace flashvsr::cuda
