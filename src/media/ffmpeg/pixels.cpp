#include "media/ffmpeg/pixels.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace flashvsr::media {

namespace {

// Exact rounding, and chroma interpolated at full width instead of repeated.
constexpr int kScalerFlags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT;

// The names with J mean "full range"; swscale wants that said beside the format.
AVPixelFormat without_range(AVPixelFormat format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P: return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P: return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P: return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P: return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P: return AV_PIX_FMT_YUV411P;
    default: return format;
  }
}

// Position of the first chroma sample, in 1/256 of a luma sample; -513 lets swscale centre it.
struct ChromaPosition {
  int x = -513, y = -513;
};

ChromaPosition chroma_position(AVPixelFormat format, AVChromaLocation location) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  if (description == nullptr || (description->flags & AV_PIX_FMT_FLAG_RGB) != 0) return {};
  const bool half_width = description->log2_chroma_w == 1, half_height = description->log2_chroma_h == 1;
  ChromaPosition position{128, 128};
  switch (location) {
    case AVCHROMA_LOC_LEFT: position = {0, 128}; break;
    case AVCHROMA_LOC_CENTER: position = {128, 128}; break;
    case AVCHROMA_LOC_TOPLEFT: position = {0, 0}; break;
    case AVCHROMA_LOC_TOP: position = {128, 0}; break;
    case AVCHROMA_LOC_BOTTOMLEFT: position = {0, 256}; break;
    case AVCHROMA_LOC_BOTTOM: position = {128, 256}; break;
    default: position = {0, 128}; break;  // what H.264 and HEVC mean when they say nothing
  }
  return {half_width ? position.x : -513, half_height ? position.y : -513};
}

struct ScalerPicture {
  int width, height;
  AVPixelFormat format;
  ColorTags tags;
  AVChromaLocation siting;
};

int sws_matrix(const ColorTags& tags) {
  return tags.matrix == ColorMatrix::rgb ? SWS_CS_DEFAULT : static_cast<int>(tags.matrix);
}

std::unique_ptr<SwsContext, SwsFreer> make_scaler(const ScalerPicture& from, const ScalerPicture& to) {
  std::unique_ptr<SwsContext, SwsFreer> scaler(sws_alloc_context());
  if (!scaler) throw std::bad_alloc();
  const auto set = [&](const char* name, int value) { av_opt_set_int(scaler.get(), name, value, 0); };
  const int from_full = from.tags.range == ColorRange::full ? 1 : 0,
            to_full = to.tags.range == ColorRange::full ? 1 : 0;
  set("srcw", from.width), set("srch", from.height), set("src_format", without_range(from.format));
  set("dstw", to.width), set("dsth", to.height), set("dst_format", without_range(to.format));
  set("src_range", from_full), set("dst_range", to_full);
  set("sws_flags", kScalerFlags);
  const ChromaPosition from_chroma = chroma_position(from.format, from.siting);
  const ChromaPosition to_chroma = chroma_position(to.format, to.siting);
  set("src_h_chr_pos", from_chroma.x), set("src_v_chr_pos", from_chroma.y);
  set("dst_h_chr_pos", to_chroma.x), set("dst_v_chr_pos", to_chroma.y);
  clear_message();
  const int code = sws_init_context(scaler.get(), nullptr, nullptr);
  if (code < 0)
    fail(ErrorCode::unsupported, "pixel format {} cannot be converted to {}: {}", pixel_format_name(from.format),
         pixel_format_name(to.format), describe_code(code));
  // Without effect, and refused, between two RGB formats.
  (void)sws_setColorspaceDetails(scaler.get(), sws_getCoefficients(sws_matrix(from.tags)), from_full,
                                 sws_getCoefficients(sws_matrix(to.tags)), to_full, 0, 1 << 16, 1 << 16);
  return scaler;
}

// swscale's vector code may run past the end of a row, so it never touches our packed frames.
AvFrame padded_picture(int width, int height, AVPixelFormat format) {
  AvFrame picture = make_frame();
  picture->width = width;
  picture->height = height;
  picture->format = format;
  if (av_frame_get_buffer(picture.get(), 64) < 0) throw std::bad_alloc();
  return picture;
}

// One or two components: grey, with or without alpha, or black and white.
bool is_grey(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  return description != nullptr && description->nb_components <= 2 &&
         (description->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) == 0;
}

// swscale obeys the range of deep grey but not that of 8 bits, so it is told that all grey is in the full range.
void expand_limited_range(AVFrame& rgb) {
  std::array<std::uint8_t, 256> levels{};
  for (int level = 0; level < 256; ++level)
    levels[static_cast<std::size_t>(level)] =
        static_cast<std::uint8_t>((std::clamp(level - 16, 0, 219) * 255 + 109) / 219);
  for (int y = 0; y < rgb.height; ++y) {
    std::uint8_t* row = rgb.data[0] + std::ptrdiff_t{y} * rgb.linesize[0];
    std::transform(row, row + std::ptrdiff_t{3} * rgb.width, row, [&](std::uint8_t level) { return levels[level]; });
  }
}

constexpr ColorTags kPackedRgb{ColorMatrix::rgb, ColorRange::full, ColorPrimaries::bt709, ColorTransfer::srgb};

}  // namespace

