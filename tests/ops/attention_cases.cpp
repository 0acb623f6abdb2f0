// Cases of tokens, block selection and attention; and the large ones for timing.
#include "op_cases.h"

#include <cmath>
#include <numeric>

namespace flashvsr::ops::test {
namespace {

constexpr auto kF32 = DType::f32;

struct TokenCase {
  TokenGrid grid;
  std::int64_t head_dim;

  std::int64_t dim() const { return grid.heads * head_dim; }
  std::string name() const {
    return fmt::format("{}x{}x{} from {}, {} heads of {}", grid.latents, grid.rows, grid.columns, grid.first_latent,
                       grid.heads, head_dim);
  }
};

const std::vector<TokenCase>& token_cases() {
  static const std::vector<TokenCase> cases{
      {{.latents = 2, .rows = 8, .columns = 8, .first_latent = 0, .heads = 1}, 128},
      {{.latents = 6, .rows = 8, .columns = 24, .first_latent = 0, .heads = 2}, 64},
      {{.latents = 2, .rows = 24, .columns = 8, .first_latent = 6, .heads = 3}, 32},
      {{.latents = 4, .rows = 8, .columns = 16, .first_latent = 1000000, .heads = 2}, 128},
      {{.latents = 2, .rows = 16, .columns = 8, .first_latent = 3, .heads = 2}, 8},
      {{.latents = 4, .rows = 8, .columns = 8, .first_latent = 2, .heads = 9}, 128},
      {{.latents = 2, .rows = 8, .columns = 8, .first_latent = 4, .heads = 3}, 40},
      {{.latents = 2, .rows = 8, .columns = 8, .first_latent = 1, .heads = 5}, 2}};
  return cases;
}

// Values after the norm and its weights are below 8 with these inputs.
Tolerance qkv_tolerance(std::int64_t dim) {
  return {.f32_roundings = 2 * std::sqrt(static_cast<double>(dim)) + 24, .bf16_roundings = 0.1, .magnitude = 8.0};
}

// Logits below 12 in size err by the roundings of a sum of head_dim products; the softmax passes that on twice, to
// values below 5. bf16 may also round the weights of the values.
Tolerance softmax_tolerance(std::int64_t head_dim) {
  return {.f32_roundings = 24 * (2 * std::sqrt(static_cast<double>(head_dim)) + 8),
          .bf16_roundings = 0.5,
          .magnitude = 5.0};
}

// A mask with about one in three kept, an empty row and a full one.
Tensor random_mask(const Shape& shape, std::uint64_t seed) {
  Tensor mask = random_bytes(shape, seed);
  auto* keep = mask.mutable_data<std::uint8_t>();
  const std::int64_t key_blocks = shape[2], rows = shape[0] * shape[1];
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < key_blocks; ++i) {
      std::uint8_t& value = keep[row * key_blocks + i];
      value = row % 7 == 3 ? 0 : row % 7 == 5 ? 1 : value % 3 == 0 ? 1 : 0;
    }
  }
  return mask;
}

