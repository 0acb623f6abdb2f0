#include "ops/kv_cache.h"

#include "core/error.h"
#include "ops/cpu/reference_operations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <set>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kBlocks = 2, kDim = 4;

// A back end whose copies happen as late as they may: when they are waited for, behind those of their direction that
// were started before and those that they wait for. What is read too early, or written over too early, shows.
class LateOperations final : public ReferenceOperations {
 public:
  LateOperations() : ReferenceOperations({}) {}

  Tensor host_memory(const Shape& shape, DType type) override {
    const Tensor host = ReferenceOperations::host_memory(shape, type);
    host_.insert(host.storage().get());
    kept_.push_back(host);
    std::fill_n(host.mutable_data<float>(), host.elements(), -1.0f);
    return host;
  }

 protected:
  std::shared_ptr<Copies> do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                          std::span<const std::shared_ptr<Copies>> after, CopyMarks*) override {
    const bool outwards = direction == CopyDirection::to_host;
    for (const CopyPair& pair : pairs) {
      EXPECT_EQ(host_.contains(pair.to.storage().get()), outwards);
      EXPECT_NE(host_.contains(pair.from.storage().get()), outwards);
      EXPECT_EQ(pair.to.bytes(), pair.from.bytes());
    }
    const auto copies = std::make_shared<Started>();
    copies->pairs.assign(pairs.begin(), pairs.end());
    copies->after.assign(after.begin(), after.end());
    copies->outwards = outwards;
    (outwards ? out_ : in_).push_back(copies);
    return copies;
  }
  void do_finish_copies(const Copies& copies) override {
    auto& queue = static_cast<const Started&>(copies).outwards ? out_ : in_;
    const auto is_it = [&](const auto& started) { return started.get() == &copies; };
    if (std::none_of(queue.begin(), queue.end(), is_it)) return;
    for (bool done = false; !done;) {
      const std::shared_ptr<Started> first = queue.front();
      for (const std::shared_ptr<Copies>& other : first->after) do_finish_copies(*other);
      ReferenceOperations::do_start_copies({}, first->pairs, {}, nullptr);
      queue.pop_front();
      done = first.get() == &copies;
    }
  }

 private:
  struct Started final : Copies {
    std::vector<CopyPair> pairs;
    std::vector<std::shared_ptr<Copies>> after;
    bool outwards = false;
  };
  std::set<const Storage*> host_;
  std::vector<Tensor> kept_;
  std::deque<std::shared_ptr<Started>> in_, out_;
};

// Windows are told apart by their values.
void fill(const KvCache& cache, std::int64_t slot, int number) {
  const KvCache::Window window = cache.window_at(slot);
  for (const Tensor* x : {&window.k, &window.v, &window.k_means}) {
    std::fill_n(x->mutable_data<float>(), x->elements(), static_cast<float>(number));
  }
}

bool holds(const KvCache& cache, std::int64_t slot, int number) {
  const KvCache::Window window = cache.window_at(slot);
  for (const Tensor* x : {&window.k, &window.v, &window.k_means}) {
    const float* values = x->data<float>();
    if (std::any_of(values, values + x->elements(), [&](float value) { return value != static_cast<float>(number); })) {
      return false;
    }
  }
  return true;
}

// No slot has two windows, and none is lost.
void expect_all_slots(const KvCache& cache) {
  std::multiset<std::int64_t> slots(cache.free_slots.begin(), cache.free_slots.end());
  for (const KvCache::Leaving& leaving : cache.leaving) slots.insert(leaving.slot);
  for (const KvCache::Layer& layer : cache.layers) {
    for (const KvCache::Window& window : layer.windows) {
      if (window.slot != KvCache::kNowhere) slots.insert(window.slot);
    }
  }
  EXPECT_EQ(static_cast<std::int64_t>(slots.size()) * kBlocks, cache.k.dim(0));
  EXPECT_EQ(std::set<std::int64_t>(slots.begin(), slots.end()).size(), slots.size());
}

