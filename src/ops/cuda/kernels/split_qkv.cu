#include "ops/cuda/kernels/split_qkv.h"

#include "ops/cuda/kernels/dependent_launch.cuh"
#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/octet.cuh"
#include "ops/cuda/kernels/reduce.cuh"
#include "ops/cuda/kernels/window_order.cuh"
#include "ops/cuda/ptx/mbarrier.cuh"
#include "ops/cuda/ptx/mma.cuh"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

constexpr float kEpsilon = 1e-6f;
// A block of threads takes a part of an attention block's tokens, and of q, k, v one.
constexpr int kParts = 8;
constexpr int kPartTokens = kBlockTokens / kParts;
// Windows that one launch takes, as their slots are passed by value.
constexpr int kMaxWindows = 64;

enum Role : unsigned { kQuery, kKey, kValue, kRoles };

struct Slots {
  int values[kMaxWindows];
};

// One launch: `windows` windows whose tokens begin at those of the pointers.
template <typename T>
struct Arguments {
  const T* qkv;
  const float* norms[2];
  RopeAngles angles;
  T *q, *k, *v;
  float *q_means, *k_means;
  float* work;  // [2, blocks, kParts, dim]: sums over the tokens of a part
  int dim, head_dim;
  WindowGrid grid;
  int first_window, blocks;
  Slots slots;

  // Where a block of the launch goes in k, v and k_means.
  __device__ std::int64_t ring_block(int block) const {
    return std::int64_t{slots.values[block / grid.window_blocks]} * grid.window_blocks + block % grid.window_blocks;
  }
  __device__ T* destination(unsigned role, int block) const {
    const std::int64_t to = role == kQuery ? block : ring_block(block);
    return (role == kQuery ? q : role == kKey ? k : v) + to * kBlockTokens * dim;
  }
  __device__ float* part_sums(unsigned role, int block, int part) const {
    return work + ((std::int64_t{role} * blocks + block) * kParts + part) * dim;
  }
  // Latents are counted from the run's first.
  __device__ TokenPosition position(int block, int inside) const {
    TokenPosition at = token_position(block, inside, grid);
    at.latent += first_window * kWindowLatents;
    return at;
  }
};

// Of a head's pair.
__device__ __forceinline__ float2 angle_of(const RopeAngles& angles, const TokenPosition& at, int pair) {
  if (pair < angles.time_pairs) return angles.time[at.latent * angles.time_pairs + pair];
  pair -= angles.time_pairs;
  if (pair < angles.height_pairs) return angles.height[at.row * angles.height_pairs + pair];
  pair -= angles.height_pairs;
  return angles.width[at.column * angles.width_pairs + pair];
}

__device__ __forceinline__ float2 rotated(float2 x, float2 angle) {
  return {x.x * angle.x - x.y * angle.y, x.x * angle.y + x.y * angle.x};
}

// -------------------------------------------------------------------------------------- bf16, channels of whole octets

// A thread has one octet of every token of its part: weights and sums stay in registers. The part's tokens come in
// batches, the next of which are on their way to shared memory meanwhile; a thread reads what it has fetched itself.
constexpr int kMaxColumns = 384;     // octets of a token: threads of a block
constexpr int kColumnThreads = 768;  // what the registers of a multiprocessor hold at least
constexpr int kMaxAngleBytes = 16384;
constexpr int kBatch = 4, kBatches = kPartTokens / kBatch, kStages = 3;
static_assert(kPartTokens % kBatch == 0 && kBatches > kStages);

// Shared memory: the angles of every token of a part, then the stages of tokens.
constexpr int angle_bytes(int head_dim) { return kPartTokens * (head_dim / 2) * static_cast<int>(sizeof(float2)); }
constexpr int stage_bytes(int threads) {
  return kStages * kBatch * threads * static_cast<int>(sizeof(Octet<__nv_bfloat16>));
}

__global__ void __launch_bounds__(kMaxColumns, kColumnThreads / kMaxColumns)
    split_columns_kernel(const __grid_constant__ Arguments<__nv_bfloat16> arguments) {
  using Values = Octet<__nv_bfloat16>;
  constexpr int kPairs = kOctet / 2, kLanes = kWarp / kBatch;
  let_next_be_placed();
  extern __shared__ uint4 dynamic_shared[];
  __shared__ float scratch[2][kBatch][kMaxColumns / kWarp];
  const int dim = arguments.dim, packs = dim / kOctet, head_pairs = arguments.head_dim / 2;
  const int threads = static_cast<int>(blockDim.x), column = static_cast<int>(threadIdx.x);
  const bool there = column < packs;
  const unsigned role = blockIdx.x % kRoles;
  const int work = static_cast<int>(blockIdx.x / kRoles), block = work / kParts, part = work % kParts;
  const int inside = part * kPartTokens;
  const Values* from = octets(arguments.qkv + (std::int64_t{block} * kBlockTokens + inside) * 3 * dim + role * dim) +
                       (there ? column : 0);
  Values* to = octets(arguments.destination(role, block) + std::int64_t{inside} * dim) + column;

  if (role == kValue) {
    if (!there) return;
    constexpr int kAtOnce = 8;
#pragma unroll
    for (int first = 0; first < kPartTokens; first += kAtOnce) {
      Values in[kAtOnce];
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) in[t] = from[(first + t) * 3 * packs];
#pragma unroll
      for (int t = 0; t < kAtOnce; ++t) to[(first + t) * packs] = in[t];
    }
    return;
  }

  auto* angles = reinterpret_cast<float2*>(dynamic_shared);
  auto* staged = reinterpret_cast<Values*>(angles + kPartTokens * head_pairs) + column;
  const auto fetch = [&](int batch) {
#pragma unroll
    for (int t = 0; t < kBatch; ++t) {
      ptx::copy_async_16(ptx::shared_address(staged + (batch % kStages * kBatch + t) * threads),
                         from + (batch * kBatch + t) * 3 * packs, there);
    }
  };
