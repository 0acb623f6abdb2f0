#include "weight_files.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

namespace flashvsr::weights {
namespace {

class HeapStorage final : public Storage {
 public:
  HeapStorage(std::unique_ptr<char[]> block, std::size_t shift, std::size_t bytes)
      : Storage(block.get() + shift, bytes), block_(std::move(block)) {}

 private:
  std::unique_ptr<char[]> block_;
};

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

}  // namespace

std::shared_ptr<Storage> storage_of(const std::string& bytes, std::size_t shift) {
  auto block = std::make_unique<char[]>(bytes.size() + shift);
  std::memcpy(block.get() + shift, bytes.data(), bytes.size());
  return std::make_shared<HeapStorage>(std::move(block), shift, bytes.size());
}

void expect_error(const std::function<void()>& call, ErrorCode code, const std::vector<std::string>& parts) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "no \"" << part << "\" in: " << message;
    }
    return;
  }
  ADD_FAILURE() << "no error where one with \"" << (parts.empty() ? "" : parts.front()) << "\" was expected";
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "flashvsr-weights-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file) << path;
}

std::string little(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return little(header.size(), 8) + header + data;
}

std::string zip_bytes(const std::vector<ZipItem>& items, bool zip64_end) {
  std::string file, directory;
  for (const ZipItem& item : items) {
    const std::uint64_t offset = item.local_offset >= 0 ? static_cast<std::uint64_t>(item.local_offset) : file.size();
    const std::uint64_t size =
        item.directory_size >= 0 ? static_cast<std::uint64_t>(item.directory_size) : item.data.size();
    const std::uint32_t crc = crc32(item.data) ^ (item.wrong_crc ? 1u : 0u);
    const std::string& local_name = item.local_name.empty() ? item.name : item.local_name;
    const bool follows = (item.flags & 8) != 0;
    const std::uint64_t local_size = follows ? 0 : item.data.size();
    file += little(0x04034b50, 4) + little(20, 2) + little(item.flags, 2) + little(item.method, 2) + little(0, 4) +
            little(follows ? 0 : crc, 4) + little(local_size, 4) + little(local_size, 4) +
            little(local_name.size(), 2) + little(0, 2) + local_name + item.data;
    const std::string extra =
        item.zip64 ? little(1, 2) + little(24, 2) + little(size, 8) + little(size, 8) + little(offset, 8) : "";
    const auto narrow = [&](std::uint64_t value) { return little(item.zip64 ? 0xffffffff : value, 4); };
    directory += little(0x02014b50, 4) + little(20, 2) + little(20, 2) + little(item.flags, 2) +
                 little(item.method, 2) + little(0, 4) + little(crc, 4) + narrow(size) + narrow(size) +
                 little(item.name.size(), 2) + little(extra.size(), 2) + little(0, 2) + little(0, 8) + narrow(offset) +
                 item.name + extra;
  }
  const std::uint64_t begin = file.size(), count = items.size();
  file += directory;
  if (zip64_end) {
    const std::uint64_t end64 = file.size();
    file += little(0x06064b50, 4) + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) + little(count, 8) +
            little(count, 8) + little(directory.size(), 8) + little(begin, 8);
    file += little(0x07064b50, 4) + little(0, 4) + little(end64, 8) + little(1, 4);
  }
  const auto narrow = [&](std::uint64_t value, int bytes) {
    return little(zip64_end ? ~std::uint64_t{0} : value, bytes);
  };
  return file + little(0x06054b50, 4) + little(0, 4) + narrow(count, 2) + narrow(count, 2) +
         narrow(directory.size(), 4) + narrow(begin, 4) + little(0, 2);
}

std::string text(const std::string& value) { return std::string("X") + little(value.size(), 4) + value; }

std::string integer(std::int64_t value) {
  return std::string("\x8a\x08") + little(static_cast<std::uint64_t>(value), 8);
}

std::string tuple(const std::vector<std::string>& items) {
  std::string bytes = "(";
  for (const std::string& item : items) bytes += item;
  return bytes + "t";
}

std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }

std::string pickle(const std::string& body) { return "\x80\x02" + body + "."; }

std::string dictionary(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string bytes = "}(";
  for (const auto& [key, value] : items) bytes += text(key) + value;
  return bytes + "u";
}

std::string storage(const std::string& type, const std::string& key, std::int64_t elements) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) + "Q";
}

std::string tensor(const std::string& storage, std::int64_t offset, const std::vector<std::int64_t>& size,
                   const std::vector<std::int64_t>& stride) {
  const auto integers = [](const std::vector<std::int64_t>& values) {
    std::vector<std::string> items;
    for (const std::int64_t value : values) items.push_back(integer(value));
    return tuple(items);
  };
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({storage, integer(offset), integers(size), integers(stride), "\x89",
                global("collections", "OrderedDict") + ")R"}) +
         "R";
}

std::string archive_bytes(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipItem> items{{.name = "model/data.pkl", .data = pickle}};
  for (std::size_t i = 0; i < storages.size(); ++i) {
    items.push_back({.name = "model/data/" + std::to_string(i), .data = storages[i]});
  }
  items.push_back({.name = "model/version", .data = "3\n"});
  return zip_bytes(items);
}

}  // namespace flashvsr::weights
