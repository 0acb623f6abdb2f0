// Sources and sinks on a CUDA device, as far as they go without a real one.
#include "core/error.h"
#include "media/media.h"
#include "support.h"

#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cstdlib>

namespace flashvsr::media::test {
namespace {

bool encoder_exists(const std::string& name) {
  return run("ffmpeg -hide_banner -encoders 2>&1").find(" " + name + " ") != std::string::npos;
}

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

// With the library of tests/media/cuda_library as the driver: FFmpeg finds a device that neither decodes nor encodes.
class DeviceInName : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_ffmpeg()) GTEST_SKIP() << "built without FFmpeg";
    // Theirs would be given a device that is none.
    for (const char* library : {"libnvcuvid.so.1", "libnvidia-encode.so.1"}) {
      if (void* real = dlopen(library, RTLD_LAZY)) {
        dlclose(real);
        GTEST_SKIP() << "there is a real " << library;
      }
    }
    driver_ = dlopen(CUDA_FOR_TESTS, RTLD_NOW);
    ASSERT_NE(driver_, nullptr) << dlerror();
    holders_ = reinterpret_cast<int (*)(int)>(dlsym(driver_, "flashvsr_test_holders"));
    ASSERT_NE(holders_, nullptr) << "the tests have found another driver";
    opened_ = reinterpret_cast<int (*)(int)>(dlsym(driver_, "flashvsr_test_opened"));
    ASSERT_NE(opened_, nullptr);
  }
  void TearDown() override {
    unsetenv("FLASHVSR_TEST_CUDA");
    for (int device = 0; device < 2 && holders_ != nullptr; ++device) {
      EXPECT_EQ(holders_(device), 0) << "the context of device " << device << " is still held";
    }
    if (driver_ != nullptr) dlclose(driver_);
  }

  std::string make_video(const std::string& name, const std::string& options) const {
    ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 3 " + options + " '" + folder_ / name + "'");
    return folder_ / name;
  }
  static void expect_refused(const std::string& path, const std::string& reason) {
    EXPECT_EQ(code_of([&] { open_source(path, {.cuda = true}); }), ErrorCode::unsupported);
    const std::string error = error_of([&] { open_source(path, {.cuda = true}); });
    EXPECT_EQ(error.rfind(path + ": ", 0), 0U) << error;
    EXPECT_NE(error.find(reason), std::string::npos) << error;
    // The CPU decodes it.
    EXPECT_FALSE(open_source(path)->info().on_device);
  }

  // How often the device has been opened.
  int opened(int device) const { return opened_(device); }

  const TemporaryFolder folder_;

 private:
  void* driver_ = nullptr;
  int (*holders_)(int) = nullptr;
  int (*opened_)(int) = nullptr;
};

TEST_F(DeviceInName, NvdecSaysWhatItDoesNotTake) {
  // It would, if the driver had a decoder.
  expect_refused(make_video("a.mp4", "-c:v libx264 -pix_fmt yuv420p"), "NVDEC does not take its video (h264, yuv420p)");
  expect_refused(make_video("b.mp4", "-c:v libx264 -pix_fmt yuv422p"), "4:2:0 of 8 or 10 bits");
  expect_refused(make_video("c.mkv", "-c:v ffv1 -pix_fmt yuv420p"), "this FFmpeg has no NVDEC for its video (ffv1)");
}

TEST_F(DeviceInName, NvencSaysWhatItDoesNotTake) {
  const auto open = [&](const std::string& codec, const std::string& name, int width) {
    const VideoInfo source = plain_source(width, 48);
    SinkSettings settings = same_size(source);
    settings.codec = codec;
    settings.cuda = true;
    const std::string path = folder_ / name;
    EXPECT_EQ(code_of([&] { open_sink(path, source, settings); }), ErrorCode::unsupported);
    return error_of([&] { open_sink(path, source, settings); });
  };
  EXPECT_NE(open("none_nvenc", "out.mp4", 64).find("this FFmpeg has no encoder none_nvenc"), std::string::npos);
  if (!encoder_exists("h264_nvenc")) GTEST_SKIP() << "this FFmpeg has no NVENC";
  EXPECT_NE(open("h264_nvenc", "out.mp4", 64).find("h264_nvenc cannot be opened on this device"), std::string::npos);
  EXPECT_NE(open("h264_nvenc", "out.mp4", 63).find("takes even sizes only"), std::string::npos);
  EXPECT_NE(open("h264_nvenc", "out.webm", 64).find("does not hold h264"), std::string::npos);
  EXPECT_TRUE(folder_.entries().empty());
}

TEST_F(DeviceInName, TheDeviceIsTheOneThatIsAskedFor) {
  const std::string path = make_video("a.mp4", "-c:v libx264 -pix_fmt yuv420p");
  const int first = opened(0), second = opened(1);
  EXPECT_EQ(code_of([&] { open_source(path, {.cuda = true, .cuda_device = 1}); }), ErrorCode::unsupported);
  EXPECT_EQ(opened(0), first);
  EXPECT_EQ(opened(1), second + 1);
  EXPECT_EQ(code_of([&] { open_source(path, {.cuda = true, .cuda_device = 2}); }), ErrorCode::device);
  EXPECT_NE(error_of([&] { open_source(path, {.cuda = true, .cuda_device = 2}); }).find("device 2: invalid device"),
            std::string::npos);
  if (!encoder_exists("h264_nvenc")) return;
  SinkSettings settings = same_size(plain_source(64, 48));
  settings.codec = "h264_nvenc";
  settings.cuda = true;
  settings.cuda_device = 1;
  EXPECT_EQ(code_of([&] { open_sink(folder_ / "out.mp4", plain_source(64, 48), settings); }), ErrorCode::unsupported);
  EXPECT_EQ(opened(0), first);
  EXPECT_EQ(opened(1), second + 2);
}

TEST_F(DeviceInName, NoDeviceIsSaid) {
  setenv("FLASHVSR_TEST_CUDA", "none", 1);
  const std::string path = make_video("a.mp4", "-c:v libx264 -pix_fmt yuv420p");
  EXPECT_EQ(code_of([&] { open_source(path, {.cuda = true}); }), ErrorCode::device);
  EXPECT_NE(error_of([&] { open_source(path, {.cuda = true}); }).find("no CUDA-capable device"), std::string::npos);
}

}  // namespace
}  // namespace flashvsr::media::test
