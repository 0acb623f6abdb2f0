// Audio and subtitles that the output container does not hold, into what it does.
#pragma once

#include "media/ffmpeg/stream_copy.h"

#include <memory>
#include <string>

namespace flashvsr::media {

// Null if the stream cannot be decoded or the container holds nothing that this FFmpeg encodes; then `reason` says why.
std::unique_ptr<PacketConverter> make_audio_converter(const AVStream& stream, const AVOutputFormat& container,
                                                      std::string& reason);
// Text only: pictures are not read.
std::unique_ptr<PacketConverter> make_subtitle_converter(const AVStream& stream, const AVOutputFormat& container,
                                                         std::string& reason);

}  // namespace flashvsr::media
