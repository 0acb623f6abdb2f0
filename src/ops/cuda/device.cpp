#include "ops/cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace flashvsr::cuda {
namespace {

// Copies through pinned memory go in parts.
constexpr std::size_t kPartBytes = std::size_t{8} << 20;

bool pools_are_used() {
  const char* variable = std::getenv("FLASHVSR_CUDA_POOL");
  return variable == nullptr || std::strcmp(variable, "0") != 0;
}

class SeparateStorage final : public Storage {
 public:
  explicit SeparateStorage(std::size_t bytes) : Storage(allocate(bytes), bytes) {}
  // What was issued may still use the memory.
  ~SeparateStorage() override {
    cudaDeviceSynchronize();
    cudaFree(data());
  }

 private:
  static void* allocate(std::size_t bytes) {
    void* pointer = nullptr;
    check(cudaMalloc(&pointer, std::max<std::size_t>(bytes, 1)), "allocating a tensor");
    return pointer;
  }
};

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const auto code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::device;
  fail(code, "CUDA: {}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

cudaDeviceProp require_device(int index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    fail(ErrorCode::device, "there is no CUDA device here: {}",
         status == cudaSuccess ? "none was found" : cudaGetErrorString(status));
  }
  if (index < 0 || index >= count) {
    fail(ErrorCode::device, "there is no CUDA device {} here: {}", index,
         count == 1 ? std::string("there is 1, number 0")
                    : fmt::format("there are {}, numbers 0 to {}", count, count - 1));
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "asking for the device's properties");
  if (properties.major < 8) {
    fail(ErrorCode::device, "{} has compute capability {}.{}: 8.0 or newer is needed", properties.name,
         properties.major, properties.minor);
  }
  return properties;
}

Device::Device(int index) : index_(index), properties_(require_device(index)) {
  make_current();
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  activations_ = DevicePool::create(index);
  weights_ = DevicePool::create(index);
  images_ = DevicePool::create(index);
  pinned_ = std::make_shared<PinnedPool>();
}

Device::~Device() {
  if (stream_) cudaStreamSynchronize(stream_);
  if (stream_) cudaStreamDestroy(stream_);
}

void Device::make_current() const { check(cudaSetDevice(index_), "choosing the device"); }

std::size_t Device::free_memory() const {
  std::size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for free memory");
  return free_bytes;
}

Tensor Device::allocate_from(DevicePool& pool, const Shape& shape, DType type) const {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  static const bool pooled = pools_are_used();
  if (!pooled) return Tensor(shape, type, std::make_shared<SeparateStorage>(bytes));
  return Tensor(shape, type, pool.allocate(bytes));
}

Tensor Device::allocate(const Shape& shape, DType type) const { return allocate_from(*activations_, shape, type); }

Tensor Device::allocate_weights(const Shape& shape, DType type) const { return allocate_from(*weights_, shape, type); }

Tensor Device::allocate_image(const Shape& shape, DType type) const { return allocate_from(*images_, shape, type); }

void Device::upload(void* destination, const void* host, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += kPartBytes) {
    const std::size_t part = std::min(kPartBytes, bytes - done);
    const std::shared_ptr<PinnedBuffer> pinned = pinned_->take(part);
    std::memcpy(pinned->data(), static_cast<const std::byte*>(host) + done, part);
    check(cudaMemcpyAsync(static_cast<std::byte*>(destination) + done, pinned->data(), part, cudaMemcpyHostToDevice,
                          stream_),
          "copying to the device");
    pinned->in_use_until_now(stream_);
  }
}

void Device::download(void* host, const void* source, std::size_t bytes) {
  // One part is copied by the device while the one before it is copied by us.
  std::shared_ptr<PinnedBuffer> previous;
  for (std::size_t done = 0; done < bytes + kPartBytes; done += kPartBytes) {
    std::shared_ptr<PinnedBuffer> pinned;
    if (done < bytes) {
      const std::size_t part = std::min(kPartBytes, bytes - done);
      pinned = pinned_->take(part);
      check(cudaMemcpyAsync(pinned->data(), static_cast<const std::byte*>(source) + done, part, cudaMemcpyDeviceToHost,
                            stream_),
            "copying from the device");
      pinned->in_use_until_now(stream_);
    }
    if (previous) {
      previous->wait();
      const std::size_t offset = done - kPartBytes;
      std::memcpy(static_cast<std::byte*>(host) + offset, previous->data(), std::min(kPartBytes, bytes - offset));
    }
    previous = std::move(pinned);
  }
}

void Device::synchronize() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

}  // namespace flashvsr::cuda
