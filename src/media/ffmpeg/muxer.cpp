#include "media/ffmpeg/muxer.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>

namespace flashvsr::media {

namespace {

constexpr int kBufferBytes = 1 << 18;

// Formats that FFmpeg offers for an extension but that are no home for an upscaled video: pictures, and raw streams
// without time stamps.
bool is_refused(const AVOutputFormat& format) {
  const std::string_view name = format.name;
  if ((format.flags & AVFMT_NOTIMESTAMPS) != 0) return true;
  return name == "gif" || name == "apng" || name == "image2" || name == "image2pipe" || name == "webp" ||
         name == "null";
}

// Ticks per second: a multiple of those of the video, fine enough for the sound too.
int movie_clock(AVRational video) {
  int ticks = video.den;
  while (ticks < 10'000) ticks *= 2;
  return ticks;
}

const AVOutputFormat& container_for(const std::string& path) {
  capture_messages();
  const std::string extension = extension_of(path);
  if (extension.empty())
    fail(ErrorCode::invalid_argument,
         "{}: its name has no extension that tells the format: .mp4, .mkv, .mov, .webm, .y4m, or .png for an image",
         path);
  const AVOutputFormat* format = av_guess_format(nullptr, ("x." + extension).c_str(), nullptr);
  if (format == nullptr || format->video_codec == AV_CODEC_ID_NONE || (format->flags & AVFMT_NOFILE) != 0 ||
      is_refused(*format))
    fail(ErrorCode::invalid_argument,
         "{}: .{} is not a format for video that can be written: use .mp4, .mkv, .mov, .webm or .y4m", path, extension);
  return *format;
}

}  // namespace

Muxer::Muxer(const std::string& path, const std::string& source_path, bool overwrite)
    : file_((container_for(path), path), source_path, overwrite) {
  AVFormatContext* context = nullptr;
  const int code = avformat_alloc_output_context2(&context, &container_for(path), nullptr, nullptr);
  if (code < 0) fail_to_write(path, code);
  context_.reset(context);
  // Moving the index to the front reads the file again under this name.
  context_->url = av_strdup(("file:" + file_.written_path()).c_str());
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
  if (buffer == nullptr || context_->url == nullptr) throw std::bad_alloc();
  context_->pb =
      avio_alloc_context(buffer, kBufferBytes, 1, this, nullptr, write_bytes, file_.seekable() ? seek_bytes : nullptr);
  if (context_->pb == nullptr) {
    av_free(buffer);
    throw std::bad_alloc();
  }
  context_->flags |= AVFMT_FLAG_CUSTOM_IO;
  // Some pairs of codec and container are only called experimental (FLAC in MP4).
  context_->strict_std_compliance = FF_COMPLIANCE_EXPERIMENTAL;
}

Muxer::~Muxer() {
  if (context_ && context_->pb != nullptr) {
    av_freep(&context_->pb->buffer);
    avio_context_free(&context_->pb);
  }
}

int Muxer::write_bytes(void* opaque, std::uint8_t* data, int size) {
  auto& muxer = *static_cast<Muxer*>(opaque);
  if (const int error = muxer.file_.try_write(data, static_cast<std::size_t>(size))) {
    if (muxer.io_error_ == 0) muxer.io_error_ = error;
    return AVERROR(error);
  }
  return size;
}

std::int64_t Muxer::seek_bytes(void* opaque, std::int64_t offset, int whence) {
  auto& muxer = *static_cast<Muxer*>(opaque);
  if ((whence & AVSEEK_SIZE) != 0) return muxer.file_.size();
  const std::int64_t position = muxer.file_.seek(offset, whence & ~AVSEEK_FORCE);
  return position < 0 ? AVERROR(errno) : position;
}

void Muxer::fail_with(int code) { fail_to_write(path(), io_error_ != 0 ? AVERROR(io_error_) : code); }

AVStream& Muxer::add_stream() {
  AVStream* stream = avformat_new_stream(context_.get(), nullptr);
  if (stream == nullptr) throw std::bad_alloc();
  return *stream;
}

void Muxer::write_header() {
  Options options;
  const std::string_view name = format().name;
  require(context_->nb_streams > 0, "{}: a container without streams", path());
  if (name == "mp4" || name == "mov" || name == "ipod")
    options.set("movflags", file_.seekable() ? "+faststart+write_colr" : "+write_colr");
  // Edit lists, which hold when a stream starts, count in the clock of the movie: milliseconds are too coarse.
  options.set("movie_timescale", std::to_string(movie_clock(context_->streams[0]->time_base)));
  clear_message();
  const int code = avformat_write_header(context_.get(), options.get());
  if (code < 0 || io_error_ != 0) fail_with(code);
}

void Muxer::write(AVPacket& packet, AVRational time_base) {
  AVStream& stream = *context_->streams[packet.stream_index];
  av_packet_rescale_ts(&packet, time_base, stream.time_base);
  packet.pos = -1;
  clear_message();
  const int code = av_interleaved_write_frame(context_.get(), &packet);
  // FFmpeg buffers: a full disk shows on some later write.
  if (code < 0 || io_error_ != 0) fail_with(code);
}

void Muxer::finish() {
  clear_message();
  const int code = av_write_trailer(context_.get());
  if (code < 0) fail_with(code);
  avio_flush(context_->pb);
  if (io_error_ != 0 || context_->pb->error < 0) fail_with(context_->pb->error);
  file_.commit();
}

}  // namespace flashvsr::media
