#include "media/ffmpeg/streams.h"

extern "C" {
#include <libavutil/channel_layout.h>
}

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <tuple>

namespace flashvsr::media {

bool container_holds(const AVOutputFormat& container, AVCodecID codec) {
  const int answer = avformat_query_codec(&container, codec, FF_COMPLIANCE_EXPERIMENTAL);
  if (answer >= 0) return answer == 1;
  const std::string_view name = container.name;
  const auto one_of = [codec](std::initializer_list<AVCodecID> known) {
    return std::find(known.begin(), known.end(), codec) != known.end();
  };
  if (name == "mpegts")
    return one_of({AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_MPEG1VIDEO, AV_CODEC_ID_MPEG2VIDEO,
                   AV_CODEC_ID_MPEG4, AV_CODEC_ID_AAC, AV_CODEC_ID_AAC_LATM, AV_CODEC_ID_MP2, AV_CODEC_ID_MP3,
                   AV_CODEC_ID_AC3, AV_CODEC_ID_EAC3, AV_CODEC_ID_DTS, AV_CODEC_ID_OPUS, AV_CODEC_ID_DVB_SUBTITLE});
  if (name == "ogg" || name == "ogv")
    return one_of({AV_CODEC_ID_THEORA, AV_CODEC_ID_VP8, AV_CODEC_ID_VORBIS, AV_CODEC_ID_OPUS, AV_CODEC_ID_FLAC,
                   AV_CODEC_ID_SPEEX});
  return false;
}

bool is_video(const AVStream& stream) {
  return stream.codecpar->codec_type == AVMEDIA_TYPE_VIDEO &&
         (stream.disposition & (AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS)) == 0;
}

AVStream* choose_video_stream(AVFormatContext& input, const std::string& path) {
  AVStream* best = nullptr;
  bool has_cover = false;
  const auto rank = [](const AVStream& stream) {
    return std::make_tuple((stream.disposition & AV_DISPOSITION_DEFAULT) != 0,
                           static_cast<std::int64_t>(stream.codecpar->width) * stream.codecpar->height);
  };
  for (unsigned i = 0; i < input.nb_streams; ++i) {
    AVStream& stream = *input.streams[i];
    if (is_video(stream)) {
      if (best == nullptr || rank(stream) > rank(*best)) best = &stream;
    } else if (stream.codecpar->codec_type == AVMEDIA_TYPE_VIDEO) {
      has_cover = true;
    }
  }
  if (best == nullptr)
    fail(ErrorCode::format, "{}: holds no video{}", path,
         has_cover ? ", only cover art" : (input.nb_streams > 0 ? ", only " + describe_stream(*input.streams[0]) : ""));
  return best;
}

std::string language_of(const AVStream& stream) {
  const AVDictionaryEntry* entry = av_dict_get(stream.metadata, "language", nullptr, 0);
  return entry == nullptr || std::string(entry->value) == "und" ? std::string() : std::string(entry->value);
}

std::string describe_stream(const AVStream& stream) {
  const AVCodecParameters& parameters = *stream.codecpar;
  std::string text = avcodec_get_name(parameters.codec_id);
  if (parameters.codec_type == AVMEDIA_TYPE_AUDIO) {
    std::array<char, 64> layout{};
    av_channel_layout_describe(&parameters.ch_layout, layout.data(), layout.size());
    text += fmt::format(", {} Hz, {}", parameters.sample_rate, layout.data());
  } else if (parameters.codec_type == AVMEDIA_TYPE_VIDEO) {
    text += fmt::format(", {}x{}", parameters.width, parameters.height);
  }
  const std::string language = language_of(stream);
  return language.empty() ? text : text + " (" + language + ")";
}

std::vector<StreamSummary> summarize_streams(const AVFormatContext& input, const AVStream& video) {
  std::vector<StreamSummary> summaries;
  for (unsigned i = 0; i < input.nb_streams; ++i) {
    const AVStream& stream = *input.streams[i];
    if (&stream == &video) continue;
    StreamSummary summary;
    switch (stream.codecpar->codec_type) {
      case AVMEDIA_TYPE_AUDIO: summary.kind = StreamKind::audio; break;
      case AVMEDIA_TYPE_SUBTITLE: summary.kind = StreamKind::subtitle; break;
      case AVMEDIA_TYPE_ATTACHMENT: summary.kind = StreamKind::attachment; break;
      case AVMEDIA_TYPE_VIDEO:
        if (is_video(stream)) continue;
        summary.kind = StreamKind::cover;
        break;
      default: continue;
    }
    summary.index = static_cast<int>(i);
    summary.codec = avcodec_get_name(stream.codecpar->codec_id);
    summary.language = language_of(stream);
    summary.description = describe_stream(stream);
    summaries.push_back(std::move(summary));
  }
  if (input.nb_chapters > 0)
    summaries.push_back({StreamKind::chapters, -1, "chapters", "", fmt::format("{} chapters", input.nb_chapters)});
  return summaries;
}

}  // namespace flashvsr::media
