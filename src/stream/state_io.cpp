#include "stream/state_io.h"

#include "stream/fingerprint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace flashvsr::stream {
namespace {

static_assert(std::endian::native == std::endian::little, "saved streams are little endian");

constexpr char kMagic[] = {'F', 'V', 'S', 'R', 'S', 'T', 'R', 'M'};
constexpr std::uint32_t kVersion = 1;
constexpr std::int64_t kMostFrames = std::int64_t{1} << 60;
constexpr std::size_t kMostNameBytes = 256;
constexpr std::int64_t kFrontFrames = 2;               // that the projector remembers
constexpr std::int64_t kProjectorInput = 3 * 16 * 16;  // channels of its first convolution

[[noreturn]] void damaged(const char* what) {
  fail(ErrorCode::format, "the saved stream is damaged ({}): save it again", what);
}

// Writes to memory, or only counts.
class Writer {
 public:
  Writer(ops::Operations& operations, std::byte* out) : ops_(operations), out_(out) {}

  std::size_t size() const { return size_; }

  void bytes(const void* data, std::size_t size) {
    if (out_ != nullptr) std::memcpy(out_ + size_, data, size);
    size_ += size;
  }
  template <typename T>
  void value(T value) {
    bytes(&value, sizeof value);
  }
  // on_host: it lies in the host's memory.
  void tensor(const Tensor& x, bool on_host = false) {
    value(static_cast<std::uint8_t>(x.dtype()));
    value(static_cast<std::uint8_t>(x.shape().rank()));
    for (const std::int64_t dim : x.shape().dims()) value(dim);
    if (out_ != nullptr) {
      const Tensor host = on_host ? x : ops_.to_host(x);
      std::memcpy(out_ + size_, host.raw(), host.bytes());
    }
    size_ += x.bytes();
  }
  // Already on the host.
  void host_tensor(const Tensor& x) { bytes(x.raw(), x.bytes()); }
  // The values alone, of a tensor in the back end's memory.
  void values(const Tensor& x) {
    if (out_ != nullptr) std::memcpy(out_ + size_, ops_.to_host(x).raw(), x.bytes());
    size_ += x.bytes();
  }

 private:
  ops::Operations& ops_;
  std::byte* out_;
  std::size_t size_ = 0;
};

class Reader {
 public:
  Reader(ops::Operations& operations, std::span<const std::byte> bytes) : ops_(operations), bytes_(bytes) {}

  bool at_end() const { return bytes_.empty(); }

  std::span<const std::byte> take(std::size_t size) {
    if (size > bytes_.size()) damaged("it ends early");
    const auto result = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return result;
  }
  template <typename T>
  T value() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::int64_t count(std::int64_t most) {
    const auto result = value<std::int64_t>();
    if (result < 0 || result > most) damaged("a count is out of range");
    return result;
  }
  Tensor host_tensor(const Shape& shape, DType type) {
    const auto values = take(static_cast<std::size_t>(shape.elements()) * size_of(type));
    const Tensor host = allocate_host(shape, type);
    std::memcpy(host.mutable_raw(), values.data(), values.size());
    return host;
  }
  Tensor tensor(const Shape& expected, DType type) {
    if (read_form(type) != expected) damaged("a tensor has another shape");
    return ops_.from_host(host_tensor(expected, type));
  }
  // A tensor of four dimensions, each at most that of `most`.
  Tensor tensor_within(const Shape& most, DType type) {
    const Shape shape = read_form(type);
    if (shape.rank() != most.rank()) damaged("a tensor has another rank");
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(most.rank()); ++i) {
      if (shape[i] > most[i]) damaged("a tensor is too large");
    }
    return ops_.from_host(host_tensor(shape, type));
  }

 private:
  Shape read_form(DType type) {
    if (value<std::uint8_t>() != static_cast<std::uint8_t>(type)) damaged("a tensor has another type");
    const auto rank = value<std::uint8_t>();
    if (rank > Shape::kMaxRank) damaged("a tensor has too many dimensions");
    std::array<std::int64_t, Shape::kMaxRank> dims{};
    for (std::size_t i = 0; i < rank; ++i) {
      dims[i] = count(kMostFrames);
      if (dims[i] == 0) damaged("a tensor is empty");
    }
    return Shape(std::span<const std::int64_t>(dims.data(), rank));
  }

  ops::Operations& ops_;
  std::span<const std::byte> bytes_;
};

// ---------------------------------------------------------------------------------------------------------- KV cache

// The windows of each layer that the next chunk can see, oldest first, wherever they lie.
void write_kv_cache(Writer& writer, const ops::KvCache& cache) {
  writer.value(cache.kept_blocks() / cache.window_blocks);
  for (const ops::KvCache::Layer& layer : cache.layers) {
    for (const ops::KvCache::Window& window : layer.windows) {
      if (window.k) {
        for (const Tensor* x : {&window.k, &window.v, &window.k_means}) writer.tensor(*x, true);
      } else {
        const ops::KvCache::Window on_device = cache.window_at(window.slot);
        for (const Tensor* x : {&on_device.k, &on_device.v, &on_device.k_means}) writer.tensor(*x);
      }
    }
  }
}

