// Zip archives whose entries are stored uncompressed, as torch.save writes them.
#pragma once

#include "weights/bytes.h"

#include <string>
#include <vector>

namespace flashvsr::weights {

struct ZipEntry {
  std::string name;
  std::uint64_t offset = 0, size = 0;  // of the data in the file
  std::uint32_t crc = 0;               // as the directory states it; see check_crc
};

// Reads the central directory (zip64 too) and checks every entry against its local header: inside the file, stored,
// not encrypted, no two with the same name or overlapping. Throws Error(format), or Error(unsupported) for compression.
std::vector<ZipEntry> read_zip_directory(Bytes file, const std::string& origin);

// Throws Error(format) if the data is not what the directory's CRC-32 says.
void check_crc(Bytes file, const ZipEntry& entry, const std::string& origin);

}  // namespace flashvsr::weights
