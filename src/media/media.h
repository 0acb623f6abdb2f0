// Video and images in and out: 8-bit RGB frames, or pictures in the memory of a CUDA device, with exact time stamps.
//
// A source and a sink belong to one thread each at a time, and may run on different threads. Whatever the user should
// know (an assumption, a conversion, a stream that is left out) is a sentence in take_notes(): those about the file as
// a whole are there when open_...() returns, before any work; those that only show later (damage, say) come up during
// read(), write() and finish().
//
// Errors are flashvsr::Error: io (cannot read or write), format (damaged or not what it claims to be), unsupported
// (this build or this container cannot), invalid_argument (a setting that cannot be meant), device (there is no CUDA
// device where one is asked for).
#pragma once

#include "core/color_conversion.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flashvsr::media {

// Denominator >= 1 in everything that this layer hands out, in lowest terms.
struct Rational {
  std::int64_t numerator = 0;
  std::int64_t denominator = 1;

  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
  bool operator==(const Rational&) const = default;
};

// Lowest terms, denominator >= 1. {0, 1} if either is 0.
Rational reduced(std::int64_t numerator, std::int64_t denominator);

// Values are the code points of ITU-T H.273 (and of FFmpeg); others than the named ones may occur in found tags.
enum class ColorMatrix : std::uint8_t { rgb = 0, bt709 = 1, unspecified = 2, bt601_625 = 5, bt601_525 = 6, bt2020 = 9 };
enum class ColorPrimaries : std::uint8_t { bt709 = 1, unspecified = 2, bt601_625 = 5, bt601_525 = 6, bt2020 = 9 };
enum class ColorTransfer : std::uint8_t { bt709 = 1, unspecified = 2, srgb = 13, pq = 16, hlg = 18 };
enum class ColorRange : std::uint8_t { unspecified, limited, full };

struct ColorTags {
  ColorMatrix matrix = ColorMatrix::unspecified;
  ColorRange range = ColorRange::unspecified;
  ColorPrimaries primaries = ColorPrimaries::unspecified;
  ColorTransfer transfer = ColorTransfer::unspecified;

  bool operator==(const ColorTags&) const = default;
};

// "bt709, limited range"
std::string to_string(const ColorTags& tags);

enum class SourceKind : std::uint8_t { video, y4m, still, folder };
enum class StreamKind : std::uint8_t { audio, subtitle, cover, attachment, chapters };

// Something beside the video that a container holds.
struct StreamSummary {
  StreamKind kind = StreamKind::audio;
  int index = 0;            // of the container
  std::string codec;        // "aac"
  std::string language;     // "eng", or empty
  std::string description;  // "aac, 48000 Hz, stereo (eng)"
};

struct VideoInfo {
  SourceKind kind = SourceKind::video;
  std::string path;          // as given; "-" is standard input
  std::string container;     // "mov,mp4,m4a,3gp,3g2,mj2", "yuv4mpeg", "png", ...
  std::string codec;         // "h264"
  std::string pixel_format;  // "yuv420p10le"
  int stream_index = 0;      // of the video in its container
  int width = 0;             // pixels of the frames as read() gives them: upright
  int height = 0;
  int rotation = 0;       // degrees clockwise that were applied: 0, 90, 180, 270; mirrored first
  bool mirrored = false;  // left and right were exchanged
  // Of the upright picture: width of a pixel over its height; {1, 1} where the file does not say.
  Rational sample_aspect{1, 1};
  Rational frame_rate{25, 1};  // average; of a stream with variable frame rate only a guide
  Rational time_base{1, 25};   // seconds per unit of Frame::pts
  std::int64_t first_pts = 0;  // of the first frame
  // 0, except for streams whose clock starts anywhere (MPEG-TS): seconds taken off every time stamp.
  double time_origin = 0.0;
  std::optional<std::int64_t> frames_estimated;  // exact for folders and stills
  std::optional<double> duration;                // seconds
  ColorTags color_found;                         // as the file says
  ColorTags color_assumed;                       // as converted: nothing unspecified
  int bit_depth = 8;                             // of the file; frames have 8 bits
  bool alpha = false;                            // the file has an alpha channel; frames have none
  bool interlaced = false;
  bool on_device = false;  // frames are pictures on a CUDA device
  std::vector<StreamSummary> streams;
};

// A picture of Y'CbCr 4:2:0 in the memory of CUDA device 0, in its primary context: NV12, or P010 with 10 bits. What
// fills it has ended.
struct DevicePicture {
  void *luma = nullptr, *chroma = nullptr;
  std::ptrdiff_t luma_stride = 0, chroma_stride = 0;  // bytes
  int bit_depth = 8;
  ColorMatrix matrix = ColorMatrix::bt709;
  ColorRange range = ColorRange::limited;
  ChromaSiting siting = ChromaSiting::left;
  std::shared_ptr<void> owner;  // of the memory; what it is, is its maker's business

  explicit operator bool() const { return luma != nullptr; }
};

