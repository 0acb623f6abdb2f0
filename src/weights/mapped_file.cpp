#include "weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace flashvsr::weights {
namespace {

class MappedStorage final : public Storage {
 public:
  using Storage::Storage;
  ~MappedStorage() override { ::munmap(data(), bytes()); }
};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace

std::shared_ptr<Storage> map_file(const std::filesystem::path& path) {
  const std::string origin = path.string();
  // Non-blocking, or the opening of a pipe would wait for its writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number() < 0) fail(ErrorCode::io, "{}: cannot be opened: {}", origin, std::strerror(errno));
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) {
    fail(ErrorCode::io, "{}: cannot be examined: {}", origin, std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) fail(ErrorCode::io, "{}: is a folder where a file is expected", origin);
  if (!S_ISREG(status.st_mode)) fail(ErrorCode::io, "{}: is not a regular file, so it cannot be mapped", origin);
  if (status.st_size == 0) fail(ErrorCode::format, "{}: is empty", origin);
  const auto bytes = static_cast<std::size_t>(status.st_size);
  void* const data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (data == MAP_FAILED) fail(ErrorCode::io, "{}: cannot be mapped: {}", origin, std::strerror(errno));
  return std::make_shared<MappedStorage>(data, bytes);
}

std::string read_text_file(const std::filesystem::path& path, std::size_t limit) {
  const std::shared_ptr<Storage> file = map_file(path);
  if (file->bytes() > limit) {
    fail(ErrorCode::format, "{}: has {} bytes; at most {} are expected", path.string(), file->bytes(), limit);
  }
  return {static_cast<const char*>(file->data()), file->bytes()};
}

}  // namespace flashvsr::weights
