#include "cli/interrupt.h"

#include "cli/commands.h"

#include <unistd.h>

#include <utility>

namespace flashvsr::cli {
namespace {

constexpr int kWakeUp = SIGUSR1;

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, kWakeUp}) sigaddset(&set, signal);
  return set;
}

}  // namespace

InterruptGuard::InterruptGuard(std::function<void()> clean_up) {
  const sigset_t watched = watched_signals();
  // Blocked in this thread and in all that it starts, so that the one below gets them.
  pthread_sigmask(SIG_BLOCK, &watched, &previous_);
  thread_ = std::thread([watched, clean_up = std::move(clean_up)] {
    int signal = 0;
    if (sigwait(&watched, &signal) != 0 || signal == kWakeUp) return;
    clean_up();
    _exit(kInterrupted);
  });
}

InterruptGuard::~InterruptGuard() {
  pthread_kill(thread_.native_handle(), kWakeUp);
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

}  // namespace flashvsr::cli
