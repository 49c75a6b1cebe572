#include "halfulp/csv.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/text.hpp"

namespace halfulp {
namespace {

constexpr std::string_view separators = "\t;,";  // in the order of preference

std::string separator_name(char separator) {
  return separator == '\t' ? "tab" : std::string("'") + separator + "'";
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

/// Lines and columns are told as int; beyond its range they stay at the end of it.
int clamped(std::size_t position) {
  return static_cast<int>(std::min<std::size_t>(position, std::numeric_limits<int>::max()));
}

struct Cell {
  std::string text;
  int column = 1;  // of its first byte, from 1
  bool quoted = false;
};

/// Splits a text into lines and lines into cells, and knows where it is for the messages.
class Reader {
 public:
  Reader(std::string_view text, const std::string& name, char separator)
      : rest_(text), name_(name), separator_(separator) {
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  [[noreturn]] void fail(int column, const std::string& message) const {
    throw InputError(name_, line_number_, column, message, line_);
  }

  [[nodiscard]] int line_number() const { return line_number_; }
  /// One past the last byte that is not a comment, from 1.
  [[nodiscard]] int end_column() const { return end_column_; }

  /// The cells of the next line that is not blank; false at the end of the text.
  bool next(std::vector<Cell>& cells) {
    while (!rest_.empty()) {
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      line_ = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (line_.ends_with('\r')) line_.remove_suffix(1);
      line_number_ = clamped(static_cast<std::size_t>(line_number_) + 1);
      const std::string_view content = without_comment();
      end_column_ = clamped(content.size() + 1);
      if (content.empty()) continue;
      if (separator_ == 0) separator_ = detect(content);
      split(content, cells);
      return true;
    }
    return false;
  }

 private:
  /// The line without its comment and the blanks before that; a tab is kept if it may separate.
  [[nodiscard]] std::string_view without_comment() const {
    bool quoted = false;
    std::size_t end = 0;
    for (; end < line_.size() && (quoted || line_[end] != '#'); ++end)
      if (line_[end] == '"') quoted = !quoted;
    const std::string_view content = line_.substr(0, end);
    if (std::all_of(content.begin(), content.end(), is_blank)) return {};
    while (end > 0 && line_[end - 1] == ' ') --end;
    return line_.substr(0, end);
  }

  static char detect(std::string_view content) {
    for (const char separator : separators) {
      bool quoted = false;
      for (const char c : content) {
        if (c == '"') quoted = !quoted;
        if (!quoted && c == separator) return separator;
      }
    }
    return ',';
  }

  [[nodiscard]] bool skipped(char c) const { return is_blank(c) && c != separator_; }

  void split(std::string_view content, std::vector<Cell>& cells) const {
    cells.clear();
    std::size_t at = 0;
    for (;;) {
      while (at < content.size() && skipped(content[at])) ++at;
      Cell cell;
      cell.column = clamped(at + 1);
      if (at < content.size() && content[at] == '"') {
        cell.quoted = true;
        at = unquote(content, at, cell.text);
        while (at < content.size() && skipped(content[at])) ++at;
        if (at < content.size() && content[at] != separator_)
          fail(clamped(at + 1), "found '" + std::string(1, content[at]) +
                                    "' after a quoted cell, expected " +
                                    separator_name(separator_) + " or the end of the line");
      } else {
        const std::size_t end = std::min(content.find(separator_, at), content.size());
        std::string_view text = content.substr(at, end - at);
        while (!text.empty() && skipped(text.back())) text.remove_suffix(1);
        if (const auto quote = text.find('"'); quote != std::string_view::npos)
          fail(clamped(at + quote + 1), "a quote inside a cell that does not begin with one");
        cell.text = text;
        at = end;
      }
      cells.push_back(std::move(cell));
      if (at == content.size()) return;
      ++at;  // the separator
    }
  }

  /// Reads the quoted cell that begins at `at`; returns where it ends.
  std::size_t unquote(std::string_view content, std::size_t at, std::string& text) const {
    for (std::size_t i = at + 1; i < content.size(); ++i) {
      if (content[i] != '"') {
        text += content[i];
      } else if (i + 1 < content.size() && content[i + 1] == '"') {
        text += '"';
        ++i;
      } else {
        return i + 1;
      }
    }
    fail(clamped(at + 1), "a quoted cell without its closing quote on the same line");
  }

  std::string_view rest_;
  std::string_view line_;
  const std::string& name_;
  char separator_;
  int line_number_ = 0;
  int end_column_ = 1;
};

/// Quoted for a message, shortened where it is absurdly long.
std::string shown(const std::string& text) {
  return text.size() <= 60 ? "'" + text + "'" : "'" + text.substr(0, 57) + "...'";
}

double cell_number(const Reader& reader, const Cell& cell) {
  if (cell.text.empty())
    reader.fail(cell.column, "empty cell, expected a number (nan for a missing value)");
  const auto value = parse_number(cell.text);
  if (!value) {
    std::string with_point = cell.text;
    std::replace(with_point.begin(), with_point.end(), ',', '.');
    const bool comma = with_point != cell.text && parse_number(with_point);
    reader.fail(cell.column, "found " + shown(cell.text) + ", expected a number" +
                                 (comma ? " (with a decimal point, not a comma)" : ""));
  }
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (std::isinf(*value) && std::any_of(cell.text.begin(), cell.text.end(), is_digit))
    reader.fail(cell.column,
                shown(cell.text) + " is beyond the range of a double (inf is written inf)");
  return *value;
}

std::vector<std::string> header_names(const Reader& reader, const std::vector<Cell>& cells) {
  const auto is_number = [](const Cell& c) { return !c.quoted && parse_number(c.text); };
  if (std::all_of(cells.begin(), cells.end(), is_number))
    reader.fail(cells[0].column, "found the number " + shown(cells[0].text) +
                                     ", expected a header line that names the columns");
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Cell& cell : cells) {
    if (cell.text.empty()) reader.fail(cell.column, "empty column name");
    if (std::any_of(cell.text.begin(), cell.text.end(), is_control))
      reader.fail(cell.column, "column name " + shown(cell.text) + " holds a control byte");
    if (!seen.insert(cell.text).second)
      reader.fail(cell.column, "column name " + shown(cell.text) + " twice");
    names.push_back(cell.text);
  }
  return names;
}

std::string quoted_name(const std::string& name, bool always) {
  // The byte order marks of UTF-8 and UTF-16 begin with EF, FE and FF: at the start of the file
  // such a name would be taken for one.
  const bool plain = !always && static_cast<unsigned char>(name.front()) < 0xEF &&
                     name.find_first_of("\t;,\"#") == std::string::npos &&
                     !is_blank(name.front()) && !is_blank(name.back());
  if (plain) return name;
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + '"';
}

void check_separator(std::string_view function, char separator, bool may_be_zero) {
  const bool known = separators.find(separator) != std::string_view::npos && separator != 0;
  detail::require(known || (may_be_zero && separator == 0), function, "separator",
                  std::string(1, separator), "',', ';' or a tab");
}

}  // namespace

const std::vector<double>& Table::column(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    std::string known;
    for (const auto& n : names) known += (known.empty() ? "" : ", ") + n;
    throw DomainError("Table::column", "name", name, "one of: " + known);
  }
  return columns.at(static_cast<std::size_t>(found - names.begin()));
}

Table parse_csv(std::string_view text, const std::string& name, const CsvReadOptions& options) {
  check_separator("parse_csv", options.separator, true);
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    throw InputError(name, 1, 1, "UTF-16 text, expected UTF-8");
  Reader reader(text, name, options.separator);
  std::vector<Cell> cells;
  if (!reader.next(cells))
    throw InputError(name, 0, 0,
                     options.header == CsvHeader::required
                         ? "no header line: the file has no line but blanks and comments"
                         : "no line but blanks and comments");
  Table table;
  const int first_line = reader.line_number();
  bool have_row = options.header == CsvHeader::absent;
  if (have_row)
    for (std::size_t i = 0; i < cells.size(); ++i)
      table.names.push_back(std::string(1, 'c').append(std::to_string(i)));
  else
    table.names = header_names(reader, cells);
  table.columns.resize(table.names.size());
  while (have_row || reader.next(cells)) {
    have_row = false;
    if (cells.size() != table.names.size()) {
      const bool more = cells.size() > table.names.size();
      reader.fail(more ? cells[table.names.size()].column : reader.end_column(),
                  "row of " + std::to_string(cells.size()) + " cells, expected " +
                      std::to_string(table.names.size()) + " as in line " +
                      std::to_string(first_line));
    }
    for (std::size_t i = 0; i < cells.size(); ++i)
      table.columns[i].push_back(cell_number(reader, cells[i]));
  }
  return table;
}

Table read_csv(const std::filesystem::path& path, const CsvReadOptions& options) {
  return parse_csv(read_file(path, options.size_limit), path.string(), options);
}

std::string csv_text(const Table& table, const CsvWriteOptions& options) {
  constexpr std::string_view function = "csv_text";
  check_separator(function, options.separator, false);
  detail::require_size(function, "table.columns", std::ssize(table.columns),
                       std::ssize(table.names));
  detail::require(!table.names.empty(), function, "table.names.size()", table.names.size(), ">= 1");
  std::set<std::string> seen;
  for (std::size_t i = 0; i < table.names.size(); ++i) {
    const std::string& name = table.names[i];
    const std::string argument = "table.names[" + std::to_string(i) + "]";
    detail::require(!name.empty(), function, argument, "''", "a name");
    detail::require(std::none_of(name.begin(), name.end(), is_control), function, argument, name,
                    "free of control bytes");
    detail::require(seen.insert(name).second, function, argument, name, "unlike the other names");
    detail::require_size(function, "table.columns[" + std::to_string(i) + "]",
                         std::ssize(table.columns[i]), table.rows());
  }
  // A header of nothing but numbers is told from data by its quotes.
  const bool numbers =
      std::all_of(table.names.begin(), table.names.end(),
                  [](const std::string& name) { return parse_number(name).has_value(); });
  std::string out;
  for (std::size_t i = 0; i < table.names.size(); ++i) {
    if (i > 0) out += options.separator;
    out += quoted_name(table.names[i], numbers);
  }
  out += '\n';
  for (std::size_t row = 0; row < static_cast<std::size_t>(table.rows()); ++row) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      if (i > 0) out += options.separator;
      const double value = table.columns[i][row];
      out += options.hex ? hex_text(value) : number_text(value);
    }
    out += '\n';
  }
  return out;
}

void write_csv(const std::filesystem::path& path, const Table& table,
               const CsvWriteOptions& options) {
  write_file_atomic(path, csv_text(table, options));
}

}  // namespace halfulp
