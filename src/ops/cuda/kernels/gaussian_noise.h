// Noise of a stream's latents, the same bits as on the CPU (core/noise.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

// noise: device memory, [latents, rows, columns, 16] f32.
cudaError_t launch_gaussian_noise(std::uint64_t seed, std::uint64_t first_latent, std::int64_t latents,
                                  std::int64_t rows, std::int64_t columns, float* noise, cudaStream_t stream);

}  // namespace flashvsr::cuda
