// Measures a model on a back end: speed of the whole and of every operation, memory, power.
#pragma once

#include "cli/device_meter.h"
#include "cli/output_size.h"
#include "ops/operations.h"
#include "stream/stream.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace flashvsr::cli {

struct BenchSettings {
  Size output;
  std::int64_t scale = 4;
  std::int64_t frames = 37;
  // Runs of the whole; of the times of an operation the least of so many counts: other programs disturb them.
  int repeat = 1;
  bool full_decoder = false;
};

// What the back end reaches in large products through its own operations: FLOP/s, best of several runs.
struct MachineRates {
  double linear = 0;
  double convolution = 0;  // 3x3, 128 -> 128 channels
};

// Products are as large as the device needs to show what it can do.
MachineRates measure_rates(ops::Operations& operations);

// A stage of a run, when some frames had been received.
struct RunStage {
  std::int64_t frames = 0;
  double seconds = 0;
  std::size_t process_bytes = 0;  // resident now
  std::size_t device_bytes = 0;   // Operations::device_memory()
};

struct RunTimes {
  double seconds = 0;       // first frame sent to last frame received
  double first_output = 0;  // first frame sent to first frame received
  // Frames a second behind those of the first chunk; nothing if there are none.
  std::optional<double> steady_fps;
  std::vector<RunStage> stages;  // ten, evenly spaced, or one a frame
  DeviceReadings device;         // meanwhile
};

// An operation of a part of the profile.
struct OperationResult {
  std::string part, operation;
  ops::Profile::Entry entry;  // of a whole run
};

struct BenchResult {
  std::int64_t frames = 0;
  std::vector<RunTimes> runs;  // profile off
  // Of a run of its own with the profile on.
  std::vector<OperationResult> operations;
  std::size_t process_peak_bytes = 0;  // of these up to the end of `runs`
  std::size_t backend_peak_bytes = 0;  // activations and state
  std::size_t device_bytes = 0;        // all that the back end holds on its device; 0: it has none of its own
};

// Upscales a moving test picture: one frame to warm up (weights are prepared at their first use), then `repeat` times
// all frames with the profile off, and as often with it on.
BenchResult run_bench(const stream::Networks& networks, const BenchSettings& settings);

}  // namespace flashvsr::cli
