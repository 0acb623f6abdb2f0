// What `flashvsr bench` says of its measurements.
#pragma once

#include "cli/bench_run.h"

#include <nlohmann/json.hpp>

namespace flashvsr::cli {

struct BenchSubject {
  std::string model;
  Size output;
  int threads = 0;
  double load_seconds = 0;
  MachineRates rates;
};

nlohmann::ordered_json describe_bench(const BenchSubject& subject, const BenchResult& result,
                                      const ops::Operations& operations);

// The report as tables; `detail`: with every operation.
void print_bench(const nlohmann::ordered_json& report, bool detail);

}  // namespace flashvsr::cli
