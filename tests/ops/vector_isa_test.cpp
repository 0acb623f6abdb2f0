#include "op_cases.h"
#include "vector_test_support.h"

#include <cstdlib>

namespace flashvsr::ops::vector_test {
namespace {

// The cases that every back end is held against, without matrix products and convolutions: those are the reference's.
std::vector<test::OpCase> vectorised_cases() {
  std::vector<test::OpCase> cases;
  for (auto&& some : {test::elementwise_cases(), test::frame_cases(), test::network_cases(), test::attention_cases()}) {
    for (const test::OpCase& op_case : some) {
      const auto begins = [&](const char* word) { return op_case.name.starts_with(word); };
      if (!begins("linear") && !begins("conv") && !begins("upsample")) cases.push_back(op_case);
    }
  }
  return cases;
}

TEST(VectorIsa, EveryLevelEqualsReference) {
  const std::vector<test::OpCase> cases = vectorised_cases();
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    for (const DType type : {DType::f32, DType::bf16}) {
      test::expect_equal_to_reference(
          [isa](const CpuSettings& settings) { return std::make_unique<VectorOperations>(settings, isa); }, type,
          cases);
    }
  }
}

class IsaVariable : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv(kName)) previous_ = value;
  }
  void TearDown() override {
    if (previous_) {
      setenv(kName, previous_->c_str(), 1);
    } else {
      unsetenv(kName);
    }
  }

  static constexpr const char* kName = "FLASHVSR_CPU_ISA";

 private:
  std::optional<std::string> previous_;
};

TEST_F(IsaVariable, LimitsTheLevel) {
  setenv(kName, "baseline", 1);
  EXPECT_EQ(chosen_isa(), Isa::baseline);
  EXPECT_EQ(VectorOperations({}).isa(), Isa::baseline);
  // More than the processor has is no error: it has what it has.
  setenv(kName, "v4_bf16", 1);
  EXPECT_EQ(chosen_isa(), best_isa());
  setenv(kName, "", 1);
  EXPECT_EQ(chosen_isa(), best_isa());
  unsetenv(kName);
  EXPECT_EQ(chosen_isa(), best_isa());
}

TEST_F(IsaVariable, RefusesOtherWords) {
  setenv(kName, "avx9", 1);
  try {
    chosen_isa();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("avx9"), std::string::npos);
  }
}

}  // namespace
}  // namespace flashvsr::ops::vector_test
