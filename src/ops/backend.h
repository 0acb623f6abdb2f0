// Chooses and makes a back end.
#pragma once

#include "ops/operations.h"

#include <cstddef>
#include <memory>
#include <string>

namespace flashvsr::ops {

// automatic: CUDA where cuda_unavailable_reason() (ops/cuda_loader.h) has nothing against it, else the CPU.
enum class Device : std::uint8_t { automatic, cpu, cpu_reference, cuda };
enum class Precision : std::uint8_t { automatic, f32, bf16 };

struct BackendSettings {
  Device device = Device::automatic;
  // automatic: bf16 where the device multiplies it natively, else f32.
  Precision precision = Precision::automatic;
  int threads = 0;  // 0: all cores
  // Bytes that streams are planned for: of the device's memory, or of the machine's. 0: all that there is.
  std::size_t memory_limit = 0;
  int device_index = 0;  // which of the CUDA devices; 0 with other back ends
};

// Throws Error(device) with the reason if the device cannot be had. The back end belongs to one thread at a time.
std::unique_ptr<Operations> make_backend(const BackendSettings& settings);

}  // namespace flashvsr::ops
