// A tile is 256 pixels, two halves of 8 x 16, by 128 output channels (16 where there are that few). A half is the work
// of one warpgroup. Its patch of pixels, with the border that the taps reach into, is copied once for 64 channels and
// read by all taps from shared memory: the 128-byte swizzle goes by the address, so that a product may start at any
// pixel of the patch. Weights stream through a ring of their own. One warpgroup is kept a few steps ahead of the other,
// so that one multiplies while the other writes its results.
#include "ops/cuda/kernels/convolution_hopper.h"
#include "ops/cuda/kernels/convolution_store.cuh"
#include "ops/cuda/ptx/mbarrier.cuh"
#include "ops/cuda/ptx/tma.cuh"
#include "ops/cuda/ptx/wgmma.cuh"
#include "ops/cuda/tensor_map.h"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

using namespace ptx;

constexpr int kTileWidth = 8, kTileHeight = 16;  // of a half
constexpr int kMaxKernel = 3;
constexpr int kRowBytes = 128;  // a pixel's 64 channels
// Few output channels: a step is so short that the steps of a patch are issued together, and their weights stay.
constexpr int kNarrow = 16, kWide = 128;
constexpr int kConsumers = 2, kThreads = 128 * (1 + kConsumers);
constexpr int kConsumerWarps = 4 * kConsumers;
// How many steps the first warpgroup runs ahead of the second, at most: those of one patch. The more, the fewer stages
// are left to be filled ahead of it.
constexpr int kMostLead = 2;
constexpr int kLeadBarrier = 1;

// What of N output channels by kernels of up to Side x Side fits into shared memory. The fewer taps use a patch, the
// sooner the next one is needed: with two patches, a warpgroup that leads by one has to wait for memory.
template <int N, int Side>
struct Stages {
  static constexpr int kPatchBytes =
      ((kTileWidth + Side - 1) * (kTileHeight + Side - 1) * kRowBytes + 1023) / 1024 * 1024;
  static constexpr int kWeightBytes = N * kRowBytes;
  static constexpr int kPatches = Side == 3 ? 2 : Side == 2 ? 3 : 4;
  static constexpr int kWeights = N == kNarrow ? 3 * Side * Side : Side == 3 ? 8 : 6;
  static constexpr int kSharedBytes = kPatches * kConsumers * kPatchBytes + kWeights * kWeightBytes + 1024;
};

struct Parameters {
  CUtensorMap first, second, weights;
  ConvolutionArguments c;
  int first_chunks, chunks;  // of 64 channels: of the first source, of both
  int rows;                  // of the weights of a phase
  int tiles_x, tiles_y, halves, pairs, column_tiles, tiles;
  int lead;  // steps that the first warpgroup runs ahead of the second
};

// Phases of a pair of halves follow each other: they read the same pixels and write into the same rows.
struct Tile {
  int pair, phase, n0;
};

template <int N>
__device__ Tile tile_of(const Parameters& p, int index) {
  Tile tile;
  tile.phase = index % p.c.phases;
  index /= p.c.phases;
  tile.pair = index % p.pairs;
  tile.n0 = index / p.pairs * N;
  return tile;
}

__device__ Half half_of(const Parameters& p, int index) {
  Half half;
  half.valid = index < p.halves;
  index = min(index, p.halves - 1);
  half.x = index % p.tiles_x * kTileWidth;
  index /= p.tiles_x;
  half.y = index % p.tiles_y * kTileHeight;
  half.frame = index / p.tiles_y;
  return half;
}

// A position in a ring of stages.
template <int Stages>
struct Ring {
  int stage = 0;
  std::uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == Stages) stage = 0, phase ^= 1;
  }
};

template <typename S>
struct Barriers {
  std::uint64_t patch_full[S::kPatches], patch_empty[S::kPatches];
  std::uint64_t weight_full[S::kWeights], weight_empty[S::kWeights];
};

