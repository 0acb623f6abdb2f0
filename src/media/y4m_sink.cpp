#include "media/file_io.h"
#include "media/output_file.h"
#include "media/y4m.h"

#include "core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <optional>
#include <utility>

namespace flashvsr::media {

namespace {

class Y4mSink final : public FrameSink {
 public:
  Y4mSink(const std::string& path, const VideoInfo& source, const SinkSettings& settings)
      : frame_rate_(source.frame_rate), time_base_(source.time_base), name_(path == "-" ? "standard output" : path) {
    if (path == "-") {
      standard_output_ = FileDescriptor(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
      if (standard_output_.get() < 0) fail(ErrorCode::io, "{}: cannot be written: {}", name_, describe_errno(errno));
    } else {
      file_.emplace(path, source.path, settings.overwrite);
    }
    format_.width = settings.width;
    format_.height = settings.height;
    const bool odd = settings.width % 2 != 0 || settings.height % 2 != 0;
    format_.log2_chroma_width = format_.log2_chroma_height = odd ? 0 : 1;
    info_.path = path;
    info_.container = "yuv4mpeg";
    info_.encoder = "rawvideo";
    info_.pixel_format = odd ? "444" : "420jpeg";
    info_.sample_aspect = settings.sample_aspect.value_or(source.sample_aspect);
    // A reader has only the size to tell the matrix from.
    info_.color = assumed_tags({}, settings.height, false);
    format_.matrix = info_.color.matrix;
    format_.range = info_.color.range;
    buffer_.resize(format_.frame_bytes());
    if (odd)
      notes_.push_back(
          fmt::format("{}: written as 4:4:4, because {}x{} is odd.", name_, settings.width, settings.height));
    if (settings.copy_streams && !source.streams.empty())
      notes_.push_back(
          fmt::format("{}: YUV4MPEG2 holds video only: sound, subtitles and the like are left out.", name_));
    header_ = fmt::format("{} W{} H{} F{}:{} Ip A{}:{} C{} XCOLORRANGE=LIMITED\n", kY4mMagic, settings.width,
                          settings.height, frame_rate_.numerator, frame_rate_.denominator,
                          info_.sample_aspect.numerator, info_.sample_aspect.denominator, info_.pixel_format);
  }

  const SinkInfo& info() const override { return info_; }

  void write(const Frame& frame) override {
    require(frame.width == format_.width && frame.height == format_.height &&
                frame.rgb.size() == static_cast<std::size_t>(frame.width) * static_cast<std::size_t>(frame.height) * 3,
            "{}: a frame of {}x{} was given to a sink of {}x{}", name_, frame.width, frame.height, format_.width,
            format_.height);
    check_time(frame.pts);
    write_header();
    rgb_to_planar(format_, frame.rgb.data(), buffer_.data());
    put("FRAME\n", 6);
    put(buffer_.data(), buffer_.size());
    ++frames_;
  }

  void finish() override {
    write_header();
    if (file_) {
      file_->commit();
    } else if (const int error = standard_output_.close()) {
      fail(ErrorCode::io, "{}: cannot be written: {}", name_, describe_errno(error));
    }
  }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  // Not in the constructor: a reader of the pipe should see nothing of a run that fails before its first frame.
  void write_header() {
    put(header_.data(), header_.size());
    header_.clear();
  }

  void put(const void* data, std::size_t bytes) {
    if (file_) return file_->write(data, bytes);
    if (const int error = write_all(standard_output_.get(), data, bytes))
      fail(ErrorCode::io, "{}: cannot be written: {}", name_, describe_errno(error));
  }

  void check_time(std::int64_t pts) {
    if (frames_ == 0) first_pts_ = pts;
    const double expected = static_cast<double>(frames_) / frame_rate_.value();
    const double actual = static_cast<double>(pts - first_pts_) * time_base_.value();
    // Containers with coarse clocks round every time stamp; a whole frame off is no rounding.
    if (variable_rate_noted_ || std::abs(actual - expected) < 1.0 / frame_rate_.value()) return;
    variable_rate_noted_ = true;
    notes_.push_back(fmt::format(
        "{}: the frame rate of the input varies, which YUV4MPEG2 cannot hold: the frames follow each other evenly.",
        name_));
  }

  Rational frame_rate_, time_base_;
  std::string name_;
  PlanarFormat format_;
  SinkInfo info_;
  std::string header_;
  std::vector<std::string> notes_;
  std::vector<std::uint8_t> buffer_;
  FileDescriptor standard_output_;
  std::optional<OutputFile> file_;
  std::int64_t frames_ = 0, first_pts_ = 0;
  bool variable_rate_noted_ = false;
};

}  // namespace

std::unique_ptr<FrameSink> open_y4m_sink(const std::string& path, const VideoInfo& source,
                                         const SinkSettings& settings) {
  return std::make_unique<Y4mSink>(path, source, settings);
}

}  // namespace flashvsr::media
