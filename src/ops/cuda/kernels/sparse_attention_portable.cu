// Attention by warp-level tensor core products, for every GPU from sm_80 on.
//
// A block has four warps with 16 or 32 queries each, so that a fragment of K or V that was read from shared memory
// serves one or two products (with 32 queries shared memory is busy about 60 % of the time of the tensor cores).
// Queries stay in shared memory, weights go from the scores' registers straight into the second product. K of the next
// tile is copied during softmax and the product with V, V during the product with K; two blocks share a multiprocessor,
// and one computes its softmax while the other multiplies.
#include "ops/cuda/kernels/attention_tiles.cuh"
#include "ops/cuda/kernels/sparse_attention_portable.h"
#include "ops/cuda/ptx/arithmetic.cuh"
#include "ops/cuda/ptx/mma.cuh"

#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashvsr::cuda {
namespace {

using namespace ptx;

constexpr int kWarps = 4, kThreads = 32 * kWarps;
// Scores may exceed the running maximum by 2^8 before the accumulator is rescaled: bf16 keeps its relative precision.
constexpr float kRescaleThreshold = 8.0f;
// 16-column steps of the scores that are unrolled: with more the compiler reads so far ahead that registers run out.
constexpr int kStepsAtOnce = 4;

// Rows of HeadDim elements in shared memory, in pieces of 16 bytes. Eight rows of one column of pieces, which ldmatrix
// reads at once, lie in different banks: pieces are permuted inside 128 bytes where rows are multiples of that, rows
// are an odd number of pieces apart otherwise.
template <int HeadDim>
struct RowLayout {
  static constexpr int kPieces = HeadDim / 8;
  static constexpr bool kPermuted = HeadDim % 64 == 0;
  static constexpr int kRowBytes = (kPieces + (kPermuted ? 0 : 1)) * 16;

  __device__ static int offset(int row, int piece) {
    return row * kRowBytes + (kPermuted ? piece ^ (row & 7) : piece) * 16;
  }
};

// Where a lane reads its rows of fragments of 16 x 16 elements, relative to the fragments' first row. Q, K and V are
// read by one pattern: matrices 0 and 1 are rows 0..7 and 8..15 of the first 8 columns, 2 and 3 those of the next 8.
template <int HeadDim>
class FragmentAddresses {
 public:
  using Layout = RowLayout<HeadDim>;

  __device__ explicit FragmentAddresses(std::uint32_t tile) {
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int i = 0; i < kVariants; ++i) {
      addresses_[i] = tile + static_cast<std::uint32_t>(Layout::offset(lane % 16, 2 * i + lane / 16));
    }
  }
  // Of the fragment whose first column is 16 * step.
  __device__ std::uint32_t operator()(int step) const {
    return addresses_[step % kVariants] + static_cast<std::uint32_t>(step / kVariants * kVariants * 32);
  }

 private:
  // The permutation repeats every 64 columns.
  static constexpr int kVariants = Layout::kPermuted ? 4 : 1;
  std::uint32_t addresses_[kVariants];
};

// blockIdx.x, opaque to the compiler.
__device__ __forceinline__ unsigned block_of_grid() {
  unsigned block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
  return block;
}

// Over the four threads that share a row of a fragment.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Copies rows of a matrix in global memory to a tile in shared memory. A thread's pieces differ by distances that all
// threads share: little has to be held for them.
template <int HeadDim>
class RowCopy {
 public:
  using Layout = RowLayout<HeadDim>;

  // Tiles are given as distances from `shared`; rows of a matrix are row_bytes apart, and what is copied begins
  // column_bytes after their start.
  __device__ RowCopy(std::uint32_t shared, unsigned row_bytes, unsigned column_bytes) : row_bytes_(row_bytes) {
    const int row = static_cast<int>(threadIdx.x) / kLanes, piece = static_cast<int>(threadIdx.x) % kLanes;
    shared_ = shared + static_cast<std::uint32_t>(Layout::offset(row, piece));
    global_ = column_bytes + static_cast<unsigned>(row) * row_bytes + static_cast<unsigned>(piece) * 16;
  }

