// What every public operation does around its do_... function: checks, threads, counted work and time.
#pragma once

#include "core/threads.h"
#include "ops/operations.h"

#include <chrono>
#include <initializer_list>
#include <optional>
#include <type_traits>

namespace flashvsr::ops {

// A tensor or parameter as it appears in a message; made for every check, formatted only when one fails.
struct Shown {
  Shown(const Tensor& tensor) : shape(tensor.shape()), type(tensor.dtype()), present(bool(tensor)) {}
  Shown(const Parameter& parameter)
      : shape(parameter ? parameter.shape() : Shape()),
        type(parameter ? parameter.dtype() : DType::f32),
        present(bool(parameter)),
        name(parameter ? &parameter.name() : nullptr) {}

  Shape shape;
  DType type;
  bool present;
  const std::string* name = nullptr;
};

// Throws Error(internal) "OPERATION: RULE; got F32 [2, 3], BF16 [4, 5] (blocks.0.ffn.0.weight)".
void check(bool condition, const char* operation, const char* rule, std::initializer_list<Shown> values);

inline bool is_float(const Tensor& x) { return x && (x.dtype() == DType::f32 || x.dtype() == DType::bf16); }
inline bool is_float_type(DType type) { return type == DType::f32 || type == DType::bf16; }
inline bool has_rank(const Tensor& x, std::size_t rank) { return x && x.shape().rank() == rank; }
inline bool is_vector(const Tensor& x, std::int64_t elements) {
  return x && x.dtype() == DType::f32 && x.elements() == elements;
}
// Absent, or [channels].
inline bool is_bias(const Parameter& bias, std::int64_t channels) {
  return !bias || bias.shape().elements() == channels;
}

// Runs the body on the back end's threads, and counts and times it when the profile is on.
template <typename Body>
auto measured(Operations& operations, const char* name, double flops, const Body& body) {
  std::optional<ThreadScope> threads;
  if (operations.host_threads() > 0) threads.emplace(operations.host_threads());
  Profile& profile = operations.profile();
  if (!profile.enabled) return body();
  const auto start = std::chrono::steady_clock::now();
  const auto finish = [&] {
    operations.synchronize();
    profile.add(name, flops, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  };
  if constexpr (std::is_void_v<decltype(body())>) {
    body();
    finish();
  } else {
    auto result = body();
    finish();
    return result;
  }
}

}  // namespace flashvsr::ops