template <int N, typename S>
__device__ void produce(const Parameters& p, Barriers<S>& barriers, unsigned char* patches, unsigned char* weights) {
  const int patch_width = kTileWidth + p.c.kw - 1, patch_height = kTileHeight + p.c.kh - 1;
  const std::uint32_t patch_bytes = static_cast<std::uint32_t>(kConsumers * patch_width * patch_height * kRowBytes);
  const int taps = p.c.kh * p.c.kw;
  Ring<S::kPatches> patch;
  Ring<S::kWeights> weight;
  tma_prefetch_map(&p.first);
  tma_prefetch_map(&p.weights);
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles; index += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_of<N>(p, index);
    const Half halves[2] = {half_of(p, 2 * tile.pair), half_of(p, 2 * tile.pair + 1)};
    const int pad_left = p.c.pad_left - tile.phase % 2, pad_top = p.c.pad_top - tile.phase / 2;
    const int row = tile.phase * p.rows + tile.n0;
    int k_block = 0;
    for (int t = 0; t < p.c.kt; ++t) {
      for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const bool of_first = chunk < p.first_chunks;
        const CUtensorMap* map = of_first ? &p.first : &p.second;
        const int channel = (of_first ? chunk : chunk - p.first_chunks) * 64;
        mbarrier_wait(&barriers.patch_empty[patch.stage], patch.phase ^ 1);
        mbarrier_expect(&barriers.patch_full[patch.stage], patch_bytes);
#pragma unroll
        for (int h = 0; h < kConsumers; ++h) {
          tma_load_4d(patches + (patch.stage * kConsumers + h) * S::kPatchBytes, map, &barriers.patch_full[patch.stage],
                      channel, halves[h].x - pad_left, halves[h].y - pad_top, halves[h].frame * p.c.time_stride + t);
        }
        patch.advance();
        for (int tap = 0; tap < taps; ++tap) {
          mbarrier_wait(&barriers.weight_empty[weight.stage], weight.phase ^ 1);
          mbarrier_expect(&barriers.weight_full[weight.stage], S::kWeightBytes);
          tma_load_3d(weights + weight.stage * S::kWeightBytes, &p.weights, &barriers.weight_full[weight.stage], 0, row,
                      k_block++);
          weight.advance();
        }
      }
    }
  }
}

__device__ __forceinline__ void multiply(float (&d)[64], std::uint64_t a, std::uint64_t b, int accumulate) {
  wgmma_m64n128k16<0>(d, a, b, accumulate);
}
__device__ __forceinline__ void multiply(float (&d)[8], std::uint64_t a, std::uint64_t b, int accumulate) {
  wgmma_m64n16k16(d, a, b, accumulate);
}

