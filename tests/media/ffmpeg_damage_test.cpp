// What is not, or not wholly, a video.
#include "core/error.h"
#include "support.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>

namespace flashvsr::media::test {
namespace {

std::string open_error(const std::string& path) {
  return error_of([&] { open_source(path); });
}

TEST(Damage, WhatIsNoVideoIsOneLine) {
  const TemporaryFolder folder;
  write_text(folder / "empty.mp4", "");
  write_text(folder / "text.mp4", "This is not a video.\nReally.\n");
  std::string garbage;
  std::uint32_t state = 1;
  for (int i = 0; i < 100000; ++i) garbage.push_back(static_cast<char>((state = state * 1664525 + 1013904223) >> 24));
  write_text(folder / "garbage.mp4", garbage);
  write_text(folder / "garbage.png", "\x89PNG\r\n\x1a\n" + garbage);
  write_text(folder / "garbage.jpg", "\xff\xd8\xff" + garbage);
  ffmpeg("-f lavfi -i sine=440 -t 0.5 '" + folder / "sound.m4a'");
  std::filesystem::create_directory(folder / "folder");
  EXPECT_NE(open_error(folder / "missing.mp4").find("no such file"), std::string::npos);
  EXPECT_NE(open_error(folder / "empty.mp4").find("is empty"), std::string::npos);
  EXPECT_NE(open_error(folder / "text.mp4").find("text.mp4"), std::string::npos);
  EXPECT_NE(open_error(folder / "garbage.mp4").find("garbage.mp4"), std::string::npos);
  EXPECT_NE(open_error(folder / "garbage.png").find("garbage.png"), std::string::npos);
  EXPECT_NE(open_error(folder / "garbage.jpg").find("garbage.jpg"), std::string::npos);
  EXPECT_NE(open_error(folder / "sound.m4a").find("holds no video"), std::string::npos);
  EXPECT_NE(open_error(folder / "folder").find("no images"), std::string::npos);
}

TEST(Damage, CoverArtIsNoVideo) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x64 -frames:v 1 '" + folder / "cover.png'");
  ffmpeg("-f lavfi -i sine=440 -i '" +
         folder / "cover.png' -map 0 -map 1 -t 0.5 -c:v copy -disposition:v attached_pic '" + folder / "song.mp3'");
  EXPECT_NE(open_error(folder / "song.mp3").find("only cover art"), std::string::npos)
      << open_error(folder / "song.mp3");
}

TEST(Damage, HugeSizesAreRefused) {
  const TemporaryFolder folder;
  // An AVI header holds the size in plain numbers.
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=5 -frames:v 2 -c:v rawvideo -pix_fmt bgr24 '" + folder / "in.avi'");
  std::string avi = read_text(folder / "in.avi");
  const std::size_t format = avi.find("strf");
  ASSERT_NE(format, std::string::npos);
  for (std::size_t i = 0; i < 8; i += 4) {
    avi[format + 12 + i] = static_cast<char>(0xA0), avi[format + 13 + i] = static_cast<char>(0x86);  // 100000
    avi[format + 14 + i] = 1, avi[format + 15 + i] = 0;
  }
  write_text(folder / "huge.avi", avi);
  EXPECT_NE(open_error(folder / "huge.avi").find("100000x100000"), std::string::npos)
      << open_error(folder / "huge.avi");

  ffmpeg("-f lavfi -i testsrc2=size=64x48 -frames:v 1 '" + folder / "in.png'");
  std::string png = read_text(folder / "in.png");
  for (std::size_t i = 16; i < 24; i += 4)
    png[i] = 0, png[i + 1] = 1, png[i + 2] = static_cast<char>(0x86), png[i + 3] = static_cast<char>(0xA0);
  write_text(folder / "huge.png", png);
  EXPECT_NE(open_error(folder / "huge.png"), "");
}

TEST(Damage, ZeroSizesAreRefused) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=5 -frames:v 2 -c:v rawvideo -pix_fmt bgr24 '" + folder / "in.avi'");
  std::string avi = read_text(folder / "in.avi");
  const std::size_t format = avi.find("strf");
  for (std::size_t i = 12; i < 20; ++i) avi[format + i] = 0;
  write_text(folder / "zero.avi", avi);
  EXPECT_NE(open_error(folder / "zero.avi"), "");
}

