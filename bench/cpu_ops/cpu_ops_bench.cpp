// Measures what oneDNN reaches on this machine, and what our operations reach at the sizes of the built-in model at
// 1280x720 (computed as 1280x768) and of the published one: one row per shape, the least of several runs.
//
//   cpu_ops_bench [f32|bf16] [one] [part of a row's name]
//
// With `one`: on one thread and in that thread's processor time, which other programs on the machine disturb little.
#include "core/threads.h"
#include "ops/cpu/onednn_operations.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <time.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace {

using namespace flashvsr;
using ops::Activation;
using ops::Conv2dOptions;

constexpr double kSecondsPerShape = 0.5;
constexpr int kLeastRuns = 3;

bool g_one_thread = false;

double now() {
  timespec time{};
  clock_gettime(g_one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double least_seconds(const std::function<void()>& body) {
  double least = 1e30;
  body();
  const double start = now();
  for (int run = 0; run < kLeastRuns || now() - start < kSecondsPerShape; ++run) {
    const double begin = now();
    body();
    least = std::min(least, now() - begin);
  }
  return least;
}

// oneDNN itself, in its own layouts, with no other operation around it.
class MachineRates {
 public:
  explicit MachineRates(dnnl::memory::data_type type) : type_(type) {}

  double matmul(std::int64_t rows, std::int64_t in, std::int64_t out) {
    using tag = dnnl::memory::format_tag;
    const dnnl::memory::desc x({rows, in}, type_, tag::ab), w({in, out}, type_, tag::any),
        y({rows, out}, type_, tag::ab);
    const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(x, w, y), engine_);
    return run(dnnl::matmul(desc), x, desc.weights_desc(), y, 2.0 * static_cast<double>(rows * in * out));
  }

  double convolution(std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out) {
    using tag = dnnl::memory::format_tag;
    const dnnl::memory::desc x({1, in, height, width}, type_, tag::nhwc), w({out, in, 3, 3}, type_, tag::any);
    const dnnl::memory::desc y({1, out, height, width}, type_, tag::nhwc);
    const dnnl::convolution_forward::primitive_desc desc(
        dnnl::convolution_forward::desc(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, w,
                                        y, {1, 1}, {1, 1}, {1, 1}),
        engine_);
    return run(dnnl::convolution_forward(desc), x, desc.weights_desc(), y,
               18.0 * static_cast<double>(height * width * in * out));
  }

 private:
  double run(const dnnl::primitive& primitive, const dnnl::memory::desc& x, const dnnl::memory::desc& w,
             const dnnl::memory::desc& y, double flops) {
    dnnl::memory source(x, engine_), weights(w, engine_), result(y, engine_);
    for (const dnnl::memory& memory : {source, weights}) {
      std::fill_n(static_cast<std::byte*>(memory.get_data_handle()), memory.get_desc().get_size(), std::byte{0});
    }
    const double seconds = least_seconds([&] {
      primitive.execute(stream_, {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, result}});
      stream_.wait();
    });
    return flops / seconds;
  }

  dnnl::memory::data_type type_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
};

class OperationRates {
 public:
  OperationRates(DType type, std::string filter)
      : ops_({.compute = type, .threads = g_one_thread ? 1 : 0}), filter_(std::move(filter)) {}

  void linear(const char* what, std::int64_t rows, std::int64_t in, std::int64_t out, Activation activation,
              bool gated) {
    if (!wanted(what)) return;
    const Tensor x = tensor({rows, in}), residual = tensor({rows, out}, DType::f32), gate = tensor({out}, DType::f32);
    const ops::LinearWeights weights{parameter({out, in}), parameter({out}, DType::f32)};
    ops::LinearOptions options{.activation = activation};
    if (gated) {
      options.gate = &gate;
      options.residual = &residual;
    }
    report(what, fmt::format("{} x {} -> {}", rows, in, out), 2.0 * product({rows, in, out}),
           [&] { ops_.linear(x, weights, options); });
  }

  void linear_concatenated(const char* what, std::int64_t rows, std::int64_t in) {
    if (!wanted(what)) return;
    const Tensor x = tensor({rows, in});
    std::vector<ops::LinearWeights> parts;
    for (int i = 0; i < 3; ++i) parts.push_back({parameter({in, in}), parameter({in}, DType::f32)});
    report(what, fmt::format("{} x {} -> 3 x {}", rows, in, in), 6.0 * product({rows, in, in}),
           [&] { ops_.linear_concatenated(x, parts); });
  }

