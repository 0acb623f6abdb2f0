#include "vector_test_support.h"

namespace flashvsr::ops::vector_test {
namespace {

// Logits are sums of head_dim products; an error in them is a relative error of the probabilities. Two computations
// differ by twice that, plus a few roundings of the sums over keys. In bf16 the probabilities and both results are
// rounded once more.
double tolerance_of(DType type, std::int64_t head_dim, double deviation) {
  const double logit_size = 4 * deviation * deviation * std::sqrt(static_cast<double>(head_dim));
  const double f32 = kEpsilonF32 * (2 * logit_size + std::sqrt(static_cast<double>(head_dim)) + 16);
  return type == DType::bf16 ? 3 * kEpsilonBf16 : f32;
}

struct Sparse {
  Tensor q, mask;
  KeyValueView keys;
};

// A ring whose logical windows lie in another order than its slots, with more slots than windows in view.
Sparse sparse_inputs(Operations& operations, std::int64_t heads, std::int64_t head_dim, std::int64_t query_blocks,
                     std::int64_t window_blocks, double kept_share, std::uint32_t seed, float deviation = 1.5f) {
  const std::int64_t dim = heads * head_dim, slots = 4;
  const DType type = operations.compute_type();
  Sparse s;
  s.q = operations.from_host(random_host({query_blocks * kBlockTokens, dim}, seed, deviation), type);
  const Shape ring{slots * window_blocks, kBlockTokens, dim};
  s.keys.k = operations.from_host(random_host(ring, seed + 1, deviation), type);
  s.keys.v = operations.from_host(random_host(ring, seed + 2), type);
  s.keys.k_means = operations.zeros({slots * window_blocks, dim}, DType::f32);
  s.keys.slots = {2, 0, 3};
  s.keys.window_blocks = window_blocks;
  s.mask = allocate_host({heads, query_blocks, s.keys.key_blocks()}, DType::u8);
  std::mt19937 generator(seed + 3);
  std::bernoulli_distribution keep(kept_share);
  auto* mask = s.mask.mutable_data<std::uint8_t>();
  std::generate_n(mask, s.mask.elements(), [&] { return static_cast<std::uint8_t>(keep(generator)); });
  // One row keeps nothing, one keeps all.
  std::fill_n(mask, s.keys.key_blocks(), std::uint8_t{0});
  if (query_blocks > 1) std::fill_n(mask + s.keys.key_blocks(), s.keys.key_blocks(), std::uint8_t{1});
  return s;
}

// Query block 0 of head 0 keeps nothing: exactly zero.
void expect_empty_row(Operations& operations, const Tensor& result, std::int64_t head_dim) {
  const std::vector<float> values = values_of(operations, result);
  for (std::int64_t token = 0; token < kBlockTokens; ++token) {
    for (std::int64_t i = 0; i < head_dim; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(token * result.dim(1) + i)], 0.0f);
    }
  }
}

TEST(VectorAttention, SparseEqualsReference) {
  struct Case {
    std::int64_t heads, head_dim, query_blocks, window_blocks;
    double kept_share;
  };
  for (const Case& c : {Case{2, 128, 3, 2, 0.5}, Case{1, 8, 2, 1, 0.7}, Case{3, 40, 2, 1, 0.4}, Case{1, 256, 1, 2, 0.0},
                        Case{5, 24, 4, 1, 0.3}, Case{1, 96, 2, 3, 0.9}, Case{2, 2, 2, 1, 0.6}}) {
    SCOPED_TRACE(c.head_dim);
    for (const DType type : {DType::f32, DType::bf16}) {
      expect_like_reference(type, tolerance_of(type, c.head_dim, 1.5), [&](Operations& o) -> Results {
        const Sparse s = sparse_inputs(o, c.heads, c.head_dim, c.query_blocks, c.window_blocks, c.kept_share, 7);
        const Tensor result = o.sparse_attention(s.q, s.keys, o.block_mask(s.mask), c.heads);
        expect_empty_row(o, result, c.head_dim);
        return {result};
      });
    }
  }
}

