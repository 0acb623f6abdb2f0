// The KV cache of a stream: a ring of windows per layer (paper section 3.2).
#pragma once

#include "ops/types.h"

#include <vector>

namespace flashvsr::ops {

class Operations;

// K and V after RoPE, in block order, of the newest windows. Slots are recycled in place: nothing is moved when an old
// window leaves. One struct per stream; DiT::run_chunk calls begin_chunk once, then append_qkv for every layer.
struct KvCache {
  struct Layer {
    Tensor k, v;     // [slots * S, 128, dim] compute type
    Tensor k_means;  // [slots * S, dim] f32
  };

  std::vector<Layer> layers;
  std::int64_t window_blocks = 0;     // S
  std::int64_t kept_windows = 0;      // kv_ratio: how many windows outlive a chunk
  std::int64_t slot_count = 0;        // max(first chunk's windows, kept_windows + 1)
  std::vector<std::int64_t> in_view;  // slots of the windows in view, oldest first
  std::int64_t new_windows = 0;       // how many at the end of in_view belong to the current chunk

  // Forgets windows beyond the newest kept_windows and gives `windows` slots to the new chunk. Throws if the chunk has
  // more windows than there are free slots.
  void begin_chunk(std::int64_t windows);
  // Blocks that the published implementation would hold in its cache after the current chunk.
  std::int64_t kept_blocks() const;
  KeyValueView view(std::size_t layer) const;
};

// Allocates an empty cache. first_windows: windows of the first chunk (3).
KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows);

// A view of plain tensors k, v [tokens, dim] and k_means [blocks, dim]: the windows lie in order.
KeyValueView plain_view(const Tensor& k, const Tensor& v, const Tensor& k_means, std::int64_t window_blocks);

}  // namespace flashvsr::ops