// Every layer sees its own newest windows, in order, wherever they lie.
void run_chunks(std::int64_t layers, std::int64_t kept, std::int64_t first, std::int64_t spilled) {
  SCOPED_TRACE(
      fmt::format("{} layers keep {} windows, the first chunk has {}, {} are spilled", layers, kept, first, spilled));
  LateOperations operations;
  KvCache cache = make_kv_cache(operations, layers, kBlocks, kDim, kept, first, spilled);
  EXPECT_EQ(cache.k.dim(0), kv_cache_slots(layers, kept, first, spilled) * kBlocks);
  std::vector<std::vector<int>> windows(static_cast<std::size_t>(layers));
  int next = 0;
  for (int chunk = 0; chunk < 10; ++chunk) {
    cache.begin_chunk(chunk == 0 ? first : 1);
    for (std::size_t layer = 0; layer < windows.size(); ++layer) {
      cache.append(operations, layer, cache.new_windows);
      for (const std::int64_t slot : cache.newest_slots(layer, cache.new_windows)) {
        fill(cache, slot, next);
        windows[layer].push_back(next++);
      }
      const std::vector<std::int64_t> slots = cache.view(layer).slots;
      const std::size_t expected = std::min(windows[layer].size(), static_cast<std::size_t>(kept + cache.new_windows));
      ASSERT_EQ(slots.size(), chunk == 0 ? windows[layer].size() : expected);
      for (std::size_t i = 0; i < slots.size(); ++i) {
        ASSERT_TRUE(holds(cache, slots[i], windows[layer][windows[layer].size() - slots.size() + i]))
            << "chunk " << chunk << ", layer " << layer << ", window " << i;
      }
      cache.release(operations, layer);
      expect_all_slots(cache);
    }
    EXPECT_EQ(cache.kept_blocks(), std::min(kept, first + chunk) * kBlocks);
  }
}

TEST(KvCache, LayersShareThePool) {
  for (const std::int64_t layers : {1, 2, 5}) {
    for (const std::int64_t kept : {1, 2, 3, 7}) {
      for (const std::int64_t first : {1, 3}) run_chunks(layers, kept, first, 0);
    }
  }
}

TEST(KvCache, SpilledWindowsComeBack) {
  for (const std::int64_t layers : {1, 2, 5}) {
    for (const std::int64_t kept : {1, 2, 3, 7}) {
      for (const std::int64_t first : {1, 3}) {
        for (std::int64_t spilled = 1; spilled <= layers * kept; ++spilled) run_chunks(layers, kept, first, spilled);
      }
    }
  }
}

// A window goes to the host once, and comes back once a chunk until it is forgotten.
TEST(KvCache, NoWindowIsCopiedMoreOftenThanNeeded) {
  class CountingOperations final : public ReferenceOperations {
   public:
    CountingOperations() : ReferenceOperations({}) {}
    Tensor host_memory(const Shape& shape, DType type) override {
      ++hosts;
      return ReferenceOperations::host_memory(shape, type);
    }
    std::shared_ptr<Copies> do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                            std::span<const std::shared_ptr<Copies>> after, CopyMarks* marks) override {
      copies += static_cast<int>(pairs.size());
      return ReferenceOperations::do_start_copies(direction, pairs, after, marks);
    }
    int hosts = 0, copies = 0;
  } operations;
  constexpr std::int64_t kLayers = 4, kKept = 3;
  KvCache cache = make_kv_cache(operations, kLayers, kBlocks, kDim, kKept, 3, 2 * kLayers);
  for (int chunk = 0; chunk < 6; ++chunk) {
    operations.copies = 0;
    cache.begin_chunk(chunk == 0 ? 3 : 1);
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      cache.append(operations, layer, cache.new_windows);
      cache.release(operations, layer);
    }
    // Two windows of a layer go, and the first two layers' come back; later two of a layer come, and one goes. Each is
    // k, v and means.
    EXPECT_EQ(operations.copies, 3 * (chunk == 0 ? 2 * kLayers + 4 : 3 * kLayers));
  }
  EXPECT_EQ(operations.hosts, 3 * 2 * kLayers);
}

