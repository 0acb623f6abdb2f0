// Parallel loops over all cores: one pool (OpenMP's), shared with oneDNN.
#pragma once

#include <cstdint>
#include <functional>

namespace flashvsr {

// Number of processors that this process may use.
int available_threads();

// Sets the number of threads that loops started from the calling thread use, oneDNN's included; 0: all. Restores the
// previous number when it goes out of scope.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int previous_;
};

// Calls body(begin, end) on disjoint ranges that cover [0, count), in parallel. `grain` is the least range that is
// worth a thread. The first exception that a body throws is thrown again here.
void parallel_for(std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

// Calls body(index) for every index in [0, count), handed out one at a time: for items of unequal cost.
void parallel_for_each(std::int64_t count, const std::function<void(std::int64_t)>& body);

}  // namespace flashvsr
