#include "cli/bench_report.h"

#include "cli/bench_floor.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

// Work and time of several operations together.
struct Sum {
  ops::Profile::Entry entry;
  // At the machine's measured rates: convolutions at that of convolutions, everything else that counts at that of
  // linears.
  double ideal_seconds = 0;
  double floor_seconds = 0;
};

Sum sum_of(const OperationResult& result, const MachineRates& rates) {
  const bool convolution = result.operation.find("conv") != std::string::npos;
  return {.entry = result.entry,
          .ideal_seconds = result.entry.flops / (convolution ? rates.convolution : rates.linear),
          .floor_seconds = floor_seconds(result.part, result.operation, {result.entry.flops, result.entry.bytes})};
}

void add(Sum& sum, const Sum& more) {
  sum.entry.calls += more.entry.calls;
  sum.entry.seconds += more.entry.seconds;
  sum.entry.flops += more.entry.flops;
  sum.entry.bytes += more.entry.bytes;
  sum.ideal_seconds += more.ideal_seconds;
  sum.floor_seconds += more.floor_seconds;
}

const std::vector<std::string> kParts = {"projector", "dit linear", "sparse attention", "cross attention",
                                         "dit other", "decoder",    "colour",           "other"};
const std::vector<std::string> kNetworks = {"projector", "dit", "decoder"};

std::string part_of(const OperationResult& result) {
  if (result.part == "projector" || result.part == "decoder") return result.part;
  if (result.part == "dit") {
    if (result.operation == "linear") return "dit linear";
    if (result.operation == "sparse_attention") return "sparse attention";
    return result.operation == "attention" ? "cross attention" : "dit other";
  }
  return result.operation == "adain" || result.operation == "wavelet" ? "colour" : "other";
}

// Adds nothing that has no time or work: rates of parts that did not run are 0.
ordered_json describe(const Sum& sum, std::int64_t frames, bool floor) {
  const ops::Profile::Entry& entry = sum.entry;
  const auto a_frame = [frames](double value) { return value / static_cast<double>(frames); };
  const auto rate = [&entry](double value) { return entry.seconds > 0 ? value / entry.seconds : 0; };
  ordered_json object{{"calls", entry.calls},
                      {"ms_per_frame", 1e3 * a_frame(entry.seconds)},
                      {"gflop_per_frame", 1e-9 * a_frame(entry.flops)},
                      {"gb_per_frame", 1e-9 * a_frame(entry.bytes)},
                      {"gflop_per_s", 1e-9 * rate(entry.flops)},
                      {"gb_per_s", 1e-9 * rate(entry.bytes)},
                      {"share_of_measured_rate", rate(sum.ideal_seconds)}};
  if (floor) {
    object["floor_ms_per_frame"] = 1e3 * a_frame(sum.floor_seconds);
    object["share_of_floor"] = rate(sum.floor_seconds);
  }
  return object;
}

