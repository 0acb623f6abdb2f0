#include "ops/cuda/kernels/convolution_portable.h"

#include "ops/cuda/kernels/convolution_gather.cuh"
#include "ops/cuda/ptx/mma.cuh"

namespace flashvsr::cuda {
namespace {

// A block computes 128 pixels x `Outputs` channels in chunks of 32 input channels, which cp.async brings to shared
// memory kStages - 1 chunks ahead: pixels are gathered 16 bytes at a time, zeros where there are none. A warp computes
// half as many pixels as the block has channels (64, 32, 16) x 32 channels.
constexpr int kPixels = 128, kChunk = kPortableConvolutionGranule, kThreads = 256, kWarps = kThreads / 32;
constexpr int kStages = 4;
constexpr int kPiece = 8, kPieces = kChunk / kPiece;  // channels of 16 bytes
constexpr int kRowsALoad = kThreads / kPieces;
constexpr int kRowBytes = kChunk * 2;
constexpr int kWarpOutputs = 32;

template <int Outputs>
constexpr int kStageBytes = (kPixels + Outputs) * kRowBytes;

// Rows of 64 bytes; the piece's place is turned by the row so that eight rows of one piece lie in different banks.
__device__ __forceinline__ std::uint32_t piece_offset(int row, int piece) {
  return static_cast<std::uint32_t>(row * kRowBytes + ((piece ^ ((row >> 1) & 3)) << 4));
}

__device__ __forceinline__ void store_pair(const ConvolutionArguments& a, std::int64_t offset, int channel, float first,
                                           float second) {
  const float2 values{finished(a, offset, channel, first), finished(a, offset, channel + 1, second)};
  if (a.out_type == DType::f32) {
    *reinterpret_cast<float2*>(static_cast<float*>(a.out) + offset + channel) = values;
  } else {
    *reinterpret_cast<__nv_bfloat162*>(static_cast<__nv_bfloat16*>(a.out) + offset + channel) =
        __float22bfloat162_rn(values);
  }
}

template <int Outputs>
__global__ void __launch_bounds__(kThreads, 2)
    portable_convolution_kernel(const __grid_constant__ ConvolutionArguments a,
                                const __nv_bfloat16* __restrict__ weights, int output_tiles, bool pairs) {
  constexpr int kWarpsAcross = Outputs / kWarpOutputs, kWarpPixels = kPixels / (kWarps / kWarpsAcross);
  constexpr int kPixelTiles = kWarpPixels / 16, kOutputTiles = kWarpOutputs / 8;
  constexpr int kPixelLoads = kPixels / kRowsALoad, kOutputLoads = (Outputs + kRowsALoad - 1) / kRowsALoad;
  extern __shared__ __align__(128) std::uint8_t stages[];
  __shared__ std::int64_t offsets[kPixels];

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  // Blocks that run at the same time share their pixels.
  const std::int64_t first_pixel = std::int64_t{blockIdx.x / static_cast<unsigned>(output_tiles)} * kPixels;
  const int first_output = static_cast<int>(blockIdx.x % static_cast<unsigned>(output_tiles)) * Outputs;
  if (thread < kPixels) offsets[thread] = convolution_offset(a, first_pixel + thread);

  // Loading: the thread's piece of a few pixels and of a few rows of weights.
  const int load_row = thread / kPieces, piece = thread % kPieces;
  const int chunks = convolution_chunks(a, kChunk);
  ConvolutionPixel pixels[kPixelLoads];
  const __nv_bfloat16* sources[kPixelLoads];
  ConvolutionCursor<kChunk> cursor;
#pragma unroll
  for (int i = 0; i < kPixelLoads; ++i) {
    pixels[i] = convolution_pixel(a, first_pixel + load_row + i * kRowsALoad);
    sources[i] = cursor.template source<__nv_bfloat16>(a, pixels[i]);
  }
  const std::int64_t weight_row = std::int64_t{chunks} * kChunk;
  const __nv_bfloat16* weight = weights + (first_output + load_row) * weight_row + piece * kPiece;
  const std::uint32_t shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(stages));

  const auto load = [&](int stage) {
    const std::uint32_t to = shared + static_cast<std::uint32_t>(stage * kStageBytes<Outputs>);
    const int channel = cursor.channel + piece * kPiece;
    const bool has_channels = channel < cursor.channels(a);
#pragma unroll
    for (int i = 0; i < kPixelLoads; ++i) {
      const bool valid = has_channels && sources[i] != nullptr;
      ptx::copy_async_16(to + piece_offset(load_row + i * kRowsALoad, piece), valid ? sources[i] + channel : weights,
                         valid);
    }
#pragma unroll
    for (int i = 0; i < kOutputLoads; ++i) {
      const int row = load_row + i * kRowsALoad;
      if (Outputs % kRowsALoad != 0 && row >= Outputs) break;
      const bool valid = first_output + row < a.out_channels;
      ptx::copy_async_16(to + kPixels * kRowBytes + piece_offset(row, piece),
                         valid ? weight + i * kRowsALoad * weight_row : weights, valid);
    }
    weight += kChunk;
    if (cursor.advance(a)) {
#pragma unroll
      for (int i = 0; i < kPixelLoads; ++i) sources[i] = cursor.template source<__nv_bfloat16>(a, pixels[i]);
    }
  };

