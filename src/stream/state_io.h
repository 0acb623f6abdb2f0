// Saved streams: the bytes of a StreamState and back.
//
// Format, little endian: magic "FVSRSTRM", u32 version, u32 zero, u64 fingerprint of model and settings, u64 payload
// size, u64 checksum of the payload; then the payload: counters, and tensors as (u8 type, u8 rank, i64 dims, values).
// Only what later chunks can see is kept: of the KV cache, its newest windows.
#pragma once

#include "stream/stream.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace flashvsr::stream {

// What the tensors of a state must look like: the sizes of stream and model.
struct StateLayout {
  std::int64_t output_width = 0, output_height = 0;
  std::int64_t padded_width = 0, padded_height = 0;
  std::int64_t tile_width = 0, tile_height = 0, tiles = 1;  // those of the padded frame if there is one
  std::int64_t layers = 0, dim = 0;
  std::int64_t kv_chunks = 0, first_windows = 0;
  std::int64_t spilled_windows = 0;     // no part of the format
  std::int64_t projector_channels = 0;  // of the first convolution
  std::array<std::int64_t, 3> tiny_channels{};
  bool full_decoder = false;
  bool image_output = false;  // finished frames are in the back end's memory; no part of the format
};

inline constexpr std::size_t kStateHeaderBytes = 40;
inline constexpr std::size_t kStateChecksumOffset = 32;

std::uint64_t state_checksum(std::span<const std::byte> payload);

// `image_output` as in the layout.
std::size_t state_size(ops::Operations& operations, const StreamState& state, bool image_output);
// `bytes` holds exactly state_size() bytes; throws Error(invalid_argument) otherwise.
void write_state(ops::Operations& operations, const StreamState& state, bool image_output, std::uint64_t fingerprint,
                 std::span<std::byte> bytes);
// Throws Error(format) for damaged data, Error(invalid_argument) for another fingerprint. Every size is checked
// against the layout and the bytes that are there before memory is taken.
StreamState read_state(ops::Operations& operations, const StateLayout& layout, std::uint64_t fingerprint,
                       std::span<const std::byte> bytes);

}  // namespace flashvsr::stream
