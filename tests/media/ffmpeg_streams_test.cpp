// Sound, subtitles, chapters, metadata, pictures and attachments on their way through.
#include "core/error.h"
#include "support.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

namespace flashvsr::media::test {
namespace {

// Hash of every packet's payload, in order.
std::vector<std::string> packet_hashes(const std::string& path, const std::string& stream) {
  std::vector<std::string> hashes;
  for (const std::string& line :
       ffprobe("-select_streams " + stream + " -show_data_hash md5 -show_entries packet=data_hash '" + path + "'"))
    if (line.find("MD5:") != std::string::npos) hashes.push_back(line.substr(line.find("MD5:")));
  return hashes;
}

std::vector<double> packet_times(const std::string& path, const std::string& stream) {
  std::vector<double> times;
  for (const std::string& line : ffprobe("-select_streams " + stream + " -show_entries packet=pts_time '" + path + "'"))
    times.push_back(std::stod(line));
  return times;
}

std::string value(const std::string& path, const std::string& stream, const std::string& entries) {
  std::string joined;
  for (const std::string& line : ffprobe("-select_streams " + stream + " -show_entries " + entries + " '" + path + "'"))
    joined += (joined.empty() ? "" : ";") + line;
  return joined;
}

constexpr const char* kSrt =
    "1\n00:00:00,200 --> 00:00:00,900\nHello\n\n2\n00:00:01,000 --> 00:00:01,500\nWorld\n\n3\n00:00:01,700 --> "
    "00:00:01,900\nEnd\n";
constexpr const char* kMetadata =
    ";FFMETADATA1\ntitle=A "
    "title\nartist=Somebody\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n[CHAPTER]\n"
    "TIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n";

// Two seconds with two sound tracks, subtitles, chapters and tags.
std::string rich_clip(const TemporaryFolder& folder, const std::string& name, const std::string& audio,
                      const std::string& subtitles) {
  write_text(folder / "in.srt", kSrt);
  write_text(folder / "in.meta", kMetadata);
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440:sample_rate=48000 -f lavfi -i "
      "sine=880:sample_rate=48000 "
      "-i '" +
      folder / "in.srt' -i '" +
      folder /
          "in.meta' -map 0 -map 1 -map 2 -map 3 -map_metadata 4 -map_chapters 4 -t 2 "
          "-c:v libx264 " +
      audio + " -c:s " + subtitles +
      " -metadata:s:a:0 language=eng -metadata:s:a:1 language=ger "
      "-metadata:s:s:0 language=fra -disposition:a:1 comment '" +
      folder / name + "'");
  return folder / name;
}

TEST(Streams, SoundIsCopiedByteForByte) {
  const TemporaryFolder folder;
  const std::string in = rich_clip(folder, "in.mkv", "-ac 2 -c:a:0 aac -c:a:1 libmp3lame", "srt");
  const std::vector<std::string> streams = {"a:0", "a:1"};
  std::vector<std::vector<std::string>> hashes;
  std::vector<std::vector<double>> times;
  for (const std::string& stream : streams) {
    hashes.push_back(packet_hashes(in, stream));
    times.push_back(packet_times(in, stream));
    ASSERT_GT(hashes.back().size(), 50U);
    ASSERT_EQ(hashes.back().size(), times.back().size());
  }
  for (const char* name : {"out.mkv", "out.mp4", "out.mov"}) {
    SCOPED_TRACE(name);
    const auto notes = copy_video(in, folder / name);
    for (std::size_t i = 0; i < streams.size(); ++i) {
      EXPECT_EQ(packet_hashes(folder / name, streams[i]), hashes[i]);
      const auto copied = packet_times(folder / name, streams[i]);
      ASSERT_EQ(copied.size(), times[i].size());
      // Matroska rounds to milliseconds.
      for (std::size_t k = 0; k < copied.size(); ++k) EXPECT_NEAR(copied[k], times[i][k], 1.01e-3);
    }
    EXPECT_EQ(value(folder / name, "a", "stream_tags=language"), "eng;ger");
    EXPECT_EQ(value(folder / name, "s", "stream_tags=language"), "fra");
    EXPECT_EQ(read_video(folder / name).frames.size(), 50U);
    EXPECT_FALSE(any_contains(notes, "left out"));
    EXPECT_EQ(any_contains(notes, "is converted to mov_text"), std::string(name) != "out.mkv");
  }
}

// As SubRip; the times are those in the file, not from its start.
std::string subtitles_of(const std::string& path) {
  return run("ffmpeg -v error -copyts -i '" + path + "' -map 0:s:0 -f srt -");
}

TEST(Streams, SubtitlesKeepTextAndTimes) {
  const TemporaryFolder folder;
  const std::string in = rich_clip(folder, "in.mkv", "-c:a aac", "srt");
  const std::string expected = subtitles_of(in);
  ASSERT_NE(expected.find("Hello"), std::string::npos);
  for (const char* name : {"out.mkv", "out.mp4", "out.webm"}) {
    SCOPED_TRACE(name);
    copy_video(in, folder / name);
    EXPECT_EQ(subtitles_of(folder / name), expected);
  }
  // And from MP4's own kind back to Matroska.
  const auto notes = copy_video(folder / "out.mp4", folder / "back.mkv");
  EXPECT_TRUE(any_contains(notes, "is converted to subrip"));
  EXPECT_EQ(subtitles_of(folder / "back.mkv"), expected);
}

// FFmpeg writes AAC into MP4 with its lead-in before time 0.
TEST(Streams, AStartBeforeZeroIsKeptOrSaid) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 1 -c:v libx264 -c:a aac '" +
         folder / "in.mp4'");
  EXPECT_FALSE(any_contains(copy_video(folder / "in.mp4", folder / "out.mp4"), "before time 0"));
  EXPECT_TRUE(any_contains(copy_video(folder / "in.mp4", folder / "out.mkv"), "0.021 s before time 0"));
  EXPECT_FALSE(any_contains(copy_video(folder / "in.mp4", folder / "out.webm"), "before time 0"));
  EXPECT_FALSE(any_contains(copy_video(folder / "out.webm", folder / "again.mkv"), "before time 0"));
  for (const char* name : {"out.mp4", "out.webm", "again.mkv"})
    EXPECT_EQ(packet_times(folder / name, "v").front(), 0.0) << name;
  // And the lead-in of Opus is told apart from what is heard: the sound itself starts at 0, to the millisecond.
  for (const char* name : {"out.webm", "again.mkv"}) {
    const double first =
        std::stod(ffprobe("-select_streams a -show_entries frame=pts_time '" + folder / name + "'").at(0));
    EXPECT_NEAR(first, 0.0, 1.01e-3) << name;
  }
}

