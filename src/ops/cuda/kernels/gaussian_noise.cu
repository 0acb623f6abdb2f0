#include "ops/cuda/kernels/gaussian_noise.h"

#include "core/noise.h"
#include "ops/cuda/kernels/elements.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroups = 4;  // of four channels

// One group of channels of one position a thread.
__global__ void __launch_bounds__(kThreads)
    gaussian_noise_kernel(std::uint64_t seed, std::uint64_t first_latent, std::int64_t quads, std::int64_t rows,
                          std::int64_t columns, float4* __restrict__ noise) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < quads; i += step) {
    const auto group = static_cast<std::uint32_t>(i % kGroups);
    const std::int64_t position = i / kGroups, line = position / columns;
    const auto x = static_cast<std::uint32_t>(position % columns);
    const auto y = static_cast<std::uint32_t>(line % rows);
    const std::uint64_t latent = first_latent + static_cast<std::uint64_t>(line / rows);
    const noise::Quad quad = noise::gaussian(seed, x, y, latent, group);
    noise[i] = {quad.values[0], quad.values[1], quad.values[2], quad.values[3]};
  }
}

}  // namespace

cudaError_t launch_gaussian_noise(std::uint64_t seed, std::uint64_t first_latent, std::int64_t latents,
                                  std::int64_t rows, std::int64_t columns, float* noise, cudaStream_t stream) {
  const std::int64_t quads = latents * rows * columns * kGroups;
  gaussian_noise_kernel<<<blocks_for(quads, kThreads), kThreads, 0, stream>>>(seed, first_latent, quads, rows, columns,
                                                                              reinterpret_cast<float4*>(noise));
  return cudaGetLastError();
}

}  // namespace flashvsr::cuda
