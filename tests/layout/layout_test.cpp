// The layout of the sources: a layer includes only layers below it, files stay short, nothing names a machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// What may be included by the files of a layer besides its own: cli -> stream, media -> models ->
// weights, ops -> core. "flashvsr" is the public API, which stream implements.
const std::map<std::string, std::set<std::string>> kAllowed = {
    {"core", {}},
    {"ops", {"core"}},
    {"weights", {"core"}},
    {"models", {"core", "ops", "weights"}},
    {"stream", {"core", "ops", "weights", "models", "flashvsr"}},
    {"media", {"core", "ops", "weights", "models"}},
    {"cli", {"core", "ops", "weights", "models", "stream", "media", "flashvsr"}},
};
constexpr std::size_t kMostLines = 600;

// The file as the project calls it and its lines.
struct SourceFile {
  std::string name;
  std::vector<std::string> lines;
};

SourceFile read(const fs::path& path, const fs::path& root) {
  SourceFile file{path.lexically_relative(root).generic_string(), {}};
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) file.lines.push_back(line);
  return file;
}

bool is_code(const fs::path& path) {
  static const std::set<std::string> extensions = {".cpp", ".h", ".hpp", ".c", ".cu", ".cuh"};
  return extensions.contains(path.extension().string());
}

bool is_text(const fs::path& path) {
  static const std::set<std::string> extensions = {".txt", ".cmake", ".in", ".json", ".md", ""};
  return is_code(path) || extensions.contains(path.extension().string());
}

// Files of the project, without what git ignores: build folders, outputs, hidden folders other than .ci.
std::vector<SourceFile> project_files(bool (*wanted)(const fs::path&)) {
  const fs::path root = FLASHVSR_SOURCE_DIR;
  std::vector<SourceFile> files;
  for (const char* top : {"src", "include", "tests", "bench", "examples", "tools", "cmake", "scripts", "docs",
                          "samples", "models", ".ci"}) {
    if (!fs::exists(root / top)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      if (entry.is_regular_file() && wanted(entry.path())) files.push_back(read(entry.path(), root));
    }
  }
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_regular_file() && wanted(entry.path())) files.push_back(read(entry.path(), root));
  }
  return files;
}

// "stream/stream.h" -> "stream" for quoted and angled includes of the project.
std::optional<std::string> included_layer(const std::string& line) {
  static const std::regex pattern(R"(^\s*#\s*include\s*["<]([a-z_]+)/[^">]*[">].*)");
  std::smatch match;
  if (!std::regex_match(line, match, pattern)) return std::nullopt;
  const std::string layer = match[1];
  if (!kAllowed.contains(layer) && layer != "flashvsr") return std::nullopt;
  return layer;
}

std::vector<std::string> upward_includes(const SourceFile& file) {
  std::vector<std::string> found;
  const fs::path path = file.name;
  const auto part = path.begin();
  if (*part != "src") return found;
  const std::string layer = std::next(part)->string();
  if (!kAllowed.contains(layer)) return {file.name + ": src/" + layer + " is no known layer"};
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::optional<std::string> included = included_layer(file.lines[i]);
    if (included && *included != layer && !kAllowed.at(layer).contains(*included)) {
      found.push_back(file.name + ":" + std::to_string(i + 1) + ": " + layer + " may not include " + *included);
    }
    if (file.lines[i].find("#include \"..") != std::string::npos) {
      found.push_back(file.name + ":" + std::to_string(i + 1) + ": includes start at src/");
    }
  }
  return found;
}

std::vector<std::string> lines_matching(const SourceFile& file, const std::regex& pattern) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    if (std::regex_search(file.lines[i], pattern)) {
      found.push_back(file.name + ":" + std::to_string(i + 1) + ": " + file.lines[i]);
    }
  }
  return found;
}

// Patterns are put together from parts so that this file does not match them.
const std::regex& machine_path() {
  static const std::regex pattern(std::string("(^|[^A-Za-z0-9_.$}])/(wo") + "rk|ho" + "me|ro" + "ot|Us" + "ers)/");
  return pattern;
}

