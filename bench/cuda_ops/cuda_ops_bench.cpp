// Operations of the CUDA back end at the sizes of the published model's steady chunk at 768x1408, each beside what the
// machine can do: linears beside cuBLASLt alone, passes over memory beside a copy of as many bytes.
//   cuda_ops_bench [passes]   only the passes over memory
#include "ops/backend.h"
#include "random_tensors.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

namespace flashvsr {
namespace {

using bench::random_tensor;

constexpr std::int64_t kTokens = 8448, kDim = 1536, kHidden = 8960, kHeads = 12;
constexpr std::int64_t kRows = 48, kColumns = 88;
constexpr int kBuffers = 4;  // more than L2 holds, so that inputs come from memory
constexpr int kCalls = 24, kRuns = 9;

// Median of several runs of many calls in a row, in milliseconds a call.
double milliseconds(const std::function<void(int)>& call, const std::function<void()>& wait) {
  for (int i = 0; i < kBuffers; ++i) call(i);
  wait();
  std::vector<double> times;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call(i % kBuffers);
    wait();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() /
                    kCalls);
  }
  std::sort(times.begin(), times.end());
  return times[kRuns / 2];
}

void require_success(int status, const char* what) {
  if (status != 0) fail(ErrorCode::device, "{} failed: {}", what, status);
}

// y [rows, out] = x [rows, in] w [out, in]^T in bf16, without anything after it, by the fastest of eight algorithms.
class PlainProduct {
 public:
  PlainProduct() { require_success(cublasLtCreate(&handle_), "cublasLtCreate"); }
  ~PlainProduct() { cublasLtDestroy(handle_); }

  double fastest(const std::vector<Tensor>& x, const Tensor& w, const std::vector<Tensor>& y) {
    const auto in = static_cast<std::uint64_t>(w.dim(1)), out = static_cast<std::uint64_t>(w.dim(0));
    const auto rows = static_cast<std::uint64_t>(x[0].dim(0));
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    require_success(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing");
    cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed));
    cublasLtMatrixLayoutCreate(&a, CUDA_R_16BF, in, out, w.dim(1));
    cublasLtMatrixLayoutCreate(&b, CUDA_R_16BF, in, rows, w.dim(1));
    cublasLtMatrixLayoutCreate(&c, CUDA_R_16BF, out, rows, w.dim(0));
    cublasLtMatmulPreferenceCreate(&preference);
    constexpr std::size_t kWorkspace = std::size_t{64} << 20;
    void* workspace = nullptr;
    require_success(cudaMalloc(&workspace, kWorkspace), "cudaMalloc");
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                         sizeof(kWorkspace));
    cublasLtMatmulHeuristicResult_t candidates[8];
    int count = 0;
    require_success(cublasLtMatmulAlgoGetHeuristic(handle_, operation, a, b, c, c, preference, 8, candidates, &count),
                    "choosing");
    double best = INFINITY;
    for (int i = 0; i < count; ++i) {
      const float alpha = 1, beta = 0;
      best = std::min(best, milliseconds(
                                [&](int buffer) {
                                  const auto index = static_cast<std::size_t>(buffer);
                                  cublasLtMatmul(handle_, operation, &alpha, w.raw(), a, x[index].raw(), b, &beta,
                                                 y[index].raw(), c, y[index].mutable_raw(), c, &candidates[i].algo,
                                                 workspace, kWorkspace, nullptr);
                                },
                                [] { cudaDeviceSynchronize(); }));
    }
    cudaFree(workspace);
    cublasLtMatmulPreferenceDestroy(preference);
    for (const auto layout : {a, b, c}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(operation);
    return best;
  }

 private:
  cublasLtHandle_t handle_ = nullptr;
};

