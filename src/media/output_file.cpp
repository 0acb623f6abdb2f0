#include "media/output_file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace flashvsr::media {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const std::string& path, int error) {
  fail(ErrorCode::io, "{}: cannot be written: {}", path, describe_errno(error));
}

bool same_file(const std::string& first, const std::string& second) {
  struct stat a {
  }, b{};
  return stat(first.c_str(), &a) == 0 && stat(second.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void refuse_source(const std::string& path, const std::string& source_path) {
  if (!source_path.empty() && source_path != "-" && same_file(path, source_path))
    fail(ErrorCode::invalid_argument, "{}: is the input: give another name for the output", path);
}

[[noreturn]] void refuse_existing(const std::string& path) {
  fail(ErrorCode::invalid_argument, "{}: exists already: give another name, or --overwrite to replace it", path);
}

// Symbolic links are followed, so that a link stays a link and its target is replaced.
std::string follow_links(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  return error ? path : target.string();
}

std::string temporary_path(const std::string& final_path, const std::string& extension) {
  static std::atomic<int> counter{0};
  const fs::path path(final_path);
  std::string name = path.filename().string();
  // A name of 255 bytes is the limit of common file systems; ours is longer than the final one.
  if (name.size() > 180) name.resize(180);
  return (path.parent_path() / fmt::format(".{}.flashvsr-{}-{}.tmp{}", name, getpid(), counter.fetch_add(1), extension))
      .string();
}

void sync_parent(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  const FileDescriptor folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot sync folders; the data is on the disk in any case.
  if (folder.get() >= 0) (void)fsync(folder.get());
}

// Renames without replacing; errno or 0.
int rename_new(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // A file system without that promise: the window between the two calls is as small as can be.
  struct stat status {};
  if (lstat(to.c_str(), &status) == 0) return EEXIST;
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

bool is_image_name(const std::string& name) {
  return name.size() >= 10 && name.ends_with(".png") &&
         name.find_first_not_of("0123456789") == name.size() - std::string_view(".png").size();
}

// Name of an entry that we would not have written, or empty.
std::string foreign_entry(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!is_image_name(name) || !entry->is_regular_file(error)) return name;
  }
  if (error) fail(ErrorCode::io, "{}: cannot be read: {}", folder, error.message());
  return {};
}

void remove_images(const std::string& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (is_image_name(entry.path().filename().string())) fs::remove(entry.path(), error);
  fs::remove(folder, error);
}

}  // namespace

