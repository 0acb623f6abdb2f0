#include "cli/bench_run.h"

#include "core/error.h"
#include "ops/profile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <string>

namespace flashvsr::cli {
namespace {

constexpr int kRateRuns = 7;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A parameter of small alternating values: what they are does not matter to speed.
Parameter filler(const std::string& name, const Shape& shape) {
  Tensor values = allocate_host(shape, DType::f32);
  for (std::int64_t i = 0; i < values.elements(); ++i) {
    values.mutable_data<float>()[i] = 0.01f * static_cast<float>(i % 7 - 3);
  }
  return {name, values};
}

template <typename Body>
double best_seconds(ops::Operations& operations, const Body& body) {
  double best = 1e30;
  for (int run = 0; run < kRateRuns; ++run) {
    const auto start = Clock::now();
    body();
    operations.synchronize();
    best = std::min(best, seconds_since(start));
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

struct RunTimes {
  double all = 0, first_output = 0;
  std::int64_t first_frames = 0;  // that came with the first output
};

RunTimes run_stream(const stream::Networks& networks, const BenchSettings& settings, std::int64_t frames) {
  const weights::ModelConfig& config = networks.files.config;
  stream::StreamSettings stream_settings;
  stream_settings.input_width = std::max<std::int64_t>(settings.output.width / settings.scale, 1);
  stream_settings.input_height = std::max<std::int64_t>(settings.output.height / settings.scale, 1);
  stream_settings.output_width = settings.output.width;
  stream_settings.output_height = settings.output.height;
  stream_settings.full_decoder = settings.full_decoder;
  stream_settings.color_fix = stream::parse_color_fix(config.color_fix);
  stream_settings.sparse_ratio = config.sparse_ratio;
  stream_settings.local_range = config.local_range;
  stream_settings.local_window = stream::parse_local_window(config.local_window);
  stream_settings.kv_chunks = config.kv_ratio;
  stream::Stream stream(networks, stream_settings);

  const int width = static_cast<int>(stream_settings.input_width);
  const int height = static_cast<int>(stream_settings.input_height);
  std::vector<std::vector<std::uint8_t>> inputs(8);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    draw_test_frame(inputs[i], width, height, static_cast<std::int64_t>(i));
  }
  std::vector<std::uint8_t> output(static_cast<std::size_t>(settings.output.width) *
                                   static_cast<std::size_t>(settings.output.height) * 3);
  RunTimes times;
  std::int64_t received = 0;
  const auto start = Clock::now();
  const auto receive_all = [&] {
    const bool first = received == 0;
    while (stream.receive(output.data(), std::ptrdiff_t{3} * settings.output.width) == stream::Received::frame) {
      if (received++ == 0) times.first_output = seconds_since(start);
    }
    if (first && received > 0) times.first_frames = received;
  };
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    const auto& input = inputs[static_cast<std::size_t>(frame) % inputs.size()];
    require(stream.send(input.data(), std::ptrdiff_t{3} * width), "the stream refused frame {}", frame);
    receive_all();
  }
  stream.drain();
  receive_all();
  times.all = seconds_since(start);
  require(received == frames, "{} frames came out of {}", received, frames);
  return times;
}

std::string part_of(const std::string& part, const std::string& operation) {
  if (part == "projector" || part == "decoder") return part;
  if (part == "dit") {
    if (operation == "linear") return "dit linear";
    const bool attention = operation == "attention" || operation == "sparse_attention" || operation == "block_scores" ||
                           operation == "select_blocks" || operation == "append_qkv" || operation == "split_qkv";
    return attention ? "attention" : "dit other";
  }
  return operation == "adain" || operation == "wavelet" ? "colour" : "other";
}

std::vector<PartResult> collect(const ops::Profile::Entries& entries, const MachineRates& rates, bool by_network) {
  const std::vector<std::string> order =
      by_network
          ? std::vector<std::string>{"projector", "dit", "decoder"}
          : std::vector<std::string>{"projector", "dit linear", "attention", "dit other", "decoder", "colour", "other"};
  std::map<std::string, PartResult> sums;
  for (const auto& [key, entry] : entries) {
    const auto& [part, operation] = key;
    PartResult& sum = sums[by_network ? part : part_of(part, operation)];
    const bool convolution = operation.find("conv") != std::string::npos;
    sum.seconds += entry.seconds;
    sum.flops += entry.flops;
    sum.ideal_seconds += entry.flops / (convolution ? rates.convolution : rates.linear);
  }
  std::vector<PartResult> results;
  for (const std::string& name : order) {
    PartResult result = sums[name];
    result.name = name;
    results.push_back(result);
  }
  return results;
}

}  // namespace

MachineRates measure_rates(ops::Operations& operations) {
  constexpr std::int64_t kSide = 2048, kChannels = 128, kRows = 180, kColumns = 320;
  const DType type = operations.compute_type();
  MachineRates rates;
  {
    const ops::LinearWeights weights{filler("rate.linear.weight", {kSide, kSide}), {}};
    const Tensor x = operations.from_host(filler("x", {kSide, kSide}).values(), type);
    const double seconds = best_seconds(operations, [&] { return operations.linear(x, weights); });
    rates.linear = 2.0 * kSide * kSide * kSide / seconds;
  }
  const ops::ConvWeights weights{filler("rate.conv2d.weight", {kChannels, kChannels, 3, 3}), {}};
  const Tensor x = operations.from_host(filler("x", {1, kRows, kColumns, kChannels}).values(), type);
  const double seconds = best_seconds(operations, [&] { return operations.conv2d(x, weights); });
  rates.convolution = 2.0 * kRows * kColumns * kChannels * kChannels * 9 / seconds;
  return rates;
}

BenchResult run_bench(const stream::Networks& networks, const BenchSettings& settings, const MachineRates& rates) {
  BenchResult result;
  run_stream(networks, settings, 1);
  ops::Profile& profile = networks.operations.profile();
  ops::Profile::Entries least;
  for (int run = 0; run < settings.repeat; ++run) {
    profile.clear();
    profile.enabled = true;
    run_stream(networks, settings, settings.frames);
    profile.enabled = false;
    for (const auto& [key, entry] : profile.entries()) {
      const auto [found, added] = least.emplace(key, entry);
      if (!added) found->second.seconds = std::min(found->second.seconds, entry.seconds);
    }
  }
  result.parts = collect(least, rates, false);
  result.networks = collect(least, rates, true);

  for (int run = 0; run < settings.repeat; ++run) {
    const RunTimes times = run_stream(networks, settings, settings.frames);
    const double steady = times.all - times.first_output;
    result.steady_frames = settings.frames - times.first_frames;
    result.seconds = run == 0 ? times.all : std::min(result.seconds, times.all);
    result.steady_seconds = run == 0 ? steady : std::min(result.steady_seconds, steady);
    result.first_output_seconds =
        run == 0 ? times.first_output : std::min(result.first_output_seconds, times.first_output);
  }
  result.frames = settings.frames;
  result.backend_peak_bytes = networks.operations.peak_memory();
  result.device_bytes = networks.operations.device_memory();
  return result;
}

std::size_t peak_process_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return static_cast<std::size_t>(std::stoull(line.substr(6))) * 1024;
  }
  return 0;
}

}  // namespace flashvsr::cli
