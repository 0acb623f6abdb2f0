// The device of a CUDA back end: its properties, its stream, its memory.
#pragma once

#include "core/tensor.h"
#include "ops/cuda/device_pool.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>

namespace flashvsr::cuda {

// Throws Error(out_of_memory) or Error(device) with the runtime's reason; `what` says what was being done.
void check(cudaError_t status, const char* what);

// One device as one back end uses it. Everything is issued on one stream, so that memory which a tensor gives back may
// be used again at once by what is issued after it.
class Device {
 public:
  // Throws Error(device) if there is none, or if it is older than sm_80.
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return properties_.multiProcessorCount; }
  // 80, 89, 90, ...
  int architecture() const { return properties_.major * 10 + properties_.minor; }
  const cudaDeviceProp& properties() const { return properties_; }

  // Activations and stream state; prepared weights, tables and work space that live as long as the back end.
  DevicePool& activations() const { return *activations_; }
  DevicePool& weights() const { return *weights_; }
  // Contents undefined.
  Tensor allocate(const Shape& shape, DType type) const;
  Tensor allocate_weights(const Shape& shape, DType type) const;

  // Copies between host memory of any kind and the device, in the order of the stream. The upload returns when `host`
  // may be changed; the download when `host` holds the values.
  void upload(void* device, const void* host, std::size_t bytes);
  void download(void* host, const void* device, std::size_t bytes);
  void synchronize() const;

 private:
  void* staging(std::size_t slot);

  int index_;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<DevicePool> activations_, weights_;
  // Pinned memory through which copies go; a slot is free again when its event has happened.
  static constexpr std::size_t kSlots = 2, kSlotBytes = std::size_t{8} << 20;
  void* staging_[kSlots] = {};
  cudaEvent_t staged_[kSlots] = {};
  std::size_t next_slot_ = 0;
};

}  // namespace flashvsr::cuda
