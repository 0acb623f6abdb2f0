#include "ops/cuda/kernels/token_order.h"

#include "ops/cuda/kernels/elements.cuh"
#include "ops/cuda/kernels/window_order.cuh"

namespace flashvsr::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kPatchSide = 2;
constexpr int kPatchPixels = kPatchSide * kPatchSide;

// A run of elements that stay together, in the tensor it comes from and in the one it goes to.
struct Move {
  std::int64_t source, target;
};

struct RasterToWindows {
  WindowGrid grid;
  __device__ Move operator()(std::int64_t token) const {
    const TokenPosition at = token_position(token, grid);
    return {(std::int64_t{at.latent} * grid.rows + at.row) * grid.columns + at.column, token};
  }
};

struct PatchesToPixels {
  WindowGrid grid;
  __device__ Move operator()(std::int64_t run) const {
    const TokenPosition at = token_position(run / kPatchPixels, grid);
    const int pixel = static_cast<int>(run % kPatchPixels);
    const std::int64_t row = (std::int64_t{at.latent} * grid.rows + at.row) * kPatchSide + pixel / kPatchSide;
    return {run, row * kPatchSide * grid.columns + at.column * kPatchSide + pixel % kPatchSide};
  }
};

struct ChannelsToFrames {
  std::int64_t pixels;
  __device__ Move operator()(std::int64_t run) const {
    const std::int64_t frame = run / pixels;
    return {(frame / 2 * pixels + run % pixels) * 2 + frame % 2, run};
  }
};

// Rows of threads take a run each, whose units they share.
template <typename Unit, typename Order>
__global__ void __launch_bounds__(kThreads)
    move_kernel(const Unit* __restrict__ x, Unit* __restrict__ y, std::int64_t runs, int units, Order order) {
  const std::int64_t run = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (run >= runs) return;
  const Move move = order(run);
  for (int unit = static_cast<int>(threadIdx.x); unit < units; unit += static_cast<int>(blockDim.x)) {
    y[move.target * units + unit] = x[move.source * units + unit];
  }
}

// kThreads threads: rows of as many as a run has use for.
dim3 rows_of_threads(std::int64_t units) {
  unsigned width = 1;
  while (width < kThreads && width < units) width *= 2;
  return {width, kThreads / width, 1};
}

template <typename Unit, typename Order>
cudaError_t move_units(const void* x, void* y, std::int64_t runs, std::size_t bytes, const Order& order,
                       cudaStream_t stream) {
  const auto units = static_cast<int>(bytes / sizeof(Unit));
  const dim3 threads = rows_of_threads(units);
  const auto blocks = static_cast<unsigned>((runs + threads.y - 1) / threads.y);
  move_kernel<<<blocks, threads, 0, stream>>>(static_cast<const Unit*>(x), static_cast<Unit*>(y), runs, units, order);
  return cudaGetLastError();
}

template <typename Order>
cudaError_t move_runs(const void* x, void* y, std::int64_t runs, std::size_t bytes, const Order& order,
                      cudaStream_t stream) {
  if (runs == 0 || bytes == 0) return cudaSuccess;
  const std::size_t alignment = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(y) | bytes;
  if (alignment % sizeof(uint4) == 0) return move_units<uint4>(x, y, runs, bytes, order, stream);
  if (alignment % 4 == 0) return move_units<std::uint32_t>(x, y, runs, bytes, order, stream);
  if (alignment % 2 == 0) return move_units<std::uint16_t>(x, y, runs, bytes, order, stream);
  return move_units<std::uint8_t>(x, y, runs, bytes, order, stream);
}

template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads)
    patchify_kernel(const X* __restrict__ x, Y* __restrict__ y, std::int64_t tokens, int channels, WindowGrid grid) {
  const std::int64_t token = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (token >= tokens) return;
  const TokenPosition at = token_position(token, grid);
  const std::int64_t row = (std::int64_t{at.latent} * grid.rows + at.row) * kPatchSide;
  const int elements = kPatchPixels * channels;
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += static_cast<int>(blockDim.x)) {
    const int c = i / kPatchPixels, pixel = i % kPatchPixels;
    const std::int64_t source =
        (row + pixel / kPatchSide) * kPatchSide * grid.columns + at.column * kPatchSide + pixel % kPatchSide;
    y[token * elements + i] = from_float<Y>(to_float(x[source * channels + c]));
  }
}

}  // namespace

cudaError_t launch_to_windows(const void* x, void* y, std::int64_t tokens, std::size_t bytes, const WindowGrid& grid,
                              cudaStream_t stream) {
  return move_runs(x, y, tokens, bytes, RasterToWindows{grid}, stream);
}

cudaError_t launch_patchify(const void* x, DType x_type, void* y, DType y_type, std::int64_t tokens, int channels,
                            const WindowGrid& grid, cudaStream_t stream) {
  if (tokens == 0 || channels == 0) return cudaSuccess;
  return with_float_type(x_type, [&]<typename X>(X) {
    return with_float_type(y_type, [&]<typename Y>(Y) {
      const dim3 threads = rows_of_threads(std::int64_t{kPatchPixels} * channels);
      const auto blocks = static_cast<unsigned>((tokens + threads.y - 1) / threads.y);
      patchify_kernel<<<blocks, threads, 0, stream>>>(static_cast<const X*>(x), static_cast<Y*>(y), tokens, channels,
                                                      grid);
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_unpatchify(const void* x, void* y, std::int64_t tokens, std::size_t bytes, const WindowGrid& grid,
                              cudaStream_t stream) {
  return move_runs(x, y, tokens * kPatchPixels, bytes, PatchesToPixels{grid}, stream);
}

cudaError_t launch_channels_to_frames(const void* x, void* y, std::int64_t frames, std::int64_t pixels,
                                      std::size_t bytes, cudaStream_t stream) {
  return move_runs(x, y, 2 * frames * pixels, bytes, ChannelsToFrames{pixels}, stream);
}

}  // namespace flashvsr::cuda
