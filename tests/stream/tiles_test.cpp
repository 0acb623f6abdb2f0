#include "stream/tiles.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <span>

namespace flashvsr::stream {
namespace {

// ---------------------------------------------------------------------------------------------------------- geometry

TEST(Tiles, CoverTheFrameWithOverlaps) {
  for (std::int64_t padded = kTileGrid; padded <= 40 * kTileGrid; padded += kTileGrid) {
    for (std::int64_t count = 1; count <= most_tiles(padded); ++count) {
      const TileAxis axis = tile_axis(padded, count);
      ASSERT_EQ(static_cast<std::int64_t>(axis.begins.size()), count);
      EXPECT_EQ(axis.size % kTileGrid, 0);
      EXPECT_EQ(axis.begins.front(), 0);
      EXPECT_EQ(axis.begins.back() + axis.size, padded);
      for (std::size_t i = 0; i + 1 < axis.begins.size(); ++i) {
        EXPECT_EQ(axis.begins[i] % kTileGrid, 0);
        EXPECT_LT(axis.begins[i], axis.begins[i + 1]);
        EXPECT_GE(axis.begins[i] + axis.size - axis.begins[i + 1], kTileOverlap) << padded << " in " << count;
      }
    }
    EXPECT_THROW(tile_axis(padded, most_tiles(padded) + 1), Error);
    EXPECT_THROW(tile_axis(padded, 0), Error);
  }
}

TEST(Tiles, WeightsSumToOneExactly) {
  for (std::int64_t padded = kTileGrid; padded <= 40 * kTileGrid; padded += kTileGrid) {
    for (std::int64_t count = 1; count <= most_tiles(padded); ++count) {
      const TileAxis axis = tile_axis(padded, count);
      std::vector<float> sums(static_cast<std::size_t>(padded));
      for (std::size_t tile = 0; tile < axis.begins.size(); ++tile) {
        const std::vector<float> weights = tile_weights(axis, tile);
        ASSERT_EQ(static_cast<std::int64_t>(weights.size()), axis.size);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          EXPECT_GE(weights[i], 0.0f);
          sums[static_cast<std::size_t>(axis.begins[tile]) + i] += weights[i];
        }
        // One at borders of the frame, nothing near those inside.
        constexpr std::int64_t kUnseen = (kTileOverlap - kTileRamp) / 2;
        for (std::size_t i = 0; i < static_cast<std::size_t>(kUnseen); ++i) {
          EXPECT_EQ(weights[i], tile == 0 ? 1.0f : 0.0f);
          EXPECT_EQ(weights[weights.size() - 1 - i], tile + 1 == axis.begins.size() ? 1.0f : 0.0f);
        }
      }
      EXPECT_TRUE(std::all_of(sums.begin(), sums.end(), [](float sum) { return sum == 1.0f; }))
          << padded << " in " << count;
    }
  }
}

TEST(Tiles, FadeLinearly) {
  const TileAxis axis = tile_axis(5 * kTileGrid, 2);
  ASSERT_EQ(axis.begins[1], 2 * kTileGrid);
  const std::vector<float> weights = tile_weights(axis, 1);
  for (std::size_t i = 32; i < 96; ++i) EXPECT_EQ(weights[i], (static_cast<float>(i) - 31.5f) / 64) << i;
  EXPECT_EQ(weights[31], 0.0f);
  EXPECT_EQ(weights[96], 1.0f);
}

TEST(Tiles, TheLadderMakesTheLongerSideShorter) {
  const std::vector<TileCounts> ladder = tile_ladder(3840, 2176);
  ASSERT_GT(ladder.size(), 4U);
  EXPECT_EQ(ladder[0], (TileCounts{2, 1}));
  TileAxis before_x = tile_axis(3840, 1), before_y = tile_axis(2176, 1);
  for (const TileCounts& tiles : ladder) {
    const TileAxis x = tile_axis(3840, tiles.columns), y = tile_axis(2176, tiles.rows);
    EXPECT_LT(x.size * y.size, before_x.size * before_y.size);
    EXPECT_TRUE(x.size == before_x.size || y.size == before_y.size);
    EXPECT_GE(std::min(x.size, y.size), kLeastTileSide);
    before_x = x, before_y = y;
  }
  EXPECT_EQ(std::max(before_x.size, before_y.size), kLeastTileSide);
  EXPECT_TRUE(tile_ladder(512, 512).empty());
  EXPECT_TRUE(tile_ladder(128, 640).empty());
}

// ----------------------------------------------------------------------------------------------------------- streams

// 380x132: 3 x 2 blocks of 128 pixels with padding at the right and below.
constexpr std::int64_t kWidth = 95, kHeight = 33;
constexpr TileCounts kTwo{2, 1};

StreamSettings tiled_settings(TileCounts tiles = kTwo) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  settings.tiles = tiles;
  return settings;
}

