#include "media/ffmpeg/libav.h"

#include "core/threads.h"
#include "media/file_io.h"
#include "media/y4m.h"

extern "C" {
#include <libavutil/log.h>
#include <libavutil/version.h>
#include <libswresample/swresample.h>
#include <libswscale/swscale.h>
}

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace flashvsr::media {

namespace {

// Codecs speak from threads of their own too; such messages go to whoever asks next.
thread_local std::string thread_message;
std::mutex shared_mutex;
std::string shared_message;
thread_local bool thread_is_ours = false;

std::string one_line(const char* text) {
  std::string line;
  for (const char* c = text; *c != '\0'; ++c) {
    const auto byte = static_cast<unsigned char>(*c);
    line.push_back(byte < 0x20 || byte == 0x7F ? ' ' : *c);
  }
  while (!line.empty() && (line.back() == ' ' || line.back() == '.')) line.pop_back();
  return line;
}

void receive_message(void*, int level, const char* format, va_list arguments) {
  if (level > AV_LOG_ERROR) return;
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string line = one_line(text.data());
  // The second says nothing that the message before it does not.
  if (line.empty() || line.starts_with("Failed setup for format")) return;
  if (thread_is_ours) {
    thread_message = std::move(line);
  } else {
    const std::lock_guard lock(shared_mutex);
    shared_message = std::move(line);
  }
}

// A pipe as FFmpeg's input. Its own protocols cannot be interrupted while they wait for a byte.
class PipeReader {
 public:
  static AVIOContext* open(const std::string& path, const ReadInterrupt& interrupt) {
    auto reader = std::make_unique<PipeReader>(open_for_reading(path), interrupt);
    constexpr int kBufferBytes = 1 << 16;
    auto* buffer = static_cast<unsigned char*>(av_malloc(kBufferBytes));
    if (buffer == nullptr) throw std::bad_alloc();
    AVIOContext* context = avio_alloc_context(buffer, kBufferBytes, 0, reader.get(), read, nullptr, nullptr);
    if (context == nullptr) {
      av_free(buffer);
      throw std::bad_alloc();
    }
    (void)reader.release();
    return context;
  }

  static void close(AVIOContext* context) {
    delete static_cast<PipeReader*>(context->opaque);
    av_freep(&context->buffer);
    avio_context_free(&context);
  }

  PipeReader(FileDescriptor file, const ReadInterrupt& interrupt) : file_(std::move(file)), interrupt_(interrupt) {}

 private:
  static int read(void* opaque, std::uint8_t* data, int size) {
    const auto* reader = static_cast<PipeReader*>(opaque);
    const std::int64_t got = reader->interrupt_.read_some(reader->file_.get(), data, static_cast<std::size_t>(size));
    if (got < 0) return errno == ECANCELED ? AVERROR_EXIT : AVERROR(errno);
    return got == 0 ? AVERROR_EOF : static_cast<int>(got);
  }

  FileDescriptor file_;
  const ReadInterrupt& interrupt_;
};

}  // namespace

AvFrame make_frame() {
  AvFrame frame(av_frame_alloc());
  if (!frame) throw std::bad_alloc();
  return frame;
}

AvPacket make_packet() {
  AvPacket packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();
  return packet;
}

CodecContext make_codec_context(const AVCodec* codec) {
  CodecContext context(avcodec_alloc_context3(codec));
  if (!context) throw std::bad_alloc();
  return context;
}

CodecContext open_decoder(const AVStream& stream, std::string& reason) {
  const AVCodec* codec = avcodec_find_decoder(stream.codecpar->codec_id);
  if (codec == nullptr) {
    reason = "FFmpeg has no decoder for it";
    return nullptr;
  }
  CodecContext decoder = make_codec_context(codec);
  if (avcodec_parameters_to_context(decoder.get(), stream.codecpar) < 0) throw std::bad_alloc();
  decoder->pkt_timebase = stream.time_base;
  if (avcodec_open2(decoder.get(), codec, nullptr) < 0) {
    reason = "it cannot be decoded";
    return nullptr;
  }
  return decoder;
}

void capture_messages() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(receive_message); });
}

void clear_message() {
  thread_is_ours = true;
  thread_message.clear();
  const std::lock_guard lock(shared_mutex);
  shared_message.clear();
}

