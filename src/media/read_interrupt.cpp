#include "media/read_interrupt.h"

#include "core/error.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace flashvsr::media {

ReadInterrupt::ReadInterrupt() : event_(::eventfd(0, EFD_CLOEXEC)) {
  if (event_.get() < 0) fail(ErrorCode::io, "no more files can be opened: {}", describe_errno(errno));
}

void ReadInterrupt::raise() noexcept {
  const std::uint64_t one = 1;
  while (::write(event_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

bool ReadInterrupt::raised() const noexcept {
  pollfd event{event_.get(), POLLIN, 0};
  return ::poll(&event, 1, 0) > 0;
}

std::int64_t ReadInterrupt::read_some(int descriptor, void* data, std::size_t bytes) const noexcept {
  for (;;) {
    std::array<pollfd, 2> events{pollfd{descriptor, POLLIN, 0}, pollfd{event_.get(), POLLIN, 0}};
    if (::poll(events.data(), events.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    if (events[1].revents != 0) {
      errno = ECANCELED;
      return -1;
    }
    const ssize_t got = ::read(descriptor, data, bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return got;
  }
}

std::int64_t ReadInterrupt::read_all(int descriptor, void* data, std::size_t bytes) const noexcept {
  auto* position = static_cast<std::uint8_t*>(data);
  std::size_t filled = 0;
  while (filled < bytes) {
    const std::int64_t got = read_some(descriptor, position + filled, bytes - filled);
    if (got < 0) return -1;
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return static_cast<std::int64_t>(filled);
}

}  // namespace flashvsr::media
