// Attention as products of f32 tiles: 128 queries and 64 keys at a time, eight queries and four keys (or columns of the
// result) a thread, softmax online.
//
// Tiles in shared memory are stored with the inner index of a product outermost, so that a thread's operands are
// contiguous; groups of four are permuted by an exclusive or, so that neither the stores across them nor the loads
// along them meet in one bank.
#include "ops/cuda/kernels/attention_plain.h"
#include "ops/cuda/kernels/attention_tiles.cuh"
#include "ops/cuda/kernels/elements.cuh"

#include <cmath>
#include <limits>

namespace flashvsr::cuda {
namespace {

constexpr int kQueries = 128, kKeys = 64;
constexpr int kSlice = 32;     // of the head dim, while scores are computed
constexpr int kChunk = 64;     // columns of the result that are computed at once
constexpr int kMaxChunks = 4;  // that one block holds
constexpr int kThreads = 256;  // 16 x 16
constexpr int kRows = 8;       // queries of a thread
constexpr int kWeightFloats = kKeys * kQueries;
constexpr int kSliceFloats = kSlice * (kQueries + kKeys);
static_assert(kKeys * kChunk <= kSliceFloats, "values lie where the slices of queries and keys were");
constexpr int kSharedBytes = (kWeightFloats + kSliceFloats) * static_cast<int>(sizeof(float));

// Elements [column, column + 4) of a row; zeros beyond the row's end. `aligned`: every row starts at a multiple of four
// elements and has a multiple of four.
template <typename T>
__device__ __forceinline__ float4 load_four(const T* row, int column, int columns, bool aligned) {
  float values[4] = {};
  if (aligned) {
    if (column < columns) {
      const Pack<T, 4> pack = *reinterpret_cast<const Pack<T, 4>*>(row + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = to_float(pack.values[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i < columns) values[i] = to_float(row[column + i]);
    }
  }
  return make_float4(values[0], values[1], values[2], values[3]);
}

// Columns [begin, begin + kSlice) of `Rows` rows, transposed and permuted. Rows from `count` on are zeros.
template <int Rows, typename T>
__device__ __forceinline__ void load_slice(float* slice, const T* rows, std::int64_t stride, int count, int begin,
                                           int head_dim, bool aligned) {
  constexpr int kPacks = kSlice / 4;
#pragma unroll
  for (int item = static_cast<int>(threadIdx.x); item < Rows * kPacks; item += kThreads) {
    const int row = item / kPacks, pack = item % kPacks;
    const float4 values = row < count ? load_four(rows + row * stride, begin + 4 * pack, head_dim, aligned)
                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float* const destination = slice + 4 * pack * Rows + ((row / 4) ^ pack) * 4 + row % 4;
    destination[0] = values.x;
    destination[Rows] = values.y;
    destination[2 * Rows] = values.z;
    destination[3 * Rows] = values.w;
  }
}

__device__ __forceinline__ void load_rows(float (&values)[kRows], const float* first, const float* second) {
  const float4 low = *reinterpret_cast<const float4*>(first), high = *reinterpret_cast<const float4*>(second);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

// products[i][j] += left[i] * right[j]
__device__ __forceinline__ void add_products(float (&products)[kRows][4], const float (&left)[kRows], float4 right) {
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    products[i][0] = fmaf(left[i], right.x, products[i][0]);
    products[i][1] = fmaf(left[i], right.y, products[i][1]);
    products[i][2] = fmaf(left[i], right.z, products[i][2]);
    products[i][3] = fmaf(left[i], right.w, products[i][3]);
  }
}

// Over the 16 threads that share queries.
__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int distance = 1; distance < 16; distance *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int distance = 1; distance < 16; distance *= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// A block gives columns [blockIdx.y * Chunks * kChunk, ...) of the result of one tile of queries and one head.
template <typename T, int Chunks>
__global__ void __launch_bounds__(kThreads, 1)
    attention_plain_kernel(const __grid_constant__ AttentionArguments a, float scale_log2) {
  extern __shared__ __align__(16) float shared[];
  float* const weights = shared;                       // [keys][queries], permuted
  float* const q_slice = weights + kWeightFloats;      // [kSlice][queries], permuted
  float* const k_slice = q_slice + kSlice * kQueries;  // [kSlice][keys], permuted
  float* const values = q_slice;                       // [keys][kChunk]

  const AttentionTiles<kQueries, kKeys> tiles(a, blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % 16, ty = thread / 16;
  const int head_dim = a.head_dim;
  const bool aligned = head_dim % 4 == 0;
  const std::int64_t stride = static_cast<std::int64_t>(a.heads) * head_dim;
  const std::int64_t head_column = static_cast<std::int64_t>(tiles.head()) * head_dim;
  const int first_column = static_cast<int>(blockIdx.y) * Chunks * kChunk;
  const T* const q = static_cast<const T*>(a.q) + tiles.query_row() * stride + head_column;
  const T* const all_k = static_cast<const T*>(a.k) + head_column;
  const T* const all_v = static_cast<const T*>(a.v) + head_column;

  float out[Chunks][kRows][4] = {};
  float largest[kRows], sums[kRows];  // sums: of this thread's keys
#pragma unroll
  for (int i = 0; i < kRows; ++i) largest[i] = -INFINITY, sums[i] = 0.0f;

  for (int tile = 0; tile < tiles.count(); ++tile) {
    const int key_row = tiles.key_row(tile);
    const int key_count = tiles.key_count(tile);
    const T* const k = all_k + key_row * stride;
    const T* const v = all_v + key_row * stride;

    float s[kRows][4] = {};
    for (int begin = 0; begin < head_dim; begin += kSlice) {
      __syncthreads();
      load_slice<kQueries>(q_slice, q, stride, tiles.query_count(), begin, head_dim, aligned);
      load_slice<kKeys>(k_slice, k, stride, key_count, begin, head_dim, aligned);
      __syncthreads();
      const int packs = min(kSlice, head_dim - begin + 3) / 4;
      for (int pack = 0; pack < packs; ++pack) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* const q_values = q_slice + (4 * pack + i) * kQueries;
          float left[kRows];
          load_rows(left, q_values + ((2 * ty) ^ pack) * 4, q_values + ((2 * ty + 1) ^ pack) * 4);
          const float4 right = *reinterpret_cast<const float4*>(k_slice + (4 * pack + i) * kKeys + (tx ^ pack) * 4);
          add_products(s, left, right);
        }
      }
    }

#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) s[i][j] = 4 * tx + j < key_count ? s[i][j] * scale_log2 : -INFINITY;
      // Every tile has a key, so that the maximum is finite.
      const float before = largest[i];
      largest[i] = fmaxf(before, row_max(fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]))));
      const float rescale = exp2f(before - largest[i]);
#pragma unroll
      for (int j = 0; j < 4; ++j) s[i][j] = exp2f(s[i][j] - largest[i]);
      sums[i] = fmaf(sums[i], rescale, (s[i][0] + s[i][1]) + (s[i][2] + s[i][3]));
#pragma unroll
      for (int chunk = 0; chunk < Chunks; ++chunk) {
#pragma unroll
        for (int j = 0; j < 4; ++j) out[chunk][i][j] *= rescale;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float* const key_weights = weights + (4 * tx + j) * kQueries;
      *reinterpret_cast<float4*>(key_weights + ((2 * ty) ^ tx) * 4) = make_float4(s[0][j], s[1][j], s[2][j], s[3][j]);
      *reinterpret_cast<float4*>(key_weights + ((2 * ty + 1) ^ tx) * 4) =
          make_float4(s[4][j], s[5][j], s[6][j], s[7][j]);
    }

#pragma unroll
    for (int chunk = 0; chunk < Chunks; ++chunk) {
      const int column = first_column + chunk * kChunk;
      if (column >= head_dim) break;
      __syncthreads();
#pragma unroll
      for (int item = thread; item < kKeys * kChunk / 4; item += kThreads) {
        const int key = item / (kChunk / 4), pack = item % (kChunk / 4);
        reinterpret_cast<float4*>(values)[item] =
            key < key_count ? load_four(v + key * stride, column + 4 * pack, head_dim, aligned)
                            : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
      __syncthreads();
#pragma unroll 4
      for (int key = 0; key < key_count; ++key) {
        const float* const key_weights = weights + key * kQueries;
        float left[kRows];
        load_rows(left, key_weights + ((2 * ty) ^ (key / 4)) * 4, key_weights + ((2 * ty + 1) ^ (key / 4)) * 4);
        add_products(out[chunk], left, *reinterpret_cast<const float4*>(values + key * kChunk + 4 * tx));
      }
    }
  }

