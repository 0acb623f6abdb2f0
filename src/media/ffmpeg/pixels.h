// Between FFmpeg's pictures and packed 8-bit RGB, through swscale.
#pragma once

#include "media/color.h"
#include "media/ffmpeg/libav.h"
#include "media/orientation.h"

extern "C" {
#include <libswscale/swscale.h>
}

#include <cstdint>
#include <vector>

namespace flashvsr::media {

struct SwsFreer {
  void operator()(SwsContext* context) const { sws_freeContext(context); }
};

// What the tags of a decoded picture say.
ColorTags found_tags(const AVFrame& frame);
// Whether its samples are RGB or grey levels or a palette, which need no matrix.
bool is_rgb(AVPixelFormat format);
// assumed_tags() for pictures of this format. Grey may be in the limited range (monochrome HEVC and AV1), RGB is not.
ColorTags assumed_tags(const ColorTags& found, int height, AVPixelFormat format);
bool has_alpha(AVPixelFormat format);
int bit_depth(AVPixelFormat format);
const char* pixel_format_name(int format);

// Decoded pictures to upright RGB. One size and format after another may come: the first fixes the size.
class RgbReader {
 public:
  RgbReader();

  // `path` is for messages. Sets width, height and rgb of `frame`. A picture of another size than width x height (0:
  // its own) is scaled to it before it is turned.
  void read(const AVFrame& picture, const ColorTags& tags, const Orientation& orientation, int width, int height,
            const std::string& path, Frame& frame);

 private:
  std::unique_ptr<SwsContext, SwsFreer> scaler_;
  AvFrame rgb_;
  int width_ = 0, height_ = 0, format_ = -1, target_width_ = 0, target_height_ = 0;
  AVChromaLocation siting_ = AVCHROMA_LOC_UNSPECIFIED;
  bool limited_grey_ = false;
};

// RGB to pictures for an encoder.
class PictureWriter {
 public:
  // `tags` of the picture; chroma sits as chroma_location() says.
  PictureWriter(int width, int height, AVPixelFormat format, const ColorTags& tags);

  static AVChromaLocation chroma_location(AVPixelFormat format);
  // The picture is a new reference that the encoder may keep.
  AvFrame write(const Frame& frame);

 private:
  std::unique_ptr<SwsContext, SwsFreer> scaler_;
  AvFrame rgb_;
  int width_, height_;
  AVPixelFormat format_;
  ColorTags tags_;
};

}  // namespace flashvsr::media
