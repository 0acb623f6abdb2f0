// Block-sparse attention for Hopper. One 128 x 128 tile is one block of the mask, so the mask only changes which tile
// the producer fetches next; the consumers never see it.
#include "ops/cuda/kernels/sparse_attention.h"
#include "ops/cuda/kernels/sparse_attention_schedule.cuh"
#include "ops/cuda/ptx/arithmetic.cuh"
#include "ops/cuda/ptx/tma.cuh"
#include "ops/cuda/ptx/wgmma.cuh"
#include "ops/cuda/tensor_map.h"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

using namespace ptx;

constexpr int kTile = 128;                     // queries, keys and head dim
constexpr int kTileBytes = kTile * kTile * 2;  // two panels of 128 rows x 64 columns
constexpr int kPanelBytes = kTileBytes / 2;
constexpr int kStages = 3;     // of K and of V
constexpr int kConsumers = 2;  // warpgroups of 64 query rows
constexpr int kConsumerWarps = 4 * kConsumers;
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kMaxGrid = kThreads - 1;
using Scratch = ScheduleScratch<kThreads>;
constexpr int kSharedBytes = (1 + 2 * kStages) * kTileBytes + 1024;
constexpr int kPartialFloats = kTile * kTile;
// A weight above this raises the maximum that later ones are relative to; one above kLargestWeight has its tile weighed
// again at once, before sums come near the end of f32.
constexpr float kRescaleThreshold = 256.0f, kLargestWeight = 0x1p60f;

struct Parameters {
  AttentionRows rows;
  const int* indices;
  __nv_bfloat16* out;
  int query_blocks, window_blocks, dim;
  float scale_log2;  // log2(e) / sqrt(128)
  int slots[kAttentionMaxWindows];
  float* partial_out;     // [2 * grid][128][128]
  float2* partial_stats;  // [2 * grid][128] maximum (log2 domain), sum
  int* cuts;              // [grid + 1], for the second kernel
};

struct Barriers {
  std::uint64_t q_full, q_empty;
  std::uint64_t k_full[kStages], k_empty[kStages];
  std::uint64_t v_full[kStages], v_empty[kStages];
};

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// ------------------------------------------------------------------------------------------------- producer

__device__ void produce(const CUtensorMap* map_q, const CUtensorMap* map_k, const CUtensorMap* map_v, Barriers& bars,
                        std::uint8_t* q_tile, std::uint8_t* k_tiles, std::uint8_t* v_tiles, const Parameters& p,
                        Schedule schedule) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int stage = 0, phase = 0, q_phase = 0;
  // All blocks sweep the keys of a head at about the same time, so that K and V are read from memory once: a block that
  // starts a row starts it so that in its middle it is where the others should be by then, and wraps around.
  const int mean_row = max(p.rows.offsets[p.rows.count] / p.rows.count, 1);
  int done = 0;
  for (Segment segment; schedule.next(segment);) {
    const int head = segment.row / p.query_blocks;
    const int length = segment.end - segment.begin;
    const int position = (2 * done + length + mean_row) % (2 * mean_row);
    const int start = static_cast<int>(static_cast<long long>(length) * position / (2 * mean_row));
    done += length;
    if (lane == 0) {
      mbarrier_wait(&bars.q_empty, q_phase ^ 1);
      mbarrier_expect(&bars.q_full, kTileBytes);
      tma_load_3d(q_tile, map_q, &bars.q_full, 0, (segment.row - head * p.query_blocks) * kTile, head * 2);
    }
    q_phase ^= 1;
    for (int item = segment.begin; item < segment.end; item += 32) {
      // One coalesced load gives the warp's next 32 indices, well ahead of their use.
      int ring_block = 0;
      if (item + lane < segment.end) {
        int place = item + lane + start;
        if (place >= segment.end) place -= length;
        const int block = p.indices[place];
        const int window = block / p.window_blocks;
        ring_block = p.slots[window] * p.window_blocks + block - window * p.window_blocks;
      }
      const int count = min(32, segment.end - item);
      for (int i = 0; i < count; ++i) {
        const int key_row = __shfl_sync(0xffffffffu, ring_block, i) * kTile;
        if (lane == 0) {
          mbarrier_wait(&bars.k_empty[stage], phase ^ 1);
          mbarrier_expect(&bars.k_full[stage], kTileBytes);
          tma_load_3d(k_tiles + stage * kTileBytes, map_k, &bars.k_full[stage], 0, key_row, head * 2);
          mbarrier_wait(&bars.v_empty[stage], phase ^ 1);
          mbarrier_expect(&bars.v_full[stage], kTileBytes);
          tma_load_3d(v_tiles + stage * kTileBytes, map_v, &bars.v_full[stage], 0, key_row, head * 2);
        }
        if (++stage == kStages) stage = 0, phase ^= 1;
        __syncwarp();
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------ consumers

// Of the two rows of a tile that a thread's accumulators belong to, the first; the other is eight further down.
__device__ __forceinline__ int first_row(int group) {
  const int thread = static_cast<int>(threadIdx.x % 128);
  return group * 64 + thread / 32 * 16 + thread % 32 / 4;
}

__device__ __forceinline__ void issue_scores(float (&s)[64], const std::uint8_t* q, const std::uint8_t* k) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    const int offset = (step / 4) * kPanelBytes + (step % 4) * 32;
    wgmma_m64n128k16<0>(s, wgmma_descriptor(q + offset, 16, 1024), wgmma_descriptor(k + offset, 16, 1024), step != 0);
  }
}

__device__ __forceinline__ void issue_values(float (&o)[64], const std::uint32_t (&p)[8][4], const std::uint8_t* v,
                                             int accumulate) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
    wgmma_m64n128k16<1>(o, p[step], wgmma_descriptor(v + step * 16 * 128, kPanelBytes, 1024),
                        step == 0 ? accumulate : 1);
  }
}

