#include "stream/stream.h"

#include "stream/fingerprint.h"
#include "stream/fitting_plan.h"
#include "stream/state_io.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kPaddedTo = kTileGrid;  // one attention block
constexpr std::int64_t kMostSide = 65536, kMostRange = 65536, kMostChunks = 1024;
// The frame that sparse_ratio is defined for (the published demonstration's).
constexpr double kReferencePixels = 768.0 * 1280.0;
constexpr const char* kProfilePart = "frames";

std::int64_t padded(std::int64_t size) { return (size + kPaddedTo - 1) / kPaddedTo * kPaddedTo; }

void check_range(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    fail(ErrorCode::invalid_argument, "{} is {}: it must lie between {} and {}", what, value, least, most);
  }
}

// Copies rows between images whose rows may lie apart.
void copy_rows(std::uint8_t* to, std::ptrdiff_t to_stride, const std::uint8_t* from, std::ptrdiff_t from_stride,
               std::int64_t width, std::int64_t height) {
  for (std::int64_t row = 0; row < height; ++row) {
    std::memcpy(to + row * to_stride, from + row * from_stride, static_cast<std::size_t>(width * 3));
  }
}

void check_image(const void* rgb, std::ptrdiff_t stride, std::int64_t width) {
  if (rgb == nullptr) fail(ErrorCode::invalid_argument, "the frame's address is NULL");
  if (stride < width * 3) {
    fail(ErrorCode::invalid_argument, "the frame's stride is {} bytes: rows of {} pixels need at least {}", stride,
         width, width * 3);
  }
}

void check_image(const ops::SemiPlanarImage& image, std::int64_t width, std::int64_t height) {
  if (image.width != width || image.height != height) {
    fail(ErrorCode::invalid_argument, "the image has {}x{} pixels instead of {}x{}", image.width, image.height, width,
         height);
  }
  const std::int64_t sample = image.sample_bytes();
  const auto check_plane = [&](const char* name, const void* plane, std::int64_t stride, std::int64_t samples) {
    if (plane == nullptr) fail(ErrorCode::invalid_argument, "the address of the image's {} is NULL", name);
    if (stride < samples * sample) {
      fail(ErrorCode::invalid_argument, "the stride of the image's {} is {} bytes: its rows need at least {}", name,
           stride, samples * sample);
    }
    if (stride % sample != 0 || reinterpret_cast<std::uintptr_t>(plane) % static_cast<std::uintptr_t>(sample) != 0) {
      fail(ErrorCode::invalid_argument,
           "the address and the stride of the image's {} must be even, as its samples have two bytes", name);
    }
  };
  check_plane("luma", image.luma, image.luma_stride, image.width);
  check_plane("chroma", image.chroma, image.chroma_stride, 2 * image.chroma_width());
}

}  // namespace

ColorFix parse_color_fix(const std::string& name) {
  if (name == "adain") return ColorFix::adain;
  if (name == "wavelet") return ColorFix::wavelet;
  if (name == "none") return ColorFix::none;
  fail(ErrorCode::invalid_argument, "unknown colour fix \"{}\": use adain, wavelet or none", name);
}

ops::LocalWindow parse_local_window(const std::string& name) {
  if (name == "truncated") return ops::LocalWindow::truncated;
  if (name == "preserved") return ops::LocalWindow::preserved;
  fail(ErrorCode::invalid_argument, "unknown local window \"{}\": use truncated or preserved", name);
}

Networks::Networks(ops::Operations& ops, weights::ModelFiles model_files)
    : operations(ops), files(std::move(model_files)), projector(ops, files), dit(ops, files) {
  if (!files.decoder.empty()) tiny_decoder.emplace(ops, files);
  if (!files.vae.empty()) full_decoder.emplace(ops, files);
  Fingerprint print;
  print.add(to_string(files.config.variant));
  for (const WeightMap* map : {&files.dit, &files.projector, &files.decoder, &files.vae}) {
    for (const auto& [name, parameter] : *map) print.add(name).add_sample(parameter);
  }
  fingerprint = print.add_sample(files.prompt).value();
}

