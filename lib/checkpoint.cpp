#include "halfulp/checkpoint.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "detail/checkpoint_file.hpp"
#include "detail/descriptor.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/info.hpp"

extern "C" char* openblas_get_corename();

namespace halfulp::detail {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t largest_state = std::size_t{1} << 36;

fs::path beside(const fs::path& path, const char* suffix) {
  fs::path other = path;
  other += suffix;
  return other;
}

[[noreturn]] void fail(const fs::path& path, const std::string& what, int code) {
  throw IoError(path.string(), what + ": " + std::generic_category().message(code));
}

bool is_there(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

/// All bytes are on the disk when this returns.
void write_synchronised(const fs::path& path, std::string_view bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file.valid()) fail(path, "cannot write", errno);
  while (!bytes.empty()) {
    const ssize_t count = ::write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "cannot write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  if (::fsync(file.get()) != 0 || file.close() != 0) fail(path, "cannot write", errno);
}

void move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail(to, "cannot write", errno);
}

}  // namespace

std::string arithmetic_name() {
  const Info machine = info();
  const std::string set =
      machine.instruction_sets.empty() ? "baseline" : machine.instruction_sets[0];
  return set + ", OpenBLAS " + openblas_get_corename();
}

CheckpointFile::CheckpointFile(const Checkpoint& options, Seal seal, std::string_view function)
    : options_(options), seal_(std::move(seal)) {
  require(options.every >= 0, function, "options.checkpoint.every", options.every, ">= 0");
  if (!options.state.empty()) {
    const Unsealed there = unseal(options.state, seal_);
    if (there.verdict != Unsealed::Verdict::good)
      throw DomainError(function, "options.checkpoint.state",
                        std::to_string(options.state.size()) + " bytes",
                        "a state of this computation: " + there.reason);
    state_ = std::string(there.payload);
  } else if (!options.path.empty()) {
    load();
    check_writable();
  }
  options_.state.clear();
}

void CheckpointFile::load() {
  const fs::path& path = options_.path;
  const fs::path previous = beside(path, ".previous");
  if (!options_.resume) {
    for (const fs::path& file : {path, previous})
      if (is_there(file))
        throw IoError(file.string(),
                      "is the checkpoint of a computation that was interrupted: resume it, or "
                      "remove the file");
    return;
  }
  std::string damage;
  for (const fs::path& file : {path, previous}) {
    if (!is_there(file)) continue;
    const std::string bytes = read_file(file, largest_state);
    const Unsealed there = unseal(bytes, seal_);
    if (there.verdict == Unsealed::Verdict::foreign)
      throw IoError(file.string(),
                    "this checkpoint belongs to another computation: " + there.reason);
    if (there.verdict == Unsealed::Verdict::good) {
      state_ = std::string(there.payload);
      if (!damage.empty())
        warnings_.push_back(path.string() + ": this checkpoint is damaged (" + damage +
                            "): the previous one is used");
      return;
    }
    if (file == previous && damage.empty()) damage = there.reason;
    if (file == path) {
      damage = there.reason;
      keep_previous_ = true;
    }
  }
  if (!damage.empty())
    throw IoError(path.string(), "this checkpoint is damaged (" + damage +
                                     "), and there is no good one before it: remove it to start "
                                     "from the beginning");
}

void CheckpointFile::check_writable() const {
  const fs::path name = beside(options_.path, ".new");
  Descriptor file(::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (!file.valid()) fail(name, "cannot write", errno);
  file.close();
  ::unlink(name.c_str());
}

bool CheckpointFile::due() const {
  return active() &&
         std::chrono::duration<double>(std::chrono::steady_clock::now() - last_).count() >=
             options_.every;
}

void CheckpointFile::save(std::string_view payload) {
  if (!active()) return;
  const std::string bytes = sealed(seal_, payload);
  if (options_.store) options_.store(bytes);
  if (!options_.path.empty()) {
    const fs::path& path = options_.path;
    const fs::path next = beside(path, ".new");
    write_synchronised(next, bytes);
    // A crash between the two renames leaves the previous one, which is good.
    if (!keep_previous_ && is_there(path)) move(path, beside(path, ".previous"));
    move(next, path);
    keep_previous_ = false;
    const fs::path folder = path.parent_path();
    const Descriptor directory(
        ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.valid()) ::fsync(directory.get());
  }
  last_ = std::chrono::steady_clock::now();
}

}  // namespace halfulp::detail

namespace halfulp {

void write_record(const std::filesystem::path& path, std::string_view kind, std::string_view key,
                  std::string_view content) {
  write_file_atomic(path, detail::sealed({std::string(kind), 1, std::string(key)}, content));
}

std::optional<std::string> read_record(const std::filesystem::path& path, std::string_view kind,
                                       std::string_view key) {
  std::string bytes;
  try {
    bytes = read_file(path, detail::largest_state);
  } catch (const IoError&) {
    return {};
  }
  const detail::Unsealed there = detail::unseal(bytes, {std::string(kind), 1, std::string(key)});
  if (there.verdict != detail::Unsealed::Verdict::good) return {};
  return std::string(there.payload);
}

std::string content_digest(std::string_view bytes) { return detail::digest(bytes).hex(); }

}  // namespace halfulp
