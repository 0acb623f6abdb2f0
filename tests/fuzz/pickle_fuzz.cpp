// Any bytes as the pickle of a sound archive with two storages: without this, no mutation would get past the archive's
// checksum.
#include "fuzz_support.h"
#include "weights/torch_archive.h"

#include <string>

using namespace flashvsr;

namespace {

std::string little(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

void add(std::string& file, std::string& directory, const std::string& name, const std::string& data) {
  const std::string common = little(0, 2) + little(0, 2) + little(0, 4) + little(crc32(data), 4) +
                             little(data.size(), 4) + little(data.size(), 4) + little(name.size(), 2) + little(0, 2);
  directory += little(0x02014b50, 4) + little(20, 2) + little(20, 2) + common + std::string(10, '\0') +
               little(file.size(), 4) + name;
  file += little(0x04034b50, 4) + little(20, 2) + common + name + data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes, directory;
  add(bytes, directory, "a/data/0", std::string(96, '\1'));
  add(bytes, directory, "a/data/1", std::string(16, '\2'));
  add(bytes, directory, "a/data.pkl", std::string(reinterpret_cast<const char*>(data), size));
  const std::size_t begin = bytes.size();
  bytes += directory + little(0x06054b50, 4) + little(0, 4) + little(3, 2) + little(3, 2) +
           little(directory.size(), 4) + little(begin, 4) + little(0, 2);
  const auto file = std::make_shared<weights::InputStorage>(bytes.data(), bytes.size());
  try {
    const weights::TorchArchive archive = weights::parse_torch_archive(file, "input");
    weights::check(archive.tensors, file);
    if (archive.tensor) weights::check({{"", archive.tensor}}, file);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::unsupported || std::strchr(error.what(), '\n')) std::abort();
  }
  return 0;
}
