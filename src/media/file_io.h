// Plain files and pipes: whole reads and writes, and what went wrong in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace flashvsr::media {

// A file descriptor that is closed when it goes out of scope.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  int get() const { return descriptor_; }
  int release() noexcept;
  // Closes now; returns errno or 0.
  int close() noexcept;

 private:
  int descriptor_ = -1;
};

// "the disk is full", "permission denied", ...
std::string describe_errno(int error);

// Writes all of it; returns errno or 0. A pipe without a reader gives EPIPE, no signal.
int write_all(int descriptor, const void* data, std::size_t bytes) noexcept;

// Reads until `bytes` are there or the input ends; returns how many there are, or -1 with errno set.
std::int64_t read_all(int descriptor, void* data, std::size_t bytes) noexcept;

// The contents of a file of at most `limit` bytes. Throws Error(io), or Error(unsupported) if it is larger.
std::vector<std::uint8_t> read_file(const std::string& path, std::size_t limit);

// Opens for reading. Throws Error(io) with the reason: not there, a folder, no permission.
FileDescriptor open_for_reading(const std::string& path);

// The part after the last dot of the file name, in lower case, without the dot; empty if there is none.
std::string extension_of(const std::string& path);

}  // namespace flashvsr::media
