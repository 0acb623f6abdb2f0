#include "ops/cpu/memory_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <random>
#include <set>
#include <vector>

namespace flashvsr::ops {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST(MemoryPool, CountsWhatIsAlive) {
  const auto pool = MemoryPool::create();
  auto a = pool->allocate(3 * kMegabyte), b = pool->allocate(100);
  EXPECT_EQ(pool->in_use(), 3 * kMegabyte + 128);  // rounded to 64 bytes
  a.reset();
  EXPECT_EQ(pool->in_use(), 128u);
  EXPECT_EQ(pool->peak(), 3 * kMegabyte + 128);
  b.reset();
  EXPECT_EQ(pool->in_use(), 0u);
  EXPECT_EQ(pool->held(), 0u);
}

TEST(MemoryPool, BlocksAreAlignedAndApart) {
  const auto pool = MemoryPool::create();
  std::mt19937 random(1);
  std::vector<std::shared_ptr<Storage>> blocks;
  for (int i = 0; i < 2000; ++i) {
    if (blocks.size() > 30 || (!blocks.empty() && random() % 3 == 0)) {
      const std::size_t index = random() % blocks.size();
      // Its contents are still those that were written.
      const auto* data = static_cast<const unsigned char*>(blocks[index]->data());
      const auto mark = static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(data) >> 6);
      ASSERT_EQ(data[0], mark);
      ASSERT_EQ(data[blocks[index]->bytes() - 1], mark);
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(index));
      continue;
    }
    blocks.push_back(pool->allocate(1 + random() % (random() % 2 == 0 ? 2000 : 300000)));
    const auto address = reinterpret_cast<std::uintptr_t>(blocks.back()->data());
    ASSERT_EQ(address % 64, 0u);
    std::memset(blocks.back()->data(), static_cast<int>((address >> 6) & 255), blocks.back()->bytes());
  }
  blocks.clear();
  EXPECT_EQ(pool->in_use(), 0u);
}

// The same sequence of tensors again and again: neither growth nor page faults, and little waste.
TEST(MemoryPool, SteadyStateIsFlat) {
  const auto pool = MemoryPool::create();
  const auto state = pool->allocate(5 * kMegabyte);
  const auto chunk = [&] {
    for (const std::size_t size : {7 * kMegabyte, 3 * kMegabyte, 11 * kMegabyte, 2 * kMegabyte + 64}) {
      const auto input = pool->allocate(size);
      std::memset(input->data(), 1, input->bytes());
      const auto wide = pool->allocate(2 * size), narrow = pool->allocate(size / 2);
      std::memset(wide->data(), 2, wide->bytes());
      std::memset(narrow->data(), 3, narrow->bytes());
    }
  };
  chunk();
  const std::size_t held = pool->held();
  EXPECT_LE(held, pool->peak() + pool->peak() / 4);
  const long before = page_faults();
  for (int i = 0; i < 50; ++i) chunk();
  EXPECT_EQ(pool->held(), held);
  EXPECT_LT(page_faults() - before, 100);  // one chunk alone touches more than ten thousand pages
}

TEST(MemoryPool, FreedRangesServeOtherSizes) {
  const auto pool = MemoryPool::create();
  const auto anchor = pool->allocate(kMegabyte);
  {
    std::vector<std::shared_ptr<Storage>> parts;
    for (int i = 0; i < 10; ++i) parts.push_back(pool->allocate(kMegabyte));
  }
  const std::size_t held = pool->held();
  const auto whole = pool->allocate(10 * kMegabyte);
  EXPECT_EQ(pool->held(), held);
}

TEST(MemoryPool, ShrinksWhenMuchLessIsNeeded) {
  const auto pool = MemoryPool::create();
  const auto small = pool->allocate(kMegabyte);
  pool->allocate(100 * kMegabyte);
  EXPECT_GE(pool->held(), 100 * kMegabyte);
  for (int i = 0; i < 20000; ++i) pool->allocate(kMegabyte);
  EXPECT_LE(pool->held(), 2 * kMegabyte);
}

TEST(MemoryPool, TooMuchIsAClearError) {
  const auto pool = MemoryPool::create();
  try {
    pool->allocate(std::size_t{1} << 60);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_NE(std::string(error.what()).find("MB"), std::string::npos);
  }
  EXPECT_EQ(pool->in_use(), 0u);
  EXPECT_NE(pool->allocate(kMegabyte), nullptr);  // and the pool goes on
}

}  // namespace
}  // namespace flashvsr::ops
