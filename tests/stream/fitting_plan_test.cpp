#include "stream/fitting_plan.h"

#include "stream_fixture.h"
#include "weights/unfilled_model.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace flashvsr::stream {
namespace {

constexpr std::size_t kLeastSlice = std::size_t{32} << 20;
constexpr std::size_t kWholeSlice = models::TinyDecoder::kSliceBytes;

// Planned, never run: a decoder and layers that weigh as much as in models that are used.
weights::ModelFiles planned_model(std::int64_t layers) {
  weights::ModelConfig config = attention_model().networks.files.config;
  config.layers = layers;
  config.ffn_dim = 1024;
  config.tc_channels = {256, 128, 64, 32};
  return weights::unfilled_model(config);
}

// On a device, or in the host's memory, where the KV cache of all tiles counts.
class FittingPlan : public testing::TestWithParam<bool> {
 protected:
  FittingPlan()
      : files_(planned_model(GetParam() ? 12 : 2)),
        planning_{.compute = DType::f32, .residual = DType::f32, .own_memory = GetParam()},
        settings_(make_settings(512, 256, 4)),
        whole_(planned({}, 0, kWholeSlice)) {}

  MemoryPlan planned(TileCounts tiles, std::int64_t spilled, std::size_t slice) const {
    StreamSettings settings = settings_;
    settings.tiles = tiles;
    settings.spilled_windows = spilled;
    settings.decoder_slice_bytes = slice;
    return plan_memory(files_, settings, planning_);
  }
  MemoryPlan fitted(std::size_t available) const {
    return fitting_plan(whole_, files_, settings_, planning_, available);
  }
  // The largest that keeps the frame within `available`.
  std::size_t largest_slice(std::int64_t spilled, std::size_t available) const {
    std::size_t slice = kWholeSlice;
    while (planned({}, spilled, slice).total > available) slice /= 2;
    return slice;
  }
  std::int64_t all_windows() const { return files_.config.layers * settings_.kv_chunks; }
  std::int64_t spilled_by_tiles() const { return planning_.own_memory ? all_windows() : 0; }

