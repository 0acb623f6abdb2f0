#include "ops/kv_cache.h"

#include "ops/operations.h"

#include <algorithm>
#include <numeric>

namespace flashvsr::ops {

void KvCache::begin_chunk(std::int64_t windows) {
  const auto in_view_count = static_cast<std::int64_t>(in_view.size());
  if (in_view_count > kept_windows) in_view.erase(in_view.begin(), in_view.end() - kept_windows);
  require(static_cast<std::int64_t>(in_view.size()) + windows <= slot_count,
          "a chunk of {} windows does not fit into a KV cache of {} slots with {} in use", windows, slot_count,
          in_view.size());
  new_windows = windows;
  for (std::int64_t slot = 0; windows > 0; ++slot) {
    if (std::find(in_view.begin(), in_view.end(), slot) != in_view.end()) continue;
    in_view.push_back(slot);
    --windows;
  }
}

std::int64_t KvCache::kept_blocks() const {
  return std::min(kept_windows, static_cast<std::int64_t>(in_view.size())) * window_blocks;
}

KeyValueView KvCache::view(std::size_t layer) const {
  const Layer& entry = layers.at(layer);
  return {entry.k, entry.v, entry.k_means, in_view, window_blocks};
}

KvCache make_kv_cache(Operations& operations, std::int64_t layers, std::int64_t window_blocks, std::int64_t dim,
                      std::int64_t kept_windows, std::int64_t first_windows) {
  require(window_blocks > 0 && kept_windows >= 0 && first_windows > 0, "an empty KV cache");
  KvCache cache;
  cache.window_blocks = window_blocks;
  cache.kept_windows = kept_windows;
  cache.slot_count = std::max(first_windows, kept_windows + 1);
  const std::int64_t blocks = cache.slot_count * window_blocks;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    cache.layers.push_back({operations.zeros({blocks, kBlockTokens, dim}, operations.compute_type()),
                            operations.zeros({blocks, kBlockTokens, dim}, operations.compute_type()),
                            operations.zeros({blocks, dim}, DType::f32)});
  }
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