void read_kv_cache(Reader& reader, ops::Operations& operations, const StateLayout& layout, std::int64_t chunk,
                   ops::KvCache& cache) {
  const std::int64_t blocks = cache.window_blocks;
  const std::int64_t windows = std::min(layout.kv_chunks, layout.first_windows + chunk - 1);
  if (reader.count(kMostFrames) != windows) damaged("its KV cache has another length");
  const Shape tokens{blocks, ops::kBlockTokens, layout.dim}, means{blocks, layout.dim};
  for (std::size_t layer = 0; layer < cache.layers.size(); ++layer) {
    cache.append(operations, layer, windows);
    for (const std::int64_t slot : cache.newest_slots(layer, windows)) {
      operations.store(cache.k, slot * blocks, reader.tensor(tokens, operations.compute_type()));
      operations.store(cache.v, slot * blocks, reader.tensor(tokens, operations.compute_type()));
      operations.store(cache.k_means, slot * blocks, reader.tensor(means, DType::f32));
    }
    cache.release(operations, layer);
  }
}

// ---------------------------------------------------------------------------------------------------------- decoders

void write_decoders(Writer& writer, const TileState& state) {
  const bool tiny = static_cast<bool>(state.tiny_decoder.memory[0]);
  if (tiny) {
    for (const Tensor& memory : state.tiny_decoder.memory) writer.tensor(memory);
    return;
  }
  writer.value(static_cast<std::int64_t>(state.full_decoder.front.size()));
  for (const auto& [name, front] : state.full_decoder.front) {
    writer.value(static_cast<std::int64_t>(name.size()));
    writer.bytes(name.data(), name.size());
    writer.tensor(front);
  }
}

void read_tiny_decoder(Reader& reader, const StateLayout& layout, DType type, models::TinyDecoderState& decoder) {
  for (std::size_t i = 0; i < decoder.memory.size(); ++i) {
    const std::size_t stage = i / 3;
    const std::int64_t shrink = 8 >> stage;
    decoder.memory[i] =
        reader.tensor({1, layout.tile_height / shrink, layout.tile_width / shrink, layout.tiny_channels[stage]}, type);
  }
}

void read_full_decoder(Reader& reader, const StateLayout& layout, DType type, models::WanVaeState& decoder) {
  constexpr std::int64_t kMostLayers = 4096, kMostFront = 4, kMostChannels = 65536;
  const Shape most{kMostFront, layout.tile_height, layout.tile_width, kMostChannels};
  const std::int64_t count = reader.count(kMostLayers);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto name = reader.take(static_cast<std::size_t>(reader.count(kMostNameBytes)));
    Tensor front = reader.tensor_within(most, type);
    decoder.front.emplace(std::string(reinterpret_cast<const char*>(name.data()), name.size()), std::move(front));
  }
  decoder.started = true;
}

// ----------------------------------------------------------------------------------------------------------- payload

void write_payload(Writer& writer, const StreamState& state, bool image_output) {
  writer.value(state.frames_received);
  writer.value(state.frames_delivered);
  writer.value(static_cast<std::uint8_t>(state.drained));
  for (const ops::HostCopy& frame : state.finished) {
    if (image_output) {
      writer.values(frame.wait());
    } else {
      writer.host_tensor(frame.wait());
    }
  }
  if (state.drained) return;
  for (const Tensor& frame : state.pending) writer.tensor(frame);
  if (state.chunk == 0) return;
  for (const TileState& tile : state.tiles) {
    writer.tensor(tile.projector.cache1);
    writer.tensor(tile.projector.cache2);
    write_kv_cache(writer, tile.kv_cache);
    write_decoders(writer, tile);
  }
}

std::vector<TileState> read_tiles(Reader& reader, ops::Operations& operations, const StateLayout& layout,
                                  std::int64_t chunk) {
  const DType type = operations.compute_type();
  const std::int64_t rows = layout.tile_height / 16, columns = layout.tile_width / 16;
  std::vector<ops::KvCache> caches = ops::make_kv_caches(
      operations, layout.tiles, layout.layers, layout.tile_width / kTileGrid * (layout.tile_height / kTileGrid),
      layout.dim, layout.kv_chunks, layout.first_windows, layout.spilled_windows);
  std::vector<TileState> tiles(caches.size());
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    TileState& tile = tiles[i];
    tile.kv_cache = std::move(caches[i]);
    tile.projector.started = true;
    tile.projector.cache1 = reader.tensor({kFrontFrames, rows, columns, kProjectorInput}, type);
    tile.projector.cache2 = reader.tensor({kFrontFrames, rows, columns, layout.projector_channels}, type);
    if (!tile.kv_cache.k) tile.kv_cache.take_slots(tiles[i - 1].kv_cache);
    read_kv_cache(reader, operations, layout, chunk, tile.kv_cache);
    if (layout.full_decoder) {
      read_full_decoder(reader, layout, type, tile.full_decoder);
    } else {
      read_tiny_decoder(reader, layout, type, tile.tiny_decoder);
    }
  }
  return tiles;
}

