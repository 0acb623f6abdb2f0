#include "media/media.h"

#include "core/error.h"
#include "media/file_io.h"
#include "media/y4m.h"
#if FLASHVSR_HAVE_FFMPEG
#include "media/ffmpeg/ffmpeg_media.h"
#endif

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <numeric>
#include <span>

namespace flashvsr::media {

namespace {

bool is_folder(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

#if !FLASHVSR_HAVE_FFMPEG
[[noreturn]] void fail_without_ffmpeg(const std::string& path) {
  fail(ErrorCode::unsupported,
       "{}: this build knows YUV4MPEG2 only (.y4m files, '-' for pipes): build it with FLASHVSR_FFMPEG=ON", path);
}
#endif

bool is_to_folder(const std::string& path, const VideoInfo& source) {
  return path.back() == '/' || is_folder(path) ||
         (source.kind == SourceKind::folder && path != "-" && extension_of(path).empty());
}

void refuse_cuda(const std::string& path, const SourceSettings& settings) {
  if (settings.cuda) fail(ErrorCode::unsupported, "{}: NVDEC decodes video files alone", path);
}

}  // namespace

DevicePicture FrameSink::device_picture() { fail(ErrorCode::internal, "this sink takes no pictures on a device"); }

Rational reduced(std::int64_t numerator, std::int64_t denominator) {
  if (numerator == 0 || denominator == 0) return {0, 1};
  const std::int64_t divisor = std::gcd(numerator, denominator) * (denominator < 0 ? -1 : 1);
  return {numerator / divisor, denominator / divisor};
}

std::unique_ptr<FrameSource> open_source(const std::string& path, [[maybe_unused]] const SourceSettings& settings) {
  if (path == "-") {
    refuse_cuda(path, settings);
    return open_y4m_source(path);
  }
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) fail(ErrorCode::io, "{}: cannot be read: {}", path, describe_errno(errno));
  if (S_ISDIR(status.st_mode)) {
    refuse_cuda(path, settings);
#if FLASHVSR_HAVE_FFMPEG
    return open_folder_source(path, settings);
#else
    fail_without_ffmpeg(path);
#endif
  }
  // What a pipe gives cannot be looked at beforehand.
  if (!S_ISREG(status.st_mode)) {
    if (extension_of(path) == "y4m") {
      refuse_cuda(path, settings);
      return open_y4m_source(path);
    }
#if FLASHVSR_HAVE_FFMPEG
    return open_video_source(path, settings);
#else
    fail_without_ffmpeg(path);
#endif
  }
  std::array<std::uint8_t, 64> start{};
  const FileDescriptor file = open_for_reading(path);
  const std::int64_t got = read_all(file.get(), start.data(), start.size());
  if (got < 0) fail(ErrorCode::io, "{}: cannot be read: {}", path, describe_errno(errno));
  if (got == 0) fail(ErrorCode::format, "{}: is empty", path);
  const std::string_view text(reinterpret_cast<const char*>(start.data()), static_cast<std::size_t>(got));
  if (text.starts_with(kY4mMagic) || extension_of(path) == "y4m") {
    refuse_cuda(path, settings);
    return open_y4m_source(path);
  }
#if FLASHVSR_HAVE_FFMPEG
  if (is_still_image(std::span(start).first(static_cast<std::size_t>(got)), path)) {
    refuse_cuda(path, settings);
    return open_still_source(path, settings);
  }
  return open_video_source(path, settings);
#else
  fail_without_ffmpeg(path);
#endif
}

std::unique_ptr<FrameSink> open_sink(const std::string& path, const VideoInfo& source, const SinkSettings& settings) {
  if (settings.width < 1 || settings.height < 1 || settings.width > kMaxDimension || settings.height > kMaxDimension ||
      static_cast<std::int64_t>(settings.width) * settings.height > kMaxPixels)
    fail(ErrorCode::invalid_argument, "{}: frames of {}x{} cannot be written: at most {} million pixels are supported",
         path, settings.width, settings.height, kMaxPixels / 1'000'000);
  if (path.empty()) fail(ErrorCode::invalid_argument, "the output has no name: give one with -o");
  require(!settings.cuda || !nvenc_encoder(path, source, settings.codec).empty(), "{} is not written by NVENC", path);
  const bool to_folder = is_to_folder(path, source);
  if (path == "-" || (!to_folder && extension_of(path) == "y4m")) return open_y4m_sink(path, source, settings);
#if FLASHVSR_HAVE_FFMPEG
  if (to_folder) return open_folder_sink(path, source, settings);
  if (is_still_name(path)) return open_still_sink(path, source, settings);
  return open_video_sink(path, source, settings);
#else
  fail_without_ffmpeg(path);
#endif
}

std::string nvenc_encoder(const std::string& path, const VideoInfo& source, const std::string& codec) {
#if FLASHVSR_HAVE_FFMPEG
  if (path.empty() || path == "-" || is_to_folder(path, source) || is_still_name(path)) return {};
  const std::string extension = extension_of(path);
  if (extension == "y4m") return {};
  if (codec.ends_with("_nvenc")) return codec;
  // These hold no codec of NVENC's but AV1, which is asked for by name.
  if (codec.empty()) return extension == "webm" || extension == "ogg" || extension == "ogv" ? "" : "h264_nvenc";
  if (codec == "h264" || codec == "hevc" || codec == "av1") return codec + "_nvenc";
  return codec == "h265" ? "hevc_nvenc" : "";
#else
  (void)path, (void)source, (void)codec;
  return {};
#endif
}

#if !FLASHVSR_HAVE_FFMPEG
bool has_ffmpeg() noexcept { return false; }
std::string ffmpeg_description() { return "built without FFmpeg"; }
#endif

}  // namespace flashvsr::media
