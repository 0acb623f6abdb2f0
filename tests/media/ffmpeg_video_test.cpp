// Video files: counts, times, geometry, sizes, codecs, containers.
#include "core/error.h"
#include "media/ffmpeg/pixels.h"
#include "support.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <future>
#include <thread>

namespace flashvsr::media::test {
namespace {

// Time stamps of the packets of the video in seconds, in order of presentation, as ffprobe sees them.
std::vector<double> probe_times(const std::string& path) {
  std::vector<double> times;
  for (const std::string& line : ffprobe("-select_streams v:0 -show_entries frame=pts_time '" + path + "'"))
    times.push_back(std::stod(line));
  std::sort(times.begin(), times.end());
  return times;
}

// A PSNR of 35 dB, below which a loss begins to be seen.
const double kInvisibleMeanSquare = 255 * 255 / std::pow(10.0, 3.5);

double mean_square(const Frame& a, const Frame& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.rgb.size(); ++i) sum += (a.rgb[i] - b.rgb[i]) * (a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

// What is left of a frame that is held in another pixel format, without an encoder.
Frame through_format(const Frame& frame, const std::string& pixel_format, const ColorTags& tags) {
  PictureWriter writer(frame.width, frame.height, av_get_pix_fmt(pixel_format.c_str()), tags);
  Frame stored;
  RgbReader().read(*writer.write(frame), tags, {}, 0, 0, "picture", stored);
  return stored;
}

TEST(Video, EveryFrameComesOnceWithItsTime) {
  const TemporaryFolder folder;
  // Two B-frames in a row, a frame rate that is no integer.
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=24000/1001 -frames:v 50 -c:v libx264 -bf 2 '" + folder / "in.mp4'");
  const Video video = read_video(folder / "in.mp4");
  ASSERT_EQ(video.frames.size(), 50U);
  EXPECT_EQ(video.info.frame_rate, (Rational{24000, 1001}));
  EXPECT_EQ(video.info.frames_estimated, 50);
  EXPECT_EQ(video.info.codec, "h264");
  EXPECT_EQ(video.info.kind, SourceKind::video);
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_NEAR(static_cast<double>(video.frames[i].pts) * video.info.time_base.value(),
                static_cast<double>(i) * 1001 / 24000, 1e-9);
    EXPECT_NEAR(static_cast<double>(video.frames[i].duration) * video.info.time_base.value(), 1001.0 / 24000, 1e-9);
  }
}

TEST(Video, TimesAndFramesSurviveInEveryContainer) {
  const TemporaryFolder folder;
  // Variable frame rate: uneven steps in 1/90000, and a first frame that is not at 0.
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x64:rate=30 -frames:v 20 -vf \"settb=1/90000,setpts='9000+N*3003+(N*N*37)'\" -vsync "
      "0 "
      "-enc_time_base 1/90000 -c:v libx264 -bf 2 -video_track_timescale 90000 '" +
      folder / "in.mp4'");
  const std::vector<double> original = probe_times(folder / "in.mp4");
  ASSERT_EQ(original.size(), 20U);
  EXPECT_NEAR(original[0], 0.1, 1e-6);
  struct Case {
    const char *name, *codec;
    double step;  // of the container's clock
  };
  for (const Case& output : {Case{"a.mp4", "", 0}, Case{"b.mov", "prores", 0}, Case{"c.mkv", "", 1e-3},
                             Case{"d.webm", "", 1e-3}, Case{"e.mkv", "ffv1", 1e-3}, Case{"f.mp4", "hevc", 0},
                             Case{"g.mp4", "mpeg4", 0}, Case{"h.mkv", "av1", 1e-3}, Case{"i.mov", "mjpeg", 0}}) {
    SCOPED_TRACE(output.name);
    std::string pixel_format;
    const auto notes = copy_video(
        folder / "in.mp4", folder / output.name, [&](SinkSettings& s) { s.codec = output.codec; }, &pixel_format);
    const std::vector<double> times = probe_times(folder / output.name);
    ASSERT_EQ(times.size(), 20U);
    for (std::size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(times[i], original[i], 1e-6 + output.step / 2) << i;
    EXPECT_EQ(any_contains(notes, "rounded"), output.step > 0);
    const Video before = read_video(folder / "in.mp4"), after = read_video(folder / output.name);
    ASSERT_EQ(after.frames.size(), 20U);
    // Frame for frame the same, but for what the pixel format cannot hold (chroma at half the size: up to 6 levels of
    // this clip's mean) and what the encoder loses: at the default quality that must not show, and not make a frame
    // look like its neighbour.
    double squares = 0;
    for (std::size_t i = 0; i < 20; ++i) {
      const Frame stored = through_format(before.frames[i], pixel_format, after.info.color_assumed);
      const double own = mean_square(stored, after.frames[i]);
      squares += own / 20;
      if (i > 0) {
        EXPECT_LT(own, mean_square(stored, after.frames[i - 1])) << i;
        EXPECT_LT(own, mean_square(through_format(before.frames[i - 1], pixel_format, after.info.color_assumed),
                                   after.frames[i]))
            << i;
      }
    }
    EXPECT_LE(squares, kInvisibleMeanSquare);
  }
}

// A pipe that falls silent in the middle of a stream.
TEST(Video, PipesAreReadAndCanBeInterrupted) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 30 -c:v mpeg2video -f mpegts '" + folder / "in.ts'");
  const std::string stream = read_text(folder / "in.ts"), pipe = folder / "pipe.ts";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::promise<void> stop;
  const auto write_stream = [&](std::future<void> hold) {
    std::ofstream file(pipe, std::ios::binary);
    file << stream << std::flush;
    hold.wait();
  };
  std::promise<void> no_hold;
  no_hold.set_value();
  std::thread writer(write_stream, no_hold.get_future());
  EXPECT_EQ(read_video(pipe).frames.size(), 30U);
  writer.join();

