// The lab of the block-sparse attention: the plain reference, every kernel, check and timing in one place.
//   attention_lab [HEIGHT WIDTH [WINDOWS]]      default 768 1408 4: the steady chunk of the published model
#include "ops/cuda/kernels/sparse_attention.h"
#include "ops/cuda/kernels/sparse_attention_portable.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace flashvsr::cuda;

namespace {

constexpr int kTile = 128;

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
    std::exit(1);
  }
}

template <typename T>
T* upload(const std::vector<T>& values) {
  T* device = nullptr;
  check(cudaMalloc(&device, std::max<std::size_t>(values.size(), 1) * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(device, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return device;
}

struct Problem {
  int heads = 12, block_rows = 6, block_columns = 11, windows = 4, query_windows = 1;
  int window_blocks = 0, query_blocks = 0, key_blocks = 0, ring_blocks = 0;
  std::vector<int> slots;
  std::vector<__nv_bfloat16> q, k, v;
  std::vector<int> offsets, indices;
};

// Top-k over random scores inside a local window, as in the model: rows keep different numbers of blocks, some none.
Problem make_problem(int heads, int block_rows, int block_columns, int windows, int query_windows, double ratio,
                     int range, unsigned seed, float gain = 1.0f) {
  Problem p;
  p.heads = heads, p.block_rows = block_rows, p.block_columns = block_columns;
  p.windows = windows, p.query_windows = query_windows;
  p.window_blocks = block_rows * block_columns;
  p.query_blocks = query_windows * p.window_blocks;
  p.key_blocks = windows * p.window_blocks;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int w = 0; w < windows + 1; ++w) p.slots.push_back(w);
  std::shuffle(p.slots.begin(), p.slots.end(), random);
  p.slots.resize(static_cast<std::size_t>(windows));
  p.ring_blocks = (windows + 1) * p.window_blocks;
  const std::size_t dim = static_cast<std::size_t>(heads) * kTile;
  p.q.resize(static_cast<std::size_t>(p.query_blocks) * kTile * dim);
  p.k.resize(static_cast<std::size_t>(p.ring_blocks) * kTile * dim);
  p.v.resize(p.k.size());
  std::vector<float> table(1 << 16);
  for (float& value : table) value = normal(random);
  std::uint32_t state = seed * 2654435761u + 1;
  const auto fill = [&](std::vector<__nv_bfloat16>& values, float gain) {
    for (auto& value : values) {
      state = state * 1664525u + 1013904223u;
      value = __float2bfloat16(gain * table[state >> 16]);
    }
  };
  fill(p.q, gain), fill(p.k, 1.0f), fill(p.v, 1.0f);
  p.offsets.push_back(0);
  for (int head = 0; head < heads; ++head) {
    for (int window = 0; window < query_windows; ++window) {
      std::vector<float> scores(static_cast<std::size_t>(p.window_blocks) * p.key_blocks, -1.0f);
      for (int row = 0; row < p.window_blocks; ++row) {
        const float row_gain = std::exp(0.3f * normal(random));
        for (int key = 0; key < p.key_blocks; ++key) {
          const int in_window = key % p.window_blocks;
          const int dr = in_window / block_columns - row / block_columns + range / 2;
          const int dc = in_window % block_columns - row % block_columns + range / 2;
          if (dr < 0 || dr >= range || dc < 0 || dc >= range) continue;
          scores[static_cast<std::size_t>(row) * p.key_blocks + key] = row_gain * std::exp(normal(random));
        }
      }
      std::vector<float> sorted = scores;
      const std::size_t rank =
          std::min(sorted.size() - 1,
                   static_cast<std::size_t>(p.window_blocks * static_cast<double>(p.window_blocks) * ratio) - 1);
      std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rank), sorted.end(),
                       std::greater<>());
      const float threshold = std::max(sorted[rank], 0.0f);
      for (int row = 0; row < p.window_blocks; ++row) {
        for (int key = 0; key < p.key_blocks; ++key) {
          if (scores[static_cast<std::size_t>(row) * p.key_blocks + key] > threshold && !(seed % 2 == 1 && row == 1))
            p.indices.push_back(key);
        }
        p.offsets.push_back(static_cast<int>(p.indices.size()));
      }
    }
  }
  return p;
}