TEST(Damage, WhatIsThereOfACutFileIsRead) {
  const TemporaryFolder folder;
  const std::string make = "-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 100 -c:v libx264 -g 10 ";
  ffmpeg(make + "-movflags +faststart '" + folder / "whole.mp4'");
  ffmpeg(make + "'" + folder / "whole.mkv'");
  ffmpeg(make + "'" + folder / "late.mp4'");
  for (const char* name : {"whole.mp4", "whole.mkv"}) {
    SCOPED_TRACE(name);
    const std::string whole = read_text(folder / name);
    const std::string cut = folder / (std::string("cut-") + name);
    write_text(cut, whole.substr(0, whole.size() * 2 / 3));
    const Video video = read_video(cut);
    EXPECT_GT(video.frames.size(), 20U);
    EXPECT_LT(video.frames.size(), 90U);
    EXPECT_TRUE(any_contains(video.notes, fmt::format("{} frames could be decoded of about 100", video.frames.size())))
        << fmt::format("{}", fmt::join(video.notes, "|"));
    const Video intact = read_video(folder / name);
    EXPECT_FALSE(any_contains(intact.notes, "damaged"));
  }
  // The index of this one is at the end.
  const std::string late = read_text(folder / "late.mp4");
  write_text(folder / "cut.mp4", late.substr(0, late.size() / 2));
  EXPECT_NE(open_error(folder / "cut.mp4").find("moov atom not found"), std::string::npos)
      << open_error(folder / "cut.mp4");
}

TEST(Damage, FlippedBytesNeverCrash) {
  const TemporaryFolder folder;
  struct Case {
    const char *name, *options;
  };
  for (const Case& c :
       {Case{"a.mp4", "-c:v libx264 -g 5 -movflags +faststart"}, Case{"a.mkv", "-c:v libvpx-vp9 -cpu-used 8"},
        Case{"a.avi", "-c:v mpeg4"}, Case{"a.png", ""}, Case{"a.jpg", ""}}) {
    const bool image = std::string(c.options).empty();
    ffmpeg(fmt::format("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v {} {} '{}'", image ? 1 : 15, c.options,
                       folder / c.name));
    const std::string whole = read_text(folder / c.name);
    std::uint32_t state = 7;
    for (int round = 0; round < 25; ++round) {
      std::string damaged = whole;
      for (int i = 0; i < 20; ++i) {
        state = state * 1664525 + 1013904223;
        damaged[state % damaged.size()] = static_cast<char>(state >> 24);
      }
      const std::string path = folder / ("damaged" + std::string(c.name).substr(1));
      write_text(path, damaged);
      std::size_t frames = 0;
      const std::string message = error_of([&] { frames = read_video(path).frames.size(); });
      EXPECT_TRUE(frames > 0 || !message.empty());
    }
  }
}

TEST(Damage, WithoutFinishNothingIsLeft) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(64, 48);
  for (const char* name : {"a.mp4", "a.mkv", "a.y4m", "frames/"}) {
    {
      const auto sink = open_sink(folder / name, source, same_size(source));
      sink->write(gradient(64, 48, 0));
      EXPECT_EQ(folder.entries().size(), 1U);
      EXPECT_FALSE(exists(folder / name));
    }
    EXPECT_TRUE(folder.entries().empty()) << name;
  }
}

TEST(Damage, NothingIsOverwrittenUnasked) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(64, 48);
  VideoInfo still = source;
  still.frames_estimated = 1;
  std::filesystem::create_directory(folder / "frames");
  write_text(folder / "frames/000001.png", "old");
  for (const char* name : {"a.mp4", "a.y4m", "a.png"}) write_text(folder / name, "old");
  for (const char* name : {"a.mp4", "a.y4m", "a.png", "frames"}) {
    EXPECT_NE(error_of([&] { open_sink(folder / name, still, same_size(source)); }).find("--overwrite"),
              std::string::npos)
        << name;
  }
  EXPECT_EQ(read_text(folder / "a.mp4"), "old");
  EXPECT_EQ(folder.entries().size(), 4U);
}

}  // namespace
}  // namespace flashvsr::media::test
