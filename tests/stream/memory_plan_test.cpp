#include "stream/memory_plan.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

namespace flashvsr::stream {
namespace {

StreamSettings settings_of(std::int64_t width, std::int64_t height) { return make_settings(width / 4, height / 4, 4); }

constexpr ops::PlanningSettings kF32{.compute = DType::f32, .residual = DType::f32, .own_memory = true};

// What a real back end has in use after the same chunks, state by state.
TEST(MemoryPlan, IsWhatAStreamTakes) {
  for (const bool full : {false, true}) {
    TestModel& model = full ? vae_model() : attention_model();
    StreamSettings settings = make_settings(40, 30, 4);
    settings.full_decoder = full;
    const std::size_t before = model.operations->memory_in_use();
    Stream stream(model.networks, settings);
    send_all(stream, wave_clip(41, 40, 30));
    const std::size_t in_use = model.operations->memory_in_use() - before;

    ops::PlanningOperations planning(kF32);
    const Networks networks(planning, model.networks.files);
    const std::size_t constants = planning.memory_in_use();
    Stream planned(networks, settings);
    for (int i = 0; i < 41; ++i) {
      planned.state().finished.clear();
      planned.send(planning.zeros({1, 30, 40, 3}, DType::u8));
    }
    planned.state().finished.clear();
    // Places of tensors are rounded up to 1024 bytes.
    const auto expected = static_cast<double>(in_use);
    EXPECT_NEAR(static_cast<double>(planning.memory_in_use() - constants), expected, 0.01 * expected) << full;

    const MemoryPlan plan = plan_memory(model.networks.files, settings, kF32);
    const double state = static_cast<double>(plan.kv_cache + plan.memories);
    const double frames = static_cast<double>(stream.state().pending.size() * 256 * 128 * 3);
    EXPECT_NEAR(state + frames, expected, 0.01 * expected) << full;
  }
}

TEST(MemoryPlan, IsTheSumOfItsParts) {
  const weights::ModelFiles& files = attention_model().networks.files;
  const MemoryPlan plan = plan_memory(files, settings_of(512, 256), kF32);
  EXPECT_EQ(plan.total, plan.weights + plan.constants + plan.kv_cache + plan.waiting_frames + plan.memories +
                            plan.largest_working() + plan.gaps);
  for (const std::size_t part : {plan.weights, plan.constants, plan.kv_cache, plan.waiting_frames, plan.memories}) {
    EXPECT_GT(part, 0U);
  }
  ASSERT_EQ(plan.working.size(), 4U);
  EXPECT_EQ(plan.working[2].first, "decoder");
  EXPECT_GT(plan.working[2].second, 0U);
  const MemoryPlan larger = plan_memory(files, settings_of(512, 512), kF32);
  EXPECT_GT(larger.total, plan.total);
  EXPECT_EQ(larger.weights, plan.weights);
  EXPECT_EQ(larger.kv_cache, 2 * plan.kv_cache);
  StreamSettings fewer = settings_of(512, 256);
  fewer.kv_chunks = 1;
  EXPECT_LT(plan_memory(files, fewer, kF32).kv_cache, plan.kv_cache);
}

// It does not touch what it plans: 6 TB of frames and cache.
TEST(MemoryPlan, OfAnySizeCostsNothing) {
  const MemoryPlan plan = plan_memory(attention_model().networks.files, settings_of(65536, 65536), kF32);
  EXPECT_GT(plan.total, std::size_t{1} << 40);
}

TEST(MemoryPlan, DoesNotCallBack) {
  StreamSettings settings = settings_of(128, 128);
  settings.noise = [](auto...) { FAIL(); };
  settings.progress = [](auto...) { FAIL(); };
  EXPECT_GT(plan_memory(attention_model().networks.files, settings, kF32).total, 0U);
}

TEST(MemoryPlan, RefusesWhatDoesNotFit) {
  const StreamSettings settings = settings_of(512, 256);
  MemoryPlan plan = plan_memory(attention_model().networks.files, settings, kF32);
  plan.available = plan.total;
  require_memory(plan, settings);
  plan.available = plan.total - 1;
  try {
    require_memory(plan, settings);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    const std::string message = error.what();
    EXPECT_NE(message.find("512x256"), std::string::npos) << message;
    EXPECT_NE(message.find("choose a smaller output"), std::string::npos) << message;
  }
}

// What is spilled changes no value, and a saved stream does not know of it.
TEST(MemoryPlan, SpilledWindowsChangeNothing) {
  const TestModel& model = attention_model();
  StreamSettings settings = make_settings(40, 30, 4);
  const Clip clip = wave_clip(58, 40, 30);
  const Clip expected = run(model, settings, clip);
  const std::int64_t most = model.networks.dit.layers() * settings.kv_chunks;
  for (const std::int64_t spilled : {std::int64_t{1}, most / 2, most}) {
    settings.spilled_windows = spilled;
    EXPECT_TRUE(run(model, settings, clip) == expected) << spilled;
  }
  settings.spilled_windows = most - 1;
  Stream first(model.networks, settings);
  Clip output = send_all(first, Clip(clip.begin(), clip.begin() + 41));
  settings.spilled_windows = 2;
  Stream second(model.networks, settings);
  second.restore(first.save());
  EXPECT_TRUE(second.save() == first.save());
  append(output, run(second, Clip(clip.begin() + 41, clip.end())));
  EXPECT_TRUE(output == expected);
  settings.spilled_windows = most + 1;
  EXPECT_THROW(Stream(model.networks, settings), Error);
}

TEST(MemoryPlan, SpillsWhatDoesNotFit) {
  const weights::ModelFiles& files = attention_model().networks.files;
  StreamSettings settings = settings_of(1024, 512);
  const MemoryPlan whole = plan_memory(files, settings, kF32);
  EXPECT_EQ(whole.spilled, 0U);
  const auto fitted = [&](std::size_t available) { return fitting_plan(whole, files, settings, kF32, available); };
  EXPECT_EQ(fitted(whole.total).spilled_windows, 0);
  settings.kv_chunks = 8;
  const MemoryPlan large = plan_memory(files, settings, kF32);
  MemoryPlan plan = fitting_plan(large, files, settings, kF32, large.total - large.kv_cache / 8);
  EXPECT_LE(plan.total, large.total - large.kv_cache / 8);
  EXPECT_GT(plan.spilled_windows, 0);
  EXPECT_LT(plan.spilled_windows, 8 * files.config.layers);
  EXPECT_GT(plan.spilled, large.kv_cache / 8);
  EXPECT_LT(plan.kv_cache, large.kv_cache);
  // All of them are not enough, and the error says so.
  plan = fitting_plan(large, files, settings, kF32, large.weights);
  EXPECT_EQ(plan.spilled_windows, 8 * files.config.layers);
  EXPECT_THROW(require_memory(plan, settings), Error);
  // Only the user's word counts if there is one, and the host's memory is no help against itself.
  settings.spilled_windows = 1;
  EXPECT_GT(fitting_plan(large, files, settings, kF32, 1).total, 1U);
  settings.spilled_windows.reset();
  ops::PlanningSettings cpu = kF32;
  cpu.own_memory = false;
  EXPECT_EQ(fitting_plan(plan_memory(files, settings, cpu), files, settings, cpu, 1).spilled_windows, 0);
}

TEST(MemoryPlan, ObeysALimit) {
  const auto operations =
      ops::make_backend({.device = ops::Device::cpu_reference, .memory_limit = std::size_t{100} << 20});
  const Networks networks(*operations, attention_model().networks.files);
  EXPECT_EQ(operations->available_memory(), std::size_t{100} << 20);
  EXPECT_NO_THROW(Stream(networks, make_settings(32, 32, 4)));
  try {
    const Stream stream(networks, make_settings(512, 512, 4));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
}

TEST(MemoryPlan, IsKeptByTheStream) {
  const StreamSettings settings = make_settings(32, 32, 4);
  const Stream stream(attention_model().networks, settings);
  ASSERT_TRUE(stream.memory_plan());
  EXPECT_GT(stream.memory_plan()->total, 0U);
  EXPECT_GE(stream.memory_plan()->available, stream.memory_plan()->total);
}

}  // namespace
}  // namespace flashvsr::stream
