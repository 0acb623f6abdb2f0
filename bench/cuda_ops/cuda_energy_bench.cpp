// What the energy of a steady chunk goes into, published model at 768x1408: each operation again and again for a while,
// so that the card reaches the clock that its power limit allows, with energy and time for all its calls in a chunk.
// Times add up to what a chunk would take under that limit without gaps.
//   cuda_energy_bench [SECONDS for each operation]
#include "cli/device_meter.h"
#include "ops/backend.h"
#include "random_tensors.h"

#include <chrono>
#include <cstdlib>
#include <functional>

namespace flashvsr {
namespace {

using bench::random_tensor;
using bench::random_weight;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kDim = 1536, kHidden = 8960, kHeads = 12, kPromptTokens = 512, kWindows = 4;
constexpr std::int64_t kHeight = 768, kWidth = 1408, kLayers = 30, kLatents = 2;
constexpr double kSparseRatio = 2.0, kReferencePixels = 768.0 * 1280.0;
constexpr auto kBf16 = DType::bf16;

class Table {
 public:
  Table(ops::Operations& operations, double seconds) : ops_(operations), seconds_(seconds) {
    fmt::print("{:36} {:>6} {:>9} {:>8} {:>6} {:>6} {:>9} {:>8} {:>8}\n", "operation", "calls", "us", "TFLOP/s", "W",
               "MHz", "mJ", "chunk ms", "chunk J");
  }

  // calls: in a chunk; flops: of one call, those that are counted.
  void row(const char* name, double calls, double flops, const std::function<void()>& call) {
    call();
    ops_.synchronize();
    // Half of the time for the clock to settle.
    run_for(call, seconds_ / 2);
    cli::DeviceMeter meter(ops_.hardware());
    const double once = run_for(call, seconds_);
    const cli::DeviceReadings readings = meter.stop();
    const double watts = readings.mean_watts.value_or(0);
    const double milliseconds = calls * once * 1e3, joules = calls * once * watts;
    fmt::print("{:36} {:6.0f} {:9.1f} {:8.0f} {:6.0f} {:6.0f} {:9.1f} {:8.2f} {:8.2f}\n", name, calls, once * 1e6,
               flops / once * 1e-12, watts, readings.mean_megahertz.value_or(0), once * watts * 1e3, milliseconds,
               joules);
    std::fflush(stdout);
    total_milliseconds_ += milliseconds;
    total_joules_ += joules;
  }

  void total() const { fmt::print("{:36} {:>47} {:17.2f} {:8.2f}\n", "all", "", total_milliseconds_, total_joules_); }

 private:
  // Seconds a call.
  double run_for(const std::function<void()>& call, double seconds) {
    constexpr int kBatch = 16;
    const auto start = Clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    long long count = 0;
    std::shared_ptr<ops::Arrival> previous;
    // One batch is under way while the next is issued.
    do {
      for (int i = 0; i < kBatch; ++i) call();
      count += kBatch;
      auto arrival = ops_.arrival();
      if (previous) previous->wait();
      previous = std::move(arrival);
    } while (elapsed() < seconds);
    ops_.synchronize();
    return elapsed() / static_cast<double>(count);
  }

