#include "run_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "halfulp/error.hpp"
#include "halfulp/file.hpp"

namespace fs = std::filesystem;
using nlohmann::json;

namespace {
constexpr std::string_view kind = "finished";
constexpr std::size_t largest_file = std::size_t{1} << 40;
}  // namespace

RunFolder::RunFolder(const RunFolderOptions& options) : options_(options) {
  if (!active()) return;
  const fs::path folder = options_.folder;
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) throw halfulp::IoError(folder.string(), "cannot create: " + code.message());
  // The lock is the process's: it is gone when that ends, however it does.
  const fs::path name = folder / "lock";
  lock_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0)
    throw halfulp::IoError(name.string(),
                           "cannot write: " + std::generic_category().message(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw halfulp::IoError(folder.string(), "another process uses this folder of checkpoints");
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

fs::path RunFolder::file(const std::string& name, const char* suffix) const {
  return fs::path(options_.folder) / (name + suffix);
}

void RunFolder::check(const std::string& name) const {
  if (!active() || options_.resume) return;
  for (const char* suffix : {".state", ".state.previous"})
    if (fs::exists(file(name, suffix)))
      throw halfulp::IoError(
          file(name, suffix).string(),
          "is the state of a solve that was interrupted: pass --resume to go on, or remove it");
}

halfulp::Checkpoint RunFolder::checkpoint(const std::string& name) const {
  if (!active()) return {};
  return {.path = file(name, ".state"), .every = options_.every, .resume = options_.resume};
}

std::optional<FinishedRun> RunFolder::finished(const std::string& name, const std::string& key,
                                               const fs::path& folder) const {
  if (!active() || !options_.resume) return {};
  const auto text = halfulp::read_record(file(name, ".finished"), kind, key);
  if (!text) return {};
  const json record = json::parse(*text, nullptr, false);
  if (record.is_discarded()) return {};
  FinishedRun run{folder, record.at("converged"), record.at("row"), record.at("report"), {}};
  for (const auto& [file_name, digest] : record.at("files").items()) {
    try {
      const std::string bytes = halfulp::read_file(folder / file_name, largest_file);
      if (halfulp::content_digest(bytes) != digest) return {};
    } catch (const halfulp::IoError&) {
      return {};
    }
    run.files.push_back(file_name);
  }
  remove_state(name);  // of a call that was killed between its note and this
  return run;
}

void RunFolder::remove_state(const std::string& name) const {
  for (const char* suffix : {".state", ".state.previous", ".state.new", ".staging"}) {
    std::error_code code;
    fs::remove(file(name, suffix), code);
  }
}

void RunFolder::remove_leftovers(const std::string& name) const {
  if (!active()) return;
  const fs::path note = file(name, ".staging");
  if (!fs::exists(note)) return;
  const fs::path staging = halfulp::read_file(note, 1 << 16);
  std::error_code code;
  if (staging.filename().string().starts_with(".halfulp-")) fs::remove_all(staging, code);
  fs::remove(note, code);
}

void RunFolder::note_staging(const std::string& name, const fs::path& staging) const {
  // At once: a call that is killed before this is written leaves its empty folder.
  if (active()) std::ofstream(file(name, ".staging")) << fs::absolute(staging).string();
}

void RunFolder::finish(const std::string& name, const std::string& key,
                       const FinishedRun& run) const {
  if (!active()) return;
  json record = {{"converged", run.converged},
                 {"row", run.row},
                 {"report", run.report},
                 {"files", json::object()}};
  for (const std::string& file_name : run.files)
    record["files"][file_name] =
        halfulp::content_digest(halfulp::read_file(run.folder / file_name, largest_file));
  halfulp::write_record(file(name, ".finished"), kind, key,
                        record.dump(-1, ' ', false, json::error_handler_t::replace));
  remove_state(name);
}
