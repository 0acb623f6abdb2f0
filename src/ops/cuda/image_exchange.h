// Images of other libraries in the device's memory, converted beside the stream that computes.
#pragma once

#include "core/tensor.h"
#include "ops/cuda/device.h"
#include "ops/types.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>

namespace flashvsr::cuda {

// On the computing stream a conversion would wait for all that was issued before it, up to chunks of frames; and an
// image, of which a decoder has few, would be held as long. So both directions have a stream of their own, and return
// when they are done. Memory that tensors give back may be in use until the computing stream comes that far, so what is
// read goes to buffers that know when they are free. Thread-safe.
class ImageExchange : public std::enable_shared_from_this<ImageExchange> {
 public:
  // Throws Error(device). `device` must live until close().
  static std::shared_ptr<ImageExchange> create(const Device& device);
  ~ImageExchange();
  ImageExchange(const ImageExchange&) = delete;
  ImageExchange& operator=(const ImageExchange&) = delete;

  // -> [1, height, width, 3] u8, for use on the computing stream.
  Tensor read(const ops::SemiPlanarImage& image);
  // `rgb` holds its values already.
  void write(const ops::SemiPlanarImage& image, const Tensor& rgb);
  // The computing stream has done everything and ends; tensors may live on.
  void close();

 private:
  class Buffer;
  class BufferStorage;

  explicit ImageExchange(const Device& device);
  std::unique_ptr<Buffer> take(std::size_t bytes);
  void give_back(std::unique_ptr<Buffer> buffer);

  std::mutex mutex_;
  const Device* device_;  // null when closed
  cudaStream_t stream_ = nullptr;
  std::list<std::unique_ptr<Buffer>> free_;  // oldest first
};

}  // namespace flashvsr::cuda
