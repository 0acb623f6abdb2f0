// Which encoder and pixel format write a video, and how its quality is set.
#pragma once

#include "media/ffmpeg/libav.h"
#include "media/media.h"

#include <string>
#include <vector>

namespace flashvsr::media {

struct OpenedEncoder {
  CodecContext context;
  ColorTags tags;
  // The encoder counts frames instead of taking time stamps as they are: its packets come in order, one per frame.
  bool counts_frames = false;
};

// Opens the encoder that `settings` asks for, for files of `container`; says in `notes` where it is not the obvious
// choice. `path` is for messages. Throws Error(unsupported) if the container does not hold the codec or no encoder can
// write this size, Error(invalid_argument) for an unknown codec or a crf out of range.
OpenedEncoder open_encoder(const AVOutputFormat& container, const std::string& path, const VideoInfo& source,
                           const SinkSettings& settings, std::vector<std::string>& notes);

// Opens the encoder of NVENC that settings.codec names, for pictures of `frames` on a CUDA device. Throws
// Error(unsupported) with the reason.
OpenedEncoder open_device_encoder(const AVOutputFormat& container, const std::string& path, const VideoInfo& source,
                                  const SinkSettings& settings, AVBufferRef& frames, std::vector<std::string>& notes);

}  // namespace flashvsr::media