Stream::Stream(const Networks& networks, StreamSettings settings)
    : networks_(networks),
      ops_(networks.operations),
      settings_(std::move(settings)),
      padded_width_(padded(settings_.output_width)),
      padded_height_(padded(settings_.output_height)) {
  check_settings();
  check_memory();
  prepare_tiles();
  attention_.locality = {settings_.local_range, settings_.local_window};
  attention_.selection.all_allowed = settings_.all_allowed_blocks;
  attention_.selection.topk_ratio = settings_.topk_ratio.value_or(settings_.sparse_ratio * kReferencePixels /
                                                                  static_cast<double>(across_.size * down_.size));
  const double blocks = static_cast<double>(across_.size / kPaddedTo * (down_.size / kPaddedTo));
  if (!settings_.all_allowed_blocks && !(blocks * blocks * attention_.selection.topk_ratio >= 1.0)) {
    fail(ErrorCode::invalid_argument,
         "a sparse ratio of {} keeps no attention block at {}x{}: use a larger one (2.0 is the published value)",
         settings_.sparse_ratio, settings_.output_width, settings_.output_height);
  }
  if (settings_.prompt) own_dit_.emplace(networks_.dit, networks_.files, settings_.prompt);
  const auto& slice = settings_.decoder_slice_bytes;
  if (!settings_.full_decoder && slice && *slice != networks_.tiny_decoder->slice_bytes()) {
    own_decoder_.emplace(*networks_.tiny_decoder, *slice);
  }
}

void Stream::check_settings() const {
  check_range("input width", settings_.input_width, 1, kMostSide);
  check_range("input height", settings_.input_height, 1, kMostSide);
  check_range("output width", settings_.output_width, 1, kMostSide);
  check_range("output height", settings_.output_height, 1, kMostSide);
  check_range("local range", settings_.local_range, 1, kMostRange);
  check_range("number of chunks in the KV cache", settings_.kv_chunks, 1, kMostChunks);
  check_range("number of spilled windows", settings_.spilled_windows.value_or(0), 0,
              networks_.dit.layers() * settings_.kv_chunks);
  if (settings_.tiles) {
    const std::int64_t columns = most_tiles(padded_width_), rows = most_tiles(padded_height_);
    const TileCounts& tiles = *settings_.tiles;
    if (tiles.columns < 1 || tiles.rows < 1 || tiles.columns > columns || tiles.rows > rows) {
      fail(ErrorCode::invalid_argument,
           "{}x{} tiles: an output of {}x{} has room for 1x1 to {}x{} (of 256 pixels a side, {} of them in common)",
           tiles.columns, tiles.rows, settings_.output_width, settings_.output_height, columns, rows, kTileOverlap);
    }
  }
  const double ratio = settings_.topk_ratio.value_or(settings_.sparse_ratio);
  if (!settings_.all_allowed_blocks && !(ratio > 0 && std::isfinite(ratio))) {
    fail(ErrorCode::invalid_argument, "the sparse ratio is {}: it must be a positive number", ratio);
  }
  if (settings_.full_decoder && !networks_.full_decoder) {
    fail(ErrorCode::unsupported, "model {} has no Wan VAE ({}) for the full decoder: use the tiny decoder",
         networks_.files.config.name, weights::kVaeFile);
  }
  if (!settings_.full_decoder && !networks_.tiny_decoder) {
    fail(ErrorCode::unsupported, "model {} has no tiny decoder ({}): use the full decoder", networks_.files.config.name,
         weights::kDecoderFile);
  }
  const Parameter& prompt = settings_.prompt;
  if (prompt && (prompt.shape().rank() != 2 || prompt.dim(1) != networks_.files.config.text_dim)) {
    fail(ErrorCode::invalid_argument, "the prompt has shape {}: this model wants [tokens, {}]",
         prompt.shape().to_string(), networks_.files.config.text_dim);
  }
}

// Refuses what cannot fit rather than let the system end the process in the middle of a video; decides what is done to
// make it fit.
void Stream::check_memory() {
  const std::size_t available = ops_.available_memory();
  if (available == ops::kUnboundedMemory) return;
  plan_ = plan_memory(networks_.files, settings_, planning_settings(ops_));
  // Constants of the model are there already; what else is in use belongs to other streams.
  const std::size_t in_use = ops_.memory_in_use(), others = in_use > plan_->constants ? in_use - plan_->constants : 0;
  const std::size_t left = available > others ? available - others : 0;
  plan_ = fitting_plan(*plan_, networks_.files, settings_, planning_settings(ops_), left);
  require_memory(*plan_, settings_);
  settings_.spilled_windows = plan_->spilled_windows;
  settings_.tiles = plan_->tiles;
  if (!settings_.full_decoder) settings_.decoder_slice_bytes = plan_->decoder_slice;
}