#pragma unroll
  for (int batch = 0; batch < kStages; ++batch) {
    fetch(batch);
    ptx::copy_async_commit();
  }
  for (int i = column; i < kPartTokens * head_pairs; i += threads) {
    const int token = i / head_pairs;
    angles[i] = angle_of(arguments.angles, arguments.position(block, inside + token), i - token * head_pairs);
  }
  Octet<float> weight{};
  if (there) weight = octets(role == kQuery ? arguments.norms[0] : arguments.norms[1])[column];
  const auto* turns = reinterpret_cast<const float4*>(angles + column * kOctet % arguments.head_dim / 2);
  float2 sums[kPairs] = {};

#pragma unroll 1
  for (int batch = 0; batch < kBatches; ++batch) {
    ptx::copy_async_wait<kStages - 1>();
    Values in[kBatch];
    float squares[kBatch];
#pragma unroll
    for (int t = 0; t < kBatch; ++t) {
      in[t] = staged[(batch % kStages * kBatch + t) * threads];
      squares[t] = 0;
#pragma unroll
      for (int j = 0; j < kOctet; ++j) squares[t] += value_of(in[t], j) * value_of(in[t], j);
      in[t].forget_values();
    }
    if (batch + kStages < kBatches) fetch(batch + kStages);
    ptx::copy_async_commit();

    // Neighbouring lanes get the sum of one token, and tell the others. The barrier also makes the angles visible.
    const float sum = block_sums(squares, scratch[batch % 2], threads / kWarp);
    const float own_inverse = rsqrtf(sum / static_cast<float>(dim) + kEpsilon);
#pragma unroll
    for (int t = 0; t < kBatch; ++t) {
      const float inverse = __shfl_sync(kAllLanes, own_inverse, t * kLanes);
      const int token = batch * kBatch + t;
      Values out;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 turn = turns[token * head_pairs / 2 + half];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          const int j = 2 * half + pair;
          const float2 x = {value_of(in[t], 2 * j) * inverse * value_of(weight, 2 * j),
                            value_of(in[t], 2 * j + 1) * inverse * value_of(weight, 2 * j + 1)};
          const float2 y = rotated(x, pair == 0 ? float2{turn.x, turn.y} : float2{turn.z, turn.w});
          sums[j].x += y.x;
          sums[j].y += y.y;
          set_pair(out, j, y.x, y.y);
        }
      }
      if (there) to[token * packs] = out;
    }
  }
  if (!there) return;
  Octet<float> result;
#pragma unroll
  for (int j = 0; j < kPairs; ++j) set_pair(result, j, sums[j].x, sums[j].y);
  octets(arguments.part_sums(role, block, part))[column] = result;
}

// ------------------------------------------------------------------------------------------- any head, any type

constexpr int kThreads = 256;

// Token by token with a block of threads; a thread keeps the sums of its own channels in the work space.
template <typename T>
__global__ void __launch_bounds__(kThreads, 4) split_kernel(const __grid_constant__ Arguments<T> arguments) {
  __shared__ float scratch[kThreads / kWarp];
  let_next_be_placed();
  const int dim = arguments.dim, thread = static_cast<int>(threadIdx.x), pairs_of_head = arguments.head_dim / 2;
  const unsigned role = blockIdx.x % kRoles;
  const int work = static_cast<int>(blockIdx.x / kRoles), block = work / kParts, part = work % kParts;
  T* destination = arguments.destination(role, block);
  const float* norm = role == kQuery ? arguments.norms[0] : arguments.norms[1];

  for (int token = 0; token < kPartTokens; ++token) {
    const int inside = part * kPartTokens + token;
    const T* from = arguments.qkv + (std::int64_t{block} * kBlockTokens + inside) * 3 * dim + role * dim;
    T* to = destination + std::int64_t{inside} * dim;
    if (role == kValue) {
      for (int c = thread; c < dim; c += kThreads) to[c] = from[c];
      continue;
    }
    float squares = 0;
    for (int c = thread; c < dim; c += kThreads) squares += to_float(from[c]) * to_float(from[c]);
    const float mean = block_sum<kThreads>(squares, scratch) / static_cast<float>(dim);
    const float inverse = 1.0f / sqrtf(mean + kEpsilon);
    const TokenPosition at = arguments.position(block, inside);
    auto* sums = reinterpret_cast<float2*>(arguments.part_sums(role, block, part));
    for (int pair = thread; pair < dim / 2; pair += kThreads) {
      const int c = 2 * pair;
      const float2 x = {to_float(from[c]) * inverse * norm[c], to_float(from[c + 1]) * inverse * norm[c + 1]};
      const float2 y = rotated(x, angle_of(arguments.angles, at, pair % pairs_of_head));
      to[c] = from_float<T>(y.x);
      to[c + 1] = from_float<T>(y.y);
      const float2 before = token == 0 ? float2{} : sums[pair];
      sums[pair] = {before.x + y.x, before.y + y.y};
    }
  }
}

