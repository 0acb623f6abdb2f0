// The lab of the Hopper convolution: check against the plain kernel and timing at the sizes of the published model.
//   convolution_lab [check | MILLISECONDS for each under steady load]
#include "ops/cuda/kernels/convolution_hopper.h"
#include "ops/cuda/kernels/convolution_narrow_hopper.h"
#include "ops/cuda/kernels/convolution_plain.h"

#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace flashvsr::cuda;

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

// About normal, the same for the same seed and index.
__host__ __device__ inline float noise(unsigned seed, unsigned long long index) {
  unsigned long long x = index * 0x9E3779B97F4A7C15ull + seed * 0xBF58476D1CE4E5B9ull + 1;
  float sum = 0;
  for (int i = 0; i < 3; ++i) {
    x ^= x >> 30, x *= 0xBF58476D1CE4E5B9ull, x ^= x >> 27, x *= 0x94D049BB133111EBull, x ^= x >> 31;
    sum += static_cast<float>(x >> 40) * (1.0f / (1 << 24)) - 0.5f;
  }
  return 2.0f * sum;
}

__global__ void fill(__nv_bfloat16* values, long long count, unsigned seed) {
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    values[i] = __float2bfloat16(noise(seed, i));
  }
}

struct WeightShape {
  int out, first, second, kt, taps, rows;
  int chunk;  // 0: [out][kt * taps][channels in granules]; else chunks of that many channels, Hopper's layout
  int granule;
};

__host__ __device__ inline int rounded(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// The weight of output o, channel c of both sources, time tap t, tap s.
__device__ float weight_at(const WeightShape& w, int o, int c, int t, int s) {
  const float scale = rsqrtf(static_cast<float>((w.first + w.second) * w.kt * w.taps));
  return scale * noise(7, ((static_cast<unsigned long long>(o) * (w.first + w.second) + c) * w.kt + t) * w.taps + s);
}

// The layout of the narrow kernel: [32][channels in multiples of 64], row tap * out + o.
__global__ void pack_narrow(__nv_bfloat16* values, WeightShape w, int columns) {
  for (int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x); i < kNarrowConvolutionRows * columns;
       i += static_cast<int>(gridDim.x * 256)) {
    const int channel = i % columns, row = i / columns, tap = row / w.out, o = row % w.out;
    const bool exists = channel < w.first && tap < w.taps;
    values[i] = __float2bfloat16(exists ? weight_at(w, o, channel, 0, tap) : 0.0f);
  }
}

__global__ void pack(__nv_bfloat16* values, WeightShape w, long long count) {
  const int first = rounded(w.first, w.granule), second = rounded(w.second, w.granule), channels = first + second;
  for (long long i = blockIdx.x * 256ll + threadIdx.x; i < count; i += gridDim.x * 256ll) {
    long long rest = i;
    int padded, tap, t, o;
    if (w.chunk > 0) {
      const int inside = static_cast<int>(rest % w.chunk);
      rest /= w.chunk;
      tap = static_cast<int>(rest % w.taps);
      rest /= w.taps;
      padded = static_cast<int>(rest % (channels / w.chunk)) * w.chunk + inside;
      rest /= channels / w.chunk;
      t = static_cast<int>(rest % w.kt);
      o = static_cast<int>(rest / w.kt);
    } else {
      padded = static_cast<int>(rest % channels);
      rest /= channels;
      tap = static_cast<int>(rest % w.taps);
      rest /= w.taps;
      t = static_cast<int>(rest % w.kt);
      o = static_cast<int>(rest / w.kt);
    }
    const bool of_first = padded < first;
    const int inside = of_first ? padded : padded - first;
    const bool exists = o < w.out && inside < (of_first ? w.first : w.second);
    values[i] = __float2bfloat16(exists ? weight_at(w, o, of_first ? inside : w.first + inside, t, tap) : 0.0f);
  }
}

struct Case {
  const char* name;
  int frames, height, width, first, second, out, kt, kh, kw, time_stride;
  int pad;  // around each side
  bool bias, residual;
  Activation activation;
  bool f32 = false;
  int phases = 1;  // 4: those of an upsampled frame, padding of the first
};