void Stream::prepare_tiles() {
  const TileCounts tiles = settings_.tiles.value_or(TileCounts{});
  across_ = tile_axis(padded_width_, tiles.columns);
  down_ = tile_axis(padded_height_, tiles.rows);
  if (tiles.count() == 1) return;
  const auto weights_of = [this](const TileAxis& axis) {
    std::vector<Tensor> weights;
    for (std::size_t i = 0; i < axis.begins.size(); ++i) {
      const std::vector<float> values = tile_weights(axis, i);
      const Tensor host = allocate_host({axis.size}, DType::f32);
      std::copy(values.begin(), values.end(), host.mutable_data<float>());
      weights.push_back(ops_.from_host(host));
    }
    return weights;
  };
  column_weights_ = weights_of(across_);
  row_weights_ = weights_of(down_);
}

void Stream::require_usable() const {
  if (failed_) {
    fail(ErrorCode::invalid_argument, "the stream stopped in the middle of a chunk after an error: reset it first");
  }
}

// -------------------------------------------------------------------------------------------------- frames in and out

bool Stream::must_wait() const {
  require_usable();
  if (state_.drained) {
    fail(ErrorCode::invalid_argument, "the stream was drained: reset it before sending frames of a new video");
  }
  return state_.frames_scheduled + 1 == chunk_at(state_.chunk).frames_needed && must_receive();
}

bool Stream::send(const std::uint8_t* rgb, std::ptrdiff_t stride) {
  const bool waits = must_wait();
  const std::int64_t width = settings_.input_width, height = settings_.input_height;
  check_image(rgb, stride, width);
  if (waits) return false;
  const Tensor host = allocate_host({1, height, width, 3}, DType::u8);
  copy_rows(host.mutable_data<std::uint8_t>(), width * 3, rgb, stride, width, height);
  Tensor frame;
  {
    const ops::ProfilePart part(ops_, kProfilePart);
    frame = ops_.from_host(host);
  }
  return send(frame);
}

bool Stream::send(const Tensor& frame) {
  if (must_wait()) return false;
  require(frame.dtype() == DType::u8 && frame.shape() == Shape{1, settings_.input_height, settings_.input_width, 3},
          "a frame of {}", frame.shape().to_string());
  state_.pending.push_back(prepare(frame));
  ++state_.frames_received;
  ++state_.frames_scheduled;
  if (state_.frames_scheduled == chunk_at(state_.chunk).frames_needed) run_chunk();
  return true;
}

bool Stream::send(const ops::SemiPlanarImage& image) {
  if (!settings_.image_input) {
    fail(ErrorCode::invalid_argument, "the stream takes no images: open it with image_input set");
  }
  const bool waits = must_wait();
  check_image(image, settings_.input_width, settings_.input_height);
  if (waits) return false;
  Tensor frame;
  {
    const ops::ProfilePart part(ops_, kProfilePart);
    frame = ops_.read_image(image);
  }
  return send(frame);
}

// Whether no chunk may be run before a frame is taken: one is ready, or more than the last chunk's frames wait.
bool Stream::must_receive() const {
  if (state_.finished.empty()) return false;
  const auto waiting = static_cast<std::int64_t>(state_.finished.size());
  return state_.finished.front().arrived() || state_.chunk == 0 || waiting > chunk_at(state_.chunk - 1).outputs.size();
}

void Stream::drain() {
  require_usable();
  if (state_.drained) return;
  state_.drained = true;
  if (state_.frames_received == 0) return;
  const std::int64_t frames = padded_frame_count(state_.frames_received);
  while (state_.frames_scheduled < frames) {
    state_.pending.push_back(Tensor(state_.pending.back()));
    ++state_.frames_scheduled;
    if (state_.frames_scheduled == chunk_at(state_.chunk).frames_needed) run_chunk();
  }
  // Nothing will be computed any more: only finished frames are worth their memory.
  state_.pending.clear();
  state_.first_pending = state_.frames_scheduled;
  forget_when_received();
}

// What networks remember goes after the last frame has been taken: to give back pinned memory of the host takes half a
// second for 3 GB, for which frames that are finished would wait.
void Stream::forget_when_received() {
  if (state_.drained && state_.finished.empty()) state_.tiles.clear();
}

std::optional<Received> Stream::nothing_to_receive() const {
  if (state_.finished.empty()) return state_.drained ? Received::end : Received::again;
  if (!state_.drained && !must_receive()) return Received::again;
  return std::nullopt;
}

void Stream::drop_received() {
  state_.finished.pop_front();
  ++state_.frames_delivered;
  forget_when_received();
}

