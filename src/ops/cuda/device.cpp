#include "ops/cuda/device.h"

#include <algorithm>
#include <cstring>

namespace flashvsr::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const auto code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device;
  fail(code, "CUDA: {}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

Device::Device(int index) : index_(index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    fail(ErrorCode::device, "there is no CUDA device here: {}",
         status == cudaSuccess ? "none was found" : cudaGetErrorString(status));
  }
  if (index < 0 || index >= count) fail(ErrorCode::device, "there is no CUDA device {}: there are {}", index, count);
  check(cudaSetDevice(index), "choosing the device");
  check(cudaGetDeviceProperties(&properties_, index), "asking for the device's properties");
  if (architecture() < 80) {
    fail(ErrorCode::device, "{} has compute capability {}.{}: 8.0 or newer is needed", properties_.name,
         properties_.major, properties_.minor);
  }
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    check(cudaHostAlloc(&staging_[slot], kSlotBytes, cudaHostAllocDefault), "allocating pinned memory");
    check(cudaEventCreateWithFlags(&staged_[slot], cudaEventDisableTiming), "making an event");
  }
  activations_ = DevicePool::create(index);
  weights_ = DevicePool::create(index);
}

Device::~Device() {
  if (stream_) cudaStreamSynchronize(stream_);
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (staged_[slot]) cudaEventDestroy(staged_[slot]);
    if (staging_[slot]) cudaFreeHost(staging_[slot]);
  }
  if (stream_) cudaStreamDestroy(stream_);
}

Tensor Device::allocate(const Shape& shape, DType type) const {
  return Tensor(shape, type, activations_->allocate(static_cast<std::size_t>(shape.elements()) * size_of(type)));
}

Tensor Device::allocate_weights(const Shape& shape, DType type) const {
  return Tensor(shape, type, weights_->allocate(static_cast<std::size_t>(shape.elements()) * size_of(type)));
}

// Pinned memory that no copy uses any more.
void* Device::staging(std::size_t slot) {
  check(cudaEventSynchronize(staged_[slot]), "waiting for a copy");
  return staging_[slot];
}

void Device::upload(void* device, const void* host, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += kSlotBytes) {
    const std::size_t part = std::min(kSlotBytes, bytes - done), slot = next_slot_++ % kSlots;
    void* pinned = staging(slot);
    std::memcpy(pinned, static_cast<const std::byte*>(host) + done, part);
    check(cudaMemcpyAsync(static_cast<std::byte*>(device) + done, pinned, part, cudaMemcpyHostToDevice, stream_),
          "copying to the device");
    check(cudaEventRecord(staged_[slot], stream_), "recording an event");
  }
}

void Device::download(void* host, const void* device, std::size_t bytes) {
  // One part is copied by the device while the one before it is copied by us.
  std::size_t slots[kSlots];
  const std::size_t parts = (bytes + kSlotBytes - 1) / kSlotBytes;
  for (std::size_t part = 0; part < parts + 1; ++part) {
    if (part < parts) {
      const std::size_t slot = next_slot_++ % kSlots, offset = part * kSlotBytes;
      void* pinned = staging(slot);
      check(cudaMemcpyAsync(pinned, static_cast<const std::byte*>(device) + offset,
                            std::min(kSlotBytes, bytes - offset), cudaMemcpyDeviceToHost, stream_),
            "copying from the device");
      check(cudaEventRecord(staged_[slot], stream_), "recording an event");
      slots[part % kSlots] = slot;
    }
    if (part > 0) {
      const std::size_t offset = (part - 1) * kSlotBytes;
      std::memcpy(static_cast<std::byte*>(host) + offset, staging(slots[(part - 1) % kSlots]),
                  std::min(kSlotBytes, bytes - offset));
    }
  }
}

void Device::synchronize() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

}  // namespace flashvsr::cuda