// A decoder has few pictures: a caller keeps at most so many at a time.
inline constexpr int kDevicePicturesHeld = 6;

struct Frame {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;  // [height][width][3]; empty if the picture is on a device
  std::int64_t pts = 0;           // in VideoInfo::time_base
  std::int64_t duration = 0;      // likewise; >= 1
  DevicePicture device = {};      // if there is one
};

struct SourceSettings {
  int threads = 0;                      // that decode; 0: as many as there are processors
  Rational image_frame_rate = {25, 1};  // of a folder of images
  // NVDEC decodes, and frames stay on the device. Throws Error(device) without one, Error(unsupported) for what NVDEC
  // does not take (anything but upright 4:2:0 of 8 or 10 bits in a video file, and some codecs). Every later picture
  // has to be like the first: Error(unsupported).
  bool cuda = false;
  int cuda_device = 0;  // which of the devices
};

class FrameSource {
 public:
  virtual ~FrameSource() = default;
  virtual const VideoInfo& info() const = 0;
  // Gives the next frame in order of presentation; false at the end. pts rises strictly: what is missing is filled in
  // from the frame rate. Damage in the middle of a file is not an error: every frame that can be decoded is given, and
  // a note says how many that were of how many expected. A file of which no frame can be decoded fails in
  // open_source(). Reuses the memory of `frame`.
  virtual bool read(Frame& frame) = 0;
  // From any thread: a read() that waits for a pipe, and every later one, throws Error(io) at once.
  virtual void interrupt() noexcept {}
  // Sentences since the last call.
  virtual std::vector<std::string> take_notes() = 0;
};

struct SinkSettings {
  int width = 0;  // pixels of the frames that will be written; required
  int height = 0;
  // Of the output; default: the source's.
  std::optional<Rational> sample_aspect;
  // "h264", "hevc", "av1", "vp9", "ffv1", "prores", or the name of any of FFmpeg's encoders. Empty: h264 (VP9 in WebM).
  std::string codec;
  // Constant quality in the encoder's own scale; default: 17 (x264) or what looks alike elsewhere.
  std::optional<double> crf;
  bool overwrite = false;
  bool copy_streams = true;  // audio, subtitles, chapters, metadata, cover art and attachments of the source
  int threads = 0;           // that encode; 0: as many as there are processors
  // `codec` is an encoder of NVENC ("hevc_nvenc"), which takes pictures on the device: device_picture(). Even sizes.
  bool cuda = false;
  int cuda_device = 0;  // which of the devices
};

struct SinkInfo {
  std::string path;          // where the result will be
  std::string container;     // "mp4", "yuv4mpeg", "png", "folder"
  std::string encoder;       // "libx264"
  std::string pixel_format;  // "yuv420p"
  ColorTags color;
  Rational sample_aspect{1, 1};
  bool on_device = false;  // frames have to be pictures that device_picture() gave
};

class FrameSink {
 public:
  // Without finish(): removes what was written; a file that was there before is as it was.
  virtual ~FrameSink() = default;
  virtual const SinkInfo& info() const = 0;
  // `frame` has the size of the settings and pts in the time base of the source, higher than that of the frame before.
  virtual void write(const Frame& frame) = 0;
  // From any thread: a new picture on the device, to be filled and written.
  virtual DevicePicture device_picture();
  // Writes what is left, brings the file safely to the disk, and gives it its final name.
  virtual void finish() = 0;
  virtual std::vector<std::string> take_notes() = 0;
};

// `path`: a video file, a still image, a folder of images (natural order: 2 before 10; all of one size), a .y4m file,
// or
// "-": YUV4MPEG2 on standard input. Decodes the first frame.
std::unique_ptr<FrameSource> open_source(const std::string& path, const SourceSettings& settings = {});

// `path`: a video file (the extension chooses the container), a .y4m file, "-" (YUV4MPEG2 on standard output), a still
// image for a source of one frame, or a folder for numbered PNG images (ends in '/', or is a folder already, or has no
// extension and the source is a folder). Everything that can fail before work fails here: an existing file without
// `overwrite`, output equal to input, a folder that cannot be written, a codec that the container does not hold.
std::unique_ptr<FrameSink> open_sink(const std::string& path, const VideoInfo& source, const SinkSettings& settings);

// The encoder of NVENC that writes such an output: that of `codec` ("h264", "hevc", "av1"), `codec` itself if it is
// one, or that of what the container is used with if `codec` is empty. Empty: there is none, or the output is no video
// file.
std::string nvenc_encoder(const std::string& path, const VideoInfo& source, const std::string& codec);

// Removes every temporary file and folder of sinks that have not finished. May be called from a signal handler.
void remove_unfinished_outputs() noexcept;

// Whether this build reads and writes more than YUV4MPEG2; and with which libraries ("libavcodec 59.37.100, ...").
bool has_ffmpeg() noexcept;
std::string ffmpeg_description();

}  // namespace flashvsr::media
