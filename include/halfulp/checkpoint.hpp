#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace halfulp {

/// Where a long computation keeps its state, so that it can be ended at any time - cancelled, by a
/// signal, by a power cut - and go on later. The result then has the bits of the uninterrupted run,
/// wherever and however often it was cut (on one kind of processor: the linear algebra's rounding
/// depends on it, and going on elsewhere is answered with a warning).
///
///     options.checkpoint = {.path = "run.checkpoint", .resume = true};
///
/// A state is written to `<path>.new`, synchronised with the disk, and takes the place of `path`,
/// which is kept as `<path>.previous`: one good state is there at every moment. It carries the
/// version of its format, the computation it belongs to, and a checksum. One computation at a time
/// may use a path.
struct Checkpoint {
  std::filesystem::path path = {};  ///< a file; empty: none
  double every = 60;                ///< seconds between two states, >= 0; 0: after every step
  /// Go on from the state that is there; from the beginning if there is none. A damaged one is
  /// passed over for the previous one, with a warning; that of another computation, or of another
  /// version, is an IoError that says what differs. Without resume, a path that holds a state is an
  /// IoError: nothing is overwritten that was not resumed.
  bool resume = false;
  /// Instead of a file: called with each state; and the state to go on from (empty: none).
  std::function<void(std::string_view state)> store = {};
  std::string state = {};
};

/// A file that says what it belongs to: `key`, lines `name: value`. Written atomically, with a
/// checksum.
/// @param  kind  at most 8 bytes
/// @throws       IoError
void write_record(const std::filesystem::path& path, std::string_view kind, std::string_view key,
                  std::string_view content);

/// The content of a record of that kind and key; nothing where there is none, or a damaged one, or
/// one of another key.
[[nodiscard]] std::optional<std::string> read_record(const std::filesystem::path& path,
                                                     std::string_view kind, std::string_view key);

/// 64 hex digits that tell contents apart; not cryptographic.
[[nodiscard]] std::string content_digest(std::string_view bytes);

}  // namespace halfulp
