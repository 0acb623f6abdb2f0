// The sources and sinks that need FFmpeg's libraries.
#pragma once

#include "media/media.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace flashvsr::media {

// Whether a file that starts with these bytes (at least 32 if it has as many) is an image rather than a video.
bool is_still_image(std::span<const std::uint8_t> start, const std::string& path);
// Whether a file name ends in what open_still_sink() writes.
bool is_still_name(const std::string& path);

std::unique_ptr<FrameSource> open_video_source(const std::string& path, const SourceSettings& settings);
std::unique_ptr<FrameSource> open_still_source(const std::string& path, const SourceSettings& settings);
std::unique_ptr<FrameSource> open_folder_source(const std::string& path, const SourceSettings& settings);

std::unique_ptr<FrameSink> open_video_sink(const std::string& path, const VideoInfo& source,
                                           const SinkSettings& settings);
std::unique_ptr<FrameSink> open_still_sink(const std::string& path, const VideoInfo& source,
                                           const SinkSettings& settings);
std::unique_ptr<FrameSink> open_folder_sink(const std::string& path, const VideoInfo& source,
                                            const SinkSettings& settings);

}  // namespace flashvsr::media
