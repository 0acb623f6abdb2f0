// A container file that appears when it is complete.
#pragma once

#include "media/ffmpeg/libav.h"
#include "media/output_file.h"

#include <memory>
#include <string>

namespace flashvsr::media {

class Muxer {
 public:
  // The extension of `path` chooses the container. Throws Error(invalid_argument) if it names none that holds video,
  // and as OutputFile does.
  Muxer(const std::string& path, const std::string& source_path, bool overwrite);
  ~Muxer();
  Muxer(const Muxer&) = delete;
  Muxer& operator=(const Muxer&) = delete;

  AVFormatContext& context() { return *context_; }
  const AVOutputFormat& format() const { return *context_->oformat; }
  const std::string& path() const { return file_.path(); }

  AVStream& add_stream();
  void write_header();
  // Takes the packet over; its times are in `time_base`, and its stream_index is set. Streams are interleaved by time.
  void write(AVPacket& packet, AVRational time_base);
  void finish();

 private:
  static int write_bytes(void* opaque, std::uint8_t* data, int size);
  static std::int64_t seek_bytes(void* opaque, std::int64_t offset, int whence);
  [[noreturn]] void fail_with(int code);

  OutputFile file_;
  OutputFormat context_;
  int io_error_ = 0;  // errno of the first failed write, which FFmpeg may have turned into something else
};

}  // namespace flashvsr::media