  // Rows [row, row + count) of a matrix; what is left of Rows becomes zeros.
  template <int Rows>
  __device__ void copy(std::uint32_t tile, const void* matrix, int row, int count) const {
    const char* const rows = static_cast<const char*>(matrix) + static_cast<std::size_t>(row) * row_bytes_;
    if (count >= Rows) {
      copy_passes<Rows, true>(tile, rows, count);
    } else {
      copy_passes<Rows, false>(tile, rows, count);
    }
  }

 private:
  // Neighbouring threads that copy one row; rows that are copied at once.
  static constexpr int kLanes = std::min(Layout::kPieces & -Layout::kPieces, 16);
  static constexpr int kPassRows = kThreads / kLanes;
  static_assert(!Layout::kPermuted || (kPassRows % 8 == 0 && kLanes % 8 == 0), "a thread's pieces are permuted alike");

  template <int Rows, bool Full>
  __device__ __forceinline__ void copy_passes(std::uint32_t tile, const char* rows, int count) const {
    const int thread_row = static_cast<int>(threadIdx.x) / kLanes;
    const char* source = rows + global_;
#pragma unroll
    for (int row = 0; row < Rows; row += kPassRows) {
      if (kPassRows > Rows && thread_row >= Rows) break;
      const bool valid = Full || row + thread_row < count;
#pragma unroll
      for (int piece = 0; piece < Layout::kPieces; piece += kLanes) {
        copy_async_16(shared_ + tile + static_cast<std::uint32_t>(row * Layout::kRowBytes + piece * 16),
                      valid ? source + piece * 16 : rows, valid);
      }
      source += static_cast<std::size_t>(kPassRows) * row_bytes_;
    }
  }

  std::uint32_t shared_;
  unsigned global_, row_bytes_;
};

// What a warp holds of the result: 16 * RowTiles queries.
template <int HeadDim, int RowTiles>
struct Accumulator {
  float out[RowTiles][HeadDim / 8][4] = {};
  // Per row of a thread: the running maximum (log2 domain) and this thread's part of the sum.
  float largest[RowTiles][2], sums[RowTiles][2];
};

// s = q k^T; the warp's rows of q lie q_offset bytes after `tiles`, the tile of keys k_offset bytes.
template <int HeadDim, int RowTiles, int KeyTile>
__device__ __forceinline__ void multiply_scores(float (&s)[RowTiles][KeyTile / 8][4],
                                                const FragmentAddresses<HeadDim>& tiles, std::uint32_t q_offset,
                                                std::uint32_t k_offset) {
  constexpr std::uint32_t kFragmentBytes = 16 * RowLayout<HeadDim>::kRowBytes;
#pragma unroll
  for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < KeyTile / 8; ++i) s[r][i][0] = s[r][i][1] = s[r][i][2] = s[r][i][3] = 0.0f;
  }
#pragma unroll kStepsAtOnce
  for (int step = 0; step < HeadDim / 16; ++step) {
    std::uint32_t q[RowTiles][4];
#pragma unroll
    for (int r = 0; r < RowTiles; ++r)
      load_matrices(q[r], tiles(step) + q_offset + static_cast<std::uint32_t>(r) * kFragmentBytes);
#pragma unroll
    for (int pair = 0; pair < KeyTile / 16; ++pair) {
      std::uint32_t k[4];
      load_matrices(k, tiles(step) + k_offset + static_cast<std::uint32_t>(pair) * kFragmentBytes);
#pragma unroll
      for (int r = 0; r < RowTiles; ++r) {
        mma_m16n8k16(s[r][2 * pair], q[r], k[0], k[2]);
        mma_m16n8k16(s[r][2 * pair + 1], q[r], k[1], k[3]);
      }
    }
  }
}

