#include "ops/kv_cache.h"

#include "core/error.h"
#include "ops/cpu/reference_operations.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kBlocks = 2, kDim = 4;

// Every layer sees its own newest windows, in order, whatever slots they lie in; no slot has two windows.
TEST(KvCache, LayersShareThePool) {
  for (const std::int64_t layers : {1, 2, 5}) {
    for (const std::int64_t kept : {1, 2, 3, 7}) {
      for (const std::int64_t first : {1, 3}) {
        ReferenceOperations operations({});
        KvCache cache = make_kv_cache(operations, layers, kBlocks, kDim, kept, first);
        EXPECT_EQ(cache.k.dim(0), kv_cache_slots(layers, kept, first) * kBlocks);
        std::vector<std::vector<int>> windows(static_cast<std::size_t>(layers));
        std::map<std::int64_t, int> contents;
        int next = 0;
        for (int chunk = 0; chunk < 12; ++chunk) {
          cache.begin_chunk(chunk == 0 ? first : 1);
          for (std::size_t layer = 0; layer < windows.size(); ++layer) {
            for (const std::int64_t slot : cache.append(layer, cache.new_windows)) {
              contents[slot] = next;
              windows[layer].push_back(next++);
            }
            const KeyValueView view = cache.view(layer);
            ASSERT_LE(view.slots.size(), windows[layer].size());
            const std::size_t hidden = windows[layer].size() - view.slots.size();
            for (std::size_t i = 0; i < view.slots.size(); ++i) {
              ASSERT_EQ(contents.at(view.slots[i]), windows[layer][hidden + i]);
            }
            cache.release(layer);
          }
          std::set<std::int64_t> used(cache.free_slots.begin(), cache.free_slots.end());
          std::size_t count = cache.free_slots.size();
          for (const auto& slots : cache.layers) used.insert(slots.begin(), slots.end()), count += slots.size();
          EXPECT_EQ(used.size(), count);
          EXPECT_EQ(static_cast<std::int64_t>(count), kv_cache_slots(layers, kept, first));
          EXPECT_EQ(cache.kept_blocks(), std::min(kept, first + chunk) * kBlocks);
        }
      }
    }
  }
}

// The published model's: 30 layers of 3 windows and one more.
TEST(KvCache, HasOneSlotMoreThanWindowsAreKept) {
  EXPECT_EQ(kv_cache_slots(30, 3, 3), 91);
  EXPECT_EQ(kv_cache_slots(30, 2, 3), 61);
  EXPECT_EQ(kv_cache_slots(1, 1, 3), 3);
  EXPECT_EQ(kv_cache_slots(30, 5, 3), 151);
}

TEST(KvCache, RefusesWhatDoesNotFit) {
  ReferenceOperations operations({});
  KvCache cache = make_kv_cache(operations, 2, kBlocks, kDim, 1, 3);
  cache.begin_chunk(3);
  EXPECT_EQ(cache.append(0, 3).size(), 3U);
  // The first layer was not released.
  EXPECT_THROW(cache.append(1, 3), Error);
  EXPECT_THROW(cache.begin_chunk(1), Error);
  cache.release(0);
  cache.begin_chunk(1);
  EXPECT_EQ(cache.layers[0].size(), 1U);
}

}  // namespace
}  // namespace flashvsr::ops