ColorTags found_tags(const AVFrame& frame) {
  ColorTags tags;
  tags.matrix = static_cast<ColorMatrix>(frame.colorspace);
  tags.primaries = static_cast<ColorPrimaries>(frame.color_primaries);
  tags.transfer = static_cast<ColorTransfer>(frame.color_trc);
  // 0 is reserved in both.
  if (frame.color_primaries == AVCOL_PRI_RESERVED0) tags.primaries = ColorPrimaries::unspecified;
  if (frame.color_trc == AVCOL_TRC_RESERVED0) tags.transfer = ColorTransfer::unspecified;
  if (frame.color_range == AVCOL_RANGE_MPEG) tags.range = ColorRange::limited;
  if (frame.color_range == AVCOL_RANGE_JPEG) tags.range = ColorRange::full;
  const auto format = static_cast<AVPixelFormat>(frame.format);
  if (without_range(format) != format) tags.range = ColorRange::full;
  return tags;
}

bool is_rgb(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  if (description == nullptr) return false;
  return (description->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0 || is_grey(format);
}

ColorTags assumed_tags(const ColorTags& found, int height, AVPixelFormat format) {
  ColorTags tags = assumed_tags(found, height, is_rgb(format));
  if (is_grey(format) && found.range == ColorRange::limited) tags.range = ColorRange::limited;
  return tags;
}

bool has_alpha(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  return description != nullptr && (description->flags & AV_PIX_FMT_FLAG_ALPHA) != 0 && format != AV_PIX_FMT_PAL8;
}

int bit_depth(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  return description == nullptr ? 8 : description->comp[0].depth;
}

const char* pixel_format_name(int format) {
  const char* name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(format));
  return name == nullptr ? "unknown" : name;
}

RgbReader::RgbReader() : rgb_(make_frame()) {}

void RgbReader::read(const AVFrame& picture, const ColorTags& tags, const Orientation& orientation, int width,
                     int height, const std::string& path, Frame& frame) {
  if (width == 0) width = picture.width;
  if (height == 0) height = picture.height;
  const auto format = static_cast<AVPixelFormat>(picture.format);
  if (!scaler_ || width_ != picture.width || height_ != picture.height || format_ != picture.format ||
      siting_ != picture.chroma_location || target_width_ != width || target_height_ != height) {
    if (!is_rgb(format)) (void)luma_weights(tags.matrix);  // refuses what swscale would show in wrong colours
    scaler_.reset();
    rgb_ = padded_picture(width, height, AV_PIX_FMT_RGB24);
    limited_grey_ = is_grey(format) && tags.range == ColorRange::limited;
    ColorTags scaler_tags = tags;
    if (limited_grey_) scaler_tags.range = ColorRange::full;
    scaler_ = make_scaler({picture.width, picture.height, format, scaler_tags, picture.chroma_location},
                          {width, height, AV_PIX_FMT_RGB24, kPackedRgb, AVCHROMA_LOC_UNSPECIFIED});
    width_ = picture.width, height_ = picture.height, format_ = picture.format, siting_ = picture.chroma_location;
    target_width_ = width, target_height_ = height;
  }
  const int code =
      sws_scale(scaler_.get(), picture.data, picture.linesize, 0, picture.height, rgb_->data, rgb_->linesize);
  if (code < 0) fail(ErrorCode::format, "{}: a picture cannot be converted to RGB: {}", path, describe_code(code));
  if (limited_grey_) expand_limited_range(*rgb_);
  frame.width = orientation.transpose ? height : width;
  frame.height = orientation.transpose ? width : height;
  frame.rgb.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  orient(orientation, rgb_->data[0], rgb_->linesize[0], width, height, frame.rgb.data());
}

PictureWriter::PictureWriter(int width, int height, AVPixelFormat format, const ColorTags& tags)
    : rgb_(padded_picture(width, height, AV_PIX_FMT_RGB24)),
      width_(width),
      height_(height),
      format_(format),
      tags_(tags) {
  if (format != AV_PIX_FMT_RGB24)
    scaler_ = make_scaler({width, height, AV_PIX_FMT_RGB24, kPackedRgb, AVCHROMA_LOC_UNSPECIFIED},
                          {width, height, format, tags, chroma_location(format)});
}

AVChromaLocation PictureWriter::chroma_location(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  if (description == nullptr || (description->flags & AV_PIX_FMT_FLAG_RGB) != 0 || description->log2_chroma_w != 1)
    return AVCHROMA_LOC_UNSPECIFIED;
  return without_range(format) != format ? AVCHROMA_LOC_CENTER : AVCHROMA_LOC_LEFT;
}

AvFrame PictureWriter::write(const Frame& frame) {
  require(frame.width == width_ && frame.height == height_ &&
              frame.rgb.size() == static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_) * 3,
          "a frame of {}x{} was given to a sink of {}x{}", frame.width, frame.height, width_, height_);
  AvFrame picture = padded_picture(width_, height_, format_);
  AVFrame& packed = scaler_ ? *rgb_ : *picture;
  const std::size_t row_bytes = std::size_t{3} * static_cast<std::size_t>(width_);
  for (int y = 0; y < height_; ++y)
    std::memcpy(packed.data[0] + std::ptrdiff_t{y} * packed.linesize[0],
                frame.rgb.data() + row_bytes * static_cast<std::size_t>(y), row_bytes);
  if (scaler_) {
    const int code = sws_scale(scaler_.get(), rgb_->data, rgb_->linesize, 0, height_, picture->data, picture->linesize);
    if (code < 0)
      fail(ErrorCode::internal, "a frame cannot be converted to {}: {}", pixel_format_name(format_),
           describe_code(code));
  }
  picture->colorspace = static_cast<AVColorSpace>(tags_.matrix);
  picture->color_range = tags_.range == ColorRange::full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  picture->color_primaries = static_cast<AVColorPrimaries>(tags_.primaries);
  picture->color_trc = static_cast<AVColorTransferCharacteristic>(tags_.transfer);
  picture->chroma_location = chroma_location(format_);
  return picture;
}

}  // namespace flashvsr::media
