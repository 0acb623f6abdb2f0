#include "media/ffmpeg/encoder.h"

#include "media/color.h"
#include "media/ffmpeg/pixels.h"
#include "media/ffmpeg/streams.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

namespace flashvsr::media {

namespace {

// Encoders of one codec, the best first; the name is what the user says.
struct Family {
  std::string_view name;
  AVCodecID codec;
  std::vector<const char*> encoders;
};

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {"h264", AV_CODEC_ID_H264, {"libx264", "libopenh264"}},
      {"hevc", AV_CODEC_ID_HEVC, {"libx265", "libkvazaar"}},
      {"av1", AV_CODEC_ID_AV1, {"libsvtav1", "libaom-av1", "librav1e"}},
      {"vp9", AV_CODEC_ID_VP9, {"libvpx-vp9"}},
      {"vp8", AV_CODEC_ID_VP8, {"libvpx"}},
      {"ffv1", AV_CODEC_ID_FFV1, {"ffv1"}},
      {"prores", AV_CODEC_ID_PRORES, {"prores_ks", "prores"}},
      {"mpeg4", AV_CODEC_ID_MPEG4, {"mpeg4"}},
      {"mjpeg", AV_CODEC_ID_MJPEG, {"mjpeg"}},
  };
  return all;
}

const Family* find_family(std::string_view name) {
  if (name == "h265") name = "hevc";
  for (const Family& family : families())
    if (family.name == name) return &family;
  return nullptr;
}

std::vector<const AVCodec*> installed(const Family& family) {
  std::vector<const AVCodec*> codecs;
  for (const char* name : family.encoders)
    if (const AVCodec* codec = avcodec_find_encoder_by_name(name)) codecs.push_back(codec);
  return codecs;
}

// What the container is used with when nothing is asked for: the usual codec first, then whatever this FFmpeg has.
std::vector<const AVCodec*> default_encoders(const AVOutputFormat& container, const std::string& path,
                                             std::vector<std::string>& notes) {
  const std::string_view container_name = container.name;
  std::vector<std::string_view> order = {"h264", "hevc", "av1", "mpeg4", "ffv1"};
  if (container_name == "webm") order = {"vp9", "av1", "vp8"};
  if (container_name == "ogg" || container_name == "ogv") order = {"vp8"};
  const std::string_view wanted = order.front();
  for (const std::string_view name : order) {
    const Family& family = *find_family(name);
    if (!container_holds(container, family.codec)) continue;
    std::vector<const AVCodec*> codecs = installed(family);
    if (codecs.empty()) continue;
    if (name != wanted)
      notes.push_back(fmt::format("{}: encoded as {}, because {}.", path, name,
                                  container_holds(container, find_family(wanted)->codec)
                                      ? fmt::format("this FFmpeg has no encoder for {}", wanted)
                                      : fmt::format("this container does not hold {}", wanted)));
    return codecs;
  }
  fail(ErrorCode::unsupported,
       "{}: this FFmpeg has no encoder that fits the container ({}): choose another with --codec", path,
       container.name);
}