// Milliseconds of a device that computes, receives and sends at the same time, each in the order of what was issued.
class TimedOperations final : public ReferenceOperations {
 public:
  explicit TimedOperations(double window) : ReferenceOperations({}), window_(window) {}

  void compute(double duration) { now += duration; }

  double now = 0;      // of what computes
  double least = 1e9;  // between the start of copies and computing that waits for them
  int departures = 0;  // that computing waited for

 protected:
  std::shared_ptr<Copies> do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                          std::span<const std::shared_ptr<Copies>> after, CopyMarks*) override {
    const bool outwards = direction == CopyDirection::to_host;
    double& end = outwards ? sent_ : received_;
    end = std::max(end, now);
    for (const std::shared_ptr<Copies>& copies : after) end = std::max(end, static_cast<const Timed&>(*copies).end);
    end += window_ * static_cast<double>(pairs.size()) / 3;
    const auto started = std::make_shared<Timed>();
    started->start = now;
    started->end = end;
    started->outwards = outwards;
    return started;
  }
  void do_finish_copies(const Copies& copies) override {
    const auto& timed = static_cast<const Timed&>(copies);
    least = std::min(least, now - timed.start);
    departures += timed.outwards ? 1 : 0;
    now = std::max(now, timed.end);
  }

 private:
  struct Timed final : Copies {
    double start = 0, end = 0;
    bool outwards = false;
  };
  const double window_;
  double received_ = 0, sent_ = 0;  // when what was started will be done
};

// As long as a layer's windows come in the time that the layer takes, computing is not held up: it waits for no window
// that leaves, and for those that come a whole layer after they began to.
TEST(KvCache, CopiesHideBehindLayers) {
  constexpr std::int64_t kLayers = 30, kKept = 3;
  constexpr double kProjections = 0.7, kAttention = 1.2, kRest = 1.8, kDecoder = 20;
  constexpr double kLayer = kProjections + kAttention + kRest, kChunk = kLayers * kLayer + kDecoder;
  for (const std::int64_t spilled : {1, 29, 30, 31, 59, 60, 61, 89, 90}) {
    SCOPED_TRACE(fmt::format("{} windows are spilled", spilled));
    const auto of_layer = static_cast<double>((spilled + kLayers - 1) / kLayers);
    TimedOperations operations(0.98 * kLayer / of_layer);
    KvCache cache = make_kv_cache(operations, kLayers, kBlocks, kDim, kKept, 3, spilled);
    for (int chunk = 0; chunk < 6; ++chunk) {
      const double begin = operations.now;
      operations.least = 1e9;
      operations.departures = 0;
      cache.begin_chunk(chunk == 0 ? 3 : 1);
      for (std::size_t layer = 0; layer < kLayers; ++layer) {
        operations.compute(kProjections);
        cache.append(operations, layer, cache.new_windows);
        operations.compute(kAttention);
        cache.release(operations, layer);
        operations.compute(kRest);
      }
      operations.compute(kDecoder);
      if (chunk < 2) continue;
      EXPECT_NEAR(operations.now - begin, kChunk, 1e-9) << "chunk " << chunk;
      EXPECT_GE(operations.least, kLayer) << "chunk " << chunk;
      EXPECT_EQ(operations.departures, 0) << "chunk " << chunk;
    }
  }
}

