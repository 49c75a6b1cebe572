#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>

#include "halfulp/progress.hpp"
#include "halfulp/text.hpp"

namespace halfulp {

/// One line on the terminal that says how far a computation is; it is gone when this object is, or
/// after clear(). Silent if `quiet`, or if the descriptor is no terminal that can erase a line.
///
///     TerminalProgress progress(common.quiet);
///     options.progress = progress.callback();
class TerminalProgress {
 public:
  using Clock = std::chrono::steady_clock;

  explicit TerminalProgress(bool quiet, int descriptor = STDERR_FILENO)
      : descriptor_(descriptor), active_(!quiet && ::isatty(descriptor) == 1 && can_erase()) {}
  TerminalProgress(const TerminalProgress&) = delete;
  TerminalProgress& operator=(const TerminalProgress&) = delete;
  ~TerminalProgress() { clear(); }

  /// For the options of a solver; refers to this object. Empty where nothing would be shown.
  [[nodiscard]] Progress callback() {
    if (!active_) return {};
    return [this](double fraction, const char* phase) {
      show(fraction, phase);
      return true;
    };
  }

  /// Erases the line, e.g. before a message to the same terminal.
  void clear() {
    if (shown_) put("\r\x1B[K");
    shown_ = false;
  }

 private:
  static constexpr std::chrono::milliseconds interval{100};

  static bool can_erase() {
    const char* terminal = std::getenv("TERM");
    return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
  }

  /// At most ten times a second, and not before the work has taken that long: short runs stay
  /// silent.
  void show(double fraction, std::string_view phase) {
    const auto now = Clock::now();
    if (now - last_ < interval) return;
    last_ = now;
    const int percent = static_cast<int>(100 * std::clamp(fraction, 0.0, 1.0));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - start_).count();
    std::string line = std::string(percent < 10    ? 2
                                   : percent < 100 ? 1
                                                   : 0,
                                   ' ') +
                       std::to_string(percent) + " %  " + std::to_string(seconds) + " s  " +
                       escape_text(phase);
    cut(line, columns());
    put("\r" + line + "\x1B[K");
    shown_ = true;
  }

  /// A line that wraps could not be erased.
  static void cut(std::string& line, std::size_t columns) {
    std::size_t width = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const bool continues = (static_cast<unsigned char>(line[i]) >> 6) == 2;
      if (!continues && ++width == columns) return line.resize(i);
    }
  }

  [[nodiscard]] std::size_t columns() const {
    struct winsize size {};
    const bool known = ::ioctl(descriptor_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
  }

  /// What cannot be shown is not worth an error.
  void put(std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::write(descriptor_, text.data(), text.size());
      if (count <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  int descriptor_;
  bool active_;
  bool shown_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace halfulp
