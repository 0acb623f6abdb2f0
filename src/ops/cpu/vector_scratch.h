// Working memory of the threads of our kernels.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace flashvsr::ops {

// At least `bytes` bytes, 64-byte aligned, of the calling thread alone; kept until the thread ends. The next call on
// the same thread takes it back.
inline std::byte* thread_scratch(std::size_t bytes) {
  constexpr std::align_val_t kAlignment{64};
  struct Release {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };
  thread_local std::unique_ptr<std::byte, Release> memory;
  thread_local std::size_t size = 0;
  if (size < bytes) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
    size = bytes;
  }
  return memory.get();
}

}  // namespace flashvsr::ops
