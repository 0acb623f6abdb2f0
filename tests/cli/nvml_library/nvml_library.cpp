// In the place of the NVIDIA driver's libnvidia-ml.so.1: one device, at 0000:19:00.0.
#include <atomic>
#include <cstring>

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }

int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  static int the_device;
  *device = &the_device;
  return std::strcmp(address, "0000:19:00.0") == 0 ? 0 : 6;
}

int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  static std::atomic<unsigned> calls{0};
  *milliwatts = ++calls % 2 == 1 ? 500000 : 600000;
  return 0;
}

int nvmlDeviceGetClockInfo(void*, int clock, unsigned* megahertz) {
  *megahertz = 1500;
  return clock == 1 ? 0 : 2;
}

int nvmlDeviceGetMemoryInfo(void*, unsigned long long* total_free_used) {
  total_free_used[2] = 7u << 20;
  return 0;
}
}
