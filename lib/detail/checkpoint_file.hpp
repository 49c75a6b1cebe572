#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/sealed.hpp"
#include "halfulp/checkpoint.hpp"

namespace halfulp::detail {

/// Reads and writes the states of one computation as its Checkpoint says.
class CheckpointFile {
 public:
  /// Refuses, before any work, what Checkpoint's docstring says, and a folder that cannot be
  /// written.
  /// @param  function  who asks, for messages
  /// @throws DomainError, IoError
  CheckpointFile(const Checkpoint& options, Seal seal, std::string_view function);

  /// The state to go on from, once; nothing: begin at the beginning.
  [[nodiscard]] std::optional<std::string> take_state() { return std::exchange(state_, {}); }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  [[nodiscard]] bool active() const { return !options_.path.empty() || options_.store; }
  /// Time for the next state.
  [[nodiscard]] bool due() const;
  /// @throws IoError; the states before stay
  void save(std::string_view payload);

 private:
  void load();
  void check_writable() const;
  Checkpoint options_;
  Seal seal_;
  std::optional<std::string> state_;
  std::vector<std::string> warnings_;
  bool keep_previous_ = false;  // what `path` holds is damaged: it must not replace a good one
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// Processor and linear algebra, which bits depend on.
[[nodiscard]] std::string arithmetic_name();

}  // namespace halfulp::detail
