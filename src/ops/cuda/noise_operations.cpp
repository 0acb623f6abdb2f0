// Noise.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/gaussian_noise.h"

namespace flashvsr::ops {

Tensor CudaOperations::do_gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents,
                                         std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kChannels = 16;
  const Tensor result = allocate({latents, rows, columns, kChannels}, DType::f32);
  cuda::check(cuda::launch_gaussian_noise(seed, static_cast<std::uint64_t>(first_latent), latents, rows, columns,
                                          result.mutable_data<float>(), stream()),
              "gaussian_noise");
  return result;
}

}  // namespace flashvsr::ops
