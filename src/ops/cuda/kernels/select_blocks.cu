#include "ops/cuda/kernels/select_blocks.h"

#include "ops/cuda/kernels/reduce.cuh"

#include <algorithm>
#include <cmath>

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// Weights are floats in [0, 1], ordered as their bits are; the bits are found digit by digit, the highest first, each
// from a histogram of the weights that share the digits before it. Zeros are left out of the histograms: there are
// many, and the threshold is 0 if there are not enough others.
constexpr int kDigits = 3;
constexpr int kBins = 2048;

// 11 + 11 + 10 bits.
__device__ constexpr int digit_shift(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }
__device__ __forceinline__ unsigned digit_of(unsigned bits, int digit) {
  return (bits >> digit_shift(digit)) & (digit == 2 ? 1023u : 2047u);
}

struct Arguments {
  const float* scores;
  float* weights;
  unsigned* histograms;  // [segments, kDigits, kBins]
  std::uint8_t* mask;
  std::int32_t* counts;
  int window_blocks, key_blocks;
  unsigned budget;

  __device__ std::int64_t pairs() const { return std::int64_t{window_blocks} * key_blocks; }
  __device__ unsigned* histogram(int segment, int digit) const {
    return histograms + (std::int64_t{segment} * kDigits + digit) * kBins;
  }
};

// The digits found so far, in place, and the rank that is left among the weights which share them.
struct Prefix {
  unsigned bits, rank;
};

// Finds the next digit: that of the weight which has `rank` larger ones in the histogram. All threads of the block take
// part and get it.
template <int Threads>
__device__ Prefix next_digit(const unsigned* histogram, int digit, Prefix prefix) {
  constexpr int kBinsPerThread = kBins / Threads;
  __shared__ unsigned warp_totals[Threads / kWarp];
  __shared__ Prefix found;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  // The highest bins first.
  unsigned bins[kBinsPerThread], total = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) {
    bins[i] = histogram[kBins - 1 - (thread * kBinsPerThread + i)];
    total += bins[i];
  }
  unsigned through = total;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned before = __shfl_up_sync(kAllLanes, through, offset);
    if (lane >= offset) through += before;
  }
  if (lane == kWarp - 1) warp_totals[warp] = through;
  __syncthreads();
  for (int w = 0; w < warp; ++w) through += warp_totals[w];
  unsigned above = through - total;
  // If the rank lies among the zeros, the digit is 0, and what lies above it are all other bins.
  if (thread == Threads - 1 && prefix.rank >= through) {
    found = {prefix.bits, prefix.rank - (through - bins[kBinsPerThread - 1])};
  }
#pragma unroll
  for (int i = 0; i < kBinsPerThread; ++i) {
    if (prefix.rank >= above && prefix.rank - above < bins[i]) {
      const auto bin = static_cast<unsigned>(kBins - 1 - (thread * kBinsPerThread + i));
      found = {prefix.bits | bin << digit_shift(digit), prefix.rank - above};
    }
    above += bins[i];
  }
  __syncthreads();
  const Prefix result = found;
  __syncthreads();
  return result;
}

__device__ Prefix find_prefix(const Arguments& arguments, int segment, int digits) {
  Prefix prefix{0, arguments.budget};
  for (int digit = 0; digit < digits; ++digit) {
    prefix = next_digit<kThreads>(arguments.histogram(segment, digit), digit, prefix);
  }
  return prefix;
}

__device__ __forceinline__ void clear(unsigned (&histogram)[kBins]) {
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) histogram[i] = 0;
  __syncthreads();
}

// Counts are whole numbers: their sum does not depend on the order.
__device__ __forceinline__ void add_to(unsigned* total, const unsigned (&histogram)[kBins]) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) {
    if (histogram[i] > 0) atomicAdd(total + i, histogram[i]);
  }
}

// e^x as close as it rounds, as the CPU back end computes it.
__device__ __forceinline__ float exponential(float x) { return static_cast<float>(exp(static_cast<double>(x))); }

