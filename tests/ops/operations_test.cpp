// What the interface itself does: checks, counted work, memory, the choice of a back end; and that the cases by which
// back ends are compared can fail.
#include "op_cases.h"

#include "core/threads.h"
#include "ops/backend.h"
#include "ops/cpu/reference_operations.h"
#include "test_tensors.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <thread>

namespace flashvsr::ops {
namespace {

using test::host_f32;
using test::random_parameter;
using test::random_tensor;
using test::values_of;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::internal);
    return error.what();
  }
  return "no error";
}

TEST(Operations, ErrorsNameOperationAndShapes) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(random_tensor({2, 3}, 1));
  const Parameter weight("blocks.0.ffn.0.weight", random_tensor({4, 5}, 2));
  EXPECT_EQ(message_of([&] {
              operations.linear(x, {weight, {}});
            }),
            "linear: the weight must be [out, in], the bias [out]; got F32 [2, 3], F32 [4, 5] (blocks.0.ffn.0.weight), "
            "nothing");
  EXPECT_EQ(message_of([&] {
              operations.add(x, operations.zeros({3, 2}, DType::f32));
            }),
            "add: two float tensors of one shape are needed; got F32 [2, 3], F32 [3, 2]");
}

TEST(Operations, RejectsWhatCannotBeMeant) {
  ReferenceOperations operations({});
  const Tensor frames = operations.zeros({2, 4, 4, 3}, DType::u8), x = operations.zeros({1, 4, 4, 8}, DType::f32);
  const Tensor bf16 = operations.zeros({2, 8}, DType::bf16), tokens = operations.zeros({100, 64}, DType::f32);
  const ConvWeights conv{random_parameter({4, 8, 3, 3}, 1), {}}, other{random_parameter({4, 7, 3, 3}, 1), {}};
  EXPECT_THROW(operations.linear(bf16, {random_parameter({4, 8}, 1), {}}), Error);
  EXPECT_THROW(operations.conv2d(x, other), Error);
  EXPECT_THROW(operations.conv2d(x, {conv.weight, random_parameter({5}, 1)}), Error);
  EXPECT_THROW(operations.conv2d(x, conv, {.second = &x}), Error);
  EXPECT_THROW(operations.resize_bicubic(frames, 0, 5), Error);
  EXPECT_THROW(operations.crop(frames, 2, 0, 3, 4), Error);
  EXPECT_THROW(operations.pad_edge(frames, 3, 4), Error);
  EXPECT_THROW(operations.space_to_depth(frames, 3, 1), Error);
  EXPECT_THROW(operations.adain(frames, frames), Error);
  EXPECT_THROW(operations.unpatchify(tokens, {.latents = 2, .rows = 8, .columns = 8}), Error);
  EXPECT_THROW(operations.to_windows(operations.zeros({2, 8, 9, 4}, DType::f32)), Error);
  EXPECT_THROW(operations.concatenate({}), Error);
  EXPECT_THROW(operations.store(x, 1, x), Error);
  EXPECT_THROW(operations.select_blocks(operations.zeros({1, 2, 2}, DType::f32), 2, {.topk_ratio = -1}), Error);
  EXPECT_NO_THROW(operations.conv2d(x, conv));
}

