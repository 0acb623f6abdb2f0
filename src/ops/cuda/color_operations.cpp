// Colour fixes.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/adain.h"
#include "ops/cuda/kernels/wavelet.h"

namespace flashvsr::ops {

using cuda::check;

Tensor CudaOperations::do_adain(const Tensor& video, const Tensor& reference) {
  const std::int64_t frames = video.dim(0), pixels = video.dim(1) * video.dim(2);
  const Tensor result = allocate(video.shape(), DType::f32);
  const auto scratch_bytes = static_cast<std::int64_t>(cuda::adain_scratch_bytes(frames, pixels));
  const Tensor scratch = allocate({scratch_bytes}, DType::u8);
  check(cuda::launch_adain(video.data<float>(), reference.data<std::uint8_t>(), result.mutable_data<float>(), frames,
                           pixels, scratch.mutable_raw(), stream()),
        "adain");
  return result;
}

Tensor CudaOperations::do_wavelet(const Tensor& video, const Tensor& reference) {
  const Tensor result = allocate(video.shape(), DType::f32), across = allocate(video.shape(), DType::f32);
  check(cuda::launch_wavelet(video.data<float>(), reference.data<std::uint8_t>(), result.mutable_data<float>(),
                             video.dim(0), video.dim(1), video.dim(2), across.mutable_data<float>(), stream()),
        "wavelet");
  return result;
}

}  // namespace flashvsr::ops
