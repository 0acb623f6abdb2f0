#include "cli/device_meter.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace flashvsr::cli {
namespace {

constexpr std::chrono::milliseconds kInterval{50};

// The part of NVML's interface that is used, as its documentation states it.
using NvmlDevice = void*;
constexpr int kSuccess = 0;
constexpr int kClockOfMultiprocessors = 1;    // NVML_CLOCK_SM
constexpr unsigned kFieldPowerInstant = 186;  // NVML_FI_DEV_POWER_INSTANT, in mW
constexpr int kTypeUnsigned = 1;              // NVML_VALUE_TYPE_UNSIGNED_INT

struct NvmlMemory {
  unsigned long long total, free, used;
};

union NvmlValue {
  double real;
  unsigned number;
  unsigned long long large_number;
};

struct NvmlField {
  unsigned id, scope;
  long long timestamp, latency;
  int value_type;
  int status;
  NvmlValue value;
};

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) return;
    find(init_, "nvmlInit_v2");
    find(shutdown_, "nvmlShutdown");
    find(device_at_, "nvmlDeviceGetHandleByPciBusId_v2");
    find(power_, "nvmlDeviceGetPowerUsage");
    find(energy_, "nvmlDeviceGetTotalEnergyConsumption");
    find(clock_, "nvmlDeviceGetClockInfo");
    find(memory_, "nvmlDeviceGetMemoryInfo");
    find(fields_, "nvmlDeviceGetFieldValues");
    ready_ = init_ != nullptr && init_() == kSuccess;
  }
  ~Nvml() {
    if (ready_ && shutdown_ != nullptr) shutdown_();
    if (library_ != nullptr) dlclose(library_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::optional<NvmlDevice> device_at(const char* bus_address) const {
    NvmlDevice device = nullptr;
    if (!ready_ || device_at_ == nullptr || device_at_(bus_address, &device) != kSuccess) return std::nullopt;
    return device;
  }
  // Now; where the driver only knows the mean of the last second, that.
  std::optional<double> watts(NvmlDevice device) const {
    NvmlField field{};
    field.id = kFieldPowerInstant;
    if (fields_ != nullptr && fields_(device, 1, &field) == kSuccess && field.status == kSuccess &&
        field.value_type == kTypeUnsigned) {
      return 1e-3 * field.value.number;
    }
    unsigned milliwatts = 0;
    if (power_ == nullptr || power_(device, &milliwatts) != kSuccess) return std::nullopt;
    return 1e-3 * milliwatts;
  }
  // Since the driver was loaded.
  std::optional<double> joules(NvmlDevice device) const {
    unsigned long long millijoules = 0;
    if (energy_ == nullptr || energy_(device, &millijoules) != kSuccess) return std::nullopt;
    return 1e-3 * static_cast<double>(millijoules);
  }
  std::optional<double> megahertz(NvmlDevice device) const {
    unsigned value = 0;
    if (clock_ == nullptr || clock_(device, kClockOfMultiprocessors, &value) != kSuccess) return std::nullopt;
    return value;
  }
  std::optional<std::size_t> bytes_in_use(NvmlDevice device) const {
    NvmlMemory memory{};
    if (memory_ == nullptr || memory_(device, &memory) != kSuccess) return std::nullopt;
    return memory.used;
  }

 private:
  template <typename Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
  }

  void* library_;
  bool ready_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*device_at_)(const char*, NvmlDevice*) = nullptr;
  int (*power_)(NvmlDevice, unsigned*) = nullptr;
  int (*energy_)(NvmlDevice, unsigned long long*) = nullptr;
  int (*clock_)(NvmlDevice, int, unsigned*) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*fields_)(NvmlDevice, int, NvmlField*) = nullptr;
};

struct Mean {
  double sum = 0;
  int count = 0;
  void add(const std::optional<double>& value) {
    if (!value) return;
    sum += *value;
    ++count;
  }
  std::optional<double> value() const { return count > 0 ? std::optional(sum / count) : std::nullopt; }
};

template <typename T>
void raise(std::optional<T>& most, const std::optional<T>& value) {
  if (value && (!most || *most < *value)) most = value;
}

}  // namespace

class DeviceMeter::Sampler {
 public:
  explicit Sampler(const ops::Hardware& hardware) : device_(nvml_.device_at(hardware.bus_address.c_str())) {
    if (device_) thread_ = std::thread([this] { run(); });
  }
  ~Sampler() { stop(); }
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  DeviceReadings stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
    return readings_;
  }

 private:
  void run() {
    Mean watts, megahertz;
    const auto start = std::chrono::steady_clock::now();
    const std::optional<double> joules = nvml_.joules(*device_);
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kInterval, [this] { return stopped_; })) {
      const std::optional<double> now = nvml_.watts(*device_);
      watts.add(now);
      raise(readings_.most_watts, now);
      megahertz.add(nvml_.megahertz(*device_));
      raise(readings_.most_bytes, nvml_.bytes_in_use(*device_));
    }
    readings_.mean_watts = watts.value();
    readings_.mean_megahertz = megahertz.value();
    // The counter of energy misses nothing between samples; it moves a few times a second, so that it says little
    // of a short run.
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (const std::optional<double> end = nvml_.joules(*device_); joules && end && seconds > 5) {
      readings_.mean_watts = (*end - *joules) / seconds;
    }
  }

  Nvml nvml_;
  std::optional<NvmlDevice> device_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  DeviceReadings readings_;
  std::thread thread_;
};

DeviceMeter::DeviceMeter(const ops::Hardware& hardware) {
  if (!hardware.bus_address.empty()) sampler_ = std::make_unique<Sampler>(hardware);
}

DeviceMeter::~DeviceMeter() = default;

DeviceReadings DeviceMeter::stop() { return sampler_ ? sampler_->stop() : DeviceReadings{}; }

}  // namespace flashvsr::cli