TEST(Streams, MetadataAndChaptersAreKept) {
  const TemporaryFolder folder;
  const std::string in = rich_clip(folder, "in.mkv", "-c:a aac", "srt");
  for (const char* name : {"out.mkv", "out.mp4"}) {
    SCOPED_TRACE(name);
    copy_video(in, folder / name);
    EXPECT_EQ(ffprobe("-show_entries format_tags=title,artist '" + folder / name + "'").at(0), "A title,Somebody");
    EXPECT_EQ(
        ffprobe("-show_chapters -show_entries chapter=start_time,end_time:chapter_tags=title '" + folder / name + "'"),
        (std::vector<std::string>{"0.000000,1.000000,One", "1.000000,2.000000,Two"}));
    EXPECT_EQ(value(folder / name, "a:1", "stream_disposition=comment"), "1");
  }
}

// The fundamental of a tone, from the zero crossings of the decoded samples.
double pitch(const std::string& path, const std::string& stream) {
  const std::string samples =
      run("ffmpeg -v error -ss 0.5 -i '" + path + "' -map 0:" + stream + " -t 1 -ac 1 -ar 48000 -f s16le -");
  int crossings = 0;
  std::int16_t last = 0;
  for (std::size_t i = 0; i + 1 < samples.size(); i += 2) {
    const auto sample = static_cast<std::int16_t>(static_cast<std::uint8_t>(samples[i]) | samples[i + 1] << 8);
    if (last < 0 && sample >= 0) ++crossings;
    last = sample;
  }
  return crossings / (static_cast<double>(samples.size()) / 2 / 48000);
}

