// Weight files made in memory, sound or damaged on purpose.
#pragma once

#include "core/error.h"
#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace flashvsr::weights {

// The bytes in a heap block of exactly their size, so that a sanitizer sees any step outside. `shift` moves them off
// alignment.
std::shared_ptr<Storage> storage_of(const std::string& bytes, std::size_t shift = 0);

// Expects Error(code) whose message is one line and contains every part.
void expect_error(const std::function<void()>& call, ErrorCode code, const std::vector<std::string>& parts);

// An empty folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& bytes);

// `value` as `count` little-endian bytes.
std::string little(std::uint64_t value, int count);

// Header length, header, data.
std::string safetensors_bytes(const std::string& header, const std::string& data);

// One entry of a zip archive as it is written; the fields default to a sound one.
struct ZipItem {
  std::string name, data;
  std::uint16_t method = 0, flags = 0;
  bool zip64 = false;
  // Wrong on purpose, where set.
  std::string local_name = {};
  std::int64_t directory_size = -1, local_offset = -1;
  bool wrong_crc = false;
};
std::string zip_bytes(const std::vector<ZipItem>& items, bool zip64_end = false);

// Pickle pieces (protocol 2).
std::string text(const std::string& value);          // BINUNICODE
std::string integer(std::int64_t value);             // LONG1
std::string tuple(const std::vector<std::string>&);  // MARK ... TUPLE
std::string global(const std::string& module, const std::string& name);
std::string pickle(const std::string& body);                                            // PROTO 2, body, STOP
std::string dictionary(const std::vector<std::pair<std::string, std::string>>& items);  // values are pieces
std::string storage(const std::string& type, const std::string& key, std::int64_t elements);
std::string tensor(const std::string& storage, std::int64_t offset, const std::vector<std::int64_t>& size,
                   const std::vector<std::int64_t>& stride);

// A torch.save archive of this pickle and these storages ("0", "1", ...).
std::string archive_bytes(const std::string& pickle, const std::vector<std::string>& storages);

}  // namespace flashvsr::weights