std::vector<const AVCodec*> requested_encoders(const AVOutputFormat& container, const std::string& path,
                                               const std::string& name) {
  std::vector<const AVCodec*> codecs;
  if (const Family* family = find_family(name)) {
    codecs = installed(*family);
    if (codecs.empty())
      if (const AVCodec* codec = avcodec_find_encoder(family->codec)) codecs.push_back(codec);
    if (codecs.empty())
      fail(ErrorCode::unsupported, "{}: this FFmpeg has no encoder for {}: choose another --codec", path, name);
  } else if (const AVCodec* codec = avcodec_find_encoder_by_name(name.c_str())) {
    codecs.push_back(codec);
  } else if (const AVCodecDescriptor* descriptor = avcodec_descriptor_get_by_name(name.c_str())) {
    if (const AVCodec* found = avcodec_find_encoder(descriptor->id)) codecs.push_back(found);
  }
  if (codecs.empty() || codecs.front()->type != AVMEDIA_TYPE_VIDEO)
    fail(ErrorCode::invalid_argument,
         "'{}' is no video codec that this FFmpeg can write: use h264, hevc, av1, vp9, ffv1, prores or the name of one "
         "of "
         "FFmpeg's encoders",
         name);
  if (codecs.front()->id == AV_CODEC_ID_THEORA)
    fail(ErrorCode::unsupported,
         "{}: Theora is not written, because its encoder leaves out frames that hardly change: "
         "choose another --codec",
         path);
  if (!container_holds(container, codecs.front()->id))
    fail(ErrorCode::unsupported,
         "{}: {} does not hold {}: choose another extension (.mkv holds nearly everything) or --codec", path,
         container.long_name != nullptr ? container.long_name : container.name, avcodec_get_name(codecs.front()->id));
  return codecs;
}

// Whether a codec holds odd sizes with subsampled chroma. Others refuse them (H.264, HEVC) or spoil the last column
// (ProRes).
bool rounds_chroma_up(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1:
    case AV_CODEC_ID_FFV1:
    case AV_CODEC_ID_MPEG4:
    case AV_CODEC_ID_MJPEG: return true;
    default: return false;
  }
}

// Formats that an encoder may write, the one we would like best first.
std::vector<AVPixelFormat> pixel_formats(const AVCodec& codec, int width, int height) {
  std::vector<AVPixelFormat> order = {
      AV_PIX_FMT_YUV420P,   AV_PIX_FMT_YUV422P,   AV_PIX_FMT_YUV444P,  AV_PIX_FMT_NV12,     AV_PIX_FMT_YUV420P10,
      AV_PIX_FMT_YUV422P10, AV_PIX_FMT_YUV444P10, AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P,
      AV_PIX_FMT_YUV411P,   AV_PIX_FMT_YUYV422,   AV_PIX_FMT_UYVY422,  AV_PIX_FMT_GBRP,     AV_PIX_FMT_RGB24,
      AV_PIX_FMT_BGR24,     AV_PIX_FMT_BGR0,      AV_PIX_FMT_RGB0,     AV_PIX_FMT_BGRA,     AV_PIX_FMT_RGBA};
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(codec.id);
  const bool lossless_only =
      descriptor != nullptr &&
      (descriptor->props & (AV_CODEC_PROP_LOSSLESS | AV_CODEC_PROP_LOSSY)) == AV_CODEC_PROP_LOSSLESS;
  // Who asks for a lossless codec wants the frames themselves.
  if (lossless_only) std::stable_partition(order.begin(), order.end(), [](AVPixelFormat f) { return is_rgb(f); });

  std::vector<AVPixelFormat> result;
  for (const AVPixelFormat format : order) {
    bool supported = codec.pix_fmts == nullptr;
    for (const AVPixelFormat* f = codec.pix_fmts; !supported && f != nullptr && *f != AV_PIX_FMT_NONE; ++f)
      supported = *f == format;
    // JPEG is full range; the other formats are listed for an unofficial variant.
    const std::string_view format_name = pixel_format_name(format);
    if (!supported || (codec.id == AV_CODEC_ID_MJPEG && !format_name.starts_with("yuvj"))) continue;
    const AVPixFmtDescriptor& layout = *av_pix_fmt_desc_get(format);
    const bool whole = rounds_chroma_up(codec.id) ||
                       (width % (1 << layout.log2_chroma_w) == 0 && height % (1 << layout.log2_chroma_h) == 0);
    if (whole) result.push_back(format);
  }
  return result;
}

bool has_option(const AVCodecContext& context, const char* name) {
  return context.priv_data != nullptr && context.codec->priv_class != nullptr &&
         av_opt_find(context.priv_data, name, nullptr, 0, 0) != nullptr;
}

