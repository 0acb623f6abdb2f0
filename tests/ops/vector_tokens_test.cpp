#include "vector_test_support.h"

#include <span>

namespace flashvsr::ops::vector_test {
namespace {

// The reference sums in double, the kernels in f32: dim additions, in chunks, and a handful of roundings after them.
// Everything is rounded to the type at the end, where two nearly equal values may fall to different sides.
double norm_tolerance(DType type, std::int64_t dim) {
  const double sums = kEpsilonF32 * (std::sqrt(static_cast<double>(dim)) + 8);
  return type == DType::bf16 ? kEpsilonBf16 / 2 + sums : sums;
}

const std::int64_t kDims[] = {1, 2, 7, 16, 96, 130, 256, 1000, 1536};

TEST(VectorNorms, LayerNormEqualsReference) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const DType stream : {DType::f32, type}) {
      for (const std::int64_t dim : kDims) {
        if (dim == 1) continue;  // the norm of one channel is nothing but rounding
        // A mean far from zero: the variance must not be a difference of large numbers.
        const double cancellation = 1 + 8.0 / 0.5;
        expect_like_reference(type, cancellation * norm_tolerance(type, dim), [&](Operations& o) -> Results {
          const Tensor x = o.from_host(random_host({37, dim}, 1, 0.5f, 8.0f), stream);
          const Tensor scale = o.from_host(random_host({dim}, 2)), shift = o.from_host(random_host({dim}, 3));
          return {o.layer_norm_modulated(x, scale, shift),
                  o.layer_norm(x, random_parameter({dim}, 4), random_parameter({dim}, 5))};
        });
      }
    }
  }
}

TEST(VectorNorms, RmsNormsEqualReference) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t dim : kDims) {
      expect_like_reference(type, norm_tolerance(type, dim), [&](Operations& o) -> Results {
        const Tensor x = o.from_host(random_host({5, 3, 7, dim}, 1), type);
        const Parameter gamma = random_parameter({dim}, 2);
        return {o.rms_norm(x.reshaped({105, dim}), gamma), o.channel_rms_norm(x, gamma, Activation::silu),
                o.channel_rms_norm(x, gamma, Activation::none)};
      });
    }
  }
}

// A pixel of zeros stays zero instead of becoming NaN.
TEST(VectorNorms, ZerosStayZero) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Isa isa : available_isas()) {
      VectorOperations o({.compute = type}, isa);
      const Tensor y = o.channel_rms_norm(o.zeros({1, 2, 2, 20}, type), random_parameter({20}, 1), Activation::silu);
      for (const float value : values_of(o, y)) EXPECT_EQ(value, 0.0f);
    }
  }
}

TEST(VectorTokens, OrdersEqualReference) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t channels : {1, 16, 33}) {
      expect_like_reference(type, 0, [&](Operations& o) -> Results {
        const TokenGrid grid{.latents = 4, .rows = 16, .columns = 24};
        const Tensor x = o.from_host(random_host({4, 16, 24, channels}, 1), type);
        const Tensor tokens = o.from_host(random_host({grid.tokens(), 4 * channels}, 2), DType::f32);
        return {o.to_windows(x), o.unpatchify(tokens, grid), o.unpatchify(o.cast(tokens, type), grid),
                o.patchify(o.from_host(random_host({2, 32, 48, channels}, 3))),
                o.patchify(o.from_host(random_host({2, 32, 48, channels}, 4), type))};
      });
    }
  }
}

