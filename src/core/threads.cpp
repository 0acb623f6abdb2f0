#include "core/threads.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace flashvsr {
namespace {

// Exceptions must not leave an OpenMP region: the first is kept and thrown by the caller.
class FirstException {
 public:
  template <typename Body>
  void run(const Body& body) noexcept {
    try {
      body();
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!exception_) exception_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr exception_;
};

}  // namespace

int available_threads() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadScope::ThreadScope(int threads) : previous_(omp_get_max_threads()) {
  omp_set_num_threads(threads > 0 ? threads : available_threads());
}

ThreadScope::~ThreadScope() { omp_set_num_threads(previous_); }

void parallel_for(std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count <= 0) return;
  const std::int64_t most = (count + std::max<std::int64_t>(grain, 1) - 1) / std::max<std::int64_t>(grain, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), most));
  if (threads <= 1 || omp_in_parallel() != 0) {
    body(0, count);
    return;
  }
  FirstException first;
#pragma omp parallel num_threads(threads)
  {
    // The team may be smaller than asked for: divide by the size that it has.
    const std::int64_t team = omp_get_num_threads(), index = omp_get_thread_num();
    const std::int64_t begin = count * index / team, end = count * (index + 1) / team;
    if (begin < end) first.run([&] { body(begin, end); });
  }
  first.rethrow();
}

void parallel_for_each(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  if (count <= 0) return;
  FirstException first;
  std::atomic<std::int64_t> next{0};
  const int threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), count));
#pragma omp parallel num_threads(threads) if (threads > 1 && omp_in_parallel() == 0)
  for (std::int64_t index = next.fetch_add(1); index < count; index = next.fetch_add(1)) {
    first.run([&] { body(index); });
  }
  first.rethrow();
}

}  // namespace flashvsr
