#include "stream/model_search.h"

#include "core/error.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>

namespace flashvsr::stream {
namespace {

namespace fs = std::filesystem;

class ModelSearch : public testing::Test {
 protected:
  ModelSearch() : folder_(fs::path(testing::TempDir()) / ("model_search_" + std::to_string(getpid()))) {
    fs::create_directories(folder_ / "one");
    fs::create_directories(folder_ / "two" / "published");
    std::ofstream(folder_ / "two" / "packed.safetensors") << "x";
    setenv("FLASHVSR_MODEL_PATH", ((folder_ / "one").string() + "::" + (folder_ / "two").string()).c_str(), 1);
  }
  ~ModelSearch() override {
    unsetenv("FLASHVSR_MODEL_PATH");
    fs::remove_all(folder_);
  }

  fs::path folder_;
};

TEST_F(ModelSearch, ListsEachFolderOnceTheUsersFirst) {
  const std::vector<fs::path> folders = model_folders();
  ASSERT_GE(folders.size(), 4u);
  EXPECT_EQ(folders[0], folder_ / "one");
  EXPECT_EQ(folders[1], folder_ / "two");
  for (const fs::path& folder : folders) EXPECT_EQ(std::count(folders.begin(), folders.end(), folder), 1) << folder;
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path();
  const auto has = [&](const fs::path& folder) {
    return std::find(folders.begin(), folders.end(), folder.lexically_normal()) != folders.end();
  };
  EXPECT_TRUE(has(program / "models"));
  EXPECT_TRUE(has(program / "../models"));
  EXPECT_TRUE(has(program / "../share/flashvsr/models"));
}

TEST_F(ModelSearch, FindsFilesAndFolders) {
  EXPECT_EQ(find_model("packed"), folder_ / "two" / "packed.safetensors");
  EXPECT_EQ(find_model("published"), folder_ / "two" / "published");
  const fs::path later = folder_ / "two" / "packed.safetensors", earlier = folder_ / "one" / "packed.safetensors";
  std::ofstream(earlier) << "x";
  EXPECT_EQ(find_model("packed"), earlier);
  EXPECT_EQ(find_model(later.string()), later);
}

TEST_F(ModelSearch, SaysWhereItLooked) {
  for (const std::string name : {"absent", "/absent/path", "absent.safetensors", ""}) {
    try {
      find_model(name);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), name.empty() ? ErrorCode::invalid_argument : ErrorCode::io);
      const std::string message = error.what();
      EXPECT_NE(message.find(name), std::string::npos);
      EXPECT_EQ(message.find((folder_ / "two").string()) != std::string::npos, name == "absent") << message;
    }
  }
}

}  // namespace
}  // namespace flashvsr::stream
