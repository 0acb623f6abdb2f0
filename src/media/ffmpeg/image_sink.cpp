// A still image, or a folder of PNG images, as output.
#include "media/ffmpeg/ffmpeg_media.h"
#include "media/ffmpeg/picture.h"
#include "media/output_file.h"

#include <utility>

namespace flashvsr::media {

namespace {

void note_left_out(const std::string& path, const VideoInfo& source, const SinkSettings& settings,
                   std::vector<std::string>& notes) {
  if (settings.copy_streams && !source.streams.empty())
    notes.push_back(fmt::format("{}: images hold no sound, subtitles or the like: they are left out.", path));
}

SinkInfo describe(const std::string& path, const std::string& container, const ImageEncoder& encoder,
                  const VideoInfo& source, const SinkSettings& settings) {
  SinkInfo info;
  info.path = path;
  info.container = container;
  info.encoder = encoder.encoder_name();
  info.pixel_format = encoder.pixel_format();
  info.color = encoder.tags();
  info.sample_aspect = settings.sample_aspect.value_or(source.sample_aspect);
  return info;
}

class StillSink final : public FrameSink {
 public:
  StillSink(const std::string& path, const VideoInfo& source, const SinkSettings& settings)
      : encoder_(extension_of(path), path, settings, settings.sample_aspect.value_or(source.sample_aspect),
                 source.color_assumed),
        file_(path, source.path, settings.overwrite),
        info_(describe(path, extension_of(path), encoder_, source, settings)) {
    note_left_out(path, source, settings, notes_);
  }

  const SinkInfo& info() const override { return info_; }

  void write(const Frame& frame) override {
    if (written_) fail_second(info_.path);
    written_ = true;
    const std::vector<std::uint8_t> image = encoder_.encode(frame);
    file_.write(image.data(), image.size());
  }

  void finish() override { file_.commit(); }
  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

  [[noreturn]] static void fail_second(const std::string& path) {
    fail(ErrorCode::invalid_argument,
         "{}: is one image, but the input has more frames: give a video, or a folder ('{}/') for numbered images", path,
         path.substr(0, path.rfind('.')));
  }

 private:
  std::vector<std::string> notes_;
  ImageEncoder encoder_;
  OutputFile file_;
  SinkInfo info_;
  bool written_ = false;
};

class FolderSink final : public FrameSink {
 public:
  FolderSink(const std::string& path, const VideoInfo& source, const SinkSettings& settings)
      : encoder_("png", path, settings, settings.sample_aspect.value_or(source.sample_aspect), source.color_assumed),
        folder_(path, source.path, settings.overwrite),
        info_(describe(path, "folder", encoder_, source, settings)) {
    note_left_out(path, source, settings, notes_);
  }

  const SinkInfo& info() const override { return info_; }

  void write(const Frame& frame) override {
    const std::vector<std::uint8_t> image = encoder_.encode(frame);
    folder_.write_image(image.data(), image.size());
  }

  void finish() override { folder_.commit(); }
  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  std::vector<std::string> notes_;
  ImageEncoder encoder_;
  OutputFolder folder_;
  SinkInfo info_;
};

}  // namespace

bool is_still_name(const std::string& path) { return ImageEncoder::knows(extension_of(path)); }

std::unique_ptr<FrameSink> open_still_sink(const std::string& path, const VideoInfo& source,
                                           const SinkSettings& settings) {
  if (source.frames_estimated.value_or(2) > 1) StillSink::fail_second(path);
  return std::make_unique<StillSink>(path, source, settings);
}

std::unique_ptr<FrameSink> open_folder_sink(const std::string& path, const VideoInfo& source,
                                            const SinkSettings& settings) {
  return std::make_unique<FolderSink>(path, source, settings);
}

}  // namespace flashvsr::media
