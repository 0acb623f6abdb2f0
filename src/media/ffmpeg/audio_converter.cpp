#include "media/ffmpeg/converters.h"
#include "media/ffmpeg/streams.h"

extern "C" {
#include <libavutil/audio_fifo.h>
#include <libavutil/channel_layout.h>
#include <libavutil/samplefmt.h>
#include <libswresample/swresample.h>
}

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

namespace flashvsr::media {

namespace {

struct SwrFreer {
  void operator()(SwrContext* context) const { swr_free(&context); }
};
struct FifoFreer {
  void operator()(AVAudioFifo* fifo) const { av_audio_fifo_free(fifo); }
};

// Encoders in order of preference; the first that the container holds and that is installed is used.
constexpr const char* kEncoders[] = {"aac", "libopus", "libvorbis", "libmp3lame", "ac3", "flac", "pcm_s16le"};

AVSampleFormat closest_format(const AVCodec& codec, AVSampleFormat wanted) {
  if (codec.sample_fmts == nullptr) return wanted;
  for (const AVSampleFormat* f = codec.sample_fmts; *f != AV_SAMPLE_FMT_NONE; ++f)
    if (av_get_packed_sample_fmt(*f) == av_get_packed_sample_fmt(wanted)) return *f;
  return codec.sample_fmts[0];
}

int closest_rate(const AVCodec& codec, int wanted) {
  if (codec.supported_samplerates == nullptr) return wanted;
  int best = 0;
  // The next higher rate loses nothing; failing that, the highest.
  for (const int* rate = codec.supported_samplerates; *rate != 0; ++rate)
    if ((*rate >= wanted && (best < wanted || *rate < best)) || (best<wanted&& * rate> best)) best = *rate;
  return best;
}

CodecContext open_audio_encoder(const AVCodec& codec, const AVCodecContext& decoder, bool global_header) {
  AVChannelLayout standard{};
  av_channel_layout_default(&standard, decoder.ch_layout.nb_channels);
  AVChannelLayout stereo = AV_CHANNEL_LAYOUT_STEREO;
  const AVChannelLayout* source = decoder.ch_layout.order == AV_CHANNEL_ORDER_UNSPEC ? &standard : &decoder.ch_layout;
  for (const AVChannelLayout* layout :
       {source, static_cast<const AVChannelLayout*>(&standard), static_cast<const AVChannelLayout*>(&stereo)}) {
    CodecContext encoder = make_codec_context(&codec);
    if (av_channel_layout_copy(&encoder->ch_layout, layout) < 0) throw std::bad_alloc();
    encoder->sample_fmt = closest_format(codec, decoder.sample_fmt);
    encoder->sample_rate = closest_rate(codec, decoder.sample_rate);
    encoder->time_base = {1, encoder->sample_rate};
    encoder->bit_rate = std::int64_t{96'000} * std::max(layout->nb_channels, 1);
    if (global_header) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    clear_message();
    if (avcodec_open2(encoder.get(), &codec, nullptr) == 0) return encoder;
  }
  return nullptr;
}

class AudioConverter final : public PacketConverter {
 public:
  AudioConverter(CodecContext decoder, CodecContext encoder)
      : decoder_(std::move(decoder)), encoder_(std::move(encoder)), decoded_(make_frame()) {
    const bool any_size =
        (encoder_->codec->capabilities & AV_CODEC_CAP_VARIABLE_FRAME_SIZE) != 0 || encoder_->frame_size <= 0;
    frame_size_ = any_size ? 1024 : encoder_->frame_size;
    fifo_.reset(av_audio_fifo_alloc(encoder_->sample_fmt, encoder_->ch_layout.nb_channels, frame_size_ * 2));
    if (!fifo_) throw std::bad_alloc();
  }
  ~AudioConverter() override { av_channel_layout_uninit(&input_layout_); }

  const AVCodecContext& encoder() const override { return *encoder_; }

  void convert(const AVPacket* packet, std::vector<AvPacket>& converted) override {
    (void)avcodec_send_packet(decoder_.get(), packet);
    while (avcodec_receive_frame(decoder_.get(), decoded_.get()) == 0) {
      take(*decoded_, converted);
      av_frame_unref(decoded_.get());
    }
    if (packet != nullptr) return;
    if (resampler_) resample(nullptr);
    encode(true, converted);
    (void)avcodec_send_frame(encoder_.get(), nullptr);
    collect(converted);
  }

 private:
  // Adds a decoded frame at the place that its time stamp says.
  void take(AVFrame& frame, std::vector<AvPacket>& converted) {
    if (frame.ch_layout.order == AV_CHANNEL_ORDER_UNSPEC) {
      const int channels = frame.ch_layout.nb_channels;
      av_channel_layout_uninit(&frame.ch_layout);
      av_channel_layout_default(&frame.ch_layout, channels);
    }
    prepare_resampler(frame);
    const int rate = encoder_->sample_rate;
    if (frame.best_effort_timestamp != AV_NOPTS_VALUE) {
      const std::int64_t position = av_rescale_q(frame.best_effort_timestamp, decoder_->pkt_timebase, {1, rate});
      if (!started_) next_pts_ = position;
      const std::int64_t expected = next_pts_ + av_audio_fifo_size(fifo_.get()) + swr_get_delay(resampler_.get(), rate);
      const std::int64_t gap = position - expected;
      // Clocks of containers are coarse and jitter; more than a twentieth of a second is a real gap.
      if (gap > rate / 20) close_gap(gap, converted);
      if (gap < -rate / 20) drop_ = -gap;
    }
    started_ = true;
    resample(&frame);
    encode(false, converted);
  }

  void prepare_resampler(AVFrame& frame) {
    if (resampler_ && frame.format == input_format_ && frame.sample_rate == input_rate_ &&
        av_channel_layout_compare(&frame.ch_layout, &input_layout_) == 0)
      return;
    if (resampler_) resample(nullptr);
    SwrContext* context = nullptr;
    if (swr_alloc_set_opts2(&context, &encoder_->ch_layout, encoder_->sample_fmt, encoder_->sample_rate,
                            &frame.ch_layout, static_cast<AVSampleFormat>(frame.format), frame.sample_rate, 0,
                            nullptr) < 0)
      throw std::bad_alloc();
    resampler_.reset(context);
    clear_message();
    const int code = swr_init(context);
    if (code < 0) fail(ErrorCode::unsupported, "sound of this format cannot be converted: {}", describe_code(code));
    input_format_ = frame.format;
    input_rate_ = frame.sample_rate;
    if (av_channel_layout_copy(&input_layout_, &frame.ch_layout) < 0) throw std::bad_alloc();
  }

  AvFrame make_samples(int count) const {
    AvFrame samples = make_frame();
    samples->nb_samples = count;
    samples->format = encoder_->sample_fmt;
    samples->sample_rate = encoder_->sample_rate;
    if (av_channel_layout_copy(&samples->ch_layout, &encoder_->ch_layout) < 0 ||
        av_frame_get_buffer(samples.get(), 0) < 0)
      throw std::bad_alloc();
    return samples;
  }

  // nullptr: what the resampler holds back.
  void resample(const AVFrame* frame) {
    const int input_count = frame == nullptr ? 0 : frame->nb_samples;
    const int bound = swr_get_out_samples(resampler_.get(), input_count);
    if (bound <= 0) return;
    const AvFrame output = make_samples(bound);
    // Older declarations take the input's planes without const.
    const auto** planes = frame == nullptr ? nullptr : const_cast<const std::uint8_t**>(frame->extended_data);
    const int count = swr_convert(resampler_.get(), output->extended_data, bound, planes, input_count);
    if (count <= 0) return;
    const int skipped = static_cast<int>(std::min<std::int64_t>(drop_, count));
    drop_ -= skipped;
    append(*output, skipped, count - skipped);
  }

  void append(const AVFrame& samples, int offset, int count) {
    if (count <= 0) return;
    const int channels = encoder_->ch_layout.nb_channels;
    const bool planar = av_sample_fmt_is_planar(encoder_->sample_fmt) != 0;
    const int step = av_get_bytes_per_sample(encoder_->sample_fmt) * (planar ? 1 : channels);
    std::vector<void*> planes(static_cast<std::size_t>(planar ? channels : 1));
    for (std::size_t i = 0; i < planes.size(); ++i)
      planes[i] = samples.extended_data[i] + std::ptrdiff_t{step} * offset;
    if (av_audio_fifo_write(fifo_.get(), planes.data(), count) < count) throw std::bad_alloc();
  }

  void close_gap(std::int64_t gap, std::vector<AvPacket>& converted) {
    const std::int64_t longest_silence = std::int64_t{60} * encoder_->sample_rate;
    if (gap > longest_silence) {
      encode(true, converted);
      next_pts_ += gap;
      return;
    }
    while (gap > 0) {
      const int count = static_cast<int>(std::min<std::int64_t>(gap, frame_size_));
      const AvFrame silence = make_samples(count);
      av_samples_set_silence(silence->extended_data, 0, count, encoder_->ch_layout.nb_channels, encoder_->sample_fmt);
      append(*silence, 0, count);
      gap -= count;
      encode(false, converted);
    }
  }

  // Encodes whole frames, and with `all` the rest too.
  void encode(bool all, std::vector<AvPacket>& converted) {
    for (;;) {
      const int available = av_audio_fifo_size(fifo_.get());
      if (available == 0 || (available < frame_size_ && !all)) return;
      const int count = std::min(available, frame_size_);
      const AvFrame samples = make_samples(count);
      if (av_audio_fifo_read(fifo_.get(), reinterpret_cast<void**>(samples->extended_data), count) < count)
        throw std::bad_alloc();
      samples->pts = next_pts_;
      next_pts_ += count;
      clear_message();
      const int code = avcodec_send_frame(encoder_.get(), samples.get());
      if (code < 0)
        fail(ErrorCode::io, "sound cannot be encoded as {}: {}", encoder_->codec->name, describe_code(code));
      collect(converted);
    }
  }

  void collect(std::vector<AvPacket>& converted) {
    for (;;) {
      AvPacket packet = make_packet();
      if (avcodec_receive_packet(encoder_.get(), packet.get()) < 0) return;
      converted.push_back(std::move(packet));
    }
  }

  CodecContext decoder_, encoder_;
  AvFrame decoded_;
  std::unique_ptr<SwrContext, SwrFreer> resampler_;
  std::unique_ptr<AVAudioFifo, FifoFreer> fifo_;
  AVChannelLayout input_layout_{};
  int input_format_ = -1, input_rate_ = 0, frame_size_ = 0;
  std::int64_t next_pts_ = 0;  // of the first sample in the queue, in samples
  std::int64_t drop_ = 0;      // samples that overlap what has been written
  bool started_ = false;
};

}  // namespace

std::unique_ptr<PacketConverter> make_audio_converter(const AVStream& stream, const AVOutputFormat& container,
                                                      std::string& reason) {
  if (stream.codecpar->sample_rate <= 0 || stream.codecpar->ch_layout.nb_channels <= 0) {
    reason = "it does not say its sampling rate or channels";
    return nullptr;
  }
  CodecContext decoder = open_decoder(stream, reason);
  if (!decoder) return nullptr;
  if (decoder->sample_fmt == AV_SAMPLE_FMT_NONE) decoder->sample_fmt = AV_SAMPLE_FMT_FLTP;
  for (const char* name : kEncoders) {
    const AVCodec* encoder_codec = avcodec_find_encoder_by_name(name);
    if (encoder_codec == nullptr || !container_holds(container, encoder_codec->id)) continue;
    CodecContext encoder = open_audio_encoder(*encoder_codec, *decoder, (container.flags & AVFMT_GLOBALHEADER) != 0);
    if (encoder) return std::make_unique<AudioConverter>(std::move(decoder), std::move(encoder));
  }
  reason = "this FFmpeg encodes nothing that it holds";
  return nullptr;
}

}  // namespace flashvsr::media
