// YUV4MPEG2 without any library: headers, files, damage, full disks, closed pipes.
#include "media/y4m.h"
#include "support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <future>

namespace flashvsr::media::test {
namespace {

std::string write_frames(const std::string& path, int width, int height, int frames,
                         const std::function<void(SinkSettings&)>& adjust = {}) {
  const VideoInfo source = plain_source(width, height);
  SinkSettings settings = same_size(source);
  if (adjust) adjust(settings);
  const auto sink = open_sink(path, source, settings);
  for (int i = 0; i < frames; ++i) sink->write(gradient(width, height, i));
  sink->finish();
  return path;
}

TEST(Y4m, HeaderIsReadAsWritten) {
  const Y4mHeader header = parse_y4m_header("YUV4MPEG2 W720 H576 F30000:1001 It A64:45 C422 XCOLORRANGE=FULL", "x");
  EXPECT_EQ(header.format.width, 720);
  EXPECT_EQ(header.format.height, 576);
  EXPECT_EQ(header.frame_rate, (Rational{30000, 1001}));
  EXPECT_EQ(header.sample_aspect, (Rational{64, 45}));
  EXPECT_EQ(header.range, ColorRange::full);
  EXPECT_TRUE(header.interlaced);
  EXPECT_EQ(header.format.log2_chroma_width, 1);
  EXPECT_EQ(header.format.log2_chroma_height, 0);
  EXPECT_EQ(parse_y4m_header("YUV4MPEG2 W2 H2 F0:0 A0:0", "x").frame_rate, (Rational{25, 1}));
  EXPECT_EQ(parse_y4m_header("YUV4MPEG2 W2 H2 C420mpeg2", "x").format.siting, ChromaSiting::left);
  EXPECT_EQ(parse_y4m_header("YUV4MPEG2 W2 H2 C420p10", "x").format.bit_depth, 10);
  EXPECT_EQ(parse_y4m_header("YUV4MPEG2 W2 H2 Cmono", "x").format.frame_bytes(), 4U);
  EXPECT_EQ(parse_y4m_header("YUV4MPEG2 W3 H3", "x").format.frame_bytes(), 9U + 2 * 4U);
}

TEST(Y4m, BadHeadersAreRefused) {
  for (const char* line :
       {"YUV4MPEG", "YUV4MPEG2", "YUV4MPEG2 W2", "YUV4MPEG2 W0 H2", "YUV4MPEG2 W-2 H2", "YUV4MPEG2 Wx H2",
        "YUV4MPEG2 W100000 H100000", "YUV4MPEG2 W99999999999999999999 H2", "YUV4MPEG2 W65535 H65535",
        "YUV4MPEG2 W2 H2 F25", "YUV4MPEG2 W2 H2 F-25:1", "YUV4MPEG2 W2 H2 C411", "YUV4MPEG2 W2 H2 C420p11",
        "YUV4MPEG2 W2 H2 C420jpegx", "YUV4MPEG2 W2 H2 C444alpha", "YUV4MPEG2 W2 H2 C"}) {
    EXPECT_NE(error_of([&] { parse_y4m_header(line, "clip.y4m"); }).find("clip.y4m"), std::string::npos) << line;
  }
}

TEST(Y4m, FramesComeBackAsWritten) {
  const TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{32, 24}, {17, 13}, {1, 1}, {33, 24}, {32, 600}}) {
    const std::string path =
        write_frames(folder / "a.y4m", width, height, 5, [](SinkSettings& s) { s.overwrite = true; });
    const Video video = read_video(path);
    ASSERT_EQ(video.frames.size(), 5U);
    EXPECT_EQ(video.info.frames_estimated, 5);
    EXPECT_EQ(video.info.width, width);
    const bool odd = width % 2 != 0 || height % 2 != 0;
    EXPECT_EQ(video.info.pixel_format, odd ? "444" : "420jpeg");
    for (int i = 0; i < 5; ++i) {
      const Frame& frame = video.frames[static_cast<std::size_t>(i)];
      EXPECT_EQ(frame.pts, i);
      EXPECT_EQ(frame.duration, 1);
      const Frame expected = gradient(width, height, i);
      // Rounding of luma and chroma (see Color tests), and in 4:2:0 the curvature of the gradient at its edges: half a
      // step of 150 / 24 levels.
      EXPECT_LE(largest_difference(frame, expected), odd ? 2 : 5);
      EXPECT_LE(mean_difference(frame, expected), 1.0);
    }
  }
}

TEST(Y4m, RateAndAspectAreKept) {
  const TemporaryFolder folder;
  VideoInfo source = plain_source(8, 8);
  source.frame_rate = {24000, 1001};
  source.time_base = {1001, 24000};
  source.sample_aspect = {64, 45};
  const auto sink = open_sink(folder / "a.y4m", source, same_size(source));
  sink->write(gradient(8, 8, 0));
  sink->finish();
  const Video video = read_video(folder / "a.y4m");
  EXPECT_EQ(video.info.frame_rate, (Rational{24000, 1001}));
  EXPECT_EQ(video.info.time_base, (Rational{1001, 24000}));
  EXPECT_EQ(video.info.sample_aspect, (Rational{64, 45}));
}

