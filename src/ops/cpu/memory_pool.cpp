#include "ops/cpu/memory_pool.h"

#include "core/physical_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) (static_cast<void>(address), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) (static_cast<void>(address), static_cast<void>(bytes))
#endif

namespace flashvsr::ops {
namespace {

constexpr std::size_t kAlignment = 64;
// Smaller tensors (modulation rows, lists) come from the heap: long-lived ones would split the large free ranges.
constexpr std::size_t kSmall = std::size_t{16} << 10;
constexpr std::size_t kGrowth = std::size_t{16} << 20;
constexpr std::size_t kLeastReserved = std::size_t{64} << 20;
// A few chunks' worth: no network uses its large tensors less often than that.
constexpr std::size_t kTrimInterval = 8192;

std::size_t round_up(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

[[noreturn]] void fail_allocation(std::size_t bytes, std::size_t in_use) {
  fail(ErrorCode::out_of_memory,
       "cannot allocate {:.1f} MB with {:.1f} MB in use: use a smaller output size, or free memory",
       static_cast<double>(bytes) / 1e6, static_cast<double>(in_use) / 1e6);
}

}  // namespace

class MemoryPool::Block final : public Storage {
 public:
  Block(std::shared_ptr<MemoryPool> pool, std::size_t offset, std::size_t bytes)
      : Storage(pool->base_ + offset, bytes), pool_(std::move(pool)), offset_(offset) {}
  ~Block() override { pool_->give_back(offset_, bytes()); }

 private:
  std::shared_ptr<MemoryPool> pool_;
  std::size_t offset_;
};

class MemoryPool::SmallBlock final : public Storage {
 public:
  SmallBlock(std::shared_ptr<MemoryPool> pool, std::size_t bytes)
      : Storage(::operator new (bytes, std::align_val_t{kAlignment}), bytes), pool_(std::move(pool)) {
    const std::scoped_lock lock(pool_->mutex_);
    pool_->count_allocation(bytes);
  }
  ~SmallBlock() override {
    ::operator delete (data(), std::align_val_t{kAlignment});
    const std::scoped_lock lock(pool_->mutex_);
    pool_->count_release(bytes());
  }

 private:
  std::shared_ptr<MemoryPool> pool_;
};

MemoryPool::MemoryPool(std::byte* base, std::size_t reserved) : base_(base), reserved_(reserved) {}

std::shared_ptr<MemoryPool> MemoryPool::create() {
  // Addresses without access cost nothing; a limit on addresses may still allow only a part of them.
  for (std::size_t bytes = round_up(physical_memory().value_or(kLeastReserved), kGrowth); bytes >= kLeastReserved;
       bytes = round_up(bytes / 2, kGrowth)) {
    void* base = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED) return std::shared_ptr<MemoryPool>(new MemoryPool(static_cast<std::byte*>(base), bytes));
  }
  fail(ErrorCode::out_of_memory, "cannot reserve {} MB of addresses: raise the limit of virtual memory (ulimit -v)",
       kLeastReserved >> 20);
}

MemoryPool::~MemoryPool() {
  ASAN_UNPOISON_MEMORY_REGION(base_, usable_);
  munmap(base_, reserved_);
}

std::shared_ptr<Storage> MemoryPool::allocate(std::size_t bytes) {
  const std::size_t rounded = round_up(std::max<std::size_t>(bytes, 1), kAlignment);
  try {
    if (rounded <= kSmall) return std::make_shared<SmallBlock>(shared_from_this(), rounded);
    const std::size_t offset = take(rounded);
    return std::make_shared<Block>(shared_from_this(), offset, rounded);
  } catch (const std::bad_alloc&) {
    fail_allocation(bytes, in_use());
  }
}

std::size_t MemoryPool::take(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  const std::size_t offset = ranges_.take(bytes, [this, bytes](std::size_t end) {
    // `end` may have wrapped around.
    if (bytes > reserved_ || end > reserved_) fail_allocation(bytes, in_use_);
    grow_to(end);
  });
  ASAN_UNPOISON_MEMORY_REGION(base_ + offset, bytes);
  count_allocation(bytes);
  return offset;
}

void MemoryPool::grow_to(std::size_t end) {
  if (end <= usable_) return;
  const std::size_t target = std::min(round_up(end, kGrowth), reserved_);
  if (mprotect(base_ + usable_, target - usable_, PROT_READ | PROT_WRITE) != 0)
    fail_allocation(end - ranges_.end(), in_use_);
  // Fewer page faults and TLB misses; where the system does not offer it, nothing is lost.
  madvise(base_ + usable_, target - usable_, MADV_HUGEPAGE);
  ASAN_POISON_MEMORY_REGION(base_ + usable_, target - usable_);
  usable_ = target;
}

void MemoryPool::give_back(std::size_t offset, std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  ASAN_POISON_MEMORY_REGION(base_ + offset, bytes);
  ranges_.give_back(offset, bytes);
  count_release(bytes);
}

void MemoryPool::count_allocation(std::size_t bytes) {
  in_use_ += bytes;
  peak_ = std::max(peak_, in_use_);
  recent_peak_ = std::max(recent_peak_, in_use_);
  if (++recent_allocations_ < kTrimInterval) return;
  if (recent_peak_ < ranges_.end() / 2) trim_locked();
  recent_peak_ = in_use_;
  recent_allocations_ = 0;
}

void MemoryPool::count_release(std::size_t bytes) {
  in_use_ -= bytes;
  if (in_use_ == 0) trim_locked();
}

void MemoryPool::trim_locked() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  for (const auto& [offset, bytes] : ranges_.free_ranges()) {
    const std::size_t begin = round_up(offset, page), end = (offset + bytes) / page * page;
    if (begin < end) madvise(base_ + begin, end - begin, MADV_DONTNEED);
  }
  ranges_.trim();
}

void MemoryPool::trim() {
  const std::scoped_lock lock(mutex_);
  trim_locked();
}

std::size_t MemoryPool::in_use() const {
  const std::scoped_lock lock(mutex_);
  return in_use_;
}

std::size_t MemoryPool::peak() const {
  const std::scoped_lock lock(mutex_);
  return peak_;
}

std::size_t MemoryPool::held() const {
  const std::scoped_lock lock(mutex_);
  return ranges_.end();
}

}  // namespace flashvsr::ops
