#include "halfulp/error.hpp"

#include <algorithm>

#include "halfulp/text.hpp"

namespace halfulp {
namespace {

std::string prefix(std::string_view function) {
  if (function.starts_with("halfulp::")) function.remove_prefix(9);
  return "halfulp::" + escape_text(function) + ": ";
}

std::string rule_message(std::string_view function, std::string_view argument,
                         std::string_view value, std::string_view rule) {
  return prefix(function) + escape_text(argument) + " = " + escape_text(value) + ", must be " +
         escape_text(rule);
}

/// `out` stands for `out.size()`; `x.rows()` says itself what was counted.
std::string size_argument(std::string_view argument) {
  return std::string(argument) + (argument.ends_with(')') ? "" : ".size()");
}

/// Characters shown for an escaped text: bytes that do not continue a UTF-8 sequence.
std::size_t shown_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

/// The offending line, indented by two, and a caret below byte `column`; of a long line only the
/// neighbourhood of the column.
std::string excerpt(std::string_view line, int column) {
  constexpr std::size_t before = 60, after = 40;
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  if (line.empty() || line.find_first_not_of(" \t") == std::string_view::npos) return {};
  const auto wanted = static_cast<std::size_t>(std::max(column, 1) - 1);
  const std::size_t at = std::min(wanted, line.size());
  std::size_t begin = std::min(at, line.find_first_not_of(" \t"));
  std::size_t end = line.size();
  const auto inside_character = [&](std::size_t i) {
    return i > 0 && i < line.size() && (static_cast<unsigned char>(line[i]) >> 6) == 2;
  };
  if (at - begin > before + 3) begin = at - before;
  if (end - at > after + 3) end = at + after;
  while (begin < at && inside_character(begin)) ++begin;
  while (end > at && inside_character(end)) --end;
  const bool cut_front = line.find_first_not_of(" \t") < begin;
  std::string head(line.substr(begin, at - begin)), tail(line.substr(at, end - at));
  std::replace(head.begin(), head.end(), '\t', ' ');
  std::replace(tail.begin(), tail.end(), '\t', ' ');
  head = (cut_front ? "..." : "") + escape_text(head);
  tail = escape_text(tail) + (end < line.size() ? "..." : "");
  std::string out = "\n  " + head + tail;
  if (column > 0) out += "\n  " + std::string(shown_width(head), ' ') + '^';
  return out;
}

std::string input_message(std::string_view file, int line, int column, std::string_view message,
                          std::string_view source_line) {
  std::string out = escape_text(file);
  if (line > 0) out += ':' + std::to_string(line);
  if (line > 0 && column > 0) out += ':' + std::to_string(column);
  return out + ": " + escape_text(message) + excerpt(source_line, column);
}

}  // namespace

DomainError::DomainError(std::string_view function, std::string_view argument, double value,
                         std::string_view rule)
    : DomainError(function, argument, number_text(value), rule) {}

DomainError::DomainError(std::string_view function, std::string_view argument,
                         std::string_view value, std::string_view rule)
    : Error(rule_message(function, argument, value, rule)), argument_(argument) {}

ShapeError::ShapeError(std::string_view function, std::string_view argument, std::ptrdiff_t actual,
                       std::ptrdiff_t expected)
    : Error(rule_message(function, size_argument(argument), std::to_string(actual),
                         std::to_string(expected))),
      argument_(argument) {}

ShapeError::ShapeError(std::string_view function, std::string_view argument,
                       std::string_view actual, std::string_view expected)
    : Error(rule_message(function, argument, actual, expected)), argument_(argument) {}

DeviceError::DeviceError(std::string_view function, int code, std::string_view what)
    : Error(prefix(function) + (code == 0 ? "" : "CUDA error " + std::to_string(code) + ": ") +
            escape_text(what)),
      code_(code) {}

IoError::IoError(std::string_view file, std::string_view reason)
    : Error(escape_text(file) + ": " + escape_text(reason)), file_(file) {}

InputError::InputError(std::string_view file, int line, int column, std::string_view message,
                       std::string_view source_line)
    : Error(input_message(file, line, column, message, source_line)),
      file_(file),
      line_(line),
      column_(column),
      message_(escape_text(message)) {}

Cancelled::Cancelled(std::string_view function)
    : Error(prefix(function) + "cancelled by the caller") {}

}  // namespace halfulp
