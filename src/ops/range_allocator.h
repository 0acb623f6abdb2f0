// Ranges of one address space that grows at its end: where the tensors of a memory pool lie.
#pragma once

#include <cstddef>
#include <functional>
#include <map>

namespace flashvsr::ops {

// Freed ranges merge with their neighbours and are used again for any size, so that a pool which does the same again
// and again soon stops growing. Not thread-safe.
class RangeAllocator {
 public:
  // The lowest free range that is large enough: of several rules the one that leaves the smallest gaps in streams. If
  // there is none the space grows: `grow` is called first with its new end, and nothing has changed if it throws.
  std::size_t take(std::size_t bytes, const std::function<void(std::size_t end)>& grow);
  void give_back(std::size_t offset, std::size_t bytes);
  // Ends the space where its last range in use ends.
  void trim();

  // [0, end()) is in use or free.
  std::size_t end() const { return end_; }
  // offset -> bytes; no two of them touch.
  const std::map<std::size_t, std::size_t>& free_ranges() const { return free_ranges_; }

 private:
  std::map<std::size_t, std::size_t> free_ranges_;
  std::size_t end_ = 0;
};

}  // namespace flashvsr::ops