// Softmax of the rows, a warp a row, and the histogram of the weights' first digit if it is wanted.
template <bool Counts>
__global__ void __launch_bounds__(kThreads) softmax_kernel(const Arguments arguments) {
  __shared__ unsigned histogram[Counts ? kBins : 1];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, segment = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  const int key_blocks = arguments.key_blocks;
  if constexpr (Counts) clear(histogram);
  if (row < arguments.window_blocks) {
    const std::int64_t at = segment * arguments.pairs() + std::int64_t{row} * key_blocks;
    const float* scores = arguments.scores + at;
    float* weights = arguments.weights + at;
    float largest = -INFINITY;
    for (int key = lane; key < key_blocks; key += kWarp) largest = fmaxf(largest, scores[key]);
    largest = warp_max(largest);
    double sum = 0;
    for (int key = lane; key < key_blocks; key += kWarp) {
      // A row without an allowed block has no weights, rather than NaN.
      const float weight = scores[key] > -INFINITY ? exponential(scores[key] - largest) : 0.0f;
      weights[key] = weight;
      sum += static_cast<double>(weight);
    }
    const auto total = static_cast<float>(warp_sum(sum));
    for (int key = lane; key < key_blocks; key += kWarp) {
      float weight = weights[key];
      if (weight == 0) continue;
      weight = __fdiv_rn(weight, total);
      weights[key] = weight;
      if constexpr (Counts) {
        if (weight > 0) atomicAdd(&histogram[digit_of(__float_as_uint(weight), 0)], 1u);
      }
    }
  }
  if constexpr (Counts) add_to(arguments.histogram(segment, 0), histogram);
}

// The histogram of a later digit.
__global__ void __launch_bounds__(kThreads) histogram_kernel(const Arguments arguments, int digit) {
  __shared__ unsigned histogram[kBins];
  const int segment = static_cast<int>(blockIdx.y);
  const Prefix prefix = find_prefix(arguments, segment, digit);
  clear(histogram);
  const unsigned mask = ~0u << digit_shift(digit - 1);
  const std::int64_t pairs = arguments.pairs();
  const float* weights = arguments.weights + segment * pairs;
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pairs; i += step) {
    const unsigned bits = __float_as_uint(weights[i]);
    if (bits != 0 && (bits & mask) == prefix.bits) atomicAdd(&histogram[digit_of(bits, digit)], 1u);
  }
  add_to(arguments.histogram(segment, digit), histogram);
}

// Keeps what lies above a threshold, a warp a row; gives how many a row keeps.
template <typename Keeps>
__device__ void keep_row(std::uint8_t* mask, std::int32_t* count, int key_blocks, const Keeps& keeps) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int kept = 0;
  for (int first = 0; first < key_blocks; first += kWarp) {
    const int key = first + lane;
    const bool keep = key < key_blocks && keeps(key);
    if (key < key_blocks) mask[key] = keep ? 1 : 0;
    kept += __popc(__ballot_sync(kAllLanes, keep));
  }
  if (lane == 0) *count = kept;
}

__global__ void __launch_bounds__(kThreads) keep_kernel(const Arguments arguments) {
  const int segment = static_cast<int>(blockIdx.y);
  const unsigned threshold = find_prefix(arguments, segment, kDigits).bits;
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= arguments.window_blocks) return;
  const std::int64_t at = segment * arguments.pairs() + std::int64_t{row} * arguments.key_blocks;
  const float* weights = arguments.weights + at;
  keep_row(arguments.mask + at, arguments.counts + std::int64_t{segment} * arguments.window_blocks + row,
           arguments.key_blocks, [&](int key) { return __float_as_uint(weights[key]) > threshold; });
}

// Small segments: one block finds all digits of a segment's threshold and keeps what lies above it; its threads hold
// the weights in registers.
constexpr int kWholeThreads = 1024;