TEST(Y4m, VariableRateIsSaid) {
  const TemporaryFolder folder;
  const VideoInfo source = plain_source(8, 8);
  const auto sink = open_sink(folder / "a.y4m", source, same_size(source));
  for (const int pts : {0, 1, 2, 7}) sink->write(gradient(8, 8, pts));
  sink->finish();
  EXPECT_TRUE(any_contains(sink->take_notes(), "frame rate"));
}

TEST(Y4m, DamageIsAnError) {
  const TemporaryFolder folder;
  const std::string whole = read_text(write_frames(folder / "a.y4m", 8, 8, 3));
  const auto read_cut = [&](const std::string& contents) {
    write_text(folder / "cut.y4m", contents);
    return error_of([&] { read_video(folder / "cut.y4m"); });
  };
  EXPECT_EQ(read_cut(whole), "");
  EXPECT_NE(read_cut(whole.substr(0, whole.size() - 1)).find("frame 3 has 95 of 96 bytes"), std::string::npos);
  EXPECT_NE(read_cut(""), "");
  EXPECT_NE(read_cut("YUV4MPEG2 W8 H8"), "");
  EXPECT_NE(read_cut("YUV4MPEG2 W8 H8\n"), "");
  EXPECT_NE(read_cut("YUV4MPEG2 W8 H8\nFRAME\n"), "");
  EXPECT_NE(read_cut(std::string(10000, 'x')), "");
  EXPECT_NE(read_cut("YUV4MPEG2 W8 H8 X" + std::string(10000, 'x')), "");
  std::string garbled = whole;
  garbled[garbled.size() - 96 - 3] = '?';
  EXPECT_NE(read_cut(garbled).find("FRAME"), std::string::npos);
}

TEST(Y4m, AForgedSizeTakesNoMemory) {
  const TemporaryFolder folder;
  write_text(folder / "a.y4m", "YUV4MPEG2 W10000 H10000 C444\nFRAME\n123");
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  EXPECT_NE(error_of([&] { read_video(folder / "a.y4m"); }).find("cut off"), std::string::npos);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 * 1024);  // KiB, of the 300 MB that the header promises
}

TEST(Y4m, AFullDiskIsSaid) {
  const int saved = dup(STDOUT_FILENO);
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  fflush(stdout);
  dup2(full, STDOUT_FILENO);
  const std::string message = error_of([] { write_frames("-", 64, 64, 3); });
  dup2(saved, STDOUT_FILENO);
  close(full), close(saved);
  EXPECT_NE(message.find("standard output: cannot be written: the disk is full"), std::string::npos) << message;
}

TEST(Y4m, AClosedPipeIsAnError) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  const int saved = dup(STDOUT_FILENO);
  fflush(stdout);
  dup2(ends[1], STDOUT_FILENO);
  const std::string message = error_of([] { write_frames("-", 64, 64, 3); });
  dup2(saved, STDOUT_FILENO);
  close(ends[1]), close(saved);
  EXPECT_NE(message.find("closed"), std::string::npos) << message;
}

TEST(Y4m, StandardInputIsRead) {
  const TemporaryFolder folder;
  write_frames(folder / "a.y4m", 16, 8, 4);
  const int saved = dup(STDIN_FILENO);
  // A pipe, which gives a file in pieces and cannot be rewound.
  FILE* writer = popen(("cat '" + folder / "a.y4m" + "'").c_str(), "r");
  ASSERT_NE(writer, nullptr);
  dup2(fileno(writer), STDIN_FILENO);
  const Video video = read_video("-");
  dup2(saved, STDIN_FILENO);
  close(saved);
  pclose(writer);
  EXPECT_EQ(video.frames.size(), 4U);
  EXPECT_FALSE(video.info.frames_estimated.has_value());
}

// read() is in another thread by the time of interrupt(), or comes after it: both must end.
TEST(Y4m, AWaitForInputCanBeInterrupted) {
  const TemporaryFolder folder;
  write_frames(folder / "a.y4m", 16, 8, 2);
  const std::string frames = read_text(folder / "a.y4m");
  for (const std::size_t cut : {frames.size(), frames.size() - 5}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    ASSERT_EQ(write(ends[1], frames.data(), cut), static_cast<ssize_t>(cut));
    const int saved = dup(STDIN_FILENO);
    dup2(ends[0], STDIN_FILENO);
    const auto source = open_source("-");
    dup2(saved, STDIN_FILENO);
    close(saved), close(ends[0]);
    auto message = std::async(std::launch::async, [&] {
      return error_of([&] {
        Frame frame;
        for (int i = 0; i < 3; ++i) source->read(frame);
      });
    });
    EXPECT_EQ(message.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
    source->interrupt();
    EXPECT_EQ(message.wait_for(std::chrono::seconds(30)), std::future_status::ready);
    close(ends[1]);  // the end of the input, should interrupt() have failed
    EXPECT_NE(message.get().find("standard input: cannot be read: "), std::string::npos);
  }
}

}  // namespace
}  // namespace flashvsr::media::test
