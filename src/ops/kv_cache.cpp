#include "ops/kv_cache.h"

#include "ops/operations.h"

#include <algorithm>
#include <numeric>

namespace flashvsr::ops {

void KvCache::begin_chunk(std::int64_t windows) {
  for (const std::vector<std::int64_t>& slots : layers) {
    require(static_cast<std::int64_t>(slots.size()) <= kept_windows,
            "a chunk begins, but a layer of the KV cache still has {} windows of the chunk before it", slots.size());
  }
  new_windows = windows;
}

std::span<const std::int64_t> KvCache::append(std::size_t layer, std::int64_t windows) {
  std::vector<std::int64_t>& slots = layers.at(layer);
  const auto count = static_cast<std::size_t>(windows);
  require(count <= free_slots.size(), "{} windows do not fit into the {} free slots of the KV cache", windows,
          free_slots.size());
  slots.insert(slots.end(), free_slots.rbegin(), free_slots.rbegin() + windows);
  free_slots.resize(free_slots.size() - count);
  return std::span<const std::int64_t>(slots).last(count);
}

void KvCache::release(std::size_t layer) {
  std::vector<std::int64_t>& slots = layers.at(layer);
  const std::int64_t old = static_cast<std::int64_t>(slots.size()) - kept_windows;
  if (old <= 0) return;
  free_slots.insert(free_slots.end(), slots.begin(), slots.begin() + old);
  slots.erase(slots.begin(), slots.begin() + old);
}

KeyValueView KvCache::view(std::size_t layer) const { return {k, v, k_means, layers.at(layer), window_blocks}; }

std::span<const std::int64_t> KvCache::new_slots(std::size_t layer) const {
  return std::span<const std::int64_t>(layers.at(layer)).last(static_cast<std::size_t>(new_windows));
}

std::int64_t KvCache::kept_blocks() const {
  return layers.empty() ? 0 : static_cast<std::int64_t>(layers.front().size()) * window_blocks;
}

std::int64_t kv_cache_slots(std::int64_t layers, std::int64_t kept_windows, std::int64_t first_windows) {
  // In the first chunk nothing is kept yet in the layers that have not run.
  const std::int64_t first = (layers - 1) * std::min(kept_windows, first_windows) + first_windows;
  return std::max(first, layers * kept_windows + 1);
}

KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows) {
  require(layers > 0 && window_blocks > 0 && kept_windows >= 0 && first_windows > 0, "an empty KV cache");
  KvCache cache;
  cache.window_blocks = window_blocks;
  cache.kept_windows = kept_windows;
  cache.layers.resize(static_cast<std::size_t>(layers));
  const std::int64_t slots = kv_cache_slots(layers, kept_windows, first_windows), blocks = slots * window_blocks;
  cache.k = operations.zeros({blocks, kBlockTokens, dim}, operations.compute_type());
  cache.v = operations.zeros({blocks, kBlockTokens, dim}, operations.compute_type());
  cache.k_means = operations.zeros({blocks, dim}, DType::f32);
  // Taken from the end.
  for (std::int64_t slot = slots; slot-- > 0;) cache.free_slots.push_back(slot);
  return cache;
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
