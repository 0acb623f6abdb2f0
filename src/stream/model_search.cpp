#include "stream/model_search.h"

#include "core/error.h"
#include "weights/model_files.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

namespace flashvsr::stream {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPackedSuffix = ".safetensors";

// The file that holds this code: the shared library, or the program it was linked into.
fs::path own_file() {
  Dl_info info{};
  static const int anchor = 0;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return {};
  return info.dli_fname;
}

void add_beside(std::vector<fs::path>& folders, const fs::path& file) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(file, error);
  if (error || !real.has_parent_path()) return;
  const fs::path folder = real.parent_path();
  // ../../share: libraries of multi-architecture systems lie one folder deeper.
  for (const char* relative : {"../share/flashvsr/models", "../../share/flashvsr/models", "models", "../models"}) {
    folders.push_back((folder / relative).lexically_normal());
  }
}

bool is_path(const std::string& name) {
  return name.find('/') != std::string::npos || name == "." || name == ".." || name.ends_with(kPackedSuffix);
}

// "nano" of nano.safetensors and of the folder nano.
std::string name_of_model(const fs::path& path) {
  return path.extension() == kPackedSuffix ? path.stem().string() : path.filename().string();
}

}  // namespace

std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const char* variable = std::getenv("FLASHVSR_MODEL_PATH")) {
    std::istringstream list(variable);
    for (std::string folder; std::getline(list, folder, ':');) {
      if (!folder.empty()) folders.emplace_back(folder);
    }
  }
  add_beside(folders, own_file());
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) add_beside(folders, program);
  folders.emplace_back(FLASHVSR_MODEL_INSTALL_DIR);

  std::vector<fs::path> unique;
  for (fs::path& folder : folders) {
    if (std::find(unique.begin(), unique.end(), folder) == unique.end()) unique.push_back(std::move(folder));
  }
  return unique;
}

std::vector<fs::path> installed_models() {
  std::map<std::string, fs::path> by_name;
  for (const fs::path& folder : model_folders()) {
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      const fs::path& path = entry->path();
      std::error_code ignored;  // what cannot be looked at is no model
      const bool packed = path.extension() == kPackedSuffix && fs::is_regular_file(path, ignored);
      const bool published = fs::is_regular_file(path / weights::kDitFile, ignored);
      if (packed || published) by_name.emplace(name_of_model(path), path);
    }
  }
  std::vector<fs::path> models;
  for (auto& [name, path] : by_name) models.push_back(std::move(path));
  return models;
}

fs::path find_model(const std::string& name) {
  if (name.empty()) fail(ErrorCode::invalid_argument, "the model's name is empty: give a name, a file or a folder");
  std::error_code error;
  if (is_path(name)) {
    if (fs::exists(name, error)) return name;
    fail(ErrorCode::io, "model {}: no such file or folder: check the path", name);
  }
  const std::vector<fs::path> folders = model_folders();
  for (const fs::path& folder : folders) {
    const fs::path packed = folder / (name + kPackedSuffix), published = folder / name;
    if (fs::is_regular_file(packed, error)) return packed;
    if (fs::is_directory(published, error)) return published;
  }
  if (fs::exists(name, error)) return name;
  std::vector<std::string> looked, installed;
  for (const fs::path& folder : folders) looked.push_back(folder.string());
  for (const fs::path& model : installed_models()) installed.push_back(name_of_model(model));
  fail(ErrorCode::io,
       "model \"{0}\" is not installed (installed: {3}): no {0}{1} in {2}: put it there, set FLASHVSR_MODEL_PATH, or "
       "give a path",
       name, kPackedSuffix, fmt::join(looked, ", "),
       installed.empty() ? "none" : fmt::format("{}", fmt::join(installed, ", ")));
}

}  // namespace flashvsr::stream