double default_crf(std::string_view encoder) {
  if (encoder == "libx264" || encoder == "libx264rgb") return 17;
  if (encoder == "libx265") return 18;
  return 20;  // VP9 and AV1, whose scales end at 63
}

// Sets the quality in whatever way the encoder knows.
void set_quality(AVCodecContext& context, const std::string& path, const SinkSettings& settings,
                 std::vector<std::string>& notes) {
  const std::string_view name = context.codec->name;
  const AVCodecDescriptor* descriptor = avcodec_descriptor_get(context.codec_id);
  if (has_option(context, "crf")) {
    const double crf = settings.crf.value_or(default_crf(name));
    const double largest = name.starts_with("libx26") ? 51 : 63;
    if (!(crf >= 0 && crf <= largest))
      fail(ErrorCode::invalid_argument, "crf {} is out of range: {} takes 0 to {}", crf, name, largest);
    if (av_opt_set_double(context.priv_data, "crf", crf, 0) < 0)
      fail(ErrorCode::invalid_argument, "crf {} is not accepted by {}", crf, name);
    // Otherwise 200 kbit/s is a ceiling for libvpx.
    context.bit_rate = 0;
    return;
  }
  if (descriptor != nullptr && (descriptor->props & AV_CODEC_PROP_LOSSY) == 0) {
    if (settings.crf) notes.push_back(fmt::format("{}: --crf has no effect, because {} is lossless.", path, name));
    return;
  }
  if (context.codec_id == AV_CODEC_ID_PRORES) {
    if (settings.crf) notes.push_back(fmt::format("{}: --crf has no effect on {}.", path, name));
    return;
  }
  const double crf = settings.crf.value_or(17);
  if (!(crf >= 0 && crf <= 51))
    fail(ErrorCode::invalid_argument, "crf {} is out of range: {} takes 0 to 51", crf, name);
  if (has_option(context, "qp") && !name.starts_with("lib")) {
    av_opt_set_int(context.priv_data, "qp", std::lround(crf), 0);
    return;
  }
  // Quantizer steps of the older codecs are linear (2 q); H.264's grow by 2 every 6: 0.625 x 2^(crf/6).
  const double quantizer = std::clamp(0.625 * std::exp2(crf / 6.0) / 2.0, 1.0, 31.0);
  context.flags |= AV_CODEC_FLAG_QSCALE;
  context.global_quality = static_cast<int>(std::lround(quantizer * FF_QP2LAMBDA));
  context.qmin = 1;
}

void set_speed(AVCodecContext& context, int threads) {
  const std::string_view name = context.codec->name;
  context.thread_count = threads;
  const auto set = [&](const char* option, const std::string& value) {
    (void)av_opt_set(context.priv_data, option, value.c_str(), 0);
  };
  if (name == "libx264" || name == "libx264rgb") {
    // Pictures that wait to be looked at are most of its memory. Twice as many, its default, give the same rate and
    // quality within the spread.
    set("rc-lookahead", "20");
  } else if (name == "libx265") {
    set("x265-params", fmt::format("log-level=none:pools={}", threads));
    context.thread_count = 1;
  } else if (name == "libvpx-vp9") {
    set("row-mt", "1"), set("cpu-used", "2"), set("deadline", "good");
  } else if (name == "libaom-av1") {
    set("row-mt", "1"), set("cpu-used", "6");
  } else if (name == "libsvtav1") {
    set("preset", "7"), set("svtav1-params", fmt::format("lp={}", threads));
    // It writes to standard error by itself, and listens to nothing but this.
    static std::once_flag once;
    std::call_once(once, [] { setenv("SVT_LOG", "1", 0); });
  } else if (name == "prores_ks" && context.pix_fmt == AV_PIX_FMT_YUV422P10) {
    set("profile", "hq");
  }
}

