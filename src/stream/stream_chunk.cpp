// What a stream does with a chunk: networks, tile by tile, and finished frames.
#include "stream/stream.h"

#include <algorithm>
#include <utility>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kLatentSide = 8, kLatentChannels = 16;
constexpr const char* kProfilePart = "frames";

}  // namespace

// The part of x [T, H, W, C] that a tile covers; x is smaller than the frame by a factor of `shrunk`.
Tensor Stream::cut(const Tensor& x, std::size_t tile, std::int64_t shrunk) const {
  return ops_.crop(x, top_of(tile) / shrunk, left_of(tile) / shrunk, down_.size / shrunk, across_.size / shrunk);
}

const Tensor& Stream::pending_frame(std::int64_t frame) const {
  return state_.pending.at(static_cast<std::size_t>(frame - state_.first_pending));
}

Tensor Stream::pending_frames(const FrameRange& range, std::size_t tile) const {
  std::vector<Tensor> frames;
  for (std::int64_t frame = range.begin; frame < range.end; ++frame) frames.push_back(cut(pending_frame(frame), tile));
  return ops_.concatenate(frames);
}

void Stream::start_tiles(const Chunk& chunk) {
  const std::int64_t blocks = across_.size * down_.size / (kTileGrid * kTileGrid);
  const std::size_t count = across_.begins.size() * down_.begins.size();
  std::vector<ops::KvCache> caches = ops::make_kv_caches(
      ops_, static_cast<std::int64_t>(count), dit().layers(), blocks, networks_.files.config.dim, settings_.kv_chunks,
      chunk.latents / ops::kWindowLatents, settings_.spilled_windows.value_or(0));
  state_.tiles = std::vector<TileState>(count);
  for (std::size_t i = 0; i < count; ++i) {
    state_.tiles[i].kv_cache = std::move(caches[i]);
    networks_.projector.start(state_.tiles[i].projector, cut(pending_frame(0), i));
  }
}

void Stream::run_chunk() {
  // Until all of it is done the state is neither that before nor that after the chunk.
  failed_ = true;
  const Chunk chunk = chunk_at(state_.chunk);
  if (hooks_.before_chunk) hooks_.before_chunk(chunk);
  if (chunk.index == 0) start_tiles(chunk);
  std::vector<Tensor> latents;  // of each tile
  {
    Tensor noise;
    for (std::size_t tile = 0; tile < state_.tiles.size(); ++tile) latents.push_back(run_networks(chunk, tile, noise));
  }
  for (std::int64_t i = 0; i < chunk.latents; ++i) {
    const std::int64_t latent = chunk.first_latent + i;
    const FrameRange frames = frames_of_latent(latent);
    if (frames.begin >= wanted_end(frames)) break;
    std::vector<Tensor> values;
    for (const Tensor& all : latents) values.push_back(all.sliced(i, i + 1));
    decode(latent, values);
    for (; state_.first_pending < frames.end; ++state_.first_pending) state_.pending.pop_front();
    if (settings_.progress) settings_.progress(state_.frames_done);
  }
  ++state_.chunk;
  failed_ = false;
}

// LR frames of a chunk -> latents of a tile [f, H/8, W/8, 16] f32. The noise is that of the frame, made when it is
// needed first.
Tensor Stream::run_networks(const Chunk& chunk, std::size_t tile, Tensor& noise) {
  TileState& state = state_.tiles[tile];
  Tensor tokens;
  {
    std::vector<Tensor> parts;
    for (std::int64_t latent = chunk.first_latent; latent < chunk.first_latent + chunk.latents; ++latent) {
      parts.push_back(networks_.projector.push(state.projector, pending_frames(clip_of_latent(latent), tile)));
      if (hooks_.lq_latents) hooks_.lq_latents(latent, parts.back());
    }
    tokens = ops_.concatenate(parts);
  }
  if (!noise) noise = make_noise(chunk);
  const Tensor own_noise = cut(noise, tile, kLatentSide);
  if (!state.kv_cache.k) {
    const std::size_t tiles = state_.tiles.size();
    state.kv_cache.take_slots(state_.tiles[(tile + tiles - 1) % tiles].kv_cache);
  }
  const Tensor velocity =
      dit().run_chunk(state.kv_cache, own_noise, std::move(tokens), chunk.first_latent, attention_, hooks_.dit);
  if (hooks_.velocity) hooks_.velocity(chunk, velocity);
  return ops_.subtract(own_noise, velocity);
}