TEST(Streams, SoundIsConvertedWhereItMustBe) {
  const TemporaryFolder folder;
  const std::string in = rich_clip(folder, "in.mkv", "-ac 2 -c:a:0 aac -c:a:1 pcm_s16le", "srt");
  struct Case {
    const char *name, *first, *second;
  };
  for (const Case& c : {Case{"out.webm", "opus", "opus"}, Case{"out.mp4", "aac", "aac"}}) {
    SCOPED_TRACE(c.name);
    const auto notes = copy_video(in, folder / c.name);
    EXPECT_TRUE(any_contains(notes, std::string("is converted to ") + c.second));
    EXPECT_EQ(value(folder / c.name, "a:0", "stream=codec_name"), c.first);
    EXPECT_EQ(value(folder / c.name, "a:1", "stream=codec_name"), c.second);
    EXPECT_NEAR(pitch(folder / c.name, "a:0"), 440, 2);
    EXPECT_NEAR(pitch(folder / c.name, "a:1"), 880, 2);
    // As long as before, and starting with the picture.
    const auto times = packet_times(folder / c.name, "a:1");
    EXPECT_NEAR(times.back(), 2.0, 0.05);
    EXPECT_NEAR(times.front(), 0.0, 0.03);
  }
}

TEST(Streams, GapsInConvertedSoundStayGaps) {
  const TemporaryFolder folder;
  // Sound from 0 to 0.5 and from 1 to 1.5 seconds.
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 1.5 -c:v libx264 -af "
      "\"aselect='not(between(t,0.5,0.99))'\" -c:a pcm_s16le '" +
      folder / "in.mkv'");
  copy_video(folder / "in.mkv", folder / "out.mp4");
  const std::string samples = run("ffmpeg -v error -i '" + folder / "out.mp4' -map 0:a -ac 1 -ar 48000 -f s16le -");
  const auto level = [&](double from, double to) {
    double sum = 0;
    std::size_t count = 0;
    for (auto i = static_cast<std::size_t>(from * 48000);
         i < static_cast<std::size_t>(to * 48000) && 2 * i + 1 < samples.size(); ++i) {
      const auto sample =
          static_cast<std::int16_t>(static_cast<std::uint8_t>(samples[2 * i]) | samples[2 * i + 1] << 8);
      sum += std::abs(sample);
      ++count;
    }
    return count == 0 ? -1.0 : sum / static_cast<double>(count);
  };
  EXPECT_GT(level(0.1, 0.4), 500);
  EXPECT_LT(level(0.6, 0.9), 50);
  EXPECT_GE(level(0.6, 0.9), 0);
  EXPECT_GT(level(1.1, 1.4), 500);
}

TEST(Streams, WhatCannotBeHeldIsNamed) {
  const TemporaryFolder folder;
  const std::string clip = rich_clip(folder, "in.mkv", "-c:a aac", "srt");
  const auto notes = copy_video(clip, folder / "out.avi");
  EXPECT_TRUE(any_contains(notes, "subtitle stream 3 (subrip (fra)) is left out"));
  EXPECT_TRUE(any_contains(copy_video(clip, folder / "out.y4m"), "left out"));
}

