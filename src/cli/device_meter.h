// Power, clock and memory of an NVIDIA device while something runs.
#pragma once

#include "ops/types.h"

#include <cstddef>
#include <memory>
#include <optional>

namespace flashvsr::cli {

struct DeviceReadings {
  std::optional<double> mean_watts, most_watts;
  std::optional<double> mean_megahertz;   // of the multiprocessors
  std::optional<std::size_t> most_bytes;  // in use on the device by all processes, drivers' own included
};

// Samples the device 20 times a second from a thread of its own, from when it is made until stop(). It loads the
// driver's management library (NVML); where that is missing, or the hardware is no NVIDIA device, nothing is read.
class DeviceMeter {
 public:
  explicit DeviceMeter(const ops::Hardware& hardware);
  ~DeviceMeter();
  DeviceMeter(const DeviceMeter&) = delete;
  DeviceMeter& operator=(const DeviceMeter&) = delete;

  DeviceReadings stop();

 private:
  class Sampler;
  std::unique_ptr<Sampler> sampler_;
};

}  // namespace flashvsr::cli