  writer = std::thread(write_stream, stop.get_future());
  {
    const auto source = open_source(pipe);
    auto message = std::async(std::launch::async, [&] {
      return error_of([&] {
        for (Frame frame; source->read(frame);) {
        }
      });
    });
    EXPECT_EQ(message.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
    source->interrupt();
    EXPECT_EQ(message.wait_for(std::chrono::seconds(30)), std::future_status::ready);
    stop.set_value();  // the end of the input, should interrupt() have failed
    EXPECT_NE(message.get().find("interrupted"), std::string::npos);
  }
  writer.join();
}

TEST(Video, LastDurationSurvives) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=32x32:rate=10 -frames:v 7 -c:v libx264 -bf 0 '" + folder / "in.mp4'");
  copy_video(folder / "in.mp4", folder / "out.mp4");
  const std::string query = "-select_streams v:0 -show_entries stream=duration,nb_frames,r_frame_rate,avg_frame_rate ";
  EXPECT_EQ(ffprobe(query + "'" + folder / "out.mp4'"), ffprobe(query + "'" + folder / "in.mp4'"));
}

TEST(Video, AviHoldsAnEvenRate) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=30000/1001 -frames:v 12 -c:v libx264 '" + folder / "in.mp4'");
  const auto notes = copy_video(folder / "in.mp4", folder / "out.avi");
  EXPECT_TRUE(any_contains(notes, "constant frame rate"));
  const Video video = read_video(folder / "out.avi");
  EXPECT_EQ(video.frames.size(), 12U);
  EXPECT_EQ(video.info.frame_rate, (Rational{30000, 1001}));
}

TEST(Video, TransportStreamsStartAtZero) {
  const TemporaryFolder folder;
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 1 -c:v libx264 -c:a aac -output_ts_offset 5000 "
      "'" +
      folder / "in.ts'");
  copy_video(folder / "in.ts", folder / "out.mp4");
  const std::vector<double> in = probe_times(folder / "in.ts"), out = probe_times(folder / "out.mp4");
  ASSERT_EQ(in.size(), 25U);
  ASSERT_EQ(out.size(), 25U);
  EXPECT_LT(out[0], 0.2);
  for (std::size_t i = 0; i < 25; ++i) EXPECT_NEAR(out[i] - out[0], in[i] - in[0], 2e-5);
  // The offset between picture and sound stays.
  const auto first_sound = [&](const std::string& path) {
    return std::stod(ffprobe("-select_streams a:0 -show_entries frame=pts_time '" + path + "'").front());
  };
  EXPECT_NEAR(out[0] - first_sound(folder / "out.mp4"), in[0] - first_sound(folder / "in.ts"), 2e-4);
}

