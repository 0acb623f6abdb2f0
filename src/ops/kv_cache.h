// The KV cache of a stream: the newest windows of every layer (paper section 3.2).
#pragma once

#include "ops/types.h"

#include <span>
#include <vector>

namespace flashvsr::ops {

class Operations;

// K and V after RoPE, in block order, of the newest windows: one pool of slots that all layers share, a window a slot.
// Layers run one after the other, so that the slot which a layer gives up after its attention is the one that the next
// layer writes to: the pool has little more slots than windows outlive a chunk, and nothing is ever moved.
//
// One struct per stream. Per chunk: begin_chunk once; then for every layer in turn append_qkv, attention over
// view(layer), release(layer).
struct KvCache {
  Tensor k, v;                                    // [slots * S, 128, dim] compute type
  Tensor k_means;                                 // [slots * S, dim] f32
  std::int64_t window_blocks = 0;                 // S
  std::int64_t kept_windows = 0;                  // kv_ratio: how many windows of a layer outlive a chunk
  std::int64_t new_windows = 0;                   // of the current chunk
  std::vector<std::vector<std::int64_t>> layers;  // slots of the windows that each layer sees, oldest first
  std::vector<std::int64_t> free_slots;

  // Starts a chunk of `windows` windows. Throws if a layer has not been released since it was appended to.
  void begin_chunk(std::int64_t windows);
  // Gives the layer slots for `windows` more windows, whose contents are undefined: append_qkv calls it. Throws if
  // there are not as many free.
  std::span<const std::int64_t> append(std::size_t layer, std::int64_t windows);
  // STATE. The layer's attention over the current chunk has been issued: forgets its windows beyond the newest
  // kept_windows, so that the next layer may use their slots.
  void release(std::size_t layer);

  // What the layer sees: the windows kept from chunks before and, once appended, those of the current chunk.
  KeyValueView view(std::size_t layer) const;
  // The layer's windows of the current chunk, once appended.
  std::span<const std::int64_t> new_slots(std::size_t layer) const;
  // Blocks of a layer that outlive the chunk which was run last.
  std::int64_t kept_blocks() const;
};

// Slots that `layers` layers need: those of the windows kept in all layers and one chunk's of the layer that runs.
// first_windows: windows of the first chunk (3); later chunks have one.
std::int64_t kv_cache_slots(std::int64_t layers, std::int64_t kept_windows, std::int64_t first_windows);

// Allocates an empty cache.
KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows);

// A view of plain tensors k, v [tokens, dim] and k_means [blocks, dim]: the windows lie in order.
KeyValueView plain_view(const Tensor& k, const Tensor& v, const Tensor& k_means, std::int64_t window_blocks);

}  // namespace flashvsr::ops
