#include "cli/bench_run.h"

#include "core/error.h"
#include "ops/profile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <string_view>
#include <utility>

namespace flashvsr::cli {
namespace {

constexpr int kRateRuns = 7;
constexpr std::int64_t kStages = 10;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A parameter of small values without a pattern: a device draws more power for such, and may slow down.
Parameter filler(const std::string& name, const Shape& shape) {
  Tensor values = allocate_host(shape, DType::f32);
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < values.elements(); ++i) {
    state = state * 1664525u + 1013904223u;
    values.mutable_data<float>()[i] = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-36f;
  }
  return {name, values};
}

// Of the device where it can be had, else by the clock.
template <typename Body>
double best_seconds(ops::Operations& operations, const Body& body) {
  body();
  operations.synchronize();
  double best = 1e30;
  for (int run = 0; run < kRateRuns; ++run) {
    const std::unique_ptr<ops::Mark> begin = operations.mark();
    const auto start = Clock::now();
    body();
    if (begin) {
      best = std::min(best, operations.mark()->seconds_since(*begin));
    } else {
      operations.synchronize();
      best = std::min(best, seconds_since(start));
    }
  }
  return best;
}

// Diagonal waves that move, and a grain that does not repeat: nothing in it is constant or still.
void draw_test_frame(std::vector<std::uint8_t>& rgb, int width, int height, std::int64_t frame) {
  rgb.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  auto grain = static_cast<std::uint32_t>(frame * 7919 + 1);
  std::size_t i = 0;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        grain = grain * 1664525u + 1013904223u;
        const double phase = 0.07 * x + 0.05 * (channel + 1) * y + 0.3 * static_cast<double>(frame);
        rgb[i++] = static_cast<std::uint8_t>(127.5 + 100 * std::sin(phase) + (grain >> 28));
      }
    }
  }
}

// A line of /proc/self/status in bytes; 0 where the system does not say.
std::size_t process_bytes(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return static_cast<std::size_t>(std::stoull(line.substr(name.size()))) * 1024;
  }
  return 0;
}

stream::StreamSettings stream_settings(const weights::ModelConfig& config, const BenchSettings& settings) {
  stream::StreamSettings result;
  result.input_width = std::max<std::int64_t>(settings.output.width / settings.scale, 1);
  result.input_height = std::max<std::int64_t>(settings.output.height / settings.scale, 1);
  result.output_width = settings.output.width;
  result.output_height = settings.output.height;
  result.full_decoder = settings.full_decoder;
  result.color_fix = stream::parse_color_fix(config.color_fix);
  result.sparse_ratio = config.sparse_ratio;
  result.local_range = config.local_range;
  result.local_window = stream::parse_local_window(config.local_window);
  result.kv_chunks = config.kv_ratio;
  // Tiles compute something else.
  result.tiles = stream::TileCounts{};
  return result;
}

RunTimes run_stream(const stream::Networks& networks, const BenchSettings& settings, std::int64_t frames) {
  stream::Stream stream(networks, stream_settings(networks.files.config, settings));
  const int width = static_cast<int>(stream.settings().input_width);
  const int height = static_cast<int>(stream.settings().input_height);
  std::vector<std::vector<std::uint8_t>> inputs(8);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    draw_test_frame(inputs[i], width, height, static_cast<std::int64_t>(i));
  }
  std::vector<std::uint8_t> output(static_cast<std::size_t>(settings.output.width) *
                                   static_cast<std::size_t>(settings.output.height) * 3);
  const std::int64_t first_chunk = stream::chunk_at(0).outputs.size();
  const std::int64_t stage_frames = std::max<std::int64_t>(frames / kStages, 1);
  RunTimes times;
  double first_chunk_seconds = 0;
  std::int64_t received = 0;
  DeviceMeter meter(networks.operations.hardware());
  const auto start = Clock::now();
  const auto receive_all = [&] {
    while (stream.receive(output.data(), std::ptrdiff_t{3} * settings.output.width) == stream::Received::frame) {
      ++received;
      times.seconds = seconds_since(start);
      if (received == 1) times.first_output = times.seconds;
      if (received == first_chunk) first_chunk_seconds = times.seconds;
      if (received % stage_frames == 0 && static_cast<std::int64_t>(times.stages.size()) < kStages) {
        times.stages.push_back({received, times.seconds, process_bytes("VmRSS:"), networks.operations.device_memory()});
      }
    }
  };
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    const auto& input = inputs[static_cast<std::size_t>(frame) % inputs.size()];
    // A frame may be finished, and then refuse the next chunk, at any moment.
    while (!stream.send(input.data(), std::ptrdiff_t{3} * width)) receive_all();
    receive_all();
  }
  stream.drain();
  receive_all();
  times.device = meter.stop();
  require(received == frames, "{} frames came out of {}", received, frames);
  if (frames > first_chunk) {
    times.steady_fps = static_cast<double>(frames - first_chunk) / (times.seconds - first_chunk_seconds);
  }
  return times;
}

}  // namespace

MachineRates measure_rates(ops::Operations& operations) {
  const bool large = !operations.hardware().name.empty();
  const std::int64_t side = large ? 8192 : 2048, rows = large ? 768 : 180, columns = large ? 1408 : 320;
  constexpr std::int64_t kChannels = 128;
  const DType type = operations.compute_type();
  MachineRates rates;
  {
    const ops::LinearWeights weights{filler("rate.linear.weight", {side, side}), {}};
    const Tensor x = operations.from_host(filler("x", {side, side}).values(), type);
    const double seconds = best_seconds(operations, [&] { return operations.linear(x, weights); });
    rates.linear = 2.0 * std::pow(static_cast<double>(side), 3) / seconds;
  }
  const ops::ConvWeights weights{filler("rate.conv2d.weight", {kChannels, kChannels, 3, 3}), {}};
  const Tensor x = operations.from_host(filler("x", {1, rows, columns, kChannels}).values(), type);
  const double seconds = best_seconds(operations, [&] { return operations.conv2d(x, weights); });
  rates.convolution = 2.0 * 9 * kChannels * kChannels * static_cast<double>(rows * columns) / seconds;
  return rates;
}

BenchResult run_bench(const stream::Networks& networks, const BenchSettings& settings) {
  ops::Operations& operations = networks.operations;
  BenchResult result;
  result.frames = settings.frames;
  // A device loads a kernel at its first launch and waits meanwhile: chunks of both kinds run before any is timed.
  run_stream(networks, settings, operations.device_memory() > 0 ? stream::chunk_at(0).outputs.size() + 1 : 1);
  for (int run = 0; run < settings.repeat; ++run) {
    result.runs.push_back(run_stream(networks, settings, settings.frames));
  }
  result.process_peak_bytes = process_bytes("VmHWM:");
  result.backend_peak_bytes = operations.peak_memory();
  result.device_bytes = operations.device_memory();

  ops::Profile& profile = operations.profile();
  std::map<std::pair<std::string, std::string>, ops::Profile::Entry> least;
  for (int run = 0; run < settings.repeat; ++run) {
    operations.clear_profile();
    profile.enabled = true;
    run_stream(networks, settings, settings.frames);
    profile.enabled = false;
    for (const auto& [key, entry] : operations.finish_profile()) {
      const auto [found, added] = least.emplace(key, entry);
      if (!added) found->second.seconds = std::min(found->second.seconds, entry.seconds);
    }
  }
  for (const auto& [key, entry] : least) result.operations.push_back({key.first, key.second, entry});
  return result;
}

}  // namespace flashvsr::cli