std::int64_t all_windows(const StreamSettings& settings) {
  return attention_model().networks.dit.layers() * settings.kv_chunks;
}

int largest_difference(const Frame& a, const Frame& b, std::int64_t width, std::int64_t begin, std::int64_t end) {
  int largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto column = static_cast<std::int64_t>(i) / 3 % width;
    if (column >= begin && column < end) largest = std::max(largest, std::abs(int{a[i]} - int{b[i]}));
  }
  return largest;
}

class TiledFrameCounts : public testing::TestWithParam<std::int64_t> {};

TEST_P(TiledFrameCounts, AsManyOutAsInEachInItsPlace) {
  const StreamSettings settings = tiled_settings();
  const Clip clip = wave_clip(GetParam(), kWidth, kHeight);
  const Clip output = run(attention_model(), settings, clip), reference = upsampled(attention_model(), clip, settings);
  ASSERT_EQ(output.size(), clip.size());
  for (std::size_t i = 0; i < output.size(); ++i) {
    ASSERT_EQ(output[i].size(), static_cast<std::size_t>(settings.output_width * settings.output_height * 3));
    const auto distance = [&](std::size_t j) {
      return coarse_distance(output[i], reference[j], settings.output_width, settings.output_height);
    };
    for (std::size_t j = i < 3 ? 0 : i - 3; j < std::min(output.size(), i + 4); ++j) {
      if (j != i) {
        EXPECT_LT(distance(i), distance(j)) << i << " against " << j;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TiledStream, TiledFrameCounts, testing::Values(1, 5, 25, 30));

TEST(TiledStream, OneTileIsTheFrame) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(34, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  settings.tiles = TileCounts{};
  EXPECT_TRUE(run(attention_model(), settings, clip) == expected);
  settings.tiles = kTwo;
  EXPECT_FALSE(run(attention_model(), settings, clip) == expected);
}

// Where attention sees its own block alone and every such block is kept, a tile differs from the frame by what its
// border does: to tokens of the block at the border (projector: two of them; attention: the rest of the block), and as
// far from there as the decoder's convolutions see: 11 at 1/8 of the resolution, 9 at 1/4, 9 at 1/2 and 2 at the whole,
// and one at each change of the resolution, together 8 * 11 + 4 * 10 + 2 * 10 + 3 = 151 pixels.
TEST(TiledStream, InsideOfTilesItIsTheUntiledStream) {
  constexpr std::int64_t kWide = 160, kBlock = 128, kSeen = 151;
  StreamSettings settings = make_settings(kWide, 32, 4);
  settings.color_fix = ColorFix::none;
  settings.all_allowed_blocks = true;
  settings.local_range = 1;
  const Clip clip = wave_clip(34, kWide, 32);
  const Clip expected = run(attention_model(), settings, clip);
  settings.tiles = kTwo;  // of three blocks each: the second begins at the third block
  const Clip output = run(attention_model(), settings, clip);
  ASSERT_EQ(output.size(), expected.size());
  const std::int64_t width = settings.output_width;
  int inside = 0, between = 0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    inside = std::max(inside, largest_difference(output[i], expected[i], width, 0, 2 * kBlock - kSeen));
    inside = std::max(inside, largest_difference(output[i], expected[i], width, 3 * kBlock + kSeen, width));
    between =
        std::max(between, largest_difference(output[i], expected[i], width, 2 * kBlock - kSeen, 3 * kBlock + kSeen));
  }
  // Other shapes may be multiplied in another order, which can tip a rounding to bytes.
  EXPECT_LE(inside, 1);
  EXPECT_GT(between, 1);
}

// Caches of tiles that share their slots give what each with its own gives.
TEST(TiledStream, SpilledWindowsChangeNothing) {
  StreamSettings settings = tiled_settings();
  const Clip clip = wave_clip(50, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  for (const std::int64_t spilled : {std::int64_t{1}, all_windows(settings)}) {
    settings.spilled_windows = spilled;
    EXPECT_TRUE(run(attention_model(), settings, clip) == expected) << spilled;
  }
}

TEST(TiledStream, RestoredStreamsGoOnBitForBit) {
  const Clip clip = wave_clip(43, kWidth, kHeight);
  const Clip expected = run(attention_model(), tiled_settings(), clip);
  for (const bool spilled : {false, true}) {
    StreamSettings settings = tiled_settings();
    if (spilled) settings.spilled_windows = all_windows(settings);
    Stream streams[] = {{attention_model().networks, settings}, {attention_model().networks, settings}};
    Stream* stream = &streams[0];
    Clip output;
    for (std::size_t i = 0; i < clip.size(); ++i) {
      if (i == 7 || i == 27 || i == 33 || i == 42) {
        const std::vector<std::byte> saved = stream->save();
        stream = stream == &streams[0] ? &streams[1] : &streams[0];
        stream->restore(saved);
        EXPECT_TRUE(stream->save() == saved) << i;
      }
      append(output, send_all(*stream, {clip[i]}));
    }
    stream->drain();
    append(output, receive_all(*stream));
    EXPECT_TRUE(output == expected) << spilled;
  }
}

TEST(TiledStream, AResetStreamIsAFreshOne) {
  StreamSettings settings = tiled_settings();
  settings.spilled_windows = all_windows(settings);
  const Clip clip = wave_clip(26, kWidth, kHeight);
  Stream stream(attention_model().networks, settings);
  const Clip first = run(stream, clip);
  stream.reset();
  send_all(stream, wave_clip(34, kWidth, kHeight));
  stream.reset();
  EXPECT_TRUE(run(stream, clip) == first);
}

TEST(TiledStream, ASavedStreamBelongsToItsTiles) {
  Stream tiled(attention_model().networks, tiled_settings());
  send_all(tiled, wave_clip(27, kWidth, kHeight));
  Stream whole(attention_model().networks, tiled_settings({1, 1}));
  EXPECT_THROW(whole.restore(tiled.save()), Error);
}

// Tiles get their part of the frame's noise, which is asked for once.
TEST(TiledStream, NoiseIsThatOfTheFrame) {
  StreamSettings settings = tiled_settings();
  settings.seed = 5;
  const Clip clip = wave_clip(30, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  std::vector<std::int64_t> latents;
  settings.noise = [&](std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values) {
    EXPECT_EQ(rows, 32);
    EXPECT_EQ(columns, 48);
    latents.push_back(latent);
    fill_with_noise(5, latent, rows, columns, values);
  };
  settings.seed = 6;
  EXPECT_TRUE(run(attention_model(), settings, clip) == expected);
  ASSERT_EQ(latents.size(), 10U);
  for (std::size_t i = 0; i < latents.size(); ++i) EXPECT_EQ(latents[i], static_cast<std::int64_t>(i));
}

TEST(TiledStream, ReportsProgressInSmallSteps) {
  StreamSettings settings = tiled_settings();
  std::vector<std::int64_t> done{0};
  settings.progress = [&](std::int64_t frames_done) { done.push_back(frames_done); };
  run(attention_model(), settings, wave_clip(30, kWidth, kHeight));
  EXPECT_EQ(done.back(), 30);
  for (std::size_t i = 1; i < done.size(); ++i) {
    EXPECT_GT(done[i], done[i - 1]);
    EXPECT_LE(done[i], done[i - 1] + 4);
  }
}

TEST(TiledStream, TheFullDecoderGivesAsManyFrames) {
  StreamSettings settings = tiled_settings();
  settings.full_decoder = true;
  EXPECT_EQ(run(vae_model(), settings, wave_clip(26, kWidth, kHeight)).size(), 26U);
}

TEST(TiledStream, RefusesTilesThatHaveNoRoom) {
  for (const TileCounts tiles : {TileCounts{3, 1}, TileCounts{1, 2}, TileCounts{0, 1}, TileCounts{2, -1}}) {
    try {
      const Stream stream(attention_model().networks, tiled_settings(tiles));
      FAIL() << tiles.columns << "x" << tiles.rows;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find("1x1 to 2x1"), std::string::npos) << error.what();
    }
  }
}

// A picture of one colour shows every border: with the built-in model, nothing else is in it.
TEST(TiledStream, BordersDoNotShowInAPictureOfOneColour) {
  const auto operations = ops::make_backend({.device = ops::Device::cpu, .precision = ops::Precision::f32});
  const Networks networks(
      *operations,
      weights::load_model(std::filesystem::path(FLASHVSR_SOURCE_DIR) / "models/nano.safetensors", std::nullopt));
  StreamSettings settings = make_settings(96, 96, 4);
  settings.local_range = 11;
  Frame frame;
  for (int i = 0; i < 96 * 96; ++i) frame.insert(frame.end(), {180, 120, 60});
  for (const ColorFix fix : {ColorFix::none, ColorFix::wavelet, ColorFix::adain}) {
    settings.color_fix = fix;
    settings.tiles = TileCounts{2, 2};
    Stream stream(networks, settings);
    const Clip output = run(stream, {frame});
    settings.tiles = TileCounts{};
    Stream whole(networks, settings);
    const Clip expected = run(whole, {frame});
    // Steps between neighbours are not larger than those of the frame in one piece.
    const auto largest_step = [](const Frame& picture) {
      int step = 0;
      for (std::size_t i = 3; i < picture.size(); ++i) {
        if (i / 3 % 384 > 0) step = std::max(step, std::abs(int{picture[i]} - int{picture[i - 3]}));
      }
      return step;
    };
    EXPECT_LE(largest_step(output[0]), largest_step(expected[0]) + 1) << static_cast<int>(fix);
    EXPECT_LE(largest_difference(output[0], expected[0], 384, 0, 384), 4) << static_cast<int>(fix);
  }
}

}  // namespace
}  // namespace flashvsr::stream