// The maximum of each row's scores (this thread has two rows), in the domain of exponents to the base 2.
__device__ __forceinline__ void row_maxima(const float (&s)[64], float (&maximum)[2], float scale_log2) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top[4] = {s[2 * half], s[2 * half + 1], s[4 + 2 * half], s[4 + 2 * half + 1]};
#pragma unroll
    for (int i = 2; i < 16; i += 2) {
      top[0] = fmaxf(top[0], s[4 * i + 2 * half]);
      top[1] = fmaxf(top[1], s[4 * i + 2 * half + 1]);
      top[2] = fmaxf(top[2], s[4 * i + 4 + 2 * half]);
      top[3] = fmaxf(top[3], s[4 * i + 4 + 2 * half + 1]);
    }
    maximum[half] = quad_max(fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3]))) * scale_log2;
  }
}

// s becomes the weights 2^(s - m), sum this thread's part of their sums.
__device__ __forceinline__ void weigh(float (&s)[64], const float (&m)[2], float (&sum)[2], float scale_log2) {
  float parts[2][2] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& value = s[4 * i + 2 * half + j];
        value = exp2_approx(fmaf(value, scale_log2, -m[half]));
        parts[half][j] += value;
      }
    }
  }
  sum[0] = parts[0][0] + parts[0][1];
  sum[1] = parts[1][0] + parts[1][1];
}

// Weights may exceed 1 by as much as kLargestWeight: they keep their relative precision, as bf16 has the exponents of
// f32. So m need not be the maximum of the tile that it is used for; it is raised afterwards, while the next products
// run, from the packed weights. rescale: what sums and results so far have to be multiplied by.
__device__ __forceinline__ void raise_maximum(const std::uint32_t (&weights)[8][4], float (&m)[2],
                                              float (&rescale)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t top[2] = {weights[0][half], weights[0][half + 2]};
#pragma unroll
    for (int step = 1; step < 8; ++step) {
      top[0] = max_bf16(top[0], weights[step][half]);
      top[1] = max_bf16(top[1], weights[step][half + 2]);
    }
    top[0] = max_bf16(top[0], top[1]);
    const float most = quad_max(fmaxf(__uint_as_float(top[0] << 16), __uint_as_float(top[0] & 0xffff0000u)));
    rescale[half] = 1.0f;
    if (most > kRescaleThreshold) {
      // By a power of two, so that nothing is rounded.
      const int exponent = (__float_as_int(most) >> 23) - 127;
      m[half] += static_cast<float>(exponent);
      rescale[half] = __int_as_float((127 - exponent) << 23);
    }
  }
}

// values[index] without a run-time index into registers.
__device__ __forceinline__ std::uint32_t select(const std::uint32_t (&values)[4], int index) {
  const std::uint32_t low = (index & 1) != 0 ? values[1] : values[0], high = (index & 1) != 0 ? values[3] : values[2];
  return (index & 2) != 0 ? high : low;
}

