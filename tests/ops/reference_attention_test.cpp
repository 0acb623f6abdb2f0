// Token order, q, k and v, block selection and attention of the reference against their definitions in double.
#include "op_cases.h"
#include "ops/cpu/reference_operations.h"
#include "ops/cpu/selection.h"
#include "test_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace flashvsr::ops {
namespace {

using test::host_bytes;
using test::host_f32;
using test::parameter;
using test::random_parameter;
using test::random_tensor;
using test::values_of;

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

TEST(ReferenceTokens, WindowsAreNestedLoops) {
  ReferenceOperations operations({});
  constexpr std::int64_t latents = 4, rows = 16, columns = 24;
  std::vector<float> raster(latents * rows * columns);
  for (std::size_t i = 0; i < raster.size(); ++i) raster[i] = static_cast<float>(i);
  const Tensor x = operations.from_host(host_f32({latents, rows, columns, 1}, raster));
  std::vector<float> expected;
  for (std::int64_t t = 0; t < latents; t += 2) {
    for (std::int64_t y = 0; y < rows; y += 8) {
      for (std::int64_t column = 0; column < columns; column += 8) {
        for (std::int64_t i = 0; i < 128; ++i) {
          const std::int64_t token = ((t + i / 64) * rows + y + i / 8 % 8) * columns + column + i % 8;
          expected.push_back(static_cast<float>(token));
        }
      }
    }
  }
  EXPECT_EQ(values_of(operations, operations.to_windows(x)), expected);
}

// patchify gives channels (c, row, column), unpatchify takes (row, column, c).
TEST(ReferenceTokens, UnpatchifyUndoesPatchify) {
  ReferenceOperations operations({});
  const TokenGrid grid{.latents = 2, .rows = 8, .columns = 16};
  const Tensor latents = operations.from_host(random_tensor({2, 16, 32, 16}, 1));
  const Tensor tokens = operations.patchify(latents);
  ASSERT_EQ(tokens.shape(), (Shape{grid.tokens(), 64}));
  const std::vector<float> values = values_of(operations, tokens);
  // The first token is the top left 2x2 patch of latent 0.
  const std::vector<float> source = values_of(operations, latents);
  EXPECT_EQ(values[3 * 4 + 1 * 2 + 0], source[(1 * 32 + 0) * 16 + 3]);
  std::vector<float> reordered(values.size());
  for (std::size_t token = 0; token < static_cast<std::size_t>(grid.tokens()); ++token) {
    for (std::size_t c = 0; c < 16; ++c) {
      for (std::size_t patch = 0; patch < 4; ++patch) {
        reordered[token * 64 + patch * 16 + c] = values[token * 64 + c * 4 + patch];
      }
    }
  }
  const Tensor back = operations.unpatchify(operations.from_host(host_f32({grid.tokens(), 64}, reordered)), grid);
  EXPECT_EQ(back.shape(), latents.shape());
  EXPECT_EQ(values_of(operations, back), source);
}

TEST(ReferenceTokens, QueriesAndKeysAreNormedAndRotated) {
  ReferenceOperations operations({});
  constexpr std::int64_t heads = 2, head_dim = 20, dim = heads * head_dim;  // 8 t + 6 h + 6 w
  const TokenGrid grid{.latents = 2, .rows = 16, .columns = 8, .first_latent = 123456, .heads = heads};
  const Tensor qkv = operations.from_host(random_tensor({grid.tokens(), 3 * dim}, 1));
  const Parameter norm_q = random_parameter({dim}, 2), norm_k = random_parameter({dim}, 3);
  const QueryKeyValue result = operations.split_qkv(qkv, norm_q, norm_k, grid);
  const std::vector<float> source = values_of(operations, qkv);
  const std::vector<float> q = values_of(operations, result.q), k = values_of(operations, result.k);
  const std::vector<float> v = values_of(operations, result.v);
  const std::vector<float> wq = norm_q.to_f32(), wk = norm_k.to_f32();

  // Window order as nested loops; angles by the definition.
  std::int64_t token = 0;
  for (std::int64_t row_begin = 0; row_begin < 16; row_begin += 8) {
    for (std::int64_t i = 0; i < 128; ++i, ++token) {
      const double position[] = {123456.0 + static_cast<double>(i / 64), static_cast<double>(row_begin + i / 8 % 8),
                                 static_cast<double>(i % 8)};
      for (const bool is_key : {false, true}) {
        const float* in = source.data() + token * 3 * dim + (is_key ? dim : 0);
        const std::vector<float>&w = is_key ? wk : wq, &out = is_key ? k : q;
        double squares = 0;
        for (std::int64_t c = 0; c < dim; ++c) squares += std::pow(static_cast<double>(in[c]), 2);
        const double inverse = 1 / std::sqrt(squares / dim + 1e-6);
        for (std::int64_t pair = 0; pair < dim / 2; ++pair) {
          const std::int64_t inside = pair % (head_dim / 2), axis = inside < 4 ? 0 : inside < 7 ? 1 : 2;
          const std::int64_t index = axis == 0 ? inside : axis == 1 ? inside - 4 : inside - 7;
          const double angle = position[axis] * std::pow(1e4, -2.0 * static_cast<double>(index) / (axis == 0 ? 8 : 6));
          const auto normed = [&](std::int64_t c) {
            return static_cast<double>(in[c]) * inverse * static_cast<double>(w[static_cast<std::size_t>(c)]);
          };
          const double a = normed(2 * pair), b = normed(2 * pair + 1),
                       bound = 4 * 0x1p-24 * (std::abs(a) + std::abs(b));
          const auto at = static_cast<std::size_t>(token * dim + 2 * pair);
          EXPECT_NEAR(static_cast<double>(out[at]), a * std::cos(angle) - b * std::sin(angle), bound);
          EXPECT_NEAR(static_cast<double>(out[at + 1]), a * std::sin(angle) + b * std::cos(angle), bound);
        }
      }
      for (std::int64_t c = 0; c < dim; ++c) {
        EXPECT_EQ(v[static_cast<std::size_t>(token * dim + c)],
                  source[static_cast<std::size_t>((token * 3 + 2) * dim + c)]);
      }
    }
  }
  const std::vector<float> means = values_of(operations, result.k_means);
  for (std::int64_t block = 0; block < grid.blocks(); ++block) {
    for (std::int64_t c = 0; c < dim; ++c) {
      double sum = 0;
      for (std::int64_t i = 0; i < 128; ++i) {
        sum += static_cast<double>(k[static_cast<std::size_t>((block * 128 + i) * dim + c)]);
      }
      EXPECT_NEAR(static_cast<double>(means[static_cast<std::size_t>(block * dim + c)]), sum / 128,
                  0x1p-23 * std::abs(sum / 128) + 1e-30);
    }
  }
}

// ---------------------------------------------------------------------------------------------------- selection

TEST(ReferenceSelection, LocalWindowsAreCutOrShifted) {
  const auto window = [](std::int64_t index, std::int64_t blocks, std::int64_t range, LocalWindow rule) {
    const BlockRange found = local_window(index, blocks, {.range = range, .window = rule});
    return std::pair(found.begin, found.end);
  };
  using Range = std::pair<std::int64_t, std::int64_t>;
  constexpr auto cut = LocalWindow::truncated, shifted = LocalWindow::preserved;
  EXPECT_EQ(window(0, 6, 3, cut), (Range{0, 2}));
  EXPECT_EQ(window(3, 6, 3, cut), (Range{2, 5}));
  EXPECT_EQ(window(5, 6, 3, cut), (Range{4, 6}));
  EXPECT_EQ(window(0, 6, 3, shifted), (Range{0, 3}));
  EXPECT_EQ(window(5, 6, 3, shifted), (Range{3, 6}));
  // An even range reaches one block further back; a range beyond the frame sees everything.
  EXPECT_EQ(window(3, 6, 2, cut), (Range{2, 4}));
  EXPECT_EQ(window(0, 6, 2, cut), (Range{0, 1}));
  EXPECT_EQ(window(1, 3, 11, shifted), (Range{0, 3}));
  EXPECT_EQ(window(1, 3, 11, cut), (Range{0, 3}));
}

TEST(ReferenceSelection, BudgetFollowsThePublishedRule) {
  EXPECT_EQ(selection_budget(6, 24, 1.4), 49);     // int(36 * 1.4) - 1
  EXPECT_EQ(selection_budget(6, 24, 100.0), 143);  // all pairs but one
  EXPECT_EQ(selection_budget(6, 24, 4.0), 143);    // exactly all pairs: int(144) - 1
  EXPECT_EQ(selection_budget(6, 24, 1.0 / 36), 0);
  EXPECT_EQ(selection_budget(6, 24, 0.0), 0);
  EXPECT_EQ(selection_budget(1, 4, 1e17), 3);
  // 0.29 * 100 is 28.999999999999996 in double.
  EXPECT_EQ(selection_budget(10, 40, 0.29), 27);
}

// Scores whose softmax over two blocks is easy to order.
TEST(ReferenceSelection, KeepsWhatLiesStrictlyAboveTheThreshold) {
  ReferenceOperations operations({});
  // One head, one query window of two blocks, two keys each: softmax weights (.88, .12), (.73, .27).
  const Tensor scores = operations.from_host(host_f32({1, 2, 2}, {2, 0, 1, 0}));
  const auto mask = [&](double ratio) {
    return values_of(operations, operations.select_blocks(scores, 2, {.topk_ratio = ratio}).mask);
  };
  EXPECT_EQ(mask(0.0), (std::vector<float>{0, 0, 0, 0}));   // no budget
  EXPECT_EQ(mask(0.25), (std::vector<float>{0, 0, 0, 0}));  // k = 0: above the largest lies nothing
  EXPECT_EQ(mask(0.5), (std::vector<float>{1, 0, 0, 0}));   // k = 1
  EXPECT_EQ(mask(0.75), (std::vector<float>{1, 0, 1, 0}));  // k = 2
  EXPECT_EQ(mask(1.0), (std::vector<float>{1, 0, 1, 1}));   // k = 3: the lowest is dropped
  EXPECT_EQ(mask(50.0), (std::vector<float>{1, 0, 1, 1}));  // however large the budget
  const BlockMask all = operations.select_blocks(scores, 2, {.all_allowed = true});
  EXPECT_EQ(values_of(operations, all.mask), (std::vector<float>{1, 1, 1, 1}));
  EXPECT_EQ(values_of(operations, all.offsets), (std::vector<float>{0, 2, 4}));
  EXPECT_EQ(values_of(operations, all.indices.sliced(0, 4)), (std::vector<float>{0, 1, 0, 1}));
}

TEST(ReferenceSelection, EqualScoresAtTheThresholdAllGo) {
  ReferenceOperations operations({});
  const Tensor scores = operations.from_host(host_f32({1, 1, 4}, {1, 1, 1, kForbidden}));
  EXPECT_EQ(values_of(operations, operations.select_blocks(scores, 1, {.topk_ratio = 2}).mask),
            (std::vector<float>{0, 0, 0, 0}));
  EXPECT_EQ(values_of(operations, operations.select_blocks(scores, 1, {.topk_ratio = 4}).mask),
            (std::vector<float>{1, 1, 1, 0}));
  EXPECT_EQ(values_of(operations, operations.select_blocks(scores, 1, {.all_allowed = true}).mask),
            (std::vector<float>{1, 1, 1, 0}));
}

TEST(ReferenceSelection, ScoresAreProductsOfMeansInsideTheWindow) {
  ReferenceOperations operations({});
  constexpr std::int64_t heads = 2, head_dim = 4, dim = heads * head_dim;
  const TokenGrid grid{.latents = 2, .rows = 16, .columns = 24, .heads = heads};  // 2x3 blocks
  const Tensor q = random_tensor({6, dim}, 1), k = random_tensor({18, dim}, 2);
  const Tensor ring = operations.zeros({18, kBlockTokens, dim}, DType::f32);
  const KeyValueView view{ring, ring, operations.from_host(k), {2, 0}, 6};
  const Tensor scores = operations.block_scores(operations.from_host(q), view, grid, {.range = 1});
  ASSERT_EQ(scores.shape(), (Shape{heads, 6, 12}));
  const std::vector<float> values = values_of(operations, scores);
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t query = 0; query < 6; ++query) {
      for (std::int64_t key = 0; key < 12; ++key) {
        const float score = values[static_cast<std::size_t>((head * 6 + query) * 12 + key)];
        if (key % 6 != query) {  // a range of one sees its own place only
          EXPECT_EQ(score, kForbidden);
          continue;
        }
        const std::int64_t block = (key < 6 ? 2 : 0) * 6 + key % 6;
        double sum = 0, sizes = 0;
        for (std::int64_t c = 0; c < head_dim; ++c) {
          const double term = static_cast<double>(q.data<float>()[query * dim + head * head_dim + c]) *
                              static_cast<double>(k.data<float>()[block * dim + head * head_dim + c]);
          sum += term;
          sizes += std::abs(term);
        }
        EXPECT_NEAR(static_cast<double>(score), sum / 2, 8 * 0x1p-24 * sizes);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------------- attention

// softmax(q k / sqrt(d)) v of one head in double: q, k, v [n, dim].
std::vector<double> dense(const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v,
                          std::int64_t dim, std::int64_t begin, std::int64_t head_dim) {
  const std::int64_t queries = static_cast<std::int64_t>(q.size()) / dim;
  const std::int64_t keys = static_cast<std::int64_t>(k.size()) / dim;
  std::vector<double> result;
  for (std::int64_t i = 0; i < queries; ++i) {
    std::vector<double> weights, sums(static_cast<std::size_t>(head_dim));
    double total = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      double logit = 0;
      for (std::int64_t c = begin; c < begin + head_dim; ++c) {
        logit += static_cast<double>(q[static_cast<std::size_t>(i * dim + c)]) *
                 static_cast<double>(k[static_cast<std::size_t>(j * dim + c)]);
      }
      weights.push_back(std::exp(logit / std::sqrt(static_cast<double>(head_dim))));
      total += weights.back();
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      for (std::int64_t c = 0; c < head_dim; ++c) {
        sums[static_cast<std::size_t>(c)] += weights[static_cast<std::size_t>(j)] / total *
                                             static_cast<double>(v[static_cast<std::size_t>(j * dim + begin + c)]);
      }
    }
    result.insert(result.end(), sums.begin(), sums.end());
  }
  return result;
}

// The roundings of a logit below 10 in size pass through the softmax to values below 5, twice.
double attention_bound(std::int64_t head_dim) {
  return test::product_tolerance(head_dim).f32_roundings * 0x1p-24 * 10 * 2 * 5;
}

TEST(ReferenceAttention, OneKeyBlockIsDenseAttention) {
  ReferenceOperations operations({});
  constexpr std::int64_t heads = 2, head_dim = 16, dim = heads * head_dim;
  const Tensor q = operations.from_host(random_tensor({kBlockTokens, dim}, 1));
  const Tensor k = operations.from_host(random_tensor({kBlockTokens, dim}, 2));
  const Tensor v = operations.from_host(random_tensor({kBlockTokens, dim}, 3));
  const BlockMask mask = operations.block_mask(host_bytes({heads, 1, 1}, {1, 1}));
  const std::vector<float> sparse =
      values_of(operations, operations.sparse_attention(q, plain_view(k, v, {}, 1), mask, heads));
  const Shape batch{1, kBlockTokens, dim};
  const std::vector<float> full =
      values_of(operations, operations.attention(q.reshaped(batch), k.reshaped(batch), v.reshaped(batch), heads));
  for (std::int64_t head = 0; head < heads; ++head) {
    const std::vector<double> expected = dense(values_of(operations, q), values_of(operations, k),
                                               values_of(operations, v), dim, head * head_dim, head_dim);
    for (std::int64_t i = 0; i < kBlockTokens * head_dim; ++i) {
      const auto at = static_cast<std::size_t>(i / head_dim * dim + head * head_dim + i % head_dim);
      EXPECT_NEAR(static_cast<double>(sparse[at]), expected[static_cast<std::size_t>(i)], attention_bound(head_dim));
      EXPECT_NEAR(static_cast<double>(full[at]), expected[static_cast<std::size_t>(i)], attention_bound(head_dim));
    }
  }
}

TEST(ReferenceAttention, SparseRowsSeeTheirBlocksOnly) {
  ReferenceOperations operations({});
  constexpr std::int64_t dim = 8;
  const Tensor q = operations.from_host(random_tensor({3 * kBlockTokens, dim}, 1));
  const Tensor k = operations.from_host(random_tensor({3 * kBlockTokens, dim}, 2));
  const Tensor v = operations.from_host(random_tensor({3 * kBlockTokens, dim}, 3));
  const BlockMask mask = operations.block_mask(host_bytes({1, 3, 3}, {1, 0, 1, 0, 0, 0, 1, 1, 1}));
  const std::vector<float> result =
      values_of(operations, operations.sparse_attention(q, plain_view(k, v, {}, 3), mask, 1));
  const auto block = [&](const Tensor& x, std::int64_t index) {
    return values_of(operations, x.sliced(index * kBlockTokens, (index + 1) * kBlockTokens));
  };
  const auto joined = [&](const Tensor& x) {
    std::vector<float> values = block(x, 0);
    const std::vector<float> last = block(x, 2);
    values.insert(values.end(), last.begin(), last.end());
    return values;
  };
  const std::vector<double> first = dense(block(q, 0), joined(k), joined(v), dim, 0, dim);
  const std::vector<double> third = dense(block(q, 2), values_of(operations, k), values_of(operations, v), dim, 0, dim);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(result[i]), first[i], attention_bound(dim));
    EXPECT_EQ(result[first.size() + i], 0.0f);  // an empty row
    EXPECT_NEAR(static_cast<double>(result[2 * first.size() + i]), third[i], attention_bound(dim));
  }
}

