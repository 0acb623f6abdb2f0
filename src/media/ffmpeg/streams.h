// What a container holds beside its frames.
#pragma once

#include "media/ffmpeg/libav.h"
#include "media/media.h"

#include <string>
#include <vector>

namespace flashvsr::media {

// Whether files of this container hold a codec: as FFmpeg says, and for the containers where it does not say, as known.
bool container_holds(const AVOutputFormat& container, AVCodecID codec);

// A moving picture: neither cover art nor thumbnails.
bool is_video(const AVStream& stream);

// The default video stream, else the largest. Throws Error(format) if there is none.
AVStream* choose_video_stream(AVFormatContext& input, const std::string& path);

std::string language_of(const AVStream& stream);
// "aac, 48000 Hz, stereo (eng)"
std::string describe_stream(const AVStream& stream);
// All but the video.
std::vector<StreamSummary> summarize_streams(const AVFormatContext& input, const AVStream& video);

}  // namespace flashvsr::media