const std::regex& unfinished_mark() {
  static const std::regex pattern(std::string("\\b(TO") + "DO|FIX" + "ME|XX" + "X)\\b|not imple" + "mented");
  return pattern;
}

std::string joined(const std::vector<std::string>& lines) {
  std::ostringstream text;
  for (const std::string& line : lines) text << line << "\n";
  return text.str();
}

TEST(Layout, IncludesPointDownwards) {
  std::vector<std::string> found;
  std::size_t files = 0;
  for (const SourceFile& file : project_files(is_code)) {
    ++files;
    for (const std::string& line : upward_includes(file)) found.push_back(line);
  }
  EXPECT_GT(files, 20u) << "the sources were not found";
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(Layout, AnUpwardIncludeIsSeen) {
  const SourceFile upward{"src/ops/linear.cpp", {"#include \"ops/types.h\"", "#include \"models/dit.h\""}};
  const std::vector<std::string> expected = {"src/ops/linear.cpp:2: ops may not include models"};
  EXPECT_EQ(upward_includes(upward), expected);
  const SourceFile sideways{"src/media/video.h", {"# include <stream/stream.h>  // angled, spaced"}};
  EXPECT_EQ(upward_includes(sideways).size(), 1u);
  const SourceFile relative{"src/cli/main.cpp", {"#include \"../stream/stream.h\""}};
  EXPECT_EQ(upward_includes(relative).size(), 1u);
  const SourceFile unknown{"src/utilities/misc.cpp", {}};
  EXPECT_EQ(upward_includes(unknown).size(), 1u);
  const SourceFile downward{"src/models/dit.cpp", {"#include \"core/tensor.h\"", "#include <sys/stat.h>"}};
  EXPECT_TRUE(upward_includes(downward).empty());
}

TEST(Layout, FilesStayShort) {
  std::vector<std::string> found;
  for (const SourceFile& file : project_files(is_code)) {
    if (file.lines.size() > kMostLines)
      found.push_back(file.name + ": " + std::to_string(file.lines.size()) + " lines");
  }
  EXPECT_TRUE(found.empty()) << "more than " << kMostLines << " lines; split by purpose:\n" << joined(found);
}

TEST(Layout, NothingNamesAMachineOrIsUnfinished) {
  std::vector<std::string> found;
  for (const SourceFile& file : project_files(is_text)) {
    for (const std::string& line : lines_matching(file, machine_path())) found.push_back(line);
    if (!is_code(file.name)) continue;
    for (const std::string& line : lines_matching(file, unfinished_mark())) found.push_back(line);
  }
  EXPECT_TRUE(found.empty()) << joined(found);
}

TEST(Layout, AMachinePathIsSeen) {
  const std::string folder = std::string("/ho") + "me/someone/data";
  EXPECT_EQ(lines_matching({"a.cpp", {"open(\"" + folder + "\")"}}, machine_path()).size(), 1u);
  EXPECT_EQ(lines_matching({"a.cpp", {folder}}, machine_path()).size(), 1u);
  EXPECT_TRUE(
      lines_matching({"a.cpp", {"https://example.org" + folder.substr(5), "\"/proc/self/exe\""}}, machine_path())
          .empty());
  EXPECT_EQ(lines_matching({"a.cpp", {std::string("// TO") + "DO: later"}}, unfinished_mark()).size(), 1u);
}

TEST(Layout, EveryHeaderIsGuarded) {
  std::vector<std::string> found;
  for (const SourceFile& file : project_files(is_code)) {
    const std::string extension = fs::path(file.name).extension().string();
    if (extension != ".h" && extension != ".hpp" && extension != ".cuh") continue;
    const bool guarded = std::any_of(file.lines.begin(), file.lines.end(), [](const std::string& line) {
      return line == "#pragma once" || line.starts_with("#ifndef FLASHVSR_");
    });
    if (!guarded) found.push_back(file.name);
  }
  EXPECT_TRUE(found.empty()) << joined(found);
}

}  // namespace
