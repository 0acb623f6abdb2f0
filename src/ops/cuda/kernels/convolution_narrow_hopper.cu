// With few output channels the tensor cores would spend their time on reading pixels, once for every tap. Here a patch
// of 16 x 16 pixels is multiplied once by the weights of all taps, side by side; the products of a tap then belong to
// the pixel at its distance, and every result adds up what its neighbours hold for it.
#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/convolution_narrow_hopper.h"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/ptx/mbarrier.cuh"
#include "ops/cuda/ptx/tma.cuh"
#include "ops/cuda/ptx/wgmma.cuh"
#include "ops/cuda/tensor_map.h"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

using namespace ptx;

constexpr int kPatchSide = 16, kPatchPixels = kPatchSide * kPatchSide;
constexpr int kRows = kNarrowConvolutionRows;
constexpr int kRowBytes = 128;  // 64 channels
constexpr int kPatchBytes = kPatchPixels * kRowBytes, kWeightBytes = kRows * kRowBytes;
constexpr int kStages = 4, kMaxChunks = 8;
constexpr int kConsumers = 2, kThreads = 128 * (1 + kConsumers), kConsumerThreads = 128 * kConsumers;
// Products [row][pixel]: 4 banks from row to row, so that neither writing nor reading meets conflicts.
constexpr int kPitch = kPatchPixels + 4;
constexpr int kProductBytes = kRows * kPitch * 4;
constexpr int kSharedBytes = kStages * kPatchBytes + kMaxChunks * kWeightBytes + kProductBytes + 1024;
constexpr int kProductBarrier = 1;
static_assert(kConsumerThreads == kPatchPixels, "a thread adds up one result");

struct Parameters {
  CUtensorMap frames, weights;
  ConvolutionArguments c;
  int chunks, tile_width, tile_height, tiles_x, tiles_y, tiles;
};

struct Barriers {
  std::uint64_t full[kStages], empty[kStages], weights;
};

struct Tile {
  int frame, y, x;
};

__device__ Tile tile_of(const Parameters& p, int index) {
  return {index / (p.tiles_x * p.tiles_y), index / p.tiles_x % p.tiles_y * p.tile_height,
          index % p.tiles_x * p.tile_width};
}

__device__ void produce(const Parameters& p, Barriers& barriers, unsigned char* patches, unsigned char* weights) {
  mbarrier_expect(&barriers.weights, static_cast<std::uint32_t>(p.chunks * kWeightBytes));
  for (int chunk = 0; chunk < p.chunks; ++chunk) {
    tma_load_3d(weights + chunk * kWeightBytes, &p.weights, &barriers.weights, 0, 0, chunk);
  }
  int stage = 0;
  std::uint32_t phase = 0;
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles; index += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_of(p, index);
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      mbarrier_wait(&barriers.empty[stage], phase ^ 1);
      mbarrier_expect(&barriers.full[stage], kPatchBytes);
      tma_load_4d(patches + stage * kPatchBytes, &p.frames, &barriers.full[stage], chunk * 64, tile.x - p.c.pad_left,
                  tile.y - p.c.pad_top, tile.frame);
      if (++stage == kStages) stage = 0, phase ^= 1;
    }
  }
}

// The results of one pixel: sums over taps of the products that lie at the taps' distances.
__device__ __forceinline__ void add_up(const Parameters& p, const float* products, const Tile& tile) {
  const ConvolutionArguments& c = p.c;
  const int pixel = static_cast<int>(threadIdx.x) - 128, row = pixel / kPatchSide, column = pixel % kPatchSide;
  const int y = tile.y + row, x = tile.x + column;
  if (row >= p.tile_height || column >= p.tile_width || y >= c.out_height || x >= c.out_width) return;
  const std::int64_t first = tile.frame * c.out_frame_stride + y * c.out_row_stride + x * c.out_column_stride;
  for (int o = 0; o < c.out_channels; ++o) {
    float sum = c.bias != nullptr ? c.bias[o] : 0.0f;
    const float* from = products + o * kPitch + pixel;
    for (int dy = 0; dy < c.kh; ++dy) {
      for (int dx = 0; dx < c.kw; ++dx, from += c.out_channels * kPitch) sum += from[dy * kPatchSide + dx];
    }
    sum = activate(sum, c.activation);
    if (c.out_type == DType::f32)
      static_cast<float*>(c.out)[first + o] = sum;
    else
      static_cast<__nv_bfloat16*>(c.out)[first + o] = from_float<__nv_bfloat16>(sum);
  }
}