ordered_json named(ordered_json names, const ordered_json& values) {
  names.update(values);
  return names;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// NAME, the median over all runs, and NAME_min and NAME_max; null where there is none.
void describe_spread(ordered_json& report, const std::string& name, const std::vector<double>& values) {
  const bool known = !values.empty();
  report[name] = known ? ordered_json(median(values)) : ordered_json();
  report[name + "_min"] = known ? ordered_json(*std::min_element(values.begin(), values.end())) : ordered_json();
  report[name + "_max"] = known ? ordered_json(*std::max_element(values.begin(), values.end())) : ordered_json();
}

void describe_device(ordered_json& report, const std::vector<RunTimes>& runs) {
  std::vector<double> watts, megahertz;
  std::optional<double> most_watts;
  std::optional<std::size_t> most_bytes;
  for (const RunTimes& run : runs) {
    if (run.device.mean_watts) watts.push_back(*run.device.mean_watts);
    if (run.device.mean_megahertz) megahertz.push_back(*run.device.mean_megahertz);
    if (run.device.most_watts) most_watts = std::max(most_watts.value_or(0), *run.device.most_watts);
    if (run.device.most_bytes) most_bytes = std::max(most_bytes.value_or(0), *run.device.most_bytes);
  }
  if (!watts.empty()) report["watts_mean"] = median(watts);
  if (most_watts) report["watts_max"] = *most_watts;
  if (!megahertz.empty()) report["sm_megahertz_mean"] = median(megahertz);
  if (most_bytes) report["device_bytes_all_programs"] = *most_bytes;
}

double number(const ordered_json& value) { return value.get<double>(); }
std::string text(const ordered_json& value) { return value.get<std::string>(); }

// "12.3", or "-" for nothing.
std::string cell(double value, int decimals) { return value > 0 ? fmt::format("{:.{}f}", value, decimals) : "-"; }

// Rates are in TFLOP/s where a part reaches ten of them.
struct RateUnit {
  explicit RateUnit(double largest_gflop) : tera(largest_gflop >= 1e4) {}
  std::string name() const { return tera ? "TFLOP/s" : "GFLOP/s"; }
  std::string cell_of(double gflop) const { return cell(tera ? 1e-3 * gflop : gflop, 1); }

  bool tera;
};

void print_table(const ordered_json& rows, const RateUnit& unit, const std::string& title, bool floor,
                 const std::function<std::string(const ordered_json&)>& name) {
  std::size_t width = title.size();
  for (const ordered_json& row : rows) width = std::max(width, name(row).size());
  fmt::print("{:{}} {:>7} {:>10} {:>12} {:>9} {:>8} {:>17}{}\n", title, width, "calls", "ms/frame", "GFLOP/frame",
             unit.name(), "GB/s", "of measured rate", floor ? "   floor ms   share" : "");
  for (const ordered_json& row : rows) {
    const double share = 100 * number(row["share_of_measured_rate"]);
    fmt::print("{:{}} {:7} {:10.3f} {:>12} {:>9} {:>8} {:>17}", name(row), width, row["calls"].get<std::int64_t>(),
               number(row["ms_per_frame"]), cell(number(row["gflop_per_frame"]), 3),
               unit.cell_of(number(row["gflop_per_s"])), cell(number(row["gb_per_s"]), 0),
               share > 0 ? fmt::format("{:.0f} %", share) : "-");
    if (floor) {
      fmt::print(" {:10.3f} {:5.0f} %", number(row["floor_ms_per_frame"]), 100 * number(row["share_of_floor"]));
    }
    fmt::print("\n");
  }
  fmt::print("\n");
}

std::string spread(const ordered_json& report, const std::string& name) {
  if (report[name].is_null()) return "unknown: more frames are needed";
  const double middle = number(report[name]), least = number(report[name + "_min"]),
               most = number(report[name + "_max"]);
  return least < most ? fmt::format("{:.3f} ({:.3f} to {:.3f})", middle, least, most) : fmt::format("{:.3f}", middle);
}

}  // namespace

ordered_json describe_bench(const BenchSubject& subject, const BenchResult& result, const ops::Operations& operations) {
  const bool floor = has_floor(operations);
  const std::int64_t frames = result.frames;
  ordered_json report;
  report["model"] = subject.model;
  report["device"] = operations.name();
  if (const std::string hardware = operations.hardware().name; !hardware.empty()) report["hardware"] = hardware;
  report["precision"] = operations.compute_type() == DType::bf16 ? "bf16" : "f32";
  report["threads"] = subject.threads;
  report["width"] = subject.output.width;
  report["height"] = subject.output.height;
  report["frames"] = frames;
  report["runs"] = result.runs.size();
  report["linear_gflop_per_s"] = 1e-9 * subject.rates.linear;
  report["convolution_gflop_per_s"] = 1e-9 * subject.rates.convolution;

  std::map<std::string, Sum> parts, networks;
  Sum all;
  ordered_json list = ordered_json::array();
  for (const OperationResult& operation : result.operations) {
    const Sum sum = sum_of(operation, subject.rates);
    if (operation.part == ops::kCopiesPart) {
      report["copies"].push_back(named({{"name", operation.operation}}, describe(sum, frames, floor)));
      continue;
    }
    add(parts[part_of(operation)], sum);
    add(networks[operation.part], sum);
    add(all, sum);
    list.push_back(named({{"part", operation.part}, {"operation", operation.operation}}, describe(sum, frames, floor)));
  }
  for (const std::string& name : kParts) {
    report["parts"].push_back(named({{"name", name}}, describe(parts[name], frames, floor)));
  }
  for (const std::string& name : kNetworks) {
    report["networks"].push_back(named({{"name", name}}, describe(networks[name], frames, floor)));
  }
  report["all_parts"] = describe(all, frames, floor);
  report["operations"] = list;

  std::vector<double> rates, steady, first;
  for (const RunTimes& run : result.runs) {
    rates.push_back(static_cast<double>(frames) / run.seconds);
    first.push_back(run.first_output);
    if (run.steady_fps) steady.push_back(*run.steady_fps);
  }
  describe_spread(report, "fps", rates);
  describe_spread(report, "steady_fps", steady);
  report["first_output_seconds"] = median(first);
  if (floor) {
    const double floor_fps = static_cast<double>(frames) / all.floor_seconds;
    report["floor_fps"] = floor_fps;
    report["fps_share_of_floor"] = median(rates) / floor_fps;
  }
  report["load_seconds"] = subject.load_seconds;
  report["peak_process_bytes"] = result.process_peak_bytes;
  report["peak_backend_bytes"] = result.backend_peak_bytes;
  report["device_bytes"] = result.device_bytes;
  describe_device(report, result.runs);
  for (const RunStage& stage : result.runs.back().stages) {
    report["stages"].push_back({{"frames", stage.frames},
                                {"seconds", stage.seconds},
                                {"process_bytes", stage.process_bytes},
                                {"device_bytes", stage.device_bytes}});
  }
  return report;
}

