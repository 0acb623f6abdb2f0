// The device of a CUDA back end: its properties, its stream, its memory.
#pragma once

#include "core/tensor.h"
#include "ops/cuda/device_pool.h"
#include "ops/cuda/pinned_pool.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>

namespace flashvsr::cuda {

// Throws Error(out_of_memory) or Error(device) with the runtime's reason; `what` says what was being done.
void check(cudaError_t status, const char* what);

// Properties of the device. Throws Error(device) with the reason if there is none, or if it is older than sm_80.
cudaDeviceProp require_device(int index);

// One device as one back end uses it. Everything is issued on one stream, so that memory which a tensor gives back may
// be used again at once by what is issued after it.
class Device {
 public:
  // Throws Error(device) as require_device does.
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  // For the calling thread. The one that made the device has it.
  void make_current() const;
  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return properties_.multiProcessorCount; }
  // 80, 89, 90, ...
  int architecture() const { return properties_.major * 10 + properties_.minor; }
  const cudaDeviceProp& properties() const { return properties_; }

  // Activations and stream state; prepared weights, tables and work space that live as long as the back end.
  DevicePool& activations() const { return *activations_; }
  DevicePool& weights() const { return *weights_; }
  // Bytes that the pools have taken from the device, and that it has left.
  std::size_t held_memory() const { return activations_->held() + weights_->held() + images_->held(); }
  std::size_t free_memory() const;
  // Contents undefined. FLASHVSR_CUDA_POOL=0 in the environment has the driver allocate every tensor by itself, slowly
  // and uncounted, so that compute-sanitizer sees where each one ends.
  Tensor allocate(const Shape& shape, DType type) const;
  Tensor allocate_weights(const Shape& shape, DType type) const;
  // Memory that the stream's work never had before; it may go when no work uses it any more.
  Tensor allocate_image(const Shape& shape, DType type) const;

  // Copies between host memory of any kind and the device, in the order of the stream. The upload returns when `host`
  // may be changed; the download when `host` holds the values.
  void upload(void* destination, const void* host, std::size_t bytes);
  void download(void* host, const void* source, std::size_t bytes);
  PinnedPool& pinned() const { return *pinned_; }
  void synchronize() const;

 private:
  Tensor allocate_from(DevicePool& pool, const Shape& shape, DType type) const;

  int index_;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  std::shared_ptr<DevicePool> activations_, weights_, images_;
  std::shared_ptr<PinnedPool> pinned_;
};

}  // namespace flashvsr::cuda
