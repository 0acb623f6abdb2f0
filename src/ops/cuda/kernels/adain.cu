#include "ops/cuda/kernels/adain.h"

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/pixels.cuh"

namespace flashvsr::cuda {
namespace {

// A multiple of three (and of 32), so that a thread that strides by a block stays with one channel.
constexpr int kThreads = 192;
constexpr int kPerChannel = kThreads / kRgb;
// A block sums kGroups groups of kGroup values a thread.
constexpr int kGroup = 8, kGroups = 4;
constexpr std::int64_t kBlockPixels = kPerChannel * kGroup * kGroups;

// Mean, and sum of squared distances from it. Merging two of them loses nothing to cancellation, unlike sums of
// squares, so that the variance of a nearly constant frame survives (Chan, Golub and LeVeque, 1983).
template <typename T>
struct Moments {
  T count, mean, squares;
};

template <typename T>
__device__ __forceinline__ Moments<T> merged(const Moments<T>& a, const Moments<T>& b) {
  const T count = a.count + b.count;
  if (count == T{0}) return a;
  const T part = b.count / count, distance = b.mean - a.mean;
  return {count, a.mean + distance * part, a.squares + b.squares + distance * distance * a.count * part};
}

// What a block saw of one channel. Bytes are counted in whole numbers, without error.
struct Partial {
  float mean, squares;
  std::uint32_t reference_sum, reference_squares;
};
static_assert(kBlockPixels * 255 * 255 < (std::int64_t{1} << 32));

// What is done to one channel of a frame.
struct Change {
  float mean, scale, wanted_mean;
};

std::int64_t blocks_of_frame(std::int64_t pixels) { return (pixels + kBlockPixels - 1) / kBlockPixels; }

__device__ __forceinline__ std::int64_t pixels_of_block(std::int64_t block, std::int64_t pixels) {
  const std::int64_t left = pixels - block * kBlockPixels;
  return left < kBlockPixels ? left : kBlockPixels;
}

// Moments of kGroup values, of which `count` are there.
template <bool Full>
__device__ __forceinline__ Moments<float> moments_of(const float (&values)[kGroup], int count) {
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kGroup; ++k) sum += Full || k < count ? values[k] : 0.0f;
  if (!Full && count == 0) return {0, 0, 0};
  const float mean = Full ? sum * (1.0f / kGroup) : sum / static_cast<float>(count);
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kGroup; ++k) {
    const float distance = Full || k < count ? values[k] - mean : 0.0f;
    squares += distance * distance;
  }
  return {static_cast<float>(Full ? kGroup : count), mean, squares};
}

// `values` of a block's elements are there.
template <bool Full>
__device__ __forceinline__ void block_moments(const float* __restrict__ video,
                                              const std::uint8_t* __restrict__ reference, int values,
                                              Moments<float>& moments, std::uint32_t& sum, std::uint32_t& squares) {
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const int first = group * kGroup * kThreads + static_cast<int>(threadIdx.x);
    // Elements first, first + kThreads, ... below `values`.
    const int left = (values - first + kThreads - 1) / kThreads;
    const int count = Full ? kGroup : left < 0 ? 0 : left < kGroup ? left : kGroup;
    float x[kGroup];
    std::uint32_t bytes[kGroup];
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      const bool there = Full || k < count;
      x[k] = there ? video[first + k * kThreads] : 0.0f;
      bytes[k] = there ? reference[first + k * kThreads] : 0u;
    }
    const Moments<float> of_group = moments_of<Full>(x, count);
    moments = group == 0 ? of_group : merged(moments, of_group);
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      sum += bytes[k];
      squares += bytes[k] * bytes[k];
    }
  }
}