TEST(VectorTokens, SplitQkvEqualsReference) {
  struct Case {
    std::int64_t heads, head_dim, first_latent;
  };
  for (const Case& c : {Case{2, 128, 0}, Case{4, 128, 1000000}, Case{1, 8, 6}, Case{3, 20, 4}, Case{2, 6, 2},
                        Case{1, 256, 10}, Case{5, 2, 0}}) {
    SCOPED_TRACE(c.head_dim);
    for (const DType type : {DType::f32, DType::bf16}) {
      const std::int64_t dim = c.heads * c.head_dim;
      // The rotation adds a few roundings; means are compared in f32 in either type.
      const double tolerance = norm_tolerance(type, dim) + 8 * kEpsilonF32;
      const TokenGrid grid{.latents = 4, .rows = 16, .columns = 8, .first_latent = c.first_latent, .heads = c.heads};
      const auto inputs = [&](Operations& o) { return o.from_host(random_host({grid.tokens(), 3 * dim}, 1), type); };
      const Parameter norm_q = random_parameter({dim}, 2, 0.2f, 1.0f), norm_k = random_parameter({dim}, 3, 0.2f, 1.0f);
      expect_like_reference(type, tolerance, [&](Operations& o) -> Results {
        const QueryKeyValue r = o.split_qkv(inputs(o), norm_q, norm_k, grid);
        return {r.q, r.k, r.v};
      });
      // A mean of 128 random values is about ten times smaller than they are.
      expect_like_reference(type, 16 * norm_tolerance(DType::f32, dim), [&](Operations& o) -> Results {
        const QueryKeyValue r = o.split_qkv(inputs(o), norm_q, norm_k, grid);
        return {r.q_means, r.k_means};
      });
    }
  }
}

// The cache after two chunks, of which the second recycles a slot, is that of split_qkv; what is not new stays.
TEST(VectorTokens, AppendQkvWritesTheSlots) {
  constexpr std::int64_t kHeads = 2, kDim = 64;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Isa isa : available_isas()) {
      VectorOperations o({.compute = type}, isa);
      const TokenGrid first{.latents = 6, .rows = 8, .columns = 16, .first_latent = 0, .heads = kHeads};
      const TokenGrid second{.latents = 2, .rows = 8, .columns = 16, .first_latent = 6, .heads = kHeads};
      const Parameter norm_q = random_parameter({kDim}, 2), norm_k = random_parameter({kDim}, 3);
      KvCache cache = make_kv_cache(o, 2, first.window_blocks(), kDim, 2, 3);
      std::vector<QueryKeyValue> chunks;
      for (const TokenGrid& grid : {first, second}) {
        const Tensor qkv = o.from_host(random_host({grid.tokens(), 3 * kDim}, 20), type);
        cache.release(o, 1);
        cache.begin_chunk(grid.latents / kWindowLatents);
        const Query query = o.append_qkv(cache, 1, qkv, norm_q, norm_k, grid);
        chunks.push_back(o.split_qkv(qkv, norm_q, norm_k, grid));
        expect_equal(o, query.q, o, chunks.back().q);
        expect_equal(o, query.q_means, o, chunks.back().q_means);
      }
      // In view: windows 1 and 2 of the first chunk, then the second chunk.
      const std::vector<std::int64_t> slots = cache.view(1).slots;
      ASSERT_EQ(slots.size(), 3U);
      const std::int64_t blocks = cache.window_blocks;
      for (std::size_t window = 0; window < 3; ++window) {
        const QueryKeyValue& chunk = chunks[window < 2 ? 0 : 1];
        const std::int64_t from = window < 2 ? static_cast<std::int64_t>(window + 1) * blocks : 0;
        const std::int64_t slot = slots[window] * blocks;
        const auto compare = [&](const Tensor& actual, const Tensor& expected, const Shape& shape) {
          const Tensor part = expected.reshaped(shape).sliced(from, from + blocks);
          expect_equal(o, actual.sliced(slot, slot + blocks), o, part);
        };
        const std::int64_t all = chunk.k_means.dim(0);
        compare(cache.k, chunk.k, {all, kBlockTokens, kDim});
        compare(cache.v, chunk.v, {all, kBlockTokens, kDim});
        compare(cache.k_means, chunk.k_means, {all, kDim});
      }
      EXPECT_FALSE(cache.free_slots.empty());
      for (const std::int64_t slot : cache.free_slots) {
        const Tensor unused = cache.k.sliced(slot * blocks, (slot + 1) * blocks);
        for (const float value : values_of(o, unused)) ASSERT_EQ(value, 0.0f);
      }
    }
  }
}

