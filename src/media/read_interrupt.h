// Ends a read from a pipe that waits for input.
#pragma once

#include "media/file_io.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace flashvsr::media {

class ReadInterrupt {
 public:
  // Throws Error(io) if the process has no descriptor left.
  ReadInterrupt();

  // From now on nothing is read. May be called from any thread.
  void raise() noexcept;
  bool raised() const noexcept;

  // Waits for at least one byte and reads at most `bytes`; 0 at the end. -1 with errno set, which is ECANCELED after
  // raise().
  std::int64_t read_some(int descriptor, void* data, std::size_t bytes) const noexcept;
  // Reads until `bytes` are there or the input ends; otherwise likewise.
  std::int64_t read_all(int descriptor, void* data, std::size_t bytes) const noexcept;

 private:
  FileDescriptor event_;
};

}  // namespace flashvsr::media
