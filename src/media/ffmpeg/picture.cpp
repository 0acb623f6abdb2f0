#include "media/ffmpeg/picture.h"

#include "media/color.h"
#include "media/ffmpeg/pixels.h"
#include "media/file_io.h"
#include "media/y4m.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

namespace flashvsr::media {

namespace {

struct Signature {
  std::string_view bytes;
  std::size_t offset;
  AVCodecID codec;
};

using namespace std::string_view_literals;
constexpr Signature kSignatures[] = {
    {"\x89PNG\r\n\x1a\n"sv, 0, AV_CODEC_ID_PNG},
    {"\xff\xd8\xff"sv, 0, AV_CODEC_ID_MJPEG},
    {"II*\0"sv, 0, AV_CODEC_ID_TIFF},
    {"MM\0*"sv, 0, AV_CODEC_ID_TIFF},
    {"WEBPVP8"sv, 8, AV_CODEC_ID_WEBP},
    {"\x76\x2f\x31\x01"sv, 0, AV_CODEC_ID_EXR},
    {"SDPX"sv, 0, AV_CODEC_ID_DPX},
    {"XPDS"sv, 0, AV_CODEC_ID_DPX},
    {"qoif"sv, 0, AV_CODEC_ID_QOI},
    {"\0\0\0\x0cjP  \r\n"sv, 0, AV_CODEC_ID_JPEG2000},
    {"P5"sv, 0, AV_CODEC_ID_PGM},
    {"P6"sv, 0, AV_CODEC_ID_PPM},
    {"P4"sv, 0, AV_CODEC_ID_PBM},
    {"P7\n"sv, 0, AV_CODEC_ID_PAM},
};

// Extensions that are read from folders, and what stands behind them.
struct NamedFormat {
  std::string_view extension;
  AVCodecID codec;
};
constexpr NamedFormat kNames[] = {
    {"png", AV_CODEC_ID_PNG},  {"jpg", AV_CODEC_ID_MJPEG}, {"jpeg", AV_CODEC_ID_MJPEG},   {"bmp", AV_CODEC_ID_BMP},
    {"tif", AV_CODEC_ID_TIFF}, {"tiff", AV_CODEC_ID_TIFF}, {"webp", AV_CODEC_ID_WEBP},    {"ppm", AV_CODEC_ID_PPM},
    {"pgm", AV_CODEC_ID_PGM},  {"pbm", AV_CODEC_ID_PBM},   {"pam", AV_CODEC_ID_PAM},      {"tga", AV_CODEC_ID_TARGA},
    {"exr", AV_CODEC_ID_EXR},  {"dpx", AV_CODEC_ID_DPX},   {"jp2", AV_CODEC_ID_JPEG2000}, {"qoi", AV_CODEC_ID_QOI},
};

std::string_view as_text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Orientation orientation_of(const AVFrame& picture) {
  const AVDictionaryEntry* entry = av_dict_get(picture.metadata, "Orientation", nullptr, 0);
  return orientation_of_exif(entry == nullptr ? 1 : std::atoi(entry->value));
}

AvFrame decode_image(const std::vector<std::uint8_t>& file, AVCodecID id, const std::string& path, int threads) {
  const AVCodec* codec = avcodec_find_decoder(id);
  if (codec == nullptr)
    fail(ErrorCode::unsupported, "{}: FFmpeg has no decoder for {} images", path, avcodec_get_name(id));
  const CodecContext decoder = make_codec_context(codec);
  decoder->max_pixels = kMaxPixels;
  decoder->thread_count = codec_threads(threads);
  // Frame threads would only delay the one picture.
  decoder->thread_type = FF_THREAD_SLICE;
  clear_message();
  int code = avcodec_open2(decoder.get(), codec, nullptr);
  if (code < 0) fail_to_read(path, "cannot be decoded", code);
  const AvPacket packet = make_packet();
  if (av_new_packet(packet.get(), static_cast<int>(file.size())) < 0) throw std::bad_alloc();
  std::memcpy(packet->data, file.data(), file.size());
  packet->flags |= AV_PKT_FLAG_KEY;
  AvFrame picture = make_frame();
  code = avcodec_send_packet(decoder.get(), packet.get());
  if (code >= 0) code = avcodec_receive_frame(decoder.get(), picture.get());
  if (code == AVERROR(EAGAIN)) {
    (void)avcodec_send_packet(decoder.get(), nullptr);
    code = avcodec_receive_frame(decoder.get(), picture.get());
  }
  if (code < 0 || picture->width <= 0 || picture->height <= 0)
    fail_to_read(path, fmt::format("is no {} image that can be decoded", avcodec_get_name(id)),
                 code < 0 && code != AVERROR_EOF ? code : AVERROR_INVALIDDATA);
  return picture;
}

unsigned big_endian(const std::uint8_t* bytes, int count) {
  unsigned value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

std::optional<ImageSize> jpeg_size(std::span<const std::uint8_t> bytes) {
  std::size_t position = 2;
  while (position + 9 <= bytes.size() && bytes[position] == 0xFF) {
    const unsigned marker = bytes[position + 1];
    const std::size_t length = big_endian(&bytes[position + 2], 2);
    // Exif may turn the picture.
    if (marker == 0xE1) return std::nullopt;
    const bool is_frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (is_frame)
      return ImageSize{static_cast<int>(big_endian(&bytes[position + 7], 2)),
                       static_cast<int>(big_endian(&bytes[position + 5], 2))};
    position += 2 + length;
  }
  return std::nullopt;
}

}  // namespace

AVCodecID image_codec(std::span<const std::uint8_t> start, const std::string& path) {
  const std::string_view text = as_text(start);
  const std::string extension = extension_of(path);
  // A raw stream of JPEG pictures starts like one of them.
  if (extension == "mjpeg" || extension == "mjpg") return AV_CODEC_ID_NONE;
  for (const Signature& signature : kSignatures)
    if (text.size() >= signature.offset && text.substr(signature.offset).starts_with(signature.bytes))
      return signature.codec;
  // "BM" alone begins too many other things: the size of the header follows at byte 14.
  if (text.starts_with("BM") && text.size() > 18 && start[15] == 0 && start[16] == 0 && start[17] == 0)
    return AV_CODEC_ID_BMP;
  for (const NamedFormat& format : kNames)
    if (format.extension == extension) return format.codec;
  return AV_CODEC_ID_NONE;
}

bool is_image_name(const std::string& path) {
  const std::string extension = extension_of(path);
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const NamedFormat& format) { return format.extension == extension; });
}