Received Stream::receive(std::uint8_t* rgb, std::ptrdiff_t stride) {
  require_usable();
  if (settings_.image_output) {
    fail(ErrorCode::invalid_argument, "the stream gives images alone: open it without image_output");
  }
  if (!state_.finished.empty()) check_image(rgb, stride, settings_.output_width);
  if (const auto answer = nothing_to_receive()) return *answer;
  copy_rows(rgb, stride, state_.finished.front().wait().data<std::uint8_t>(), settings_.output_width * 3,
            settings_.output_width, settings_.output_height);
  drop_received();
  return Received::frame;
}

Received Stream::receive(const ops::SemiPlanarImage& image) {
  require_usable();
  if (!settings_.image_output) {
    fail(ErrorCode::invalid_argument, "the stream gives no images: open it with image_output set");
  }
  if (!state_.finished.empty()) {
    check_image(image, settings_.output_width, settings_.output_height);
    if (image.siting == ChromaSiting::top_left) {
      fail(ErrorCode::unsupported, "images are written with chroma on the left or in the center");
    }
  }
  if (const auto answer = nothing_to_receive()) return *answer;
  ops_.write_image(image, state_.finished.front().wait());
  drop_received();
  return Received::frame;
}

void Stream::reset() {
  state_ = {};
  failed_ = false;
}

// LR frame -> output size -> multiples of 128: [1, H, W, 3] u8.
Tensor Stream::prepare(const Tensor& frame) const {
  const ops::ProfilePart part(ops_, kProfilePart);
  const StreamSettings& s = settings_;
  Tensor result = frame;
  if (s.input_width != s.output_width || s.input_height != s.output_height) {
    result = ops_.resize_bicubic(result, s.output_height, s.output_width);
  }
  if (padded_width_ != s.output_width || padded_height_ != s.output_height) {
    result = ops_.pad_edge(result, padded_height_, padded_width_);
  }
  return result;
}

// ------------------------------------------------------------------------------------------------------ save, restore

std::uint64_t Stream::fingerprint() const {
  const StreamSettings& s = settings_;
  Fingerprint print;
  print.add(networks_.fingerprint).add(name_of(ops_.compute_type())).add(name_of(ops_.residual_type()));
  for (const std::int64_t value :
       {s.input_width, s.input_height, s.output_width, s.output_height, s.local_range, s.kv_chunks,
        static_cast<std::int64_t>(s.local_window), static_cast<std::int64_t>(s.color_fix)}) {
    print.add(static_cast<std::uint64_t>(value));
  }
  print.add(std::uint64_t{s.full_decoder}).add(std::uint64_t{s.all_allowed_blocks});
  print.add(std::bit_cast<std::uint64_t>(s.all_allowed_blocks ? 0.0 : attention_.selection.topk_ratio));
  // External noise is the caller's business; the built-in one hangs on the seed.
  print.add(std::uint64_t{s.noise != nullptr}).add(s.noise ? 0 : s.seed);
  if (s.prompt) print.add_values(s.prompt);
  if (row_weights_.size() > 0) {
    print.add(std::uint64_t{across_.begins.size()}).add(std::uint64_t{down_.begins.size()});
  }
  return print.value();
}

std::size_t Stream::saved_size() const {
  require_usable();
  return state_size(ops_, state_, settings_.image_output);
}

void Stream::save(std::span<std::byte> bytes) const {
  require_usable();
  write_state(ops_, state_, settings_.image_output, fingerprint(), bytes);
}

std::vector<std::byte> Stream::save() const {
  std::vector<std::byte> bytes(saved_size());
  save(bytes);
  return bytes;
}

void Stream::restore(std::span<const std::byte> bytes) {
  const weights::ModelConfig& config = networks_.files.config;
  const StateLayout layout{.output_width = settings_.output_width,
                           .output_height = settings_.output_height,
                           .padded_width = padded_width_,
                           .padded_height = padded_height_,
                           .tile_width = across_.size,
                           .tile_height = down_.size,
                           .tiles = settings_.tiles.value_or(TileCounts{}).count(),
                           .layers = dit().layers(),
                           .dim = config.dim,
                           .kv_chunks = settings_.kv_chunks,
                           .first_windows = chunk_at(0).latents / ops::kWindowLatents,
                           .spilled_windows = settings_.spilled_windows.value_or(0),
                           .projector_channels = config.lq_hidden[0],
                           .tiny_channels = {config.tc_channels[0], config.tc_channels[1], config.tc_channels[2]},
                           .full_decoder = settings_.full_decoder,
                           .image_output = settings_.image_output};
  state_ = read_state(ops_, layout, fingerprint(), bytes);
  failed_ = false;
}

}  // namespace flashvsr::stream
