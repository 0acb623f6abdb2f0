// Video files: any container and codec that FFmpeg reads.
#include "media/ffmpeg/cuda_device.h"
#include "media/ffmpeg/ffmpeg_media.h"
#include "media/ffmpeg/libav.h"
#include "media/ffmpeg/pixels.h"
#include "media/ffmpeg/streams.h"
#include "media/y4m.h"

extern "C" {
#include <libavutil/display.h>
}

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

namespace flashvsr::media {

namespace {

// A guess above this is the clock of the container, not a frame rate.
constexpr double kMaxFrameRate = 1000.0;

Rational usable_frame_rate(AVFormatContext& input, AVStream& stream, bool& known) {
  known = true;
  for (const AVRational rate :
       {stream.avg_frame_rate, stream.r_frame_rate, av_guess_frame_rate(&input, &stream, nullptr)})
    if (rate.num > 0 && rate.den > 0 && av_q2d(rate) <= kMaxFrameRate) return from_av(rate);
  known = false;
  return {25, 1};
}

Rational usable_aspect(AVRational aspect) {
  return aspect.num > 0 && aspect.den > 0 ? from_av(aspect) : Rational{1, 1};
}

bool is_hardware(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  return description != nullptr && (description->flags & AV_PIX_FMT_FLAG_HWACCEL) != 0;
}

// NVDEC's choice among the formats that a decoder offers. What it does not take comes in the software's format.
AVPixelFormat choose_device_format(AVCodecContext* decoder, const AVPixelFormat* formats) {
  const AVPixelFormat samples = decoder->sw_pix_fmt;
  const bool suits = samples == AV_PIX_FMT_YUV420P || samples == AV_PIX_FMT_YUVJ420P || samples == AV_PIX_FMT_YUV420P10;
  for (const AVPixelFormat* format = formats; *format != AV_PIX_FMT_NONE; ++format) {
    if (is_hardware(*format) ? suits && *format == AV_PIX_FMT_CUDA : true) return *format;
  }
  return AV_PIX_FMT_NONE;
}

// FFmpeg's own decoder of a codec with NVDEC behind it; null if there is none.
const AVCodec* find_device_decoder(AVCodecID id) {
  void* position = nullptr;
  while (const AVCodec* codec = av_codec_iterate(&position)) {
    if (codec->id != id || av_codec_is_decoder(codec) == 0) continue;
    for (int i = 0; const AVCodecHWConfig* config = avcodec_get_hw_config(codec, i); ++i) {
      // "Internal" are wrappers of the driver's own decoder, which choose no format.
      const bool has_device = (config->methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX) != 0;
      const bool wrapped = (config->methods & AV_CODEC_HW_CONFIG_METHOD_INTERNAL) != 0;
      if (config->device_type == AV_HWDEVICE_TYPE_CUDA && has_device && !wrapped) return codec;
    }
  }
  return nullptr;
}

class VideoSource final : public FrameSource {
 public:
  VideoSource(const std::string& path, const SourceSettings& settings)
      : input_(open_input(path, interrupt_)), stream_(choose_video_stream(*input_, path)), packet_(make_packet()) {
    info_.path = path;
    info_.on_device = settings.cuda;
    if (settings.cuda) device_ = make_cuda_device(settings.cuda_device);
    open_decoder(settings);
    for (unsigned i = 0; i < input_->nb_streams; ++i)
      if (input_->streams[i] != stream_) input_->streams[i]->discard = AVDISCARD_ALL;
    clear_message();
    next_ = make_frame();
    if (!decode(*next_)) {
      const std::string message = last_message();
      fail(ErrorCode::format, "{}: no frame of its video ({}) can be decoded{}", path, info_.codec,
           message.empty() ? std::string(": it holds none") : ": " + message);
    }
    if (info_.on_device) require_device_picture(*next_);
    describe();
    next_pts_ = info_.first_pts = time_of(*next_);
  }

  const VideoInfo& info() const override { return info_; }