__device__ __forceinline__ void pack_weights(std::uint32_t (&p)[8][4], const float (&s)[64]) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p[step][i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
  }
}

// 16 bytes of row `row`, columns [8 chunk, 8 chunk + 8), of a tile as the copy engine lays it out.
__device__ __forceinline__ uint4 tile_piece(const std::uint8_t* tile, int row, int chunk) {
  const int place = ((chunk % 8) ^ (row % 8)) * 16;
  return *reinterpret_cast<const uint4*>(tile + chunk / 8 * kPanelBytes + row * 128 + place);
}

__device__ __forceinline__ float dot(const uint4& a, const uint4& b, float sum) {
  const auto* const x = reinterpret_cast<const __nv_bfloat162*>(&a);
  const auto* const y = reinterpret_cast<const __nv_bfloat162*>(&b);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 left = __bfloat1622float2(x[i]), right = __bfloat1622float2(y[i]);
    sum = fmaf(left.x, right.x, fmaf(left.y, right.y, sum));
  }
  return sum;
}

// The scores of a tile whose weights became too large, computed once more by a warp alone: next to never, so by the
// plainest means.
__device__ __noinline__ void scores_again(float* s, const std::uint8_t* q, const std::uint8_t* k, int q_row) {
  const int lane = static_cast<int>(threadIdx.x % 4);
#pragma unroll 1
  for (int i = 0; i < 16; ++i) {
#pragma unroll 1
    for (int place = 0; place < 4; ++place) {
      const int row = q_row + place / 2 * 8, column = 8 * i + 2 * lane + place % 2;
      float sum = 0.0f;
#pragma unroll 1
      for (int chunk = 0; chunk < 16; ++chunk) sum = dot(tile_piece(q, row, chunk), tile_piece(k, column, chunk), sum);
      s[4 * i + place] = sum;
    }
  }
}

// Writes a complete row's 64 queries. The four threads of a quad hold 4 bytes each of every 16: they trade, so that
// each writes 16 bytes at once.
__device__ __forceinline__ void write_row(const Parameters& p, const float (&o)[64], const float (&inverse)[2],
                                          int group, int query_row, int head) {
  const int lane = static_cast<int>(threadIdx.x % 4), row = query_row + first_row(group);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    __nv_bfloat16* out = p.out + static_cast<std::size_t>(row + 8 * half) * p.dim + head * kTile;
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      std::uint32_t own[4], mine[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        own[j] = pack_bf16(o[4 * (i + j) + 2 * half] * inverse[half], o[4 * (i + j) + 2 * half + 1] * inverse[half]);
      }
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        // In step s a thread gives away its part of group lane ^ s and gets a part of its own group.
        const std::uint32_t given = select(own, lane ^ step);
        const std::uint32_t got = __shfl_xor_sync(0xffffffffu, given, step);
        if (lane == 0) mine[step] = got;
        if (lane == 1) mine[step ^ 1] = got;
        if (lane == 2) mine[step ^ 2] = got;
        if (lane == 3) mine[step ^ 3] = got;
      }
      *reinterpret_cast<uint4*>(out + 8 * (i + lane)) = make_uint4(mine[0], mine[1], mine[2], mine[3]);
    }
  }
}

__device__ __forceinline__ void write_partial(const Parameters& p, int slot, const float (&o)[64], const float (&m)[2],
                                              const float (&l)[2], int group) {
  const int thread = static_cast<int>(threadIdx.x % 128), row = first_row(group);
  float* out = p.partial_out + static_cast<std::size_t>(slot) * kPartialFloats;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int column = 8 * i + (thread % 4) * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<float2*>(out + (row + 8 * half) * kTile + column) =
          make_float2(o[4 * i + 2 * half], o[4 * i + 2 * half + 1]);
    }
  }
  if (thread % 4 == 0) {
    p.partial_stats[slot * kTile + row] = make_float2(m[0], l[0]);
    p.partial_stats[slot * kTile + row + 8] = make_float2(m[1], l[1]);
  }
}

