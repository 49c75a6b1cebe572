#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

/// Exceptions of the library.
///
/// Grammar of a message: `halfulp::function: argument = value, must be rule`; values carry 17
/// digits. Arguments throw, data gives NaN, mathematics reports: nothing in the library aborts or
/// prints.
namespace halfulp {

/// Base of everything the library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A value outside the domain of the function: `halfulp::kde: bandwidth = -0.5, must be > 0`.
class DomainError : public Error {
 public:
  DomainError(std::string_view function, std::string_view argument, double value,
              std::string_view rule);
  DomainError(std::string_view function, std::string_view argument, std::string_view value,
              std::string_view rule);
  [[nodiscard]] const std::string& argument() const noexcept { return argument_; }

 private:
  std::string argument_;
};

/// An array of the wrong size: `halfulp::kde: out.size() = 99, must be 100`.
class ShapeError : public Error {
 public:
  ShapeError(std::string_view function, std::string_view argument, std::ptrdiff_t actual,
             std::ptrdiff_t expected);
  ShapeError(std::string_view function, std::string_view argument, std::string_view actual,
             std::string_view expected);
  [[nodiscard]] const std::string& argument() const noexcept { return argument_; }

 private:
  std::string argument_;
};

/// A CUDA call failed, or there is no device, or no code for one: then `code` is 0.
class DeviceError : public Error {
 public:
  DeviceError(std::string_view function, int code, std::string_view what);
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A file that cannot be read or written: names the file and the reason.
class IoError : public Error {
 public:
  IoError(std::string_view file, std::string_view reason);
  [[nodiscard]] const std::string& file() const noexcept { return file_; }

 private:
  std::string file_;
};

/// Text of the user's that does not say what it must: file, line and column (1-based; 0 = unknown),
/// the offending line with a caret below the column where the line is known.
///
///     poisson.toml:8:14: unknown function 'sine', did you mean 'sin'?
///       u = "sine(k*x)"
///            ^
class InputError : public Error {
 public:
  InputError(std::string_view file, int line, int column, std::string_view message,
             std::string_view source_line = {});
  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  [[nodiscard]] int line() const noexcept { return line_; }
  [[nodiscard]] int column() const noexcept { return column_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }

 private:
  std::string file_;
  int line_;
  int column_;
  std::string message_;
};

/// The caller asked for a stop through a Progress callback.
class Cancelled : public Error {
 public:
  explicit Cancelled(std::string_view function);
};

}  // namespace halfulp
