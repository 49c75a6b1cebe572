#include "halfulp/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "detail/descriptor.hpp"
#include "detail/input_file.hpp"
#include "halfulp/error.hpp"

namespace halfulp {
namespace {

using detail::Descriptor;
using detail::InputFile;

[[noreturn]] void fail(const std::string& name, const std::string& what, int code) {
  throw IoError(name, what + ": " + std::generic_category().message(code));
}

/// A name with a zero byte would silently mean another file.
void check_name(const std::string& name) {
  if (name.empty()) throw IoError("", "the file name is empty");
  if (name.find('\0') != std::string::npos)
    throw IoError(name, "the file name contains a zero byte");
}

/// Returns 0 or the errno of the failure.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    // Linux writes at most 0x7ffff000 bytes a call; smaller pieces cost nothing.
    const ssize_t count = ::write(fd, bytes.data(), std::min<std::size_t>(bytes.size(), 1 << 30));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return 0;
}

/// Removes the temporary file unless it was renamed.
struct Temporary {
  std::string name;
  ~Temporary() {
    if (!name.empty()) ::unlink(name.c_str());
  }
};

void write_directly(const std::string& name, std::span<const std::string_view> pieces) {
  Descriptor file(::open(name.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) fail(name, "cannot open for writing", errno);
  for (const auto piece : pieces)
    if (const int code = write_all(file.get(), piece)) fail(name, "cannot write", code);
  if (file.close() != 0) fail(name, "cannot write", errno);
}

}  // namespace

detail::InputFile::InputFile(const std::filesystem::path& path)
    : name_(path.string()),
      file_((check_name(name_), ::open(name_.c_str(), O_RDONLY | O_CLOEXEC))) {
  if (!file_.valid()) fail(name_, "cannot open for reading", errno);
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail(name_, "cannot open for reading", errno);
  if (S_ISDIR(status.st_mode)) throw IoError(name_, "is a directory, expected a file");
  regular_ = S_ISREG(status.st_mode);
  if (regular_) size_ = static_cast<std::uint64_t>(status.st_size);
}

std::size_t detail::InputFile::read(char* to, std::size_t count) {
  std::size_t done = 0;
  while (done < count) {
    const ssize_t now =
        ::read(file_.get(), to + done, std::min<std::size_t>(count - done, 1 << 30));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) fail(name_, "cannot read", errno);
    if (now == 0) break;
    done += static_cast<std::size_t>(now);
  }
  return done;
}

std::size_t detail::InputFile::read_at(std::uint64_t from, char* to, std::size_t count) const {
  std::size_t done = 0;
  while (done < count) {
    const ssize_t now =
        ::pread(file_.get(), to + done, std::min<std::size_t>(count - done, 1 << 30),
                static_cast<off_t>(from + done));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) fail(name_, "cannot read", errno);
    if (now == 0) break;
    done += static_cast<std::size_t>(now);
  }
  return done;
}

void detail::InputFile::will_read(std::uint64_t from, std::uint64_t count) const {
  (void)::posix_fadvise(file_.get(), static_cast<off_t>(from), static_cast<off_t>(count),
                        POSIX_FADV_WILLNEED);
}

std::string read_file(const std::filesystem::path& path, std::size_t limit) {
  InputFile file(path);
  const auto check = [&](std::uint64_t size, const char* more) {
    if (size > limit)
      throw IoError(file.name(), "has " + std::to_string(size) + " bytes" + more +
                                     ", must be at most " + std::to_string(limit));
  };
  check(file.size(), "");
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(file.size()) +
                4096);  // the loop below asks beyond the end
  bytes.resize(static_cast<std::size_t>(file.size()));
  bytes.resize(file.read(bytes.data(), bytes.size()));
  // The size of a pipe or of a file in /proc is unknown, and a file may grow: read to the end.
  for (std::size_t step = 4096;; step = std::min<std::size_t>(2 * step, 1 << 24)) {
    const std::size_t before = bytes.size();
    bytes.resize(before + step);
    bytes.resize(before + file.read(bytes.data() + before, step));
    check(bytes.size(), " or more");
    if (bytes.size() < before + step) return bytes;
  }
}

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  write_file_atomic(path, std::span<const std::string_view>(&bytes, 1));
}

void write_file_atomic(const std::filesystem::path& path,
                       std::span<const std::string_view> pieces) {
  const std::string name = path.string();
  check_name(name);
  struct stat old {};
  const bool exists = ::stat(name.c_str(), &old) == 0;
  if (!exists && errno != ENOENT) fail(name, "cannot write", errno);
  if (exists && S_ISDIR(old.st_mode)) throw IoError(name, "is a directory, expected a file");
  if (exists && !S_ISREG(old.st_mode)) return write_directly(name, pieces);
  // Without this a read-only file in a writable directory would be replaced.
  if (exists && ::access(name.c_str(), W_OK) != 0) fail(name, "cannot write", errno);

  std::filesystem::path target = path;  // behind the symbolic links; stat has refused their loops
  std::error_code code;
  while (std::filesystem::is_symlink(target, code)) {
    const auto next = std::filesystem::read_symlink(target, code);
    if (code) fail(name, "cannot follow the symbolic link", code.value());
    target = target.parent_path() / next;
  }
  std::string directory = target.parent_path().string();
  if (directory.empty()) directory = ".";

  static std::atomic<unsigned> counter{0};
  Temporary temporary;
  int fd = -1;
  for (int attempt = 0; fd < 0; ++attempt) {
    const std::string candidate = directory + "/.halfulp-" + std::to_string(::getpid()) + '-' +
                                  std::to_string(counter++) + ".tmp";
    fd = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) temporary.name = candidate;
    if (fd < 0 && (errno != EEXIST || attempt == 1000)) fail(name, "cannot write", errno);
  }
  Descriptor file(fd);
  if (exists) ::fchmod(fd, old.st_mode & 07777);  // best effort: the owner may differ
  for (const auto piece : pieces)
    if (const int error = write_all(fd, piece)) fail(name, "cannot write", error);
  if (::fsync(fd) != 0) fail(name, "cannot write", errno);
  if (file.close() != 0) fail(name, "cannot write", errno);
  if (::rename(temporary.name.c_str(), target.c_str()) != 0) fail(name, "cannot write", errno);
  temporary.name.clear();

  // Makes the rename itself survive a power cut; not every file system can, and the file is
  // complete.
  Descriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.valid()) ::fsync(folder.get());
}

}  // namespace halfulp