void read_image(const std::string& path, int threads, Frame& frame, VideoInfo& info) {
  capture_messages();
  const std::vector<std::uint8_t> file = read_file(path, kMaxImageBytes);
  if (file.empty()) fail(ErrorCode::format, "{}: is empty", path);
  const AVCodecID codec = image_codec(std::span(file).first(std::min<std::size_t>(file.size(), 64)), path);
  if (codec == AV_CODEC_ID_NONE) fail(ErrorCode::format, "{}: is not an image of a known format", path);
  const AvFrame picture = decode_image(file, codec, path, threads);
  const auto format = static_cast<AVPixelFormat>(picture->format);
  const bool rgb = is_rgb(format);

  info.kind = SourceKind::still;
  info.path = path;
  info.codec = avcodec_get_name(codec);
  info.container = info.codec;
  info.pixel_format = pixel_format_name(picture->format);
  info.color_found = found_tags(*picture);
  ColorTags known = info.color_found;
  // JPEG and WebP are BT.601 at every size.
  if (!rgb && known.matrix == ColorMatrix::unspecified) known.matrix = ColorMatrix::bt601_525;
  if (!rgb && known.primaries == ColorPrimaries::unspecified) known.primaries = ColorPrimaries::bt709;
  if (!rgb && known.transfer == ColorTransfer::unspecified) known.transfer = ColorTransfer::srgb;
  info.color_assumed = assumed_tags(known, picture->height, format);
  info.bit_depth = bit_depth(format);
  info.alpha = has_alpha(format);
  const Orientation orientation = orientation_of(*picture);
  info.rotation = orientation.rotation();
  info.mirrored = orientation.mirrored();
  const AVRational aspect = picture->sample_aspect_ratio;
  info.sample_aspect = aspect.num > 0 && aspect.den > 0 ? from_av(aspect) : Rational{1, 1};
  if (orientation.transpose) info.sample_aspect = {info.sample_aspect.denominator, info.sample_aspect.numerator};

  RgbReader converter;
  converter.read(*picture, info.color_assumed, orientation, 0, 0, path, frame);
  info.width = frame.width;
  info.height = frame.height;
}

std::optional<ImageSize> peek_size(const std::string& path) {
  const FileDescriptor file = open_for_reading(path);
  std::array<std::uint8_t, 4096> start{};
  const std::int64_t got = read_all(file.get(), start.data(), start.size());
  if (got < 32) return std::nullopt;
  const auto bytes = std::span<const std::uint8_t>(start).first(static_cast<std::size_t>(got));
  switch (image_codec(bytes, path)) {
    case AV_CODEC_ID_PNG:
      return ImageSize{static_cast<int>(big_endian(&bytes[16], 4)), static_cast<int>(big_endian(&bytes[20], 4))};
    case AV_CODEC_ID_MJPEG: return jpeg_size(bytes);
    default: return std::nullopt;
  }
}