template <int Values>
__global__ void __launch_bounds__(kWholeThreads) keep_whole_kernel(const Arguments arguments) {
  __shared__ unsigned histogram[kBins];
  extern __shared__ int row_counts[];  // [window_blocks]
  const int thread = static_cast<int>(threadIdx.x), segment = static_cast<int>(blockIdx.x);
  const int pairs = static_cast<int>(arguments.pairs());
  const float* weights = arguments.weights + std::int64_t{segment} * pairs;
  unsigned bits[Values];
#pragma unroll
  for (int i = 0; i < Values; ++i) {
    const int pair = thread + i * kWholeThreads;
    bits[i] = pair < pairs ? __float_as_uint(weights[pair]) : 0;
  }
  for (int row = thread; row < arguments.window_blocks; row += kWholeThreads) row_counts[row] = 0;

  Prefix prefix{0, arguments.budget};
#pragma unroll
  for (int digit = 0; digit < kDigits; ++digit) {
    for (int i = thread; i < kBins; i += kWholeThreads) histogram[i] = 0;
    __syncthreads();
    const unsigned mask = digit == 0 ? 0 : ~0u << digit_shift(digit - 1);
#pragma unroll
    for (int i = 0; i < Values; ++i) {
      if (bits[i] != 0 && (bits[i] & mask) == prefix.bits) atomicAdd(&histogram[digit_of(bits[i], digit)], 1u);
    }
    __syncthreads();
    prefix = next_digit<kWholeThreads>(histogram, digit, prefix);
  }

  std::uint8_t* kept = arguments.mask + std::int64_t{segment} * pairs;
#pragma unroll
  for (int i = 0; i < Values; ++i) {
    const int pair = thread + i * kWholeThreads;
    if (pair >= pairs) continue;
    const bool keep = bits[i] > prefix.bits;
    kept[pair] = keep ? 1 : 0;
    if (keep) atomicAdd(&row_counts[pair / arguments.key_blocks], 1);
  }
  __syncthreads();
  for (int row = thread; row < arguments.window_blocks; row += kWholeThreads) {
    arguments.counts[std::int64_t{segment} * arguments.window_blocks + row] = row_counts[row];
  }
}

__global__ void __launch_bounds__(kThreads) allowed_kernel(const float* __restrict__ scores, std::uint8_t* mask,
                                                           std::int32_t* counts, int rows, int key_blocks) {
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= rows) return;
  const std::int64_t at = std::int64_t{row} * key_blocks;
  keep_row(mask + at, counts + row, key_blocks, [&](int key) { return scores[at + key] > -INFINITY; });
}

// A warp a row; every block adds up the counts of all rows before its own.
__global__ void __launch_bounds__(kThreads)
    block_lists_kernel(const std::uint8_t* __restrict__ mask, const std::int32_t* __restrict__ counts, int rows,
                       int key_blocks, std::int32_t* __restrict__ offsets, std::int32_t* __restrict__ indices) {
  __shared__ int scratch[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, first_row = static_cast<int>(blockIdx.x) * kWarps;
  int before = 0;
  for (int row = static_cast<int>(threadIdx.x); row < first_row; row += kThreads) before += counts[row];
  int offset = block_sum<kThreads>(before, scratch);
  const int row = first_row + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= rows) return;
  for (int r = first_row; r < row; ++r) offset += counts[r];
  if (lane == 0) {
    offsets[row] = offset;
    if (row == rows - 1) offsets[rows] = offset + counts[row];
  }
  const std::uint8_t* keeps = mask + std::int64_t{row} * key_blocks;
#pragma unroll 4
  for (int first = 0; first < key_blocks; first += kWarp) {
    const int key = first + lane;
    const bool keep = key < key_blocks && keeps[key] != 0;
    const unsigned kept = __ballot_sync(kAllLanes, keep);
    if (keep) indices[offset + __popc(kept & ((1u << lane) - 1))] = key;
    offset += __popc(kept);
  }
}

std::size_t weights_bytes(int segments, int window_blocks, int key_blocks) {
  const std::size_t weights = static_cast<std::size_t>(segments) * static_cast<std::size_t>(window_blocks) *
                              static_cast<std::size_t>(key_blocks);
  return (weights * sizeof(float) + 15) / 16 * 16;
}

std::size_t histogram_bytes(int segments) {
  return static_cast<std::size_t>(segments) * kDigits * kBins * sizeof(unsigned);
}

constexpr int kMostWholeValues = 32, kMostWholeRows = 4096;

bool is_whole(int window_blocks, int key_blocks) {
  return std::int64_t{window_blocks} * key_blocks <= std::int64_t{kMostWholeValues} * kWholeThreads &&
         window_blocks <= kMostWholeRows;
}

