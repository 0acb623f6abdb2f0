// Operations on frames of pixels.
#include "ops/bicubic.h"
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/add_tile.h"
#include "ops/cuda/kernels/bytes.h"
#include "ops/cuda/kernels/pad_crop.h"
#include "ops/cuda/kernels/resize_bicubic.h"
#include "ops/cuda/kernels/space_to_depth.h"

#include <algorithm>
#include <vector>

namespace flashvsr::ops {
namespace {

using cuda::check;

constexpr std::int64_t kRgb = 3;

// Tables of one axis on the device.
struct DeviceAxis {
  Tensor first, count, weights;
  int stride;

  cuda::ResampledAxis view() const {
    return {first.data<std::int32_t>(), count.data<std::int32_t>(), weights.data<std::int32_t>(), stride};
  }
};

std::int64_t pixel_bytes(const Tensor& frames) {
  return frames.dim(3) * static_cast<std::int64_t>(size_of(frames.dtype()));
}

cuda::FrameSize size_of_frames(const Tensor& frames) { return {frames.dim(1), frames.dim(2)}; }

}  // namespace

// Horizontal pass, then vertical pass; each rounds to u8. An axis that keeps its size is left alone, as in Pillow.
Tensor CudaOperations::do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const std::int64_t count = frames.dim(0), in_height = frames.dim(1), in_width = frames.dim(2);
  const auto axis_of = [this](std::int64_t from, std::int64_t to) {
    const std::uint64_t sizes[] = {static_cast<std::uint64_t>(from), static_cast<std::uint64_t>(to)};
    const DeviceAxis& axis = prepared_.get<DeviceAxis>({sizes[0], sizes[1]}, [&] {
      const BicubicAxis host = bicubic_axis(from, to);
      const auto table = [this](const auto& values) {
        const std::vector<std::int32_t> narrow(values.begin(), values.end());
        const Shape shape{static_cast<std::int64_t>(narrow.size())};
        return upload_weights(narrow.data(), shape, DType::i32, DType::i32);
      };
      return DeviceAxis{table(host.first), table(host.count), table(host.weights), static_cast<int>(host.stride)};
    });
    return axis.view();
  };
  Tensor x = frames;
  if (width != in_width) {
    const Tensor resized = allocate({count, in_height, width, kRgb}, DType::u8);
    check(
        cuda::launch_resample_columns(x.data<std::uint8_t>(), count * in_height, in_width,
                                      resized.mutable_data<std::uint8_t>(), width, axis_of(in_width, width), stream()),
        "resize_bicubic");
    x = resized;
  }
  if (height != in_height) {
    const Tensor resized = allocate({count, height, width, kRgb}, DType::u8);
    check(cuda::launch_resample_rows(x.data<std::uint8_t>(), count, in_height, resized.mutable_data<std::uint8_t>(),
                                     height, width * kRgb, axis_of(in_height, height), stream()),
          "resize_bicubic");
    x = resized;
  }
  return x;
}

Tensor CudaOperations::do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) {
  const Tensor result = allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
  check(cuda::launch_pad_edge(frames.raw(), size_of_frames(frames), result.mutable_raw(), size_of_frames(result),
                              frames.dim(0), pixel_bytes(frames), stream()),
        "pad_edge");
  return result;
}

Tensor CudaOperations::do_crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height,
                               std::int64_t width) {
  const Tensor result = allocate({frames.dim(0), height, width, frames.dim(3)}, frames.dtype());
  check(cuda::launch_crop(frames.raw(), size_of_frames(frames), top, left, result.mutable_raw(), size_of_frames(result),
                          frames.dim(0), pixel_bytes(frames), stream()),
        "crop");
  return result;
}

void CudaOperations::do_add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left,
                                 const Tensor& row_weights, const Tensor& column_weights) {
  check(cuda::launch_add_tile({.tile = tile.data<float>(),
                               .tile_width = tile.dim(2),
                               .frame = frame.mutable_data<float>(),
                               .frame_width = frame.dim(2),
                               .top = top,
                               .left = left,
                               .rows = std::min(tile.dim(1), frame.dim(1) - top),
                               .columns = std::min(tile.dim(2), frame.dim(2) - left),
                               .channels = tile.dim(3),
                               .row_weights = row_weights.data<float>(),
                               .column_weights = column_weights.data<float>()},
                              stream()),
        "add_tile");
}

Tensor CudaOperations::do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                                         float soft_clamp) {
  const cuda::DepthShape shape{.groups = frames.dim(0) / temporal,
                               .height = frames.dim(1) / spatial,
                               .width = frames.dim(2) / spatial,
                               .channels = frames.dim(3),
                               .spatial = spatial,
                               .temporal = temporal};
  const std::int64_t depth = shape.channels * temporal * spatial * spatial;
  const Tensor result = allocate({shape.groups, shape.height, shape.width, depth}, compute_type());
  check(cuda::launch_space_to_depth(frames.raw(), frames.dtype(), result.mutable_raw(), result.dtype(), shape,
                                    soft_clamp, stream()),
        "space_to_depth");
  return result;
}

Tensor CudaOperations::do_to_bytes(const Tensor& video) {
  const Tensor result = allocate(video.shape(), DType::u8);
  check(cuda::launch_to_bytes(video.raw(), video.dtype(), result.mutable_data<std::uint8_t>(), video.elements(),
                              stream()),
        "to_bytes");
  return result;
}

Tensor CudaOperations::do_to_video(const Tensor& frames) {
  const Tensor result = allocate(frames.shape(), DType::f32);
  check(cuda::launch_to_video(frames.data<std::uint8_t>(), result.mutable_data<float>(), frames.elements(), stream()),
        "to_video");
  return result;
}

}  // namespace flashvsr::ops
