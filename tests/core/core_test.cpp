#include "core/convert.h"
#include "core/parameter.h"
#include "core/tensor.h"
#include "core/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace flashvsr {
namespace {

TEST(BFloat16Type, RoundsToNearestEven) {
  EXPECT_EQ(round_to_bf16(1.0f), 1.0f);
  EXPECT_EQ(round_to_bf16(256.5f), 256.0f);
  EXPECT_EQ(round_to_bf16(257.0f), 256.0f);  // halfway: to even
  EXPECT_EQ(round_to_bf16(259.0f), 260.0f);  // halfway: to even
  EXPECT_EQ(round_to_bf16(257.01f), 258.0f);
  EXPECT_EQ(round_to_bf16(-259.0f), -260.0f);
  EXPECT_EQ(round_to_bf16(std::numeric_limits<float>::infinity()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(round_to_bf16(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(round_to_bf16(std::numeric_limits<float>::quiet_NaN())));
  // Every bf16 number stays itself.
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = std::bit_cast<float>(bits << 16);
    EXPECT_TRUE(std::isnan(value) || BFloat16(value).bits == bits) << bits;
  }
}

TEST(Convert, EveryTypeByValue) {
  const std::uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x7c00};  // 1, -2, 2^-24, 65504, -0, inf
  float values[6];
  convert_to_f32(half, DType::f16, values);
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -2.0f);
  EXPECT_EQ(values[2], 0x1p-24f);
  EXPECT_EQ(values[3], 65504.0f);
  EXPECT_TRUE(values[4] == 0 && std::signbit(values[4]));
  EXPECT_TRUE(std::isinf(values[5]));
  const double doubles[] = {0.1, -3e40};
  convert_to_f32(doubles, DType::f64, std::span(values, 2));
  EXPECT_EQ(values[0], 0.1f);
  EXPECT_EQ(values[1], -std::numeric_limits<float>::infinity());
  const std::int64_t integers[] = {-5, 1 << 20};
  convert_to_f32(integers, DType::i64, std::span(values, 2));
  EXPECT_EQ(values[0], -5.0f);
  // Sources may lie anywhere.
  unsigned char bytes[1 + 2 * sizeof(float)];
  const float source[] = {1.25f, -7.0f};
  std::memcpy(bytes + 1, source, sizeof source);
  convert_to_f32(bytes + 1, DType::f32, std::span(values, 2));
  EXPECT_EQ(values[1], -7.0f);
  EXPECT_THROW(convert_from_f32(source, DType::i32, bytes), Error);
}

TEST(TensorType, ViewsShareStorage) {
  const Tensor x = allocate_host({4, 3}, DType::f32);
  std::iota(x.mutable_data<float>(), x.mutable_data<float>() + 12, 0.0f);
  const Tensor rows = x.sliced(1, 3);
  EXPECT_EQ(rows.shape(), (Shape{2, 3}));
  EXPECT_EQ(rows.data<float>()[0], 3.0f);
  EXPECT_EQ(rows.reshaped({6}).data<float>()[5], 8.0f);
  EXPECT_EQ(rows.storage(), x.storage());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.raw()) % 64, 0u);
  EXPECT_THROW(x.sliced(3, 5), Error);
  EXPECT_THROW(x.sliced(2, 1), Error);
  EXPECT_THROW(x.reshaped({5}), Error);
  EXPECT_THROW(Tensor({100}, DType::f64, x.storage()), Error);
  EXPECT_EQ(x.dim(-1), 3);
  EXPECT_THROW(x.dim(2), Error);
  EXPECT_EQ(x.shape().to_string(), "[4, 3]");
  EXPECT_EQ(x.sliced(4, 4).elements(), 0);
}

TEST(ParameterType, KeepsItsIdentity) {
  const Parameter a("a", allocate_host({2, 3}, DType::f32)), b("b", allocate_host({2, 3}, DType::f32));
  EXPECT_NE(a.id(), b.id());
  EXPECT_EQ(a.reshaped({6}).id(), a.id());
  EXPECT_FALSE(Parameter());
}

TEST(Threads, LoopsCoverEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    const ThreadScope scope(threads);
    for (const std::int64_t count : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      parallel_for_each(count, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
      for (const auto& visit : visits) EXPECT_EQ(visit, 2);
    }
  }
}

TEST(Threads, ExceptionsReachTheCaller) {
  const ThreadScope scope(4);
  const auto range_body = [](std::int64_t begin, std::int64_t) {
    if (begin == 0) fail(ErrorCode::io, "first");
  };
  EXPECT_THROW(parallel_for(100, 1, range_body), Error);
  EXPECT_THROW(parallel_for_each(100, [](std::int64_t i) { require(i != 57, "57"); }), Error);
}

}  // namespace
}  // namespace flashvsr
