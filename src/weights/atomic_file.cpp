#include "weights/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace flashvsr::weights {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

std::filesystem::path temporary_name(const std::filesystem::path& path) {
  static std::atomic<unsigned> next{0};
  return folder_of(path) / fmt::format(".{}.{}-{}.tmp", path.filename().string(), ::getpid(), next.fetch_add(1));
}

std::string link_of(int descriptor) { return fmt::format("/proc/self/fd/{}", descriptor); }

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path, std::uint64_t bytes, bool overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) fail(ErrorCode::io, "{}: is a folder; give the name of a file", path_.string());
    if (!S_ISREG(status.st_mode)) fail(ErrorCode::io, "{}: is not a regular file", path_.string());
    if (!overwrite_) fail_with("cannot be created", EEXIST);
  }
  open(folder_of(path_));
  try {
    // Not every file system can reserve; those show a full disk when written to.
    if (bytes > 0 && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
      fail_with("cannot be written", errno);
    }
  } catch (...) {
    ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    throw;
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::open(const std::filesystem::path& folder) {
  // A file without a name can only be given one through /proc.
  descriptor_ = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (descriptor_ >= 0 && ::access(link_of(descriptor_).c_str(), F_OK) == 0) return;
  if (descriptor_ >= 0) ::close(descriptor_);
  temporary_ = temporary_name(path_);
  descriptor_ = ::open(temporary_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    temporary_.clear();
    fail_with("cannot be created", errno);
  }
}

void AtomicFile::write(Bytes bytes) {
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 26;
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMostAtOnce));
    if (written < 0 && errno != EINTR) fail_with("cannot be written", errno);
    if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_with("cannot be written", errno);
  if (temporary_.empty()) {
    const std::string source = link_of(descriptor_);
    if (!overwrite_) {
      if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
        fail_with("cannot be created", errno);
      }
    } else {
      temporary_ = temporary_name(path_);
      if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
        const int reason = errno;
        temporary_.clear();
        fail_with("cannot be created", reason);
      }
    }
  } else if (!overwrite_ && ::access(path_.c_str(), F_OK) == 0) {
    fail_with("cannot be created", EEXIST);
  }
  if (!temporary_.empty()) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with("cannot be replaced", errno);
    temporary_.clear();
  }
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0) fail_with("cannot be written", errno);
  // The new name, too, shall survive a power cut; not every file system lets a folder be synchronised.
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

void AtomicFile::fail_with(const char* what, int reason) const {
  if (reason == EEXIST) fail(ErrorCode::io, "{}: exists already; --overwrite replaces it", path_.string());
  fail(ErrorCode::io, "{}: {}: {}", path_.string(), what, std::strerror(reason));
}

}  // namespace flashvsr::weights
