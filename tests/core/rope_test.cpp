#include "core/rope.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashvsr {
namespace {

TEST(Rope, SplitsAHeadAmongTheAxes) {
  const RopeSplit published = rope_split(128);
  EXPECT_EQ(published.time, 44);
  EXPECT_EQ(published.height, 42);
  EXPECT_EQ(published.width, 42);
  const RopeSplit smallest = rope_split(2);
  EXPECT_EQ(smallest.time, 2);
  EXPECT_EQ(smallest.height, 0);
  for (std::int64_t head_dim = 2; head_dim <= 256; head_dim += 2) {
    const RopeSplit split = rope_split(head_dim);
    EXPECT_EQ(split.time + split.height + split.width, head_dim);
    EXPECT_EQ(split.height % 2, 0);
    EXPECT_EQ(split.time % 2, 0);
  }
  EXPECT_THROW(rope_split(5), Error);
  EXPECT_THROW(rope_split(0), Error);
}

TEST(Rope, AnglesFollowTheAbsolutePosition) {
  const RopeTables tables = rope_tables(128, 7, 2, 16, 24);
  ASSERT_EQ(tables.time.pairs, 22);
  ASSERT_EQ(tables.time.cosines.size(), 2u * 22);
  ASSERT_EQ(tables.width.sines.size(), 24u * 21);
  EXPECT_DOUBLE_EQ(tables.time.cosines[0], std::cos(7.0));
  EXPECT_DOUBLE_EQ(tables.time.sines[22 + 3], std::sin(8.0 * std::pow(1e4, -6.0 / 44)));
  EXPECT_DOUBLE_EQ(tables.height.cosines[5 * 21 + 20], std::cos(5.0 * std::pow(1e4, -40.0 / 42)));
  EXPECT_EQ(tables.height.cosines[0], 1.0);
  EXPECT_EQ(tables.width.sines[0], 0.0);
}

// The published table ends at position 1023; here the addition theorem holds at any distance.
TEST(Rope, HasNoLimitOfLength) {
  const std::int64_t far = std::int64_t{1} << 24;
  const RopeAxis near_axis = rope_axis(1, 1, 44), far_axis = rope_axis(far, 2, 44);
  for (std::size_t pair = 0; pair < 22; ++pair) {
    const double cosine =
        far_axis.cosines[pair] * near_axis.cosines[pair] - far_axis.sines[pair] * near_axis.sines[pair];
    // An angle of 2^24 rounds to 2^-29.
    EXPECT_NEAR(far_axis.cosines[22 + pair], cosine, 4 * 0x1p-29);
  }
}

}  // namespace
}  // namespace flashvsr
