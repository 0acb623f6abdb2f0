#include "ops/cuda/kernels/convolution_plain.h"

#include "ops/cuda/kernels/convolution_gather.cuh"

namespace flashvsr::cuda {
namespace {

// A block computes 128 pixels x 64 channels, a thread 8 x 4 of them, over chunks of 16 channels. Both operands lie
// transposed in shared memory, [k][row]; while one chunk is multiplied the next is on its way in registers.
constexpr int kPixels = 128, kOutputs = 64, kChunk = kPlainConvolutionGranule, kThreads = 256;
constexpr int kThreadPixels = 8, kThreadOutputs = 4;
constexpr int kQuad = 4, kQuads = kChunk / kQuad;  // a thread loads four consecutive channels of a row
constexpr int kRowsALoad = kThreads / kQuads;
constexpr int kPixelStride = kPixels + 4, kOutputStride = kOutputs + 4;
static_assert(kRowsALoad == kOutputs && kPixels == 2 * kRowsALoad);

// Four channels from `channel` on of a row that may be missing or end before.
template <typename T, bool Whole>
__device__ __forceinline__ void load_quad(const T* row, int channel, int channels, float (&values)[kQuad]) {
#pragma unroll
  for (float& value : values) value = 0.0f;
  if (row == nullptr || channel >= channels) return;
  if constexpr (Whole) {
    const auto pack = *reinterpret_cast<const Pack<T, kQuad>*>(row + channel);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) values[i] = to_float(pack.values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (channel + i < channels) values[i] = to_float(row[channel + i]);
    }
  }
}

// Whole: channels of the sources are multiples of four and every pixel is aligned to four.
template <typename T, bool Whole>
__global__ void __launch_bounds__(kThreads)
    plain_convolution_kernel(const __grid_constant__ ConvolutionArguments a, const T* __restrict__ weights) {
  __shared__ __align__(16) float pixels[2][kChunk][kPixelStride];
  __shared__ __align__(16) float outputs[2][kChunk][kOutputStride];
  __shared__ std::int64_t offsets[kPixels];

  const int thread = static_cast<int>(threadIdx.x), load_row = thread / kQuads, quad = thread % kQuads * kQuad;
  const std::int64_t first_pixel = std::int64_t{blockIdx.x} * kPixels;
  const int first_output = static_cast<int>(blockIdx.y) * kOutputs;
  if (thread < kPixels) offsets[thread] = convolution_offset(a, first_pixel + thread);

  const ConvolutionPixel loaded[2] = {convolution_pixel(a, first_pixel + load_row),
                                      convolution_pixel(a, first_pixel + load_row + kRowsALoad)};
  const int chunks = convolution_chunks(a, kChunk);
  const bool has_output = first_output + load_row < a.out_channels;
  const T* weight = weights + (has_output ? std::int64_t{first_output + load_row} * chunks * kChunk : 0) + quad;

  ConvolutionCursor<kChunk> cursor;
  const T* sources[2] = {cursor.template source<T>(a, loaded[0]), cursor.template source<T>(a, loaded[1])};
  float next_pixels[2][kQuad], next_outputs[kQuad];
  const auto load = [&] {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_quad<T, Whole>(sources[i], cursor.channel + quad, cursor.channels(a), next_pixels[i]);
    }
    load_quad<T, true>(has_output ? weight : nullptr, 0, kQuad, next_outputs);
    weight += kChunk;
    if (cursor.advance(a)) {
#pragma unroll
      for (int i = 0; i < 2; ++i) sources[i] = cursor.template source<T>(a, loaded[i]);
    }
  };
  const auto store = [&](int buffer) {
#pragma unroll
    for (int k = 0; k < kQuad; ++k) {
#pragma unroll
      for (int i = 0; i < 2; ++i) pixels[buffer][quad + k][load_row + i * kRowsALoad] = next_pixels[i][k];
      outputs[buffer][quad + k][load_row] = next_outputs[k];
    }
  };

  const int pixel = thread / 16 * kThreadPixels, output = thread % 16 * kThreadOutputs;
  float sums[kThreadPixels][kThreadOutputs] = {};
  load();
  store(0);
  __syncthreads();
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int buffer = chunk & 1;
    const bool more = chunk + 1 < chunks;
    if (more) load();
#pragma unroll
    for (int k = 0; k < kChunk; ++k) {
      float p[kThreadPixels];
      const auto p0 = *reinterpret_cast<const float4*>(&pixels[buffer][k][pixel]);
      const auto p1 = *reinterpret_cast<const float4*>(&pixels[buffer][k][pixel + 4]);
      const auto o = *reinterpret_cast<const float4*>(&outputs[buffer][k][output]);
      p[0] = p0.x, p[1] = p0.y, p[2] = p0.z, p[3] = p0.w;
      p[4] = p1.x, p[5] = p1.y, p[6] = p1.z, p[7] = p1.w;
#pragma unroll
      for (int i = 0; i < kThreadPixels; ++i) {
        sums[i][0] += p[i] * o.x;
        sums[i][1] += p[i] * o.y;
        sums[i][2] += p[i] * o.z;
        sums[i][3] += p[i] * o.w;
      }
    }
    // The other buffer was last read before the barrier at the end of the previous turn.
    if (more) store(buffer ^ 1);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kThreadPixels; ++i) {
    const std::int64_t offset = offsets[pixel + i];
    if (offset < 0) continue;
#pragma unroll
    for (int j = 0; j < kThreadOutputs; ++j) {
      const int channel = first_output + output + j;
      if (channel < a.out_channels) store_finished(a, offset, channel, sums[i][j]);
    }
  }
}

bool aligned(const void* pointer, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0; }

}  // namespace

cudaError_t launch_convolution_plain(const ConvolutionArguments& arguments, const void* weights, cudaStream_t stream) {
  const std::int64_t pixels = std::int64_t{arguments.out_frames} * arguments.out_height * arguments.out_width;
  if (pixels == 0 || arguments.out_channels == 0) return cudaSuccess;
  const std::size_t quad_bytes = kQuad * size_of(arguments.type);
  const bool whole = arguments.first_channels % kQuad == 0 && arguments.second_channels % kQuad == 0 &&
                     aligned(arguments.first, quad_bytes) && aligned(arguments.second, quad_bytes) &&
                     aligned(arguments.front, quad_bytes);
  const dim3 grid(static_cast<unsigned>((pixels + kPixels - 1) / kPixels),
                  static_cast<unsigned>((arguments.out_channels + kOutputs - 1) / kOutputs));
  return with_float_type(arguments.type, [&]<typename T>(T) {
    const auto* values = static_cast<const T*>(weights);
    if (whole) {
      plain_convolution_kernel<T, true><<<grid, kThreads, 0, stream>>>(arguments, values);
    } else {
      plain_convolution_kernel<T, false><<<grid, kThreads, 0, stream>>>(arguments, values);
    }
    return cudaGetLastError();
  });
}

}  // namespace flashvsr::cuda
