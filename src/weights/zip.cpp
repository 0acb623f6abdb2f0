#include "weights/zip.h"

#include <algorithm>
#include <array>
#include <set>

namespace flashvsr::weights {
namespace {

// Signatures and sizes of the fixed parts (APPNOTE.TXT 4.3).
constexpr std::uint32_t kLocalSignature = 0x04034b50, kCentralSignature = 0x02014b50, kEndSignature = 0x06054b50,
                        kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr std::uint16_t kEncrypted = 1 << 0, kSizesFollow = 1 << 3, kStored = 0;
constexpr std::uint16_t kZip64Extra = 1;
constexpr std::uint32_t kIn64 = 0xffffffff;  // "the value is in the zip64 field"
constexpr std::uint64_t kMostEntries = 65536;

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0);
    table[i] = value;
  }
  return table;
}();

// Where the central directory lies.
struct Directory {
  std::uint64_t offset = 0, size = 0, entries = 0;
};

class DirectoryReader {
 public:
  DirectoryReader(Bytes file, const std::string& origin) : file_(file), origin_(origin) {}

  std::vector<ZipEntry> read() {
    const Directory directory = find_directory();
    std::vector<ZipEntry> entries;
    std::uint64_t position = directory.offset;
    const std::uint64_t end = directory.offset + directory.size;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      position = read_entry(position, end, directory.offset, entries);
    }
    if (position != end) damaged("its directory has bytes that belong to no entry");
    check_overlaps();
    return entries;
  }

 private:
  struct Extent {
    std::uint64_t begin, end;
    std::string name;
  };

  [[noreturn]] void damaged(const std::string& what) const {
    fail(ErrorCode::format, "{}: the zip archive is damaged: {}", origin_, what);
  }

  // From the end of the file: the end record must fill the rest of the file together with its comment.
  std::uint64_t find_end_record() const {
    const std::uint64_t farthest = std::min<std::uint64_t>(file_.size(), kEndBytes + 0xffff);
    for (std::uint64_t back = kEndBytes; back <= farthest; ++back) {
      const std::uint64_t position = file_.size() - back;
      if (read_at<std::uint32_t>(file_, position) == kEndSignature &&
          read_at<std::uint16_t>(file_, position + 20) == back - kEndBytes) {
        return position;
      }
    }
    fail(ErrorCode::format, "{}: the zip archive has no end: the file is cut or damaged", origin_);
  }

  Directory find_directory() const {
    const std::uint64_t end = find_end_record();
    Directory directory{read_at<std::uint32_t>(file_, end + 16), read_at<std::uint32_t>(file_, end + 12),
                        read_at<std::uint16_t>(file_, end + 10)};
    std::uint64_t limit = end;  // where the directory must have ended
    if (read_at<std::uint16_t>(file_, end + 4) != 0 && read_at<std::uint16_t>(file_, end + 4) != 0xffff) {
      damaged("it is one part of several");
    }
    if (end >= kLocator64Bytes && read_at<std::uint32_t>(file_, end - kLocator64Bytes) == kLocator64Signature) {
      const auto end64 = read_at<std::uint64_t>(file_, end - kLocator64Bytes + 8);
      const std::uint64_t locator = end - kLocator64Bytes;
      if (end64 > locator || locator - end64 < kEnd64Bytes || read_at<std::uint32_t>(file_, end64) != kEnd64Signature) {
        damaged("its zip64 end record is not where it should be");
      }
      directory = {read_at<std::uint64_t>(file_, end64 + 48), read_at<std::uint64_t>(file_, end64 + 40),
                   read_at<std::uint64_t>(file_, end64 + 32)};
      limit = end64;
    }
    if (directory.offset > limit || directory.size > limit - directory.offset) {
      damaged("its directory lies outside of the file");
    }
    if (directory.entries > kMostEntries || directory.entries > directory.size / kCentralBytes) {
      damaged(fmt::format("it announces {} entries in a directory of {} bytes", directory.entries, directory.size));
    }
    return directory;
  }

  // Reads the entry at `position`; returns the position of the next. Data must lie before `data_limit`.
  std::uint64_t read_entry(std::uint64_t position, std::uint64_t end, std::uint64_t data_limit,
                           std::vector<ZipEntry>& entries) {
    if (end - position < kCentralBytes || read_at<std::uint32_t>(file_, position) != kCentralSignature) {
      damaged("its directory is cut");
    }
    const auto name_bytes = read_at<std::uint16_t>(file_, position + 28);
    const auto extra_bytes = read_at<std::uint16_t>(file_, position + 30);
    const auto comment_bytes = read_at<std::uint16_t>(file_, position + 32);
    const std::uint64_t next = position + kCentralBytes + name_bytes + extra_bytes + comment_bytes;
    if (next > end) damaged("its directory is cut");
    ZipEntry entry{.name = std::string(as_text(file_.subspan(position + kCentralBytes, name_bytes)))};
    entry.crc = read_at<std::uint32_t>(file_, position + 16);
    const auto flags = read_at<std::uint16_t>(file_, position + 8),
               method = read_at<std::uint16_t>(file_, position + 10);
    if (flags & kEncrypted) fail(ErrorCode::unsupported, "{}: {} is encrypted", origin_, quote(entry.name));
    if (method != kStored) {
      fail(ErrorCode::unsupported, "{}: {} is compressed (method {}); torch.save stores its entries as they are",
           origin_, quote(entry.name), method);
    }
    std::uint64_t packed = read_at<std::uint32_t>(file_, position + 20);
    entry.size = read_at<std::uint32_t>(file_, position + 24);
    std::uint64_t local = read_at<std::uint32_t>(file_, position + 42);
    read_zip64(file_.subspan(position + kCentralBytes + name_bytes, extra_bytes), entry, packed, local);
    if (packed != entry.size) damaged(quote(entry.name) + " has two sizes though it is not compressed");
    entry.offset = data_offset(entry, local, data_limit);
    if (!names_.insert(entry.name).second) damaged("it has " + quote(entry.name) + " twice");
    extents_.push_back({local, entry.offset + entry.size, entry.name});
    entries.push_back(std::move(entry));
    return next;
  }

  // The fields that did not fit in 32 bits follow one another in the zip64 extra, only those.
  void read_zip64(Bytes extra, ZipEntry& entry, std::uint64_t& packed, std::uint64_t& local) const {
    std::uint64_t* const fields[] = {&entry.size, &packed, &local};
    if (entry.size != kIn64 && packed != kIn64 && local != kIn64) return;
    while (extra.size() >= 4) {
      const auto tag = read_at<std::uint16_t>(extra, 0), bytes = read_at<std::uint16_t>(extra, 2);
      if (bytes > extra.size() - 4) break;
      Bytes content = extra.subspan(4, bytes);
      if (tag == kZip64Extra) {
        for (std::uint64_t* const field : fields) {
          if (*field != kIn64) continue;
          if (content.size() < 8) damaged(quote(entry.name) + " lacks a zip64 size");
          *field = read_at<std::uint64_t>(content, 0);
          content = content.subspan(8);
        }
        return;
      }
      extra = extra.subspan(4 + std::size_t{bytes});
    }
    damaged(quote(entry.name) + " lacks its zip64 sizes");
  }

  std::uint64_t data_offset(const ZipEntry& entry, std::uint64_t local, std::uint64_t data_limit) const {
    if (local > data_limit || data_limit - local < kLocalBytes ||
        read_at<std::uint32_t>(file_, local) != kLocalSignature) {
      damaged(quote(entry.name) + " is not where the directory says");
    }
    const auto name_bytes = read_at<std::uint16_t>(file_, local + 26);
    const std::uint64_t offset = local + kLocalBytes + name_bytes + read_at<std::uint16_t>(file_, local + 28);
    if (offset > data_limit || entry.size > data_limit - offset) {
      damaged(fmt::format("{} of {} bytes does not fit in the file", quote(entry.name), entry.size));
    }
    if (as_text(file_.subspan(local + kLocalBytes, name_bytes)) != entry.name) {
      damaged(quote(entry.name) + " has another name in its own header");
    }
    const auto flags = read_at<std::uint16_t>(file_, local + 6), method = read_at<std::uint16_t>(file_, local + 8);
    const auto packed = read_at<std::uint32_t>(file_, local + 18), size = read_at<std::uint32_t>(file_, local + 22);
    const auto agrees = [&](std::uint32_t value) { return value == entry.size || value == kIn64; };
    const bool follows = (flags & kSizesFollow) != 0 && packed == 0 && size == 0;
    if (method != kStored || (!follows && !(agrees(packed) && agrees(size)))) {
      damaged(quote(entry.name) + " is described differently in its own header");
    }
    return offset;
  }

  void check_overlaps() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < extents_.size(); ++i) {
      if (extents_[i].begin < extents_[i - 1].end) {
        damaged(quote(extents_[i - 1].name) + " and " + quote(extents_[i].name) + " overlap");
      }
    }
  }

  Bytes file_;
  const std::string& origin_;
  std::set<std::string> names_;
  std::vector<Extent> extents_;
};

}  // namespace

std::vector<ZipEntry> read_zip_directory(Bytes file, const std::string& origin) {
  if (file.size() < kEndBytes) fail(ErrorCode::format, "{}: is too short for a zip archive", origin);
  return DirectoryReader(file, origin).read();
}

void check_crc(Bytes file, const ZipEntry& entry, const std::string& origin) {
  std::uint32_t crc = 0xffffffff;
  for (const std::byte byte : file.subspan(entry.offset, entry.size)) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
  }
  if (~crc != entry.crc) {
    fail(ErrorCode::format, "{}: {} is damaged: its CRC-32 is {:08x}, not {:08x}", origin, quote(entry.name), ~crc,
         entry.crc);
  }
}

}  // namespace flashvsr::weights