  ops::Operations& ops_;
  double seconds_, total_milliseconds_ = 0, total_joules_ = 0;
};

void dit(ops::Operations& o, Table& table) {
  const ops::TokenGrid grid{
      .latents = kLatents, .rows = kHeight / 16, .columns = kWidth / 16, .first_latent = 6, .heads = kHeads};
  const std::int64_t tokens = grid.tokens();
  const auto at = [&](const Shape& shape, std::uint64_t seed) {
    return o.from_host(random_tensor(shape, seed), kBf16);
  };
  const Tensor x = at({tokens, kDim}, 1), hidden = at({tokens, kHidden}, 2), qkv = at({tokens, 3 * kDim}, 3);
  const Tensor gate = o.from_host(random_tensor({kDim}, 4));
  const auto linear = [&](const char* name, double calls, const Tensor& in, std::int64_t out,
                          ops::Activation activation, bool gated, bool residual) {
    const ops::LinearWeights weights{random_weight({out, in.dim(1)}, 5), random_weight({out}, 6)};
    ops::LinearOptions options{.activation = activation};
    if (gated) options.gate = &gate;
    if (residual) options.residual = &x;
    table.row(name, calls, 2.0 * static_cast<double>(tokens * in.dim(1) * out),
              [&] { o.linear(in, weights, options); });
  };
  constexpr auto kNone = ops::Activation::none;
  linear("q k v", kLayers, x, 3 * kDim, kNone, false, false);
  linear("o, gate, residual", 2 * kLayers, x, kDim, kNone, true, true);
  linear("cross q", kLayers, x, kDim, kNone, false, false);
  linear("ffn in, GELU", kLayers, x, kHidden, ops::Activation::gelu_tanh, false, false);
  linear("ffn out, gate, residual", kLayers, hidden, kDim, kNone, true, true);

  const Parameter norm = random_weight({kDim}, 7), bias = random_weight({kDim}, 8);
  const Tensor scale = o.from_host(random_tensor({kDim}, 9)), shift = o.from_host(random_tensor({kDim}, 10));
  table.row("layer norm, modulated", 2 * kLayers, 0, [&] { o.layer_norm_modulated(x, scale, shift); });
  table.row("layer norm", kLayers, 0, [&] { o.layer_norm(x, norm, bias); });
  table.row("rms norm", kLayers, 0, [&] { o.rms_norm(x, norm); });
  table.row("q k v split", kLayers, 0, [&] { o.split_qkv(qkv, norm, norm, grid); });

  const ops::QueryKeyValue split = o.split_qkv(qkv, norm, norm, grid);
  const std::int64_t blocks = grid.blocks();
  ops::KeyValueView keys{.k = at({kWindows * blocks, ops::kBlockTokens, kDim}, 11),
                         .v = at({kWindows * blocks, ops::kBlockTokens, kDim}, 12),
                         .k_means = o.from_host(random_tensor({kWindows * blocks, kDim}, 13)),
                         .slots = {0, 1, 2, 3},
                         .window_blocks = grid.window_blocks()};
  const ops::Selection selection{.topk_ratio = kSparseRatio * kReferencePixels / static_cast<double>(kHeight * kWidth)};
  const Tensor scores = o.block_scores(split.q_means, keys, grid, {});
  const ops::BlockMask mask = o.select_blocks(scores, grid.window_blocks(), selection);
  table.row("block scores", kLayers, 0, [&] { o.block_scores(split.q_means, keys, grid, {}); });
  table.row("block selection", kLayers, 0, [&] { o.select_blocks(scores, grid.window_blocks(), selection); });
  const Tensor offsets = o.to_host(mask.offsets);
  const double kept = offsets.data<std::int32_t>()[offsets.elements() - 1];
  table.row("sparse attention", kLayers, kept * 4.0 * 128 * 128 * 128,
            [&] { o.sparse_attention(split.q, keys, mask, kHeads); });
  const Tensor q = x.reshaped({1, tokens, kDim}), k = at({1, kPromptTokens, kDim}, 14),
               v = at({1, kPromptTokens, kDim}, 15);
  table.row("cross attention", kLayers, 4.0 * static_cast<double>(tokens * kPromptTokens * kDim),
            [&] { o.attention(q, k, v, kHeads); });
}

void projector(ops::Operations& o, Table& table) {
  const std::int64_t rows = kHeight / 16, columns = kWidth / 16;
  const auto convolution = [&](const char* name, std::int64_t frames, std::int64_t in, std::int64_t out) {
    const Tensor x = o.from_host(random_tensor({frames, rows, columns, in}, 21), kBf16);
    const ops::ConvWeights weights{random_weight({out, in, 4, 3, 3}, 22), random_weight({out}, 23)};
    const Tensor front = x.sliced(frames - 2, frames);
    table.row(name, 1, static_cast<double>(frames / 2 * rows * columns) * 2.0 * 36 * static_cast<double>(in * out),
              [&] { o.conv3d(front, x, weights, {.time_stride = 2, .padding = ops::Padding::edge}); });
  };
  convolution("projector, 768 to 2048", 8, 768, 2048);
  convolution("projector, 2048 to 3072", 4, 2048, 3072);
  const auto norm = [&](const char* name, std::int64_t frames, std::int64_t channels) {
    const Tensor x = o.from_host(random_tensor({frames, rows, columns, channels}, 24), kBf16);
    const Parameter gamma = random_weight({channels, 1, 1, 1}, 25);
    table.row(name, 1, 0, [&] { o.channel_rms_norm(x, gamma, ops::Activation::silu); });
  };
  norm("channel norm, 2048", 4, 2048);
  norm("channel norm, 3072", 2, 3072);
}

void decoder(ops::Operations& o, Table& table) {
  constexpr auto kRelu = ops::Activation::relu;
  const auto frame = [&](std::int64_t shrink, std::int64_t channels, std::uint64_t seed) {
    return o.from_host(random_tensor({1, kHeight / shrink, kWidth / shrink, channels}, seed), kBf16);
  };
  struct Stage {
    std::int64_t shrink, channels, next, frames;  // frames of a chunk
    double grown;                                 // frames after growing
  };
  for (const Stage& s : {Stage{8, 512, 256, 2, 2}, Stage{4, 256, 128, 2, 4}, Stage{2, 128, 128, 4, 8}}) {
    const Tensor x = frame(s.shrink, s.channels, 31), memory = frame(s.shrink, s.channels, 32);
    const ops::ConvWeights two{random_weight({s.channels, 2 * s.channels, 3, 3}, 33), random_weight({s.channels}, 34)};
    const ops::ConvWeights one{random_weight({s.channels, s.channels, 3, 3}, 35), random_weight({s.channels}, 36)};
    const double flops = 18.0 * static_cast<double>(x.elements() * s.channels),
                 blocks = 3.0 * static_cast<double>(s.frames);
    const std::string at = fmt::format("{} at {}x{}", s.channels, x.dim(1), x.dim(2));
    table.row(("two times " + at).c_str(), blocks, 2 * flops,
              [&] { o.conv2d(x, two, {.second = &memory, .activation = kRelu}); });
    table.row(at.c_str(), blocks, flops, [&] { o.conv2d(x, one, {.activation = kRelu}); });
    table.row((at + ", residual").c_str(), blocks, flops,
              [&] { o.conv2d(x, one, {.residual = &memory, .activation = kRelu}); });
    const std::int64_t factor = s.frames < static_cast<std::int64_t>(s.grown) ? 2 : 1;
    const Parameter grow = random_weight({factor * s.channels, s.channels, 1, 1}, 37);
    const ops::ConvWeights up{random_weight({s.next, s.channels, 3, 3}, 38), random_weight({s.next}, 39)};
    table.row(fmt::format("growing {} to {}", at, s.next).c_str(), s.grown,
              32.0 * static_cast<double>(x.elements() * s.next),
              [&] { o.upsample_grow_conv2d(x, grow, up, 0, ops::Activation::none); });
  }
  const Tensor x = frame(1, 128, 41);
  const ops::ConvWeights same{random_weight({128, 128, 3, 3}, 42), random_weight({128}, 43)};
  const ops::ConvWeights rgb{random_weight({3, 128, 3, 3}, 44), random_weight({3}, 45)};
  const double flops = 18.0 * static_cast<double>(x.elements());
  table.row("128 at 768x1408", 8, flops * 128, [&] { o.conv2d(x, same, {.activation = kRelu}); });
  table.row("128 to RGB at 768x1408", 8, flops * 3, [&] { o.conv2d(x, rgb, {.output = DType::f32}); });
  const Tensor video = o.from_host(random_tensor({8, kHeight, kWidth, 3}, 46)), bytes = o.to_bytes(video);
  table.row("AdaIN", 1, 0, [&] { o.adain(video, bytes); });
}

void run(double seconds) {
  const auto operations = ops::make_backend({.device = ops::Device::cuda, .precision = ops::Precision::bf16});
  Table table(*operations, seconds);
  dit(*operations, table);
  projector(*operations, table);
  decoder(*operations, table);
  table.total();
}

}  // namespace
}  // namespace flashvsr

int main(int argc, char** argv) {
  try {
    flashvsr::run(argc > 1 ? std::strtod(argv[1], nullptr) : 1.0);
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_energy_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