__device__ void consume(Barriers& bars, const std::uint8_t* q_tile, std::uint8_t* k_tiles, std::uint8_t* v_tiles,
                        const Parameters& p, Schedule schedule, int group) {
  const bool leader = threadIdx.x % 128 == 0, warp_leader = threadIdx.x % 32 == 0;
  const std::uint8_t* q_rows = q_tile + group * 64 * 128;
  Segment segment;
  if (!schedule.next(segment)) return;
  // The first warpgroup has the first turn.
  if (group == 1) named_barrier_arrive(2, 128 * kConsumers);
  float s[64], o[64];
  std::uint32_t weights[8][4];
  float m[2], l[2], rescale[2];
  int stage = 0, phase = 0, q_phase = 0;
  int v_stage = 0, v_phase = 0;
  bool first_of_row = true;

  const auto finish_row = [&](const Segment& done, const float(&m_done)[2], const float(&l_done)[2]) {
    const float sum[2] = {quad_sum(l_done[0]), quad_sum(l_done[1])};
    const bool starts = done.begin == p.rows.offsets[done.row], ends = done.end == p.rows.offsets[done.row + 1];
    if (starts && ends) {
      const float inverse[2] = {1.0f / sum[0], 1.0f / sum[1]};
      const int head = done.row / p.query_blocks;
      write_row(p, o, inverse, group, (done.row - head * p.query_blocks) * kTile, head);
    } else {
      write_partial(p, 2 * static_cast<int>(blockIdx.x) + (starts ? 1 : 0), o, m_done, sum, group);
    }
  };

  // The scores of the first tile have nothing to overlap with.
  mbarrier_wait(&bars.q_full, q_phase);
  mbarrier_wait(&bars.k_full[stage], phase);
  wgmma_fence();
  issue_scores(s, q_rows, k_tiles + stage * kTileBytes);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(s);
  if (warp_leader) mbarrier_arrive(&bars.k_empty[stage]);
  if (++stage == kStages) stage = 0, phase ^= 1;
  row_maxima(s, m, p.scale_log2);
  weigh(s, m, l, p.scale_log2);
  pack_weights(weights, s);

  for (int item = segment.begin + 1;; ++item) {
    const Segment current = segment;
    const bool new_row = item == current.end;
    if (new_row) {
      if (!schedule.next(segment)) break;
      item = segment.begin;
      // The scores of the row before are done, so its queries can go.
      if (warp_leader) mbarrier_arrive(&bars.q_empty);
      q_phase ^= 1;
      mbarrier_wait(&bars.q_full, q_phase);
    }
    mbarrier_wait(&bars.k_full[stage], phase);
    // The two warpgroups take turns: one multiplies while the other computes its softmax.
    named_barrier_sync(2 + group, 128 * kConsumers);
    wgmma_fence();
    issue_scores(s, q_rows, k_tiles + stage * kTileBytes);
    wgmma_commit();
    mbarrier_wait(&bars.v_full[v_stage], v_phase);
    wgmma_fence();
    issue_values(o, weights, v_tiles + v_stage * kTileBytes, first_of_row ? 0 : 1);
    wgmma_commit();
    named_barrier_arrive(2 + (group ^ 1), 128 * kConsumers);

    const float m_done[2] = {m[0], m[1]}, l_done[2] = {l[0], l[1]};
    if (!new_row) raise_maximum(weights, m, rescale);
    wgmma_wait<1>();
    wgmma_results(s);
    if (new_row) {
      row_maxima(s, m, p.scale_log2);
      l[0] = l[1] = 0.0f;
      rescale[0] = rescale[1] = 1.0f;
    }
    float sum[2];
    weigh(s, m, sum, p.scale_log2);
    // The assembler moves a wait in front of arithmetic that does not need it; it cannot pass a branch that hangs on
    // that arithmetic. So the exponentials run beside the product that is waited for next.
    if (__any_sync(0xffffffffu, !(sum[0] + sum[1] < kLargestWeight))) {
      float again[64], maximum[2];
      scores_again(again, q_tile, k_tiles + stage * kTileBytes, first_row(group));
#pragma unroll
      for (int i = 0; i < 64; ++i) s[i] = again[i];
      row_maxima(s, maximum, p.scale_log2);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (maximum[half] <= m[half]) continue;
        rescale[half] *= exp2_approx(m[half] - maximum[half]);
        m[half] = maximum[half];
      }
      weigh(s, m, sum, p.scale_log2);
    }
    if (warp_leader) mbarrier_arrive(&bars.k_empty[stage]);
    if (++stage == kStages) stage = 0, phase ^= 1;
    l[0] = fmaf(l[0], rescale[0], sum[0]);
    l[1] = fmaf(l[1], rescale[1], sum[1]);
    wgmma_wait<0>();
    if (leader) mbarrier_arrive(&bars.v_empty[v_stage]);
    if (++v_stage == kStages) v_stage = 0, v_phase ^= 1;
    if (new_row) {
      finish_row(current, m_done, l_done);
    } else if (__any_sync(0xffffffffu, rescale[0] != 1.0f || rescale[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        o[4 * i] *= rescale[0];
        o[4 * i + 1] *= rescale[0];
        o[4 * i + 2] *= rescale[1];
        o[4 * i + 3] *= rescale[1];
      }
    }
    first_of_row = new_row;
    pack_weights(weights, s);
  }
  mbarrier_wait(&bars.v_full[v_stage], v_phase);
  wgmma_fence();
  issue_values(o, weights, v_tiles + v_stage * kTileBytes, first_of_row ? 0 : 1);
  wgmma_commit();
  wgmma_wait<0>();
  finish_row(segment, m, l);
}

