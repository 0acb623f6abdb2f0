// One video through the whole system: the published schedule with its defects removed (paper section 3.1; any number of
// frames, any size, any length).
#pragma once

#include "models/dit.h"
#include "models/lr_projector.h"
#include "models/tiny_decoder.h"
#include "models/wan_vae.h"
#include "ops/operations.h"
#include "stream/memory_plan.h"
#include "stream/schedule.h"
#include "stream/tiles.h"
#include "weights/model_files.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace flashvsr::stream {

enum class ColorFix : std::uint8_t { adain, wavelet, none };

// "adain", "wavelet", "none"; throws Error(invalid_argument) on anything else.
ColorFix parse_color_fix(const std::string& name);
// "truncated", "preserved"; likewise.
ops::LocalWindow parse_local_window(const std::string& name);

// The networks of one model on one back end. The back end must outlive it.
struct Networks {
  Networks(ops::Operations& operations, weights::ModelFiles model_files);

  ops::Operations& operations;
  weights::ModelFiles files;
  models::LRProjector projector;
  models::DiT dit;
  std::optional<models::TinyDecoder> tiny_decoder;
  std::optional<models::WanVaeDecoder> full_decoder;
  // Of names, shapes and samples of the weights and of the projector's variant.
  std::uint64_t fingerprint = 0;
};

struct StreamSettings {
  std::int64_t input_width = 0, input_height = 0;
  std::int64_t output_width = 0, output_height = 0;
  bool full_decoder = false;
  ColorFix color_fix = ColorFix::adain;
  // Top-k keeps sparse_ratio * 768 * 1280 / (padded height * padded width) of S x S block pairs ...
  double sparse_ratio = 2.0;
  // ... or exactly this ratio, as the golden sets give it ...
  std::optional<double> topk_ratio;
  // ... or every block that the local window allows.
  bool all_allowed_blocks = false;
  std::int64_t local_range = 11;
  ops::LocalWindow local_window = ops::LocalWindow::truncated;
  std::int64_t kv_chunks = 3;
  // Windows of the KV cache, of layers * kv_chunks, that lie in the host's memory between chunks. Default: as many as
  // the device's memory makes necessary. They change no result.
  std::optional<std::int64_t> spilled_windows;
  // What the tiny decoder may take for its features at the output's resolution. Default: TinyDecoder::kSliceBytes, or
  // as much less as memory makes necessary. It changes results by rounding at most.
  std::optional<std::size_t> decoder_slice_bytes;
  // Tiles that frames are cut into. Default: as few as memory makes necessary, which is the last thing that is tried:
  // attention does not cross their borders, so that results change.
  std::optional<TileCounts> tiles;
  // Frames are sent as images of the back end's memory: memory for that is planned.
  bool image_input = false;
  // Finished frames stay in the back end's memory and are received as images. Neither changes a result.
  bool image_output = false;
  std::uint64_t seed = 0;
  // Instead of the model's prompt: [tokens, text_dim].
  Parameter prompt;
  // Instead of gaussian_noise: fills [16, rows, columns] of one latent.
  std::function<void(std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values)> noise;
  // Called whenever frames have been finished, with their number so far. An Error that it throws stops the stream.
  std::function<void(std::int64_t frames_done)> progress;
};

// Windows into a run, for verification. All optional; they must not call the stream.
struct StreamHooks {
  std::function<void(const Chunk& chunk)> before_chunk;
  models::DiTHooks dit;
  // Of each tile in turn, like those of the DiT. Projector tokens of a latent [1, H/16, W/16, dim].
  std::function<void(std::int64_t latent, const Tensor& tokens)> lq_latents;
  // Likewise. Velocity of a chunk [f, H/8, W/8, 16] f32.
  std::function<void(const Chunk& chunk, const Tensor& velocity)> velocity;
  // A decoded frame before the colour fix, and after it: [1, height, width, 3] f32, the visible area.
  std::function<void(std::int64_t frame, const Tensor& video)> decoded;
  std::function<void(std::int64_t frame, const Tensor& video)> color_fixed;
};

// What the networks remember of a tile, or of the frame if it has none.
struct TileState {
  models::ProjectorState projector;
  ops::KvCache kv_cache;
  models::TinyDecoderState tiny_decoder;
  models::WanVaeState full_decoder;
};

// Everything that a stream remembers. Its size does not depend on how long the stream is.
struct StreamState {
  std::int64_t frames_received = 0;   // LR frames taken from the user
  std::int64_t frames_scheduled = 0;  // those and repeats of the last one
  std::int64_t chunk = 0;             // next chunk
  std::int64_t frames_done = 0;       // HR frames finished
  std::int64_t frames_delivered = 0;  // HR frames given to the user
  bool drained = false;
  std::vector<TileState> tiles;  // row by row; none before chunk 0
  // Upsampled and padded LR frames [1, H, W, 3] u8 that chunks still need, oldest first; the first is frame
  // `first_pending` of the stream.
  std::deque<Tensor> pending;
  std::int64_t first_pending = 0;
  // HR frames that wait to be received, [1, height, width, 3] u8: on the host or, while the device still works on them,
  // on their way; with image_output, in the back end's memory.
  std::deque<ops::HostCopy> finished;
};

enum class Received : std::uint8_t { frame, again, end };