TEST(Streams, CoverArtAndAttachmentsAreKept) {
  const TemporaryFolder folder;
  ffmpeg("-f lavfi -i testsrc2=size=120x90 -frames:v 1 '" + folder / "cover.png'");
  write_text(folder / "font.ttf", "not really a font");
  ffmpeg("-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -i '" +
         folder /
             "cover.png' -map 2 -map 0 -map 1 -t 1 "
             "-c:v:0 copy -c:v:1 libx264 -c:a aac -disposition:v:0 attached_pic '" +
         folder / "in.mp4'");
  const auto source = open_source(folder / "in.mp4");
  EXPECT_EQ(source->info().width, 64);  // not the cover
  bool has_cover = false;
  for (const StreamSummary& stream : source->info().streams) has_cover |= stream.kind == StreamKind::cover;
  EXPECT_TRUE(has_cover);
  for (const char* name : {"out.mp4", "out.mkv"}) {
    SCOPED_TRACE(name);
    const auto notes = copy_video(folder / "in.mp4", folder / name);
    EXPECT_FALSE(any_contains(notes, "left out"));
    const Video video = read_video(folder / name);
    EXPECT_EQ(video.frames.size(), 25U);
    bool kept = false;
    for (const StreamSummary& stream : video.info.streams)
      kept |= stream.kind == StreamKind::cover && stream.description.find("120x90") != std::string::npos;
    EXPECT_TRUE(kept);
  }
  EXPECT_TRUE(any_contains(copy_video(folder / "in.mp4", folder / "out.webm"), "left out"));
  ffmpeg("-i '" + folder / "in.mp4' -map 0:V:0 -c copy -attach '" +
         folder / "font.ttf' -metadata:s:t mimetype=font/ttf '" + folder / "font.mkv'");
  copy_video(folder / "font.mkv", folder / "font-out.mkv");
  EXPECT_EQ(value(folder / "font-out.mkv", "t", "stream_tags=filename,mimetype"), "font.ttf,font/ttf");
}

TEST(Streams, OffsetBetweenSoundAndPictureIsKept) {
  const TemporaryFolder folder;
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -itsoffset 0.2345 -f lavfi -i sine=440:sample_rate=48000 -t 1.5 -c:v "
      "libx264 "
      "-c:a aac '" +
      folder / "in.mp4'");
  copy_video(folder / "in.mp4", folder / "out.mp4");
  copy_video(folder / "in.mp4", folder / "out.mkv");
  const auto offset = [&](const std::string& name) {
    const auto first = [&](const std::string& stream) {
      return std::stod(
          ffprobe("-select_streams " + stream + " -show_entries frame=pts_time '" + folder / name + "'").at(0));
    };
    return first("a:0") - first("v:0");
  };
  EXPECT_NEAR(offset("out.mp4"), offset("in.mp4"), 1e-4);
  EXPECT_NEAR(offset("out.mkv"), offset("in.mp4"), 1.1e-3);
}

TEST(Streams, NothingIsCopiedWhenToldSo) {
  const TemporaryFolder folder;
  const std::string in = rich_clip(folder, "in.mkv", "-c:a aac", "srt");
  copy_video(in, folder / "out.mkv", [](SinkSettings& s) { s.copy_streams = false; });
  EXPECT_EQ(ffprobe("-show_entries stream=codec_type '" + folder / "out.mkv'"), std::vector<std::string>{"video"});
}

TEST(Streams, SurroundSoundIsConverted) {
  const TemporaryFolder folder;
  ffmpeg(
      "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440:sample_rate=44100 -t 1 -c:v libx264 -ac 6 -c:a "
      "flac '" +
      folder / "in.mkv'");
  const auto notes = copy_video(folder / "in.mkv", folder / "out.webm");
  EXPECT_TRUE(any_contains(notes, "is converted to opus"));
  EXPECT_EQ(value(folder / "out.webm", "a:0", "stream=sample_rate,channels"), "48000,6");
}

}  // namespace
}  // namespace flashvsr::media::test
