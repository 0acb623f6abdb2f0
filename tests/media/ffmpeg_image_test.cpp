// Still images and folders of them.
#include "core/error.h"
#include "support.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace flashvsr::media::test {
namespace {

void write_image(const std::string& path, const Frame& frame) {
  VideoInfo source = plain_source(frame.width, frame.height);
  source.frames_estimated = 1;
  const auto sink = open_sink(path, source, same_size(source));
  sink->write(frame);
  sink->finish();
}

TEST(Image, EveryFormatComesBack) {
  const TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{64, 48}, {17, 13}, {1, 1}, {64, 700}}) {
    const Frame frame = gradient(width, height, 2);
    for (const char* extension : {"png", "bmp", "tiff", "tif", "ppm", "jpg", "jpeg", "webp", "PNG"}) {
      SCOPED_TRACE(fmt::format("{} {}x{}", extension, width, height));
      const std::string path = folder / fmt::format("{}x{}.{}", width, height, extension);
      write_image(path, frame);
      const Video video = read_video(path);
      ASSERT_EQ(video.frames.size(), 1U);
      EXPECT_EQ(video.info.kind, SourceKind::still);
      EXPECT_EQ(video.info.frames_estimated, 1);
      // JPEG keeps all chroma; WebP halves it, which shows where the steps from pixel to pixel are steep.
      const char kind = extension[0];
      EXPECT_LE(mean_difference(video.frames[0], frame), kind == 'j' ? 2.0 : (kind == 'w' ? 4.0 : 0.0));
    }
  }
}

TEST(Image, JpegIsBt601AtEverySize) {
  const TemporaryFolder folder;
  const Frame frame = solid(64, 704, 200, 30, 120);
  write_image(folder / "a.jpg", frame);
  EXPECT_LE(largest_difference(read_video(folder / "a.jpg").frames[0], frame), 3);
  write_image(folder / "a.webp", frame);
  EXPECT_LE(largest_difference(read_video(folder / "a.webp").frames[0], frame), 4);
  // And as other programs read it.
  ffmpeg("-i '" + folder / "a.jpg' -f rawvideo -pix_fmt rgb24 '" + folder / "a.rgb'");
  EXPECT_NEAR(static_cast<std::uint8_t>(read_text(folder / "a.rgb")[0]), 200, 3);
}

TEST(Image, ExifTurnsThePicture) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", gradient(64, 48, 0));
  const std::string plain = read_text(folder / "a.jpg");
  // An APP1 segment right after the start: big-endian TIFF with the one tag 0x0112.
  const std::string exif(
      "\xff\xe1\x00\x22"
      "Exif\0\0"
      "MM\0*\0\0\0\x08"
      "\0\x01"
      "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
      "\0\0\0\0",
      36);
  write_text(folder / "turned.jpg", plain.substr(0, 2) + exif + plain.substr(2));
  const Video video = read_video(folder / "turned.jpg");
  EXPECT_EQ(video.info.rotation, 90);
  EXPECT_EQ(video.info.width, 48);
  // Turned clockwise, what was at the left is on top: red rises downwards.
  const auto red = [&](int x, int y) { return video.frames[0].rgb[static_cast<std::size_t>(3 * (y * 48 + x))]; };
  EXPECT_GT(red(10, 60), red(10, 3) + 100);
}

TEST(Image, TransparencyAndDepthAreSaid) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=32x32 -frames:v 1 -pix_fmt rgba64be '" + folder / "a.png'");
  const Video video = read_video(folder / "a.png");
  EXPECT_TRUE(any_contains(video.notes, "alpha"));
  EXPECT_TRUE(any_contains(video.notes, "16 bits"));
}

TEST(Folder, ImagesComeInNaturalOrder) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "in");
  for (const int i : {1, 2, 9, 10, 11, 100}) write_image(folder / fmt::format("in/shot{}.png", i), gradient(32, 24, i));
  write_text(folder / "in/notes.txt", "x");
  write_text(folder / "in/.hidden.png", "x");
  const Video video = read_video(folder / "in");
  EXPECT_EQ(video.info.kind, SourceKind::folder);
  EXPECT_EQ(video.info.frames_estimated, 6);
  ASSERT_EQ(video.frames.size(), 6U);
  std::size_t index = 0;
  for (const int i : {1, 2, 9, 10, 11, 100}) {
    EXPECT_EQ(largest_difference(video.frames[index], gradient(32, 24, i)), 0);
    EXPECT_EQ(video.frames[index].pts, static_cast<std::int64_t>(index));
    ++index;
  }
  EXPECT_TRUE(any_contains(video.notes, "1 other files"));
}

TEST(Folder, ImagesOfOtherSizesAreNamedBeforeWork) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "in");
  write_image(folder / "in/1.png", gradient(32, 24, 0));
  write_image(folder / "in/2.png", gradient(32, 24, 0));
  write_image(folder / "in/3.jpg", gradient(24, 32, 0));
  const std::string message = error_of([&] { open_source(folder / "in"); });
  EXPECT_NE(message.find("1.png is 32x24"), std::string::npos) << message;
  EXPECT_NE(message.find("3.jpg is 24x32"), std::string::npos) << message;
  // A format whose header is not looked at beforehand fails when its turn comes.
  std::filesystem::remove(folder / "in/3.jpg");
  write_image(folder / "in/3.bmp", gradient(24, 32, 0));
  EXPECT_NE(error_of([&] { read_video(folder / "in"); }).find("3.bmp is 24x32"), std::string::npos);
}

TEST(Folder, FramesAreWrittenNumbered) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=32x24:rate=5 -frames:v 12 -c:v libx264rgb -crf 0 '" + folder / "in.mkv'");
  const Video in = read_video(folder / "in.mkv");
  copy_video(folder / "in.mkv", folder / "out/");
  EXPECT_TRUE(exists(folder / "out/000001.png"));
  EXPECT_TRUE(exists(folder / "out/000012.png"));
  const Video out = read_video(folder / "out");
  ASSERT_EQ(out.frames.size(), 12U);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(largest_difference(in.frames[i], out.frames[i]), 0);
  EXPECT_EQ(folder.entries(), (std::vector<std::string>{"in.mkv", "out"}));
  // A folder in, a name without extension out: a folder again. And into a video.
  copy_video(folder / "out", folder / "again");
  EXPECT_TRUE(exists(folder / "again/000012.png"));
  copy_video(folder / "out", folder / "out.mp4");
  EXPECT_EQ(read_video(folder / "out.mp4").frames.size(), 12U);
}

TEST(Folder, OneImageIsNoPlaceForAVideo) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=32x24:rate=5 -frames:v 3 -c:v ffv1 '" + folder / "in.mkv'");
  EXPECT_NE(error_of([&] { copy_video(folder / "in.mkv", folder / "out.png"); }).find("more frames"),
            std::string::npos);
  EXPECT_EQ(folder.entries().size(), 1U);
}

}  // namespace
}  // namespace flashvsr::media::test
