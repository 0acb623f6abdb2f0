// Reference: block-sparse and dense attention.
#include "core/threads.h"
#include "ops/cpu/reference_operations.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashvsr::ops {
namespace {

// One head of `count` tokens: row i begins at data + i * stride.
struct HeadRows {
  const float* data;
  std::int64_t stride;
  std::int64_t count;
};

// Attention of a run of queries to lists of keys and values, with its scratch memory. Keys are added run by run; then
// finish() gives softmax(q k / sqrt(head dim)) v.
class AttentionTile {
 public:
  AttentionTile(HeadRows queries, std::int64_t head_dim, std::int64_t keys)
      : queries_(queries),
        head_dim_(head_dim),
        keys_(keys),
        logits_(static_cast<std::size_t>(queries.count * keys), 0.0f) {}

  void add_keys(HeadRows keys) {
    // Transposed, so that the inner loop runs over keys.
    std::vector<float> transposed(static_cast<std::size_t>(head_dim_ * keys.count));
    for (std::int64_t key = 0; key < keys.count; ++key) {
      for (std::int64_t c = 0; c < head_dim_; ++c) {
        transposed[static_cast<std::size_t>(c * keys.count + key)] = keys.data[key * keys.stride + c];
      }
    }
    for (std::int64_t query = 0; query < queries_.count; ++query) {
      float* row = logits_.data() + query * keys_ + added_;
      for (std::int64_t c = 0; c < head_dim_; ++c) {
        const float value = queries_.data[query * queries_.stride + c], *column = transposed.data() + c * keys.count;
        for (std::int64_t key = 0; key < keys.count; ++key) row[key] += value * column[key];
      }
    }
    added_ += keys.count;
  }

  void normalise() {
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
    for (std::int64_t query = 0; query < queries_.count; ++query) {
      float* row = logits_.data() + query * keys_;
      const float largest = *std::max_element(row, row + keys_);
      double sum = 0;
      for (std::int64_t key = 0; key < keys_; ++key) {
        row[key] = std::exp((row[key] - largest) * scale);
        sum += static_cast<double>(row[key]);
      }
      const auto inverse = static_cast<float>(1.0 / sum);
      for (std::int64_t key = 0; key < keys_; ++key) row[key] *= inverse;
    }
    added_ = 0;
  }

  // result rows, `stride` apart, must be zero before the first call.
  void add_values(HeadRows values, float* result, std::int64_t stride) {
    for (std::int64_t query = 0; query < queries_.count; ++query) {
      const float* row = logits_.data() + query * keys_ + added_;
      float* out = result + query * stride;
      for (std::int64_t key = 0; key < values.count; ++key) {
        const float weight = row[key], *value = values.data + key * values.stride;
        for (std::int64_t c = 0; c < head_dim_; ++c) out[c] += weight * value[c];
      }
    }
    added_ += values.count;
  }

 private:
  HeadRows queries_;
  std::int64_t head_dim_, keys_, added_ = 0;
  std::vector<float> logits_;
};

}  // namespace

Tensor ReferenceOperations::do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                                                std::int64_t heads) {
  const std::int64_t dim = q.dim(1), head_dim = dim / heads, query_blocks = q.dim(0) / kBlockTokens;
  const Tensor queries = as_f32(q), k = as_f32(keys.k), v = as_f32(keys.v);
  const Tensor result = ReferenceOperations::do_zeros(q.shape(), DType::f32);
  const auto *offsets = mask.offsets.data<std::int32_t>(), *indices = mask.indices.data<std::int32_t>();
  parallel_for_each(heads * query_blocks, [&](std::int64_t row) {
    const std::int64_t head = row / query_blocks, query_block = row % query_blocks;
    const std::int64_t begin = offsets[row], end = offsets[row + 1];
    if (begin == end) return;  // nothing kept: zeros
    const auto head_rows = [&](const Tensor& x, std::int64_t block) {
      return HeadRows{x.data<float>() + block * kBlockTokens * dim + head * head_dim, dim, kBlockTokens};
    };
    const auto ring_block = [&](std::int64_t index) {
      const std::int64_t block = indices[index], window = block / keys.window_blocks;
      return keys.slots[static_cast<std::size_t>(window)] * keys.window_blocks + block % keys.window_blocks;
    };
    AttentionTile tile(head_rows(queries, query_block), head_dim, (end - begin) * kBlockTokens);
    for (std::int64_t i = begin; i < end; ++i) tile.add_keys(head_rows(k, ring_block(i)));
    tile.normalise();
    float* out = result.mutable_data<float>() + query_block * kBlockTokens * dim + head * head_dim;
    for (std::int64_t i = begin; i < end; ++i) tile.add_values(head_rows(v, ring_block(i)), out, dim);
  });
  return rounded(result, settings_.compute);
}

Tensor ReferenceOperations::do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) {
  constexpr std::int64_t kTileQueries = 64;
  const std::int64_t dim = q.dim(2), head_dim = dim / heads, count = q.dim(1), keys = k.dim(1);
  const std::int64_t tiles = (count + kTileQueries - 1) / kTileQueries;
  const Tensor queries = as_f32(q), all_k = as_f32(k), all_v = as_f32(v);
  const Tensor result = ReferenceOperations::do_zeros(q.shape(), DType::f32);
  parallel_for_each(q.dim(0) * heads * tiles, [&](std::int64_t index) {
    const std::int64_t batch = index / (heads * tiles), head = index / tiles % heads;
    const std::int64_t begin = index % tiles * kTileQueries, end = std::min(begin + kTileQueries, count);
    const std::int64_t query_offset = (batch * count + begin) * dim + head * head_dim;
    const std::int64_t key_offset = (k.dim(0) == 1 ? 0 : batch) * keys * dim + head * head_dim;
    AttentionTile tile({queries.data<float>() + query_offset, dim, end - begin}, head_dim, keys);
    tile.add_keys({all_k.data<float>() + key_offset, dim, keys});
    tile.normalise();
    tile.add_values({all_v.data<float>() + key_offset, dim, keys}, result.mutable_data<float>() + query_offset, dim);
  });
  return rounded(result, settings_.compute);
}

}  // namespace flashvsr::ops
