// Video files out: the frames are encoded, everything else of the source is carried over.
#include "media/color.h"
#include "media/ffmpeg/cuda_device.h"
#include "media/ffmpeg/encoder.h"
#include "media/ffmpeg/ffmpeg_media.h"
#include "media/ffmpeg/libav.h"
#include "media/ffmpeg/muxer.h"
#include "media/ffmpeg/pixels.h"
#include "media/ffmpeg/stream_copy.h"

#include <algorithm>
#include <limits>
#include <map>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

namespace flashvsr::media {

namespace {

struct FrameTime {
  std::int64_t pts, duration;
};

class VideoSink final : public FrameSink {
 public:
  VideoSink(const std::string& path, const VideoInfo& source, const SinkSettings& settings)
      : time_base_(to_av(source.time_base)),
        muxer_(path, source.path, settings.overwrite),
        device_(settings.cuda ? make_cuda_device(settings.cuda_device) : nullptr),
        device_frames_(device_ ? make_device_frames(*device_, settings.width, settings.height) : nullptr),
        encoder_(device_ ? open_device_encoder(muxer_.format(), path, source, settings, *device_frames_, notes_)
                         : open_encoder(muxer_.format(), path, source, settings, notes_)),
        packet_(make_packet()) {
    if (!device_) writer_.emplace(settings.width, settings.height, encoder_.context->pix_fmt, encoder_.tags);
    AVStream& stream = muxer_.add_stream();
    stream_index_ = stream.index;
    const int code = avcodec_parameters_from_context(stream.codecpar, encoder_.context.get());
    if (code < 0) fail_to_write(path, code);
    constant_rate_ = std::string_view(muxer_.format().name) == "avi";
    stream.time_base = constant_rate_ ? encoder_.context->time_base : time_base_;
    stream.avg_frame_rate = encoder_.context->framerate;
    stream.r_frame_rate = encoder_.context->framerate;
    stream.sample_aspect_ratio = encoder_.context->sample_aspect_ratio;
    stream.disposition = AV_DISPOSITION_DEFAULT;
    if (settings.copy_streams) copier_.emplace(source, muxer_, stream, notes_);
    place_start(source);
    muxer_.write_header();
    note_clock();

    info_.path = path;
    info_.container = muxer_.format().name;
    info_.encoder = encoder_.context->codec->name;
    info_.pixel_format = pixel_format_name(device_ ? encoder_.context->sw_pix_fmt : encoder_.context->pix_fmt);
    info_.on_device = device_ != nullptr;
    info_.color = encoder_.tags;
    info_.sample_aspect = settings.sample_aspect.value_or(source.sample_aspect);
  }

  const SinkInfo& info() const override { return info_; }

  void write(const Frame& frame) override {
    AvFrame picture = device_ ? picture_on_device(frame) : writer_->write(frame);
    const std::int64_t duration = frame.duration > 0 ? frame.duration : 1;
    picture->pts = encoder_time(frame.pts);
    picture->pict_type = AV_PICTURE_TYPE_NONE;
    picture->quality = encoder_.context->global_quality;
    times_[picture->pts] = {frame.pts, duration};
    clear_message();
    const int code = avcodec_send_frame(encoder_.context.get(), picture.get());
    if (code < 0)
      fail(ErrorCode::io, "{}: frame {} cannot be encoded: {}", info_.path, frames_ + 1, describe_code(code));
    ++frames_;
    write_packets();
  }

  DevicePicture device_picture() override {
    require(device_ != nullptr, "this sink takes no pictures on a device");
    AvFrame picture = make_frame();
    const int code = av_hwframe_get_buffer(device_frames_.get(), picture.get(), 0);
    if (code < 0)
      fail(ErrorCode::out_of_memory, "{}: the CUDA device has no memory for a picture: {}", info_.path,
           describe_code(code));
    picture->chroma_location = encoder_.context->chroma_sample_location;
    return device_picture_of(std::move(picture), encoder_.tags);
  }