void run(const Case& k, bool time, double sustained_ms = 0) {
  ConvolutionArguments c;
  c.first_channels = k.first, c.second_channels = k.second;
  c.frames = k.frames, c.height = k.height, c.width = k.width;
  c.kt = k.kt, c.kh = k.kh, c.kw = k.kw, c.time_stride = k.time_stride;
  c.pad_top = c.pad_left = k.pad;
  c.out_frames = (k.frames - k.kt) / k.time_stride + 1;
  c.out_height = k.phases > 1 ? k.height : k.height + 2 * k.pad - k.kh + 1;
  c.out_width = k.phases > 1 ? k.width : k.width + 2 * k.pad - k.kw + 1;
  c.out_channels = k.out;
  c.out_type = k.f32 ? flashvsr::DType::f32 : flashvsr::DType::bf16;
  c.out_column_stride = k.out, c.out_row_stride = std::int64_t{k.out} * c.out_width;
  c.out_frame_stride = c.out_row_stride * c.out_height;
  if (k.phases > 1) {
    c.phases = k.phases;
    c.phase_column_stride = k.out, c.phase_row_stride = 2 * c.out_row_stride;
    c.out_column_stride *= 2, c.out_row_stride *= 4, c.out_frame_stride *= 4;
  }
  c.activation = k.activation;
  const long long pixels = 1ll * k.frames * k.height * k.width, results = c.out_frame_stride * c.out_frames;

  std::vector<void*> owned;
  const auto allocate = [&](long long bytes) {
    void* pointer = nullptr;
    check(cudaMalloc(&pointer, static_cast<std::size_t>(std::max(bytes, 16ll))), "cudaMalloc");
    owned.push_back(pointer);
    return pointer;
  };
  const auto random = [&](long long count, unsigned seed) {
    auto* values = static_cast<__nv_bfloat16*>(allocate(2 * count));
    fill<<<1024, 256>>>(values, count, seed);
    return values;
  };
  c.first = random(pixels * k.first, 1);
  if (k.second > 0) c.second = random(pixels * k.second, 2);
  if (k.residual) c.residual = random(results, 3);
  std::vector<float> bias(static_cast<std::size_t>(k.out));
  for (int i = 0; i < k.out; ++i) bias[static_cast<std::size_t>(i)] = noise(4, i);
  if (k.bias) {
    c.bias = static_cast<float*>(allocate(4 * k.out));
    check(cudaMemcpy(const_cast<float*>(c.bias), bias.data(), 4 * bias.size(), cudaMemcpyHostToDevice), "copy");
  }
  const HopperWeightLayout layout = hopper_weight_layout(c);
  const int rows = k.phases * layout.rows;  // phases want output channels without padding
  WeightShape shape{k.phases * k.out, k.first, k.second, k.kt, k.kh * k.kw, rows, 64, 64};
  auto* packed = static_cast<__nv_bfloat16*>(allocate(2 * rows * layout.columns()));
  pack<<<4096, 256>>>(packed, shape, rows * layout.columns());
  const long long bytes = results * (k.f32 ? 4 : 2);
  void* out = allocate(bytes);
  check(cudaMemset(out, 0xff, static_cast<std::size_t>(bytes)), "cudaMemset");
  int multiprocessors = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "attribute");
  c.out = out;
  const bool narrow = convolution_narrow_hopper_supports(c);
  if (narrow) {
    const int columns = rounded(k.first, 64);
    packed = static_cast<__nv_bfloat16*>(allocate(2ll * kNarrowConvolutionRows * columns));
    pack_narrow<<<64, 256>>>(packed, shape, columns);
  }
  const auto launch = [&] {
    return narrow ? launch_convolution_narrow_hopper(c, packed, multiprocessors, nullptr)
                  : launch_convolution_hopper(c, packed, multiprocessors, nullptr);
  };
  check(launch(), "launch");
  check(cudaDeviceSynchronize(), k.name);
  std::printf("%-44s", k.name);
  if (!time) {
    const long long columns =
        1ll * k.kt * k.kh * k.kw *
        (rounded(k.first, kPlainConvolutionGranule) + rounded(k.second, kPlainConvolutionGranule));
    shape.chunk = 0, shape.granule = kPlainConvolutionGranule;
    auto* plain = static_cast<__nv_bfloat16*>(allocate(2 * k.phases * k.out * columns));
    pack<<<4096, 256>>>(plain, shape, k.phases * k.out * columns);
    void* expected = allocate(bytes);
    for (int phase = 0; phase < k.phases; ++phase) {
      ConvolutionArguments one = c;
      one.phases = 1;
      one.pad_top -= phase / 2, one.pad_left -= phase % 2;
      one.out =
          static_cast<__nv_bfloat16*>(expected) + phase / 2 * c.phase_row_stride + phase % 2 * c.phase_column_stride;
      if (k.phases == 1) one.out = expected;
      check(launch_convolution_plain(one, plain + phase * k.out * columns, nullptr), "plain");
    }
    check(cudaDeviceSynchronize(), "plain");
    std::vector<unsigned char> a(static_cast<std::size_t>(bytes)), b(a.size());
    check(cudaMemcpy(a.data(), out, a.size(), cudaMemcpyDeviceToHost), "copy");
    check(cudaMemcpy(b.data(), expected, b.size(), cudaMemcpyDeviceToHost), "copy");
    double error = 0, norm = 0;
    for (long long i = 0; i < results; ++i) {
      const auto value = [&](const std::vector<unsigned char>& from) {
        return k.f32 ? static_cast<double>(reinterpret_cast<const float*>(from.data())[i])
                     : static_cast<double>(__bfloat162float(reinterpret_cast<const __nv_bfloat16*>(from.data())[i]));
      };
      const double x = value(a), y = value(b);
      error += (x - y) * (x - y), norm += y * y;
    }
    const double relative = std::sqrt(error / std::max(norm, 1e-30)), allowed = k.f32 ? 1e-5 : 4e-3;
    std::printf(" relative L2 %.2e %s\n", relative, relative < allowed ? "ok" : "WRONG");
  } else {
    std::vector<float> times;
    cudaEvent_t start, stop;
    cudaEventCreate(&start), cudaEventCreate(&stop);
    for (int i = 0; i < 20; ++i) {
      cudaEventRecord(start);
      launch();
      cudaEventRecord(stop);
      check(cudaEventSynchronize(stop), "time");
      float ms = 0;
      cudaEventElapsedTime(&ms, start, stop);
      times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    const double flops = 2.0 * static_cast<double>(results) * (k.first + k.second) * k.kt * k.kh * k.kw;
    std::printf(" min %.3f median %.3f max %.3f ms %6.0f TFLOP/s", times.front(), times[10], times.back(),
                flops / times[10] * 1e-9);
    if (sustained_ms > 0) {
      // Under a steady load the card lowers its clock to stay within its power.
      const int count = static_cast<int>(sustained_ms / times[10]) + 1;
      for (int i = 0; i < 2 * count; ++i) {
        if (i == count) cudaEventRecord(start);
        launch();
      }
      cudaEventRecord(stop);
      check(cudaEventSynchronize(stop), "time");
      float ms = 0;
      cudaEventElapsedTime(&ms, start, stop);
      std::printf(", sustained %.3f ms %6.0f TFLOP/s", ms / count, flops * count / ms * 1e-9);
    }
    std::printf("\n");
  }
  for (void* pointer : owned) cudaFree(pointer);
}

}  // namespace

