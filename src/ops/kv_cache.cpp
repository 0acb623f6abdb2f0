#include "ops/kv_cache.h"

#include "ops/operations.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace flashvsr::ops {

namespace {

std::int64_t size_of_list(const std::vector<KvCache::Window>& windows) {
  return static_cast<std::int64_t>(windows.size());
}

// Windows of a layer that stay on the device: the first layers spill one more where not all can spill as many.
std::int64_t resident_windows(std::int64_t layer, std::int64_t layers, std::int64_t kept, std::int64_t spilled) {
  return kept - spilled / layers - (layer < spilled % layers ? 1 : 0);
}

void add_pairs(std::vector<CopyPair>& pairs, const KvCache::Window& to, const KvCache::Window& from) {
  pairs.push_back({to.k, from.k});
  pairs.push_back({to.v, from.v});
  pairs.push_back({to.k_means, from.k_means});
}

}  // namespace

void KvCache::begin_chunk(std::int64_t windows) {
  for (const Layer& layer : layers) {
    require(size_of_list(layer.windows) <= kept_windows,
            "a chunk begins, but a layer of the KV cache still has {} windows of the chunk before it",
            layer.windows.size());
  }
  new_windows = windows;
}

// `rather_leaving`: copies take it, which wait for those that leave without holding anything up. What is free is left
// to the next layer's new windows, as far as those need it.
KvCache::Leaving KvCache::take_slot(bool rather_leaving) {
  require(!free_slots.empty() || !leaving.empty(), "a window does not fit into the KV cache");
  const std::int64_t reserved = rather_leaving && !leaving.empty() ? new_windows : 0;
  Leaving taken;
  if (static_cast<std::int64_t>(free_slots.size()) > reserved) {
    taken.slot = free_slots.back();
    free_slots.pop_back();
  } else {
    taken = std::move(leaving.front());
    leaving.pop_front();
  }
  return taken;
}

KvCache::Window KvCache::window_at(std::int64_t slot) const {
  const std::int64_t begin = slot * window_blocks, end = begin + window_blocks;
  return {slot, k.sliced(begin, end), v.sliced(begin, end), k_means.sliced(begin, end)};
}

void KvCache::fetch(Operations& operations, std::size_t layer) {
  std::vector<CopyPair> pairs;
  std::vector<std::shared_ptr<Copies>> after;
  for (Window& window : layers[layer].windows) {
    if (window.slot != kNowhere) continue;
    Leaving taken = take_slot(true);
    if (taken.copies) after.push_back(std::move(taken.copies));
    if (window.departure) after.push_back(std::exchange(window.departure, nullptr));
    window.slot = taken.slot;
    add_pairs(pairs, window_at(window.slot), window);
  }
  if (!pairs.empty()) layers[layer].arrival = operations.start_copies(CopyDirection::to_device, pairs, after);
}

void KvCache::append(Operations& operations, std::size_t layer, std::int64_t windows) {
  Layer& current = layers.at(layer);
  // What has not been fetched yet: in a chunk that nothing ran before.
  fetch(operations, layer);
  if (current.arrival) operations.finish_copies(*std::exchange(current.arrival, nullptr));
  for (std::int64_t i = 0; i < windows; ++i) {
    const Leaving taken = take_slot(false);
    if (taken.copies) operations.finish_copies(*taken.copies);
    current.windows.push_back({.slot = taken.slot, .k = {}, .v = {}, .k_means = {}});
  }
  if (layer + 1 < layers.size()) fetch(operations, layer + 1);
}

void KvCache::release(Operations& operations, std::size_t layer) {
  Layer& current = layers.at(layer);
  const std::int64_t old = std::max<std::int64_t>(size_of_list(current.windows) - kept_windows, 0);
  for (std::int64_t i = 0; i < old; ++i) {
    Window& window = current.windows[static_cast<std::size_t>(i)];
    free_slots.push_back(std::exchange(window.slot, kNowhere));
    if (window.k) free_host.push_back(std::move(window));
  }
  current.windows.erase(current.windows.begin(), current.windows.begin() + old);

  std::vector<CopyPair> pairs;
  std::vector<std::pair<std::int64_t, Window*>> departing;
  const std::int64_t spilled = size_of_list(current.windows) - current.resident;
  for (std::int64_t i = 0; i < spilled; ++i) {
    Window& window = current.windows[static_cast<std::size_t>(i)];
    const std::int64_t slot = std::exchange(window.slot, kNowhere);
    if (window.k) {
      free_slots.push_back(slot);
      continue;
    }
    const Window source = window_at(slot);
    if (free_host.empty()) {
      window.k = operations.host_memory(source.k.shape(), source.k.dtype());
      window.v = operations.host_memory(source.v.shape(), source.v.dtype());
      window.k_means = operations.host_memory(source.k_means.shape(), source.k_means.dtype());
    } else {
      window = std::move(free_host.back());
      free_host.pop_back();
    }
    add_pairs(pairs, window, source);
    departing.emplace_back(slot, &window);
  }
  if (!pairs.empty()) {
    const std::shared_ptr<Copies> copies = operations.start_copies(CopyDirection::to_host, pairs);
    for (const auto& [slot, window] : departing) {
      window->departure = copies;
      leaving.push_back({slot, copies});
    }
  }
  // The first layers' come while the decoder works. Between chunks nothing may be in slots that are shared.
  const std::size_t ahead = layer + std::min<std::size_t>(2, layers.size() - 1);
  if (ahead < layers.size()) {
    fetch(operations, ahead);
  } else if (!shares_slots) {
    fetch(operations, ahead % layers.size());
  }
}

