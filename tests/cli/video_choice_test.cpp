// Where video is decoded and encoded, and frames that never come to the host: with sources and sinks of the test whose
// pictures lie where the CPU computes.
#include "cli/video_choice.h"

#include "cli/pipeline.h"
#include "core/error.h"
#include "program_runner.h"
#include "y4m_clip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <utility>

namespace flashvsr::cli::test {
namespace {

constexpr int kWidth = 24, kHeight = 16, kScale = 4, kFrames = 27;

media::VideoInfo video_info() {
  media::VideoInfo info;
  info.path = "/proc/self/exe";  // a regular file
  info.width = kWidth, info.height = kHeight;
  info.pixel_format = "yuv420p";
  return info;
}

OutputPlan whole_plan() {
  OutputPlan plan;
  plan.cropped = {kWidth, kHeight};
  plan.upscaled = plan.output = {kWidth * kScale, kHeight * kScale};
  return plan;
}

TEST(VideoChoice, NvdecIsTriedForWhatItCanDo) {
  const media::VideoInfo good = video_info();
  EXPECT_EQ(decoding_problem(good, whole_plan(), "cuda"), "");
  EXPECT_NE(decoding_problem(good, whole_plan(), "cpu"), "");
  const auto problem_with = [&](const std::function<void(media::VideoInfo&)>& change) {
    media::VideoInfo info = good;
    change(info);
    return decoding_problem(info, whole_plan(), "cuda");
  };
  EXPECT_EQ(problem_with([](auto& info) { info.pixel_format = "yuv420p10le"; }), "");
  EXPECT_NE(problem_with([](auto& info) { info.pixel_format = "yuv422p"; }), "");
  EXPECT_NE(problem_with([](auto& info) { info.kind = media::SourceKind::y4m; }), "");
  EXPECT_NE(problem_with([](auto& info) { info.rotation = 90; }), "");
  EXPECT_NE(problem_with([](auto& info) { info.mirrored = true; }), "");
  EXPECT_NE(problem_with([](auto& info) { info.path = std::string(1, '-'); }), "");
  OutputPlan cropping = whole_plan();
  cropping.cropped.width -= 2;
  EXPECT_NE(decoding_problem(good, cropping, "cuda"), "");
}

// The memory of a picture, and the frame's.
struct Planes {
  std::vector<std::uint8_t> luma, chroma;
};

media::DevicePicture make_picture(int width, int height, std::uint8_t level) {
  const auto planes = std::make_shared<Planes>();
  planes->luma.assign(static_cast<std::size_t>(width * height), level);
  planes->chroma.assign(planes->luma.size() / 2, 128);
  media::DevicePicture picture;
  picture.luma = planes->luma.data();
  picture.chroma = planes->chroma.data();
  picture.luma_stride = picture.chroma_stride = width;
  picture.range = media::ColorRange::full;
  picture.owner = planes;
  return picture;
}

std::uint8_t level_of(int frame) { return static_cast<std::uint8_t>(50 + 6 * frame); }

class Source final : public media::FrameSource {
 public:
  explicit Source(bool on_device) : info_(video_info()) { info_.on_device = on_device; }
  const media::VideoInfo& info() const override { return info_; }
  bool read(media::Frame& frame) override {
    if (next_ == kFrames) return false;
    // No more pictures than a decoder has.
    std::erase_if(given_, [](const std::weak_ptr<void>& picture) { return picture.expired(); });
    EXPECT_LE(given_.size(), static_cast<std::size_t>(media::kDevicePicturesHeld));
    frame = {kWidth, kHeight, {}, next_, 1};
    if (info_.on_device) {
      frame.device = make_picture(kWidth, kHeight, level_of(next_));
      given_.push_back(frame.device.owner);
    } else {
      frame.rgb.assign(kWidth * kHeight * 3, level_of(next_));
    }
    ++next_;
    return true;
  }
  std::vector<std::string> take_notes() override { return {}; }