  bool read(Frame& frame) override {
    if (!next_) return false;
    AvFrame current = std::move(next_);
    frame.pts = next_pts_;
    AvFrame following = make_frame();
    if (decode(*following)) {
      // The time to the next frame is what a player shows, whatever the packets say.
      last_pts_ = frame.pts;
      next_pts_ = time_of(*following);
      frame.duration = next_pts_ - frame.pts;
      next_ = std::move(following);
    } else {
      frame.duration = current->pkt_duration > 0 ? current->pkt_duration : frame_duration_;
    }
    if (info_.on_device) {
      give_on_device(std::move(current), frame);
      return true;
    }
    if ((current->width != stored_width_ || current->height != stored_height_) && !size_change_noted_) {
      size_change_noted_ = true;
      note("its picture changes from {}x{} to {}x{} at frame {}: later frames are scaled to the first size.",
           stored_width_, stored_height_, current->width, current->height, frames_given_ + 1);
    }
    frame.device = {};
    converter_.read(*current, info_.color_assumed, orientation_, stored_width_, stored_height_, info_.path, frame);
    ++frames_given_;
    if (!next_) report_damage();
    return true;
  }

  void interrupt() noexcept override { interrupt_.raise(); }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  template <typename... Arguments>
  void note(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    notes_.push_back(info_.path + ": " + fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  void open_decoder(const SourceSettings& settings) {
    const AVCodecParameters& parameters = *stream_->codecpar;
    info_.codec = avcodec_get_name(parameters.codec_id);
    check_picture_size(info_.path, parameters.width, parameters.height);
    const AVCodec* codec =
        device_ ? find_device_decoder(parameters.codec_id) : avcodec_find_decoder(parameters.codec_id);
    if (codec == nullptr && device_)
      fail(ErrorCode::unsupported, "{}: this FFmpeg has no NVDEC for its video ({})", info_.path, info_.codec);
    if (codec == nullptr)
      fail(ErrorCode::unsupported, "{}: FFmpeg has no decoder for its video ({})", info_.path, info_.codec);
    decoder_ = make_codec_context(codec);
    int code = avcodec_parameters_to_context(decoder_.get(), &parameters);
    if (code < 0) fail_to_read(info_.path, "its video cannot be decoded", code);
    decoder_->pkt_timebase = stream_->time_base;
    decoder_->max_pixels = kMaxPixels;
    decoder_->thread_count = codec_threads(settings.threads);
    if (device_) {
      decoder_->hw_device_ctx = av_buffer_ref(device_.get());
      decoder_->get_format = choose_device_format;
      // Those that the caller keeps, and the two here.
      decoder_->extra_hw_frames = kDevicePicturesHeld + 2;
      decoder_->thread_count = 1;  // each would keep pictures
    }
    clear_message();
    code = avcodec_open2(decoder_.get(), codec, nullptr);
    if (code < 0) fail_to_read(info_.path, "its video cannot be decoded", code);
  }

  // The first picture: NVDEC either takes the whole video or nothing.
  void require_device_picture(const AVFrame& picture) const {
    const auto refuse = [&](const std::string& reason) {
      fail(ErrorCode::unsupported, "{}: NVDEC does not take its video ({}, {}): {}", info_.path, info_.codec,
           pixel_format_name(decoder_->sw_pix_fmt), reason);
    };
    if (picture.format != AV_PIX_FMT_CUDA) {
      const std::string message = last_message();
      refuse(message.empty() ? "it is not of a kind that it decodes to 4:2:0 of 8 or 10 bits" : message);
    }
    if (picture.crop_left != 0 || picture.crop_top != 0) refuse("its pictures are cut on the left or at the top");
    if (!chroma_siting(picture.chroma_location)) refuse("its chroma lies in an unusual place");
  }

  void give_on_device(AvFrame picture, Frame& frame) {
    ++frames_given_;
    if (picture->format != AV_PIX_FMT_CUDA || picture->width != stored_width_ || picture->height != stored_height_ ||
        picture->crop_left != 0 || picture->crop_top != 0 || !chroma_siting(picture->chroma_location)) {
      fail(ErrorCode::unsupported,
           "{}: its picture changes at frame {} (now {}x{}): decode it on the CPU, which scales such frames",
           info_.path, frames_given_, picture->width, picture->height);
    }
    frame.width = stored_width_;
    frame.height = stored_height_;
    frame.rgb.clear();
    frame.device = device_picture_of(std::move(picture), info_.color_assumed);
    if (!next_) report_damage();
  }

  // The next picture in order of presentation; false at the end.
  bool decode(AVFrame& picture) {
    for (;;) {
      const int code = avcodec_receive_frame(decoder_.get(), &picture);
      if (code == 0) {
        if (picture.width > 0 && picture.height > 0 && picture.format >= 0) {
          if (device_ && picture.format == AV_PIX_FMT_CUDA) synchronize(*device_);
          if (picture.decode_error_flags != 0 || (picture.flags & AV_FRAME_FLAG_CORRUPT) != 0) damaged_ = true;
          return true;
        }
        av_frame_unref(&picture);
        continue;
      }
      if (code == AVERROR_EOF) return false;
      if (code != AVERROR(EAGAIN)) damaged_ = true;
      if (!feed()) return false;
    }
  }

  // Gives the decoder its next packet, or tells it that there are no more; false if it knows that already.
  bool feed() {
    if (drained_) return false;
    for (;;) {
      av_packet_unref(packet_.get());
      const int code = av_read_frame(input_.get(), packet_.get());
      if (code == AVERROR(EAGAIN)) continue;
      if (interrupt_.raised()) fail(ErrorCode::io, "{}: reading was interrupted", info_.path);
      if (code < 0) {
        if (code != AVERROR_EOF) damaged_ = true;
        if (input_->pb != nullptr && input_->pb->error < 0) damaged_ = true;
        drained_ = true;
        (void)avcodec_send_packet(decoder_.get(), nullptr);
        return true;
      }
      if (packet_->stream_index != stream_->index) continue;
      if ((packet_->flags & AV_PKT_FLAG_CORRUPT) != 0) damaged_ = true;
      if (avcodec_send_packet(decoder_.get(), packet_.get()) < 0) damaged_ = true;
      return true;
    }
  }

  // Presentation time of a picture in the stream's time base: rising strictly, whatever the file says.
  std::int64_t time_of(const AVFrame& picture) {
    std::int64_t pts = picture.best_effort_timestamp;
    const bool first = !last_pts_ && frames_given_ == 0;
    if (pts == AV_NOPTS_VALUE) return first ? 0 : *last_pts_ + frame_duration_;
    pts -= origin_;
    if (!first && pts <= *last_pts_) {
      if (!order_noted_) note("the time stamps of its frames do not rise everywhere: such frames follow at once.");
      order_noted_ = true;
      pts = *last_pts_ + 1;
    }
    return pts;
  }

  void describe() {
    const AVFrame& picture = *next_;
    const AVPixelFormat format = sample_format(picture);
    stored_width_ = picture.width;
    stored_height_ = picture.height;
    info_.kind = SourceKind::video;
    info_.container = input_->iformat->name;
    info_.pixel_format = pixel_format_name(format);
    info_.stream_index = stream_->index;
    info_.time_base = from_av(stream_->time_base);
    bool rate_known = true;
    info_.frame_rate = usable_frame_rate(*input_, *stream_, rate_known);
    if (!rate_known)
      note("does not say its frame rate; where time stamps are missing, 25 frames per second are assumed.");
    frame_duration_ = std::max<std::int64_t>(1, std::llround(1.0 / info_.frame_rate.value() / info_.time_base.value()));
    describe_geometry(picture);
    describe_times();
    describe_colors(picture, format);
    if (info_.on_device) {
      (void)luma_weights(info_.color_assumed.matrix);
      if (!orientation_.upright())
        fail(ErrorCode::unsupported, "{}: its pictures are turned, which is done on the CPU alone", info_.path);
    }
    info_.streams = summarize_streams(*input_, *stream_);
    note_other_videos();
    if (picture.interlaced_frame != 0) {
      info_.interlaced = true;
      note("is interlaced; its frames are taken as they are: deinterlace it first for a better result.");
    }
  }

  void describe_geometry(const AVFrame& picture) {
    const std::int32_t* matrix =
        reinterpret_cast<const std::int32_t*>(av_stream_get_side_data(stream_, AV_PKT_DATA_DISPLAYMATRIX, nullptr));
    if (matrix == nullptr) {
      const AVFrameSideData* side = av_frame_get_side_data(&picture, AV_FRAME_DATA_DISPLAYMATRIX);
      if (side != nullptr && side->size >= 9 * sizeof(std::int32_t))
        matrix = reinterpret_cast<const std::int32_t*>(side->data);
    }
    if (matrix != nullptr) {
      bool exact = true;
      orientation_ = orientation_of_matrix(std::span<const std::int32_t, 9>(matrix, 9), exact);
      if (!exact) note("asks to be shown at an angle that is no multiple of 90 degrees: the nearest one is used.");
    }
    info_.width = orientation_.transpose ? stored_height_ : stored_width_;
    info_.height = orientation_.transpose ? stored_width_ : stored_height_;
    info_.rotation = orientation_.rotation();
    info_.mirrored = orientation_.mirrored();
    info_.sample_aspect = usable_aspect(av_guess_sample_aspect_ratio(input_.get(), stream_, next_.get()));
    if (orientation_.transpose) info_.sample_aspect = {info_.sample_aspect.denominator, info_.sample_aspect.numerator};
  }

  void describe_times() {
    // The clock of a transport stream starts anywhere, by hours.
    if ((input_->iformat->flags & AVFMT_TS_DISCONT) != 0 && input_->start_time != AV_NOPTS_VALUE) {
      origin_ = av_rescale_q(input_->start_time, AV_TIME_BASE_Q, stream_->time_base);
      info_.time_origin = static_cast<double>(input_->start_time) / AV_TIME_BASE;
    }
    if (stream_->duration > 0) {
      info_.duration = static_cast<double>(stream_->duration) * info_.time_base.value();
    } else if (input_->duration > 0) {
      info_.duration = static_cast<double>(input_->duration) / AV_TIME_BASE;
    }
    if (stream_->nb_frames > 0) {
      info_.frames_estimated = stream_->nb_frames;
    } else if (info_.duration) {
      info_.frames_estimated = std::max<std::int64_t>(1, std::llround(*info_.duration * info_.frame_rate.value()));
    }
  }

  void describe_colors(const AVFrame& picture, AVPixelFormat format) {
    info_.bit_depth = bit_depth(format);
    info_.alpha = has_alpha(format);
    info_.color_found = found_tags(picture);
    ColorTags known = info_.color_found;
    // These formats have one matrix only, whatever their size.
    const AVCodecID codec = decoder_->codec_id;
    if (known.matrix == ColorMatrix::unspecified && (codec == AV_CODEC_ID_VP8 || codec == AV_CODEC_ID_MJPEG))
      known.matrix = ColorMatrix::bt601_525;
    const bool rgb = is_rgb(format);
    info_.color_assumed = assumed_tags(known, stored_height_, format);
    if (!rgb && known.matrix == ColorMatrix::unspecified)
      note("does not say its colour matrix; by its size it is taken for {}.", to_string(info_.color_assumed));
    if (info_.bit_depth > 8) note("its {} bits per sample are rounded to 8.", info_.bit_depth);
    if (known.transfer == ColorTransfer::pq || known.transfer == ColorTransfer::hlg)
      note("is HDR video; it is processed and stored with 8 bits in its own transfer curve.");
    if (info_.alpha) note("has an alpha channel, which is dropped.");
  }

  void note_other_videos() {
    for (unsigned i = 0; i < input_->nb_streams; ++i) {
      const AVStream& other = *input_->streams[i];
      if (&other != stream_ && is_video(other))
        note("has more than one video stream: stream {} ({}x{}) is used, stream {} ({}x{}) is left out.",
             stream_->index, stream_->codecpar->width, stream_->codecpar->height, i, other.codecpar->width,
             other.codecpar->height);
    }
  }

  void report_damage() {
    const std::optional<std::int64_t> expected = info_.frames_estimated;
    // Containers without a count of frames are cut off without an error; their duration tells.
    const bool short_of_duration =
        stream_->nb_frames == 0 && expected && frames_given_ + 2 < *expected && frames_given_ < *expected * 49 / 50;
    if (!damaged_ && !short_of_duration) return;
    const std::string message = last_message();
    note("is damaged or cut off: {} frames could be decoded{}{}.", frames_given_,
         expected ? fmt::format(" of about {}", *expected) : std::string(),
         message.empty() ? std::string() : " (" + message + ")");
  }

  VideoInfo info_;
  ReadInterrupt interrupt_;
  InputFormat input_;
  AVStream* stream_;
  AvBuffer device_;
  CodecContext decoder_;
  AvPacket packet_;
  AvFrame next_;
  RgbReader converter_;
  Orientation orientation_;
  std::vector<std::string> notes_;
  int stored_width_ = 0, stored_height_ = 0;
  std::int64_t origin_ = 0, frame_duration_ = 1, next_pts_ = 0, frames_given_ = 0;
  std::optional<std::int64_t> last_pts_;
  bool drained_ = false, damaged_ = false, order_noted_ = false, size_change_noted_ = false;
};

}  // namespace

std::unique_ptr<FrameSource> open_video_source(const std::string& path, const SourceSettings& settings) {
  return std::make_unique<VideoSource>(path, settings);
}

}  // namespace flashvsr::media
