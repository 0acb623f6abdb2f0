#include "cli/build_info.h"

#include "core/error.h"
#include "core/threads.h"
#include "flashvsr/flashvsr.h"
#include "ops/backend.h"
#include "ops/cuda_loader.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

#if defined(__clang__)
constexpr const char* kCompiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "GCC " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

ordered_json describe_cpu() {
  const auto operations = ops::make_backend({.device = ops::Device::cpu});
  const bool bf16 = operations->compute_type() == DType::bf16;
  return {{"name", "cpu"}, {"available", true}, {"precision", bf16 ? "bf16" : "f32"}};
}

ordered_json describe_cuda() {
  try {
    const std::string& reason = ops::cuda_unavailable_reason();
    if (!reason.empty()) return {{"name", "cuda"}, {"available", false}, {"reason", reason}};
    return {{"name", "cuda"}, {"available", true}, {"precision", "bf16"}, {"hardware", ops::cuda_library().describe()}};
  } catch (const Error& error) {
    return {{"name", "cuda"}, {"available", false}, {"reason", error.what()}};
  }
}

// "80,90a" -> ["80", "90a"]
std::vector<std::string> split(const std::string& text) {
  std::istringstream parts(text);
  std::vector<std::string> list;
  for (std::string part; std::getline(parts, part, ',');) list.push_back(part);
  return list;
}

}  // namespace

std::vector<std::string> processor_features() {
  // The kernel's list and not cpuid: it leaves out what the system has switched off.
  constexpr const char* kRelevant[] = {"sse4_2",   "avx2",        "fma",         "f16c",     "avx512f",
                                       "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile",
                                       "asimd",    "bf16",        "sve"};
  std::ifstream file("/proc/cpuinfo");
  std::vector<std::string> features;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) {
      if (std::find(std::begin(kRelevant), std::end(kRelevant), word) != std::end(kRelevant)) features.push_back(word);
    }
    break;
  }
  return features;
}

ordered_json build_information() {
  ordered_json report;
  report["version"] = flashvsr_version();
  report["build"] = {{"compiler", kCompiler},
                     {"type", FLASHVSR_BUILD_TYPE},
                     {"onednn", FLASHVSR_HAS_ONEDNN != 0},
                     {"ffmpeg", FLASHVSR_HAS_FFMPEG != 0},
                     {"cuda", FLASHVSR_HAS_CUDA != 0},
                     {"cuda_architectures", split(FLASHVSR_CUDA_ARCHITECTURES)}};
  report["processor"] = {{"threads", available_threads()}, {"features", processor_features()}};
  report["devices"] = {describe_cpu(), describe_cuda()};
  return report;
}

}  // namespace flashvsr::cli
