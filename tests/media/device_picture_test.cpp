// Sources and sinks on a CUDA device, as far as they go without one.
#include "core/error.h"
#include "media/media.h"
#include "support.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

namespace flashvsr::media::test {
namespace {

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

TEST(DevicePictures, OnlyVideoFilesAreDecodedByNvdec) {
  const TemporaryFolder folder;
  write_text(folder / "in.y4m", "YUV4MPEG2 W2 H2 F25:1 C420\nFRAME\n" + std::string(6, 'x'));
  EXPECT_EQ(code_of([&] { open_source(folder / "in.y4m", {.cuda = true}); }), ErrorCode::unsupported);
  EXPECT_EQ(code_of([&] { open_source(folder.path(), {.cuda = true}); }), ErrorCode::unsupported);
  EXPECT_EQ(code_of([&] { open_source("-", {.cuda = true}); }), ErrorCode::unsupported);
  EXPECT_FALSE(open_source(folder / "in.y4m")->info().on_device);
}

TEST(DevicePictures, SinksOfTheHostGiveNone) {
  const TemporaryFolder folder;
  const auto sink = open_sink(folder / "out.y4m", plain_source(2, 2), same_size(plain_source(2, 2)));
  EXPECT_FALSE(sink->info().on_device);
  EXPECT_THROW(sink->device_picture(), Error);
}

TEST(DevicePictures, NvencIsForVideoFiles) {
  if (!has_ffmpeg()) {
    EXPECT_EQ(nvenc_encoder("out.mp4", plain_source(2, 2), "h264"), "");
    return;
  }
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(2, 2);
  EXPECT_EQ(nvenc_encoder("out.mp4", source, ""), "h264_nvenc");
  EXPECT_EQ(nvenc_encoder("out.mkv", source, "h265"), "hevc_nvenc");
  EXPECT_EQ(nvenc_encoder("out.mkv", source, "av1"), "av1_nvenc");
  EXPECT_EQ(nvenc_encoder("out.mkv", source, "h264_nvenc"), "h264_nvenc");
  EXPECT_EQ(nvenc_encoder("out.mkv", source, "ffv1"), "");
  EXPECT_EQ(nvenc_encoder("out.webm", source, ""), "");
  for (const std::string& path :
       {std::string("-"), std::string("out.y4m"), std::string("out.png"), std::string("out/"), folder.path()}) {
    EXPECT_EQ(nvenc_encoder(path, source, "h264"), "") << path;
  }
  VideoInfo frames = source;
  frames.kind = SourceKind::folder;
  EXPECT_EQ(nvenc_encoder("out", frames, ""), "");
}

class WithoutDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_ffmpeg()) GTEST_SKIP() << "built without FFmpeg";
    if (void* driver = dlopen("libcuda.so.1", RTLD_NOW)) {
      dlclose(driver);
      GTEST_SKIP() << "there is an NVIDIA driver";
    }
  }
};

TEST_F(WithoutDevice, NvdecSaysWhatIsMissing) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 3 -c:v libx264 -pix_fmt yuv420p '" + folder / "in.mp4'");
  EXPECT_EQ(code_of([&] { open_source(folder / "in.mp4", {.cuda = true}); }), ErrorCode::device);
  EXPECT_NE(error_of([&] { open_source(folder / "in.mp4", {.cuda = true}); }).find("NVIDIA driver"), std::string::npos);
}

TEST_F(WithoutDevice, NvencLeavesNothingBehind) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(64, 48);
  SinkSettings settings = same_size(source);
  settings.codec = "h264_nvenc";
  settings.cuda = true;
  EXPECT_EQ(code_of([&] { open_sink(folder / "out.mp4", source, settings); }), ErrorCode::device);
  EXPECT_TRUE(folder.entries().empty());
}

}  // namespace
}  // namespace flashvsr::media::test