// Chunk by chunk through the cache, with slots used again, against everything in one piece. Another layer takes and
// gives up slots in between.
TEST(ReferenceAttention, CacheEqualsPlainOrder) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    ReferenceOperations operations({.compute = compute});
    constexpr std::int64_t heads = 2, dim = 16, kept = 2;
    TokenGrid grid{.latents = 6, .rows = 8, .columns = 16, .first_latent = 0, .heads = heads};
    const Parameter norm_q = random_parameter({dim}, 1), norm_k = random_parameter({dim}, 2);
    KvCache cache = make_kv_cache(operations, 2, grid.window_blocks(), dim, kept, 3);
    std::vector<Tensor> all_k, all_v, all_means;
    for (std::uint64_t chunk = 0; chunk < 6; ++chunk) {
      cache.begin_chunk(grid.latents / kWindowLatents);
      const Tensor qkv = operations.from_host(random_tensor({grid.tokens(), 3 * dim}, 10 + chunk), compute);
      const Tensor other = operations.from_host(random_tensor({grid.tokens(), 3 * dim}, 100 + chunk), compute);
      operations.append_qkv(cache, 0, other, norm_q, norm_k, grid);
      cache.release(operations, 0);
      const Query query = operations.append_qkv(cache, 1, qkv, norm_q, norm_k, grid);
      const QueryKeyValue plain = operations.split_qkv(qkv, norm_q, norm_k, grid);
      all_k.push_back(plain.k);
      all_v.push_back(plain.v);
      all_means.push_back(plain.k_means);
      const Tensor k = operations.concatenate(all_k), v = operations.concatenate(all_v);
      const Tensor means = operations.concatenate(all_means);
      const auto in_view = static_cast<std::int64_t>(cache.layers[1].windows.size()),
                 blocks = in_view * grid.window_blocks();
      EXPECT_EQ(in_view, chunk == 0 ? 3 : kept + 1);
      const KeyValueView newest = plain_view(k.sliced(k.dim(0) - blocks * kBlockTokens, k.dim(0)),
                                             v.sliced(v.dim(0) - blocks * kBlockTokens, v.dim(0)),
                                             means.sliced(means.dim(0) - blocks, means.dim(0)), grid.window_blocks());
      const auto attend = [&](const KeyValueView& view) {
        const Tensor scores = operations.block_scores(query.q_means, view, grid, {.range = 3});
        const BlockMask mask = operations.select_blocks(scores, grid.window_blocks(), {.topk_ratio = 1.5});
        return values_of(operations, operations.sparse_attention(query.q, view, mask, heads));
      };
      EXPECT_EQ(attend(cache.view(1)), attend(newest)) << "chunk " << chunk;
      cache.release(operations, 1);
      grid.first_latent += grid.latents;
      grid.latents = 2;
    }
  }
}

TEST(ReferenceAttention, SharedKeysServeEveryBatch) {
  ReferenceOperations operations({});
  const Tensor q = operations.from_host(random_tensor({3, 7, 6}, 1));
  const Tensor k = operations.from_host(random_tensor({1, 5, 6}, 2)),
               v = operations.from_host(random_tensor({1, 5, 6}, 3));
  const std::vector<float> all = values_of(operations, operations.attention(q, k, v, 2));
  for (std::int64_t batch = 0; batch < 3; ++batch) {
    const std::vector<float> one = values_of(operations, operations.attention(q.sliced(batch, batch + 1), k, v, 2));
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + batch * 42));
  }
}

}  // namespace
}  // namespace flashvsr::ops
