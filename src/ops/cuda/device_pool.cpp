#include "ops/cuda/device_pool.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <algorithm>

namespace flashvsr::cuda {
namespace {

constexpr std::size_t kAlignment = 1024;
// Memory is taken from the device in pieces of at least this size.
constexpr std::size_t kStep = std::size_t{32} << 20;

std::size_t rounded_up(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <typename Function>
Function entry_point(const char* name, unsigned version) {
  void* pointer = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &pointer, version, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    fail(ErrorCode::device, "the CUDA driver has no {}: install a newer driver", name);
  }
  return reinterpret_cast<Function>(pointer);
}

CUmemAllocationProp allocation_properties(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

}  // namespace

// The driver's functions for virtual memory, found at run time: the driver is not linked.
struct DevicePool::Driver {
  PFN_cuMemGetAllocationGranularity_v10020 granularity;
  PFN_cuMemAddressReserve_v10020 reserve;
  PFN_cuMemAddressFree_v10020 free;
  PFN_cuMemCreate_v10020 create;
  PFN_cuMemRelease_v10020 release;
  PFN_cuMemMap_v10020 map;
  PFN_cuMemUnmap_v10020 unmap;
  PFN_cuMemSetAccess_v10020 set_access;

  static const Driver& get() {
    static const Driver driver{
        entry_point<PFN_cuMemGetAllocationGranularity_v10020>("cuMemGetAllocationGranularity", 10020),
        entry_point<PFN_cuMemAddressReserve_v10020>("cuMemAddressReserve", 10020),
        entry_point<PFN_cuMemAddressFree_v10020>("cuMemAddressFree", 10020),
        entry_point<PFN_cuMemCreate_v10020>("cuMemCreate", 10020),
        entry_point<PFN_cuMemRelease_v10020>("cuMemRelease", 10020),
        entry_point<PFN_cuMemMap_v10020>("cuMemMap", 10020),
        entry_point<PFN_cuMemUnmap_v10020>("cuMemUnmap", 10020),
        entry_point<PFN_cuMemSetAccess_v10020>("cuMemSetAccess", 10020)};
    return driver;
  }
};

class DevicePool::Block final : public Storage {
 public:
  Block(std::shared_ptr<DevicePool> pool, std::size_t offset, std::size_t bytes, std::size_t taken)
      : Storage(reinterpret_cast<void*>(pool->base_ + offset), bytes),
        pool_(std::move(pool)),
        offset_(offset),
        taken_(taken) {}
  ~Block() override { pool_->give_back(offset_, taken_); }

 private:
  std::shared_ptr<DevicePool> pool_;
  std::size_t offset_, taken_;
};

std::shared_ptr<DevicePool> DevicePool::create(int device) {
  const Driver& driver = Driver::get();
  const CUmemAllocationProp properties = allocation_properties(device);
  std::size_t granularity = 0, free_bytes = 0, total_bytes = 0;
  if (driver.granularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) != CUDA_SUCCESS ||
      cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
    fail(ErrorCode::device, "CUDA device {} cannot map memory", device);
  }
  // Addresses cost nothing; more than the card has is never backed.
  const std::size_t reserved = rounded_up(total_bytes, granularity);
  CUdeviceptr base = 0;
  if (driver.reserve(&base, reserved, 0, 0, 0) != CUDA_SUCCESS) {
    fail(ErrorCode::device, "CUDA device {}: {:.1f} GB of addresses cannot be reserved", device,
         static_cast<double>(reserved) / 1e9);
  }
  return std::shared_ptr<DevicePool>(new DevicePool(device, driver, granularity, reserved, base));
}

DevicePool::DevicePool(int device, const Driver& driver, std::size_t granularity, std::size_t reserved,
                       unsigned long long base)
    : device_(device), driver_(driver), granularity_(granularity), reserved_(reserved), base_(base) {}

DevicePool::~DevicePool() {
  // Work that still reads the memory has to end first. At the end of the process the driver may already be gone.
  if (cudaSetDevice(device_) != cudaSuccess || cudaDeviceSynchronize() != cudaSuccess) return;
  for (const Mapping& mapping : mappings_) {
    driver_.unmap(base_ + mapping.offset, mapping.bytes);
    driver_.release(mapping.handle);
  }
  driver_.free(base_, reserved_);
}

std::shared_ptr<Storage> DevicePool::allocate(std::size_t bytes) {
  const std::size_t taken = std::max(rounded_up(bytes, kAlignment), kAlignment);
  const std::scoped_lock lock(mutex_);
  const std::size_t offset = ranges_.take(taken, [this](std::size_t end) { grow_to(end); });
  in_use_ += taken;
  peak_ = std::max(peak_, in_use_);
  return std::make_shared<Block>(shared_from_this(), offset, bytes, taken);
}

void DevicePool::grow_to(std::size_t end) {
  if (end <= mapped_) return;
  std::size_t free_bytes = 0, total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  const auto refuse = [&] {
    fail(ErrorCode::out_of_memory,
         "CUDA device {} has {:.2f} of {:.2f} GB left and {:.2f} GB more are needed: choose a smaller output size or "
         "end other programs on the device",
         device_, static_cast<double>(free_bytes) / 1e9, static_cast<double>(total_bytes) / 1e9,
         static_cast<double>(end - mapped_) / 1e9);
  };
  const std::size_t bytes = rounded_up(std::max(end - mapped_, kStep), granularity_);
  if (mapped_ + bytes > reserved_) refuse();
  const CUmemAllocationProp properties = allocation_properties(device_);
  CUmemGenericAllocationHandle handle = 0;
  if (driver_.create(&handle, bytes, &properties, 0) != CUDA_SUCCESS) refuse();
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  if (driver_.map(base_ + mapped_, bytes, 0, handle, 0) != CUDA_SUCCESS) {
    driver_.release(handle);
    refuse();
  }
  if (driver_.set_access(base_ + mapped_, bytes, &access, 1) != CUDA_SUCCESS) {
    driver_.unmap(base_ + mapped_, bytes);
    driver_.release(handle);
    refuse();
  }
  mappings_.push_back({handle, mapped_, bytes});
  mapped_ += bytes;
}

void DevicePool::give_back(std::size_t offset, std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  in_use_ -= bytes;
  ranges_.give_back(offset, bytes);
}

std::size_t DevicePool::in_use() const {
  const std::scoped_lock lock(mutex_);
  return in_use_;
}

std::size_t DevicePool::peak() const {
  const std::scoped_lock lock(mutex_);
  return peak_;
}

std::size_t DevicePool::held() const {
  const std::scoped_lock lock(mutex_);
  return mapped_;
}

}  // namespace flashvsr::cuda