__global__ void __launch_bounds__(kThreads, 1)
    sparse_attention_kernel(const __grid_constant__ CUtensorMap map_q, const __grid_constant__ CUtensorMap map_k,
                            const __grid_constant__ CUtensorMap map_v, const __grid_constant__ Parameters p) {
  extern __shared__ std::uint8_t shared[];
  __shared__ Barriers bars;
  std::uint8_t* tiles = shared + (1024 - shared_address(shared) % 1024) % 1024;
  std::uint8_t* q_tile = tiles;
  std::uint8_t* k_tiles = q_tile + kTileBytes;
  std::uint8_t* v_tiles = k_tiles + kStages * kTileBytes;
  __shared__ std::uint16_t whole_rows[kMaxRounds];
  Scratch& plan = *reinterpret_cast<Scratch*>(tiles);
  make_schedule(p.rows, plan, whole_rows);
  if (blockIdx.x == 0 && threadIdx.x <= gridDim.x) p.cuts[threadIdx.x] = plan.cuts[threadIdx.x];
  const Schedule schedule(p.rows, whole_rows, plan.cuts);

  if (threadIdx.x == 0) {
    mbarrier_init(&bars.q_full, 1);
    mbarrier_init(&bars.q_empty, kConsumerWarps);
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&bars.k_full[i], 1);
      mbarrier_init(&bars.v_full[i], 1);
      mbarrier_init(&bars.k_empty[i], kConsumerWarps);
      mbarrier_init(&bars.v_empty[i], kConsumers);
    }
    mbarrier_init_fence();
  }
  fence_async_proxy();
  __syncthreads();

  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  if (warpgroup == 0) {
    set_max_registers_down<40>();
    if (threadIdx.x < 32) produce(&map_q, &map_k, &map_v, bars, q_tile, k_tiles, v_tiles, p, schedule);
  } else {
    set_max_registers_up<232>();
    consume(bars, q_tile, k_tiles, v_tiles, p, schedule, warpgroup - 1);
  }
}

// Rows that are empty, and rows that a cut went through.
__global__ void combine_kernel(const __grid_constant__ Parameters p, int grid) {
  const int row = static_cast<int>(blockIdx.x), head = row / p.query_blocks;
  const int begin = p.rows.offsets[row], end = p.rows.offsets[row + 1];
  const int query = static_cast<int>(threadIdx.x) / 2, column_begin = static_cast<int>(threadIdx.x) % 2 * 64;
  const std::size_t token = static_cast<std::size_t>(row - head * p.query_blocks) * kTile + query;
  __nv_bfloat16* destination = p.out + token * p.dim + head * kTile + column_begin;
  if (begin == end) {
    for (int i = 0; i < 64; i += 8) *reinterpret_cast<uint4*>(destination + i) = make_uint4(0, 0, 0, 0);
    return;
  }
  if (row < p.rows.tail) return;
  __shared__ int cuts[kMaxGrid + 1];
  for (int c = static_cast<int>(threadIdx.x); c <= grid; c += static_cast<int>(blockDim.x)) cuts[c] = p.cuts[c];
  __syncthreads();
  // The first block that holds a part of the row.
  int first = 0;
  for (int after = grid; after - first > 1;) {
    const int middle = (first + after) / 2;
    (cuts[middle] <= begin ? first : after) = middle;
  }
  if (cuts[first + 1] >= end) return;

  float m = -INFINITY;
  for (int c = first; c < grid && cuts[c] < end; ++c) {
    if (cuts[c] == cuts[c + 1]) continue;
    m = fmaxf(m, p.partial_stats[(2 * c + (cuts[c] <= begin ? 1 : 0)) * kTile + query].x);
  }
  float sum = 0.0f;
  float values[64] = {};
  for (int c = first; c < grid && cuts[c] < end; ++c) {
    if (cuts[c] == cuts[c + 1]) continue;
    const int slot = 2 * c + (cuts[c] <= begin ? 1 : 0);
    const float2 stats = p.partial_stats[slot * kTile + query];
    const float weight = exp2f(stats.x - m);
    sum = fmaf(stats.y, weight, sum);
    const float* source =
        p.partial_out + static_cast<std::size_t>(slot) * kPartialFloats + query * kTile + column_begin;
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
      const float4 part = *reinterpret_cast<const float4*>(source + i);
      values[i] = fmaf(part.x, weight, values[i]);
      values[i + 1] = fmaf(part.y, weight, values[i + 1]);
      values[i + 2] = fmaf(part.z, weight, values[i + 2]);
      values[i + 3] = fmaf(part.w, weight, values[i + 3]);
    }
  }
  const float inverse = 1.0f / sum;
