#include "ops/cuda/image_exchange.h"

#include "ops/cuda/event.h"
#include "ops/cuda/kernels/semi_planar.h"

#include <utility>

namespace flashvsr::cuda {
namespace {

SemiPlanar planes_of(const ops::SemiPlanarImage& image) {
  return {.luma = static_cast<std::uint8_t*>(image.luma),
          .chroma = static_cast<std::uint8_t*>(image.chroma),
          .luma_stride = image.luma_stride,
          .chroma_stride = image.chroma_stride,
          .width = static_cast<int>(image.width),
          .height = static_cast<int>(image.height),
          .ten_bits = image.bit_depth > 8,
          .siting = image.siting};
}

}  // namespace

// Device memory, which no other work uses, and the event after which it is free.
class ImageExchange::Buffer {
 public:
  explicit Buffer(Tensor memory) : memory_(std::move(memory)) {}

  void* data() const { return memory_.mutable_raw(); }
  std::size_t bytes() const { return memory_.bytes(); }
  cudaError_t in_use_until_now(cudaStream_t stream) { return free_.record(stream); }
  bool idle() const { return free_.has_happened("asking for a buffer"); }

 private:
  Tensor memory_;
  Event free_;
};

class ImageExchange::BufferStorage final : public Storage {
 public:
  BufferStorage(std::unique_ptr<Buffer> buffer, std::size_t bytes, std::shared_ptr<ImageExchange> exchange)
      : Storage(buffer->data(), bytes), buffer_(std::move(buffer)), exchange_(std::move(exchange)) {}
  ~BufferStorage() override { exchange_->give_back(std::move(buffer_)); }

 private:
  std::unique_ptr<Buffer> buffer_;
  std::shared_ptr<ImageExchange> exchange_;
};

ImageExchange::ImageExchange(const Device& device) : device_(&device) {}

std::shared_ptr<ImageExchange> ImageExchange::create(const Device& device) {
  std::shared_ptr<ImageExchange> exchange(new ImageExchange(device));
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
  // Before what waits to be computed: it is short, and the host waits for it.
  check(cudaStreamCreateWithPriority(&exchange->stream_, cudaStreamNonBlocking, greatest), "making a stream");
  check(load_semi_planar_to_rgb(), "loading kernels");
  check(load_rgb_to_semi_planar(), "loading kernels");
  return exchange;
}

ImageExchange::~ImageExchange() {
  if (stream_) cudaStreamDestroy(stream_);
}

void ImageExchange::close() {
  const std::scoped_lock lock(mutex_);
  free_.clear();
  device_ = nullptr;
}

std::unique_ptr<ImageExchange::Buffer> ImageExchange::take(std::size_t bytes) {
  const auto fits = [bytes](const Buffer& buffer) { return buffer.bytes() >= bytes && buffer.bytes() / 4 <= bytes; };
  for (auto candidate = free_.begin(); candidate != free_.end(); ++candidate) {
    if (!fits(**candidate) || !(*candidate)->idle()) continue;
    std::unique_ptr<Buffer> buffer = std::move(*candidate);
    free_.erase(candidate);
    return buffer;
  }
  // Those of another size will not be asked for again.
  std::erase_if(free_, [&](const auto& buffer) { return !fits(*buffer) && buffer->idle(); });
  return std::make_unique<Buffer>(device_->allocate_image({static_cast<std::int64_t>(bytes)}, DType::u8));
}

void ImageExchange::give_back(std::unique_ptr<Buffer> buffer) {
  const std::scoped_lock lock(mutex_);
  if (device_ == nullptr) return;
  // What was issued so far may read it. Without the event nobody would know when it has.
  if (buffer->in_use_until_now(device_->stream()) == cudaSuccess) free_.push_back(std::move(buffer));
}

Tensor ImageExchange::read(const ops::SemiPlanarImage& image) {
  const RgbFromYcc conversion = rgb_from_ycc(image.matrix, image.full_range, image.bit_depth);
  const Shape shape{1, image.height, image.width, 3};
  const auto bytes = static_cast<std::size_t>(shape.elements());
  std::unique_ptr<Buffer> buffer;
  {
    const std::scoped_lock lock(mutex_);
    require(device_ != nullptr, "an image was given to a back end that has ended");
    device_->make_current();
    buffer = take(bytes);
    check(launch_semi_planar_to_rgb(planes_of(image), conversion, static_cast<std::uint8_t*>(buffer->data()), stream_),
          "read_image");
    check(cudaStreamSynchronize(stream_), "read_image");
  }
  return Tensor(shape, DType::u8, std::make_shared<BufferStorage>(std::move(buffer), bytes, shared_from_this()));
}

void ImageExchange::write(const ops::SemiPlanarImage& image, const Tensor& rgb) {
  const YccFromRgb conversion = ycc_from_rgb(image.matrix, image.full_range, image.bit_depth);
  const std::scoped_lock lock(mutex_);
  require(device_ != nullptr, "an image was given to a back end that has ended");
  device_->make_current();
  check(launch_rgb_to_semi_planar(rgb.data<std::uint8_t>(), conversion, planes_of(image), stream_), "write_image");
  check(cudaStreamSynchronize(stream_), "write_image");
}

}  // namespace flashvsr::cuda