StreamState read_payload(Reader& reader, ops::Operations& operations, const StateLayout& layout) {
  StreamState state;
  state.frames_received = reader.count(kMostFrames);
  state.frames_delivered = reader.count(kMostFrames);
  const auto drained = reader.value<std::uint8_t>();
  if (drained > 1) damaged("a flag is out of range");
  state.drained = drained == 1;

  // Everything else that counts follows from these three.
  const bool padding = state.drained && state.frames_received > 0;
  state.frames_scheduled = padding ? padded_frame_count(state.frames_received) : state.frames_received;
  state.chunk = chunks_of(state.frames_scheduled);
  const std::int64_t done = state.chunk == 0 ? 0 : chunk_at(state.chunk - 1).outputs.end;
  state.frames_done = state.drained ? state.frames_received : done;
  state.first_pending = state.drained ? state.frames_scheduled : done;
  // The queue holds two chunks at most; drain adds at most two.
  const std::int64_t waiting = state.frames_done - state.frames_delivered;
  if (waiting < 0 || waiting > kFirstChunkFrames + 3 * kChunkFrames) damaged("its counters contradict each other");
  for (std::int64_t i = 0; i < waiting; ++i) {
    const Tensor frame = reader.host_tensor({1, layout.output_height, layout.output_width, 3}, DType::u8);
    if (layout.image_output) {
      const Tensor kept = operations.from_host(frame);
      state.finished.emplace_back(kept, operations.arrival());
    } else {
      state.finished.emplace_back(frame);
    }
  }
  if (state.drained) return state;

  for (std::int64_t frame = state.first_pending; frame < state.frames_scheduled; ++frame) {
    state.pending.push_back(reader.tensor({1, layout.padded_height, layout.padded_width, 3}, DType::u8));
  }
  if (state.chunk == 0) return state;
  state.tiles = read_tiles(reader, operations, layout, state.chunk);
  return state;
}

}  // namespace

std::uint64_t state_checksum(std::span<const std::byte> payload) { return Fingerprint().add(payload).value(); }

std::size_t state_size(ops::Operations& operations, const StreamState& state, bool image_output) {
  Writer writer(operations, nullptr);
  write_payload(writer, state, image_output);
  return kStateHeaderBytes + writer.size();
}

void write_state(ops::Operations& operations, const StreamState& state, bool image_output, std::uint64_t fingerprint,
                 std::span<std::byte> bytes) {
  const std::size_t size = state_size(operations, state, image_output);
  if (bytes.size() != size) {
    fail(ErrorCode::invalid_argument, "the buffer for the saved stream has {} bytes: it must have {}", bytes.size(),
         size);
  }
  const auto payload = bytes.subspan(kStateHeaderBytes);
  Writer writer(operations, payload.data());
  operations.synchronize();  // windows may be on their way to the host
  write_payload(writer, state, image_output);
  Writer header(operations, bytes.data());
  header.bytes(kMagic, sizeof kMagic);
  header.value(kVersion);
  header.value(std::uint32_t{0});
  header.value(fingerprint);
  header.value(std::uint64_t{payload.size()});
  header.value(state_checksum(payload));
}

StreamState read_state(ops::Operations& operations, const StateLayout& layout, std::uint64_t fingerprint,
                       std::span<const std::byte> bytes) {
  Reader header(operations, bytes);
  const auto magic = header.take(sizeof kMagic);
  if (std::memcmp(magic.data(), kMagic, sizeof kMagic) != 0) {
    fail(ErrorCode::format, "these bytes are not a saved stream: give what flashvsr_stream_save wrote");
  }
  const auto version = header.value<std::uint32_t>();
  if (version != kVersion) {
    fail(ErrorCode::format, "the saved stream has format version {}: this library reads version {}", version, kVersion);
  }
  if (header.value<std::uint32_t>() != 0) damaged("its header");
  const auto saved_fingerprint = header.value<std::uint64_t>();
  const auto payload_size = header.value<std::uint64_t>();
  const auto checksum = header.value<std::uint64_t>();
  const auto payload = bytes.subspan(kStateHeaderBytes);
  if (payload_size != payload.size()) damaged("its size");
  if (checksum != state_checksum(payload)) damaged("its checksum");
  if (saved_fingerprint != fingerprint) {
    fail(ErrorCode::invalid_argument,
         "the saved stream belongs to another model or other settings: open the stream as it was opened then");
  }
  Reader reader(operations, payload);
  StreamState state = read_payload(reader, operations, layout);
  if (!reader.at_end()) damaged("bytes are left over");
  return state;
}

}  // namespace flashvsr::stream
