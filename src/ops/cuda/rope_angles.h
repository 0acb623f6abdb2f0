// Angles of the DiT's rotary position embedding on the device.
#pragma once

#include "core/rope.h"
#include "ops/cuda/device.h"
#include "ops/cuda/kernels/split_qkv.h"
#include "ops/types.h"

#include <array>
#include <vector>

namespace flashvsr::ops {

// Keeps the angles of the newest grid: those of rows and columns stay for a whole stream, those of time are made once a
// chunk, for all layers. Everything is issued in the order of the device's stream, so that tables are written again in
// place, and nothing waits for the time table, which travels with a launch.
class CudaRope {
 public:
  explicit CudaRope(cuda::Device& device) : device_(device) {}

  // Valid until the next call.
  cuda::RopeAngles angles(std::int64_t head_dim, const TokenGrid& grid);

 private:
  void make_space(std::int64_t head_dim, std::int64_t rows, std::int64_t columns);
  void make_time(std::int64_t head_dim, std::int64_t first_latent, std::int64_t latents);

  cuda::Device& device_;
  RopeSplit split_;
  std::array<std::int64_t, 3> space_key_{}, time_key_{};
  Tensor space_, time_;  // f32 pairs of cosine and sine: [rows, pairs] then [columns, pairs]; [latents, pairs]
};

}  // namespace flashvsr::ops