  T* const result = static_cast<T*>(a.out) + tiles.query_row() * stride + head_column;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = kRows * ty + i;
    const float sum = row_sum(sums[i]);
    const float inverse = tiles.count() > 0 ? 1.0f / sum : 0.0f;
    if (row >= tiles.query_count()) continue;
#pragma unroll
    for (int chunk = 0; chunk < Chunks; ++chunk) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = first_column + chunk * kChunk + 4 * tx + j;
        if (column < head_dim) result[row * stride + column] = from_float<T>(out[chunk][i][j] * inverse);
      }
    }
  }
}

template <typename T, int Chunks>
cudaError_t launch(const AttentionArguments& a, unsigned column_groups, cudaStream_t stream) {
  const std::int64_t blocks = AttentionTiles<kQueries, kKeys>::blocks(a);
  if (blocks > std::numeric_limits<int>::max()) return cudaErrorInvalidConfiguration;
  const auto kernel = attention_plain_kernel<T, Chunks>;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (status != cudaSuccess) return status;
  const float scale_log2 = 1.4426950408889634f / std::sqrt(static_cast<float>(a.head_dim));
  kernel<<<dim3(static_cast<unsigned>(blocks), column_groups), kThreads, kSharedBytes, stream>>>(a, scale_log2);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_attention_plain(const AttentionArguments& a, cudaStream_t stream) {
  if (AttentionTiles<kQueries, kKeys>::blocks(a) == 0) return cudaSuccess;
  // Wider heads are split between blocks, each of which computes the scores anew.
  const int chunks = (a.head_dim + kChunk - 1) / kChunk, groups = (chunks + kMaxChunks - 1) / kMaxChunks;
  const int chunks_of_group = (chunks + groups - 1) / groups;
  const auto column_groups = static_cast<unsigned>(groups);
  return with_float_type(a.type, [&]<typename T>(T) {
    switch (chunks_of_group) {
      case 1: return launch<T, 1>(a, column_groups, stream);
      case 2: return launch<T, 2>(a, column_groups, stream);
      case 3: return launch<T, 3>(a, column_groups, stream);
      default: return launch<T, 4>(a, column_groups, stream);
    }
  });
}

}  // namespace flashvsr::cuda