  const weights::ModelFiles files_;
  const ops::PlanningSettings planning_;
  StreamSettings settings_;
  const MemoryPlan whole_;
};

void expect_rung(const MemoryPlan& plan, TileCounts tiles, std::int64_t spilled, std::size_t slice) {
  EXPECT_LE(plan.total, plan.available);
  EXPECT_EQ(plan.tiles, tiles);
  EXPECT_EQ(plan.spilled_windows, spilled);
  EXPECT_EQ(plan.spilled > 0, spilled > 0);
  EXPECT_EQ(plan.decoder_slice, slice);
}

TEST_P(FittingPlan, ChangesNothingThatFits) {
  expect_rung(fitted(whole_.total), {}, 0, kWholeSlice);
  expect_rung(fitted(ops::kUnboundedMemory), {}, 0, kWholeSlice);
}

TEST_P(FittingPlan, TakesTheLargestSlicesFirst) {
  const std::size_t least = planned({}, 0, kLeastSlice).total;
  ASSERT_LT(least, whole_.total);
  for (const std::size_t available : {whole_.total - 1, (least + whole_.total) / 2, least}) {
    const std::size_t slice = largest_slice(0, available);
    EXPECT_LT(slice, kWholeSlice);
    expect_rung(fitted(available), {}, 0, slice);
  }
}

TEST_P(FittingPlan, ThenSpillsAsFewWindowsAsItCan) {
  if (!planning_.own_memory) GTEST_SKIP() << "the host's memory is no help against itself";
  const std::size_t in_slices = planned({}, 0, kLeastSlice).total;
  std::int64_t before = 0;
  for (const std::size_t missing : {std::size_t{1}, whole_.kv_cache / 8, whole_.kv_cache / 4}) {
    const std::size_t available = in_slices - missing;
    const MemoryPlan plan = fitted(available);
    expect_rung(plan, {}, plan.spilled_windows, kWholeSlice);
    EXPECT_GT(plan.spilled_windows, before);
    EXPECT_LT(plan.spilled_windows, all_windows());
    EXPECT_GT(plan.spilled, missing);
    EXPECT_LT(plan.kv_cache, whole_.kv_cache);
    EXPECT_GT(planned({}, plan.spilled_windows - 1, kWholeSlice).total, available);
    before = plan.spilled_windows;
  }
}

TEST_P(FittingPlan, ThenBoth) {
  if (!planning_.own_memory) GTEST_SKIP() << "the host's memory is no help against itself";
  const std::size_t all_spilled = planned({}, all_windows(), kWholeSlice).total;
  const std::size_t least = planned({}, all_windows(), kLeastSlice).total;
  ASSERT_LT(least, all_spilled);
  for (const std::size_t available : {all_spilled - 1, least}) {
    expect_rung(fitted(available), {}, all_windows(), largest_slice(all_windows(), available));
  }
}

TEST_P(FittingPlan, AndTilesLast) {
  const std::int64_t spilled = spilled_by_tiles();
  std::size_t before = planned({}, spilled, kLeastSlice).total;
  TileCounts seen;
  for (const TileCounts& tiles : tile_ladder(2048, 1024)) {
    const std::size_t needed = planned(tiles, spilled, kLeastSlice).total;
    if (needed >= before) break;
    // What the step before it needs is just not there.
    const MemoryPlan plan = fitted(before - 1);
    EXPECT_LE(plan.total, plan.available);
    EXPECT_EQ(plan.tiles, tiles);
    EXPECT_EQ(plan.spilled_windows, spilled);
    EXPECT_EQ(fitted(needed).tiles, tiles);
    EXPECT_EQ(plan.tile_width % kTileGrid, 0);
    before = needed;
    seen = tiles;
    if (tiles.count() >= 6) break;
  }
  EXPECT_GE(seen.count(), 2);
}

TEST_P(FittingPlan, TheErrorNamesTheLeast) {
  const MemoryPlan plan = fitted(whole_.unavoidable);
  EXPECT_GT(plan.total, plan.available);
  EXPECT_LE(plan.total, planned({2, 1}, spilled_by_tiles(), kLeastSlice).total);
  EXPECT_GT(plan.tiles.count(), 1);
  const auto message_of = [](const MemoryPlan& refused, const StreamSettings& settings) {
    try {
      require_memory(refused, settings);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
      return std::string(error.what());
    }
    ADD_FAILURE() << "it fits";
    return std::string();
  };
  const std::string message = message_of(plan, settings_);
  for (const std::string& part :
       {std::string("2048x1024"), fmt::format("{:.1f} GB", static_cast<double>(plan.total) / 1e9),
        fmt::format("tiles of {}x{}", plan.tile_width, plan.tile_height),
        fmt::format("{:.1f} GB are there", static_cast<double>(plan.available) / 1e9),
        std::string("choose a smaller output or fewer chunks")}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
  // Without tiles, if they are off; the error then says so.
  settings_.tiles = TileCounts{};
  const MemoryPlan off = fitted(whole_.unavoidable);
  EXPECT_EQ(off.tiles.count(), 1);
  EXPECT_EQ(off.total, planned({}, spilled_by_tiles(), kLeastSlice).total);
  EXPECT_NE(message_of(off, settings_).find("let frames be cut into tiles"), std::string::npos);
  // Nothing is tried where nothing helps.
  const MemoryPlan hopeless = fitted(whole_.unavoidable - 1);
  EXPECT_EQ(hopeless.total, whole_.total);
  EXPECT_NE(
      message_of(hopeless, settings_)
          .find(fmt::format("more than {:.1f} GB of memory, even in", static_cast<double>(whole_.unavoidable) / 1e9)),
      std::string::npos);
  // What just fits is no error.
  MemoryPlan enough = whole_;
  enough.available = whole_.total;
  require_memory(enough, settings_);
}

TEST_P(FittingPlan, LeavesAloneWhatIsSaid) {
  settings_.decoder_slice_bytes = kWholeSlice;
  settings_.spilled_windows = 1;
  settings_.tiles = TileCounts{2, 2};
  const MemoryPlan asked = plan_memory(files_, settings_, planning_);
  const MemoryPlan plan = fitting_plan(asked, files_, settings_, planning_, 1);
  EXPECT_EQ(plan.total, asked.total);
  EXPECT_EQ(plan.decoder_slice, kWholeSlice);
  EXPECT_EQ(plan.spilled_windows, 1);
  EXPECT_EQ(plan.tiles, (TileCounts{2, 2}));
}

INSTANTIATE_TEST_SUITE_P(Memory, FittingPlan, testing::Bool(),
                         [](const auto& info) { return info.param ? "device" : "host"; });

// A stream takes over what was decided, and runs so within its limit.
TEST(FittingStream, RunsInTheTilesThatALimitMakesNecessary) {
  const weights::ModelFiles files =
      weights::load_model(std::filesystem::path(FLASHVSR_SOURCE_DIR) / "models/nano.safetensors", std::nullopt);
  StreamSettings settings = make_settings(480, 32, 4);  // 1920x128: 15 blocks
  const ops::PlanningSettings planning{.compute = DType::f32, .residual = DType::f32, .own_memory = false};
  settings.tiles = TileCounts{};
  settings.decoder_slice_bytes = kLeastSlice;
  const std::size_t whole = plan_memory(files, settings, planning).total;
  settings.tiles = TileCounts{2, 1};
  const std::size_t tiled = plan_memory(files, settings, planning).total;
  ASSERT_LT(tiled, whole);
  const std::size_t limit = (tiled + whole) / 2;
  const auto operations =
      ops::make_backend({.device = ops::Device::cpu, .precision = ops::Precision::f32, .memory_limit = limit});
  const Networks networks(*operations, files);
  settings.tiles.reset();
  settings.decoder_slice_bytes.reset();
  Stream stream(networks, settings);
  EXPECT_EQ(stream.settings().tiles, (TileCounts{2, 1}));
  ASSERT_TRUE(stream.memory_plan());
  EXPECT_EQ(stream.memory_plan()->tiles, (TileCounts{2, 1}));
  const Clip clip = wave_clip(2, 480, 32);
  const Clip output = run(stream, clip);
  EXPECT_LE(operations->peak_memory(), stream.memory_plan()->total);
  const auto unlimited = ops::make_backend({.device = ops::Device::cpu, .precision = ops::Precision::f32});
  const Networks same(*unlimited, files);
  settings.tiles = TileCounts{2, 1};
  Stream asked(same, settings);
  EXPECT_TRUE(output == run(asked, clip));
  settings.tiles = TileCounts{};
  EXPECT_THROW(Stream(networks, settings), Error);
}

}  // namespace
}  // namespace flashvsr::stream
