#include "ops/cuda_loader.h"

#include <dlfcn.h>

#include <algorithm>

namespace flashvsr::ops {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDriver = "libcuda.so.1";

// The shared library that holds this code, or the program: its name alone is not enough, as the program may have been
// found through PATH.
std::vector<fs::path> own_files() {
  std::vector<fs::path> files;
  Dl_info info{};
  static const int anchor = 0;
  if (dladdr(&anchor, &info) != 0 && info.dli_fname != nullptr && fs::path(info.dli_fname).has_parent_path()) {
    files.emplace_back(info.dli_fname);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) files.push_back(program);
  return files;
}

std::string loader_message() {
  const char* message = dlerror();
  return message != nullptr ? message : "unknown reason";
}

// The first place that is there; else the one that is left to the system.
fs::path found_among(const std::vector<fs::path>& places) {
  for (const fs::path& place : places) {
    std::error_code error;
    if (!place.has_parent_path() || fs::exists(place, error)) return place;
  }
  return {};
}

[[noreturn]] void fail_without_library(const std::vector<fs::path>& places) {
  std::vector<std::string> folders;
  for (const fs::path& place : places) {
    folders.push_back(place.has_parent_path() ? place.parent_path().string() : "the system's library folders");
  }
  fail(ErrorCode::device,
       "the CUDA back end is not here: there is no {} in {}: install it, build with -DFLASHVSR_CUDA=ON, or use the "
       "device cpu",
       kCudaPluginFile, fmt::join(folders, ", "));
}

}  // namespace

std::vector<fs::path> cuda_library_places() {
  std::vector<fs::path> places;
  const auto add = [&places](const fs::path& folder) {
    fs::path place = (folder / kCudaPluginFile).lexically_normal();
    if (std::ranges::find(places, place) == places.end()) places.push_back(std::move(place));
  };
  for (const fs::path& file : own_files()) {
    std::error_code error;
    const fs::path real = fs::weakly_canonical(file, error);
    if (error) continue;
    add(real.parent_path());
    add(real.parent_path() / "../lib");
    add(real.parent_path() / ".." / FLASHVSR_LIBRARY_DIR);
  }
  places.emplace_back(kCudaPluginFile);
  return places;
}

const CudaPlugin& load_cuda_library(const std::vector<fs::path>& places) {
  const fs::path file = found_among(places);
  if (file.empty()) fail_without_library(places);
  // Never closed again: tensors and exceptions may refer to it until the end.
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const std::string message = loader_message();
    // The system has not found the library itself, rather than one that it needs.
    if (!file.has_parent_path() && message.starts_with(file.string() + ":")) fail_without_library(places);
    fail(ErrorCode::device,
         "{} cannot be loaded: {}: install CUDA's libraries, name their folder in LD_LIBRARY_PATH, or use the device "
         "cpu",
         file.string(), message);
  }
  void* symbol = dlsym(library, kCudaPluginEntry);
  if (symbol == nullptr) fail(ErrorCode::device, "{} is not FlashVSR's: {}", file.string(), loader_message());
  const CudaPlugin* plugin = reinterpret_cast<const CudaPlugin* (*)()>(symbol)();
  if (std::string(plugin->version) != kCudaPluginVersion) {
    fail(ErrorCode::device, "{} has version {}, this program needs {}: install both from one build", file.string(),
         plugin->version, kCudaPluginVersion);
  }
  return *plugin;
}

void require_cuda_driver() {
  if (dlopen(kDriver, RTLD_NOW | RTLD_LOCAL) == nullptr) {
    fail(ErrorCode::device, "there is no NVIDIA driver here ({}): install one, or use the device cpu",
         loader_message());
  }
}

const CudaPlugin& cuda_library() {
  static const CudaPlugin& plugin = []() -> const CudaPlugin& {
    const std::vector<fs::path> places = cuda_library_places();
    // Without a driver, CUDA's libraries are not worth the second that loading them takes; but whoever has no back end
    // either is told that first.
    if (FLASHVSR_BUILT_WITH_CUDA || found_among(places).has_parent_path()) require_cuda_driver();
    const CudaPlugin& loaded = load_cuda_library(places);
    require_cuda_driver();
    return loaded;
  }();
  return plugin;
}

const std::string& cuda_unavailable_reason() {
  static const std::string reason = []() -> std::string {
    try {
      cuda_library().require_device(0);
      return {};
    } catch (const Error& error) {
      if (error.code() != ErrorCode::device) throw;
      return error.what();
    }
  }();
  return reason;
}

}  // namespace flashvsr::ops