// Grid: blocks of a frame, frames.
__global__ void __launch_bounds__(kThreads)
    partials_kernel(const float* __restrict__ video, const std::uint8_t* __restrict__ reference, std::int64_t pixels,
                    Partial* __restrict__ partials) {
  __shared__ Moments<float> all_moments[kThreads];
  __shared__ std::uint32_t sums[kThreads], squares[kThreads];
  const std::int64_t begin = (blockIdx.y * pixels + blockIdx.x * kBlockPixels) * kRgb;
  const std::int64_t count = pixels_of_block(blockIdx.x, pixels);
  Moments<float> moments;
  std::uint32_t sum = 0, square = 0;
  if (count == kBlockPixels) {
    block_moments<true>(video + begin, reference + begin, static_cast<int>(count) * kRgb, moments, sum, square);
  } else {
    block_moments<false>(video + begin, reference + begin, static_cast<int>(count) * kRgb, moments, sum, square);
  }
  const auto thread = static_cast<int>(threadIdx.x);
  all_moments[thread] = moments;
  sums[thread] = sum;
  squares[thread] = square;
  // Threads of one channel are kRgb apart.
  for (int half = kPerChannel / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half * kRgb) {
      const int other = thread + half * kRgb;
      all_moments[thread] = merged(all_moments[thread], all_moments[other]);
      sums[thread] += sums[other];
      squares[thread] += squares[other];
    }
  }
  if (thread < kRgb) {
    partials[(std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x) * kRgb + thread] = {
        all_moments[thread].mean, all_moments[thread].squares, sums[thread], squares[thread]};
  }
}

// One block a frame: its partials, merged in a fixed order.
__global__ void __launch_bounds__(kThreads) changes_kernel(const Partial* __restrict__ partials, std::int64_t blocks,
                                                           std::int64_t pixels, Change* __restrict__ changes) {
  __shared__ Moments<double> all_moments[kThreads];
  __shared__ std::uint64_t sums[kThreads], squares[kThreads];
  const auto thread = static_cast<int>(threadIdx.x);
  Moments<double> moments{0, 0, 0};
  std::uint64_t sum = 0, square = 0;
#pragma unroll 4
  for (std::int64_t block = thread / kRgb; block < blocks; block += kPerChannel) {
    const Partial partial = partials[(blockIdx.x * blocks + block) * kRgb + thread % kRgb];
    const auto count = static_cast<double>(pixels_of_block(block, pixels));
    moments = merged(moments, {count, partial.mean, partial.squares});
    sum += partial.reference_sum;
    square += partial.reference_squares;
  }
  all_moments[thread] = moments;
  sums[thread] = sum;
  squares[thread] = square;
  for (int half = kPerChannel / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half * kRgb) {
      const int other = thread + half * kRgb;
      all_moments[thread] = merged(all_moments[thread], all_moments[other]);
      sums[thread] += sums[other];
      squares[thread] += squares[other];
    }
  }
  if (thread < kRgb) {
    constexpr double kEpsilon = 1e-5, kStep = 2.0 / 255.0;  // a byte's step in the video's values
    const auto count = static_cast<double>(pixels), reference_sum = static_cast<double>(sums[thread]);
    const double reference_mean = reference_sum / count;
    const double reference_squares = static_cast<double>(squares[thread]) - reference_sum * reference_mean;
    const double wanted = sqrt(fmax(reference_squares, 0.0) / count * (kStep * kStep) + kEpsilon);
    const double own = sqrt(all_moments[thread].squares / count + kEpsilon);
    changes[blockIdx.x * kRgb + thread] = {static_cast<float>(all_moments[thread].mean),
                                           static_cast<float>(wanted / own),
                                           static_cast<float>(reference_mean * kStep - 1.0)};
  }
}

// Count values at a time; threads stride by multiples of three of them. Grid: parts of a frame, frames. The last
// frames, which the sums have read last, are still in the cache and come first.
constexpr int kUnroll = 4;

