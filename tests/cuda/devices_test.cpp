// Devices by their numbers. A machine with one device tests the first alone.
#include "core/error.h"
#include "ops/backend.h"
#include "ops/cuda_loader.h"
#include "test_tensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>
#include <thread>

namespace flashvsr::ops {
namespace {

class CudaDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string& reason = cuda_unavailable_reason();
    if (reason.empty()) return;
    const char* required = std::getenv("FLASHVSR_REQUIRE_CUDA");
    if (required != nullptr && std::string_view(required) == "1") FAIL() << reason;
    GTEST_SKIP() << reason;
  }
};

TEST_F(CudaDevices, WhatIsNotThereIsSaid) {
  try {
    make_backend({.device = Device::cuda, .device_index = 99});
    ADD_FAILURE() << "there is a hundredth device";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    EXPECT_NE(std::string(error.what()).find("there is no CUDA device 99 here: there "), std::string::npos)
        << error.what();
  }
  EXPECT_NE(cuda_library().describe().find("cuda:0 "), std::string::npos);
}

// Two back ends take turns in one thread and in another, each on its own device.
TEST_F(CudaDevices, TheSecondComputesBesideTheFirst) {
  try {
    cuda_library().require_device(1);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const auto first = make_backend({.device = Device::cuda, .precision = Precision::f32});
  const auto second = make_backend({.device = Device::cuda, .precision = Precision::f32, .device_index = 1});
  EXPECT_NE(first->hardware().bus_address, second->hardware().bus_address);
  const auto use_both = [&] {
    for (Operations* operations : {first.get(), second.get(), first.get()}) {
      operations->enter_thread();
      const Tensor x = operations->from_host(test::host_f32({2}, {1, 2}));
      EXPECT_EQ(test::values_of(*operations, operations->affine(x, 2, 1, DType::f32)), (std::vector<float>{3, 5}));
      const Tensor device = operations->transfer_memory({2}, DType::f32);
      const Tensor host = operations->host_memory({2}, DType::f32);
      host.mutable_data<float>()[0] = 7, host.mutable_data<float>()[1] = 8;
      const CopyPair pair{device, host};
      operations->finish_copies(*operations->start_copies(CopyDirection::to_device, {&pair, 1}));
      EXPECT_EQ(test::values_of(*operations, device), (std::vector<float>{7, 8}));
    }
  };
  use_both();
  std::thread(use_both).join();
}

}  // namespace
}  // namespace flashvsr::ops
