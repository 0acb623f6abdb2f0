// Images beside work of the device: neither waits for the other, and no memory is written before its readers are done.
#include "op_cases.h"
#include "ops/backend.h"
#include "ops/cpu/reference_operations.h"
#include "ops/cuda_loader.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kWidth = 320, kHeight = 180, kImages = 24;

class CudaImages : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string& reason = cuda_unavailable_reason();
    if (reason.empty()) {
      cuda_ = make_backend({.device = Device::cuda, .precision = Precision::bf16});
      return;
    }
    const char* required = std::getenv("FLASHVSR_REQUIRE_CUDA");
    if (required != nullptr && required == std::string_view("1")) FAIL() << reason;
    GTEST_SKIP() << reason;
  }

  // Work of some tenths of a second. What tells when it is done.
  std::shared_ptr<Arrival> keep_busy() {
    const Tensor video = cuda_->zeros({1, 4096, 4096, 3}, DType::f32), frame = cuda_->zeros(video.shape(), DType::u8);
    for (int i = 0; i < 100; ++i) cuda_->wavelet(video, frame);
    return cuda_->arrival();
  }

  static SemiPlanarImage image_in(const Tensor& memory) {
    auto* first = memory.mutable_data<std::uint8_t>();
    return {.luma = first,
            .chroma = first + kWidth * kHeight,
            .luma_stride = kWidth,
            .chroma_stride = kWidth,
            .width = kWidth,
            .height = kHeight};
  }
  static Tensor random_image(std::int64_t index) {
    return test::random_bytes({kWidth * kHeight * 3 / 2}, static_cast<std::uint64_t>(index));
  }
  static void expect_equal(const Tensor& result, const Tensor& expected, std::int64_t index) {
    ASSERT_EQ(result.shape(), expected.shape());
    EXPECT_EQ(std::memcmp(result.raw(), expected.raw(), expected.bytes()), 0) << index;
  }

  std::unique_ptr<Operations> cuda_;
  ReferenceOperations reference_{{}};
};

TEST_F(CudaImages, AreReadBesideWork) {
  std::vector<Tensor> images, results;
  for (std::int64_t i = 0; i < kImages; ++i) images.push_back(cuda_->from_host(random_image(i)));
  // Loading a kernel waits for the device: that of what is done with images comes first.
  cuda_->pad_edge(cuda_->zeros({1, kHeight, kWidth, 3}, DType::u8), kHeight + 1, kWidth + 3);
  cuda_->synchronize();
  // The second time buffers are used again, while what reads them still waits.
  for (int round = 0; round < 2; ++round) {
    results.clear();
    const std::shared_ptr<Arrival> work = keep_busy();
    for (const Tensor& image : images) {
      results.push_back(cuda_->pad_edge(cuda_->read_image(image_in(image)), kHeight + 1, kWidth + 3));
    }
    EXPECT_FALSE(work->arrived()) << "images have waited for the work before them";
    for (std::int64_t i = 0; i < kImages; ++i) {
      const Tensor expected =
          reference_.pad_edge(reference_.read_image(image_in(random_image(i))), kHeight + 1, kWidth + 3);
      expect_equal(cuda_->to_host(results[static_cast<std::size_t>(i)]), expected, i);
    }
  }
}

TEST_F(CudaImages, AreWrittenBesideWork) {
  const Tensor memory = cuda_->zeros({kWidth * kHeight * 3 / 2}, DType::u8);
  for (std::int64_t i = 0; i < kImages; ++i) {
    const Tensor host = test::random_bytes({1, kHeight, kWidth, 3}, static_cast<std::uint64_t>(i));
    // As frames are finished: computed, then waited for while the next work is under way.
    const Tensor frame = cuda_->to_bytes(cuda_->to_video(cuda_->from_host(host)));
    const std::shared_ptr<Arrival> finished = cuda_->arrival();
    const std::shared_ptr<Arrival> work = i % 8 == 0 ? keep_busy() : nullptr;
    finished->wait();
    cuda_->write_image(image_in(memory), frame);
    if (work) {
      EXPECT_FALSE(work->arrived()) << "the image has waited for the work behind its frame";
    }
    const Tensor expected = allocate_host(memory.shape(), DType::u8);
    reference_.write_image(image_in(expected), reference_.from_host(host));
    expect_equal(cuda_->to_host(memory), expected, i);
  }
}

// Tensors of images may outlive the back end.
TEST_F(CudaImages, OutliveTheBackEnd) {
  const Tensor image = cuda_->from_host(random_image(0));
  cuda_->synchronize();
  Tensor rgb = cuda_->read_image(image_in(image));
  cuda_.reset();
  rgb = {};
}

}  // namespace
}  // namespace flashvsr::ops
