// Every operation of the CUDA back end against the plain reference, in f32 and bf16: one test a list of cases.
#include "op_cases.h"
#include "ops/backend.h"
#include "ops/cuda_loader.h"
#include "test_tensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>
#include <vector>

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

// The kernel that adds the parts of block means is placed while that which writes them ends. If it did not wait, it
// would read those of the call before, which had other inputs.
TEST_P(CudaOperationsTest, BlockMeansAreOfTheSameCall) {
  constexpr int kCalls = 64;
  const auto operations = make_cuda({.compute = GetParam()});
  const TokenGrid grid{.latents = 8, .rows = 48, .columns = 80, .first_latent = 0, .heads = 3};
  const std::int64_t dim = 128 * grid.heads;
  const Parameter norm_q = test::random_parameter({dim}, 1, 0.2f, 1),
                  norm_k = test::random_parameter({dim}, 2, 0.2f, 1);
  const auto means = [&](const Tensor& qkv) {
    const QueryKeyValue result = operations->split_qkv(qkv, norm_q, norm_k, grid);
    return std::vector{result.q_means, result.k_means};
  };
  std::vector<Tensor> inputs;
  std::vector<std::vector<float>> expected[2];
  for (std::size_t i = 0; i < 2; ++i) {
    inputs.push_back(operations->from_host(test::random_tensor({grid.tokens(), 3 * dim}, 3 + i), GetParam()));
    for (const Tensor& mean : means(inputs[i])) expected[i].push_back(test::values_of(*operations, mean));
  }
  ASSERT_NE(expected[0], expected[1]);
  std::vector<std::vector<Tensor>> results;
  for (std::size_t call = 0; call < kCalls; ++call) results.push_back(means(inputs[call % 2]));
  for (std::size_t call = 0; call < kCalls; ++call) {
    for (std::size_t role = 0; role < 2; ++role) {
      ASSERT_EQ(test::values_of(*operations, results[call][role]), expected[call % 2][role]) << "call " << call;
    }
  }
}

TEST_P(CudaOperationsTest, Large) {
  if (std::getenv("FLASHVSR_TEST_TIMES") == nullptr) GTEST_SKIP() << "only with FLASHVSR_TEST_TIMES";
  test::expect_equal_to_reference(make_cuda, GetParam(), test::large_cases());
}

INSTANTIATE_TEST_SUITE_P(Types, CudaOperationsTest, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& parameter) { return std::string(name_of(parameter.param)); });

}  // namespace
}  // namespace flashvsr::ops