int main(int argc, char** argv) {
  const bool only_check = argc > 1 && std::string(argv[1]) == "check";
  const double sustained_ms = argc > 1 ? std::atof(argv[1]) : 0;
  constexpr auto kRelu = Activation::relu;
  constexpr auto kNone = Activation::none;
  for (const Case& k : {
           Case{"3x3 one tile", 1, 16, 16, 64, 0, 128, 1, 3, 3, 1, 1, true, false, kNone},
           Case{"1x1", 1, 16, 16, 128, 0, 128, 1, 1, 1, 1, 0, false, false, kNone},
           Case{"3x3 odd size, 40 channels", 2, 19, 37, 40, 0, 136, 1, 3, 3, 1, 1, true, true, kRelu},
           Case{"two sources", 1, 33, 50, 64, 72, 96, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"2x2", 1, 20, 44, 128, 0, 256, 1, 2, 2, 1, 1, true, false, kNone},
           Case{"2x2, four phases", 2, 35, 44, 128, 0, 128, 1, 2, 2, 1, 1, true, false, kRelu, false, 4},
           Case{"2x2, four phases, 256", 1, 16, 17, 192, 0, 256, 1, 2, 2, 1, 1, false, false, kNone, false, 4},
           Case{"1x1, GELU", 1, 96, 88, 1536, 0, 512, 1, 1, 1, 1, 0, true, false, Activation::gelu_tanh},
           Case{"3 channels of f32", 1, 40, 24, 128, 0, 3, 1, 3, 3, 1, 1, true, false, kNone, true},
           Case{"3 channels in bf16, 2 frames", 2, 31, 57, 200, 0, 3, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"7 channels, 2x2", 1, 15, 16, 64, 0, 7, 1, 2, 2, 1, 0, false, false, kNone},
           Case{"5 channels, 3x3", 1, 40, 24, 128, 0, 5, 1, 3, 3, 1, 1, true, true, kNone},
           Case{"odd channels", 1, 20, 24, 64, 0, 131, 1, 3, 3, 1, 1, true, true, Activation::silu},
           Case{"conv3d (4,3,3) / 2", 6, 20, 26, 192, 0, 256, 4, 3, 3, 2, 0, true, false, kNone},
           Case{"many tiles", 1, 200, 300, 128, 128, 128, 1, 3, 3, 1, 1, true, true, kRelu},
       }) {
    run(k, false);
  }
  if (only_check) return 0;
  for (const Case& k : {
           Case{"128 to 128 at 768x1408", 1, 768, 1408, 128, 0, 128, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"128 to 128 at 768x1408, residual", 1, 768, 1408, 128, 0, 128, 1, 3, 3, 1, 1, true, true, kRelu},
           Case{"128 to 3 at 768x1408", 1, 768, 1408, 128, 0, 3, 1, 3, 3, 1, 1, true, false, kNone, true},
           Case{"2 x 128 to 128 at 384x704", 1, 384, 704, 128, 128, 128, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"128 to 128 at 384x704", 1, 384, 704, 128, 0, 128, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"128 to 128, 2x2 at 384x704", 1, 384, 704, 128, 0, 128, 1, 2, 2, 1, 0, true, false, kRelu},
           Case{"128 to 128, growing to 768x1408", 1, 384, 704, 128, 0, 128, 1, 2, 2, 1, 1, true, false, kRelu, false,
                4},
           Case{"256 to 128, growing to 384x704", 1, 192, 352, 256, 0, 128, 1, 2, 2, 1, 1, true, false, kNone, false,
                4},
           Case{"512 to 256, growing to 192x352", 1, 96, 176, 512, 0, 256, 1, 2, 2, 1, 1, true, false, kNone, false, 4},
           Case{"1x1, 1536 to 1536, 8448 pixels", 1, 96, 88, 1536, 0, 1536, 1, 1, 1, 1, 0, true, true, kNone},
           Case{"1x1, 1536 to 4608", 1, 96, 88, 1536, 0, 4608, 1, 1, 1, 1, 0, true, false, kNone},
           Case{"1x1, 1536 to 8960, GELU", 1, 96, 88, 1536, 0, 8960, 1, 1, 1, 1, 0, true, false, Activation::gelu_tanh},
           Case{"1x1, 8960 to 1536", 1, 96, 88, 8960, 0, 1536, 1, 1, 1, 1, 0, true, true, kNone},
           Case{"2 x 256 to 256 at 192x352", 1, 192, 352, 256, 256, 256, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"256 to 256 at 192x352", 1, 192, 352, 256, 0, 256, 1, 3, 3, 1, 1, true, true, kRelu},
           Case{"2 x 512 to 512 at 96x176", 1, 96, 176, 512, 512, 512, 1, 3, 3, 1, 1, true, false, kRelu},
           Case{"512 to 512 at 96x176", 1, 96, 176, 512, 0, 512, 1, 3, 3, 1, 1, true, true, kRelu},
           Case{"projector 768 to 2048, 8 frames", 10, 50, 90, 768, 0, 2048, 4, 3, 3, 2, 0, true, false, kNone},
           Case{"projector 2048 to 3072, 4 frames", 6, 50, 90, 2048, 0, 3072, 4, 3, 3, 2, 0, true, false, kNone},
       }) {
    run(k, true, sustained_ms);
  }
  return 0;
}
