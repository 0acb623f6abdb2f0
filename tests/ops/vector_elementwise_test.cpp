#include "vector_test_support.h"

#include <limits>

namespace flashvsr::ops::vector_test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

// Normal numbers of many sizes, and what is special, at odd places.
Tensor difficult_host(std::int64_t count, std::uint32_t seed) {
  const Tensor host = random_host({count}, seed);
  auto* values = host.mutable_data<float>();
  for (std::int64_t i = 0; i < count; ++i) values[i] = std::ldexp(values[i], static_cast<int>(i * 7 % 30) - 20);
  return host;
}

TEST(VectorElementwise, CastIsExact) {
  const Tensor host = difficult_host(10007, 1);
  const float special[] = {0.0f, -0.0f, kInfinity, -kInfinity, kNaN, 0x1.01p0f, 0x1.03p0f, 0x1.fffffep127f, 0x1p-149f};
  std::copy(std::begin(special), std::end(special), host.mutable_data<float>() + 9990);
  expect_like_reference(DType::bf16, 0, [&](Operations& o) -> Results {
    const Tensor x = o.from_host(host), y = o.from_host(host, DType::bf16);
    return {o.cast(x, DType::bf16), o.cast(y, DType::f32), o.cast(x, DType::f32), o.cast(y, DType::bf16)};
  });
}

TEST(VectorElementwise, ArithmeticEqualsReference) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t count : {1, 15, 100, 40001}) {
      // Products and sums may be fused here: one rounding less.
      const double tolerance = 2 * epsilon_of(type) + 2 * kEpsilonF32;
      expect_like_reference(type, tolerance, [&](Operations& o) -> Results {
        const Tensor x = o.from_host(difficult_host(count, 1), type), y = o.from_host(difficult_host(count, 2));
        const Tensor z = o.cast(y, type);
        return {o.add(x, y),
                o.subtract(y, x),
                o.subtract(x, z),
                o.add(y, y),
                o.affine(x, 3, -0.5f, DType::f32),
                o.affine(y, -2, 0.25f, type)};
      });
      // Comparisons do not round.
      expect_like_reference(type, 0, [&](Operations& o) -> Results {
        const Tensor x = o.from_host(difficult_host(count, 1), type);
        return {o.clamp(x, -0.5f, 0.25f), o.activation(x, Activation::relu), o.activation(x, Activation::none)};
      });
    }
    for (const std::int64_t channels : {1, 3, 16, 50}) {
      expect_like_reference(type, 2 * epsilon_of(type), [&](Operations& o) -> Results {
        const Tensor x = o.from_host(random_host({2, 3, 5, channels}, 1), type);
        return {o.channel_affine(x, o.from_host(random_host({channels}, 2)), o.from_host(random_host({channels}, 3)))};
      });
    }
  }
}

TEST(VectorElementwise, TranscendentalsEqualReference) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const double tolerance = epsilon_of(type) + 8 * kEpsilonF32;
    expect_like_reference(type, tolerance, [&](Operations& o) -> Results {
      const Tensor x = o.from_host(random_host({3001}, 1, 3.0f), type);
      return {o.activation(x, Activation::silu), o.activation(x, Activation::gelu_tanh), o.soft_clamp(x, 3.0f)};
    });
  }
}

// Value by value, so that small and large arguments count as much as those near one.
TEST(VectorElementwise, TranscendentalsAreAccurateEverywhere) {
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    VectorOperations o({}, isa);
    const Tensor host = allocate_host({40000}, DType::f32);
    for (std::int64_t i = 0; i < 20000; ++i) {
      const float x = std::ldexp(1.0f, static_cast<int>(i / 500) - 33) * (1.0f + static_cast<float>(i % 500) / 500.0f);
      host.mutable_data<float>()[2 * i] = std::min(x, 90.0f);
      host.mutable_data<float>()[2 * i + 1] = -std::min(x, 90.0f);
    }
    const Tensor x = o.from_host(host);
    const std::vector<float> silus = values_of(o, o.activation(x, Activation::silu));
    const std::vector<float> soft = values_of(o, o.soft_clamp(x, 1.0f));
    for (std::size_t i = 0; i < silus.size(); ++i) {
      const auto value = static_cast<double>(host.data<float>()[i]);
      const double silu = value / (1 + std::exp(-value));
      // The error of the exponent grows with the argument.
      const double bound = kEpsilonF32 * (6 + 2 * std::abs(value));
      ASSERT_NEAR(static_cast<double>(silus[i]), silu, std::abs(silu) * bound + 1e-35) << value;
      ASSERT_NEAR(static_cast<double>(soft[i]), std::tanh(value), std::abs(std::tanh(value)) * 8 * kEpsilonF32)
          << value;
    }
  }
}

TEST(VectorElementwise, NanStaysNan) {
  for (const Isa isa : available_isas()) {
    VectorOperations o({}, isa);
    const Tensor host = allocate_host({33}, DType::f32);
    std::fill_n(host.mutable_data<float>(), 33, kNaN);
    const Tensor x = o.from_host(host);
    for (const Tensor& y : {o.clamp(x, -1, 1), o.activation(x, Activation::relu), o.soft_clamp(x, 3), o.add(x, x)}) {
      for (const float value : values_of(o, y)) EXPECT_TRUE(std::isnan(value));
    }
  }
}

}  // namespace
}  // namespace flashvsr::ops::vector_test
