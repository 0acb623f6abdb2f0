#include "media/file_io.h"
#include "media/read_interrupt.h"
#include "media/y4m.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

namespace flashvsr::media {

namespace {

// A header line is about 100 bytes; comments (X...) may add to it.
constexpr std::size_t kMaxLine = 4096;
constexpr std::size_t kReadStep = std::size_t{16} << 20;

std::int64_t parse_number(std::string_view text, std::string_view what, const std::string& path) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    fail(ErrorCode::format, "{}: damaged YUV4MPEG2 header: {} '{}' is not a number", path, what, text.substr(0, 40));
  return value;
}

// "30000:1001"; "0:0" means unknown and gives `unknown`.
Rational parse_ratio(std::string_view text, std::string_view what, const std::string& path, Rational unknown) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    fail(ErrorCode::format, "{}: damaged YUV4MPEG2 header: {} '{}' is not of the form A:B", path, what,
         text.substr(0, 40));
  const std::int64_t numerator = parse_number(text.substr(0, colon), what, path);
  const std::int64_t denominator = parse_number(text.substr(colon + 1), what, path);
  if (numerator == 0 || denominator == 0) return unknown;
  constexpr std::int64_t kLargest = 1'000'000'000;
  if (numerator < 0 || denominator < 0 || numerator > kLargest || denominator > kLargest)
    fail(ErrorCode::format, "{}: damaged YUV4MPEG2 header: {} {}:{} is out of range", path, what, numerator,
         denominator);
  return reduced(numerator, denominator);
}

void parse_color_space(std::string_view name, PlanarFormat& format, const std::string& path) {
  const auto unsupported = [&]() {
    fail(ErrorCode::unsupported,
         "{}: YUV4MPEG2 colour space '{}' is not supported: use 420, 420jpeg, 420mpeg2, 420paldv, 422, 444 or mono",
         path, name.substr(0, 40));
  };
  std::string_view rest = name;
  const auto take = [&rest](std::string_view prefix) {
    if (!rest.starts_with(prefix)) return false;
    rest.remove_prefix(prefix.size());
    return true;
  };
  if (take("mono")) {
    format.has_chroma = false;
    format.log2_chroma_width = format.log2_chroma_height = 0;
  } else if (take("420")) {
    format.siting = ChromaSiting::center;
    // Samples of DV's chroma lie on the upper left pixel; its two kinds take turns from line to line, which nobody
    // shows.
    if (take("mpeg2"))
      format.siting = ChromaSiting::left;
    else if (take("paldv"))
      format.siting = ChromaSiting::top_left;
    else if (!take("jpeg") && !rest.empty() && rest.front() != 'p')
      unsupported();
  } else if (take("422")) {
    format.log2_chroma_height = 0;
    format.siting = ChromaSiting::left;
  } else if (take("444")) {
    format.log2_chroma_width = format.log2_chroma_height = 0;
  } else {
    unsupported();
  }
  if (rest.empty()) return;
  // "p10" after chroma, "10" after mono.
  if (format.has_chroma && !take("p")) unsupported();
  for (const int depth : {9, 10, 12, 14, 16}) {
    if (rest == std::to_string(depth)) {
      format.bit_depth = depth;
      return;
    }
  }
  unsupported();
}