  // second: channels of a second source; residual: whether one is added.
  void conv2d(const char* what, std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t second,
              std::int64_t out, bool residual, DType output) {
    if (!wanted(what)) return;
    const Tensor x = tensor({1, height, width, in});
    const Tensor other = second > 0 ? tensor({1, height, width, second}) : Tensor();
    const Tensor added = residual ? tensor({1, height, width, out}) : Tensor();
    const ops::ConvWeights weights{parameter({out, in + second, 3, 3}), parameter({out}, DType::f32)};
    const Conv2dOptions options{.second = other ? &other : nullptr,
                                .residual = added ? &added : nullptr,
                                .activation = Activation::relu,
                                .output = output};
    report(what, fmt::format("{}x{}, {}{} -> {}", height, width, in, second > 0 ? fmt::format("+{}", second) : "", out),
           18.0 * product({height, width, in + second, out}), [&] { ops_.conv2d(x, weights, options); });
  }

  void upsample(const char* what, std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out,
                std::int64_t frames) {
    if (!wanted(what)) return;
    const Tensor x = tensor({1, height, width, in});
    const Parameter grow = parameter({frames * in, in, 1, 1});
    const ops::ConvWeights weights{parameter({out, in, 3, 3}), parameter({out}, DType::f32)};
    report(what, fmt::format("{}x{}, {} -> {} x {}", height, width, in, frames, out),
           32.0 * product({frames, height, width, in, out}), [&] {
             for (std::int64_t frame = 0; frame < frames; ++frame) ops_.upsample_grow_conv2d(x, grow, weights, frame);
           });
  }

  void conv3d(const char* what, std::int64_t front, std::int64_t frames, std::int64_t height, std::int64_t width,
              std::int64_t in, std::int64_t out, std::int64_t kt, std::int64_t k, int stride, ops::Padding padding) {
    if (!wanted(what)) return;
    const Tensor before = front > 0 ? tensor({front, height, width, in}) : Tensor();
    const Tensor x = tensor({frames, height, width, in});
    const ops::ConvWeights weights{parameter({out, in, kt, k, k}), parameter({out}, DType::f32)};
    const std::int64_t out_frames = (front + frames - kt) / stride + 1;
    report(what, fmt::format("{}+{}x{}x{}, {} -> {}", front, frames, height, width, in, out),
           2.0 * product({out_frames, height, width, in, out, kt, k, k}),
           [&] { ops_.conv3d(before, x, weights, {.time_stride = stride, .padding = padding}); });
  }

 private:
  static double product(std::initializer_list<std::int64_t> factors) {
    double result = 1;
    for (const std::int64_t factor : factors) result *= static_cast<double>(factor);
    return result;
  }

  bool wanted(const std::string& what) const { return what.find(filter_) != std::string::npos; }

  Tensor tensor(const Shape& shape, std::optional<DType> type = std::nullopt) {
    return ops_.zeros(shape, type.value_or(ops_.compute_type()));
  }

  // As the built-in model's file stores them: bf16 where that is the compute type.
  Parameter parameter(const Shape& shape, std::optional<DType> type = std::nullopt) {
    const Tensor values = allocate_host(shape, type.value_or(ops_.compute_type()));
    std::fill_n(values.mutable_data<std::byte>(), values.bytes(), std::byte{0});
    return Parameter(shape.to_string(), values);
  }

  void report(const char* what, const std::string& shape, double flops, const std::function<void()>& body) {
    const double seconds = least_seconds(body);
    fmt::print("{:26} {:34} {:9.3f} ms {:8.1f} GFLOP/s\n", what, shape, seconds * 1e3, flops / seconds * 1e-9);
    std::fflush(stdout);
  }

  ops::OneDnnOperations ops_;
  std::string filter_;
};

