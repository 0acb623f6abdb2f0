// The published schedule as arithmetic on frame numbers (paper section 3.1). Latent 0 stands for frame 0, latent j >= 1
// for frames 4j-3 .. 4j.
#pragma once

#include <cstdint>

namespace flashvsr::stream {

inline constexpr std::int64_t kFramesPerLatent = 4;
// LR frames that must have entered before chunk 0, and before each later chunk, can run.
inline constexpr std::int64_t kFirstChunkFrames = 25;
inline constexpr std::int64_t kChunkFrames = 8;
// The projector sees this many frames beyond the last one that a chunk gives out.
inline constexpr std::int64_t kLookahead = 4;

// Frames [begin, end) of the stream.
struct FrameRange {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

// One run of the DiT.
struct Chunk {
  std::int64_t index = 0;
  std::int64_t first_latent = 0, latents = 0;
  // LR frames [0, frames_needed) must be there.
  std::int64_t frames_needed = 0;
  FrameRange outputs;
};

Chunk chunk_at(std::int64_t index);
// Chunks that can run once `frames` LR frames are there.
std::int64_t chunks_of(std::int64_t frames);
// LR frames of the clip that gives the projector's tokens of a latent.
FrameRange clip_of_latent(std::int64_t latent);
// Frames that a latent decodes to.
FrameRange frames_of_latent(std::int64_t latent);
// The least F = 8n + 1 >= max(25, frames + 4): to this the last frame is repeated, so that every frame comes out.
std::int64_t padded_frame_count(std::int64_t frames);

}  // namespace flashvsr::stream
