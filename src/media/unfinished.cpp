#include "media/unfinished.h"

#include "core/error.h"
#include "media/media.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>

namespace flashvsr::media {

namespace {

// A fixed table, because a signal handler may neither allocate nor lock.
struct Slot {
  enum State : int { free, filling, active };
  std::atomic<int> state{free};
  std::atomic<bool> is_folder{false};
  std::atomic<std::int64_t> last_image{0};
  std::array<char, PATH_MAX> path{};
};
std::array<Slot, 16> slots;
static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void remove_output(const Slot& slot) noexcept {
  if (!slot.is_folder.load()) {
    unlink(slot.path.data());
    return;
  }
  std::array<char, PATH_MAX + 40> file{};
  const std::size_t length = std::strlen(slot.path.data());
  std::memcpy(file.data(), slot.path.data(), length);
  file[length] = '/';
  for (std::int64_t number = 1; number <= slot.last_image.load(); ++number) {
    format_image_name(number, file.data() + length + 1);
    unlink(file.data());
  }
  rmdir(slot.path.data());
}

}  // namespace

void format_image_name(std::int64_t number, char* name) noexcept {
  std::array<char, 20> digits{};
  std::size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count < 6) digits[count++] = '0';
  while (count > 0) *name++ = digits[--count];
  std::memcpy(name, ".png", 5);
}

UnfinishedOutput::UnfinishedOutput(const std::string& path, Kind kind) {
  if (path.size() >= PATH_MAX) fail(ErrorCode::io, "{}: cannot be written: the path is too long", path);
  for (std::size_t index = 0; index < slots.size(); ++index) {
    Slot& slot = slots[index];
    int expected = Slot::free;
    if (!slot.state.compare_exchange_strong(expected, Slot::filling)) continue;
    std::memcpy(slot.path.data(), path.c_str(), path.size() + 1);
    slot.is_folder.store(kind == Kind::image_folder);
    slot.last_image.store(0);
    slot.state.store(Slot::active);
    slot_ = static_cast<int>(index);
    return;
  }
  fail(ErrorCode::internal, "{}: cannot be written: more than {} outputs are open", path, slots.size());
}

UnfinishedOutput::~UnfinishedOutput() {
  if (slot_ < 0) return;
  Slot& slot = slots[static_cast<std::size_t>(slot_)];
  if (slot.state.load() == Slot::active) remove_output(slot);
  slot.state.store(Slot::free);
}

void UnfinishedOutput::set_last_image(std::int64_t number) noexcept {
  if (slot_ >= 0) slots[static_cast<std::size_t>(slot_)].last_image.store(number);
}

void UnfinishedOutput::finished() noexcept {
  if (slot_ < 0) return;
  slots[static_cast<std::size_t>(slot_)].state.store(Slot::free);
  slot_ = -1;
}

void remove_unfinished_outputs() noexcept {
  const int saved_errno = errno;
  for (const Slot& slot : slots)
    if (slot.state.load() == Slot::active) remove_output(slot);
  errno = saved_errno;
}

}  // namespace flashvsr::media
