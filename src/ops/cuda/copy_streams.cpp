#include "ops/cuda/copy_streams.h"

#include "ops/cuda/device.h"
#include "ops/cuda/event.h"

namespace flashvsr::cuda {
namespace {

class GuardedStorage final : public Storage {
 public:
  GuardedStorage(const Tensor& device, std::shared_ptr<CopyStreams> streams)
      : Storage(device.mutable_raw(), device.bytes()), device_(device), streams_(std::move(streams)) {}
  ~GuardedStorage() override { streams_->synchronize(); }

 private:
  Tensor device_;
  std::shared_ptr<CopyStreams> streams_;
};

class PinnedStorage final : public Storage {
 public:
  PinnedStorage(void* data, std::size_t bytes, std::shared_ptr<CopyStreams> streams)
      : Storage(data, bytes), streams_(std::move(streams)) {}
  ~PinnedStorage() override {
    streams_->synchronize();
    cudaFreeHost(data());
  }

 private:
  std::shared_ptr<CopyStreams> streams_;
};

class StartedCopies final : public ops::Copies {
 public:
  explicit StartedCopies(cudaStream_t stream) : end(stream) {}
  const Event end;
};

}  // namespace

std::shared_ptr<CopyStreams> CopyStreams::create() {
  std::shared_ptr<CopyStreams> streams(new CopyStreams);
  check(cudaStreamCreateWithFlags(&streams->to_device_, cudaStreamNonBlocking), "making a stream");
  check(cudaStreamCreateWithFlags(&streams->to_host_, cudaStreamNonBlocking), "making a stream");
  check(cudaStreamCreateWithFlags(&streams->downloading_, cudaStreamNonBlocking), "making a stream");
  return streams;
}

CopyStreams::~CopyStreams() {
  if (to_device_) cudaStreamDestroy(to_device_);
  if (to_host_) cudaStreamDestroy(to_host_);
  if (downloading_) {
    cudaStreamSynchronize(downloading_);
    cudaStreamDestroy(downloading_);
  }
}

Tensor CopyStreams::guarded(const Tensor& device) {
  return Tensor(device.shape(), device.dtype(), std::make_shared<GuardedStorage>(device, shared_from_this()));
}

Tensor CopyStreams::host_memory(const Shape& shape, DType type) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  void* data = nullptr;
  check(cudaHostAlloc(&data, bytes, cudaHostAllocDefault), "pinning memory of the host for the KV cache");
  return Tensor(shape, type, std::make_shared<PinnedStorage>(data, bytes, shared_from_this()));
}

void CopyStreams::hold_back(ops::CopyDirection direction, std::span<const std::shared_ptr<ops::Copies>> after,
                            cudaStream_t computing) const {
  Event(computing).hold_back(stream(direction));
  for (const std::shared_ptr<ops::Copies>& copies : after) finish(*copies, stream(direction));
}

std::shared_ptr<ops::Copies> CopyStreams::start(ops::CopyDirection direction, std::span<const ops::CopyPair> pairs) {
  const auto is_host = [](const Tensor& x) { return dynamic_cast<const PinnedStorage*>(x.storage().get()) != nullptr; };
  const bool outwards = direction == ops::CopyDirection::to_host;
  for (const ops::CopyPair& pair : pairs) {
    require(is_host(pair.to) == outwards && is_host(pair.from) != outwards && pair.to.bytes() == pair.from.bytes(),
            "copies go between the device and memory that is made for them, in one direction");
    check(cudaMemcpyAsync(pair.to.mutable_raw(), pair.from.raw(), pair.from.bytes(),
                          outwards ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, stream(direction)),
          "copying state");
  }
  return std::make_shared<StartedCopies>(stream(direction));
}

void CopyStreams::finish(const ops::Copies& copies, cudaStream_t waiting) {
  static_cast<const StartedCopies&>(copies).end.hold_back(waiting);
}

void CopyStreams::download(void* host, const Tensor& from, const Device& device) {
  Outbox& outbox = outboxes_[next_outbox_];
  next_outbox_ = (next_outbox_ + 1) % outboxes_.size();
  if (!outbox.memory || outbox.memory.bytes() < from.bytes()) {
    outbox.free.wait("waiting for a frame");
    outbox.memory = device.allocate_image({static_cast<std::int64_t>(from.bytes())}, DType::u8);
  }
  outbox.free.hold_back(device.stream());
  void* const memory = outbox.memory.mutable_raw();
  check(cudaMemcpyAsync(memory, from.raw(), from.bytes(), cudaMemcpyDeviceToDevice, device.stream()),
        "copying a frame");
  Event(device.stream()).hold_back(downloading_);
  check(cudaMemcpyAsync(host, memory, from.bytes(), cudaMemcpyDeviceToHost, downloading_), "copying a frame");
  check(outbox.free.record(downloading_), "recording an event");
}

void CopyStreams::synchronize() const {
  cudaStreamSynchronize(downloading_);
  cudaStreamSynchronize(to_device_);
  cudaStreamSynchronize(to_host_);
}

}  // namespace flashvsr::cuda
