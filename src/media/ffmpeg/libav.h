// FFmpeg's objects with owners, its messages in our errors.
#pragma once

#include "core/error.h"
#include "media/media.h"
#include "media/read_interrupt.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/dict.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

#include <cstdint>
#include <memory>
#include <string>

namespace flashvsr::media {

struct InputFormatCloser {
  void operator()(AVFormatContext* context) const;
};
struct OutputFormatFreer {
  void operator()(AVFormatContext* context) const { avformat_free_context(context); }
};
struct CodecContextFreer {
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
};
struct FrameFreer {
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
struct PacketFreer {
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
};
using InputFormat = std::unique_ptr<AVFormatContext, InputFormatCloser>;
using OutputFormat = std::unique_ptr<AVFormatContext, OutputFormatFreer>;
using CodecContext = std::unique_ptr<AVCodecContext, CodecContextFreer>;
using AvFrame = std::unique_ptr<AVFrame, FrameFreer>;
using AvPacket = std::unique_ptr<AVPacket, PacketFreer>;

AvFrame make_frame();
AvPacket make_packet();
CodecContext make_codec_context(const AVCodec* codec);
// An open decoder for a stream; null if it cannot be decoded: then `reason` says why.
CodecContext open_decoder(const AVStream& stream, std::string& reason);

// A dictionary of options that is freed.
class Options {
 public:
  Options() = default;
  ~Options() { av_dict_free(&dictionary_); }
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  void set(const char* name, const std::string& value) { av_dict_set(&dictionary_, name, value.c_str(), 0); }
  AVDictionary** get() { return &dictionary_; }

 private:
  AVDictionary* dictionary_ = nullptr;
};

// Sends FFmpeg's messages to us instead of to standard error. Done once; every source and sink calls it.
void capture_messages();
// Forgets what FFmpeg has said to this thread (or to its own threads).
void clear_message();
// The last error message since, on one line; empty if there is none.
std::string last_message();
// What a return code means, with the last message: "Invalid data found when processing input (moov atom not found)".
std::string describe_code(int code);

// Throws Error(io) if the code is that of the operating system, else Error(format).
[[noreturn]] void fail_to_read(const std::string& path, const std::string& what, int code);
// Throws Error(io): "PATH: cannot be written: the disk is full".
[[noreturn]] void fail_to_write(const std::string& path, int code);

// How many threads a codec shall use: FFmpeg's default grows without bound on large machines.
int codec_threads(int setting);

// Throws Error(unsupported) for pictures that no memory should be spent on.
void check_picture_size(const std::string& path, std::int64_t width, std::int64_t height);

// Opens a local file (never a URL) or pipe and reads its headers. From a pipe, `interrupt` ends every wait; it has to
// outlive the input.
InputFormat open_input(const std::string& path, const ReadInterrupt& interrupt);

inline Rational from_av(AVRational value) { return reduced(value.num, value.den); }
// Nearest representable.
AVRational to_av(const Rational& value);

}  // namespace flashvsr::media
