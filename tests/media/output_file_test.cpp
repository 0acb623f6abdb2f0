// Outputs appear complete or not at all, and nothing is lost by them.
#include "media/output_file.h"
#include "media/media.h"
#include "media/natural_order.h"
#include "media/orientation.h"
#include "support.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

namespace flashvsr::media::test {
namespace {

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  {
    OutputFile file(folder / "a.mp4", "", false);
    file.write("abc", 3);
    EXPECT_FALSE(exists(folder / "a.mp4"));
    ASSERT_EQ(folder.entries().size(), 1U);
    EXPECT_TRUE(folder.entries()[0].starts_with(".a.mp4.flashvsr-")) << folder.entries()[0];
    EXPECT_TRUE(folder.entries()[0].ends_with(".tmp.mp4")) << folder.entries()[0];
    file.commit();
  }
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a.mp4"});
  EXPECT_EQ(read_text(folder / "a.mp4"), "abc");
}

TEST(OutputFile, IsRemovedWithoutCommit) {
  const TemporaryFolder folder;
  { OutputFile(folder / "a", "", false).write("abc", 3); }
  EXPECT_TRUE(folder.entries().empty());
}

TEST(OutputFile, ReplacesOnlyWhenTold) {
  const TemporaryFolder folder;
  write_text(folder / "a", "old");
  EXPECT_NE(error_of([&] { OutputFile(folder / "a", "", false); }).find("--overwrite"), std::string::npos);
  { OutputFile(folder / "a", "", true).write("new", 3); }
  EXPECT_EQ(read_text(folder / "a"), "old");
  OutputFile file(folder / "a", "", true);
  file.write("new", 3);
  file.commit();
  EXPECT_EQ(read_text(folder / "a"), "new");
  EXPECT_EQ(folder.entries().size(), 1U);
}

TEST(OutputFile, DoesNotReplaceWhatAppearedMeanwhile) {
  const TemporaryFolder folder;
  {
    OutputFile file(folder / "a", "", false);
    file.write("new", 3);
    write_text(folder / "a", "other");
    EXPECT_NE(error_of([&] { file.commit(); }).find("exists"), std::string::npos);
  }
  EXPECT_EQ(read_text(folder / "a"), "other");
  EXPECT_EQ(folder.entries().size(), 1U);
}

TEST(OutputFile, NeverTakesTheInput) {
  const TemporaryFolder folder;
  write_text(folder / "a", "input");
  std::filesystem::create_symlink(folder / "a", folder / "link");
  std::filesystem::create_hard_link(folder / "a", folder / "hard");
  for (const char* name : {"a", "link", "hard", "./a"})
    EXPECT_NE(error_of([&] { OutputFile(folder / name, folder / "a", true); }).find("is the input"), std::string::npos);
  EXPECT_EQ(read_text(folder / "a"), "input");
}

TEST(OutputFile, WritesThroughLinksAndToDevices) {
  const TemporaryFolder folder;
  write_text(folder / "target", "old");
  std::filesystem::create_symlink("target", folder / "link");
  OutputFile file(folder / "link", "", true);
  file.write("new", 3);
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_text(folder / "target"), "new");

  OutputFile device("/dev/null", "", false);
  device.write("abc", 3);
  device.commit();
  OutputFile full("/dev/full", "", false);
  EXPECT_EQ(error_of([&] { full.write("abc", 3); }), "/dev/full: cannot be written: the disk is full");
}

TEST(OutputFile, BadPlacesAreNamed) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { OutputFile(folder / "no/a", "", false); }).find("no such file or folder"),
            std::string::npos);
  EXPECT_NE(error_of([&] { OutputFile(folder.path(), "", false); }).find("folder"), std::string::npos);
  EXPECT_NE(error_of([&] { OutputFile(folder / std::string(300, 'x'), "", false); }).find("cannot be written"),
            std::string::npos);
  if (geteuid() != 0) {  // root may write anywhere
    chmod(folder.path().c_str(), 0500);
    EXPECT_NE(error_of([&] { OutputFile(folder / "a", "", false); }).find("permission denied"), std::string::npos);
    chmod(folder.path().c_str(), 0700);
  }
}

TEST(OutputFile, LongNamesWork) {
  const TemporaryFolder folder;
  const std::string name = std::string(245, 'n') + ".mp4";
  OutputFile file(folder / name, "", false);
  file.commit();
  EXPECT_EQ(folder.entries(), std::vector<std::string>{name});
}

