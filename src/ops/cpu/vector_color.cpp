// Colour fixes. The arithmetic is in kernels/fused_color.cpp.
#include "core/threads.h"
#include "ops/cpu/kernels/kernel_table.h"
#include "ops/cpu/vector_operations.h"
#include "ops/cpu/vector_scratch.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace flashvsr::ops {
namespace {

constexpr std::int64_t kRgb = 3;
// Statistics are sums over runs of this many pixels, added up in order: the same for every number of threads.
constexpr std::int64_t kRunPixels = 8192;
// Columns of a wavelet tile: its rows at all levels fit into the second cache.
constexpr std::int64_t kTileColumns = 352;

std::int64_t pieces(std::int64_t size, std::int64_t most) { return (size + most - 1) / most; }

struct Statistics {
  double mean[kRgb], deviation[kRgb];
};

// Of values scale * x + shift.
Statistics statistics_of(const kernels::Moments* runs, std::int64_t count, std::int64_t pixels, double scale,
                         double shift) {
  Statistics result{};
  for (std::size_t c = 0; c < kRgb; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t run = 0; run < count; ++run) {
      sum += runs[run].sums[c];
      squares += runs[run].squares[c];
    }
    const auto n = static_cast<double>(pixels);
    const double mean = sum / n, variance = std::max(squares / n - mean * mean, 0.0);
    result.mean[c] = scale * mean + shift;
    result.deviation[c] = std::sqrt(scale * scale * variance + 1e-5);
  }
  return result;
}

}  // namespace

Tensor VectorOperations::do_adain(const Tensor& video, const Tensor& reference) {
  const std::int64_t frames = video.dim(0), pixels = video.dim(1) * video.dim(2);
  const std::int64_t runs = pieces(pixels, kRunPixels);
  std::vector<kernels::Moments> own(static_cast<std::size_t>(frames * runs)), wanted(own.size());
  const auto for_runs = [&](const auto& body) {
    parallel_for(frames * runs, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t pixel = i % runs * kRunPixels;
        body(i, (i / runs * pixels + pixel) * kRgb, std::min(kRunPixels, pixels - pixel));
      }
    });
  };
  for_runs([&](std::int64_t run, std::int64_t offset, std::int64_t count) {
    const auto index = static_cast<std::size_t>(run);
    table_.color.value_moments(video.data<float>() + offset, count, own[index]);
    table_.color.byte_moments(reference.data<std::uint8_t>() + offset, count, wanted[index]);
  });
  std::vector<kernels::ChannelMatch> matches(static_cast<std::size_t>(frames));
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    const Statistics from = statistics_of(own.data() + frame * runs, runs, pixels, 1.0, 0.0);
    const Statistics to = statistics_of(wanted.data() + frame * runs, runs, pixels, 2.0 / 255.0, -1.0);
    kernels::ChannelMatch& match = matches[static_cast<std::size_t>(frame)];
    for (std::size_t c = 0; c < kRgb; ++c) {
      match.means[c] = static_cast<float>(from.mean[c]);
      match.scales[c] = static_cast<float>(to.deviation[c] / from.deviation[c]);
      match.targets[c] = static_cast<float>(to.mean[c]);
    }
  }
  const Tensor result = do_allocate(video.shape(), DType::f32);
  for_runs([&](std::int64_t run, std::int64_t offset, std::int64_t count) {
    table_.color.match_channels(video.data<float>() + offset, count, matches[static_cast<std::size_t>(run / runs)],
                                result.mutable_data<float>() + offset);
  });
  return result;
}

Tensor VectorOperations::do_wavelet(const Tensor& video, const Tensor& reference) {
  const std::int64_t frames = video.dim(0), height = video.dim(1), width = video.dim(2);
  const Tensor result = do_allocate(video.shape(), DType::f32);
  // Tiles overlap by what the filters reach: no more of them than the cache and the threads ask for.
  const std::int64_t across = pieces(width, kTileColumns);
  const std::int64_t down =
      std::clamp(pieces(settings().threads, frames * across), std::int64_t{1}, pieces(height, 64));
  parallel_for_each(frames * across * down, [&](std::int64_t index) {
    const std::int64_t frame = index / (across * down), row = index / across % down, column = index % across;
    const std::int64_t offset = frame * height * width * kRgb;
    kernels::WaveletTile tile{.video = video.data<float>() + offset,
                              .reference = reference.data<std::uint8_t>() + offset,
                              .height = height,
                              .width = width,
                              .top = height * row / down,
                              .bottom = height * (row + 1) / down,
                              .left = width * column / across,
                              .right = width * (column + 1) / across,
                              .out = result.mutable_data<float>() + offset};
    tile.scratch = reinterpret_cast<float*>(thread_scratch(table_.color.wavelet_scratch(tile)));
    table_.color.wavelet(tile);
  });
  return result;
}

}  // namespace flashvsr::ops