KvCache KvCache::sibling() {
  for (const Layer& layer : layers) {
    require(layer.resident == 0, "KV caches with windows that stay on the device cannot share their slots");
  }
  shares_slots = true;
  KvCache result;
  result.window_blocks = window_blocks;
  result.kept_windows = kept_windows;
  result.layers.resize(layers.size());
  result.shares_slots = true;
  return result;
}

void KvCache::take_slots(KvCache& other) {
  require(shares_slots && other.shares_slots && other.k && !k,
          "slots of a KV cache go from one that has them to another");
  for (const Layer& layer : other.layers) {
    for (const Window& window : layer.windows) {
      require(window.slot == kNowhere, "slots of a KV cache are taken over while a window is in one");
    }
  }
  k = std::exchange(other.k, {});
  v = std::exchange(other.v, {});
  k_means = std::exchange(other.k_means, {});
  free_slots = std::exchange(other.free_slots, {});
  leaving = std::exchange(other.leaving, {});
}

KeyValueView KvCache::view(std::size_t layer) const {
  return {k, v, k_means, newest_slots(layer, size_of_list(layers.at(layer).windows)), window_blocks};
}

std::vector<std::int64_t> KvCache::newest_slots(std::size_t layer, std::int64_t windows) const {
  const std::vector<Window>& all = layers.at(layer).windows;
  require(windows <= size_of_list(all), "a layer of the KV cache has {} windows, not {}", all.size(), windows);
  std::vector<std::int64_t> slots;
  for (auto window = all.end() - windows; window != all.end(); ++window) {
    require(window->slot != kNowhere, "a window of the KV cache is in the host's memory alone");
    slots.push_back(window->slot);
  }
  return slots;
}

std::int64_t KvCache::kept_blocks() const {
  return layers.empty() ? 0 : size_of_list(layers.front().windows) * window_blocks;
}

std::int64_t kv_cache_slots(std::int64_t layers, std::int64_t kept_windows, std::int64_t first_windows,
                            std::int64_t spilled_windows) {
  if (spilled_windows == 0) {
    // In the first chunk nothing is kept yet in the layers that have not run.
    const std::int64_t first = (layers - 1) * std::min(kept_windows, first_windows) + first_windows;
    return std::max(first, layers * kept_windows + 1);
  }
  // Spilled windows of two layers, the new one, and one that leaves; or the first chunk's of a layer while those of the
  // layer before leave.
  const std::int64_t resident = layers * kept_windows - spilled_windows;
  const std::int64_t spilled_of_layer = (spilled_windows + layers - 1) / layers;
  return resident + 2 * spilled_of_layer + std::max<std::int64_t>(2, first_windows - kept_windows);
}

KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows, std::int64_t spilled_windows) {
  require(layers > 0 && window_blocks > 0 && kept_windows >= 0 && first_windows > 0, "an empty KV cache");
  require(spilled_windows >= 0 && spilled_windows <= layers * kept_windows,
          "{} windows of a KV cache of {} in the host's memory", spilled_windows, layers * kept_windows);
  KvCache cache;
  cache.window_blocks = window_blocks;
  cache.kept_windows = kept_windows;
  cache.layers.resize(static_cast<std::size_t>(layers));
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    cache.layers[static_cast<std::size_t>(layer)].resident =
        resident_windows(layer, layers, kept_windows, spilled_windows);
  }
  const std::int64_t slots = kv_cache_slots(layers, kept_windows, first_windows, spilled_windows);
  const std::int64_t blocks = slots * window_blocks;
  const auto allocate = [&](const Shape& shape, DType type) {
    return spilled_windows > 0 ? operations.transfer_memory(shape, type) : operations.zeros(shape, type);
  };
  cache.k = allocate({blocks, kBlockTokens, dim}, operations.compute_type());
  cache.v = allocate({blocks, kBlockTokens, dim}, operations.compute_type());
  cache.k_means = allocate({blocks, dim}, DType::f32);
  // Taken from the end.
  for (std::int64_t slot = slots; slot-- > 0;) cache.free_slots.push_back(slot);
  return cache;
}

std::vector<KvCache> make_kv_caches(Operations& operations, std::int64_t caches, std::int64_t layers,
                                    std::int64_t window_blocks, std::int64_t dim, std::int64_t kept_windows,
                                    std::int64_t first_windows, std::int64_t spilled_windows) {
  std::vector<KvCache> result;
  for (std::int64_t i = 0; i < caches; ++i) {
    result.push_back(
        i > 0 && spilled_windows == layers * kept_windows
            ? result.front().sibling()
            : make_kv_cache(operations, layers, window_blocks, dim, kept_windows, first_windows, spilled_windows));
  }
  return result;
}

KeyValueView plain_view(const Tensor& k, const Tensor& v, const Tensor& k_means, std::int64_t window_blocks) {
  const std::int64_t blocks = k.elements() / k.dim(-1) / kBlockTokens;
  require(blocks % window_blocks == 0, "{} key blocks are not a multiple of a window's {}", blocks, window_blocks);
  const Shape shape{blocks, kBlockTokens, k.dim(-1)};
  std::vector<std::int64_t> slots(static_cast<std::size_t>(blocks / window_blocks));
  std::iota(slots.begin(), slots.end(), 0);
  return {k.reshaped(shape), v.reshaped(shape), k_means, std::move(slots), window_blocks};
}

}  // namespace flashvsr::ops