// FFmpeg's own program turns the picture by default: it says what is right.
TEST(Video, RotationAndMirroringAreApplied) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=5 -frames:v 2 -c:v libx264rgb -crf 0 -pix_fmt rgb24 -bf 0 '" +
         folder / "plain.mp4'");
  // The display matrix lies in the track header: nine numbers from the 40th byte after the version.
  const std::string plain = read_text(folder / "plain.mp4");
  const std::size_t header = plain.find("tkhd");
  ASSERT_NE(header, std::string::npos);
  const std::size_t matrix = header + 4 + 40;
  const int one = 65536;
  const std::vector<std::array<int, 4>> turns = {{one, 0, 0, one},  {0, one, -one, 0}, {-one, 0, 0, -one},
                                                 {0, -one, one, 0}, {-one, 0, 0, one}, {one, 0, 0, -one}};
  const std::vector<int> rotations = {0, 90, 180, 270, 0, 180};
  for (std::size_t i = 0; i < turns.size(); ++i) {
    SCOPED_TRACE(i);
    std::string turned = plain;
    const auto put = [&](int index, int value) {
      for (std::size_t byte = 0; byte < 4; ++byte)
        turned[matrix + 4 * static_cast<std::size_t>(index) + byte] =
            static_cast<char>(value >> (24 - 8 * byte) & 0xFF);
    };
    put(0, turns[i][0]), put(1, turns[i][1]), put(3, turns[i][2]), put(4, turns[i][3]);
    write_text(folder / "turned.mp4", turned);
    const Video video = read_video(folder / "turned.mp4");
    EXPECT_EQ(video.info.rotation, rotations[i]);
    EXPECT_EQ(video.info.mirrored, i >= 4);
    EXPECT_EQ(video.info.width, i == 1 || i == 3 ? 48 : 64);
    // FFmpeg 5.1 turns by right angles, but does not mirror: those are compared with its filters.
    const std::string filter = i == 4 ? "-noautorotate -i" : (i == 5 ? "-noautorotate -i" : "-i");
    const std::string mirror = i == 4 ? "-vf hflip" : (i == 5 ? "-vf vflip" : "");
    ffmpeg(filter + " '" + folder / "turned.mp4' " + mirror + " -frames:v 1 -f rawvideo -pix_fmt rgb24 '" +
           folder / "truth.rgb'");
    const std::string truth = read_text(folder / "truth.rgb");
    const auto& rgb = video.frames.at(0).rgb;
    ASSERT_EQ(truth.size(), rgb.size());
    EXPECT_TRUE(std::equal(rgb.begin(), rgb.end(), truth.begin(),
                           [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); }));
    // The output is upright and asks for no turning.
    copy_video(folder / "turned.mp4", folder / "out.mp4", [](SinkSettings& s) { s.overwrite = true; });
    const Video out = read_video(folder / "out.mp4");
    EXPECT_EQ(out.info.rotation, 0);
    EXPECT_EQ(out.info.width, video.info.width);
  }
}

TEST(Video, SampleAspectIsKept) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=72x58:rate=5 -frames:v 2 -vf setsar=64/45 -c:v libx264 '" + folder / "in.mp4'");
  EXPECT_EQ(read_video(folder / "in.mp4").info.sample_aspect, (Rational{64, 45}));
  for (const char* name : {"a.mp4", "b.mkv", "c.mov"}) {
    copy_video(folder / "in.mp4", folder / name);
    EXPECT_EQ(read_video(folder / name).info.sample_aspect, (Rational{64, 45})) << name;
  }
  copy_video(folder / "in.mp4", folder / "e.mp4", [](SinkSettings& s) { s.sample_aspect = Rational{1, 1}; });
  EXPECT_EQ(read_video(folder / "e.mp4").info.sample_aspect, (Rational{1, 1}));
}

