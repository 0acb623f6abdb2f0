// Temporary outputs that must not outlive a run, also when a signal ends it.
#pragma once

#include <cstdint>
#include <string>

namespace flashvsr::media {

// Numbered images of a folder: 1 gives "000001.png". `name` holds at least 32 characters. Safe in a signal handler.
void format_image_name(std::int64_t number, char* name) noexcept;

// A temporary file, or a folder of numbered images, that is removed when this goes out of scope, or by
// remove_unfinished_outputs().
class UnfinishedOutput {
 public:
  enum class Kind : std::uint8_t { file, image_folder };

  // Call it before the file or folder is made. Throws Error(io) if the path is too long, Error(internal) if more than
  // 16 outputs are being written.
  UnfinishedOutput(const std::string& path, Kind kind);
  ~UnfinishedOutput();
  UnfinishedOutput(const UnfinishedOutput&) = delete;
  UnfinishedOutput& operator=(const UnfinishedOutput&) = delete;

  // Of a folder: images with numbers up to this one may be there.
  void set_last_image(std::int64_t number) noexcept;
  // It got its final name: nothing is to be removed any more.
  void finished() noexcept;

 private:
  int slot_ = -1;
};

}  // namespace flashvsr::media
