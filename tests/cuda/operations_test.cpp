// Every operation of the CUDA back end against the plain reference, in f32 and bf16: one test a list of cases.
#include "op_cases.h"
#include "ops/backend.h"
#include "ops/cuda_loader.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

namespace flashvsr::ops {
namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && value == std::string_view("1");
}

// Threads of the host mean nothing to it.
std::unique_ptr<Operations> make_cuda(const CpuSettings& settings) {
  const Precision precision = settings.compute == DType::bf16 ? Precision::bf16 : Precision::f32;
  return make_backend({.device = Device::cuda, .precision = precision});
}

class CudaOperationsTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    const std::string& reason = cuda_unavailable_reason();
    if (reason.empty()) return;
    if (is_set("FLASHVSR_REQUIRE_CUDA")) FAIL() << reason;
    GTEST_SKIP() << reason;
  }
};

TEST_P(CudaOperationsTest, Elementwise) {
  test::expect_equal_to_reference(make_cuda, GetParam(), test::elementwise_cases());
}

TEST_P(CudaOperationsTest, Frames) { test::expect_equal_to_reference(make_cuda, GetParam(), test::frame_cases()); }

TEST_P(CudaOperationsTest, Networks) { test::expect_equal_to_reference(make_cuda, GetParam(), test::network_cases()); }

TEST_P(CudaOperationsTest, Attention) {
  test::expect_equal_to_reference(make_cuda, GetParam(), test::attention_cases());
}

TEST_P(CudaOperationsTest, Large) {
  if (std::getenv("FLASHVSR_TEST_TIMES") == nullptr) GTEST_SKIP() << "only with FLASHVSR_TEST_TIMES";
  test::expect_equal_to_reference(make_cuda, GetParam(), test::large_cases());
}

INSTANTIATE_TEST_SUITE_P(Types, CudaOperationsTest, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& parameter) { return std::string(name_of(parameter.param)); });

}  // namespace
}  // namespace flashvsr::ops
