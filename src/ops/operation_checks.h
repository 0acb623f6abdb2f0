// What every public operation does around its do_... function: checks, threads, counted work and time.
#pragma once

#include "core/threads.h"
#include "ops/operations.h"

#include <chrono>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

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

inline double bytes_of(const Tensor& x) { return x ? static_cast<double>(x.bytes()) : 0; }
inline double bytes_of(std::span<const Tensor> list) {
  double sum = 0;
  for (const Tensor& x : list) sum += bytes_of(x);
  return sum;
}
inline double bytes_of(const Query& query) { return bytes_of(query.q) + bytes_of(query.q_means); }
inline double bytes_of(const QueryKeyValue& values) {
  return bytes_of(values.q) + bytes_of(values.k) + bytes_of(values.v) + bytes_of(values.q_means) +
         bytes_of(values.k_means);
}
inline double bytes_of(const BlockMask& mask) {
  return bytes_of(mask.mask) + bytes_of(mask.offsets) + bytes_of(mask.indices);
}
// Counted as what was read.
inline double bytes_of(const HostCopy&) { return 0; }

// The work of an operation that reads `inputs`; what it writes is added when it is known.
template <typename... Inputs>
Work reading(const Inputs&... inputs) {
  return {0, (bytes_of(inputs) + ...)};
}
template <typename... Inputs>
Work computing(double flops, const Inputs&... inputs) {
  return {flops, (bytes_of(inputs) + ...)};
}

// Runs the body on the back end's threads, and counts and times it when the profile is on.
template <typename Body>
auto measured(Operations& operations, const char* name, Work work, const Body& body) {
  std::optional<ThreadScope> threads;
  if (operations.host_threads() > 0) threads.emplace(operations.host_threads());
  Profile& profile = operations.profile();
  if (!profile.enabled) return body();
  std::unique_ptr<Mark> begin = operations.mark();
  const auto start = std::chrono::steady_clock::now();
  const auto finish = [&] {
    if (begin) {
      profile.add(name, work, std::move(begin), operations.mark());
      return;
    }
    operations.synchronize();
    profile.add(name, work, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  };
  if constexpr (std::is_void_v<decltype(body())>) {
    body();
    finish();
  } else {
    auto result = body();
    work.bytes += bytes_of(result);
    finish();
    return result;
  }
}

}  // namespace flashvsr::ops