void measure(DType type, const std::string& filter) {
  using ops::Padding;
  const bool bf16 = type == DType::bf16;
  fmt::print("{}, {} threads\n", name_of(type), g_one_thread ? 1 : available_threads());
  const ThreadScope scope(g_one_thread ? 1 : 0);
  MachineRates machine(bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32);
  fmt::print("{:26} {:34} {:21.1f} GFLOP/s\n", "oneDNN matmul", "7680 x 768 -> 768",
             1e-9 * machine.matmul(7680, 768, 768));
  fmt::print("{:26} {:34} {:21.1f} GFLOP/s\n", "oneDNN convolution 3x3", "192x320, 128 -> 128",
             1e-9 * machine.convolution(192, 320, 128, 128));
  OperationRates rates(type, filter);
  rates.linear_concatenated("nano qkv", 7680, 256);
  rates.linear("nano attention out", 7680, 256, 256, Activation::none, true);
  rates.linear("nano ffn in", 7680, 256, 768, Activation::gelu_tanh, false);
  rates.linear("nano ffn out", 7680, 768, 256, Activation::none, true);
  rates.linear("nano head", 7680, 256, 64, Activation::none, false);
  rates.conv3d("nano projector 1", 2, 8, 48, 80, 768, 96, 4, 3, 2, Padding::edge);
  rates.conv3d("nano projector 2", 2, 4, 48, 80, 96, 160, 4, 3, 2, Padding::edge);
  rates.conv2d("nano decoder in", 96, 160, 768, 16, 128, false, type);
  rates.conv2d("nano decoder 1", 96, 160, 128, 0, 128, false, type);
  rates.conv2d("nano decoder 1 memory", 96, 160, 128, 128, 128, false, type);
  rates.conv2d("nano decoder 1 residual", 96, 160, 128, 0, 128, true, type);
  rates.upsample("nano decoder up 1", 96, 160, 128, 128, 1);
  rates.conv2d("nano decoder 2", 192, 320, 128, 0, 128, false, type);
  rates.conv2d("nano decoder 2 memory", 192, 320, 128, 128, 128, false, type);
  rates.conv2d("nano decoder 2 residual", 192, 320, 128, 0, 128, true, type);
  rates.upsample("nano decoder up 2", 192, 320, 128, 32, 2);
  rates.conv2d("nano decoder 3", 384, 640, 32, 0, 32, false, type);
  rates.conv2d("nano decoder 3 memory", 384, 640, 32, 32, 32, false, type);
  rates.conv2d("nano decoder 3 residual", 384, 640, 32, 0, 32, true, type);
  rates.upsample("nano decoder up 3", 384, 640, 32, 16, 2);
  rates.conv2d("nano decoder out 1", 768, 1280, 16, 0, 16, false, type);
  rates.conv2d("nano decoder out 2", 768, 1280, 16, 0, 3, false, DType::f32);
  rates.linear_concatenated("1.3B qkv", 3072, 1536);
  rates.linear("1.3B attention out", 3072, 1536, 1536, Activation::none, true);
  rates.linear("1.3B ffn in", 3072, 1536, 8960, Activation::gelu_tanh, false);
  rates.linear("1.3B ffn out", 3072, 8960, 1536, Activation::none, true);
  rates.conv3d("VAE 384", 2, 1, 96, 160, 384, 384, 3, 3, 1, Padding::zeros);
  rates.conv3d("VAE 192", 2, 1, 192, 320, 192, 192, 3, 3, 1, Padding::zeros);
  rates.conv3d("VAE 96", 2, 1, 384, 640, 96, 96, 3, 3, 1, Padding::zeros);
  rates.conv3d("VAE 96 to 3", 2, 1, 384, 640, 96, 3, 3, 3, 1, Padding::zeros);
  rates.conv3d("VAE time 384", 2, 1, 96, 160, 384, 768, 3, 1, 1, Padding::zeros);
  rates.conv3d("VAE shortcut 192", 0, 1, 192, 320, 192, 384, 1, 1, 1, Padding::zeros);
  rates.upsample("VAE up 192", 192, 320, 192, 96, 1);
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  std::string filter;
  bool f32 = true, bf16 = true;
  for (const std::string& word : words) {
    if (word == "one")
      g_one_thread = true;
    else if (word == "f32")
      bf16 = false;
    else if (word == "bf16")
      f32 = false;
    else
      filter = word;
  }
  if (bf16) measure(DType::bf16, filter);
  if (f32) measure(DType::f32, filter);
}
