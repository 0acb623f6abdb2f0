// Measures a model on a back end: speed of the whole and of every part, beside what the machine can do.
#pragma once

#include "cli/output_size.h"
#include "ops/operations.h"
#include "stream/stream.h"

#include <cstdint>
#include <string>
#include <vector>

namespace flashvsr::cli {

struct BenchSettings {
  Size output;
  std::int64_t scale = 4;
  std::int64_t frames = 37;
  // Times of parts and of the whole are the least of so many runs: other programs disturb them.
  int repeat = 1;
  bool full_decoder = false;
};

// What the back end reaches in large products through its own operations: FLOP/s, best of several runs.
struct MachineRates {
  double linear = 0;       // [2048, 2048] x [2048, 2048]
  double convolution = 0;  // 3x3, 128 -> 128 channels, 180 x 320 pixels
};

MachineRates measure_rates(ops::Operations& operations);

struct PartResult {
  std::string name;  // "projector", "dit linear", "attention", "dit other", "decoder", "colour", "other"
  double seconds = 0;
  double flops = 0;  // counted work
  // Time that the counted work would take at the measured rates: convolutions at that of convolutions, everything else
  // that counts at that of linears.
  double ideal_seconds = 0;
};

struct BenchResult {
  std::int64_t frames = 0;
  double seconds = 0;         // first frame sent to last frame received, profile off
  double steady_seconds = 0;  // of the frames after the first chunk
  std::int64_t steady_frames = 0;
  double first_output_seconds = 0;     // first frame sent to first frame received
  std::vector<PartResult> parts;       // of a run of its own with the profile on, whole run
  std::vector<PartResult> networks;    // the same by network: projector, dit, decoder
  std::size_t backend_peak_bytes = 0;  // activations and state
  std::size_t device_bytes = 0;        // all that the back end holds on its device; 0: it has none of its own
};

// Upscales a moving test picture: one frame to warm up (weights are prepared at their first use), then `repeat` times
// all frames with the profile on, and as often with it off.
BenchResult run_bench(const stream::Networks& networks, const BenchSettings& settings, const MachineRates& rates);

// VmHWM: the most memory that the process has had, in bytes; 0 where the system does not say.
std::size_t peak_process_bytes();

}  // namespace flashvsr::cli