void run(bool only_passes) {
  const auto operations = ops::make_backend({.device = ops::Device::cuda, .precision = ops::Precision::bf16});
  ops::Operations& o = *operations;
  const auto wait = [&o] { o.synchronize(); };
  const auto buffers = [&o](const Shape& shape, DType type, std::uint64_t seed) {
    std::vector<Tensor> result;
    for (int i = 0; i < kBuffers; ++i) {
      result.push_back(o.from_host(random_tensor(shape, seed + static_cast<std::uint64_t>(i)), type));
    }
    return result;
  };
  constexpr auto kBf16 = DType::bf16;
  const auto& parameter = bench::random_weight;

  const std::vector<Tensor> x = buffers({kTokens, kDim}, kBf16, 1), hidden = buffers({kTokens, kHidden}, kBf16, 11);
  fmt::print("{:34} {:>9} {:>10} {:>14} {:>8}\n", "linear, 8448 tokens", "ms", "TFLOP/s", "cuBLASLt ms", "of it");
  PlainProduct plain;
  struct Layer {
    const char* name;
    std::int64_t in, out;
    ops::Activation activation;
    bool gate, residual;
  };
  const Tensor gate = o.from_host(random_tensor({kDim}, 21));
  for (const Layer& l : {Layer{"qkv, bias", kDim, 3 * kDim, ops::Activation::none, false, false},
                         Layer{"q, bias", kDim, kDim, ops::Activation::none, false, false},
                         Layer{"o, bias, gate, residual", kDim, kDim, ops::Activation::none, true, true},
                         Layer{"ffn in, bias, GELU", kDim, kHidden, ops::Activation::gelu_tanh, false, false},
                         Layer{"ffn out, bias, gate, residual", kHidden, kDim, ops::Activation::none, true, true}}) {
    if (only_passes) break;
    const ops::LinearWeights weights{parameter({l.out, l.in}, 31), parameter({l.out}, 32)};
    const std::vector<Tensor>& in = l.in == kDim ? x : hidden;
    const std::vector<Tensor> out = buffers({kTokens, l.out}, kBf16, 41);
    ops::LinearOptions options{.activation = l.activation};
    if (l.gate) options.gate = &gate;
    const double own = milliseconds(
        [&](int i) {
          ops::LinearOptions with = options;
          if (l.residual) with.residual = &x[static_cast<std::size_t>(i)];
          o.linear(in[static_cast<std::size_t>(i)], weights, with);
        },
        wait);
    const double alone = plain.fastest(in, o.constant(weights.weight, kBf16), out);
    const double flops = 2.0 * static_cast<double>(kTokens * l.in * l.out);
    fmt::print("{:34} {:9.3f} {:10.0f} {:14.3f} {:7.0f} %\n", l.name, own, flops / own * 1e-9, alone,
               100 * alone / own);
  }

  fmt::print("\n{:34} {:>9} {:>10} {:>14} {:>8}\n", "pass", "ms", "TB/s", "copy ms", "of it");
  const auto pass = [&](const char* name, double read, double written, const std::function<void(int)>& call) {
    // A copy that moves as many bytes.
    const auto half = static_cast<std::size_t>((read + written) / 2);
    std::byte* from = nullptr;
    require_success(cudaMalloc(&from, 2 * half * kBuffers), "cudaMalloc");
    const double copy = milliseconds(
        [&](int i) {
          std::byte* source = from + 2 * half * static_cast<std::size_t>(i);
          cudaMemcpyAsync(source + half, source, half, cudaMemcpyDeviceToDevice, nullptr);
        },
        [] { cudaDeviceSynchronize(); });
    cudaFree(from);
    const double own = milliseconds(call, wait);
    fmt::print("{:34} {:9.4f} {:10.2f} {:14.4f} {:7.0f} %\n", name, own, (read + written) / own * 1e-9, copy,
               100 * copy / own);
  };
  const auto at = [](int i) { return static_cast<std::size_t>(i); };
  const double token_bytes = static_cast<double>(kTokens * kDim) * 2;
  const Tensor scale = o.from_host(random_tensor({kDim}, 51)), shift = o.from_host(random_tensor({kDim}, 52));
  const Parameter norm = parameter({kDim}, 53), bias = parameter({kDim}, 54);
  pass("layer_norm_modulated", token_bytes, token_bytes,
       [&](int i) { o.layer_norm_modulated(x[at(i)], scale, shift); });
  pass("layer_norm", token_bytes, token_bytes, [&](int i) { o.layer_norm(x[at(i)], norm, bias); });
  pass("rms_norm", token_bytes, token_bytes, [&](int i) { o.rms_norm(x[at(i)], norm); });
  const std::vector<Tensor> qkv = buffers({kTokens, 3 * kDim}, kBf16, 61);
  const ops::TokenGrid grid{.latents = 2, .rows = kRows, .columns = kColumns, .first_latent = 6, .heads = kHeads};
  pass("split_qkv: norms, RoPE, block means", 3 * token_bytes, 3 * token_bytes,
       [&](int i) { o.split_qkv(qkv[at(i)], norm, norm, grid); });
  const std::vector<Tensor> map = buffers({2, kRows, kColumns, 3072}, kBf16, 71);
  const Parameter gamma = parameter({3072, 1, 1, 1}, 72);
  pass("channel_rms_norm, SiLU", 2 * token_bytes, 2 * token_bytes,
       [&](int i) { o.channel_rms_norm(map[at(i)], gamma, ops::Activation::silu); });
  const std::vector<Tensor> video = buffers({8, 768, 1408, 3}, DType::f32, 81);
  std::vector<Tensor> reference;
  for (const Tensor& v : video) reference.push_back(o.to_bytes(v));
  const double pixels = 8.0 * 768 * 1408 * 3;
  pass("to_bytes, 8 frames", 4 * pixels, pixels, [&](int i) { o.to_bytes(video[at(i)]); });
  pass("adain, 8 frames, two reads", 10 * pixels, 4 * pixels, [&](int i) { o.adain(video[at(i)], reference[at(i)]); });
  pass("wavelet, 8 frames, two passes", 10 * pixels, 8 * pixels,
       [&](int i) { o.wavelet(video[at(i)], reference[at(i)]); });
  pass("space_to_depth of bytes, 8 frames", pixels, 2 * pixels,
       [&](int i) { o.space_to_depth(reference[at(i)], 16, 1); });
}

}  // namespace
}  // namespace flashvsr

int main(int argc, char** argv) {
  try {
    flashvsr::run(argc > 1 && std::string_view(argv[1]) == "passes");
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_ops_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
