#include "cli/host_layout.h"

#include "core/convert.h"
#include "core/error.h"

#include <algorithm>
#include <array>
#include <vector>

namespace flashvsr::cli {

Tensor host_f32(const Tensor& host) {
  Tensor result = allocate_host(host.shape(), DType::f32);
  convert_to_f32(host.raw(), host.dtype(), {result.mutable_data<float>(), static_cast<std::size_t>(result.elements())});
  return result;
}

Tensor fetch_f32(ops::Operations& operations, const Tensor& x) { return host_f32(operations.to_host(x)); }

Tensor permuted(const Tensor& x, std::initializer_list<std::size_t> order) {
  const std::size_t rank = x.shape().rank();
  require(order.size() == rank && x.dtype() == DType::f32, "permuted: {} axes for {}", order.size(),
          x.shape().to_string());
  std::array<std::int64_t, Shape::kMaxRank> source_stride{}, dims{}, stride{};
  std::int64_t step = 1;
  for (std::size_t i = rank; i-- > 0;) {
    source_stride[i] = step;
    step *= x.shape().dims()[i];
  }
  std::size_t axis = 0;
  for (const std::size_t from : order) {
    dims[axis] = x.shape().dims()[from];
    stride[axis++] = source_stride[from];
  }
  Tensor result = allocate_host(Shape(std::span<const std::int64_t>(dims.data(), rank)), DType::f32);
  const float* source = x.data<float>();
  float* destination = result.mutable_data<float>();
  std::array<std::int64_t, Shape::kMaxRank> index{};
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < result.elements(); ++i) {
    destination[i] = source[offset];
    for (std::size_t d = rank; d-- > 0;) {
      offset += stride[d];
      if (++index[d] < dims[d]) break;
      offset -= dims[d] * stride[d];
      index[d] = 0;
    }
  }
  return result;
}

Tensor every_row(const Tensor& x, std::int64_t stride) {
  const std::int64_t columns = x.dim(-1), rows = x.elements() / columns, kept = (rows + stride - 1) / stride;
  Tensor result = allocate_host({1, kept, columns}, DType::f32);
  for (std::int64_t row = 0; row < kept; ++row) {
    std::copy_n(x.data<float>() + row * stride * columns, columns, result.mutable_data<float>() + row * columns);
  }
  return result;
}

Tensor windows_to_raster(const Tensor& tokens, const ops::TokenGrid& grid) {
  constexpr std::int64_t kSide = ops::kWindowSide, kLatents = ops::kWindowLatents;
  const std::int64_t channels = tokens.dim(-1);
  Tensor result = allocate_host(tokens.shape(), DType::f32);
  float* destination = result.mutable_data<float>();
  for (std::int64_t t = 0; t < grid.latents; ++t) {
    for (std::int64_t y = 0; y < grid.rows; ++y) {
      for (std::int64_t x = 0; x < grid.columns; ++x) {
        const std::int64_t block = ((t / kLatents) * grid.block_rows() + y / kSide) * grid.block_columns() + x / kSide;
        const std::int64_t inside = ((t % kLatents) * kSide + y % kSide) * kSide + x % kSide;
        const float* source = tokens.data<float>() + (block * ops::kBlockTokens + inside) * channels;
        destination = std::copy_n(source, channels, destination);
      }
    }
  }
  return result;
}

Tensor select_heads(const Tensor& tokens, std::int64_t head_count, std::span<const std::int64_t> heads) {
  const std::int64_t dim = tokens.dim(-1), head_dim = dim / head_count, count = tokens.elements() / dim;
  const auto kept = static_cast<std::int64_t>(heads.size());
  Tensor result = allocate_host({count / ops::kBlockTokens, ops::kBlockTokens, kept * head_dim}, DType::f32);
  float* destination = result.mutable_data<float>();
  for (std::int64_t token = 0; token < count; ++token) {
    for (const std::int64_t head : heads) {
      destination = std::copy_n(tokens.data<float>() + token * dim + head * head_dim, head_dim, destination);
    }
  }
  return result;
}

Tensor block_means(const Tensor& tokens) {
  const std::int64_t dim = tokens.dim(-1), blocks = tokens.elements() / dim / ops::kBlockTokens;
  Tensor result = allocate_host({blocks, dim}, DType::f32);
  std::vector<double> sum(static_cast<std::size_t>(dim));
  for (std::int64_t block = 0; block < blocks; ++block) {
    std::fill(sum.begin(), sum.end(), 0.0);
    const float* source = tokens.data<float>() + block * ops::kBlockTokens * dim;
    for (std::int64_t token = 0; token < ops::kBlockTokens; ++token) {
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += static_cast<double>(*source++);
    }
    float* mean = result.mutable_data<float>() + block * dim;
    for (std::size_t c = 0; c < sum.size(); ++c) {
      mean[c] = static_cast<float>(sum[c] / static_cast<double>(ops::kBlockTokens));
    }
  }
  return result;
}

}  // namespace flashvsr::cli
