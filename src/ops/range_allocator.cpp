#include "ops/range_allocator.h"

#include <iterator>

namespace flashvsr::ops {

std::size_t RangeAllocator::take(std::size_t bytes, const std::function<void(std::size_t end)>& grow) {
  for (auto range = free_ranges_.begin(); range != free_ranges_.end(); ++range) {
    const auto [offset, size] = *range;
    if (size < bytes) continue;
    free_ranges_.erase(range);
    if (size > bytes) free_ranges_.emplace(offset + bytes, size - bytes);
    return offset;
  }
  // A free range at the end is extended.
  std::size_t offset = end_;
  if (!free_ranges_.empty()) {
    const auto last = std::prev(free_ranges_.end());
    if (last->first + last->second == end_) offset = last->first;
  }
  grow(offset + bytes);
  if (offset != end_) free_ranges_.erase(offset);
  end_ = offset + bytes;
  return offset;
}

void RangeAllocator::give_back(std::size_t offset, std::size_t bytes) {
  auto next = free_ranges_.lower_bound(offset);
  if (next != free_ranges_.end() && next->first == offset + bytes) {
    bytes += next->second;
    next = free_ranges_.erase(next);
  }
  if (next != free_ranges_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      previous->second += bytes;
      return;
    }
  }
  free_ranges_.emplace_hint(next, offset, bytes);
}

void RangeAllocator::trim() {
  if (free_ranges_.empty()) return;
  const auto last = std::prev(free_ranges_.end());
  if (last->first + last->second != end_) return;
  end_ = last->first;
  free_ranges_.erase(last);
}

}  // namespace flashvsr::ops
