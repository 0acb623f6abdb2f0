// The order of tokens, and q, k, v.
#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/split_qkv.h"
#include "ops/cuda/kernels/token_order.h"
#include "ops/cuda/rope_angles.h"

#include <numeric>

namespace flashvsr::ops {
namespace {

using cuda::check;

constexpr std::int64_t kPatchSide = 2;

std::size_t bytes_of(std::int64_t elements, DType type) { return static_cast<std::size_t>(elements) * size_of(type); }

// Where each window of a run goes in k, v and k_means, and these.
struct KeyValueDestination {
  Tensor k, v, k_means;
  std::vector<std::int64_t> slots;
};

Query split(const cuda::Device& device, const Tensor& qkv, const Tensor& norm_q, const Tensor& norm_k,
            const cuda::RopeAngles& angles, const TokenGrid& grid, const KeyValueDestination& to) {
  const std::int64_t dim = qkv.dim(1) / 3, windows = grid.latents / kWindowLatents;
  const cuda::WindowGrid window_grid = cuda::window_grid(grid.rows, grid.columns);
  const Query query{device.allocate({grid.tokens(), dim}, qkv.dtype()),
                    device.allocate({grid.blocks(), dim}, DType::f32)};
  const Tensor work = device.allocate({cuda::split_qkv_work(windows, window_grid, dim)}, DType::f32);
  const cuda::SplitQkv arguments{.type = qkv.dtype(),
                                 .qkv = qkv.raw(),
                                 .norm_q = norm_q.data<float>(),
                                 .norm_k = norm_k.data<float>(),
                                 .angles = angles,
                                 .q = query.q.mutable_raw(),
                                 .k = to.k.mutable_raw(),
                                 .v = to.v.mutable_raw(),
                                 .q_means = query.q_means.mutable_data<float>(),
                                 .k_means = to.k_means.mutable_data<float>(),
                                 .work = work.mutable_data<float>(),
                                 .dim = static_cast<int>(dim),
                                 .head_dim = static_cast<int>(dim / grid.heads),
                                 .grid = window_grid,
                                 .windows = windows,
                                 .slots = to.slots.data()};
  check(cuda::launch_split_qkv(arguments, device.stream()), "split_qkv");
  return query;
}

}  // namespace

Tensor CudaOperations::do_channels_to_frames(const Tensor& x) {
  const std::int64_t channels = x.dim(3) / 2;
  const Tensor result = allocate({2 * x.dim(0), x.dim(1), x.dim(2), channels}, x.dtype());
  check(cuda::launch_channels_to_frames(x.raw(), result.mutable_raw(), x.dim(0), x.dim(1) * x.dim(2),
                                        bytes_of(channels, x.dtype()), stream()),
        "channels_to_frames");
  return result;
}

Tensor CudaOperations::do_to_windows(const Tensor& x) {
  const std::int64_t tokens = x.dim(0) * x.dim(1) * x.dim(2);
  const Tensor result = allocate({tokens, x.dim(3)}, x.dtype());
  check(cuda::launch_to_windows(x.raw(), result.mutable_raw(), tokens, bytes_of(x.dim(3), x.dtype()),
                                cuda::window_grid(x.dim(1), x.dim(2)), stream()),
        "to_windows");
  return result;
}

Tensor CudaOperations::do_patchify(const Tensor& latents) {
  const std::int64_t rows = latents.dim(1) / kPatchSide, columns = latents.dim(2) / kPatchSide;
  const std::int64_t tokens = latents.dim(0) * rows * columns, channels = latents.dim(3);
  const Tensor result = allocate({tokens, channels * kPatchSide * kPatchSide}, settings_.compute);
  check(cuda::launch_patchify(latents.raw(), latents.dtype(), result.mutable_raw(), result.dtype(), tokens,
                              static_cast<int>(channels), cuda::window_grid(rows, columns), stream()),
        "patchify");
  return result;
}

Tensor CudaOperations::do_unpatchify(const Tensor& tokens, const TokenGrid& grid) {
  const std::int64_t channels = tokens.dim(1) / (kPatchSide * kPatchSide);
  const Tensor result =
      allocate({grid.latents, grid.rows * kPatchSide, grid.columns * kPatchSide, channels}, tokens.dtype());
  check(cuda::launch_unpatchify(tokens.raw(), result.mutable_raw(), grid.tokens(), bytes_of(channels, tokens.dtype()),
                                cuda::window_grid(grid.rows, grid.columns), stream()),
        "unpatchify");
  return result;
}

QueryKeyValue CudaOperations::do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                           const TokenGrid& grid) {
  const std::int64_t dim = qkv.dim(1) / 3;
  KeyValueDestination to{allocate({grid.tokens(), dim}, qkv.dtype()), allocate({grid.tokens(), dim}, qkv.dtype()),
                         allocate({grid.blocks(), dim}, DType::f32),
                         std::vector<std::int64_t>(static_cast<std::size_t>(grid.latents / kWindowLatents))};
  std::iota(to.slots.begin(), to.slots.end(), 0);
  const Query query = split(device_, qkv, on_device(norm_q, DType::f32), on_device(norm_k, DType::f32),
                            rope_->angles(dim / grid.heads, grid), grid, to);
  return {query.q, to.k, to.v, query.q_means, to.k_means};
}

Query CudaOperations::do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                                    const Parameter& norm_k, const TokenGrid& grid) {
  const KeyValueDestination to{cache.k, cache.v, cache.k_means, cache.newest_slots(layer, cache.new_windows)};
  return split(device_, qkv, on_device(norm_q, DType::f32), on_device(norm_k, DType::f32),
               rope_->angles(qkv.dim(1) / 3 / grid.heads, grid), grid, to);
}

}  // namespace flashvsr::ops
