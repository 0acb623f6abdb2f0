#include "media/file_io.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <system_error>
#include <utility>

namespace flashvsr::media {

namespace {

// Keeps SIGPIPE from killing the process while this thread writes: it is not ours to change for the whole process.
class BlockedPipeSignal {
 public:
  BlockedPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &previous_);
  }
  ~BlockedPipeSignal() {
    const int saved_errno = errno;
    sigset_t pending;
    sigpending(&pending);
    if (!was_pending_ && sigismember(&pending, SIGPIPE) == 1) {
      const timespec no_wait{0, 0};
      while (sigtimedwait(&pipe_, nullptr, &no_wait) == -1 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
    errno = saved_errno;
  }
  BlockedPipeSignal(const BlockedPipeSignal&) = delete;
  BlockedPipeSignal& operator=(const BlockedPipeSignal&) = delete;

 private:
  sigset_t pipe_{}, previous_{};
  bool was_pending_ = false;
};

}  // namespace

FileDescriptor::~FileDescriptor() { close(); }

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() noexcept { return std::exchange(descriptor_, -1); }

int FileDescriptor::close() noexcept {
  if (descriptor_ < 0) return 0;
  return ::close(release()) == 0 ? 0 : errno;
}

std::string describe_errno(int error) {
  switch (error) {
    case ENOSPC: return "the disk is full";
    case EDQUOT: return "the disk quota is used up";
    case EPIPE: return "whatever read the output has closed it";
    case ENOENT: return "there is no such file or folder";
    case EACCES:
    case EPERM: return "permission denied";
    case EROFS: return "the file system is read-only";
    case EISDIR: return "it is a folder";
    case ENOTDIR: return "a part of the path is not a folder";
    case EFBIG: return "the file system cannot hold a file of this size";
    case ENAMETOOLONG: return "the name is too long";
    default: return std::generic_category().message(error);
  }
}

int write_all(int descriptor, const void* data, std::size_t bytes) noexcept {
  const BlockedPipeSignal blocked;
  const auto* position = static_cast<const std::uint8_t*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor, position, bytes);
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    position += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return 0;
}

std::int64_t read_all(int descriptor, void* data, std::size_t bytes) noexcept {
  auto* position = static_cast<std::uint8_t*>(data);
  std::size_t filled = 0;
  while (filled < bytes) {
    const ssize_t got = ::read(descriptor, position + filled, bytes - filled);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return static_cast<std::int64_t>(filled);
}

FileDescriptor open_for_reading(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail(ErrorCode::io, "{}: cannot be read: {}", path, describe_errno(errno));
  struct stat status {};
  if (fstat(file.get(), &status) != 0) fail(ErrorCode::io, "{}: cannot be read: {}", path, describe_errno(errno));
  if (S_ISDIR(status.st_mode)) fail(ErrorCode::io, "{}: cannot be read: it is a folder", path);
  return file;
}

std::vector<std::uint8_t> read_file(const std::string& path, std::size_t limit) {
  const FileDescriptor file = open_for_reading(path);
  std::vector<std::uint8_t> contents;
  constexpr std::size_t kStep = std::size_t{1} << 20;
  for (;;) {
    const std::size_t filled = contents.size();
    contents.resize(filled + kStep);
    const std::int64_t got = read_all(file.get(), contents.data() + filled, kStep);
    if (got < 0) fail(ErrorCode::io, "{}: cannot be read: {}", path, describe_errno(errno));
    contents.resize(filled + static_cast<std::size_t>(got));
    if (contents.size() > limit)
      fail(ErrorCode::unsupported, "{}: larger than {} bytes, which is the limit for an image file", path, limit);
    if (static_cast<std::size_t>(got) < kStep) return contents;
  }
}

std::string extension_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::size_t start = slash == std::string::npos ? 0 : slash + 1;
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos || dot <= start) return {};
  std::string extension = path.substr(dot + 1);
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

}  // namespace flashvsr::media