TEST(OutputFolder, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  {
    OutputFolder frames(folder / "frames/", "", false);
    frames.write_image("1", 1);
    frames.write_image("2", 1);
    EXPECT_FALSE(exists(folder / "frames"));
    frames.commit();
  }
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"frames"});
  EXPECT_EQ(read_text(folder / "frames/000002.png"), "2");
  { OutputFolder(folder / "other", "", false).write_image("1", 1); }
  EXPECT_EQ(folder.entries().size(), 1U);
}

TEST(OutputFolder, ReplacesNumberedImagesOnly) {
  const TemporaryFolder folder;
  const auto write = [&](bool overwrite, int images) {
    OutputFolder frames(folder / "frames", "", overwrite);
    for (int i = 0; i < images; ++i) frames.write_image("x", 1);
    frames.commit();
  };
  std::filesystem::create_directory(folder / "frames");
  write(false, 3);  // an empty folder is as good as none
  EXPECT_NE(error_of([&] { write(false, 2); }).find("--overwrite"), std::string::npos);
  write(true, 2);
  EXPECT_TRUE(exists(folder / "frames/000002.png"));
  EXPECT_FALSE(exists(folder / "frames/000003.png"));
  write_text(folder / "frames/thesis.doc", "x");
  EXPECT_NE(error_of([&] { write(true, 1); }).find("thesis.doc"), std::string::npos);
  EXPECT_TRUE(exists(folder / "frames/000002.png"));
  EXPECT_EQ(folder.entries().size(), 1U);
}

TEST(Unfinished, AreRemovedAtOnce) {
  const TemporaryFolder folder;
  OutputFile file(folder / "a", "", false);
  OutputFolder frames(folder / "b", "", false);
  frames.write_image("1", 1);
  frames.write_image("2", 1);
  OutputFile kept(folder / "c", "", false);
  kept.commit();
  EXPECT_EQ(folder.entries().size(), 3U);
  remove_unfinished_outputs();
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"c"});
}

TEST(NaturalOrder, CountsAsPeopleDo) {
  std::vector<std::string> names = {"a10.png",
                                    "a9.png",
                                    "a09.png",
                                    "a1.png",
                                    "b1",
                                    "a",
                                    "A2",
                                    "a1b",
                                    "a99999999999999999999999",
                                    "a100000000000000000000000"};
  std::sort(names.begin(), names.end(), natural_less);
  EXPECT_EQ(names, (std::vector<std::string>{"A2", "a", "a1.png", "a1b", "a09.png", "a9.png", "a10.png",
                                             "a99999999999999999999999", "a100000000000000000000000", "b1"}));
}

// A picture of 3 x 2 pixels, numbered in rows from 0.
TEST(Orientation, ExifTagsTurnAsTheStandardSays) {
  std::vector<std::uint8_t> stored;
  for (std::size_t i = 0; i < 18; ++i) stored.push_back(static_cast<std::uint8_t>(i / 3));
  // Where the numbers lie when shown, for tags 1 to 8.
  const std::vector<std::vector<int>> shown = {{0, 1, 2, 3, 4, 5}, {2, 1, 0, 5, 4, 3}, {5, 4, 3, 2, 1, 0},
                                               {3, 4, 5, 0, 1, 2}, {0, 3, 1, 4, 2, 5}, {3, 0, 4, 1, 5, 2},
                                               {5, 2, 4, 1, 3, 0}, {2, 5, 1, 4, 0, 3}};
  const std::vector<int> rotations = {0, 0, 180, 180, 270, 90, 90, 270};
  for (int tag = 1; tag <= 8; ++tag) {
    const Orientation orientation = orientation_of_exif(tag);
    std::vector<std::uint8_t> result(stored.size());
    orient(orientation, stored.data(), 9, 3, 2, result.data());
    const auto index = static_cast<std::size_t>(tag - 1);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(result[3 * i], shown[index][i]) << "tag " << tag;
    EXPECT_EQ(orientation.rotation(), rotations[index]) << "tag " << tag;
    EXPECT_EQ(orientation.mirrored(), tag == 2 || tag == 4 || tag == 5 || tag == 7);
  }
}

TEST(Orientation, ObliqueMatricesAreNotExact) {
  bool exact = false;
  const std::int32_t one = 65536;
  const std::array<std::int32_t, 9> quarter = {0, one, 0, -one, 0, 0, 0, 0, 1 << 30};
  EXPECT_EQ(orientation_of_matrix(quarter, exact).rotation(), 90);
  EXPECT_TRUE(exact);
  const std::array<std::int32_t, 9> oblique = {one, 30000, 0, -30000, one, 0, 0, 0, 1 << 30};
  EXPECT_EQ(orientation_of_matrix(oblique, exact).rotation(), 0);
  EXPECT_FALSE(exact);
}

}  // namespace
}  // namespace flashvsr::media::test
