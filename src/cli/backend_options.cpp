#include "cli/backend_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace flashvsr::cli {

std::optional<DeviceChoice> parse_device(const std::string& text) {
  constexpr std::string_view kNumbered = "cuda:";
  for (const char* name : {"auto", "cpu", "cuda", "cpu-reference"}) {
    if (text == name) return DeviceChoice{.name = text};
  }
  if (!text.starts_with(kNumbered)) return std::nullopt;
  DeviceChoice choice{.name = "cuda"};
  const char* end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data() + kNumbered.size(), end, choice.index);
  if (error != std::errc() || read != end || choice.index < 0) return std::nullopt;
  return choice;
}

void add_device_option(CLI::App& command, std::string& device, const std::vector<std::string>& names,
                       const std::string& description) {
  const auto check = [names](const std::string& text) {
    const std::optional<DeviceChoice> choice = parse_device(text);
    return choice && std::ranges::find(names, choice->name) != names.end()
               ? std::string()
               : fmt::format("must be {} or cuda:NUMBER", fmt::join(names, ", "));
  };
  command.add_option("--device", device, description + "; cuda:1 is the second CUDA device")
      ->check(CLI::Validator(check, fmt::format("{}|cuda:N", fmt::join(names, "|")), "device"))
      ->capture_default_str();
}

ops::BackendSettings BackendOptions::settings() const {
  ops::BackendSettings settings;
  const DeviceChoice choice = *parse_device(device);
  if (choice.name == "cpu") settings.device = ops::Device::cpu;
  if (choice.name == "cpu-reference") settings.device = ops::Device::cpu_reference;
  if (choice.name == "cuda") settings.device = ops::Device::cuda;
  settings.device_index = choice.index;
  if (precision == "f32") settings.precision = ops::Precision::f32;
  if (precision == "bf16") settings.precision = ops::Precision::bf16;
  settings.threads = threads;
  settings.memory_limit = memory_limit_bytes(memory_limit);
  return settings;
}

void add_memory_limit_option(CLI::App& command, double& gigabytes) {
  command
      .add_option("--memory-limit", gigabytes,
                  "GB of the device's memory (the CPU: of the machine's) to plan for. Where it is not enough, the "
                  "decoder works in smaller slices; on a device a part of the KV cache lies in the host's memory; and "
                  "at last frames are cut into tiles")
      ->check(CLI::Range(0.001, 1e6))
      ->default_str("all");
}

CLI::Option* add_tiles_option(CLI::App& command, std::string& tiles) {
  const auto check = [](const std::string& text) {
    return text == "auto" || text == "off" || parse_size(text) ? "" : "must be auto, off, or COLUMNSxROWS";
  };
  return command
      .add_option("--tiles", tiles,
                  "Cut frames into tiles, which costs quality at their borders. auto: as few as memory makes "
                  "necessary; off: rather fail; CxR: so many columns and rows")
      ->check(CLI::Validator(check, "auto|off|CxR", "tiles"))
      ->capture_default_str();
}

std::optional<Size> tiles_of(const std::string& option) {
  if (option == "auto") return std::nullopt;
  return parse_size(option).value_or(Size{1, 1});
}

std::size_t memory_limit_bytes(double gigabytes) { return static_cast<std::size_t>(gigabytes * 1e9); }

void add_backend_options(CLI::App& command, BackendOptions& options, const std::vector<std::string>& precisions) {
  options.precision = precisions.front();
  add_device_option(command, options.device, {"auto", "cpu", "cuda", "cpu-reference"},
                    "Where to compute; cpu-reference is the plain code without libraries");
  command.add_option("--precision", options.precision, "Arithmetic of the networks")
      ->check(CLI::IsMember(precisions))
      ->capture_default_str();
  command.add_option("--threads", options.threads, "Threads; 0: one for every core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  add_memory_limit_option(command, options.memory_limit);
}

void add_variant_option(CLI::App& command, std::string& variant) {
  command.add_option("--variant", variant, "Which published model the files are; packed files say it")
      ->check(CLI::IsMember({"v1", "v1.1"}));
}

std::optional<weights::Variant> variant_of(const std::string& option) { return weights::parse_variant(option); }

}  // namespace flashvsr::cli