OutputFile::OutputFile(const std::string& path, const std::string& source_path, bool overwrite)
    : path_(path), final_path_(follow_links(path)), overwrite_(overwrite) {
  refuse_source(path, source_path);
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) fail(ErrorCode::io, "{}: cannot be written: it is a folder", path);
    if (!S_ISREG(status.st_mode)) {
      written_path_ = final_path_;
      file_ = FileDescriptor(::open(final_path_.c_str(), O_WRONLY | O_CLOEXEC));
      if (file_.get() < 0) fail_to_write(path, errno);
      return;
    }
    if (!overwrite) refuse_existing(path);
    if (access(final_path_.c_str(), W_OK) != 0) fail_to_write(path, errno);
  } else if (errno != ENOENT) {
    fail_to_write(path, errno);
  }
  const std::string extension = extension_of(path);
  written_path_ = temporary_path(final_path_, extension.empty() ? "" : "." + extension);
  unfinished_.emplace(written_path_, UnfinishedOutput::Kind::file);
  file_ = FileDescriptor(::open(written_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (file_.get() < 0) {
    const int error = errno;
    // What is there under this name is not ours to remove.
    if (error == EEXIST) unfinished_->finished();
    fail_to_write(path, error);
  }
}

int OutputFile::try_write(const void* data, std::size_t bytes) noexcept { return write_all(file_.get(), data, bytes); }

void OutputFile::write(const void* data, std::size_t bytes) {
  if (const int error = try_write(data, bytes)) fail_to_write(path_, error);
}

std::int64_t OutputFile::seek(std::int64_t offset, int whence) noexcept { return lseek(file_.get(), offset, whence); }

std::int64_t OutputFile::size() const noexcept {
  struct stat status {};
  return fstat(file_.get(), &status) == 0 ? status.st_size : -1;
}

void OutputFile::commit() {
  if (!unfinished_) {
    if (const int error = file_.close()) fail_to_write(path_, error);
    return;
  }
  if (fsync(file_.get()) != 0) fail_to_write(path_, errno);
  if (const int error = file_.close()) fail_to_write(path_, error);
  if (overwrite_) {
    if (::rename(written_path_.c_str(), final_path_.c_str()) != 0) fail_to_write(path_, errno);
  } else if (const int error = rename_new(written_path_, final_path_)) {
    if (error == EEXIST) refuse_existing(path_);
    fail_to_write(path_, error);
  }
  unfinished_->finished();
  sync_parent(final_path_);
}

OutputFolder::OutputFolder(const std::string& path, const std::string& source_path, bool overwrite)
    : path_(path), overwrite_(overwrite) {
  refuse_source(path, source_path);
  std::string bare = path;
  while (bare.size() > 1 && bare.back() == '/') bare.pop_back();
  final_path_ = follow_links(bare);
  struct stat status {};
  if (stat(final_path_.c_str(), &status) == 0) {
    if (!S_ISDIR(status.st_mode)) fail(ErrorCode::io, "{}: cannot be written: it exists and is not a folder", path);
    std::error_code error;
    if (!fs::is_empty(final_path_, error)) {
      if (!overwrite) refuse_existing(path);
      const std::string foreign = foreign_entry(final_path_);
      if (!foreign.empty())
        fail(ErrorCode::invalid_argument,
             "{}: is not replaced, because it holds more than numbered images ('{}'): give another folder", path,
             foreign);
    }
  } else if (errno != ENOENT) {
    fail_to_write(path, errno);
  }
  written_path_ = temporary_path(final_path_, "");
  unfinished_.emplace(written_path_, UnfinishedOutput::Kind::image_folder);
  if (mkdir(written_path_.c_str(), 0777) != 0) {
    const int mkdir_error = errno;
    if (mkdir_error == EEXIST) unfinished_->finished();
    fail_to_write(path, mkdir_error);
  }
}

void OutputFolder::write_image(const void* data, std::size_t bytes) {
  std::array<char, 32> name{};
  format_image_name(images_ + 1, name.data());
  unfinished_->set_last_image(images_ + 1);
  FileDescriptor file(
      ::open((written_path_ + '/' + name.data()).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (file.get() < 0) fail_to_write(path_ + '/' + name.data(), errno);
  int error = write_all(file.get(), data, bytes);
  if (error == 0 && fsync(file.get()) != 0) error = errno;
  if (error == 0) error = file.close();
  if (error != 0) fail_to_write(path_ + '/' + name.data(), error);
  ++images_;
}

void OutputFolder::commit() {
  struct stat status {};
  if (stat(final_path_.c_str(), &status) != 0) {
    if (const int error = rename_new(written_path_, final_path_)) {
      if (error == EEXIST) refuse_existing(path_);
      fail_to_write(path_, error);
    }
  } else if (::rename(written_path_.c_str(), final_path_.c_str()) != 0) {
    // rename() replaces an empty folder only.
    if (errno != ENOTEMPTY && errno != EEXIST) fail_to_write(path_, errno);
    if (!overwrite_) refuse_existing(path_);
    const std::string foreign = foreign_entry(final_path_);
    if (!foreign.empty())
      fail(ErrorCode::invalid_argument, "{}: is not replaced, because '{}' has appeared in it", path_, foreign);
    const std::string aside = temporary_path(final_path_, ".old");
    if (::rename(final_path_.c_str(), aside.c_str()) != 0) fail_to_write(path_, errno);
    if (::rename(written_path_.c_str(), final_path_.c_str()) != 0) {
      const int error = errno;
      (void)::rename(aside.c_str(), final_path_.c_str());
      fail_to_write(path_, error);
    }
    remove_images(aside);
  }
  unfinished_->finished();
  sync_parent(final_path_);
}

}  // namespace flashvsr::media
