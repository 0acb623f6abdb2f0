// The one exception type of the engine, and the codes that cross the C boundary.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace flashvsr {

// Values equal those of flashvsr_status in include/flashvsr/flashvsr.h.
enum class ErrorCode {
  invalid_argument = 1,  // a setting or a call that cannot be meant
  io = 2,                // a file cannot be read or written
  format = 3,            // a file is damaged or not what it claims to be
  unsupported = 4,       // well formed, but not something this build or device can do
  out_of_memory = 5,
  device = 6,  // the compute device failed or is not there
  cancelled = 7,
  internal = 8,  // a defect of ours
};

// Thrown everywhere inside the library. The message is one line that names the thing (file, tensor, setting), the
// cause, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <typename... Arguments>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  throw Error(code, fmt::format(format, std::forward<Arguments>(arguments)...));
}

// Precondition of an operation or a function: a violation is a defect of the caller inside the engine.
template <typename... Arguments>
void require(bool condition, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (!condition) throw Error(ErrorCode::internal, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace flashvsr
