// Random tensors for benchmarks: normal, the same from run to run. Zeros would take less power than real data.
#pragma once

#include "core/noise.h"
#include "core/parameter.h"
#include "core/threads.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace flashvsr::bench {

inline Tensor random_tensor(const Shape& shape, std::uint64_t seed, float scale = 1.0f) {
  Tensor result = allocate_host(shape, DType::f32);
  auto* values = result.mutable_data<float>();
  const std::int64_t count = result.elements();
  parallel_for((count + 3) / 4, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t quad = begin; quad < end; ++quad) {
      const noise::Quad drawn = noise::gaussian(seed, static_cast<std::uint32_t>(quad), 0, 0, 0);
      for (std::int64_t j = 4 * quad; j < std::min(4 * quad + 4, count); ++j) values[j] = drawn.values[j % 4] * scale;
    }
  });
  return result;
}

// A weight [out, inputs...] whose products have about the size of their inputs.
inline Parameter random_weight(const Shape& shape, std::uint64_t seed) {
  const std::int64_t inputs = shape.rank() > 1 ? shape.elements() / shape[0] : shape.elements();
  return Parameter("random", random_tensor(shape, seed, 1.0f / std::sqrt(static_cast<float>(inputs))));
}

}  // namespace flashvsr::bench
