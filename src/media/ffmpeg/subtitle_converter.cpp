#include "media/ffmpeg/converters.h"
#include "media/ffmpeg/streams.h"

#include <cstring>
#include <limits>
#include <new>
#include <utility>

namespace flashvsr::media {

namespace {

// Longest text of one subtitle; its packet is never larger than this.
constexpr int kMaxSubtitleBytes = 1 << 20;

class SubtitleConverter final : public PacketConverter {
 public:
  SubtitleConverter(CodecContext decoder, CodecContext encoder)
      : decoder_(std::move(decoder)), encoder_(std::move(encoder)), buffer_(kMaxSubtitleBytes) {}

  const AVCodecContext& encoder() const override { return *encoder_; }

  void convert(const AVPacket* packet, std::vector<AvPacket>& converted) override {
    if (packet == nullptr) return;
    AVSubtitle subtitle{};
    int complete = 0;
    // The declaration has no const, but the packet is only read.
    if (avcodec_decode_subtitle2(decoder_.get(), &subtitle, &complete, const_cast<AVPacket*>(packet)) < 0 ||
        complete == 0)
      return;
    if (subtitle.num_rects > 0) encode(*packet, subtitle, converted);
    avsubtitle_free(&subtitle);
  }

 private:
  void encode(const AVPacket& packet, AVSubtitle& subtitle, std::vector<AvPacket>& converted) {
    constexpr AVRational kMillisecond{1, 1000};
    std::int64_t pts = av_rescale_q(packet.pts, decoder_->pkt_timebase, AV_TIME_BASE_Q);
    if (packet.pts == AV_NOPTS_VALUE) pts = subtitle.pts;
    if (pts == AV_NOPTS_VALUE) return;
    pts += av_rescale_q(subtitle.start_display_time, kMillisecond, AV_TIME_BASE_Q);
    std::int64_t duration = av_rescale_q(packet.duration, decoder_->pkt_timebase, AV_TIME_BASE_Q);
    if (duration <= 0 && subtitle.end_display_time != std::numeric_limits<std::uint32_t>::max())
      duration = av_rescale_q(static_cast<std::int64_t>(subtitle.end_display_time) - subtitle.start_display_time,
                              kMillisecond, AV_TIME_BASE_Q);
    subtitle.pts = pts;
    subtitle.end_display_time -= subtitle.start_display_time;
    subtitle.start_display_time = 0;
    const int size =
        avcodec_encode_subtitle(encoder_.get(), buffer_.data(), static_cast<int>(buffer_.size()), &subtitle);
    if (size <= 0) return;
    AvPacket result = make_packet();
    if (av_new_packet(result.get(), size) < 0) throw std::bad_alloc();
    std::memcpy(result->data, buffer_.data(), static_cast<std::size_t>(size));
    result->pts = result->dts = pts;
    result->duration = duration;
    converted.push_back(std::move(result));
  }

  CodecContext decoder_, encoder_;
  std::vector<std::uint8_t> buffer_;
};

}  // namespace

std::unique_ptr<PacketConverter> make_subtitle_converter(const AVStream& stream, const AVOutputFormat& container,
                                                         std::string& reason) {
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(stream.codecpar->codec_id);
  if (descriptor == nullptr || (descriptor->props & AV_CODEC_PROP_TEXT_SUB) == 0) {
    reason = "it is made of pictures";
    return nullptr;
  }
  CodecContext decoder = open_decoder(stream, reason);
  if (!decoder) return nullptr;
  for (const char* name : {"srt", "ass", "webvtt", "mov_text"}) {
    const AVCodec* encoder_codec = avcodec_find_encoder_by_name(name);
    if (encoder_codec == nullptr || !container_holds(container, encoder_codec->id)) continue;
    CodecContext encoder = make_codec_context(encoder_codec);
    encoder->time_base = AV_TIME_BASE_Q;
    if (decoder->subtitle_header != nullptr) {
      const auto bytes = static_cast<std::size_t>(decoder->subtitle_header_size);
      encoder->subtitle_header = static_cast<std::uint8_t*>(av_mallocz(bytes + 1));
      if (encoder->subtitle_header == nullptr) throw std::bad_alloc();
      std::memcpy(encoder->subtitle_header, decoder->subtitle_header, bytes);
      encoder->subtitle_header_size = decoder->subtitle_header_size;
    }
    if (avcodec_open2(encoder.get(), encoder_codec, nullptr) == 0)
      return std::make_unique<SubtitleConverter>(std::move(decoder), std::move(encoder));
  }
  reason = "this FFmpeg encodes no subtitles that it holds";
  return nullptr;
}

}  // namespace flashvsr::media