// One query row in double.
std::vector<double> reference_row(const Problem& p, int head, int query_block, int query) {
  const std::size_t dim = static_cast<std::size_t>(p.heads) * kTile;
  const int row = head * p.query_blocks + query_block;
  const __nv_bfloat16* q = &p.q[(static_cast<std::size_t>(query_block) * kTile + query) * dim + head * kTile];
  std::vector<double> logits;
  std::vector<const __nv_bfloat16*> values;
  for (int i = p.offsets[row]; i < p.offsets[row + 1]; ++i) {
    const int key = p.indices[i];
    const int ring = p.slots[key / p.window_blocks] * p.window_blocks + key % p.window_blocks;
    for (int t = 0; t < kTile; ++t) {
      const std::size_t at = (static_cast<std::size_t>(ring) * kTile + t) * dim + head * kTile;
      double dot = 0;
      for (int d = 0; d < kTile; ++d)
        dot += static_cast<double>(__bfloat162float(q[d])) * __bfloat162float(p.k[at + d]);
      logits.push_back(dot / std::sqrt(128.0));
      values.push_back(&p.v[at]);
    }
  }
  std::vector<double> out(kTile, 0.0);
  if (logits.empty()) return out;
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = std::exp(logits[i] - top);
    sum += weight;
    for (int d = 0; d < kTile; ++d) out[d] += weight * __bfloat162float(values[i][d]);
  }
  for (double& value : out) value /= sum;
  return out;
}

using Launch = std::function<cudaError_t(const SparseAttentionArguments&)>;

bool run(const char* name, const Problem& p, const Launch& launch, int samples, bool timed) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "properties");
  SparseAttentionArguments a;
  __nv_bfloat16 *q = upload(p.q), *k = upload(p.k), *v = upload(p.v), *out = nullptr;
  check(cudaMalloc(&out, p.q.size() * 2), "out");
  check(cudaMemset(out, 0xff, p.q.size() * 2), "poison");
  int *offsets = upload(p.offsets), *indices = upload(p.indices);
  void* workspace = nullptr;
  check(cudaMalloc(&workspace, sparse_attention_workspace(properties.multiProcessorCount)), "workspace");
  a.q = q, a.k = k, a.v = v, a.out = out, a.offsets = offsets, a.indices = indices, a.workspace = workspace;
  a.heads = p.heads, a.query_blocks = p.query_blocks, a.ring_blocks = p.ring_blocks;
  a.window_blocks = p.window_blocks, a.windows = p.windows;
  std::copy(p.slots.begin(), p.slots.end(), a.slots);
  check(launch(a), name);
  check(cudaDeviceSynchronize(), name);
  std::vector<__nv_bfloat16> result(p.q.size());
  check(cudaMemcpy(result.data(), out, result.size() * 2, cudaMemcpyDeviceToHost), "copy back");
  double error = 0, norm = 0;
  bool finite = true;
  for (const auto& value : result) finite &= std::isfinite(__bfloat162float(value));
  std::mt19937 random(7);
  const std::size_t dim = static_cast<std::size_t>(p.heads) * kTile;
  const auto compare = [&](int head, int block, int query) {
    const std::vector<double> expected = reference_row(p, head, block, query);
    for (int d = 0; d < kTile; ++d) {
      const double got =
          __bfloat162float(result[(static_cast<std::size_t>(block) * kTile + query) * dim + head * kTile + d]);
      error += (got - expected[d]) * (got - expected[d]);
      norm += expected[d] * expected[d];
    }
  };
  for (int i = 0; i < samples; ++i)
    compare(static_cast<int>(random() % p.heads), static_cast<int>(random() % p.query_blocks),
            static_cast<int>(random() % kTile));
  const double relative = std::sqrt(error / std::max(norm, 1e-300));
  // P and the output are rounded to bf16: 2^-9 each, averaged over many terms.
  const bool ok = finite && relative < 4e-3;
  std::printf("%-10s heads %2d blocks %2dx%-2d windows %d/%d kept %6zu  relative L2 %.2e %s", name, p.heads,
              p.block_rows, p.block_columns, p.query_windows, p.windows, p.indices.size(), relative,
              ok ? "ok" : "WRONG");
  if (timed) {
    cudaEvent_t start, stop;
    cudaEventCreate(&start), cudaEventCreate(&stop);
    std::vector<float> times;
    for (int i = 0; i < 30; ++i) {
      cudaEventRecord(start);
      launch(a);
      cudaEventRecord(stop);
      cudaEventSynchronize(stop);
      float ms = 0;
      cudaEventElapsedTime(&ms, start, stop);
      if (i >= 5) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    const double flops = 4.0 * kTile * kTile * kTile * static_cast<double>(p.indices.size());
    std::printf("  min %.3f median %.3f max %.3f ms  %.0f TFLOP/s on kept blocks", times.front(),
                times[times.size() / 2], times.back(), flops / times[times.size() / 2] * 1e-9);
    // Back to back for two seconds: the rate under sustained load, where the card is limited by power.
    float total = 0;
    int count = 0;
    cudaEventRecord(start);
    while (total < 2000.0f) {
      for (int i = 0; i < 100; ++i) launch(a);
      count += 100;
      cudaEventRecord(stop);
      cudaEventSynchronize(stop);
      cudaEventElapsedTime(&total, start, stop);
    }
    std::printf("  sustained %.0f", flops * count / total * 1e-9);
  }
  std::printf("\n");
  std::fflush(stdout);
  for (void* pointer : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(out),
                        static_cast<void*>(offsets), static_cast<void*>(indices), workspace})
    cudaFree(pointer);
  return ok;
}