 private:
  media::VideoInfo info_;
  std::vector<std::weak_ptr<void>> given_;
  int next_ = 0;
};

// Collects mean levels.
class Sink final : public media::FrameSink {
 public:
  explicit Sink(bool on_device) { info_.on_device = on_device; }
  const media::SinkInfo& info() const override { return info_; }
  void write(const media::Frame& frame) override {
    EXPECT_EQ(frame.pts, static_cast<std::int64_t>(means.size()));
    double sum = 0;
    std::size_t count = frame.rgb.size();
    if (info_.on_device) {
      const auto& planes = *static_cast<const Planes*>(frame.device.owner.get());
      for (const std::uint8_t value : planes.luma) sum += value;
      count = planes.luma.size();
    } else {
      // Of luma, as BT.709 weighs it.
      for (std::size_t i = 0; i < count; i += 3) {
        sum += 3 * (0.2126 * frame.rgb[i] + 0.7152 * frame.rgb[i + 1] + 0.0722 * frame.rgb[i + 2]);
      }
    }
    means.push_back(sum / static_cast<double>(count));
  }
  media::DevicePicture device_picture() override { return make_picture(kWidth * kScale, kHeight * kScale, 0); }
  void finish() override { finished = true; }
  std::vector<std::string> take_notes() override { return {}; }

  std::vector<double> means;
  bool finished = false;

 private:
  media::SinkInfo info_;
};

std::vector<double> levels_through(bool device_source, bool device_sink) {
  static const api::Model model(golden_set("attention").string());
  Source source(device_source);
  Sink sink(device_sink);
  flashvsr_stream_settings settings = api::Stream::default_settings();
  settings.input_width = kWidth, settings.input_height = kHeight;
  settings.image_input = device_source ? 1 : 0;
  settings.image_output = device_sink ? 1 : 0;
  api::Stream stream(model, settings);
  CancelFlag cancel{false};
  const PipelineResult result = run_pipeline(source, sink, stream, whole_plan(), cancel, [](const std::string&) {});
  EXPECT_EQ(result.frames, kFrames);
  EXPECT_TRUE(sink.finished);
  return sink.means;
}

TEST(VideoChoice, PicturesOnTheDeviceGiveTheSameFrames) {
  const std::vector<double> expected = levels_through(false, false);
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(kFrames));
  EXPECT_GT(expected.back(), expected.front() + 100);
  EXPECT_EQ(levels_through(true, false), expected);
  for (const bool device_source : {false, true}) {
    const std::vector<double> levels = levels_through(device_source, true);
    ASSERT_EQ(levels.size(), expected.size());
    // Luma is rounded.
    for (std::size_t i = 0; i < levels.size(); ++i) EXPECT_NEAR(levels[i], expected[i], 0.5) << i;
  }
}

class VideoOption : public ProgramTest {};

TEST_F(VideoOption, InsistingOnCudaWithoutItIsAClearError) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 2);
  const std::string model = golden_set("attention").string();
  const auto with = [&](const std::string& where) {
    return run({"upscale", "in.y4m", "-o", "out.y4m", "--model", model, "--device", "cpu", "--video", where});
  };
  const ProgramResult refused = with("cuda");
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.error_lines(), 1) << refused.err;
  EXPECT_NE(refused.err.find("in.y4m: cannot be decoded by NVDEC: the model runs on the cpu"), std::string::npos)
      << refused.err;
  EXPECT_EQ(files(), std::vector<std::string>{"in.y4m"});
  const ProgramResult automatic = with("auto");
  EXPECT_EQ(automatic.status, 0) << automatic.err;
  EXPECT_NE(automatic.err.find("decoding on cpu, encoding on cpu"), std::string::npos) << automatic.err;
  EXPECT_EQ(automatic.err.find("NVDEC"), std::string::npos) << automatic.err;
}

}  // namespace
}  // namespace flashvsr::cli::test