// Lists in full; of the indices only those that the offsets reach.
std::vector<Tensor> lists(Operations& operations, const BlockMask& mask) {
  const Tensor offsets = operations.to_host(mask.offsets);
  const std::int32_t kept = offsets.data<std::int32_t>()[offsets.elements() - 1];
  return {mask.mask, mask.offsets, mask.indices.sliced(0, kept)};
}

}  // namespace

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> cases;
  for (const TokenCase& t : token_cases()) {
    const TokenGrid grid = t.grid;
    const std::int64_t dim = t.dim(), head_dim = t.head_dim, blocks = grid.blocks();
    cases.push_back(
        {"to_windows, patchify, unpatchify " + t.name(), {}, [=](Inputs& in) {
           Operations& o = in.operations();
           const Tensor latents = in.tensor({grid.latents, 2 * grid.rows, 2 * grid.columns, 16}, 1, 0, kF32);
           const Tensor tokens = in.tensor({grid.tokens(), 64}, 1, 0, kF32);
           return std::vector{o.to_windows(in.tensor({grid.latents, grid.rows, grid.columns, dim})),
                              o.patchify(latents), o.unpatchify(tokens, grid)};
         }});
    cases.push_back({"split_qkv " + t.name(), qkv_tolerance(dim), [=](Inputs& in) {
                       const Tensor qkv = in.tensor({grid.tokens(), 3 * dim}, 2);
                       const Parameter norm_q = in.parameter({dim}, 0.2f, 1), norm_k = in.parameter({dim}, 0.2f, 1);
                       const QueryKeyValue r = in.operations().split_qkv(qkv, norm_q, norm_k, grid);
                       return std::vector{r.q, r.k, r.v, r.q_means, r.k_means};
                     }});
    // Enough chunks for slots to be used again, by another layer too; the cache is looked at whole.
    cases.push_back({"append_qkv " + t.name(), qkv_tolerance(dim), [=](Inputs& in) {
                       Operations& o = in.operations();
                       const std::int64_t windows = grid.latents / kWindowLatents;
                       KvCache cache = make_kv_cache(o, 2, grid.window_blocks(), dim, 2, 2 + windows);
                       Query query;
                       for (std::int64_t chunk = 0; chunk < 3; ++chunk) {
                         cache.begin_chunk(windows);
                         TokenGrid at = grid;
                         at.first_latent += chunk * grid.latents;
                         const Tensor qkv = in.tensor({grid.tokens(), 3 * dim}, 2);
                         const Parameter norm_q = in.parameter({dim}, 0.2f, 1), norm_k = in.parameter({dim}, 0.2f, 1);
                         for (const std::size_t layer : {0, 1}) {
                           query = o.append_qkv(cache, layer, qkv, norm_q, norm_k, at);
                           cache.release(o, layer);
                         }
                       }
                       return std::vector{query.q, query.q_means, cache.k, cache.v, cache.k_means};
                     }});
    for (const std::int64_t range : {1, 2, 3, 11}) {
      for (const auto window : {LocalWindow::truncated, LocalWindow::preserved}) {
        // Sums of head_dim products of values below 5.
        Tolerance tolerance = product_tolerance(head_dim);
        tolerance.magnitude = 25 * std::sqrt(static_cast<double>(head_dim));
        tolerance.bf16_roundings = 0;
        cases.push_back(
            {fmt::format("block_scores {}, range {}{}", t.name(), range,
                         window == LocalWindow::preserved ? " preserved" : ""),
             tolerance, [=](Inputs& in) {
               Operations& o = in.operations();
               const Tensor q = in.tensor({blocks, dim}, 1, 0, kF32), k = in.tensor({2 * blocks, dim}, 1, 0, kF32);
               const Tensor ring = o.zeros({2 * blocks, kBlockTokens, dim}, o.compute_type());
               KeyValueView view{ring, ring, k, {}, grid.window_blocks()};
               // Out of order and not all in view.
               for (std::int64_t slot = grid.latents - 2; slot >= 0; --slot) view.slots.push_back(slot);
               return std::vector{o.block_scores(q, view, grid, {.range = range, .window = window})};
             }});
      }
    }
    // Once with logits a hundred times as large: the maximum of a row leaps from block to block, by powers of two that
    // f32 does not hold. Their errors are as much larger.
    for (const float gain : {1.0f, 10.0f}) {
      Tolerance tolerance = softmax_tolerance(head_dim);
      tolerance.f32_roundings *= gain * gain;
      cases.push_back({fmt::format("sparse_attention {}{}", t.name(), gain > 1 ? ", large logits" : ""), tolerance,
                       [=](Inputs& in) {
                         Operations& o = in.operations();
                         const float scale = gain * (head_dim <= 8 ? 1.0f : 1.4f);
                         const Tensor q = in.tensor({grid.tokens(), dim}, scale);
                         const Shape ring{3 * blocks, kBlockTokens, dim};
                         KeyValueView view{in.tensor(ring, scale), in.tensor(ring), {}, {}, grid.window_blocks()};
                         for (std::int64_t slot = 3 * grid.latents / 2 - 1; slot >= 1; --slot)
                           view.slots.push_back(slot);
                         const BlockMask mask = o.block_mask(random_mask({grid.heads, blocks, view.key_blocks()}, 5));
                         return std::vector{o.sparse_attention(q, view, mask, grid.heads)};
                       }});
    }
  }
  for (const std::int64_t window_blocks : {1, 6, 35, 101}) {
    for (const double ratio : {0.0, 0.02, 0.3, 1.0, 1.7, 100.0}) {
      for (const bool all : {false, true}) {
        // As many pairs as back ends may select in another way than few.
        if (window_blocks == 101 && (all || (ratio != 0.3 && ratio != 100.0))) continue;
        const std::int64_t queries = 2 * window_blocks, key_blocks = 4 * window_blocks;
        cases.push_back(
            {fmt::format("select_blocks {} per window, ratio {}{}", window_blocks, ratio, all ? ", all" : ""),
             {},
             [=](Inputs& in) {
               // A third lies outside of the window; some scores of a row are equal.
               Tensor scores = random_tensor({3, queries, key_blocks}, 11, 2);
               const Tensor chosen = random_bytes(scores.shape(), 12);
               auto* values = scores.mutable_data<float>();
               for (std::int64_t i = 0; i < scores.elements(); ++i) {
                 if (i % key_blocks > 0 && chosen.data<std::uint8_t>()[i] % 3 == 0) values[i] = -INFINITY;
                 if (i % key_blocks > 2 && i % 11 == 0) values[i] = values[i - 2];
               }
               Operations& o = in.operations();
               return lists(
                   o, o.select_blocks(o.from_host(scores), window_blocks, {.topk_ratio = ratio, .all_allowed = all}));
             }});
      }
    }
  }
  cases.push_back({"block_mask", {}, [](Inputs& in) {
                     Operations& o = in.operations();
                     std::vector<Tensor> results = lists(o, o.block_mask(random_mask({3, 14, 33}, 8)));
                     Tensor empty = allocate_host({1, 2, 3}, DType::u8);
                     std::fill_n(empty.mutable_data<std::uint8_t>(), 6, std::uint8_t{0});
                     for (const Tensor& list : lists(o, o.block_mask(empty))) results.push_back(list);
                     return results;
                   }});
  struct Dense {
    std::int64_t batch, count, keys, key_batch, heads, head_dim;
  };
  for (const Dense& d : {Dense{1, 1, 1, 1, 1, 1}, Dense{1, 5, 3, 1, 2, 7}, Dense{3, 65, 33, 1, 2, 16},
                         Dense{2, 130, 130, 2, 1, 96}, Dense{1, 128, 512, 1, 3, 128}}) {
    cases.push_back(
        {fmt::format("attention {}x{} to {}x{}, {} heads of {}", d.batch, d.count, d.key_batch, d.keys, d.heads,
                     d.head_dim),
         softmax_tolerance(d.head_dim), [=](Inputs& in) {
           const std::int64_t dim = d.heads * d.head_dim;
           const Tensor q = in.tensor({d.batch, d.count, dim});
           const Tensor k = in.tensor({d.key_batch, d.keys, dim});
           return std::vector{in.operations().attention(q, k, in.tensor({d.key_batch, d.keys, dim}), d.heads)};
         }});
  }
  return cases;
}