// Takes LR frames and gives HR frames: as many as it took, in order. Not thread-safe; uses the back end in send, drain,
// reset, save and restore.
//
// A frame that does not fit into memory goes through the networks in tiles. Everything else is done with whole frames:
// what comes in is resized once, the noise is that of the frame, and decoded tiles are blended in f32 before the colour
// fix, so that its statistics and its low band are those of the frame and make no borders. Tiles take turns latent by
// latent, so that few frames at a time are half done.
class Stream {
 public:
  // `networks` must outlive the stream. Throws Error(invalid_argument) for settings out of range, Error(unsupported)
  // if the model lacks the decoder, Error(out_of_memory) if the back end cannot hold the stream (memory_plan.h).
  Stream(const Networks& networks, StreamSettings settings);

  const StreamSettings& settings() const { return settings_; }
  // What was planned when the stream was made; nothing on back ends without bounds.
  const std::optional<MemoryPlan>& memory_plan() const { return plan_; }
  // Size of the frame that the networks see, if it is not cut into tiles: the output, padded to multiples of 128.
  std::int64_t padded_width() const { return padded_width_; }
  std::int64_t padded_height() const { return padded_height_; }
  // Size of what they see at once.
  std::int64_t tile_width() const { return across_.size; }
  std::int64_t tile_height() const { return down_.size; }

  // Takes one frame [input_height][input_width][3]; `stride` bytes from row to row. Runs a chunk if this frame
  // completes one (a device back end goes on working on it afterwards); but while finished frames, or those of the
  // chunk before the last one, wait, such a frame is refused: false, and nothing has changed.
  bool send(const std::uint8_t* rgb, std::ptrdiff_t stride);
  // The same with a frame that the back end has: [1, input_height, input_width, 3] u8.
  bool send(const Tensor& frame);
  // The same with an image of the input's size in the back end's memory, which may be changed when this returns. Needs
  // the setting image_input.
  bool send(const ops::SemiPlanarImage& image);
  // No more frames will come: runs the remaining chunks over repeats of the last frame.
  void drain();
  // Gives the next finished frame [output_height][output_width][3]. While the device works on it: `again` as long as
  // more frames can be sent, else it waits.
  Received receive(std::uint8_t* rgb, std::ptrdiff_t stride);
  // The same into an image of the output's size; with the setting image_output, and then this way only.
  Received receive(const ops::SemiPlanarImage& image);
  // Back to the start of a new video; also after an error.
  void reset();

  // An error in the middle of a chunk leaves nothing to go on with: only reset and restore help.
  bool failed() const { return failed_; }

  std::size_t saved_size() const;
  // `bytes` holds saved_size() bytes.
  void save(std::span<std::byte> bytes) const;
  std::vector<std::byte> save() const;
  // Takes over a saved state. Throws Error(format) for damaged data, Error(invalid_argument) for data of another model
  // or other settings; then the stream is as it was.
  void restore(std::span<const std::byte> bytes);

  StreamState& state() { return state_; }
  const StreamState& state() const { return state_; }
  void set_hooks(StreamHooks hooks) { hooks_ = std::move(hooks); }

 private:
  void check_settings() const;
  // What receive() answers if it gives no frame.
  std::optional<Received> nothing_to_receive() const;
  void drop_received();
  void forget_when_received();
  void check_memory();
  void prepare_tiles();
  void require_usable() const;
  // Whether the next frame completes a chunk that must not be run yet. Throws if no frame can be taken at all.
  bool must_wait() const;
  std::uint64_t fingerprint() const;
  const models::DiT& dit() const { return own_dit_ ? *own_dit_ : networks_.dit; }
  const models::TinyDecoder& tiny_decoder() const { return own_decoder_ ? *own_decoder_ : *networks_.tiny_decoder; }

  Tensor prepare(const Tensor& frame) const;
  const Tensor& pending_frame(std::int64_t frame) const;
  bool must_receive() const;
  std::int64_t left_of(std::size_t tile) const { return across_.begins[tile % across_.begins.size()]; }
  std::int64_t top_of(std::size_t tile) const { return down_.begins[tile / across_.begins.size()]; }
  Tensor cut(const Tensor& x, std::size_t tile, std::int64_t shrunk = 1) const;
  Tensor pending_frames(const FrameRange& range, std::size_t tile) const;
  void start_tiles(const Chunk& chunk);
  void run_chunk();
  Tensor make_noise(const Chunk& chunk) const;
  Tensor run_networks(const Chunk& chunk, std::size_t tile, Tensor& noise);
  std::int64_t wanted_end(const FrameRange& range) const;
  void decode(std::int64_t latent, std::span<const Tensor> values);
  void decode_tile(std::int64_t latent, std::size_t tile, const Tensor& values,
                   const std::function<void(std::int64_t frame, const Tensor& video)>& take);
  void finish(std::int64_t frame, const Tensor& video);

  const Networks& networks_;
  ops::Operations& ops_;
  StreamSettings settings_;
  std::int64_t padded_width_ = 0, padded_height_ = 0;
  std::optional<MemoryPlan> plan_;
  models::AttentionSettings attention_;
  std::optional<models::DiT> own_dit_;
  std::optional<models::TinyDecoder> own_decoder_;
  TileAxis across_, down_;
  std::vector<Tensor> column_weights_, row_weights_;  // of tiles, if there are several
  StreamHooks hooks_;
  StreamState state_;
  bool failed_ = false;
};

}  // namespace flashvsr::stream