std::string last_message() {
  if (!thread_message.empty()) return thread_message;
  const std::lock_guard lock(shared_mutex);
  return shared_message;
}

std::string describe_code(int code) {
  const int system_error = AVUNERROR(code);
  if (system_error == ENOSPC || system_error == EDQUOT || system_error == EPIPE || system_error == EACCES)
    return describe_errno(system_error);
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(code, text.data(), text.size());
  const std::string message = last_message();
  std::string description = one_line(text.data());
  return message.empty() ? description : description + " (" + message + ")";
}

void fail_to_read(const std::string& path, const std::string& what, int code) {
  const bool system = code == AVERROR(EACCES) || code == AVERROR(ENOENT) || code == AVERROR(EIO);
  fail(system ? ErrorCode::io : ErrorCode::format, "{}: {}: {}", path, what, describe_code(code));
}

void fail_to_write(const std::string& path, int code) {
  fail(ErrorCode::io, "{}: cannot be written: {}", path, describe_code(code));
}

int codec_threads(int setting) { return std::clamp(setting > 0 ? setting : available_threads(), 1, 16); }

void check_picture_size(const std::string& path, std::int64_t width, std::int64_t height) {
  if (width > kMaxDimension || height > kMaxDimension || width * height > kMaxPixels)
    fail(ErrorCode::unsupported, "{}: frames of {}x{} are too large: at most {} million pixels are supported", path,
         width, height, kMaxPixels / 1'000'000);
}

void InputFormatCloser::operator()(AVFormatContext* context) const {
  AVIOContext* pipe = (context->flags & AVFMT_FLAG_CUSTOM_IO) != 0 ? context->pb : nullptr;
  avformat_close_input(&context);
  if (pipe != nullptr) PipeReader::close(pipe);
}

InputFormat open_input(const std::string& path, const ReadInterrupt& interrupt) {
  capture_messages();
  clear_message();
  Options options;
  // A playlist or a reference in an untrusted file must not reach the network.
  options.set("protocol_whitelist", "file,crypto,data");
  AVFormatContext* context = avformat_alloc_context();
  if (context == nullptr) throw std::bad_alloc();
  AVIOContext* pipe = nullptr;
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    InputFormat owner(context);  // opening may fail
    context->pb = pipe = PipeReader::open(path, interrupt);
    context->flags |= AVFMT_FLAG_CUSTOM_IO;
    (void)owner.release();
  }
  int code = avformat_open_input(&context, ("file:" + path).c_str(), nullptr, options.get());
  if (code < 0) {
    // The context is freed by then, the pipe is not.
    if (pipe != nullptr) PipeReader::close(pipe);
    fail_to_read(path, "is not a video that can be read", code);
  }
  InputFormat input(context);

  for (unsigned i = 0; i < input->nb_streams; ++i)
    check_picture_size(path, input->streams[i]->codecpar->width, input->streams[i]->codecpar->height);
  // The first packets are read by decoders of their own: the limit has to reach those too.
  std::vector<AVDictionary*> limits(input->nb_streams, nullptr);
  for (AVDictionary*& limit : limits) av_dict_set_int(&limit, "max_pixels", kMaxPixels, 0);
  code = avformat_find_stream_info(input.get(), limits.data());
  for (AVDictionary*& limit : limits) av_dict_free(&limit);
  if (code < 0) fail_to_read(path, "its streams cannot be read", code);
  return input;
}

AVRational to_av(const Rational& value) {
  AVRational result{0, 1};
  av_reduce(&result.num, &result.den, value.numerator, value.denominator, std::numeric_limits<int>::max());
  return result;
}

bool has_ffmpeg() noexcept { return true; }

std::string ffmpeg_description() {
  const auto version = [](unsigned number) {
    return fmt::format("{}.{}.{}", AV_VERSION_MAJOR(number), AV_VERSION_MINOR(number), AV_VERSION_MICRO(number));
  };
  return fmt::format("FFmpeg {} (libavformat {}, libavcodec {}, libswscale {})", av_version_info(),
                     version(avformat_version()), version(avcodec_version()), version(swscale_version()));
}

}  // namespace flashvsr::media
