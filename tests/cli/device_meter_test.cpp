// Power, clock and memory through a library in the place of the driver's (nvml_library/nvml_library.cpp).
#include "cli/device_meter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace flashvsr::cli::test {
namespace {

using std::chrono::milliseconds;

TEST(DeviceMeter, ReadsWhatTheDriverSays) {
  DeviceMeter meter({.name = "a device", .bus_address = "0000:19:00.0"});
  std::this_thread::sleep_for(milliseconds(220));
  const DeviceReadings readings = meter.stop();
  ASSERT_TRUE(readings.mean_watts && readings.most_watts && readings.mean_megahertz && readings.most_bytes);
  // The library says 500 and 600 W in turns.
  EXPECT_GE(*readings.mean_watts, 500);
  EXPECT_LT(*readings.mean_watts, 600);
  EXPECT_EQ(*readings.most_watts, 600);
  EXPECT_EQ(*readings.mean_megahertz, 1500);
  EXPECT_EQ(*readings.most_bytes, 7u << 20);
}

TEST(DeviceMeter, ReadsNothingWithoutSuchADevice) {
  for (const char* address : {"", "0000:ff:00.0"}) {
    DeviceMeter meter({.name = "a device", .bus_address = address});
    const DeviceReadings readings = meter.stop();
    EXPECT_FALSE(readings.mean_watts || readings.most_watts || readings.mean_megahertz || readings.most_bytes);
  }
}

}  // namespace
}  // namespace flashvsr::cli::test