// Codecs whose bit streams count frames of a constant rate.
bool counts_frames(AVCodecID codec) {
  switch (codec) {
    case AV_CODEC_ID_MPEG4:
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
    case AV_CODEC_ID_MSMPEG4V2:
    case AV_CODEC_ID_MSMPEG4V3:
    case AV_CODEC_ID_WMV1:
    case AV_CODEC_ID_WMV2:
    case AV_CODEC_ID_H263:
    case AV_CODEC_ID_H263P:
    case AV_CODEC_ID_FLV1:
    case AV_CODEC_ID_DIRAC: return true;
    default: return false;
  }
}

// Empty if the encoder may be tried with this size, else why not.
std::string size_problem(const AVCodec& codec, int width, int height) {
  const std::string_view name = codec.name;
  if (name == "libsvtav1" && (width % 2 != 0 || height % 2 != 0 || width < 64 || height < 64))
    return "it takes even sizes from 64x64";
  // Below the size of its blocks it writes past the end of its memory.
  if (name == "libx265" && (width < 64 || height < 64)) return "it takes sizes from 64x64";
  return {};
}

// `frames`: the pictures of this format lie on a device; null: in the host's memory.
OpenedEncoder try_open(const AVCodec& codec, AVPixelFormat format, AVBufferRef* frames, const AVOutputFormat& container,
                       const std::string& path, const VideoInfo& source, const SinkSettings& settings,
                       std::vector<std::string>& notes, int& code) {
  OpenedEncoder result;
  result.context = make_codec_context(&codec);
  AVCodecContext& context = *result.context;
  const bool full_range =
      format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUVJ422P || format == AV_PIX_FMT_YUVJ444P;
  result.tags = output_tags(source.color_assumed, settings.height);
  if (is_rgb(format)) {
    result.tags.matrix = ColorMatrix::rgb;
    result.tags.range = ColorRange::full;
  } else if (full_range) {
    // JPEG knows one matrix.
    result.tags.matrix = ColorMatrix::bt601_525;
    result.tags.range = ColorRange::full;
  }
  context.width = settings.width;
  context.height = settings.height;
  context.pix_fmt = format;
  if (frames != nullptr) {
    context.pix_fmt = AV_PIX_FMT_CUDA;
    context.sw_pix_fmt = format;
    context.hw_frames_ctx = av_buffer_ref(frames);
  }
  context.colorspace = static_cast<AVColorSpace>(result.tags.matrix);
  context.color_range = result.tags.range == ColorRange::full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
  context.color_primaries = static_cast<AVColorPrimaries>(result.tags.primaries);
  context.color_trc = static_cast<AVColorTransferCharacteristic>(result.tags.transfer);
  context.chroma_sample_location = PictureWriter::chroma_location(format);
  context.sample_aspect_ratio = to_av(settings.sample_aspect.value_or(source.sample_aspect));
  context.framerate = to_av(source.frame_rate);
  result.counts_frames = counts_frames(codec.id);
  const bool avi = std::string_view(container.name) == "avi";
  if (result.counts_frames || avi) {
    // MPEG-4 has 16 bits for its clock.
    av_reduce(&context.time_base.num, &context.time_base.den, source.frame_rate.denominator,
              source.frame_rate.numerator, codec.id == AV_CODEC_ID_MPEG4 ? 65535 : std::numeric_limits<int>::max());
  } else {
    context.time_base = to_av(source.time_base);
  }
  // AVI has no time stamps to reorder by.
  if (result.counts_frames || avi) context.max_b_frames = 0;
  if ((container.flags & AVFMT_GLOBALHEADER) != 0) context.flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  set_quality(context, path, settings, notes);
  set_speed(context, codec_threads(settings.threads));
  // Apple's players want HEVC under this name.
  if (codec.id == AV_CODEC_ID_HEVC &&
      (std::string_view(container.name) == "mp4" || std::string_view(container.name) == "mov"))
    context.codec_tag = MKTAG('h', 'v', 'c', '1');
  clear_message();
  code = avcodec_open2(&context, &codec, nullptr);
  if (code < 0) result.context.reset();
  return result;
}

