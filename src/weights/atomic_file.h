// A new file that appears under its name when it is complete, or not at all.
#pragma once

#include "weights/bytes.h"

#include <filesystem>

namespace flashvsr::weights {

// Until commit() the file has no name (where the file system can do that; else a hidden temporary one in the same
// folder), so nothing is left behind when the program fails or is killed. All errors are Error(io) that name the file.
class AtomicFile {
 public:
  // `bytes`: the size to come, reserved now so that a full disk is noticed before the work. Without `overwrite` an
  // existing file is an error, here and again in commit().
  AtomicFile(std::filesystem::path path, std::uint64_t bytes, bool overwrite);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(Bytes bytes);
  // Waits until everything is on disk, then gives the file its name.
  void commit();

 private:
  void open(const std::filesystem::path& folder);
  [[noreturn]] void fail_with(const char* what, int reason) const;

  std::filesystem::path path_, temporary_;
  bool overwrite_;
  int descriptor_ = -1;
};

}  // namespace flashvsr::weights