// Logits of hundreds: the running maximum must rescale what came before, and nothing may overflow.
TEST(VectorAttention, SurvivesLargeLogits) {
  for (const DType type : {DType::f32, DType::bf16}) {
    expect_like_reference(type, tolerance_of(type, 64, 8.0), [&](Operations& o) -> Results {
      const Sparse s = sparse_inputs(o, 1, 64, 2, 2, 0.8, 11, 8.0f);
      return {o.sparse_attention(s.q, s.keys, o.block_mask(s.mask), 1)};
    });
  }
}

TEST(VectorAttention, DenseEqualsReference) {
  struct Case {
    std::int64_t batch, key_batch, queries, keys, heads, head_dim;
  };
  for (const Case& c : {Case{1, 1, 200, 512, 2, 128}, Case{1, 1, 1, 1, 1, 4}, Case{3, 3, 130, 77, 2, 16},
                        Case{2, 1, 5, 129, 3, 4}, Case{1, 1, 257, 300, 1, 384}, Case{1, 1, 128, 1, 1, 256},
                        Case{4, 4, 7, 33, 1, 6}, Case{1, 1, 9, 640, 2, 1}, Case{2, 1, 131, 16, 12, 12}}) {
    SCOPED_TRACE(testing::Message() << c.batch << " x " << c.queries << " x " << c.keys << ", head dim " << c.head_dim);
    for (const DType type : {DType::f32, DType::bf16}) {
      expect_like_reference(type, tolerance_of(type, c.head_dim, 1.0), [&](Operations& o) -> Results {
        const std::int64_t dim = c.heads * c.head_dim;
        const Tensor q = o.from_host(random_host({c.batch, c.queries, dim}, 1), type);
        const Tensor k = o.from_host(random_host({c.key_batch, c.keys, dim}, 2), type);
        const Tensor v = o.from_host(random_host({c.key_batch, c.keys, dim}, 3), type);
        return {o.attention(q, k, v, c.heads)};
      });
    }
  }
}

TEST(VectorAttention, Times) {
  if (!times_wanted()) GTEST_SKIP() << "set FLASHVSR_TEST_TIMES for times";
  for (const DType type : {DType::f32, DType::bf16}) {
    static constexpr std::int64_t kHeads = 2, kHeadDim = 128, kBlocks = 12;
    std::int64_t kept = 0;
    const auto prepare = [&](Operations& o) {
      const Sparse s = sparse_inputs(o, kHeads, kHeadDim, kBlocks, kBlocks, 0.6, 5);
      const BlockMask mask = o.block_mask(s.mask);
      kept = o.to_host(mask.offsets).data<std::int32_t>()[kHeads * kBlocks];
      return std::function<void()>([&o, s, mask] { o.sparse_attention(s.q, s.keys, mask, kHeads); });
    };
    VectorOperations counter({.compute = type});
    prepare(counter);
    const auto flops = static_cast<double>(4 * kept * kBlockTokens * kBlockTokens * kHeadDim);
    print_times("sparse, 2 heads of 128", type, flops, "GFLOP", prepare);
    struct Dense {
      std::string name;
      std::int64_t batch, queries, keys, heads, head_dim;
    };
    for (const Dense& d :
         {Dense{"dense, cross attention", 1, 3840, 512, 2, 128}, Dense{"dense, one head of 384", 1, 1500, 1500, 1, 384},
          Dense{"dense, heads of 16", 4, 512, 512, 4, 16}}) {
      const auto dense_flops = static_cast<double>(4 * d.batch * d.queries * d.keys * d.heads * d.head_dim);
      print_times(d.name, type, dense_flops, "GFLOP", [&](Operations& o) {
        const std::int64_t dim = d.heads * d.head_dim, heads = d.heads;
        const Tensor q = o.from_host(random_host({d.batch, d.queries, dim}, 1), type);
        const Tensor k = o.from_host(random_host({d.batch, d.keys, dim}, 2), type);
        const Tensor v = o.from_host(random_host({d.batch, d.keys, dim}, 3), type);
        return std::function<void()>([&o, q, k, v, heads] { o.attention(q, k, v, heads); });
      });
    }
  }
}

}  // namespace
}  // namespace flashvsr::ops::vector_test
