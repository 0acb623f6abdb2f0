#include "ops/cpu/onednn_engine.h"

#include "core/error.h"
#include "core/threads.h"

#include <omp.h>

#include <unordered_map>

namespace flashvsr::ops::onednn {
namespace {

using dnnl::algorithm;
using dnnl::memory;

// Shapes vary with a stream's size and its first chunk; more than this only comes from many sizes in one process.
constexpr std::size_t kMostPrimitives = 512;

template <typename Function>
auto guarded(const char* what, const Function& function) {
  try {
    return function();
  } catch (const dnnl::error& error) {
    const bool memory = error.status == dnnl_out_of_memory;
    fail(memory ? ErrorCode::out_of_memory : ErrorCode::device, "oneDNN cannot {}: {}", what, error.what());
  }
}

memory::data_type data_type(DType type) {
  require(type == DType::f32 || type == DType::bf16, "oneDNN is given {}", name_of(type));
  return type == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Fills in the descriptors and the post-operations of an epilogue. `channels` has the rank of the result and broadcasts
// over all but the channels.
dnnl::primitive_attr attributes(Product& product, const memory::desc& channels, const memory::desc& residual) {
  const Epilogue& epilogue = product.epilogue;
  dnnl::post_ops operations;
  const auto add_residual = [&] {
    if (!epilogue.residual) return;
    if (epilogue.residual_in_result) {
      operations.append_sum(1.0f);
      return;
    }
    product.residual = residual;
    product.residual_index = operations.len();
    operations.append_binary(algorithm::binary_add, residual);
  };
  if (epilogue.residual_first) add_residual();
  switch (epilogue.activation) {
    case Activation::none: break;
    case Activation::relu: operations.append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f); break;
    case Activation::silu: operations.append_eltwise(1.0f, algorithm::eltwise_swish, 1.0f, 0.0f); break;
    case Activation::gelu_tanh: operations.append_eltwise(1.0f, algorithm::eltwise_gelu_tanh, 0.0f, 0.0f); break;
  }
  if (epilogue.gate) {
    product.gate = channels;
    product.gate_index = operations.len();
    operations.append_binary(algorithm::binary_mul, channels);
  }
  if (!epilogue.residual_first) add_residual();
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(operations);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

Product make_matmul(const dnnl::engine& engine, const MatmulShape& shape) {
  Product product;
  product.epilogue = shape.epilogue;
  using tag = memory::format_tag;
  product.source = memory::desc({shape.rows, shape.in}, data_type(shape.type), tag::ab);
  const memory::desc weights({shape.in, shape.out}, data_type(shape.type), shape.in_place ? tag::ba : tag::any);
  const std::int64_t stride = shape.result_stride == 0 ? shape.out : shape.result_stride;
  product.result = memory::desc({shape.rows, shape.out}, data_type(shape.output), memory::dims{stride, 1});
  const memory::desc channels({1, shape.out}, memory::data_type::f32, tag::ab);
  const Epilogue& epilogue = shape.epilogue;
  const memory::desc residual({shape.rows, shape.out}, data_type(epilogue.residual.value_or(DType::f32)), tag::ab);
  if (epilogue.bias) product.bias = channels;
  const dnnl::primitive_attr attr = attributes(product, channels, residual);
  const dnnl::matmul::desc desc = epilogue.bias
                                      ? dnnl::matmul::desc(product.source, weights, product.bias, product.result)
                                      : dnnl::matmul::desc(product.source, weights, product.result);
  const dnnl::matmul::primitive_desc created(desc, attr, engine);
  product.primitive = dnnl::matmul(created);
  product.weights = created.weights_desc();
  product.scratchpad = created.scratchpad_desc();
  return product;
}

Product make_convolution(const dnnl::engine& engine, const ConvolutionShape& s) {
  Product product;
  product.epilogue = s.epilogue;
  using tag = memory::format_tag;
  const bool has_time = s.frames > 1 || s.kernel[0] > 1;
  const auto size = [](std::int64_t in, std::int64_t pads, std::int64_t kernel, std::int64_t stride) {
    return (in + pads - kernel) / stride + 1;
  };
  const std::int64_t frames = size(s.frames, 0, s.kernel[0], s.stride[0]);
  const std::int64_t height = size(s.height, s.pad_top + s.pad_bottom, s.kernel[1], s.stride[1]);
  const std::int64_t width = size(s.width, s.pad_left + s.pad_right, s.kernel[2], s.stride[2]);
  const auto map = [&](std::int64_t t, std::int64_t h, std::int64_t w, std::int64_t channels, DType type) {
    return has_time ? memory::desc({s.batch, channels, t, h, w}, data_type(type), tag::ndhwc)
                    : memory::desc({s.batch, channels, h, w}, data_type(type), tag::nhwc);
  };
  const auto spatial = [&](std::int64_t t, std::int64_t h, std::int64_t w) {
    return has_time ? memory::dims{t, h, w} : memory::dims{h, w};
  };
  product.source = map(s.frames, s.height, s.width, s.in, s.type);
  product.result = map(frames, height, width, s.out, s.output);
  memory::dims weight_dims = spatial(s.kernel[0], s.kernel[1], s.kernel[2]);
  weight_dims.insert(weight_dims.begin(), {s.out, s.in});
  const memory::desc weights(weight_dims, data_type(s.type), tag::any);
  if (s.epilogue.bias) product.bias = memory::desc({s.out}, memory::data_type::f32, tag::a);
  const memory::desc channels = has_time ? memory::desc({1, s.out, 1, 1, 1}, memory::data_type::f32, tag::ncdhw)
                                         : memory::desc({1, s.out, 1, 1}, memory::data_type::f32, tag::nchw);
  const memory::desc residual = map(frames, height, width, s.out, s.epilogue.residual.value_or(DType::f32));
  const dnnl::primitive_attr attr = attributes(product, channels, residual);
  const memory::dims strides = spatial(s.stride[0], s.stride[1], s.stride[2]);
  const memory::dims before = spatial(0, s.pad_top, s.pad_left), after = spatial(0, s.pad_bottom, s.pad_right);
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kAlgorithm = algorithm::convolution_direct;
  using Desc = dnnl::convolution_forward::desc;
  const Desc desc =
      s.epilogue.bias
          ? Desc(kKind, kAlgorithm, product.source, weights, product.bias, product.result, strides, before, after)
          : Desc(kKind, kAlgorithm, product.source, weights, product.result, strides, before, after);
  const dnnl::convolution_forward::primitive_desc created(desc, attr, engine);
  product.primitive = dnnl::convolution_forward(created);
  product.weights = created.weights_desc();
  product.scratchpad = created.scratchpad_desc();
  return product;
}

template <typename Key, typename Make>
std::shared_ptr<const Product> cached(std::map<Key, std::shared_ptr<const Product>>& cache, const Key& key,
                                      const Make& make) {
  const auto found = cache.find(key);
  if (found != cache.end()) return found->second;
  if (cache.size() >= kMostPrimitives) cache.clear();
  return cache.emplace(key, std::make_shared<const Product>(make())).first->second;
}

}  // namespace

Engine::Engine() {
  guarded("start", [&] {
    engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
    stream_ = dnnl::stream(engine_);
    // Levels are sets of bits: each holds those of the levels that it includes.
    constexpr auto kBf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    multiplies_bf16_ = (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & kBf16) == kBf16;
  });
}

std::shared_ptr<const Product> Engine::matmul(const MatmulShape& shape) {
  return cached(matmuls_, std::pair(omp_get_max_threads(), shape),
                [&] { return guarded("create a matrix product", [&] { return make_matmul(engine_, shape); }); });
}

std::shared_ptr<const Product> Engine::convolution(const ConvolutionShape& shape, int threads) {
  // oneDNN divides the work when it creates a primitive.
  const ThreadScope scope(threads == 0 ? omp_get_max_threads() : threads);
  return cached(convolutions_, std::pair(omp_get_max_threads(), shape),
                [&] { return guarded("create a convolution", [&] { return make_convolution(engine_, shape); }); });
}

void Engine::run(const Product& product, const ProductArguments& arguments) const {
  guarded("run a product", [&] {
    std::unordered_map<int, memory> all;
    const auto pass = [&](int argument, const memory::desc& desc, const void* data) {
      // oneDNN takes inputs without const, and does not write to them.
      all.emplace(argument, memory(desc, engine_, const_cast<void*>(data)));
    };
    const auto operand = [](int index) { return DNNL_ARG_ATTR_MULTIPLE_POST_OP(index) | DNNL_ARG_SRC_1; };
    pass(DNNL_ARG_SRC, product.source, arguments.source);
    pass(DNNL_ARG_WEIGHTS, product.weights, arguments.weights);
    pass(DNNL_ARG_DST, product.result, arguments.result);
    const Epilogue& epilogue = product.epilogue;
    if (epilogue.bias) pass(DNNL_ARG_BIAS, product.bias, arguments.bias);
    if (epilogue.gate) pass(operand(product.gate_index), product.gate, arguments.gate);
    if (epilogue.residual && !epilogue.residual_in_result) {
      pass(operand(product.residual_index), product.residual, arguments.residual);
    }
    if (product.scratchpad_bytes() > 0) pass(DNNL_ARG_SCRATCHPAD, product.scratchpad, arguments.scratchpad);
    product.primitive.execute(stream_, all);
  });
}

const void* Engine::packed(const std::vector<std::uint64_t>& key, const memory::desc& wanted,
                           const memory::dims& plain_dims, memory::format_tag plain_layout,
                           const std::function<void(const Pack&)>& make) {
  std::vector<memory>& copies = packed_[key];
  for (const memory& copy : copies) {
    if (copy.get_desc() == wanted) return copy.get_data_handle();
  }
  make([&](const PlainWeights& plain) {
    guarded("pack weights", [&] {
      const memory::desc desc(plain_dims, data_type(plain.type), plain_layout);
      memory source(desc, engine_, const_cast<void*>(plain.values));
      memory target(wanted, engine_);
      dnnl::reorder(source, target).execute(stream_, source, target);
      stream_.wait();
      copies.push_back(target);
    });
  });
  require(!copies.empty(), "weights were not packed");
  return copies.back().get_data_handle();
}

}  // namespace flashvsr::ops::onednn