void print_bench(const ordered_json& report, bool detail) {
  const bool floor = report.contains("floor_fps");
  const RateUnit unit(std::max(number(report["linear_gflop_per_s"]), number(report["convolution_gflop_per_s"])));
  fmt::print("{} on {} in {}, {} threads, {}x{}, {} frames\n", text(report["model"]),
             report.contains("hardware") ? text(report["hardware"]) : text(report["device"]), text(report["precision"]),
             report["threads"].get<int>(), report["width"].get<int>(), report["height"].get<int>(),
             report["frames"].get<std::int64_t>());
  fmt::print("machine: linear {1} {0}, convolution {2} {0}, measured through the same operations\n\n", unit.name(),
             unit.cell_of(number(report["linear_gflop_per_s"])),
             unit.cell_of(number(report["convolution_gflop_per_s"])));

  const auto by_name = [](const ordered_json& row) { return text(row["name"]); };
  ordered_json parts = report["parts"];
  parts.push_back(named({{"name", "sum"}}, report["all_parts"]));
  print_table(parts, unit, "part", floor, by_name);
  print_table(report["networks"], unit, "network", floor, by_name);
  if (report.contains("copies")) print_table(report["copies"], unit, "copies beside it", floor, by_name);
  if (detail) {
    ordered_json operations = report["operations"];
    std::stable_sort(operations.begin(), operations.end(), [](const ordered_json& a, const ordered_json& b) {
      return number(a["ms_per_frame"]) > number(b["ms_per_frame"]);
    });
    print_table(operations, unit, "operation", floor,
                [](const ordered_json& row) { return text(row["part"]) + " " + text(row["operation"]); });
  }

  const auto megabytes = [&report](const char* key) { return fmt::format("{:.0f} MB", number(report[key]) / 1e6); };
  fmt::print("FPS           {}, steady {}\n", spread(report, "fps"), spread(report, "steady_fps"));
  if (floor) {
    fmt::print("floor         {:.1f} FPS, reached {:.0f} %\n", number(report["floor_fps"]),
               100 * number(report["fps_share_of_floor"]));
  }
  fmt::print("first output  {:.2f} s\n", number(report["first_output_seconds"]));
  fmt::print("loading       {:.2f} s\n", number(report["load_seconds"]));
  fmt::print("peak memory   {} process{}, activations and state {}\n", megabytes("peak_process_bytes"),
             number(report["device_bytes"]) > 0 ? "; device: held " + megabytes("device_bytes") : "",
             megabytes("peak_backend_bytes"));
  if (report.contains("device_bytes_all_programs")) {
    fmt::print("device in use {} by all programs\n", megabytes("device_bytes_all_programs"));
  }
  if (report.contains("watts_mean") && report.contains("watts_max")) {
    fmt::print("power         {:.0f} W, at most {:.0f}", number(report["watts_mean"]), number(report["watts_max"]));
    if (report.contains("sm_megahertz_mean")) {
      fmt::print("; multiprocessors at {:.0f} MHz", number(report["sm_megahertz_mean"]));
    }
    fmt::print("\n");
  }
}

}  // namespace flashvsr::cli
