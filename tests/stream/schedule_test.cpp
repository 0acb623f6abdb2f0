#include "stream/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace flashvsr::stream {
namespace {

TEST(Schedule, ChunkZeroTakes25FramesAndGives21) {
  const Chunk chunk = chunk_at(0);
  EXPECT_EQ(chunk.first_latent, 0);
  EXPECT_EQ(chunk.latents, 6);
  EXPECT_EQ(chunk.frames_needed, 25);
  EXPECT_EQ(chunk.outputs.begin, 0);
  EXPECT_EQ(chunk.outputs.end, 21);
}

TEST(Schedule, LaterChunksAreThePublishedOnes) {
  for (const std::int64_t c : {1, 2, 3, 600, 1'000'000'000}) {
    const Chunk chunk = chunk_at(c);
    EXPECT_EQ(chunk.first_latent, 4 + 2 * c);
    EXPECT_EQ(chunk.latents, 2);
    EXPECT_EQ(chunk.frames_needed, 8 * c + 25);
    EXPECT_EQ(chunk.outputs.begin, 8 * c + 13);
    EXPECT_EQ(chunk.outputs.end, 8 * c + 21);
    EXPECT_EQ(clip_of_latent(chunk.first_latent).begin, 8 * c + 17);
    EXPECT_EQ(clip_of_latent(chunk.first_latent + 1).end, 8 * c + 25);
  }
}

TEST(Schedule, LatentsCoverTheFramesWithoutGaps) {
  EXPECT_EQ(frames_of_latent(0).begin, 0);
  EXPECT_EQ(frames_of_latent(0).end, 1);
  for (std::int64_t latent = 1; latent < 100; ++latent) {
    EXPECT_EQ(frames_of_latent(latent).begin, frames_of_latent(latent - 1).end);
    EXPECT_EQ(frames_of_latent(latent).size(), 4);
    EXPECT_EQ(clip_of_latent(latent).begin, frames_of_latent(latent).end);
  }
}

TEST(Schedule, PaddingIsTheLeastThatLetsEveryFrameOut) {
  for (std::int64_t frames = 1; frames < 200; ++frames) {
    const std::int64_t padded = padded_frame_count(frames);
    EXPECT_EQ(padded % 8, 1) << frames;
    EXPECT_GE(padded, std::max<std::int64_t>(25, frames + 4)) << frames;
    EXPECT_TRUE(padded == 25 || padded - 8 < frames + 4) << frames;
    EXPECT_GE(chunk_at(chunks_of(padded) - 1).outputs.end, frames) << frames;
  }
}

TEST(Schedule, ChunksRunWhenTheirFramesAreThere) {
  EXPECT_EQ(chunks_of(0), 0);
  EXPECT_EQ(chunks_of(24), 0);
  for (std::int64_t frames = 25; frames < 200; ++frames) {
    const std::int64_t chunks = chunks_of(frames);
    EXPECT_LE(chunk_at(chunks - 1).frames_needed, frames);
    EXPECT_GT(chunk_at(chunks).frames_needed, frames);
  }
}

}  // namespace
}  // namespace flashvsr::stream