// Keys from `count` on get no weight.
template <int RowTiles, int KeyTile>
__device__ __forceinline__ void hide_keys(float (&s)[RowTiles][KeyTile / 8][4], int count) {
  const int column = static_cast<int>(threadIdx.x % 4) * 2;
#pragma unroll
  for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < KeyTile / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (8 * i + column + j % 2 >= count) s[r][i][j] = -INFINITY;
      }
    }
  }
}

// s becomes the weights; the accumulator is rescaled if a maximum has grown by much.
template <int HeadDim, int RowTiles, int KeyTile>
__device__ __forceinline__ void softmax_tile(float (&s)[RowTiles][KeyTile / 8][4],
                                             Accumulator<HeadDim, RowTiles>& accumulator, float scale_log2) {
  bool grown = false;
  float rescale[RowTiles][2];
#pragma unroll
  for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = fmaxf(s[r][0][2 * half], s[r][0][2 * half + 1]);
#pragma unroll
      for (int i = 1; i < KeyTile / 8; ++i) top = fmaxf(top, fmaxf(s[r][i][2 * half], s[r][i][2 * half + 1]));
      top = quad_max(top) * scale_log2;
      float& largest = accumulator.largest[r][half];
      rescale[r][half] = 1.0f;
      if (top > largest + kRescaleThreshold) {
        rescale[r][half] = exp2_approx(largest - top);
        largest = top;
        grown = true;
      }
      float sum[2] = {0.0f, 0.0f};
#pragma unroll
      for (int i = 0; i < KeyTile / 8; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& value = s[r][i][2 * half + j];
          value = exp2_approx(fmaf(value, scale_log2, -largest));
          sum[j] += value;
        }
      }
      accumulator.sums[r][half] = fmaf(accumulator.sums[r][half], rescale[r][half], sum[0] + sum[1]);
    }
  }
  if (__any_sync(0xffffffffu, grown)) {
#pragma unroll
    for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < HeadDim / 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) accumulator.out[r][i][j] *= rescale[r][j / 2];
      }
    }
  }
}

// out += s v: the weights of 16 keys are two neighbouring fragments of the scores.
template <int HeadDim, int RowTiles, int KeyTile>
__device__ __forceinline__ void multiply_values(float (&out)[RowTiles][HeadDim / 8][4],
                                                const float (&s)[RowTiles][KeyTile / 8][4],
                                                const FragmentAddresses<HeadDim>& tiles, std::uint32_t v_offset) {
  constexpr std::uint32_t kFragmentBytes = 16 * RowLayout<HeadDim>::kRowBytes;
#pragma unroll
  for (int step = 0; step < KeyTile / 16; ++step) {
    std::uint32_t weights[RowTiles][4];
#pragma unroll
    for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&part)[4] = s[r][2 * step + i / 2];
        weights[r][i] = pack_bf16(part[i % 2 * 2], part[i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int pair = 0; pair < HeadDim / 16; ++pair) {
      std::uint32_t v[4];
      load_matrices_transposed(v, tiles(pair) + v_offset + static_cast<std::uint32_t>(step) * kFragmentBytes);
#pragma unroll
      for (int r = 0; r < RowTiles; ++r) {
        mma_m16n8k16(out[r][2 * pair], weights[r], v[0], v[1]);
        mma_m16n8k16(out[r][2 * pair + 1], weights[r], v[2], v[3]);
      }
    }
  }
}

