// Outputs that appear under their name only when they are complete.
#pragma once

#include "media/file_io.h"
#include "media/unfinished.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace flashvsr::media {

// A file that is written under a temporary name beside the final one: ".NAME.flashvsr-PID-N.tmp.EXTENSION". Without
// commit() the temporary file is removed. Devices and named pipes are written directly.
class OutputFile {
 public:
  // `source_path`: the input, which must not be this file ("" or "-": none). Throws Error(invalid_argument) if the file
  // exists and `overwrite` is false, or if it is the input; Error(io) if the folder cannot be written.
  OutputFile(const std::string& path, const std::string& source_path, bool overwrite);

  // As given by the user.
  const std::string& path() const { return path_; }
  // Where the bytes are now.
  const std::string& written_path() const { return written_path_; }
  bool seekable() const { return unfinished_.has_value(); }

  // Throws Error(io) if it fails, "the disk is full" for example.
  void write(const void* data, std::size_t bytes);
  // The same for callers that cannot stand an exception: errno or 0.
  int try_write(const void* data, std::size_t bytes) noexcept;
  // As lseek, with -1 on failure.
  std::int64_t seek(std::int64_t offset, int whence) noexcept;
  std::int64_t size() const noexcept;

  // Brings everything to the disk and gives the file its name; without `overwrite` a file of that name that has
  // appeared meanwhile is an error.
  void commit();

 private:
  std::string path_;
  std::string final_path_;  // symbolic links followed
  std::string written_path_;
  bool overwrite_;
  std::optional<UnfinishedOutput> unfinished_;
  FileDescriptor file_;
};

// A folder of numbered images, likewise: ".NAME.flashvsr-PID-N.tmp". With `overwrite` it takes the place of a folder
// that holds nothing but numbered images.
class OutputFolder {
 public:
  OutputFolder(const std::string& path, const std::string& source_path, bool overwrite);

  const std::string& path() const { return path_; }
  // Writes the next image, 1 being the first.
  void write_image(const void* data, std::size_t bytes);
  void commit();

 private:
  std::string path_;
  std::string final_path_;
  std::string written_path_;
  bool overwrite_;
  std::int64_t images_ = 0;
  std::optional<UnfinishedOutput> unfinished_;
};

}  // namespace flashvsr::media