#pragma unroll
  for (int i = 0; i < 64; i += 8) {
    const auto pair = [&](int j) { return pack_bf16(values[i + j] * inverse, values[i + j + 1] * inverse); };
    *reinterpret_cast<uint4*>(destination + i) = make_uint4(pair(0), pair(2), pair(4), pair(6));
  }
}

}  // namespace

std::size_t sparse_attention_workspace(int multiprocessors) {
  return static_cast<std::size_t>(2 * multiprocessors) * (kPartialFloats * sizeof(float) + kTile * sizeof(float2)) +
         static_cast<std::size_t>(multiprocessors + 1) * sizeof(int);
}

cudaError_t launch_sparse_attention_hopper(const SparseAttentionArguments& a, int multiprocessors,
                                           cudaStream_t stream) {
  if (multiprocessors > kMaxGrid || a.heads * a.query_blocks > kMaxAttentionRows) return cudaErrorInvalidValue;
  const int dim = a.heads * kTile;
  CUtensorMap map_q, map_k, map_v;
  const auto query_rows = static_cast<std::uint64_t>(a.query_blocks) * kTile;
  const auto key_rows = static_cast<std::uint64_t>(a.ring_blocks) * kTile;
  const auto columns = static_cast<std::uint64_t>(dim);
  if (!encode_panel_map(&map_q, a.q, query_rows, columns, kTile, 2) ||
      !encode_panel_map(&map_k, a.k, key_rows, columns, kTile, 2) ||
      !encode_panel_map(&map_v, a.v, key_rows, columns, kTile, 2)) {
    return cudaErrorInvalidValue;
  }
  Parameters p{};
  p.rows.offsets = a.offsets;
  p.indices = a.indices;
  p.out = a.out;
  p.rows.count = a.heads * a.query_blocks;
  p.query_blocks = a.query_blocks;
  p.window_blocks = a.window_blocks;
  p.dim = dim;
  p.scale_log2 = 1.4426950408889634f / 11.313708498984760f;
  std::copy(a.slots, a.slots + a.windows, p.slots);
  p.partial_out = static_cast<float*>(a.workspace);
  p.partial_stats =
      reinterpret_cast<float2*>(p.partial_out + static_cast<std::size_t>(2 * multiprocessors) * kPartialFloats);
  p.cuts = reinterpret_cast<int*>(p.partial_stats + static_cast<std::size_t>(2 * multiprocessors) * kTile);
  // At least two rows a block go into the tail, so that there is enough to even out what the whole rows left.
  p.rows.rounds = std::clamp(p.rows.count / multiprocessors - 2, 0, kMaxRounds);
  p.rows.tail = p.rows.rounds * multiprocessors;

  cudaError_t status =
      cudaFuncSetAttribute(sparse_attention_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (status != cudaSuccess) return status;
  sparse_attention_kernel<<<multiprocessors, kThreads, kSharedBytes, stream>>>(map_q, map_k, map_v, p);
  if ((status = cudaGetLastError()) != cudaSuccess) return status;
  combine_kernel<<<p.rows.count, 256, 0, stream>>>(p, multiprocessors);
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
