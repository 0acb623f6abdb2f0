// Element-wise functions of runs of values.
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/kernels/simd_math.h"

namespace flashvsr::ops::kernels::FLASHVSR_ISA {
namespace {

using Bf16 = std::uint16_t;

template <typename In, typename Out, typename Function>
FLASHVSR_INLINE void map(const void* from, void* to, std::int64_t count, const Function& function) {
  const auto* x = static_cast<const In*>(from);
  auto* out = static_cast<Out*>(to);
  for_each_vector(count, [&](std::int64_t i, auto access)
                             FLASHVSR_LAMBDA_INLINE { access.store(out + i, function(access.load(x + i))); });
}

template <typename In, typename Out>
void affine(const void* x, float scale, float shift, std::int64_t count, void* out) {
  map<In, Out>(x, out, count, [=](F32 value) FLASHVSR_LAMBDA_INLINE { return value * scale + shift; });
}

template <typename In, typename Out>
void convert(const void* x, std::int64_t count, void* out) {
  map<In, Out>(x, out, count, [](F32 value) FLASHVSR_LAMBDA_INLINE { return value; });
}

template <typename A, typename B>
void add(const void* a, const void* b, float sign, std::int64_t count, void* out) {
  const auto* x = static_cast<const A*>(a);
  const auto* y = static_cast<const B*>(b);
  auto* to = static_cast<A*>(out);
  for_each_vector(count, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
    access.store(to + i, access.load(x + i) + sign * access.load(y + i));
  });
}

template <typename Element>
void channel_affine(const void* from, const float* scale, const float* shift, std::int64_t rows, std::int64_t dim,
                    void* to) {
  const auto* x = static_cast<const Element*>(from);
  auto* out = static_cast<Element*>(to);
  for (std::int64_t row = 0; row < rows; ++row, x += dim, out += dim) {
    for_each_vector(dim, [=](std::int64_t i, auto access) FLASHVSR_LAMBDA_INLINE {
      access.store(out + i, access.load(x + i) * access.load(scale + i) + access.load(shift + i));
    });
  }
}

template <typename Element>
void relu_all(const void* x, std::int64_t count, void* out) {
  map<Element, Element>(x, out, count, [](F32 value) FLASHVSR_LAMBDA_INLINE { return relu(value); });
}

template <typename Element>
void silu_all(const void* x, std::int64_t count, void* out) {
  map<Element, Element>(x, out, count, [](F32 value) FLASHVSR_LAMBDA_INLINE { return silu(value); });
}

template <typename Element>
void gelu_tanh_all(const void* x, std::int64_t count, void* out) {
  map<Element, Element>(x, out, count, [](F32 value) FLASHVSR_LAMBDA_INLINE { return gelu_tanh(value); });
}

template <typename Element>
void soft_clamp(const void* x, float limit, std::int64_t count, void* out) {
  const float inverse = 1.0f / limit;
  map<Element, Element>(x, out, count, [=](F32 value) FLASHVSR_LAMBDA_INLINE { return limit * tanh(value * inverse); });
}

template <typename Element>
void clamp(const void* x, float low, float high, std::int64_t count, void* out) {
  // What is not a number stays so, as with std::clamp.
  map<Element, Element>(x, out, count, [=](F32 value) FLASHVSR_LAMBDA_INLINE {
    const F32 lower = value < low ? splat(low) : value;
    return lower > high ? splat(high) : lower;
  });
}

}  // namespace

void add_elementwise(KernelTable& table) {
  table.elementwise = {
      .convert = {{convert<float, float>, convert<float, Bf16>}, {convert<Bf16, float>, convert<Bf16, Bf16>}},
      .affine = {{affine<float, float>, affine<float, Bf16>}, {affine<Bf16, float>, affine<Bf16, Bf16>}},
      .add = {{add<float, float>, add<float, Bf16>}, {add<Bf16, float>, add<Bf16, Bf16>}},
      .channel_affine = {channel_affine<float>, channel_affine<Bf16>},
      .relu = {relu_all<float>, relu_all<Bf16>},
      .silu = {silu_all<float>, silu_all<Bf16>},
      .gelu_tanh = {gelu_tanh_all<float>, gelu_tanh_all<Bf16>},
      .soft_clamp = {soft_clamp<float>, soft_clamp<Bf16>},
      .clamp = {clamp<float>, clamp<Bf16>},
  };
}

}  // namespace flashvsr::ops::kernels::FLASHVSR_ISA