template <int Count>
__global__ void __launch_bounds__(kThreads) change_kernel(const float* __restrict__ video, float* __restrict__ result,
                                                          std::int64_t values, const Change* __restrict__ changes) {
  using Values = Pack<float, Count>;
  const std::int64_t frame = gridDim.y - 1 - blockIdx.y, offset = frame * values;
  const auto* from = reinterpret_cast<const Values*>(video + offset);
  auto* to = reinterpret_cast<Values*>(result + offset);
  const std::int64_t packs = values / Count, first = std::int64_t{blockIdx.x} * (kThreads * kUnroll) + threadIdx.x;
  Values in[kUnroll];
#pragma unroll
  for (int k = 0; k < kUnroll; ++k) {
    if (first + k * kThreads < packs) in[k] = from[first + k * kThreads];
  }
  // A pack begins with channel (pack * Count) % 3, and Count is 1 or 4.
  static_assert(Count % kRgb == 1);
  Change change[kRgb];
#pragma unroll
  for (int c = 0; c < kRgb; ++c) change[c] = changes[frame * kRgb + (threadIdx.x + c) % kRgb];
  const auto changed = [](float x, const Change& by) {
    const float moved = __fadd_rn(__fmul_rn(__fsub_rn(x, by.mean), by.scale), by.wanted_mean);
    return fminf(fmaxf(moved, -1.0f), 1.0f);
  };
#pragma unroll
  for (int k = 0; k < kUnroll; ++k) {
    if (first + k * kThreads >= packs) break;
    Values out;
#pragma unroll
    for (int j = 0; j < Count; ++j) out.values[j] = changed(in[k].values[j], change[j % kRgb]);
    to[first + k * kThreads] = out;
  }
  // Values behind the last pack.
  const std::int64_t rest = packs * Count + threadIdx.x;
  if (blockIdx.x == 0 && rest < values) {
    result[offset + rest] = changed(video[offset + rest], changes[frame * kRgb + rest % kRgb]);
  }
}

template <int Count>
cudaError_t launch_change(const float* video, float* result, std::int64_t frames, std::int64_t values,
                          const Change* changes, cudaStream_t stream) {
  constexpr std::int64_t kBlockValues = kThreads * kUnroll * Count;
  const dim3 blocks(static_cast<unsigned>((values + kBlockValues - 1) / kBlockValues), static_cast<unsigned>(frames));
  change_kernel<Count><<<blocks, kThreads, 0, stream>>>(video, result, values, changes);
  return cudaGetLastError();
}

}  // namespace

std::size_t adain_scratch_bytes(std::int64_t frames, std::int64_t pixels) {
  return static_cast<std::size_t>(frames * kRgb) *
         (static_cast<std::size_t>(blocks_of_frame(pixels)) * sizeof(Partial) + sizeof(Change));
}

cudaError_t launch_adain(const float* video, const std::uint8_t* reference, float* result, std::int64_t frames,
                         std::int64_t pixels, void* scratch, cudaStream_t stream) {
  if (frames == 0) return cudaSuccess;
  const std::int64_t blocks = blocks_of_frame(pixels), values = pixels * kRgb;
  auto* partials = static_cast<Partial*>(scratch);
  auto* changes = reinterpret_cast<Change*>(partials + frames * blocks * kRgb);
  partials_kernel<<<dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(frames)), kThreads, 0, stream>>>(
      video, reference, pixels, partials);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) return status;
  changes_kernel<<<static_cast<unsigned>(frames), kThreads, 0, stream>>>(partials, blocks, pixels, changes);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) return status;
  // Frames lie one behind the other: all of them begin at packs if the first does and none has a rest.
  const bool packs =
      is_aligned<Pack<float, 4>>(video) && is_aligned<Pack<float, 4>>(result) && (values % 4 == 0 || frames == 1);
  return packs ? launch_change<4>(video, result, frames, values, changes, stream)
               : launch_change<1>(video, result, frames, values, changes, stream);
}

}  // namespace flashvsr::cuda