template <int N, typename S, bool Wide>
__device__ void consume(const Parameters& p, Barriers<S>& barriers, unsigned char* patches, unsigned char* weights) {
  const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = static_cast<int>(threadIdx.x) % 32;
  const int pitch = kTileWidth + p.c.kw - 1, taps = p.c.kh * p.c.kw, steps = p.c.kt * p.chunks * taps;
  const std::uint32_t pitch_bytes = static_cast<std::uint32_t>(pitch * kRowBytes);
  Ring<S::kPatches> patch;
  Ring<S::kWeights> weight;
  const int lead = p.lead;
  const bool leads = steps > lead;
  if (leads && group == 1) named_barrier_sync(kLeadBarrier, 128 * kConsumers);
  bool first_tile = true;
  for (int index = static_cast<int>(blockIdx.x); index < p.tiles; index += static_cast<int>(gridDim.x)) {
    const Tile tile = tile_of<N>(p, index);
    float upper[N / 2], lower[N / 2];  // rows 0..7 and 8..15 of the half
    // The steps committed last: what they read is free when those after them are under way.
    Ring<S::kWeights> used_weight = weight;
    int used_steps = 0, used_patch = -1, step = 0;
    const auto release = [&](int steps_done, int patch_done) {
      if (lane == 0) {
        for (int i = 0; i < steps_done; ++i, used_weight.advance()) {
          mbarrier_arrive(&barriers.weight_empty[used_weight.stage]);
        }
        if (patch_done >= 0) mbarrier_arrive(&barriers.patch_empty[patch_done]);
      }
    };
    for (int chunk = 0; chunk < p.c.kt * p.chunks; ++chunk) {
      mbarrier_wait(&barriers.patch_full[patch.stage], patch.phase);
      const unsigned char* patch_start = patches + (patch.stage * kConsumers + group) * S::kPatchBytes;
      const std::uint64_t a_chunk = wgmma_descriptor(patch_start, 16, pitch_bytes);
      int dx = 0, row = 0;
      for (int tap = 0; tap < taps; ++tap) {
        mbarrier_wait(&barriers.weight_full[weight.stage], weight.phase);
        // In units of 16 bytes.
        const std::uint64_t a = a_chunk + static_cast<std::uint64_t>((row + dx) * (kRowBytes / 16));
        const std::uint64_t a_lower = a + static_cast<std::uint64_t>(8 * pitch * (kRowBytes / 16));
        const std::uint64_t b = wgmma_descriptor(weights + weight.stage * S::kWeightBytes, 16, 8 * kRowBytes);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          multiply(upper, a + 2 * k, b + 2 * k, step > 0 || k > 0);
          multiply(lower, a_lower + 2 * k, b + 2 * k, step > 0 || k > 0);
        }
        wgmma_commit();
        if constexpr (N == kWide) {
          wgmma_wait<1>();
          release(used_steps, used_patch);
          used_steps = 1;
          used_patch = tap + 1 == taps ? patch.stage : -1;
        }
        weight.advance();
        if (++dx == p.c.kw) dx = 0, row += pitch;
        if (++step == lead && first_tile && leads && group == 0) {
          named_barrier_arrive(kLeadBarrier, 128 * kConsumers);
        }
      }
      if constexpr (N == kNarrow) {
        if (taps == kMaxKernel * kMaxKernel) {
          wgmma_wait<kMaxKernel * kMaxKernel>();
        } else {
          wgmma_wait<1>();
        }
        // With fewer taps the wait was longer than need be.
        release(used_steps, used_patch);
        used_steps = taps;
        used_patch = patch.stage;
      }
      patch.advance();
    }
    wgmma_wait<0>();
    wgmma_results(upper);
    wgmma_results(lower);
    release(used_steps, used_patch);
    first_tile = false;
    const Half half = half_of(p, 2 * tile.pair + group);
    const Place place{half, tile.phase % 2 * p.c.phase_column_stride + tile.phase / 2 * p.c.phase_row_stride, tile.n0};
    if constexpr (Wide) {
      store_wide(p.c, upper, place, half.y);
      store_wide(p.c, lower, place, half.y + 8);
    } else {
      store_single(p.c, upper, place, half.y);
      store_single(p.c, lower, place, half.y + 8);
    }
  }
}