// Writes a warp's rows of the result through its own rows of the query tile, so that global stores are 16 bytes wide.
template <int HeadDim, int RowTiles>
__device__ __forceinline__ void write_result(Accumulator<HeadDim, RowTiles>& accumulator, std::uint8_t* q_rows,
                                             __nv_bfloat16* out, std::int64_t stride, int count, bool empty) {
  using Layout = RowLayout<HeadDim>;
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(accumulator.sums[r][half]);
      const float inverse = empty ? 0.0f : 1.0f / sum;
      const int row = r * 16 + half * 8 + lane / 4;
#pragma unroll
      for (int i = 0; i < HeadDim / 8; ++i) {
        const float(&part)[4] = accumulator.out[r][i];
        *reinterpret_cast<std::uint32_t*>(q_rows + Layout::offset(row, i) + lane % 4 * 4) =
            pack_bf16(part[2 * half] * inverse, part[2 * half + 1] * inverse);
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int begin = 0; begin < RowTiles * 16 * Layout::kPieces; begin += 32) {
    const int item = begin + lane, row = item / Layout::kPieces, piece = item % Layout::kPieces;
    if (row < count) {
      *reinterpret_cast<uint4*>(out + row * stride + piece * 8) =
          *reinterpret_cast<const uint4*>(q_rows + Layout::offset(row, piece));
    }
  }
}

template <int HeadDim, int RowTiles, int KeyTile>
struct Tile {
  static constexpr int kQueries = 16 * RowTiles * kWarps;
  static constexpr int kRowBytes = RowLayout<HeadDim>::kRowBytes;
  static constexpr int kSharedBytes = (kQueries + 2 * KeyTile) * kRowBytes;
  using Tiles = AttentionTiles<kQueries, KeyTile>;
};

template <int HeadDim, int RowTiles, int KeyTile>
__global__ void __launch_bounds__(kThreads, 2)
    attention_portable_kernel(const __grid_constant__ AttentionArguments a, float scale_log2) {
  using T = Tile<HeadDim, RowTiles, KeyTile>;
  extern __shared__ __align__(128) std::uint8_t shared[];
  constexpr std::uint32_t kKeysAt = T::kQueries * T::kRowBytes, kValuesAt = kKeysAt + KeyTile * T::kRowBytes;
  const int first_row = static_cast<int>(threadIdx.x / 32) * 16 * RowTiles;
  const auto q_tile = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const FragmentAddresses<HeadDim> fragments(q_tile);

  const typename T::Tiles tiles(a, blockIdx.x);
  const RowCopy<HeadDim> rows(q_tile, static_cast<unsigned>(a.heads) * HeadDim * 2,
                              static_cast<unsigned>(tiles.head()) * HeadDim * 2);

  Accumulator<HeadDim, RowTiles> accumulator;
#pragma unroll
  for (int r = 0; r < RowTiles; ++r) {
#pragma unroll
    for (int half = 0; half < 2; ++half) accumulator.largest[r][half] = -INFINITY, accumulator.sums[r][half] = 0.0f;
  }

  const int count = tiles.count();
  // Each lane keeps the first row of one of the next 32 blocks of keys.
  int block_rows = 0;
  const auto key_row = [&](int tile) {
    return __shfl_sync(0xffffffffu, block_rows, tile / T::Tiles::kTilesPerBlock % 32) + T::Tiles::row_in_block(tile);
  };
  const auto copy_keys = [&](int tile) {
    constexpr int kTiles = 32 * T::Tiles::kTilesPerBlock;
    if (tile % kTiles == 0) {
      const int lane_tile = tile + static_cast<int>(threadIdx.x % 32) * T::Tiles::kTilesPerBlock;
      block_rows = typename T::Tiles(a, block_of_grid()).block_row(min(lane_tile, count - 1));
    }
    rows.template copy<KeyTile>(kKeysAt, a.k, key_row(tile), tiles.key_count(tile));
    copy_async_commit();
  };
  if (count > 0) {
    rows.template copy<T::kQueries>(0, a.q, tiles.query_row(), tiles.query_count());
    copy_keys(0);
  }
  for (int tile = 0; tile < count; ++tile) {
    // K has arrived, and all warps are done with V of the tile before.
    copy_async_wait<0>();
    __syncthreads();
    rows.template copy<KeyTile>(kValuesAt, a.v, key_row(tile), tiles.key_count(tile));
    copy_async_commit();
    float s[RowTiles][KeyTile / 8][4];
    multiply_scores<HeadDim, RowTiles, KeyTile>(s, fragments, static_cast<std::uint32_t>(first_row * T::kRowBytes),
                                                kKeysAt);

    // V has arrived, and all warps are done with K.
    copy_async_wait<0>();
    __syncthreads();
    if (tile + 1 < count) copy_keys(tile + 1);
    if (tiles.key_count(tile) < KeyTile) hide_keys<RowTiles, KeyTile>(s, tiles.key_count(tile));
    softmax_tile<HeadDim, RowTiles, KeyTile>(s, accumulator, scale_log2);
    multiply_values<HeadDim, RowTiles, KeyTile>(accumulator.out, s, fragments, kValuesAt);
  }
  // Computed anew: the loop has no registers to keep it in.
  const typename T::Tiles same_tiles(a, block_of_grid());
  const std::int64_t stride = static_cast<std::int64_t>(a.heads) * HeadDim;
  auto* const out =
      static_cast<__nv_bfloat16*>(a.out) + (same_tiles.query_row() + first_row) * stride + same_tiles.head() * HeadDim;
  write_result<HeadDim, RowTiles>(accumulator, shared + first_row * T::kRowBytes, out, stride,
                                  same_tiles.query_count() - first_row, count == 0);
}