void note_choice(const AVCodec& codec, AVPixelFormat format, const std::string& path, const SinkSettings& settings,
                 std::vector<std::string>& notes) {
  const bool odd = settings.width % 2 != 0 || settings.height % 2 != 0;
  const std::vector<AVPixelFormat> even = pixel_formats(codec, 64, 64);
  if (odd && !even.empty() && format != even.front()) {
    notes.push_back(
        fmt::format("{}: {}x{} is odd, which {} does not hold as {}: it is written as {}, which not every player "
                    "shows.",
                    path, settings.width, settings.height, avcodec_get_name(codec.id), pixel_format_name(even.front()),
                    pixel_format_name(format)));
  } else if (format != AV_PIX_FMT_YUV420P) {
    notes.push_back(
        fmt::format("{}: the pixel format is {}, as {} writes it.", path, pixel_format_name(format), codec.name));
  }
}

}  // namespace

OpenedEncoder open_encoder(const AVOutputFormat& container, const std::string& path, const VideoInfo& source,
                           const SinkSettings& settings, std::vector<std::string>& notes) {
  capture_messages();
  const std::vector<const AVCodec*> codecs = settings.codec.empty()
                                                 ? default_encoders(container, path, notes)
                                                 : requested_encoders(container, path, settings.codec);
  std::string reason = "none of its pixel formats holds this size";
  for (const AVCodec* codec : codecs) {
    if (const std::string problem = size_problem(*codec, settings.width, settings.height); !problem.empty()) {
      reason = problem;
      continue;
    }
    for (const AVPixelFormat format : pixel_formats(*codec, settings.width, settings.height)) {
      int code = 0;
      std::vector<std::string> attempt_notes;
      OpenedEncoder result = try_open(*codec, format, nullptr, container, path, source, settings, attempt_notes, code);
      if (!result.context) {
        reason = describe_code(code);
        continue;
      }
      notes.insert(notes.end(), attempt_notes.begin(), attempt_notes.end());
      if (codec != codecs.front())
        notes.push_back(fmt::format("{}: encoded with {}, because {} does not take {}x{}.", path, codec->name,
                                    codecs.front()->name, settings.width, settings.height));
      note_choice(*codec, format, path, settings, notes);
      return result;
    }
  }
  fail(ErrorCode::unsupported, "{}: {} cannot write {}x{}: {}: choose another --codec or size", path,
       codecs.front()->name, settings.width, settings.height, reason);
}

OpenedEncoder open_device_encoder(const AVOutputFormat& container, const std::string& path, const VideoInfo& source,
                                  const SinkSettings& settings, AVBufferRef& frames, std::vector<std::string>& notes) {
  capture_messages();
  const AVCodec* codec = avcodec_find_encoder_by_name(settings.codec.c_str());
  if (codec == nullptr)
    fail(ErrorCode::unsupported, "{}: this FFmpeg has no encoder {}: encode on the CPU", path, settings.codec);
  if (!container_holds(container, codec->id))
    fail(ErrorCode::unsupported, "{}: {} does not hold {}: choose another extension or --codec", path,
         container.long_name != nullptr ? container.long_name : container.name, avcodec_get_name(codec->id));
  if (settings.width % 2 != 0 || settings.height % 2 != 0)
    fail(ErrorCode::unsupported, "{}: {} takes even sizes only, not {}x{}: encode on the CPU", path, codec->name,
         settings.width, settings.height);
  int code = 0;
  OpenedEncoder result = try_open(*codec, AV_PIX_FMT_NV12, &frames, container, path, source, settings, notes, code);
  if (!result.context)
    fail(ErrorCode::unsupported, "{}: {} cannot be opened on this device, which may have no encoder: {}", path,
         codec->name, describe_code(code));
  return result;
}

}  // namespace flashvsr::media
