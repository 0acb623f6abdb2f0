// The KV cache of a stream: the newest windows of every layer (paper section 3.2).
#pragma once

#include "ops/copies.h"
#include "ops/types.h"

#include <deque>
#include <memory>
#include <span>
#include <vector>

namespace flashvsr::ops {

class Operations;

// K and V after RoPE, in block order, of the newest windows: one pool of slots that all layers share, a window a slot.
// Layers run one after the other, so that the slot which a layer gives up after its attention is the one that the next
// layer writes to: the pool has little more slots than windows outlive a chunk, and nothing is ever moved.
//
// Where a device has not memory enough, the oldest windows of layers lie in the host's memory between chunks (they are
// spilled): they come to free slots while the layer before runs, and give them up after the layer's attention. A window
// goes to the host once, when it has become one of the oldest. Copies are started so early that between their start and
// what waits for them a whole layer is computed: layer n + 2's windows begin to come when layer n has released its
// slots. Computing waits for what comes; what comes waits for what leaves its slot, and computing does not, except in
// the first chunk.
//
// Several caches of one kind that run one after the other (a frame's tiles) may share their slots if all of their
// windows are spilled: the one that runs takes them over.
//
// One struct per stream. Per chunk: begin_chunk once; then for every layer in turn append_qkv, attention over
// view(layer), release(layer).
struct KvCache {
  static constexpr std::int64_t kNowhere = -1;

  struct Window {
    std::int64_t slot = kNowhere;                 // on the device
    Tensor k, v, k_means;                         // in the host's memory; empty: it is not there
    std::shared_ptr<Copies> departure = nullptr;  // that brings it there
  };
  struct Layer {
    std::vector<Window> windows;      // that the layer sees, oldest first
    std::int64_t resident = 0;        // of these the newest so many stay on the device
    std::shared_ptr<Copies> arrival;  // of spilled windows
  };
  // A slot whose window is on its way to the host.
  struct Leaving {
    std::int64_t slot = kNowhere;
    std::shared_ptr<Copies> copies = nullptr;
  };

  Tensor k, v;                     // [slots * S, 128, dim] compute type
  Tensor k_means;                  // [slots * S, dim] f32
  std::int64_t window_blocks = 0;  // S
  std::int64_t kept_windows = 0;   // kv_ratio: how many windows of a layer outlive a chunk
  std::int64_t new_windows = 0;    // of the current chunk
  std::vector<Layer> layers;
  std::vector<std::int64_t> free_slots;
  std::deque<Leaving> leaving;
  std::vector<Window> free_host;  // memory of the host without a window
  bool shares_slots = false;      // so no window stays in one between chunks

  // Starts a chunk of `windows` windows. Throws if a layer has not been released since it was appended to.
  void begin_chunk(std::int64_t windows);
  // Gives the layer slots for `windows` more windows, whose contents are undefined: append_qkv calls it. Throws if
  // there are not as many slots.
  void append(Operations& operations, std::size_t layer, std::int64_t windows);
  // STATE. The layer's attention over the current chunk has been issued: forgets its windows beyond the newest
  // kept_windows, so that the next layer may use their slots, spills what does not stay, and starts to fetch the
  // spilled windows of the layer after the next, which behind the last layers is one of the next chunk.
  void release(Operations& operations, std::size_t layer);

  // An empty cache of the same kind without slots, all of whose windows are spilled as this one's must be. From now on
  // both share this one's.
  KvCache sibling();
  // Takes over the slots of a cache that shares them, between its chunks and this one's.
  void take_slots(KvCache& other);

  // What the layer sees: the windows kept from chunks before and, once appended, those of the current chunk. Spilled
  // windows are there from append to release.
  KeyValueView view(std::size_t layer) const;
  // Slots of the layer's newest `windows` windows.
  std::vector<std::int64_t> newest_slots(std::size_t layer, std::int64_t windows) const;
  // Parts of k, v and k_means.
  Window window_at(std::int64_t slot) const;
  // Blocks of a layer that outlive the chunk which was run last.
  std::int64_t kept_blocks() const;

 private:
  // A slot, and what brings away the window that was in it; null: it has gone.
  Leaving take_slot(bool rather_leaving);
  void fetch(Operations& operations, std::size_t layer);
};

// Slots that `layers` layers need: those of the windows kept in all layers and one chunk's of the layer that runs; with
// spilled windows fewer, but also room for those of the layer that runs and of the next one.
// first_windows: windows of the first chunk (3); later chunks have one.
std::int64_t kv_cache_slots(std::int64_t layers, std::int64_t kept_windows, std::int64_t first_windows,
                            std::int64_t spilled_windows = 0);

// Allocates an empty cache that keeps `spilled_windows` windows, of layers * kept_windows, in the host's memory.
KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows, std::int64_t spilled_windows = 0);

// As many such caches for tiles that run one after the other. If all windows are spilled they share their slots.
std::vector<KvCache> make_kv_caches(Operations& operations, std::int64_t caches, std::int64_t layers,
                                    std::int64_t window_blocks, std::int64_t dim, std::int64_t kept_windows,
                                    std::int64_t first_windows, std::int64_t spilled_windows);

// A view of plain tensors k, v [tokens, dim] and k_means [blocks, dim]: the windows lie in order.
KeyValueView plain_view(const Tensor& k, const Tensor& v, const Tensor& k_means, std::int64_t window_blocks);

}  // namespace flashvsr::ops