cudaError_t keep_whole(const Arguments& arguments, unsigned segments, cudaStream_t stream) {
  const int values = (arguments.window_blocks * arguments.key_blocks + kWholeThreads - 1) / kWholeThreads;
  const std::size_t shared = static_cast<std::size_t>(arguments.window_blocks) * sizeof(int);
  if (values <= 2) {
    keep_whole_kernel<2><<<segments, kWholeThreads, shared, stream>>>(arguments);
  } else if (values <= 8) {
    keep_whole_kernel<8><<<segments, kWholeThreads, shared, stream>>>(arguments);
  } else if (values <= 18) {
    keep_whole_kernel<18><<<segments, kWholeThreads, shared, stream>>>(arguments);
  } else {
    keep_whole_kernel<kMostWholeValues><<<segments, kWholeThreads, shared, stream>>>(arguments);
  }
  return cudaGetLastError();
}

unsigned blocks_of_rows(int rows) { return static_cast<unsigned>((rows + kWarps - 1) / kWarps); }

}  // namespace

std::size_t select_blocks_work(int segments, int window_blocks, int key_blocks) {
  return weights_bytes(segments, window_blocks, key_blocks) +
         (is_whole(window_blocks, key_blocks) ? 0 : histogram_bytes(segments));
}

cudaError_t launch_select_blocks(const SelectBlocks& select, cudaStream_t stream) {
  if (select.segments == 0 || select.window_blocks == 0 || select.key_blocks == 0) return cudaSuccess;
  auto* histograms =
      static_cast<std::byte*>(select.work) + weights_bytes(select.segments, select.window_blocks, select.key_blocks);
  const Arguments arguments{.scores = select.scores,
                            .weights = static_cast<float*>(select.work),
                            .histograms = reinterpret_cast<unsigned*>(histograms),
                            .mask = select.mask,
                            .counts = select.counts,
                            .window_blocks = select.window_blocks,
                            .key_blocks = select.key_blocks,
                            .budget = static_cast<unsigned>(select.budget)};
  const auto segments = static_cast<unsigned>(select.segments);
  const dim3 rows(blocks_of_rows(select.window_blocks), segments);
  cudaError_t status = cudaSuccess;
  if (is_whole(select.window_blocks, select.key_blocks)) {
    softmax_kernel<false><<<rows, kThreads, 0, stream>>>(arguments);
    if ((status = cudaGetLastError()) != cudaSuccess) return status;
    return keep_whole(arguments, segments, stream);
  }
  status = cudaMemsetAsync(histograms, 0, histogram_bytes(select.segments), stream);
  if (status != cudaSuccess) return status;
  constexpr std::int64_t kPairsPerBlock = 16 * kThreads;
  const std::int64_t pairs = std::int64_t{select.window_blocks} * select.key_blocks;
  const dim3 parts(static_cast<unsigned>(std::min<std::int64_t>((pairs + kPairsPerBlock - 1) / kPairsPerBlock, 128)),
                   segments);
  softmax_kernel<true><<<rows, kThreads, 0, stream>>>(arguments);
  if ((status = cudaGetLastError()) != cudaSuccess) return status;
  for (int digit = 1; digit < kDigits; ++digit) {
    histogram_kernel<<<parts, kThreads, 0, stream>>>(arguments, digit);
    if ((status = cudaGetLastError()) != cudaSuccess) return status;
  }
  keep_kernel<<<rows, kThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t launch_allowed_blocks(const float* scores, std::uint8_t* mask, std::int32_t* counts, int rows,
                                  int key_blocks, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  allowed_kernel<<<blocks_of_rows(rows), kThreads, 0, stream>>>(scores, mask, counts, rows, key_blocks);
  return cudaGetLastError();
}

cudaError_t launch_block_lists(const std::uint8_t* mask, const std::int32_t* counts, int rows, int key_blocks,
                               std::int32_t* offsets, std::int32_t* indices, cudaStream_t stream) {
  if (rows == 0) return cudaMemsetAsync(offsets, 0, sizeof(std::int32_t), stream);
  block_lists_kernel<<<blocks_of_rows(rows), kThreads, 0, stream>>>(mask, counts, rows, key_blocks, offsets, indices);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