  // Multiplying: where the warp's part begins, and which row and piece of a 16 x 16 tile this lane addresses.
  const int warp_pixel = warp / kWarpsAcross * kWarpPixels, warp_output = warp % kWarpsAcross * kWarpOutputs;
  const int pixel_row = warp_pixel + (lane & 15), pixel_piece = lane >> 4;
  const int output_row = warp_output + (lane & 7) + ((lane >> 4) << 3), output_piece = (lane >> 3) & 1;
  float sums[kPixelTiles][kOutputTiles][4] = {};

#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < chunks) load(stage);
    ptx::copy_async_commit();
  }
  for (int chunk = 0; chunk < chunks; ++chunk) {
    ptx::copy_async_wait<kStages - 2>();
    // The chunk is there for all threads, and all are done with the one before it, whose stage is filled next.
    __syncthreads();
    if (chunk + kStages - 1 < chunks) load((chunk + kStages - 1) % kStages);
    ptx::copy_async_commit();
    const std::uint32_t from = shared + static_cast<std::uint32_t>(chunk % kStages * kStageBytes<Outputs>);
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) {
      std::uint32_t outputs[kOutputTiles / 2][4];
#pragma unroll
      for (int j = 0; j < kOutputTiles / 2; ++j) {
        ptx::load_matrices(outputs[j],
                           from + kPixels * kRowBytes + piece_offset(output_row + 16 * j, 2 * k + output_piece));
      }
#pragma unroll
      for (int i = 0; i < kPixelTiles; ++i) {
        std::uint32_t values[4];
        ptx::load_matrices(values, from + piece_offset(pixel_row + 16 * i, 2 * k + pixel_piece));
#pragma unroll
        for (int j = 0; j < kOutputTiles; ++j) {
          ptx::mma_m16n8k16(sums[i][j], values, outputs[j / 2][j % 2 * 2], outputs[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kPixelTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t offset = offsets[warp_pixel + 16 * i + 8 * half + lane / 4];
      if (offset < 0) continue;
#pragma unroll
      for (int j = 0; j < kOutputTiles; ++j) {
        const int channel = first_output + warp_output + 8 * j + lane % 4 * 2;
        const float first = sums[i][j][2 * half], second = sums[i][j][2 * half + 1];
        if (pairs) {
          if (channel < a.out_channels) store_pair(a, offset, channel, first, second);
        } else {
          if (channel < a.out_channels) store_finished(a, offset, channel, first);
          if (channel + 1 < a.out_channels) store_finished(a, offset, channel + 1, second);
        }
      }
    }
  }
}

bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

template <int Outputs>
cudaError_t launch(const ConvolutionArguments& a, const void* weights, std::int64_t pixels, cudaStream_t stream) {
  constexpr int kBytes = kStages * kStageBytes<Outputs>;
  const cudaError_t status =
      cudaFuncSetAttribute(portable_convolution_kernel<Outputs>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  const int output_tiles = (a.out_channels + Outputs - 1) / Outputs;
  const std::int64_t blocks = (pixels + kPixels - 1) / kPixels * output_tiles;
  const bool pairs = a.out_channels % 2 == 0 && a.out_frame_stride % 2 == 0 && a.out_row_stride % 2 == 0 &&
                     a.out_column_stride % 2 == 0 && aligned(a.out, 2 * size_of(a.out_type));
  portable_convolution_kernel<Outputs><<<static_cast<unsigned>(blocks), kThreads, kBytes, stream>>>(
      a, static_cast<const __nv_bfloat16*>(weights), output_tiles, pairs);
  return cudaGetLastError();
}

}  // namespace

bool convolution_portable_supports(const ConvolutionArguments& arguments) {
  return arguments.type == DType::bf16 && arguments.first_channels % kPiece == 0 &&
         arguments.second_channels % kPiece == 0 && aligned(arguments.first, 16) && aligned(arguments.second, 16) &&
         aligned(arguments.front, 16);
}

cudaError_t launch_convolution_portable(const ConvolutionArguments& arguments, const void* weights,
                                        cudaStream_t stream) {
  const std::int64_t pixels = std::int64_t{arguments.out_frames} * arguments.out_height * arguments.out_width;
  if (pixels == 0 || arguments.out_channels == 0) return cudaSuccess;
  // The widest tile that computes no more than narrower ones.
  const int last = (arguments.out_channels - 1) % 128 + 1;
  if (last > 64) return launch<128>(arguments, weights, pixels, stream);
  if (arguments.out_channels > 32) return launch<64>(arguments, weights, pixels, stream);
  return launch<32>(arguments, weights, pixels, stream);
}

}  // namespace flashvsr::cuda
