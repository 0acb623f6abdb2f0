// Single images: a file in memory to RGB and back.
#pragma once

#include "media/ffmpeg/libav.h"
#include "media/media.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace flashvsr::media {

// Largest image file that is read.
inline constexpr std::size_t kMaxImageBytes = std::size_t{1} << 30;

// By the first bytes, else (formats without a signature) by the extension; AV_CODEC_ID_NONE if it is no image.
AVCodecID image_codec(std::span<const std::uint8_t> start, const std::string& path);
// By the extension alone.
bool is_image_name(const std::string& path);

// Reads and decodes an image. `frame` gets the upright pixels, `info` everything that a source says of them. Throws
// Error(io), Error(format), Error(unsupported).
void read_image(const std::string& path, int threads, Frame& frame, VideoInfo& info);
// Size of the upright image from its header alone, where that is simple (PNG, JPEG without Exif); never throws for what
// the file holds.
struct ImageSize {
  int width, height;
  bool operator==(const ImageSize&) const = default;
};
std::optional<ImageSize> peek_size(const std::string& path);

// Encodes frames of one size as images: "png", "jpg", "webp", "bmp", "tiff", ... by extension.
class ImageEncoder {
 public:
  // Throws Error(unsupported) if this FFmpeg cannot write such images of this size. `path` is for messages.
  ImageEncoder(const std::string& extension, const std::string& path, const SinkSettings& settings,
               const Rational& sample_aspect, const ColorTags& source);
  ~ImageEncoder();

  static bool knows(const std::string& extension);
  std::vector<std::uint8_t> encode(const Frame& frame);

  std::string encoder_name() const;
  std::string pixel_format() const;
  const ColorTags& tags() const { return tags_; }

 private:
  CodecContext open() const;

  std::string path_;
  const AVCodec* codec_ = nullptr;
  AVPixelFormat format_ = AV_PIX_FMT_NONE;
  int width_, height_;
  Rational sample_aspect_;
  ColorTags tags_;
  CodecContext context_;  // opened already, for the first image
};

}  // namespace flashvsr::media