// The same problem as the kernels for any GPU take it.
AttentionArguments general(const SparseAttentionArguments& a) {
  AttentionArguments g;
  g.q = a.q, g.k = a.k, g.v = a.v, g.out = a.out;
  g.type = flashvsr::DType::bf16;
  g.heads = a.heads, g.head_dim = kTile, g.queries = a.query_blocks * kTile;
  g.offsets = a.offsets, g.indices = a.indices, g.query_blocks = a.query_blocks, g.window_blocks = a.window_blocks;
  std::copy(a.slots, a.slots + a.windows, g.slots);
  return g;
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "no CUDA device");
  const int sms = properties.multiProcessorCount;
  std::printf("%s, %d multiprocessors\n", properties.name, sms);
  std::vector<std::pair<const char*, Launch>> kernels;
  if (properties.major == 9) {
    kernels.emplace_back(
        "hopper", [&](const SparseAttentionArguments& a) { return launch_sparse_attention_hopper(a, sms, nullptr); });
  }
  kernels.emplace_back("portable", [&](const SparseAttentionArguments& a) {
    return launch_attention_portable(general(a), properties.sharedMemPerMultiprocessor, nullptr);
  });
  // Its smaller tiles, which GPUs with less shared memory use.
  kernels.emplace_back("portable32", [&](const SparseAttentionArguments& a) {
    return launch_attention_portable(general(a), std::size_t{100} << 10, nullptr);
  });
  bool ok = true;
  const int height = argc > 2 ? std::atoi(argv[1]) : 768, width = argc > 2 ? std::atoi(argv[2]) : 1408;
  const double ratio = 2.0 * 768 * 1280 / (static_cast<double>(height) * width);
  const Problem steady = make_problem(12, height / 128, width / 128, 4, 1, ratio, 11, 6);
  for (const auto& [name, launch] : kernels) {
    if (argc < 3) {
      // Shapes that a schedule can trip over: fewer items than multiprocessors, one row, empty rows, many splits.
      ok &= run(name, make_problem(1, 1, 1, 1, 1, 1.0, 3, 2), launch, 64, false);
      ok &= run(name, make_problem(2, 2, 3, 4, 1, 1.4, 3, 21), launch, 512, false);
      ok &= run(name, make_problem(2, 3, 2, 3, 3, 1.4, 3, 5), launch, 512, false);
      ok &= run(name, make_problem(1, 1, 2, 8, 1, 100.0, 9, 4), launch, 256, false);
      ok &= run(name, make_problem(3, 5, 7, 4, 1, 2.0, 5, 9), launch, 512, false);
      // Scores whose maximum leaps from block to block, by more and by less than a weight may.
      ok &= run(name, make_problem(2, 3, 5, 4, 1, 2.0, 5, 7, 200.0f), launch, 512, false);
      ok &= run(name, make_problem(2, 3, 5, 4, 1, 2.0, 5, 7, 20.0f), launch, 512, false);
    }
    ok &= run(name, steady, launch, 256, true);
    if (argc < 3) ok &= run(name, make_problem(12, height / 128, width / 128, 3, 3, ratio, 11, 8), launch, 256, true);
  }
  return ok ? 0 : 1;
}