template <int HeadDim, int RowTiles, int KeyTile>
cudaError_t launch(const AttentionArguments& a, cudaStream_t stream) {
  using T = Tile<HeadDim, RowTiles, KeyTile>;
  const std::int64_t blocks = T::Tiles::blocks(a);
  if (blocks == 0) return cudaSuccess;
  if (blocks > std::numeric_limits<int>::max()) return cudaErrorInvalidConfiguration;
  const auto kernel = attention_portable_kernel<HeadDim, RowTiles, KeyTile>;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  if (status != cudaSuccess) return status;
  const float scale_log2 = 1.4426950408889634f / std::sqrt(static_cast<float>(HeadDim));
  kernel<<<static_cast<unsigned>(blocks), kThreads, T::kSharedBytes, stream>>>(a, scale_log2);
  return cudaGetLastError();
}

// The larger tile of keys where two blocks with it fit a multiprocessor (1 KB a block belongs to the system).
template <int HeadDim>
cudaError_t launch_narrow(const AttentionArguments& a, std::size_t shared_bytes, cudaStream_t stream) {
  constexpr int kTwoBlocks = 2 * (Tile<HeadDim, 2, 64>::kSharedBytes + 1024);
  // Every GPU from sm_80 on has 100 KB.
  if constexpr (kTwoBlocks > 100 * 1024) {
    if (shared_bytes < kTwoBlocks) return launch<HeadDim, 2, 32>(a, stream);
  }
  return launch<HeadDim, 2, 64>(a, stream);
}

}  // namespace

bool attention_portable_takes(int head_dim) {
  return (head_dim % 16 == 0 && head_dim > 0 && head_dim <= 128) || head_dim == 256 || head_dim == 384;
}

cudaError_t launch_attention_portable(const AttentionArguments& a, std::size_t shared_bytes, cudaStream_t stream) {
  if (a.type != DType::bf16) return cudaErrorInvalidValue;
  switch (a.head_dim) {
    case 16: return launch_narrow<16>(a, shared_bytes, stream);
    case 32: return launch_narrow<32>(a, shared_bytes, stream);
    case 48: return launch_narrow<48>(a, shared_bytes, stream);
    case 64: return launch_narrow<64>(a, shared_bytes, stream);
    case 80: return launch_narrow<80>(a, shared_bytes, stream);
    case 96: return launch_narrow<96>(a, shared_bytes, stream);
    case 112: return launch_narrow<112>(a, shared_bytes, stream);
    case 128: return launch_narrow<128>(a, shared_bytes, stream);
    case 256: return launch<256, 1, 32>(a, stream);
    case 384: return launch<384, 1, 32>(a, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace flashvsr::cuda
