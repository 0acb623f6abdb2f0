// Reference: images of other libraries.
#include "core/threads.h"
#include "core/ycc_picture.h"
#include "ops/cpu/reference_operations.h"

namespace flashvsr::ops {
namespace {

YccPicture picture_of(const SemiPlanarImage& image) {
  auto* chroma = static_cast<std::uint8_t*>(image.chroma);
  return {.width = static_cast<int>(image.width),
          .height = static_cast<int>(image.height),
          .bit_depth = image.bit_depth,
          .shift = image.bit_depth > 8 ? 16 - image.bit_depth : 0,
          .chroma_step = 2,
          .siting = image.siting,
          .matrix = image.matrix,
          .full_range = image.full_range,
          .luma = static_cast<std::uint8_t*>(image.luma),
          .cb = chroma,
          .cr = chroma + image.sample_bytes(),
          .luma_stride = image.luma_stride,
          .chroma_stride = image.chroma_stride};
}

constexpr std::int64_t kRowsOfAThread = 16;

}  // namespace

Tensor ReferenceOperations::do_read_image(const SemiPlanarImage& image) {
  const Tensor result = do_allocate({1, image.height, image.width, 3}, DType::u8);
  const YccPicture picture = picture_of(image);
  parallel_for(image.height, kRowsOfAThread, [&](std::int64_t begin, std::int64_t end) {
    load_rgb_rows(picture, static_cast<int>(begin), static_cast<int>(end), result.mutable_data<std::uint8_t>());
  });
  return result;
}

void ReferenceOperations::do_write_image(const SemiPlanarImage& image, const Tensor& rgb) {
  const YccPicture picture = picture_of(image);
  parallel_for(image.chroma_height(), kRowsOfAThread, [&](std::int64_t begin, std::int64_t end) {
    store_rgb_rows(picture, static_cast<int>(begin), static_cast<int>(end), rgb.data<std::uint8_t>());
  });
}

}  // namespace flashvsr::ops