  void finish() override {
    if (frames_ > 0) {
      const int code = avcodec_send_frame(encoder_.context.get(), nullptr);
      if (code < 0) fail(ErrorCode::io, "{}: the video cannot be completed: {}", info_.path, describe_code(code));
      write_packets();
    }
    if (packets_ != frames_)
      fail(ErrorCode::io, "{}: {} gave {} pictures for {} frames: choose another --codec", info_.path, info_.encoder,
           packets_, frames_);
    if (copier_) copier_->copy_rest();
    muxer_.finish();
  }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  // One that device_picture() gave.
  AvFrame picture_on_device(const Frame& frame) const {
    require(bool(frame.device), "a sink on the device was given a frame of the host");
    AvFrame picture(av_frame_clone(static_cast<const AVFrame*>(frame.device.owner.get())));
    if (!picture) throw std::bad_alloc();
    picture->colorspace = encoder_.context->colorspace;
    picture->color_range = encoder_.context->color_range;
    picture->color_primaries = encoder_.context->color_primaries;
    picture->color_trc = encoder_.context->color_trc;
    return picture;
  }

  // Matroska has no times below 0. FFmpeg would make everything later also for the lead-in of Opus, which Matroska
  // describes in another way.
  void place_start(const VideoInfo& source) {
    const std::string_view name = muxer_.format().name;
    if (name != "matroska" && name != "webm") return;
    const double video = static_cast<double>(source.first_pts) * av_q2d(time_base_);
    const double start = std::min({0.0, video, copier_ ? copier_->earliest() : 0.0});
    constexpr double kTick = 1e-3;
    if (start > -kTick) {
      muxer_.context().avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED;
    } else {
      notes_.push_back(
          fmt::format("{}: the input starts {:.3f} s before time 0, which this container cannot hold: all time "
                      "stamps are later by as much.",
                      muxer_.path(), -start));
    }
  }

  void note_clock() {
    if (constant_rate_) {
      notes_.push_back(
          fmt::format("{}: AVI holds a constant frame rate only ({}/{}): times are rounded to whole frames.",
                      muxer_.path(), encoder_.context->framerate.num, encoder_.context->framerate.den));
      return;
    }
    const AVRational clock = muxer_.context().streams[stream_index_]->time_base;
    // Whether every tick of the source falls on a tick of the container.
    const std::int64_t ticks = static_cast<std::int64_t>(time_base_.num) * clock.den;
    if (ticks % (static_cast<std::int64_t>(time_base_.den) * clock.num) != 0)
      notes_.push_back(
          fmt::format("{}: this container counts time in steps of {}/{} s: time stamps are rounded to them.",
                      muxer_.path(), clock.num, clock.den));
  }

  std::int64_t encoder_time(std::int64_t pts) {
    if (constant_rate_) {
      last_number_ = std::max(av_rescale_q(pts, time_base_, encoder_.context->time_base), last_number_ + 1);
      return last_number_;
    }
    return encoder_.counts_frames ? frames_ : pts;
  }

  void write_packets() {
    for (;;) {
      const int code = avcodec_receive_packet(encoder_.context.get(), packet_.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      if (code < 0) fail(ErrorCode::io, "{}: the video cannot be encoded: {}", info_.path, describe_code(code));
      ++packets_;
      packet_->stream_index = stream_index_;
      AVRational packet_base = encoder_.context->time_base;
      const auto time = times_.find(packet_->pts);
      if (time != times_.end()) {
        packet_->duration = constant_rate_ ? 1 : time->second.duration;
        if (encoder_.counts_frames && !constant_rate_) {
          packet_->pts = packet_->dts = time->second.pts;
          packet_base = time_base_;
        }
        times_.erase(time);
      }
      const double seconds = static_cast<double>(packet_->dts) * av_q2d(packet_base);
      if (copier_) copier_->copy_until(seconds);
      muxer_.write(*packet_, packet_base);
    }
  }

  std::vector<std::string> notes_;
  AVRational time_base_;
  Muxer muxer_;
  AvBuffer device_, device_frames_;
  OpenedEncoder encoder_;
  std::optional<PictureWriter> writer_;
  AvPacket packet_;
  SinkInfo info_;
  std::optional<StreamCopier> copier_;
  // Of frames that the encoder still holds, by the time that it was given.
  std::map<std::int64_t, FrameTime> times_;
  int stream_index_ = 0;
  bool constant_rate_ = false;
  std::int64_t frames_ = 0, packets_ = 0, last_number_ = std::numeric_limits<std::int64_t>::min() / 2;
};

}  // namespace

std::unique_ptr<FrameSink> open_video_sink(const std::string& path, const VideoInfo& source,
                                           const SinkSettings& settings) {
  return std::make_unique<VideoSink>(path, source, settings);
}

}  // namespace flashvsr::media