Tensor Stream::make_noise(const Chunk& chunk) const {
  const std::int64_t rows = padded_height_ / kLatentSide, columns = padded_width_ / kLatentSide;
  if (!settings_.noise) return ops_.gaussian_noise(settings_.seed, chunk.first_latent, chunk.latents, rows, columns);
  const Tensor host = allocate_host({chunk.latents, rows, columns, kLatentChannels}, DType::f32);
  const std::int64_t positions = rows * columns;
  std::vector<float> planar(static_cast<std::size_t>(positions * kLatentChannels));
  for (std::int64_t i = 0; i < chunk.latents; ++i) {
    settings_.noise(chunk.first_latent + i, rows, columns, planar.data());
    float* values = host.mutable_data<float>() + i * positions * kLatentChannels;
    for (std::int64_t position = 0; position < positions; ++position) {
      for (std::int64_t channel = 0; channel < kLatentChannels; ++channel) {
        values[position * kLatentChannels + channel] = planar[static_cast<std::size_t>(channel * positions + position)];
      }
    }
  }
  return ops_.from_host(host);
}

// Of a latent's frames. What lies behind the last frame of a drained stream is not asked for.
std::int64_t Stream::wanted_end(const FrameRange& range) const {
  return state_.drained ? std::min(range.end, state_.frames_received) : range.end;
}

// One latent of all tiles -> finished frames.
void Stream::decode(std::int64_t latent, std::span<const Tensor> values) {
  if (values.size() == 1) {
    decode_tile(latent, 0, values[0], [this](std::int64_t frame, const Tensor& video) { finish(frame, video); });
    return;
  }
  const FrameRange range = frames_of_latent(latent);
  const std::int64_t end = wanted_end(range);
  std::vector<Tensor> frames;
  for (std::int64_t frame = range.begin; frame < end; ++frame) {
    const ops::ProfilePart part(ops_, kProfilePart);
    frames.push_back(ops_.zeros({1, settings_.output_height, settings_.output_width, 3}, DType::f32));
  }
  for (std::size_t tile = 0; tile < values.size(); ++tile) {
    decode_tile(latent, tile, values[tile], [&](std::int64_t frame, const Tensor& video) {
      const ops::ProfilePart part(ops_, kProfilePart);
      ops_.add_tile(frames[static_cast<std::size_t>(frame - range.begin)], video, top_of(tile), left_of(tile),
                    row_weights_[tile / across_.begins.size()], column_weights_[tile % across_.begins.size()]);
    });
  }
  for (std::size_t i = 0; i < frames.size(); ++i) {
    finish(range.begin + static_cast<std::int64_t>(i), std::exchange(frames[i], {}));
  }
}

void Stream::decode_tile(std::int64_t latent, std::size_t tile, const Tensor& values,
                         const std::function<void(std::int64_t frame, const Tensor& video)>& take) {
  const FrameRange range = frames_of_latent(latent);
  const std::int64_t end = wanted_end(range);
  std::int64_t frame = range.begin;
  TileState& state = state_.tiles[tile];
  if (settings_.full_decoder) {
    const Tensor video = networks_.full_decoder->push(state.full_decoder, values);
    require(video.dim(0) == range.size(), "latent {} decoded to {} frames instead of {}", latent, video.dim(0),
            range.size());
    for (; frame < end; ++frame) take(frame, video.sliced(frame - range.begin, frame - range.begin + 1));
    return;
  }
  // The first latent stands for one frame; the tiny decoder has three in front of it too.
  const std::int64_t dropped = latent == 0 ? 3 : 0;
  Tensor condition;
  if (latent == 0) {
    const Tensor first = cut(pending_frame(0), tile);
    const Tensor repeated[] = {first, first, first, first};
    condition = ops_.concatenate(repeated);
  } else {
    condition = pending_frames(range, tile);
  }
  tiny_decoder().push(state.tiny_decoder, condition, values, [&](const Tensor& video) { take(frame++, video); },
                      {dropped, dropped + end - range.begin});
  require(frame == end, "latent {} decoded to {} frames instead of {}", latent, frame - range.begin, end - range.begin);
}

// A frame [1, H, W, 3] f32 as it was decoded, or its visible area -> visible area, colour fix, bytes where they are
// received from.
void Stream::finish(std::int64_t frame, const Tensor& video) {
  const ops::ProfilePart part(ops_, kProfilePart);
  // Cropped first, so that colour statistics are those of what is seen.
  const auto visible = [&](const Tensor& x) {
    return ops_.crop(x, 0, 0, settings_.output_height, settings_.output_width);
  };
  Tensor result = visible(video);
  if (hooks_.decoded) hooks_.decoded(frame, result);
  switch (settings_.color_fix) {
    case ColorFix::adain: result = ops_.adain(result, visible(pending_frame(frame))); break;
    case ColorFix::wavelet: result = ops_.wavelet(result, visible(pending_frame(frame))); break;
    case ColorFix::none: break;
  }
  if (hooks_.color_fixed) hooks_.color_fixed(frame, result);
  const Tensor bytes = ops_.to_bytes(result);
  state_.finished.push_back(settings_.image_output ? ops::HostCopy(bytes, ops_.arrival()) : ops_.start_to_host(bytes));
  state_.frames_done = frame + 1;
}

}  // namespace flashvsr::stream
