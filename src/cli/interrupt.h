// Ctrl-C and its relatives.
#pragma once

#include <csignal>
#include <functional>
#include <thread>

namespace flashvsr::cli {

// While it lives, SIGINT, SIGTERM and SIGHUP end the process with status 130 after `clean_up`, at once, whatever the
// other threads are doing: a chunk of a large model or a read from a pipe may take long. Make it before starting
// threads. Signals that the caller of the program ignores stay ignored.
class InterruptGuard {
 public:
  explicit InterruptGuard(std::function<void()> clean_up);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  sigset_t previous_{};
  std::thread thread_;
};

}  // namespace flashvsr::cli