// Tiles of a frame: one pool, each cache its own windows.
TEST(KvCache, SiblingsTakeTurnsWithTheirSlots) {
  for (const std::int64_t kept : {1, 2, 3}) {
    for (const std::int64_t first : {1, 3}) {
      constexpr std::int64_t kLayers = 3;
      LateOperations operations;
      std::vector<KvCache> caches;
      caches.push_back(make_kv_cache(operations, kLayers, kBlocks, kDim, kept, first, kLayers * kept));
      const std::int64_t blocks = caches[0].k.dim(0);
      caches.push_back(caches[0].sibling());
      caches.push_back(caches[0].sibling());
      std::vector<std::vector<int>> windows(kLayers * caches.size());
      int next = 0;
      for (int chunk = 0; chunk < 6; ++chunk) {
        for (std::size_t i = 0; i < caches.size(); ++i) {
          KvCache& cache = caches[i];
          if (!cache.k) cache.take_slots(caches[(i + caches.size() - 1) % caches.size()]);
          ASSERT_EQ(cache.k.dim(0), blocks);
          cache.begin_chunk(chunk == 0 ? first : 1);
          for (std::size_t layer = 0; layer < kLayers; ++layer) {
            std::vector<int>& expected = windows[i * kLayers + layer];
            cache.append(operations, layer, cache.new_windows);
            for (const std::int64_t slot : cache.newest_slots(layer, cache.new_windows)) {
              fill(cache, slot, next);
              expected.push_back(next++);
            }
            const std::vector<std::int64_t> slots = cache.view(layer).slots;
            ASSERT_EQ(slots.size(),
                      chunk == 0 ? expected.size() : std::min(expected.size(), static_cast<std::size_t>(kept + 1)));
            for (std::size_t w = 0; w < slots.size(); ++w) {
              ASSERT_TRUE(holds(cache, slots[w], expected[expected.size() - slots.size() + w]))
                  << "chunk " << chunk << ", cache " << i << ", layer " << layer << ", window " << w;
            }
            cache.release(operations, layer);
            expect_all_slots(cache);
          }
        }
      }
    }
  }
}

TEST(KvCache, SlotsAreSharedBetweenChunksAlone) {
  ReferenceOperations operations({});
  KvCache resident = make_kv_cache(operations, 2, kBlocks, kDim, 1, 3, 1);
  EXPECT_THROW(resident.sibling(), Error);
  KvCache cache = make_kv_cache(operations, 2, kBlocks, kDim, 1, 3, 2),
          alone = make_kv_cache(operations, 2, kBlocks, kDim, 1, 3, 2);
  KvCache sibling = cache.sibling();
  EXPECT_THROW(cache.take_slots(sibling), Error);
  EXPECT_THROW(sibling.take_slots(alone), Error);
  cache.begin_chunk(3);
  cache.append(operations, 0, 3);
  EXPECT_THROW(sibling.take_slots(cache), Error);
  cache.release(operations, 0);
  sibling.take_slots(cache);
  EXPECT_FALSE(cache.k);
}

// The published model's: 30 layers of 3 windows and one more.
TEST(KvCache, HasOneSlotMoreThanWindowsAreKept) {
  EXPECT_EQ(kv_cache_slots(30, 3, 3), 91);
  EXPECT_EQ(kv_cache_slots(30, 2, 3), 61);
  EXPECT_EQ(kv_cache_slots(1, 1, 3), 3);
  EXPECT_EQ(kv_cache_slots(30, 5, 3), 151);
  // Room for one window of each of two layers, one that leaves and the new one.
  EXPECT_EQ(kv_cache_slots(30, 3, 3, 30), 64);
  EXPECT_EQ(kv_cache_slots(30, 3, 3, 90), 8);
}

TEST(KvCache, RefusesWhatDoesNotFit) {
  ReferenceOperations operations({});
  KvCache cache = make_kv_cache(operations, 2, kBlocks, kDim, 1, 3);
  cache.begin_chunk(3);
  cache.append(operations, 0, 3);
  // The first layer was not released.
  EXPECT_THROW(cache.append(operations, 1, 3), Error);
  EXPECT_THROW(cache.begin_chunk(1), Error);
  EXPECT_THROW(make_kv_cache(operations, 2, kBlocks, kDim, 1, 3, 3), Error);
}

}  // namespace
}  // namespace flashvsr::ops
