#include "cli/waiting.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>

namespace flashvsr::cli {
namespace {

// Turns of the waiting loop, some 20 microseconds: longer than the uneven end of most loops, far below a time slice.
constexpr const char* kSpinCount = "1000";

}  // namespace

void bound_spinning(char** arguments) noexcept {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  // By its own path, as the name of the process comes from it.
  std::array<char, PATH_MAX> program{};
  const ssize_t length = readlink("/proc/self/exe", program.data(), program.size() - 1);
  if (length <= 0 || setenv("GOMP_SPINCOUNT", kSpinCount, 1) != 0) return;
  execv(program.data(), arguments);
  unsetenv("GOMP_SPINCOUNT");
}

}  // namespace flashvsr::cli