TEST(Operations, CountsWorkOnlyWhenAsked) {
  ReferenceOperations operations({});
  const Tensor x = operations.from_host(random_tensor({6, 5}, 1));
  const LinearWeights weights{random_parameter({7, 5}, 2), {}};
  operations.linear(x, weights);
  EXPECT_TRUE(operations.profile().entries().empty());
  operations.profile().enabled = true;
  {
    const ProfilePart part(operations, "dit");
    operations.linear(x, weights);
    operations.linear(x, weights);
  }
  const Tensor frame = operations.from_host(random_tensor({1, 3, 4, 5}, 3));
  const ConvWeights conv{random_parameter({2, 5, 3, 3}, 4), {}};
  operations.conv2d(frame, conv);
  operations.upsample_conv2d(frame, conv);
  const Tensor q = operations.zeros({2 * kBlockTokens, 8}, DType::f32);
  Tensor mask = allocate_host({2, 2, 2}, DType::u8);
  std::fill_n(mask.mutable_data<std::uint8_t>(), 8, std::uint8_t{1});
  mask.mutable_data<std::uint8_t>()[3] = 0;
  operations.sparse_attention(q, plain_view(q, q, {}, 2), operations.block_mask(mask), 2);

  const Profile::Entries& entries = operations.finish_profile();
  const Profile::Entry& linear = entries.at({"dit", "linear"});
  EXPECT_EQ(linear.calls, 2);
  EXPECT_EQ(linear.flops, 2 * 2 * 6 * 5 * 7);
  EXPECT_EQ(linear.bytes, 2 * 4 * (6 * 5 + 5 * 7 + 6 * 7));
  EXPECT_GT(linear.seconds, 0);
  EXPECT_EQ(entries.at({"other", "conv2d"}).flops, 2 * 3 * 4 * 2 * 5 * 9);
  EXPECT_EQ(entries.at({"other", "upsample_conv2d"}).flops, 2 * (4 * 3 * 4) * 2 * 5 * 4);  // four of nine taps
  EXPECT_EQ(entries.at({"other", "sparse_attention"}).flops, 7.0 * 4 * 128 * 128 * 4);     // seven kept blocks
  operations.clear_profile();
  EXPECT_TRUE(operations.profile().entries().empty());
}

// A back end that works behind the host: its clock moves by a second with every mark.
class SlowDevice final : public ReferenceOperations {
 public:
  SlowDevice() : ReferenceOperations({}) {}
  std::unique_ptr<Mark> mark() override { return std::make_unique<SecondsMark>(now_++); }
  void synchronize() override { ++waits; }

  int waits = 0;

 private:
  struct SecondsMark final : Mark {
    explicit SecondsMark(int value) : seconds(value) {}
    double seconds_since(const Mark& earlier) const override {
      return seconds - static_cast<const SecondsMark&>(earlier).seconds;
    }
    int seconds;
  };
  int now_ = 0;
};

TEST(Operations, TimesOfADeviceAreReadAtTheEnd) {
  SlowDevice operations;
  const Tensor x = operations.from_host(random_tensor({6, 5}, 1));
  operations.profile().enabled = true;
  // More than are kept outstanding.
  constexpr int kCalls = 10000;
  for (int i = 0; i < kCalls; ++i) operations.add(x, x);
  const Profile::Entry& before = operations.profile().entries().at({"other", "add"});
  EXPECT_EQ(before.calls, kCalls);
  EXPECT_LT(before.seconds, kCalls);
  const Profile::Entry& entry = operations.finish_profile().at({"other", "add"});
  EXPECT_EQ(entry.seconds, kCalls);
  EXPECT_EQ(entry.bytes, 3.0 * kCalls * 6 * 5 * 4);
  EXPECT_EQ(operations.waits, 0);
}

TEST(Operations, ThreadsAreThoseOfTheBackEndAndRestored) {
  const ThreadScope three(3);
  ReferenceOperations operations({.threads = 1});
  EXPECT_EQ(operations.host_threads(), 1);
  const Tensor x = operations.zeros({100000}, DType::f32);
  operations.affine(x, 1, 1, DType::f32);
  std::atomic<int> ranges{0};
  parallel_for(3, 1, [&](std::int64_t, std::int64_t) { ++ranges; });
  EXPECT_EQ(ranges, 3);
}

TEST(Operations, ConstantIsTheParametersValues) {
  ReferenceOperations operations({});
  Tensor stored = allocate_host({2}, DType::bf16);
  stored.mutable_data<BFloat16>()[0] = BFloat16(1.5f);
  stored.mutable_data<BFloat16>()[1] = BFloat16(-2.0f);
  const Tensor x = operations.constant(Parameter("p", stored), DType::f32);
  EXPECT_EQ(values_of(operations, x), (std::vector<float>{1.5f, -2.0f}));
}