// Sums are double in both, so that scores, and with them the choice of blocks, hardly ever differ in the last bit.
TEST(VectorTokens, BlockScoresEqualReference) {
  struct Case {
    std::int64_t block_rows, block_columns, heads, head_dim, range;
  };
  for (const Case& c : {Case{3, 5, 2, 128, 3}, Case{1, 1, 1, 8, 11}, Case{6, 10, 3, 20, 4}, Case{2, 7, 5, 2, 1}}) {
    for (const LocalWindow window : {LocalWindow::truncated, LocalWindow::preserved}) {
      const TokenGrid grid{.latents = 4, .rows = 8 * c.block_rows, .columns = 8 * c.block_columns, .heads = c.heads};
      const std::int64_t blocks = grid.window_blocks(), dim = c.heads * c.head_dim;
      const auto scores_of = [&](Operations& o) {
        const Tensor means = o.from_host(random_host({4 * blocks, dim}, 2));
        const Tensor unused = o.zeros({4 * blocks, kBlockTokens, dim}, DType::f32);
        const KeyValueView keys{unused, unused, means, {3, 0, 2}, blocks};
        return o.block_scores(o.from_host(random_host({grid.blocks(), dim}, 1)), keys, grid, {c.range, window});
      };
      // The scores inside the local window, then which those are.
      expect_like_reference(DType::f32, 2 * kEpsilonF32, [&](Operations& o) -> Results {
        const Tensor scores = o.to_host(scores_of(o));
        for (float& score : std::span(scores.mutable_data<float>(), static_cast<std::size_t>(scores.elements()))) {
          if (std::isinf(score)) score = 0.0f;
        }
        return {o.from_host(scores)};
      });
      expect_like_reference(DType::f32, 0, [&](Operations& o) -> Results {
        const Tensor scores = o.to_host(scores_of(o));
        const Tensor allowed = allocate_host(scores.shape(), DType::u8);
        std::transform(scores.data<float>(), scores.data<float>() + scores.elements(),
                       allowed.mutable_data<std::uint8_t>(), [](float score) { return std::isfinite(score) ? 1 : 0; });
        return {o.from_host(allowed)};
      });
    }
  }
}

TEST(VectorTokens, Times) {
  if (!times_wanted()) GTEST_SKIP() << "set FLASHVSR_TEST_TIMES for times";
  for (const DType type : {DType::f32, DType::bf16}) {
    static constexpr std::int64_t kDim = 1536;
    const TokenGrid grid{.latents = 2, .rows = 48, .columns = 80, .first_latent = 4, .heads = 12};
    const auto values = static_cast<double>(grid.tokens() * kDim), bytes = static_cast<double>(size_of(type));
    const Parameter weight = random_parameter({kDim}, 2);
    print_times("layer norm (f32 stream)", type, values * (4 + bytes), "GB", [&](Operations& o) {
      const Tensor x = o.from_host(random_host({grid.tokens(), kDim}, 1));
      return std::function<void()>([&o, x, weight] { o.layer_norm(x, weight, weight); });
    });
    print_times("RMS norm", type, values * 2 * bytes, "GB", [&](Operations& o) {
      const Tensor x = o.from_host(random_host({grid.tokens(), kDim}, 1), type);
      return std::function<void()>([&o, x, weight] { o.rms_norm(x, weight); });
    });
    print_times("split q, k, v", type, values * 6 * bytes, "GB", [&](Operations& o) {
      const Tensor x = o.from_host(random_host({grid.tokens(), 3 * kDim}, 1), type);
      return std::function<void()>([&o, x, weight, grid] { o.split_qkv(x, weight, weight, grid); });
    });
    const Parameter gamma = random_parameter({96}, 2);
    print_times("channel RMS norm, SiLU, 96", type, 480.0 * 832 * 96 * 2 * bytes, "GB", [&](Operations& o) {
      const Tensor x = o.from_host(random_host({1, 480, 832, 96}, 1), type);
      return std::function<void()>([&o, x, gamma] { o.channel_rms_norm(x, gamma, Activation::silu); });
    });
  }
}

}  // namespace
}  // namespace flashvsr::ops::vector_test