class Y4mSource final : public FrameSource {
 public:
  explicit Y4mSource(const std::string& path)
      : file_(path == "-" ? FileDescriptor(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)) : open_for_reading(path)),
        name_(path == "-" ? "standard input" : path),
        input_(std::size_t{1} << 16) {
    if (file_.get() < 0) fail(ErrorCode::io, "{}: cannot be read: {}", name_, describe_errno(errno));
    std::string line;
    if (!read_line(line, kY4mMagic)) fail(ErrorCode::format, "{}: is empty: YUV4MPEG2 video was expected", name_);
    header_ = parse_y4m_header(line, name_);
    describe(path, line.size() + 1);
    if (!read_planes()) fail(ErrorCode::format, "{}: holds no frame: nothing follows the YUV4MPEG2 header", name_);
    have_planes_ = true;
  }

  const VideoInfo& info() const override { return info_; }

  bool read(Frame& frame) override {
    if (!have_planes_ && !read_planes()) return false;
    have_planes_ = false;
    frame.width = info_.width;
    frame.height = info_.height;
    frame.rgb.resize(static_cast<std::size_t>(info_.width) * static_cast<std::size_t>(info_.height) * 3);
    frame.pts = frames_ - 1;
    frame.duration = 1;
    planar_to_rgb(header_.format, planes_.data(), frame.rgb.data());
    return true;
  }

  void interrupt() noexcept override { interrupt_.raise(); }

  std::vector<std::string> take_notes() override { return std::exchange(notes_, {}); }

 private:
  void describe(const std::string& path, std::size_t header_bytes) {
    info_.kind = SourceKind::y4m;
    info_.path = path;
    info_.container = "yuv4mpeg";
    info_.codec = "rawvideo";
    info_.pixel_format = header_.color_space;
    info_.width = header_.format.width;
    info_.height = header_.format.height;
    info_.sample_aspect = header_.sample_aspect;
    info_.frame_rate = header_.frame_rate;
    info_.time_base = {header_.frame_rate.denominator, header_.frame_rate.numerator};
    info_.color_found.range = header_.range;
    info_.color_assumed = assumed_tags(info_.color_found, info_.height, false);
    info_.bit_depth = header_.format.bit_depth;
    info_.interlaced = header_.interlaced;
    header_.format.matrix = info_.color_assumed.matrix;
    header_.format.range = info_.color_assumed.range;
    frame_bytes_ = header_.format.frame_bytes();

    struct stat status {};
    if (fstat(file_.get(), &status) == 0 && S_ISREG(status.st_mode) && path != "-") {
      // Every frame has a header of its own, "FRAME" and a line feed in nearly all files.
      const auto bytes = static_cast<std::int64_t>(status.st_size) - static_cast<std::int64_t>(header_bytes);
      info_.frames_estimated = bytes / (static_cast<std::int64_t>(frame_bytes_) + 6);
      info_.duration = static_cast<double>(*info_.frames_estimated) / header_.frame_rate.value();
    }
    if (header_.format.has_chroma)
      notes_.push_back(fmt::format("{}: YUV4MPEG2 does not name its colour matrix; it is read as {}.", name_,
                                   to_string(info_.color_assumed)));
    if (info_.bit_depth > 8)
      notes_.push_back(fmt::format("{}: its {} bits per sample are rounded to 8.", name_, info_.bit_depth));
    if (info_.interlaced) notes_.push_back(fmt::format("{}: is interlaced; its frames are taken as they are.", name_));
  }

  // The next byte, or -1 at the end.
  int next_byte() {
    if (position_ == filled_) {
      // What is there is enough: waiting for a full buffer would delay a live pipe.
      const std::int64_t got = interrupt_.read_some(file_.get(), input_.data(), input_.size());
      if (got < 0) fail(ErrorCode::io, "{}: cannot be read: {}", name_, describe_errno(errno));
      position_ = 0;
      filled_ = static_cast<std::size_t>(got);
      if (got == 0) return -1;
    }
    return input_[position_++];
  }

  // A line without its line feed; false if the input ends before its first byte. It must start with `magic`.
  bool read_line(std::string& line, std::string_view magic) {
    line.clear();
    for (;;) {
      const int byte = next_byte();
      if (byte < 0) {
        if (line.empty()) return false;
        fail_magic(line, magic);
        fail(ErrorCode::format, "{}: ends in the middle of a YUV4MPEG2 header", name_);
      }
      if (byte == '\n') break;
      line.push_back(static_cast<char>(byte));
      if (line.size() == magic.size()) fail_magic(line, magic);
      if (line.size() > kMaxLine)
        fail(ErrorCode::format, "{}: damaged YUV4MPEG2 header: a line is longer than {} bytes", name_, kMaxLine);
    }
    fail_magic(line, magic);
    return true;
  }

  void fail_magic(const std::string& line, std::string_view magic) const {
    if (line.starts_with(magic)) return;
    if (magic == kY4mMagic)
      fail(ErrorCode::format, "{}: is not YUV4MPEG2 video: it must start with '{}'", name_, kY4mMagic);
    fail(ErrorCode::format, "{}: damaged after {} frames: '{}' was expected", name_, frames_, magic);
  }

  // Fewer than `bytes` only at the end of the input.
  std::size_t read_bytes(std::uint8_t* data, std::size_t bytes) {
    const std::size_t buffered = std::min(bytes, filled_ - position_);
    std::copy_n(input_.data() + position_, buffered, data);
    position_ += buffered;
    const std::int64_t got = interrupt_.read_all(file_.get(), data + buffered, bytes - buffered);
    if (got < 0) fail(ErrorCode::io, "{}: cannot be read: {}", name_, describe_errno(errno));
    return buffered + static_cast<std::size_t>(got);
  }

  bool read_planes() {
    std::string line;
    if (!read_line(line, "FRAME")) return false;
    std::size_t have = 0;
    while (have < frame_bytes_) {
      // Memory grows with what has come, not with what a forged header promises.
      const std::size_t step = std::min(frame_bytes_ - have, kReadStep);
      if (planes_.size() < have + step) planes_.resize(have + step);
      const std::size_t got = read_bytes(planes_.data() + have, step);
      have += got;
      if (got < step)
        fail(ErrorCode::format, "{}: is cut off: frame {} has {} of {} bytes", name_, frames_ + 1, have, frame_bytes_);
    }
    ++frames_;
    return true;
  }

  ReadInterrupt interrupt_;
  FileDescriptor file_;
  std::string name_;
  std::vector<std::uint8_t> input_;
  std::size_t position_ = 0, filled_ = 0;
  Y4mHeader header_;
  VideoInfo info_;
  std::vector<std::string> notes_;
  std::vector<std::uint8_t> planes_;
  std::size_t frame_bytes_ = 0;
  bool have_planes_ = false;
  std::int64_t frames_ = 0;  // whose planes have been read
};

}  // namespace