__device__ void consume(const Parameters& p, Barriers& barriers, const unsigned char* patches,
                        const unsigned char* weights, float* products) {
  const int thread = static_cast<int>(threadIdx.x) - 128, group = thread / 128, lane = thread % 32;
  int stage = 0;
  std::uint32_t phase = 0;
  mbarrier_wait(&barriers.weights, 0);
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles; index += static_cast<int>(gridDim.x)) {
    float d[2][16];  // 64 pixels each
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      mbarrier_wait(&barriers.full[stage], phase);
      const std::uint64_t a = wgmma_descriptor(patches + stage * kPatchBytes + group * 128 * kRowBytes, 16, 1024);
      const std::uint64_t b = wgmma_descriptor(weights + chunk * kWeightBytes, 16, 1024);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        wgmma_m64n32k16(d[0], a + 2 * k, b + 2 * k, chunk > 0 || k > 0);
        wgmma_m64n32k16(d[1], a + 2 * k + 64 * kRowBytes / 16, b + 2 * k, chunk > 0 || k > 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
      if (lane == 0) mbarrier_arrive(&barriers.empty[stage]);
      if (++stage == kStages) stage = 0, phase ^= 1;
    }
    wgmma_results(d[0]);
    wgmma_results(d[1]);
    // Everyone has read the products of the tile before.
    named_barrier_sync(kProductBarrier, kConsumerThreads);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int pixel = group * 128 + half * 64 + thread % 128 / 32 * 16 + lane / 4 + i / 2 % 2 * 8;
        const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
        products[row * kPitch + pixel] = d[half][i];
      }
    }
    named_barrier_sync(kProductBarrier, kConsumerThreads);
    add_up(p, products, tile_of(p, index));
  }
}

__global__ void __launch_bounds__(kThreads, 1) convolution_narrow_kernel(const __grid_constant__ Parameters p) {
  extern __shared__ unsigned char unaligned[];
  __shared__ Barriers barriers;
  unsigned char* const patches = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
  unsigned char* const weights = patches + kStages * kPatchBytes;
  auto* const products = reinterpret_cast<float*>(weights + kMaxChunks * kWeightBytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&barriers.full[i], 1);
      mbarrier_init(&barriers.empty[i], 4 * kConsumers);
    }
    mbarrier_init(&barriers.weights, 1);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    if (threadIdx.x == 0) produce(p, barriers, patches, weights);
  } else {
    consume(p, barriers, patches, weights, products);
  }
}

}  // namespace

bool convolution_narrow_hopper_supports(const ConvolutionArguments& c) {
  return c.type == DType::bf16 && c.front == nullptr && c.second == nullptr && c.residual == nullptr &&
         c.padding == ConvolutionPadding::zeros && c.stride == 1 && c.kt == 1 && c.time_stride == 1 &&
         c.kh < kPatchSide / 2 && c.kw < kPatchSide / 2 && c.out_channels * c.kh * c.kw <= kRows &&
         c.first_channels % 8 == 0 && c.first_channels <= 64 * kMaxChunks &&
         reinterpret_cast<std::uintptr_t>(c.first) % 16 == 0;
}

cudaError_t launch_convolution_narrow_hopper(const ConvolutionArguments& c, const __nv_bfloat16* weights,
                                             int multiprocessors, cudaStream_t stream) {
  if (!convolution_narrow_hopper_supports(c)) return cudaErrorInvalidValue;
  Parameters p{};
  p.c = c;
  p.chunks = (c.first_channels + 63) / 64;
  p.tile_width = kPatchSide - c.kw + 1;
  p.tile_height = kPatchSide - c.kh + 1;
  p.tiles_x = (c.out_width + p.tile_width - 1) / p.tile_width;
  p.tiles_y = (c.out_height + p.tile_height - 1) / p.tile_height;
  p.tiles = p.tiles_x * p.tiles_y * c.out_frames;
  const auto size = [](int value) { return static_cast<std::uint64_t>(value); };
  if (!encode_frames_map(&p.frames, c.first, size(c.first_channels), size(c.width), size(c.height), size(c.frames),
                         kPatchSide, kPatchSide) ||
      !encode_panel_map(&p.weights, weights, kRows, size(p.chunks) * 64, kRows, 1)) {
    return cudaErrorInvalidValue;
  }
  const cudaError_t prepared =
      cudaFuncSetAttribute(convolution_narrow_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (prepared != cudaSuccess) return prepared;
  const unsigned grid = static_cast<unsigned>(std::min(p.tiles, multiprocessors));
  convolution_narrow_kernel<<<grid, kThreads, kSharedBytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
