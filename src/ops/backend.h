// Chooses and makes a back end.
#pragma once

#include "ops/operations.h"

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
};

// Throws Error(device) with the reason if the device cannot be had. The back end belongs to one thread at a time.
std::unique_ptr<Operations> make_backend(const BackendSettings& settings);

}  // namespace flashvsr::ops
