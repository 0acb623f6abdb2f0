// A still image, or a folder of them, as a video.
#include "media/ffmpeg/ffmpeg_media.h"
#include "media/ffmpeg/picture.h"
#include "media/natural_order.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

namespace flashvsr::media {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> describe_conversion(const VideoInfo& info, const std::string& subject) {
  std::vector<std::string> notes;
  if (info.bit_depth > 8)
    notes.push_back(fmt::format("{}: its {} bits per sample are rounded to 8.", subject, info.bit_depth));
  if (info.alpha) notes.push_back(fmt::format("{}: has an alpha channel, which is dropped.", subject));
  return notes;
}

class StillSource final : public FrameSource {
 public:
  StillSource(const std::string& path, const SourceSettings& settings) {
    read_image(path, settings.threads, frame_, info_);
    info_.frame_rate = {1, 1};
    info_.time_base = {1, 1};
    info_.frames_estimated = 1;
    notes_ = describe_conversion(info_, path);
  }

  const VideoInfo& info() const override { return info_; }

  bool read(Frame& frame) override {
    if (given_) return false;
    given_ = true;
    frame = std::move(frame_);
    frame.pts = 0;
    frame.duration = 1;
    return true;
  }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  VideoInfo info_;
  Frame frame_;
  std::vector<std::string> notes_;
  bool given_ = false;
};

class FolderSource final : public FrameSource {
 public:
  FolderSource(const std::string& path, const SourceSettings& settings) : threads_(settings.threads) {
    list_files(path);
    read_image(files_.front(), threads_, first_, info_);
    check_sizes();
    notes_ = describe_conversion(info_, files_.front());
    if (skipped_ > 0)
      notes_.push_back(fmt::format("{}: {} other files in it are no images and are left out.", path, skipped_));
    const Rational rate = reduced(settings.image_frame_rate.numerator, settings.image_frame_rate.denominator);
    if (rate.numerator <= 0) fail(ErrorCode::invalid_argument, "the frame rate of a folder of images must be positive");
    info_.kind = SourceKind::folder;
    info_.path = path;
    info_.container = "folder";
    info_.frame_rate = rate;
    info_.time_base = {rate.denominator, rate.numerator};
    info_.frames_estimated = static_cast<std::int64_t>(files_.size());
    info_.duration = static_cast<double>(files_.size()) / rate.value();
  }

  const VideoInfo& info() const override { return info_; }

  bool read(Frame& frame) override {
    if (next_ == files_.size()) return false;
    if (next_ == 0) {
      frame = std::move(first_);
    } else {
      VideoInfo info;
      read_image(files_[next_], threads_, frame, info);
      if (info.width != info_.width || info.height != info_.height) fail_size(next_, info.width, info.height);
    }
    frame.pts = static_cast<std::int64_t>(next_++);
    frame.duration = 1;
    return true;
  }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  void list_files(const std::string& path) {
    std::error_code error;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      std::error_code type_error;
      if (name.starts_with('.') || !entry->is_regular_file(type_error)) continue;
      if (is_image_name(name))
        files_.push_back(entry->path().string());
      else
        ++skipped_;
    }
    if (error) fail(ErrorCode::io, "{}: cannot be read: {}", path, error.message());
    if (files_.empty())
      fail(ErrorCode::format, "{}: holds no images (PNG, JPEG, BMP, TIFF, WebP, ... are known by their extensions)",
           path);
    std::sort(files_.begin(), files_.end(), natural_less);
  }

  // Before hours of work, as far as the headers tell without decoding everything.
  void check_sizes() const {
    for (std::size_t i = 1; i < files_.size(); ++i) {
      const std::optional<ImageSize> size = peek_size(files_[i]);
      if (!size) continue;
      if (size->width != info_.width || size->height != info_.height) fail_size(i, size->width, size->height);
    }
  }

  [[noreturn]] void fail_size(std::size_t index, int width, int height) const {
    fail(ErrorCode::format, "the images of a folder must be of one size: {} is {}x{}, but {} is {}x{}", files_[0],
         info_.width, info_.height, files_[index], width, height);
  }

  int threads_;
  std::vector<std::string> files_;
  std::size_t skipped_ = 0, next_ = 0;
  VideoInfo info_;
  Frame first_;
  std::vector<std::string> notes_;
};

}  // namespace

bool is_still_image(std::span<const std::uint8_t> start, const std::string& path) {
  return image_codec(start, path) != AV_CODEC_ID_NONE;
}

std::unique_ptr<FrameSource> open_still_source(const std::string& path, const SourceSettings& settings) {
  return std::make_unique<StillSource>(path, settings);
}

std::unique_ptr<FrameSource> open_folder_source(const std::string& path, const SourceSettings& settings) {
  return std::make_unique<FolderSource>(path, settings);
}

}  // namespace flashvsr::media
