#include "ops/cuda/rope_angles.h"

#include "ops/cuda/kernels/store_values.h"

#include <algorithm>

namespace flashvsr::ops {
namespace {

// Appends cosines and sines side by side, rounded to f32.
void append(std::vector<float>& table, const RopeAxis& axis) {
  for (std::size_t i = 0; i < axis.cosines.size(); ++i) {
    table.push_back(static_cast<float>(axis.cosines[i]));
    table.push_back(static_cast<float>(axis.sines[i]));
  }
}

// Makes room for `floats` floats; what is there is overwritten if they fit.
void reserve(cuda::Device& device, Tensor& table, std::size_t floats) {
  const auto count = static_cast<std::int64_t>(std::max<std::size_t>(floats, 1));
  if (!table || table.elements() < count) table = device.allocate_weights({count}, DType::f32);
}

}  // namespace

void CudaRope::make_space(std::int64_t head_dim, std::int64_t rows, std::int64_t columns) {
  const std::array key{head_dim, rows, columns};
  if (key == space_key_) return;
  std::vector<float> table;
  append(table, rope_axis(0, rows, split_.height));
  append(table, rope_axis(0, columns, split_.width));
  reserve(device_, space_, table.size());
  device_.upload(space_.mutable_raw(), table.data(), table.size() * sizeof(float));
  space_key_ = key;
}

void CudaRope::make_time(std::int64_t head_dim, std::int64_t first_latent, std::int64_t latents) {
  const std::array key{head_dim, first_latent, latents};
  if (key == time_key_) return;
  std::vector<float> table;
  append(table, rope_axis(first_latent, latents, split_.time));
  reserve(device_, time_, table.size());
  cuda::check(cuda::launch_store_values(time_.mutable_data<float>(), table.data(),
                                        static_cast<std::int64_t>(table.size()), device_.stream()),
              "angles of time");
  time_key_ = key;
}

cuda::RopeAngles CudaRope::angles(std::int64_t head_dim, const TokenGrid& grid) {
  split_ = rope_split(head_dim);
  make_space(head_dim, grid.rows, grid.columns);
  make_time(head_dim, grid.first_latent, grid.latents);
  const auto* space = space_.data<float2>();
  return {.time = time_.data<float2>(),
          .height = space,
          .width = space + grid.rows * split_.height / 2,
          .time_pairs = static_cast<int>(split_.time / 2),
          .height_pairs = static_cast<int>(split_.height / 2),
          .width_pairs = static_cast<int>(split_.width / 2)};
}

}  // namespace flashvsr::ops
