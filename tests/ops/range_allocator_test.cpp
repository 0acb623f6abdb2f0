#include "ops/range_allocator.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace flashvsr::ops {
namespace {

const auto kGrow = [](std::size_t) {};

TEST(RangeAllocator, TakesTheLowestRangeThatIsLargeEnough) {
  RangeAllocator ranges;
  for (const std::size_t offset : {0, 10, 20, 30, 40}) EXPECT_EQ(ranges.take(10, kGrow), offset);
  ranges.give_back(10, 10);
  ranges.give_back(30, 10);
  EXPECT_EQ(ranges.take(4, kGrow), 10U);
  EXPECT_EQ(ranges.take(8, kGrow), 30U);
  EXPECT_EQ(ranges.take(6, kGrow), 14U);
  EXPECT_EQ(ranges.take(3, kGrow), 50U);
}

TEST(RangeAllocator, FreedNeighboursMergeAndTheLastOneGrows) {
  RangeAllocator ranges;
  for (int i = 0; i < 4; ++i) ranges.take(10, kGrow);
  ranges.give_back(10, 10);
  ranges.give_back(30, 10);
  ranges.give_back(20, 10);
  EXPECT_EQ(ranges.free_ranges(), (std::map<std::size_t, std::size_t>{{10, 30}}));
  std::size_t end = 0;
  EXPECT_EQ(ranges.take(35, [&](std::size_t needed) { end = needed; }), 10U);
  EXPECT_EQ(end, 45U);
  EXPECT_EQ(ranges.end(), 45U);
  EXPECT_TRUE(ranges.free_ranges().empty());
}

TEST(RangeAllocator, NothingChangesIfItCannotGrow) {
  RangeAllocator ranges;
  ranges.take(10, kGrow);
  ranges.take(10, kGrow);
  ranges.give_back(10, 10);
  EXPECT_THROW(ranges.take(11, [](std::size_t) { fail(ErrorCode::out_of_memory, "full"); }), Error);
  EXPECT_EQ(ranges.end(), 20U);
  EXPECT_EQ(ranges.take(10, kGrow), 10U);
}

TEST(RangeAllocator, TrimEndsBehindTheLastRangeInUse) {
  RangeAllocator ranges;
  ranges.take(10, kGrow);
  ranges.take(10, kGrow);
  ranges.trim();
  EXPECT_EQ(ranges.end(), 20U);
  ranges.give_back(10, 10);
  ranges.trim();
  EXPECT_EQ(ranges.end(), 10U);
  EXPECT_TRUE(ranges.free_ranges().empty());
}

// No two ranges overlap, and all of them together with the free ones are the space.
TEST(RangeAllocator, RangesAreApart) {
  RangeAllocator ranges;
  std::mt19937 random(3);
  std::map<std::size_t, std::size_t> used;
  for (int step = 0; step < 5000; ++step) {
    if (used.size() < 40 && random() % 2 == 0) {
      const std::size_t bytes = 1 + random() % 100;
      EXPECT_TRUE(used.emplace(ranges.take(bytes, kGrow), bytes).second);
    } else if (!used.empty()) {
      const auto victim = std::next(used.begin(), static_cast<std::ptrdiff_t>(random() % used.size()));
      ranges.give_back(victim->first, victim->second);
      used.erase(victim);
    }
    std::map<std::size_t, std::size_t> all = used;
    all.insert(ranges.free_ranges().begin(), ranges.free_ranges().end());
    ASSERT_EQ(all.size(), used.size() + ranges.free_ranges().size());
    std::size_t end = 0;
    for (const auto& [offset, bytes] : all) {
      ASSERT_EQ(offset, end);
      end = offset + bytes;
    }
    ASSERT_EQ(end, ranges.end());
  }
}

}  // namespace
}  // namespace flashvsr::ops