// Adds the parts of each block: one channel a thread, so that nothing waits twice. Grid: blocks, q and k, parts of a
// token.
template <typename T>
__global__ void __launch_bounds__(kThreads) block_means_kernel(const __grid_constant__ Arguments<T> arguments) {
  const unsigned role = blockIdx.y;
  const int dim = arguments.dim, block = static_cast<int>(blockIdx.x);
  const int c = static_cast<int>(blockIdx.z * kThreads + threadIdx.x);
  wait_for_kernel_before();
  if (c >= dim) return;
  float* means = role == kQuery ? arguments.q_means + std::int64_t{block} * dim
                                : arguments.k_means + arguments.ring_block(block) * dim;
  float parts[kParts];
#pragma unroll
  for (int part = 0; part < kParts; ++part) parts[part] = arguments.part_sums(role, block, part)[c];
  float sum = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) sum += parts[part];
  means[c] = sum * (1.0f / kBlockTokens);
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

bool takes_columns(const Arguments<__nv_bfloat16>& arguments) {
  return arguments.dim % kOctet == 0 && arguments.head_dim % kOctet == 0 && arguments.dim <= kMaxColumns * kOctet &&
         angle_bytes(arguments.head_dim) <= kMaxAngleBytes && aligned(arguments.qkv) && aligned(arguments.q) &&
         aligned(arguments.k) && aligned(arguments.v) && aligned(arguments.norms[0]) && aligned(arguments.norms[1]) &&
         aligned(arguments.work);
}

cudaError_t launch_columns(const Arguments<__nv_bfloat16>& arguments, unsigned blocks, cudaStream_t stream) {
  const int threads = (arguments.dim / kOctet + kWarp - 1) / kWarp * kWarp;
  const int shared = angle_bytes(arguments.head_dim) + stage_bytes(threads);
  const cudaError_t status =
      cudaFuncSetAttribute(split_columns_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (status != cudaSuccess) return status;
  split_columns_kernel<<<blocks, static_cast<unsigned>(threads), shared, stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t launch_split(const Arguments<__nv_bfloat16>& arguments, unsigned blocks, cudaStream_t stream) {
  if (takes_columns(arguments)) return launch_columns(arguments, blocks, stream);
  split_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t launch_split(const Arguments<float>& arguments, unsigned blocks, cudaStream_t stream) {
  split_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch(const SplitQkv& split, cudaStream_t stream) {
  const std::int64_t window_blocks = split.grid.window_blocks, dim = split.dim;
  for (std::int64_t window = 0; window < split.windows; window += kMaxWindows) {
    const auto windows = std::min<std::int64_t>(kMaxWindows, split.windows - window);
    const std::int64_t first_token = window * window_blocks * kBlockTokens;
    Arguments<T> arguments{.qkv = static_cast<const T*>(split.qkv) + first_token * 3 * dim,
                           .norms = {split.norm_q, split.norm_k},
                           .angles = split.angles,
                           .q = static_cast<T*>(split.q) + first_token * dim,
                           .k = static_cast<T*>(split.k),
                           .v = static_cast<T*>(split.v),
                           .q_means = split.q_means + window * window_blocks * dim,
                           .k_means = split.k_means,
                           .work = split.work,
                           .dim = split.dim,
                           .head_dim = split.head_dim,
                           .grid = split.grid,
                           .first_window = static_cast<int>(window),
                           .blocks = static_cast<int>(windows * window_blocks),
                           .slots = {}};
    for (std::int64_t i = 0; i < windows; ++i) arguments.slots.values[i] = static_cast<int>(split.slots[window + i]);
    const auto blocks = static_cast<unsigned>(arguments.blocks);
    cudaError_t status = launch_split(arguments, blocks * kParts * kRoles, stream);
    if (status != cudaSuccess) return status;
    const auto token_parts = static_cast<unsigned>((dim + kThreads - 1) / kThreads);
    status = launch_dependent(block_means_kernel<T>, dim3(blocks, 2, token_parts), kThreads, stream, arguments);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace

std::int64_t split_qkv_work(std::int64_t windows, const WindowGrid& grid, std::int64_t dim) {
  return 2 * std::min<std::int64_t>(windows, kMaxWindows) * grid.window_blocks * kParts * dim;
}

cudaError_t launch_split_qkv(const SplitQkv& split, cudaStream_t stream) {
  return with_float_type(split.type, [&]<typename T>(T) { return launch<T>(split, stream); });
}

}  // namespace flashvsr::cuda