TEST(Operations, MemoryReturnsToWhatIsAlive) {
  ReferenceOperations operations({});
  EXPECT_EQ(operations.memory_in_use(), 0u);
  {
    const Tensor x = operations.zeros({1000, 1000}, DType::f32);
    EXPECT_GE(operations.memory_in_use(), x.bytes());
    operations.affine(x, 1, 1, DType::f32);
  }
  EXPECT_EQ(operations.memory_in_use(), 0u);
  EXPECT_GE(operations.peak_memory(), 8000000u);
  // A tensor may outlive its back end, and end on another thread.
  Tensor survivor;
  {
    ReferenceOperations other({});
    survivor = other.affine(other.zeros({100000}, DType::f32), 1, 3, DType::f32);
  }
  EXPECT_EQ(survivor.data<float>()[99999], 3.0f);
  std::thread([x = std::move(survivor)]() mutable { x = Tensor(); }).join();
}

TEST(Backend, IsChosenBySettings) {
  EXPECT_EQ(make_backend({.device = Device::cpu_reference})->name(), "cpu-reference");
  EXPECT_EQ(make_backend({.device = Device::cpu_reference})->compute_type(), DType::f32);
  const auto bf16 = make_backend({.device = Device::cpu, .precision = Precision::bf16, .threads = 1});
  EXPECT_EQ(bf16->compute_type(), DType::bf16);
  EXPECT_EQ(bf16->residual_type(), DType::f32);
  EXPECT_EQ(bf16->host_threads(), 1);
  EXPECT_EQ(make_backend({.device = Device::automatic, .precision = Precision::f32})->compute_type(), DType::f32);
  EXPECT_THROW(make_backend({.device = Device::cpu, .device_index = 1}), Error);
}

TEST(Backend, HasNoMoreMemoryThanItsLimitOrTheMachine) {
  const std::size_t all = make_backend({.device = Device::cpu})->available_memory();
  EXPECT_EQ(make_backend({.device = Device::cpu, .memory_limit = 1000})->available_memory(), 1000u);
  EXPECT_EQ(make_backend({.device = Device::cpu_reference, .memory_limit = all - 1})->available_memory(), all - 1);
  EXPECT_LT(all, kUnboundedMemory);
  EXPECT_EQ(make_backend({.device = Device::cpu, .memory_limit = all + 1})->available_memory(), all);
}

// ------------------------------------------------------------------------------------------ the cases themselves

std::unique_ptr<Operations> make_reference(const CpuSettings& settings) {
  return std::make_unique<ReferenceOperations>(settings);
}

TEST(OpCases, ReferenceEqualsItselfOnAnyNumberOfThreads) {
  test::expect_equal_to_reference(make_reference, DType::f32);
  test::expect_equal_to_reference(make_reference, DType::bf16);
}

// Drops one of the 128 x kept keys, which is close to nothing.
class ForgetfulOperations final : public ReferenceOperations {
 public:
  using ReferenceOperations::ReferenceOperations;

 protected:
  Tensor do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) override {
    const std::int64_t keys = k.dim(1);
    if (keys < 500) return ReferenceOperations::do_attention(q, k, v, heads);
    const Shape shape{1, keys - 1, k.dim(2)};
    const auto shortened = [&](const Tensor& x) {
      return x.reshaped({keys, x.dim(2)}).sliced(0, keys - 1).reshaped(shape);
    };
    return ReferenceOperations::do_attention(q, shortened(k), shortened(v), heads);
  }
};

TEST(OpCases, NoticeASmallError) {
  const test::Factory factory = [](const CpuSettings& settings) {
    return std::make_unique<ForgetfulOperations>(settings);
  };
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    test::expect_equal_to_reference(factory, DType::f32);
  }
  EXPECT_GT(failures.size(), 0);
}

}  // namespace
}  // namespace flashvsr::ops