// The inputs are made inside the timed part; they are small beside the work.
std::vector<OpCase> large_cases() {
  std::vector<OpCase> cases;
  const TokenGrid grid{.latents = 2, .rows = 48, .columns = 80, .first_latent = 6, .heads = 2};
  const std::int64_t dim = 128, head_dim = dim / grid.heads, blocks = grid.blocks();
  cases.push_back({"large linear", product_tolerance(dim), [=](Inputs& in) {
                     const Tensor x = in.tensor({grid.tokens(), dim});
                     return std::vector{in.operations().linear(
                         x, {in.parameter({4 * dim, dim}, 0.1f), {}},
                         {.activation = in.absolute() ? Activation::none : Activation::gelu_tanh})};
                   }});
  cases.push_back({"large split_qkv", qkv_tolerance(dim), [=](Inputs& in) {
                     const QueryKeyValue r =
                         in.operations().split_qkv(in.tensor({grid.tokens(), 3 * dim}, 2), in.parameter({dim}, 0.2f, 1),
                                                   in.parameter({dim}, 0.2f, 1), grid);
                     return std::vector{r.q, r.k, r.v, r.q_means, r.k_means};
                   }});
  cases.push_back({"large sparse_attention", softmax_tolerance(head_dim), [=](Inputs& in) {
                     Operations& o = in.operations();
                     const Tensor q = in.tensor({grid.tokens(), dim});
                     const Shape ring{4 * blocks, kBlockTokens, dim};
                     const KeyValueView view{in.tensor(ring), in.tensor(ring), {}, {3, 0, 1, 2}, grid.window_blocks()};
                     const BlockMask mask = o.block_mask(random_mask({grid.heads, blocks, view.key_blocks()}, 5));
                     return std::vector{o.sparse_attention(q, view, mask, grid.heads)};
                   }});
  cases.push_back(
      {"large conv2d", product_tolerance(9 * 64), [=](Inputs& in) {
         const Tensor x = in.tensor({1, 192, 320, 32}), second = in.tensor({1, 192, 320, 32});
         return std::vector{in.operations().conv2d(x, {in.parameter({32, 64, 3, 3}, 0.05f), {}}, {.second = &second})};
       }});
  cases.push_back({"large upsample_grow_conv2d", product_tolerance(9 * 32), [=](Inputs& in) {
                     const Tensor x = in.tensor({1, 192, 320, 32});
                     const Parameter grow = in.parameter({64, 32, 1, 1}, 0.2f);
                     return std::vector{
                         in.operations().upsample_grow_conv2d(x, grow, {in.parameter({16, 32, 3, 3}, 0.05f), {}}, 1)};
                   }});
  cases.push_back({"large resize_bicubic", {}, [](Inputs& in) {
                     return std::vector{in.operations().resize_bicubic(in.bytes({4, 180, 320, 3}), 720, 1280)};
                   }});
  cases.push_back({"large wavelet", {.f32_roundings = 40, .magnitude = 2.0}, [](Inputs& in) {
                     const Shape shape{1, 720, 1280, 3};
                     return std::vector{in.operations().wavelet(in.tensor(shape, 0.5f, 0, kF32), in.bytes(shape))};
                   }});
  return cases;
}

}  // namespace flashvsr::ops::test
