#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "halfulp/checkpoint.hpp"

/// The folder of --checkpoint: for each problem the state of an interrupted solve, `NAME.state`, or
/// a record that it is finished, `NAME.finished`. One process at a time may use it.
struct RunFolderOptions {
  std::string folder;  ///< empty: none, and nothing below does anything
  double every = 60;
  bool resume = false;
};

/// What a finished problem printed and wrote.
struct FinishedRun {
  std::filesystem::path folder;
  bool converged = false;
  std::vector<std::string> row;    ///< of the table
  std::string report;              ///< text of report.json
  std::vector<std::string> files;  ///< in the folder
};

class RunFolder {
 public:
  /// Creates the folder and takes its lock. @throws IoError
  explicit RunFolder(const RunFolderOptions& options);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  [[nodiscard]] bool active() const { return !options_.folder.empty(); }
  /// Without --resume: refuses a folder that has the state of an interrupted solve. @throws IoError
  void check(const std::string& name) const;
  [[nodiscard]] halfulp::Checkpoint checkpoint(const std::string& name) const;
  /// With --resume: what an earlier call with the same key finished, if the files that it wrote to
  /// `folder` are there as they were.
  [[nodiscard]] std::optional<FinishedRun> finished(const std::string& name, const std::string& key,
                                                    const std::filesystem::path& folder) const;
  /// Removes what a killed call staged for a problem, and notes where this one does.
  void remove_leftovers(const std::string& name) const;
  void note_staging(const std::string& name, const std::filesystem::path& staging) const;
  /// Notes that a problem is finished, and removes its state.
  void finish(const std::string& name, const std::string& key, const FinishedRun& run) const;

 private:
  void remove_state(const std::string& name) const;
  [[nodiscard]] std::filesystem::path file(const std::string& name, const char* suffix) const;
  RunFolderOptions options_;
  int lock_ = -1;
};
