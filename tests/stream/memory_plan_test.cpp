#include "stream/memory_plan.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

namespace flashvsr::stream {
namespace {

StreamSettings settings_of(std::int64_t width, std::int64_t height) { return make_settings(width / 4, height / 4, 4); }

constexpr ops::PlanningSettings kF32{.compute = DType::f32, .residual = DType::f32, .own_memory = true};

struct Way {
  bool full_decoder;
  TileCounts tiles;
};

// What a real back end has in use after the same chunks, state by state.
TEST(MemoryPlan, IsWhatAStreamTakes) {
  for (const Way& way : {Way{false, {1, 1}}, Way{true, {1, 1}}, Way{false, {2, 1}}}) {
    const bool full = way.full_decoder;
    TestModel& model = full ? vae_model() : attention_model();
    StreamSettings settings = make_settings(way.tiles.columns == 1 ? 40 : 96, 30, 4);
    settings.full_decoder = full;
    settings.tiles = way.tiles;
    const std::size_t before = model.operations->memory_in_use();
    Stream stream(model.networks, settings);
    const std::int64_t width = settings.input_width;
    send_all(stream, wave_clip(41, width, 30));
    const std::size_t in_use = model.operations->memory_in_use() - before;

    ops::PlanningOperations planning(kF32);
    const Networks networks(planning, model.networks.files);
    const std::size_t constants = planning.memory_in_use();
    Stream planned(networks, settings);
    for (int i = 0; i < 41; ++i) {
      planned.state().finished.clear();
      planned.send(planning.zeros({1, 30, width, 3}, DType::u8));
    }
    planned.state().finished.clear();
    // Places of tensors are rounded up to 1024 bytes.
    const auto expected = static_cast<double>(in_use);
    EXPECT_NEAR(static_cast<double>(planning.memory_in_use() - constants), expected, 0.01 * expected) << full;

    const MemoryPlan plan = plan_memory(model.networks.files, settings, kF32);
    const double state = static_cast<double>(plan.kv_cache + plan.memories);
    const double frames =
        static_cast<double>(stream.state().pending.size()) * static_cast<double>(stream.padded_width() * 128 * 3);
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

// Streams within limits that they were made to fit into: tensors never take more than was planned.
TEST(MemoryPlan, IsAnUpperBound) {
  const weights::ModelFiles& files = attention_model().networks.files;
  for (const TileCounts tiles : {TileCounts{1, 1}, TileCounts{2, 1}}) {
    const auto operations = ops::make_backend({.device = ops::Device::cpu, .precision = ops::Precision::f32});
    const Networks networks(*operations, files);
    StreamSettings settings = make_settings(160, 48, 4);
    settings.tiles = tiles;
    settings.decoder_slice_bytes = std::size_t{1} << 20;
    Stream stream(networks, settings);
    send_all(stream, wave_clip(41, 160, 48));
    const MemoryPlan& plan = *stream.memory_plan();
    EXPECT_EQ(plan.tiles, tiles);
    const std::size_t planned = plan.total - plan.weights;
    EXPECT_LE(operations->peak_memory(), planned) << tiles.columns;
    EXPECT_GT(operations->peak_memory(), planned / 2) << tiles.columns;
  }
}

TEST(MemoryPlan, CountsImages) {
  const weights::ModelFiles& files = attention_model().networks.files;
  StreamSettings settings = settings_of(512, 256);
  const MemoryPlan plain = plan_memory(files, settings, kF32);
  EXPECT_EQ(plain.sent_images, 0U);
  EXPECT_EQ(plain.finished, 0U);
  settings.image_input = true;
  const MemoryPlan input = plan_memory(files, settings, kF32);
  EXPECT_GE(input.sent_images, std::size_t{16} * 128 * 64 * 3);
  EXPECT_EQ(input.total, plain.total + input.sent_images);
  // Memory of the host is not kept for them.
  ops::PlanningSettings cpu = kF32;
  cpu.own_memory = false;
  EXPECT_EQ(plan_memory(files, settings, cpu).sent_images, 0U);
  settings.image_output = true;
  const MemoryPlan both = plan_memory(files, settings, kF32);
  EXPECT_EQ(both.finished, std::size_t{40} * 512 * 256 * 3);
  // Those of one chunk are planned in any case.
  EXPECT_GE(both.total, input.total + std::size_t{40 - 21} * 512 * 256 * 3);
  EXPECT_EQ(both.total, both.weights + both.constants + both.kv_cache + both.waiting_frames + both.memories +
                            both.sent_images + both.finished + both.largest_working() + both.gaps);
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
