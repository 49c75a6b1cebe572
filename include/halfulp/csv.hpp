#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// Tables of numbers as text: CSV, TSV, semicolon-separated.
///
///     const auto table = halfulp::read_csv("points.csv");
///     const std::vector<double>& v = table.column("v");
///
/// What is read: UTF-8 (a byte order mark is skipped), lines ending in LF or CRLF, blank lines and
/// comments (`#` outside quotes to the end of the line) skipped. The first line left is the header;
/// its separators decide: tab if it has one outside quotes, else semicolon, else comma. Blanks
/// around a cell are dropped; "quoted cells" hold anything but a line feed, "" is one quote.
/// Numbers as in parse_number: decimal, C99 hex float, nan, inf; the decimal mark is the point. An
/// empty cell is an error (write nan), and so is a decimal number too large for a double (write
/// inf).
namespace halfulp {

/// Columns of equal length with distinct names.
struct Table {
  std::vector<std::string> names;
  std::vector<std::vector<double>> columns;

  [[nodiscard]] std::ptrdiff_t rows() const {
    return columns.empty() ? 0 : static_cast<std::ptrdiff_t>(columns[0].size());
  }
  /// @throws DomainError naming the columns that exist
  [[nodiscard]] const std::vector<double>& column(std::string_view name) const;
};

enum class CsvHeader {
  required,  ///< the first line names the columns; a line of bare numbers there is an error
  absent,    ///< the first line is data; the columns are named c0, c1, ...
};

struct CsvReadOptions {
  char separator = 0;  ///< ',', ';', a tab; 0: detected from the first line
  CsvHeader header = CsvHeader::required;
  std::size_t size_limit = std::size_t{1} << 30;  ///< largest file accepted, in bytes
};

/// @throws  InputError `file:line:column: what was found, what was expected`, with the line and a
///          caret; column counts bytes from 1. IoError if the file cannot be read or is too large
[[nodiscard]] Table read_csv(const std::filesystem::path& path, const CsvReadOptions& options = {});

/// Likewise from memory; `name` stands for the file in messages.
[[nodiscard]] Table parse_csv(std::string_view text, const std::string& name,
                              const CsvReadOptions& options = {});

struct CsvWriteOptions {
  char separator = ',';  ///< ',', ';' or a tab
  bool hex = false;      ///< C99 hex floats; else the shortest decimal that reads back the same
};

/// The table as text with LF line ends; parse_csv of it gives the same bits (any NaN becomes nan).
/// @throws  DomainError if there is no column, a name is empty, twice there or holds a control
/// byte;
///          ShapeError if the columns differ in length or are not as many as the names
[[nodiscard]] std::string csv_text(const Table& table, const CsvWriteOptions& options = {});

/// Writes csv_text atomically (see write_file_atomic).
/// @throws  as csv_text; IoError with nothing left behind
void write_csv(const std::filesystem::path& path, const Table& table,
               const CsvWriteOptions& options = {});

}  // namespace halfulp
