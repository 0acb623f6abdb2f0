// oneDNN's primitives and packed weights as OneDnnOperations uses them: created once for a shape, kept, and run on raw
// pointers. Internal to the onednn_*.cpp files.
#pragma once

#include "core/dtype.h"
#include "ops/types.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace flashvsr::ops::onednn {

// What follows the sums of products: bias; then activation, gate, residual, or, with residual_first, residual and
// activation.
struct Epilogue {
  bool bias = false;
  Activation activation = Activation::none;
  bool gate = false;                             // per output channel
  std::optional<DType> residual = std::nullopt;  // its type; it has the shape of the result
  bool residual_first = false;
  bool residual_in_result = false;  // the result holds the residual when the primitive starts
  auto operator<=>(const Epilogue&) const = default;
};

// [rows, in] x [out, in] transposed.
struct MatmulShape {
  DType type = DType::f32, output = DType::f32;
  std::int64_t rows = 0, in = 0, out = 0;
  std::int64_t result_stride = 0;  // elements from row to row of the result; 0: out
  bool in_place = false;           // the weight lies as [out, in]; else in the layout that the primitive prefers
  Epilogue epilogue = {};
  auto operator<=>(const MatmulShape&) const = default;
};

// [batch, (frames,) height, width, in]; padding with zeros, which time has none of.
struct ConvolutionShape {
  DType type = DType::f32, output = DType::f32;
  std::int64_t batch = 1, frames = 1, height = 0, width = 0, in = 0, out = 0;
  std::array<std::int64_t, 3> kernel{1, 1, 1};  // time, rows, columns
  std::array<std::int64_t, 3> stride{1, 1, 1};
  std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  Epilogue epilogue = {};
  auto operator<=>(const ConvolutionShape&) const = default;
};

struct Product {
  dnnl::primitive primitive;
  dnnl::memory::desc source, weights, bias, result, gate, residual, scratchpad;
  int gate_index = 0, residual_index = 0;  // among the post-operations
  Epilogue epilogue;

  std::size_t scratchpad_bytes() const { return scratchpad.get_size(); }
};

struct ProductArguments {
  const void* source = nullptr;
  const void* weights = nullptr;
  const float* bias = nullptr;
  void* result = nullptr;
  const float* gate = nullptr;
  const void* residual = nullptr;
  void* scratchpad = nullptr;
};

// Where weights lie before oneDNN packs them.
struct PlainWeights {
  DType type = DType::f32;
  const void* values = nullptr;
};

class Engine {
 public:
  Engine();

  // Whether the processor (or DNNL_MAX_CPU_ISA) lets oneDNN multiply bf16.
  bool multiplies_bf16() const { return multiplies_bf16_; }

  std::shared_ptr<const Product> matmul(const MatmulShape& shape);
  // `threads`: how many will run it; 1 for use inside of a parallel loop of ours, 0: all.
  std::shared_ptr<const Product> convolution(const ConvolutionShape& shape, int threads);

  // Safe on several threads at once, each with its own arguments.
  void run(const Product& product, const ProductArguments& arguments) const;

  // The weights under `key` in the layout `wanted`; `plain_layout` describes what `make` passes to its argument, which
  // is called the first time only.
  using Pack = std::function<void(const PlainWeights&)>;
  const void* packed(const std::vector<std::uint64_t>& key, const dnnl::memory::desc& wanted,
                     const dnnl::memory::dims& plain_dims, dnnl::memory::format_tag plain_layout,
                     const std::function<void(const Pack&)>& make);

 private:
  dnnl::engine engine_;
  mutable dnnl::stream stream_;
  bool multiplies_bf16_;
  std::map<std::pair<int, MatmulShape>, std::shared_ptr<const Product>> matmuls_;
  std::map<std::pair<int, ConvolutionShape>, std::shared_ptr<const Product>> convolutions_;
  std::map<std::vector<std::uint64_t>, std::vector<dnnl::memory>> packed_;
};

}  // namespace flashvsr::ops::onednn
