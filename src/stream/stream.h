// One video through the whole system: the published schedule with its defects removed (paper section 3.1; any number of
// frames, any size, any length).
#pragma once

#include "models/dit.h"
#include "models/lr_projector.h"
#include "models/tiny_decoder.h"
#include "models/wan_vae.h"
#include "ops/operations.h"
#include "weights/model_files.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace flashvsr::stream {

enum class ColorFix : std::uint8_t { adain, wavelet, none };

// The networks of one model on one back end. The back end must outlive it.
struct Networks {
  Networks(ops::Operations& operations, const weights::ModelFiles& files);

  ops::Operations& operations;
  weights::ModelConfig config;
  models::LRProjector projector;
  models::DiT dit;
  std::optional<models::TinyDecoder> tiny_decoder;
  std::optional<models::WanVaeDecoder> full_decoder;
};

struct StreamSettings {
  std::int64_t input_width = 0, input_height = 0;
  std::int64_t output_width = 0, output_height = 0;
  bool full_decoder = false;
  ColorFix color_fix = ColorFix::adain;
  // topk_ratio is derived: sparse_ratio * 768 * 1280 / (padded height * padded width).
  double sparse_ratio = 2.0;
  bool all_allowed_blocks = false;
  std::int64_t local_range = 11;
  ops::LocalWindow local_window = ops::LocalWindow::truncated;
  std::int64_t kv_chunks = 3;
  std::uint64_t seed = 0;
  // Instead of gaussian_noise: fills [16, rows, columns] of one latent.
  std::function<void(std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values)> noise;
};

// Everything that a stream remembers.
struct StreamState {
  std::int64_t frames_received = 0;  // LR frames taken from the user
  std::int64_t frames_padded = 0;    // of those and repeats, how many have entered the schedule
  std::int64_t chunk = 0;            // next chunk
  std::int64_t frames_delivered = 0; // HR frames given to the user
  bool draining = false;
  models::ProjectorState projector;
  ops::KvCache kv_cache;
  models::TinyDecoderState tiny_decoder;
  models::WanVaeState full_decoder;
  // Upsampled and padded LR frames [1, H, W, 3] u8 that chunks still need, oldest first; the first is frame
  // `first_pending` of the stream.
  std::deque<Tensor> pending;
  std::int64_t first_pending = 0;
};

}  // namespace flashvsr::stream