TEST(Video, OddSizesAreHeldByTheNearestFormat) {
  const TemporaryFolder folder;
  struct Case {
    int width, height;
    const char *name, *codec, *format;
  };
  int number = 0;
  for (const Case& c : {Case{64, 48, "mp4", "", "yuv420p"}, Case{17, 13, "mp4", "", "yuv444p"},
                        Case{64, 49, "mp4", "", "yuv422p"}, Case{65, 48, "mp4", "", "yuv444p"},
                        Case{65, 67, "mkv", "hevc", "yuv444p"}, Case{17, 13, "webm", "vp9", "yuv420p"},
                        Case{17, 13, "mkv", "ffv1", "bgr0"}, Case{17, 13, "mov", "prores", "yuv444p10le"},
                        Case{18, 13, "mov", "prores", "yuv422p10le"}, Case{17, 13, "mp4", "mpeg4", "yuv420p"},
                        Case{17, 13, "mkv", "av1", "yuv420p"}, Case{65, 67, "mov", "mjpeg", "yuvj420p"}}) {
    SCOPED_TRACE(fmt::format("{}x{} {} {}", c.width, c.height, c.name, c.codec));
    const VideoInfo source = plain_source(c.width, c.height);
    SinkSettings settings = same_size(source);
    settings.codec = c.codec;
    const std::string path = folder / fmt::format("{}.{}", number++, c.name);
    const auto sink = open_sink(path, source, settings);
    EXPECT_EQ(sink->info().pixel_format, c.format);
    const auto notes = sink->take_notes();
    const bool moved = std::string(c.format).starts_with("yuv444p") || std::string(c.format) == "yuv422p";
    EXPECT_EQ(any_contains(notes, "is odd"), moved);
    for (int i = 0; i < 3; ++i) sink->write(gradient(c.width, c.height, i));
    sink->finish();
    const Video video = read_video(path);
    ASSERT_EQ(video.frames.size(), 3U);
    EXPECT_EQ(video.info.width, c.width);
    EXPECT_EQ(video.info.height, c.height);
    for (int i = 0; i < 3; ++i)
      EXPECT_LT(mean_difference(video.frames[static_cast<std::size_t>(i)], gradient(c.width, c.height, i)),
                std::string(c.codec) == "ffv1" ? 1e-9 : 5.0);
  }
}

// x265 spoils memory below the size of its blocks: it must never be tried.
TEST(Video, TooSmallForAnEncoderIsAnError) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(40, 36);
  SinkSettings settings = same_size(source);
  settings.codec = "hevc";
  EXPECT_NE(error_of([&] { open_sink(folder / "a.mkv", source, settings); }).find("from 64x64"), std::string::npos);
  EXPECT_TRUE(folder.entries().empty());
}

TEST(Video, ChoicesThatCannotBeMeantAreErrors) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(64, 48);
  const auto error = [&](const std::string& name, const std::string& codec, std::optional<double> crf = {}) {
    SinkSettings settings = same_size(source);
    settings.codec = codec;
    settings.crf = crf;
    const std::string message = error_of([&] { open_sink(folder / name, source, settings); });
    EXPECT_TRUE(folder.entries().empty());
    return message;
  };
  EXPECT_NE(error("a.webm", "h264").find("does not hold h264"), std::string::npos);
  EXPECT_NE(error("a.mp4", "divx9").find("'divx9' is no video codec"), std::string::npos);
  EXPECT_NE(error("a.mp4", "aac").find("'aac' is no video codec"), std::string::npos);
  EXPECT_NE(error("a.ogv", "libtheora").find("leaves out frames"), std::string::npos);
  EXPECT_NE(error("a.mp4", "h264", 99).find("crf 99 is out of range"), std::string::npos);
  EXPECT_NE(error("a.mp4", "h264", -1).find("crf -1 is out of range"), std::string::npos);
  EXPECT_NE(error("a.gif", "").find(".gif"), std::string::npos);
  EXPECT_NE(error("a.h264", "").find(".h264"), std::string::npos);
  EXPECT_NE(error("a.mp3", "").find(".mp3"), std::string::npos);
  EXPECT_NE(error("a.xyz", "").find(".xyz"), std::string::npos);
  EXPECT_NE(error("a", "").find("no extension"), std::string::npos);
  EXPECT_NE(error("a.png", "").find("one image"), std::string::npos);
  EXPECT_NE(error("no/a.mp4", "").find("no such file or folder"), std::string::npos);
  SinkSettings none = same_size(source);
  none.width = 0;
  EXPECT_NE(error_of([&] { open_sink(folder / "a.mp4", source, none); }), "");
}

TEST(Video, QualityFollowsCrf) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=128x96:rate=10 -frames:v 10 -c:v ffv1 '" + folder / "in.mkv'");
  for (const char* codec : {"h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"}) {
    std::size_t sizes[2];
    int i = 0;
    for (const double crf : {10.0, 40.0}) {
      const std::string path = folder / fmt::format("{}-{}.mkv", codec, crf);
      copy_video(folder / "in.mkv", path, [&](SinkSettings& s) { s.codec = codec, s.crf = crf; });
      sizes[i++] = read_text(path).size();
    }
    EXPECT_GT(sizes[0], sizes[1] * 3 / 2) << codec;
  }
}