ImageEncoder::ImageEncoder(const std::string& extension, const std::string& path, const SinkSettings& settings,
                           const Rational& sample_aspect, const ColorTags& source)
    : path_(path), width_(settings.width), height_(settings.height), sample_aspect_(sample_aspect), tags_(source) {
  capture_messages();
  tags_.matrix = ColorMatrix::rgb;
  tags_.range = ColorRange::full;
  struct Choice {
    std::string_view extension;
    const char* encoder;
    AVPixelFormat format;
  };
  constexpr Choice kChoices[] = {
      {"png", "png", AV_PIX_FMT_RGB24},       {"jpg", "mjpeg", AV_PIX_FMT_YUVJ444P},
      {"jpeg", "mjpeg", AV_PIX_FMT_YUVJ444P}, {"webp", "libwebp", AV_PIX_FMT_BGRA},
      {"bmp", "bmp", AV_PIX_FMT_BGR24},       {"tif", "tiff", AV_PIX_FMT_RGB24},
      {"tiff", "tiff", AV_PIX_FMT_RGB24},     {"ppm", "ppm", AV_PIX_FMT_RGB24},
  };
  for (const Choice& choice : kChoices) {
    if (choice.extension != extension) continue;
    codec_ = avcodec_find_encoder_by_name(choice.encoder);
    format_ = choice.format;
  }
  if (codec_ == nullptr)
    fail(ErrorCode::unsupported, "{}: this FFmpeg cannot write .{} images: use .png", path, extension);
  if (format_ == AV_PIX_FMT_YUVJ444P) {
    tags_.matrix = ColorMatrix::bt601_625;
    if (tags_.transfer == ColorTransfer::bt709) tags_.transfer = ColorTransfer::srgb;
  }
  context_ = open();
}

ImageEncoder::~ImageEncoder() = default;

bool ImageEncoder::knows(const std::string& extension) {
  constexpr std::string_view kKnown[] = {"png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm"};
  return std::find(std::begin(kKnown), std::end(kKnown), extension) != std::end(kKnown);
}

std::string ImageEncoder::encoder_name() const { return codec_->name; }
std::string ImageEncoder::pixel_format() const { return pixel_format_name(format_); }

CodecContext ImageEncoder::open() const {
  CodecContext context = make_codec_context(codec_);
  context->width = width_;
  context->height = height_;
  context->pix_fmt = format_;
  context->time_base = {1, 25};
  context->thread_count = 1;
  context->sample_aspect_ratio = to_av(sample_aspect_);
  context->colorspace = static_cast<AVColorSpace>(tags_.matrix);
  context->color_range = AVCOL_RANGE_JPEG;
  context->color_primaries = static_cast<AVColorPrimaries>(tags_.primaries);
  context->color_trc = static_cast<AVColorTransferCharacteristic>(tags_.transfer);
  if (codec_->id == AV_CODEC_ID_MJPEG) {
    // The finest quantizer but one: no visible loss, half the size of the finest.
    context->flags |= AV_CODEC_FLAG_QSCALE;
    context->global_quality = 2 * FF_QP2LAMBDA;
  } else if (codec_->id == AV_CODEC_ID_WEBP) {
    (void)av_opt_set_double(context->priv_data, "quality", 95.0, 0);
  }
  clear_message();
  const int code = avcodec_open2(context.get(), codec_, nullptr);
  if (code < 0)
    fail(ErrorCode::unsupported, "{}: {} cannot write {}x{}: {}", path_, codec_->name, width_, height_,
         describe_code(code));
  return context;
}

std::vector<std::uint8_t> ImageEncoder::encode(const Frame& frame) {
  // A fresh encoder for every image: some keep state from one to the next.
  const CodecContext context = context_ ? std::move(context_) : open();
  PictureWriter writer(width_, height_, format_, tags_);
  const AvFrame picture = writer.write(frame);
  picture->pts = 0;
  picture->quality = context->global_quality;
  clear_message();
  const AvPacket packet = make_packet();
  int code = avcodec_send_frame(context.get(), picture.get());
  if (code >= 0) (void)avcodec_send_frame(context.get(), nullptr);
  if (code >= 0) code = avcodec_receive_packet(context.get(), packet.get());
  if (code < 0) fail(ErrorCode::io, "{}: the image cannot be encoded: {}", path_, describe_code(code));
  return {packet->data, packet->data + packet->size};
}

}  // namespace flashvsr::media