template <int N, int Side, bool Wide>
__global__ void __launch_bounds__(kThreads, 1) convolution_kernel(const __grid_constant__ Parameters p) {
  using S = Stages<N, Side>;
  extern __shared__ unsigned char unaligned[];
  __shared__ Barriers<S> barriers;
  unsigned char* const patches = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
  unsigned char* const weights = patches + S::kPatches * kConsumers * S::kPatchBytes;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kPatches; ++i) {
      mbarrier_init(&barriers.patch_full[i], 1);
      mbarrier_init(&barriers.patch_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < S::kWeights; ++i) {
      mbarrier_init(&barriers.weight_full[i], 1);
      mbarrier_init(&barriers.weight_empty[i], kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    set_max_registers_down<40>();
    if (threadIdx.x == 0) produce<N, S>(p, barriers, patches, weights);
  } else {
    set_max_registers_up<232>();
    consume<N, S, Wide>(p, barriers, patches, weights);
  }
}

int tile_columns(const ConvolutionArguments& c) { return c.out_channels <= kNarrow ? kNarrow : kWide; }

template <int N, int Side, bool Wide>
cudaError_t launch(const Parameters& p, int multiprocessors, cudaStream_t stream) {
  constexpr int kSharedBytes = Stages<N, Side>::kSharedBytes;
  const cudaError_t prepared = cudaFuncSetAttribute(convolution_kernel<N, Side, Wide>,
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (prepared != cudaSuccess) return prepared;
  const unsigned grid = static_cast<unsigned>(std::min(p.tiles, multiprocessors));
  convolution_kernel<N, Side, Wide><<<grid, kThreads, kSharedBytes, stream>>>(p);
  return cudaGetLastError();
}

template <int N, bool Wide>
cudaError_t launch_any(const Parameters& p, int multiprocessors, cudaStream_t stream) {
  switch (std::max(p.c.kh, p.c.kw)) {
    case 1: return launch<N, 1, Wide>(p, multiprocessors, stream);
    case 2: return launch<N, 2, Wide>(p, multiprocessors, stream);
    default: return launch<N, 3, Wide>(p, multiprocessors, stream);
  }
}

}  // namespace

HopperWeightLayout hopper_weight_layout(const ConvolutionArguments& c) {
  HopperWeightLayout layout;
  layout.rows = padded_channels(c.out_channels, tile_columns(c));
  layout.kt = c.kt;
  layout.second_chunk = padded_channels(c.first_channels, 64) / 64;
  layout.chunks = layout.second_chunk + padded_channels(c.second_channels, 64) / 64;
  layout.taps = c.kh * c.kw;
  return layout;
}

bool convolution_hopper_supports(const ConvolutionArguments& c) {
  return c.type == DType::bf16 && c.front == nullptr && c.padding == ConvolutionPadding::zeros && c.stride == 1 &&
         c.kh <= kMaxKernel && c.kw <= kMaxKernel && c.first_channels % 8 == 0 && c.second_channels % 8 == 0 &&
         (reinterpret_cast<std::uintptr_t>(c.first) | reinterpret_cast<std::uintptr_t>(c.second)) % 16 == 0;
}

cudaError_t launch_convolution_hopper(const ConvolutionArguments& c, const __nv_bfloat16* weights, int multiprocessors,
                                      cudaStream_t stream) {
  if (!convolution_hopper_supports(c)) return cudaErrorInvalidValue;
  const HopperWeightLayout layout = hopper_weight_layout(c);
  const int n = tile_columns(c);
  Parameters p{};
  p.c = c;
  p.first_chunks = layout.second_chunk;
  p.chunks = layout.chunks;
  p.tiles_x = (c.out_width + kTileWidth - 1) / kTileWidth;
  p.tiles_y = (c.out_height + kTileHeight - 1) / kTileHeight;
  p.halves = p.tiles_x * p.tiles_y * c.out_frames;
  p.pairs = (p.halves + 1) / 2;
  p.column_tiles = layout.rows / n;
  p.tiles = p.pairs * p.column_tiles * c.phases;
  p.rows = layout.rows;
  p.lead = std::min(kMostLead, c.kh * c.kw);
  const auto size = [](int value) { return static_cast<std::uint64_t>(value); };
  const auto box_width = static_cast<std::uint32_t>(kTileWidth + c.kw - 1);
  const auto box_height = static_cast<std::uint32_t>(kTileHeight + c.kh - 1);
  bool encoded = encode_frames_map(&p.first, c.first, size(c.first_channels), size(c.width), size(c.height),
                                   size(c.frames), box_width, box_height) &&
                 encode_panel_map(&p.weights, weights, size(c.phases * layout.rows),
                                  static_cast<std::uint64_t>(layout.columns()), static_cast<std::uint32_t>(n), 1);
  if (c.second != nullptr) {
    encoded = encoded && encode_frames_map(&p.second, c.second, size(c.second_channels), size(c.width), size(c.height),
                                           size(c.frames), box_width, box_height);
  }
  if (!encoded) return cudaErrorInvalidValue;

  const auto aligned = [](const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; };
  const bool wide = c.out_type == DType::bf16 && c.out_channels % 8 == 0 && c.out_frame_stride % 8 == 0 &&
                    c.out_row_stride % 8 == 0 && c.out_column_stride % 8 == 0 && c.phase_row_stride % 8 == 0 &&
                    c.phase_column_stride % 8 == 0 && aligned(c.out) &&
                    (c.residual == nullptr || (c.residual_type == DType::bf16 && aligned(c.residual))) &&
                    (c.bias == nullptr || aligned(c.bias));
  if (n == kNarrow) return launch_any<kNarrow, false>(p, multiprocessors, stream);
  return wide ? launch_any<kWide, true>(p, multiprocessors, stream)
              : launch_any<kWide, false>(p, multiprocessors, stream);
}

}  // namespace flashvsr::cuda