TEST(Video, InterlacedAndDeepVideoIsSaid) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 4 -vf setfield=tff -c:v mpeg2video -flags +ilme+ildct '" +
         folder / "i.mpg'");
  const Video interlaced = read_video(folder / "i.mpg");
  EXPECT_TRUE(interlaced.info.interlaced);
  EXPECT_TRUE(any_contains(interlaced.notes, "interlaced"));
  EXPECT_EQ(interlaced.frames.size(), 4U);
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 4 -pix_fmt yuv420p10le -c:v libx265 -x265-params "
      "log-level=none '" +
      folder / "d.mp4'");
  const Video deep = read_video(folder / "d.mp4");
  EXPECT_EQ(deep.info.bit_depth, 10);
  EXPECT_TRUE(any_contains(deep.notes, "10 bits"));
  EXPECT_EQ(deep.frames.size(), 4U);
}

TEST(Video, PicturesThatChangeSizeAreScaled) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -frames:v 5 -c:v mpeg2video -f mpegts '" + folder / "a.ts'");
  ffmpeg("-f lavfi -i testsrc2=size=96x80:rate=25 -frames:v 5 -c:v mpeg2video -f mpegts -output_ts_offset 0.2 '" +
         folder / "b.ts'");
  run("cat '" + folder / "a.ts' '" + folder / "b.ts' > '" + folder / "c.ts'");
  const Video video = read_video(folder / "c.ts");
  EXPECT_EQ(video.frames.size(), ffprobe("-show_entries frame=width '" + folder / "c.ts'").size());
  EXPECT_GE(video.frames.size(), 9U);
  for (const Frame& frame : video.frames) EXPECT_EQ(frame.width, 64);
  EXPECT_TRUE(any_contains(video.notes, "changes"));
}

TEST(Video, TheBestOfSeveralIsUsed) {
  const TemporaryFolder folder;
  ffmpeg(
      "-f lavfi -i testsrc2=size=32x24:rate=5 -f lavfi -i testsrc2=size=64x48:rate=5 -map 0 -map 1 -frames:v 3 -c:v "
      "libx264 "
      "-disposition:v:0 0 -disposition:v:1 0 '" +
      folder / "in.mkv'");
  const Video video = read_video(folder / "in.mkv");
  EXPECT_EQ(video.info.width, 64);
  EXPECT_TRUE(any_contains(video.notes, "more than one video stream"));
}

TEST(Video, StartIsFast) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=5 -frames:v 3 -c:v libx264 '" + folder / "in.mkv'");
  copy_video(folder / "in.mkv", folder / "out.mp4");
  const std::string contents = read_text(folder / "out.mp4");
  EXPECT_LT(contents.find("moov"), contents.find("mdat"));
}

// A small file system; only root can make one.
class SmallDisk {
 public:
  SmallDisk(const TemporaryFolder& folder, std::size_t bytes) : path_(folder / "small") {
    mounted_ =
        std::system(fmt::format("mkdir -p '{0}' && mount -t tmpfs -o size={1} tmpfs '{0}' 2>/dev/null", path_, bytes)
                        .c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) run("umount '" + path_ + "'");
  }
  bool mounted() const { return mounted_; }
  std::string contents() const { return run("ls -A '" + path_ + "'"); }

 private:
  std::string path_;
  bool mounted_ = false;
};

TEST(Video, AFullDiskLeavesNothing) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=320x240:rate=25 -frames:v 20 -c:v ffv1 '" + folder / "in.mkv'");
  copy_video(folder / "in.mkv", folder / "out.mp4");
  const std::size_t whole = read_text(folder / "out.mp4").size();
  ASSERT_GT(whole, 20'000U);
  // Full in the middle, and full when the index is written.
  for (const std::size_t bytes : {std::size_t{8192}, whole / 4096 * 4096}) {
    const SmallDisk disk(folder, bytes);
    if (!disk.mounted()) GTEST_SKIP() << "only root may mount a small file system";
    for (const char* name : {"small/out.mp4", "small/out.mkv"}) {
      const std::string message = error_of([&] {
        copy_video(folder / "in.mkv", folder / name, [&](SinkSettings& s) {
          if (std::string(name).ends_with("mkv")) s.codec = "ffv1";
        });
      });
      EXPECT_EQ(message, folder / name + ": cannot be written: the disk is full");
      EXPECT_EQ(disk.contents(), "");
    }
  }
}

}  // namespace
}  // namespace flashvsr::media::test
