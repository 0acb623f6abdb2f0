#include "stream/schedule.h"

#include <algorithm>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kFirstChunkLatents = (kFirstChunkFrames - 1) / kFramesPerLatent;
constexpr std::int64_t kChunkLatents = kChunkFrames / kFramesPerLatent;

}  // namespace

Chunk chunk_at(std::int64_t index) {
  Chunk chunk;
  chunk.index = index;
  chunk.first_latent = index == 0 ? 0 : kFirstChunkLatents + (index - 1) * kChunkLatents;
  chunk.latents = index == 0 ? kFirstChunkLatents : kChunkLatents;
  chunk.frames_needed = kFirstChunkFrames + index * kChunkFrames;
  chunk.outputs = {frames_of_latent(chunk.first_latent).begin,
                   frames_of_latent(chunk.first_latent + chunk.latents - 1).end};
  return chunk;
}

std::int64_t chunks_of(std::int64_t frames) {
  return frames < kFirstChunkFrames ? 0 : (frames - kFirstChunkFrames) / kChunkFrames + 1;
}

FrameRange clip_of_latent(std::int64_t latent) {
  const std::int64_t begin = latent * kFramesPerLatent + 1;
  return {begin, begin + kFramesPerLatent};
}

FrameRange frames_of_latent(std::int64_t latent) {
  const std::int64_t end = latent * kFramesPerLatent + 1;
  return {std::max<std::int64_t>(end - kFramesPerLatent, 0), end};
}

std::int64_t padded_frame_count(std::int64_t frames) {
  const std::int64_t least = std::max(kFirstChunkFrames, frames + kLookahead);
  return (least - 1 + kChunkFrames - 1) / kChunkFrames * kChunkFrames + 1;
}

}  // namespace flashvsr::stream