Y4mHeader parse_y4m_header(std::string_view line, const std::string& path) {
  if (line.substr(0, kY4mMagic.size()) != kY4mMagic)
    fail(ErrorCode::format, "{}: is not YUV4MPEG2 video: it must start with '{}'", path, kY4mMagic);
  Y4mHeader header;
  std::int64_t width = 0, height = 0;
  std::size_t position = kY4mMagic.size();
  while (position < line.size()) {
    if (line[position] == ' ') {
      ++position;
      continue;
    }
    const std::size_t end = std::min(line.find(' ', position), line.size());
    const std::string_view field = line.substr(position, end - position);
    const std::string_view value = field.substr(1);
    position = end;
    switch (field.front()) {
      case 'W': width = parse_number(value, "width", path); break;
      case 'H': height = parse_number(value, "height", path); break;
      case 'F': header.frame_rate = parse_ratio(value, "frame rate", path, {25, 1}); break;
      case 'A': header.sample_aspect = parse_ratio(value, "sample aspect", path, {1, 1}); break;
      case 'I': header.interlaced = !value.empty() && value != "p" && value != "?"; break;
      case 'C': header.color_space = value; break;
      case 'X':
        if (value == "COLORRANGE=FULL") header.range = ColorRange::full;
        if (value == "COLORRANGE=LIMITED") header.range = ColorRange::limited;
        break;
      default: break;
    }
  }
  if (width <= 0 || height <= 0)
    fail(ErrorCode::format, "{}: damaged YUV4MPEG2 header: no valid width and height ({}x{})", path, width, height);
  if (width > kMaxDimension || height > kMaxDimension || width * height > kMaxPixels)
    fail(ErrorCode::unsupported, "{}: frames of {}x{} are too large: at most {} million pixels are supported", path,
         width, height, kMaxPixels / 1'000'000);
  header.format.width = static_cast<int>(width);
  header.format.height = static_cast<int>(height);
  parse_color_space(header.color_space, header.format, path);
  return header;
}

std::unique_ptr<FrameSource> open_y4m_source(const std::string& path) { return std::make_unique<Y4mSource>(path); }

}  // namespace flashvsr::media
