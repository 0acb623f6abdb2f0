#include "media/ffmpeg/stream_copy.h"

#include "media/ffmpeg/converters.h"
#include "media/ffmpeg/streams.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace flashvsr::media {

namespace {

// How far beside packets may run ahead of the video: players read both in turn.
constexpr double kAheadSeconds = 0.5;

bool is_mov_family(const AVOutputFormat& format) {
  const std::string_view name = format.name;
  return name == "mp4" || name == "mov" || name == "ipod";
}

bool is_matroska(const AVOutputFormat& format) {
  const std::string_view name = format.name;
  return name == "matroska" || name == "webm";
}

bool is_regular_file(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// Tags that describe the file as it was rather than what it shows.
bool is_stale(std::string_view key, bool video) {
  for (const std::string_view stale : {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate"})
    if (key == stale) return true;
  if (!video) return false;
  return key.starts_with("BPS") || key.starts_with("NUMBER_OF_") || key.starts_with("_STATISTICS_") ||
         key.starts_with("DURATION");
}

void copy_tags(AVDictionary* from, AVDictionary*& to, bool video) {
  const AVDictionaryEntry* entry = nullptr;
  while ((entry = av_dict_get(from, "", entry, AV_DICT_IGNORE_SUFFIX)) != nullptr)
    if (!is_stale(entry->key, video)) av_dict_set(&to, entry->key, entry->value, AV_DICT_DONT_OVERWRITE);
}

const char* picture_type(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_MJPEG: return "image/jpeg";
    case AV_CODEC_ID_PNG: return "image/png";
    case AV_CODEC_ID_BMP: return "image/bmp";
    case AV_CODEC_ID_WEBP: return "image/webp";
    default: return nullptr;
  }
}

std::string container_name(const AVOutputFormat& format) {
  return format.long_name != nullptr ? format.long_name : format.name;
}

}  // namespace

StreamCopier::StreamCopier(const VideoInfo& source, Muxer& output, AVStream& video, std::vector<std::string>& notes)
    : output_(output), packet_(make_packet()) {
  if (source.kind != SourceKind::video) return;
  if (!is_regular_file(source.path)) {
    if (!source.streams.empty())
      notes.push_back(fmt::format("{}: sound and subtitles are left out, because {} can be read only once.",
                                  output.path(), source.path));
    return;
  }
  input_ = open_input(source.path, interrupt_);
  if (source.stream_index < 0 || static_cast<unsigned>(source.stream_index) >= input_->nb_streams)
    fail(ErrorCode::io, "{}: has changed since it was opened", source.path);
  origin_ = std::llround(source.time_origin * AV_TIME_BASE);
  routes_.resize(input_->nb_streams);
  for (unsigned i = 0; i < input_->nb_streams; ++i)
    if (static_cast<int>(i) != source.stream_index) plan(*input_->streams[i], notes);
  for (Route& route : routes_) {
    if (!route.is_audio || route.output == nullptr) continue;
    const AVCodecParameters& parameters = *route.output->codecpar;
    if (is_matroska(output_.format()) && parameters.codec_id == AV_CODEC_ID_OPUS)
      route.lead_in = parameters.initial_padding;
    if (route.converter && parameters.sample_rate > 0)
      earliest_ =
          std::min(earliest_, static_cast<double>(route.lead_in - parameters.initial_padding) / parameters.sample_rate);
  }
  copy_chapters_and_metadata(*input_->streams[source.stream_index], video);
  at_end_ = true;
  for (unsigned i = 0; i < input_->nb_streams; ++i) {
    if (routes_[i].output != nullptr)
      at_end_ = false;
    else
      input_->streams[i]->discard = AVDISCARD_ALL;
  }
  look_ahead();
}

void StreamCopier::plan(AVStream& stream, std::vector<std::string>& notes) {
  const AVCodecParameters& parameters = *stream.codecpar;
  bool kept = true;
  switch (parameters.codec_type) {
    case AVMEDIA_TYPE_AUDIO: return plan_audio(stream, notes);
    case AVMEDIA_TYPE_SUBTITLE: return plan_subtitle(stream, notes);
    case AVMEDIA_TYPE_ATTACHMENT: kept = plan_attachment(stream); break;
    // A second video is not mentioned here: the source has said that it is left out.
    case AVMEDIA_TYPE_VIDEO: kept = is_video(stream) || plan_cover(stream); break;
    default:
      // The time code track of QuickTime is made again from the metadata.
      kept = is_mov_family(output_.format()) && av_dict_get(stream.metadata, "timecode", nullptr, 0) != nullptr;
      break;
  }
  if (!kept) {
    const char* type = av_get_media_type_string(parameters.codec_type);
    notes.push_back(fmt::format("{}: stream {} ({}: {}) is left out, because {} has no place for it.", output_.path(),
                                stream.index, type == nullptr ? "of unknown type" : type, describe_stream(stream),
                                container_name(output_.format())));
  }
}

void StreamCopier::plan_audio(AVStream& stream, std::vector<std::string>& notes) {
  Route& route = routes_[static_cast<std::size_t>(stream.index)];
  route.is_audio = true;
  plan_copy_or_conversion(stream, "sound", make_audio_converter, notes);
  if (route.converter) route.output->time_base = route.converter->encoder().time_base;
}

void StreamCopier::plan_subtitle(AVStream& stream, std::vector<std::string>& notes) {
  routes_[static_cast<std::size_t>(stream.index)].is_subtitle = true;
  plan_copy_or_conversion(stream, "subtitle", make_subtitle_converter, notes);
}

void StreamCopier::plan_copy_or_conversion(AVStream& stream, const char* kind, MakeConverter make,
                                           std::vector<std::string>& notes) {
  Route& route = routes_[static_cast<std::size_t>(stream.index)];
  if (container_holds(output_.format(), stream.codecpar->codec_id)) {
    route.output = &add_output(stream, *stream.codecpar);
    return;
  }
  std::string reason;
  route.converter = make(stream, output_.format(), reason);
  const std::string name =
      fmt::format("{}: {} stream {} ({})", output_.path(), kind, stream.index, describe_stream(stream));
  if (!route.converter) {
    notes.push_back(fmt::format("{} is left out, because {} does not hold it and {}.", name,
                                container_name(output_.format()), reason));
    return;
  }
  const AVCodecContext& encoder = route.converter->encoder();
  AVCodecParameters* parameters = avcodec_parameters_alloc();
  if (parameters == nullptr || avcodec_parameters_from_context(parameters, &encoder) < 0) throw std::bad_alloc();
  route.output = &add_output(stream, *parameters);
  avcodec_parameters_free(&parameters);
  notes.push_back(fmt::format("{} is converted to {}, because {} does not hold it.", name,
                              avcodec_get_name(encoder.codec_id), container_name(output_.format())));
}

bool StreamCopier::plan_cover(AVStream& stream) {
  if (picture_type(stream.codecpar->codec_id) == nullptr || stream.attached_pic.data == nullptr) return false;
  if (is_mov_family(output_.format())) {
    if (stream.codecpar->codec_id == AV_CODEC_ID_WEBP) return false;
    AVStream& cover = add_output(stream, *stream.codecpar);
    cover.disposition = AV_DISPOSITION_ATTACHED_PIC;
    covers_.push_back(&stream);
    routes_[static_cast<std::size_t>(stream.index)].output = &cover;
    return true;
  }
  if (std::string_view(output_.format().name) != "matroska") return false;
  // Matroska keeps pictures as attached files.
  AVStream& attached = output_.add_stream();
  AVCodecParameters& parameters = *attached.codecpar;
  parameters.codec_type = AVMEDIA_TYPE_ATTACHMENT;
  parameters.codec_id = stream.codecpar->codec_id;
  const auto bytes = static_cast<std::size_t>(stream.attached_pic.size);
  parameters.extradata = static_cast<std::uint8_t*>(av_mallocz(bytes + AV_INPUT_BUFFER_PADDING_SIZE));
  if (parameters.extradata == nullptr) throw std::bad_alloc();
  std::memcpy(parameters.extradata, stream.attached_pic.data, bytes);
  parameters.extradata_size = stream.attached_pic.size;
  copy_tags(stream.metadata, attached.metadata, false);
  const std::string type = picture_type(stream.codecpar->codec_id);
  av_dict_set(&attached.metadata, "mimetype", type.c_str(), 0);
  av_dict_set(&attached.metadata, "filename", ("cover." + type.substr(type.find('/') + 1)).c_str(),
              AV_DICT_DONT_OVERWRITE);
  return true;
}

bool StreamCopier::plan_attachment(AVStream& stream) {
  if (std::string_view(output_.format().name) != "matroska") return false;
  if (av_dict_get(stream.metadata, "filename", nullptr, 0) == nullptr) return false;
  (void)add_output(stream, *stream.codecpar);
  return true;
}

AVStream& StreamCopier::add_output(AVStream& stream, const AVCodecParameters& parameters) {
  AVStream& added = output_.add_stream();
  if (avcodec_parameters_copy(added.codecpar, &parameters) < 0) throw std::bad_alloc();
  added.codecpar->codec_tag = 0;  // tags differ between containers
  added.time_base = stream.time_base;
  added.disposition = stream.disposition;
  copy_tags(stream.metadata, added.metadata, false);
  return added;
}

void StreamCopier::copy_chapters_and_metadata(AVStream& source_video, AVStream& video) {
  AVFormatContext& target = output_.context();
  copy_tags(input_->metadata, target.metadata, false);
  copy_tags(source_video.metadata, video.metadata, true);
  video.disposition = source_video.disposition | AV_DISPOSITION_DEFAULT;
  if (input_->nb_chapters == 0) return;
  target.chapters = static_cast<AVChapter**>(av_calloc(input_->nb_chapters, sizeof(AVChapter*)));
  if (target.chapters == nullptr) throw std::bad_alloc();
  for (unsigned i = 0; i < input_->nb_chapters; ++i) {
    const AVChapter& from = *input_->chapters[i];
    auto* chapter = static_cast<AVChapter*>(av_mallocz(sizeof(AVChapter)));
    if (chapter == nullptr) throw std::bad_alloc();
    const std::int64_t origin = av_rescale_q(origin_, AV_TIME_BASE_Q, from.time_base);
    chapter->id = from.id;
    chapter->time_base = from.time_base;
    chapter->start = from.start - origin;
    chapter->end = from.end - origin;
    copy_tags(from.metadata, chapter->metadata, false);
    target.chapters[target.nb_chapters++] = chapter;
  }
}

void StreamCopier::copy_until(double seconds) {
  if (!started_) {
    started_ = true;
    write_covers();
  }
  while (!at_end_ && (pending_ || read_packet())) {
    pending_ = packet_time_ > seconds + kAheadSeconds;
    if (pending_) return;
    route_packet();
  }
}

void StreamCopier::copy_rest() { copy_until(INFINITY); }

void StreamCopier::write_covers() {
  for (AVStream* stream : covers_) {
    AvPacket packet = make_packet();
    if (av_packet_ref(packet.get(), &stream->attached_pic) < 0) throw std::bad_alloc();
    Route& route = routes_[static_cast<std::size_t>(stream->index)];
    packet->stream_index = route.output->index;
    packet->pts = packet->dts = 0;
    output_.write(*packet, stream->time_base);
    // Its picture comes again as a packet of the file, which is the same one.
    route.output = nullptr;
  }
}

// Learns when the sound starts, from the first packet of each stream.
void StreamCopier::look_ahead() {
  constexpr std::size_t kMostPackets = 200;
  const auto waiting = [](const Route& route) { return route.output != nullptr && route.is_audio && !route.converter; };
  auto missing = std::count_if(routes_.begin(), routes_.end(), waiting);
  std::vector<bool> seen(routes_.size(), false);
  while (missing > 0 && !at_end_ && looked_at_.size() < kMostPackets) {
    AvPacket packet = make_packet();
    if (!fetch(*packet)) break;
    const auto index = static_cast<std::size_t>(packet->stream_index);
    if (waiting(routes_[index]) && !seen[index] && packet->pts != AV_NOPTS_VALUE) {
      seen[index] = true;
      --missing;
      const AVStream& stream = *input_->streams[index];
      double start = static_cast<double>(packet->pts) * av_q2d(stream.time_base);
      if (stream.codecpar->sample_rate > 0)
        start += static_cast<double>(routes_[index].lead_in) / stream.codecpar->sample_rate;
      earliest_ = std::min(earliest_, start);
    }
    looked_at_.push_back(std::move(packet));
  }
}

// The next packet that has a place in the output, times from the origin; false at the end.
bool StreamCopier::fetch(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    const int code = av_read_frame(input_.get(), &packet);
    if (code == AVERROR(EAGAIN)) continue;
    if (code < 0) return false;  // at the end or at the damage where the video ends too
    if (static_cast<std::size_t>(packet.stream_index) >= routes_.size()) continue;  // a stream that came later
    if (routes_[static_cast<std::size_t>(packet.stream_index)].output == nullptr) continue;
    const std::int64_t origin = av_rescale_q(origin_, AV_TIME_BASE_Q, input_->streams[packet.stream_index]->time_base);
    if (packet.pts != AV_NOPTS_VALUE) packet.pts -= origin;
    if (packet.dts != AV_NOPTS_VALUE) packet.dts -= origin;
    return true;
  }
}

// False at the end, when what converters hold back has been written.
bool StreamCopier::read_packet() {
  do {
    if (!looked_at_.empty()) {
      packet_ = std::move(looked_at_.front());
      looked_at_.pop_front();
    } else if (!fetch(*packet_)) {
      at_end_ = true;
      for (Route& route : routes_)
        if (route.converter) write_converted(route, nullptr);
      return false;
    }
    // A cover that has been written has no place any more.
  } while (routes_[static_cast<std::size_t>(packet_->stream_index)].output == nullptr);
  const std::int64_t time = packet_->dts != AV_NOPTS_VALUE ? packet_->dts : packet_->pts;
  if (time != AV_NOPTS_VALUE)
    packet_time_ = static_cast<double>(time) * av_q2d(input_->streams[packet_->stream_index]->time_base);
  return true;
}

void StreamCopier::route_packet() {
  Route& route = routes_[static_cast<std::size_t>(packet_->stream_index)];
  if (route.converter) return write_converted(route, packet_.get());
  AVRational time_base = input_->streams[packet_->stream_index]->time_base;
  const AVCodecParameters& parameters = *input_->streams[packet_->stream_index]->codecpar;
  if (packet_->dts == AV_NOPTS_VALUE) packet_->dts = packet_->pts;
  if (route.is_audio && packet_->dts != AV_NOPTS_VALUE && parameters.sample_rate > 0) {
    // Containers with coarse clocks round the times of sound; counting samples undoes that.
    const AVRational sample{1, parameters.sample_rate};
    const int samples = av_get_audio_frame_duration2(input_->streams[packet_->stream_index]->codecpar, packet_->size);
    if (samples > 0) {
      packet_->dts = packet_->pts =
          av_rescale_delta(time_base, packet_->dts, sample, samples, &route.rescale_state, sample);
      packet_->duration = packet_->duration > 0 ? av_rescale_q(packet_->duration, time_base, sample) : samples;
      time_base = sample;
    }
  }
  write(route, *packet_, time_base);
}

void StreamCopier::write_converted(Route& route, const AVPacket* packet) {
  std::vector<AvPacket> converted;
  route.converter->convert(packet, converted);
  for (const AvPacket& result : converted) write(route, *result, route.converter->encoder().time_base);
}

void StreamCopier::write(Route& route, AVPacket& packet, AVRational time_base) {
  const AVRational clock = route.output->time_base;
  if (route.lead_in > 0) {
    const std::int64_t shift = av_rescale_q(route.lead_in, {1, route.output->codecpar->sample_rate}, time_base);
    if (packet.pts != AV_NOPTS_VALUE) packet.pts += shift;
    if (packet.dts != AV_NOPTS_VALUE) packet.dts += shift;
    // Less than a tick below 0 is what rounding to the tick has left.
    const std::int64_t tick = av_rescale_q(1, clock, time_base);
    if (packet.pts != AV_NOPTS_VALUE && packet.pts < 0 && packet.pts > -tick) packet.pts = packet.dts = 0;
  }
  av_packet_rescale_ts(&packet, time_base, clock);
  if (packet.dts == AV_NOPTS_VALUE) packet.dts = packet.pts;
  if (packet.dts == AV_NOPTS_VALUE) packet.dts = route.last_dts == AV_NOPTS_VALUE ? 0 : route.last_dts + 1;
  if (route.last_dts != AV_NOPTS_VALUE) packet.dts = std::max(packet.dts, route.last_dts + (route.is_subtitle ? 0 : 1));
  packet.pts = packet.pts == AV_NOPTS_VALUE ? packet.dts : std::max(packet.pts, packet.dts);
  route.last_dts = packet.dts;
  packet.stream_index = route.output->index;
  output_.write(packet, clock);
}

}  // namespace flashvsr::media
