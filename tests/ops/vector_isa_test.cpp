#include "vector_test_support.h"

#include <cstdlib>
#include <optional>
#include <string>

namespace flashvsr::ops::vector_test {
namespace {

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
