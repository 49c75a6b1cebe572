#include "halfulp/pde_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numbers>
#include <optional>
#include <set>
#include <sstream>

#include "detail/linear_operator.hpp"
#include "detail/pde_conditions.hpp"
#include "detail/pde_problem.hpp"
#include "detail/pde_system.hpp"
#include "halfulp/checkpoint.hpp"
#include "halfulp/csv.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/pde_output.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde {
namespace {
/// An assertion of toml++ failed. Version 3.3 asserts what some texts violate ("[:"), and where
/// assertions are off tells the compiler to assume it: so they stay on here, and throw.
struct TomlDefect {};
[[noreturn]] void throw_toml_defect() { throw TomlDefect(); }
}  // namespace
}  // namespace halfulp::gp_pde

// toml++ stays inside this file. Nested values are parsed and destroyed recursively: the depth is
// bounded here, that of dotted keys in check_text below.
#define TOML_HEADER_ONLY 1
#define TOML_MAX_NESTED_VALUES 32
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : halfulp::gp_pde::throw_toml_defect())
#pragma push_macro("NDEBUG")
#undef NDEBUG
// Its tables of blanks call letters of their ranges (U+00E4 is one) unreachable: such
// letters are no blanks.
#include <toml++/impl/forward_declarations.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE \
  return {}
#include <toml++/impl/unicode.h>
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE halfulp::gp_pde::throw_toml_defect()
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace halfulp::gp_pde {
namespace {

using detail::LinearOperator;
using Position = toml::source_position;
using Names = std::vector<std::string>;

constexpr std::size_t max_file_size = std::size_t{1} << 20;
constexpr int max_nesting = 32;
constexpr std::size_t max_parameters = 256;
constexpr double gib = 1073741824.0;

// ---- text -----------------------------------------------------------------------------------

/// 'text' with foreign bytes escaped and cut to a length that a message can carry.
std::string quote(std::string_view text) {
  constexpr std::size_t longest = 60;
  if (text.size() <= longest) return '\'' + escape_text(text) + '\'';
  return '\'' + escape_text(text.substr(0, longest)) + "...'";
}

std::string joined(const Names& names, std::string_view separator = ", ") {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : std::string(separator)) + name;
  return text;
}

bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Levenshtein distance, for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// ", did you mean 'x'?" for the nearest of `known`, or "" if none is near.
std::string suggestion(std::string_view name, const Names& known) {
  if (name.size() > 40) return "";
  const std::string* nearest = nullptr;
  std::size_t least = name.size() <= 3 ? 2 : 4;  // exclusive
  for (const auto& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < least && distance < std::max(name.size(), candidate.size())) {
      least = distance;
      nearest = &candidate;
    }
  }
  return nearest ? ", did you mean '" + *nearest + "'?" : "";
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_identifier(std::string_view name) {
  return !name.empty() && name.size() <= 64 && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

/// End of the number that starts at text[i] (decimal, exponent, or C99 hex).
std::size_t end_of_number(std::string_view text, std::size_t i) {
  const bool hex =
      text[i] == '0' && i + 1 < text.size() && (text[i + 1] == 'x' || text[i + 1] == 'X');
  if (hex) i += 2;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    const bool exponent = hex ? (c == 'p' || c == 'P') : (c == 'e' || c == 'E');
    if (exponent && i + 1 < text.size() && (text[i + 1] == '+' || text[i + 1] == '-')) {
      ++i;
      continue;
    }
    const bool digit = is_digit(c) || c == '.' || exponent ||
                       (hex && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
    if (!digit) break;
  }
  return i;
}

struct Identifier {
  std::string_view name;
  std::size_t offset;
  bool called;  ///< followed by '('
};

std::vector<Identifier> identifiers(std::string_view text) {
  std::vector<Identifier> found;
  for (std::size_t i = 0; i < text.size();) {
    if (is_letter(text[i])) {
      const std::size_t begin = i;
      while (i < text.size() && (is_letter(text[i]) || is_digit(text[i]))) ++i;
      std::size_t next = i;
      while (next < text.size() && is_blank(text[next])) ++next;
      found.push_back(
          {text.substr(begin, i - begin), begin, next < text.size() && text[next] == '('});
    } else if (is_digit(text[i]) ||
               (text[i] == '.' && i + 1 < text.size() && is_digit(text[i + 1]))) {
      i = end_of_number(text, i);
    } else {
      ++i;
    }
  }
  return found;
}

/// A formula's text for people: double-double constants, which text() writes as sums of two hex
/// floats, as one decimal number.
std::string readable(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i, 2) != "0x") {
      result += text[i++];
      continue;
    }
    const std::size_t end = end_of_number(text, i);
    const double high = parse_number(text.substr(i, end - i)).value_or(std::nan(""));
    i = end;
    const std::string_view rest = text.substr(i);
    if (rest.starts_with(" + 0x") || rest.starts_with(" - 0x")) i = end_of_number(text, i + 3);
    const std::string number = number_text(high);
    // The parentheses around the sum are not needed around a number without sign.
    if (result.ends_with('(') && i < text.size() && text[i] == ')' && i > end &&
        (result.size() < 2 || !is_letter(result[result.size() - 2]))) {
      result.pop_back();
      ++i;
    }
    result += number;
  }
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// ---- values ---------------------------------------------------------------------------------

bool is_finite(dd value) { return std::isfinite(value.hi) && std::isfinite(value.lo); }

/// n points of [lower, upper], ends included.
std::vector<double> uniform_points(double lower, double upper, std::ptrdiff_t n) {
  std::vector<double> points(static_cast<std::size_t>(n));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double s = static_cast<double>(i) / static_cast<double>(n - 1);
    points[static_cast<std::size_t>(i)] = lower * (1 - s) + upper * s;
  }
  points.back() = upper;
  return points;
}

/// Where samples without axes stand: the nodes of [grid] on one axis.
std::vector<double> grid_nodes(Nodes kind, double lower, double upper, std::ptrdiff_t n) {
  if (kind == Nodes::uniform) return uniform_points(lower, upper, n);
  std::vector<double> points(static_cast<std::size_t>(n));
  const double middle = lower / 2 + upper / 2, half = upper / 2 - lower / 2;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double index = static_cast<double>(n - 1 - i), count = static_cast<double>(n);
    double t;
    if (kind == Nodes::chebyshev) {
      t = std::cos(std::numbers::pi * index / (count - 1));
    } else {  // root of the Legendre polynomial P_n, by Newton from Tricomi's estimate
      t = std::cos(std::numbers::pi * (index + 0.75) / (count + 0.5));
      for (int step = 0; step < 8; ++step) {
        double p = 1, previous = 0;
        for (std::ptrdiff_t k = 1; k <= n; ++k) {
          const double j = static_cast<double>(k);
          const double next = ((2 * j - 1) * t * p - (j - 1) * previous) / j;
          previous = p;
          p = next;
        }
        t -= p * (t * t - 1) / (count * (t * p - previous));
      }
    }
    points[static_cast<std::size_t>(i)] = middle + half * t;
  }
  if (kind == Nodes::chebyshev) {
    points.front() = lower;
    points.back() = upper;
  }
  return points;
}

std::string memory_text(double bytes) {
  const double value = bytes / gib;
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(3);
  if (value >= 1024)
    out << value / 1024 << " TiB";
  else
    out << value << " GiB";
  return out.str();
}

std::string_view type_text(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "a boolean";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
    default:
      return "nothing";
  }
}

std::string_view kind_text(SideKind kind) {
  switch (kind) {
    case SideKind::dirichlet:
      return "dirichlet";
    case SideKind::neumann:
      return "neumann";
    case SideKind::robin:
      return "robin";
    case SideKind::periodic:
      return "periodic";
    case SideKind::derivative:
      return "derivative";
    case SideKind::linear:
      return "linear";
    case SideKind::none:
      return "none";
  }
  return "none";
}

std::string_view kernel_text(KernelType kernel) {
  switch (kernel) {
    case KernelType::gaussian:
      return "gaussian";
    case KernelType::student_t:
      return "student-t";
    case KernelType::matern:
      return "matern";
    case KernelType::periodic:
      return "periodic";
  }
  return "gaussian";
}

std::string_view nodes_text(Nodes nodes) {
  switch (nodes) {
    case Nodes::gauss:
      return "gauss";
    case Nodes::chebyshev:
      return "chebyshev";
    case Nodes::uniform:
      return "uniform";
  }
  return "gauss";
}

std::string_view method_text(Method method) {
  switch (method) {
    case Method::automatic:
      return "method auto";
    case Method::galerkin:
      return "galerkin";
    case Method::collocation:
      return "collocation";
  }
  return "method auto";
}

std::string side_name(const Axis& axis, std::size_t end) {
  return axis.name + (end == 0 ? "-" : "+");
}

/// What a condition takes of a known u, as a formula in all axes.
Expression side_value(const Expression& u, const Axis& axis, std::size_t end, const Side& side) {
  Expression value, derivative = u;
  const std::vector<double> coefficients =
      detail::condition_coefficients(side, static_cast<int>(end));
  for (std::size_t j = 0; j < coefficients.size(); ++j) {
    if (j > 0) derivative = derivative.derivative(axis.name);
    if (coefficients[j] != 0) value = value + Expression(coefficients[j]) * derivative;
  }
  return value;
}

/// The condition of a side with this number, in the order of the file.
const Side& condition_of(const Side& side, std::size_t index) {
  return index == 0 ? side : side.also[index - 1];
}

// ---- the reader -----------------------------------------------------------------------------

/// A string of the file and where each of its bytes stands.
struct SourceText {
  std::string text;
  TextOrigin origin;
  bool verbatim = true;  ///< false: written with escapes, so that only its start is known
};

struct Entry {
  std::string name;
  Position position;
  const toml::node* node;
};

class Reader {
 public:
  Reader(std::string_view text, std::string_view file_name, const std::filesystem::path& base)
      : text_(text), base_(base) {
    result_.file = std::string(file_name);
    for (std::size_t begin = 0;;) {
      const std::size_t end = text_.find('\n', begin);
      lines_.push_back(text_.substr(begin, end - begin));
      if (lines_.back().ends_with('\r')) lines_.back().remove_suffix(1);
      if (end == std::string_view::npos) break;
      begin = end + 1;
    }
  }

  PdeFile read() {
    result_.problem.name = std::filesystem::path(result_.file).stem().string();
    if (text_.size() > max_file_size)
      throw InputError(result_.file, 0, 0,
                       "the file has " + std::to_string(text_.size()) +
                           " bytes, a PDE file at most " + std::to_string(max_file_size));
    check_text();
    result_.digest = content_digest(text_);
    parse_toml();
    read_sections();
    read_field_names();
    read_parameters();
    read_domain();
    read_forcing_names();
    if (system()) return read_system();
    read_exact();
    read_solver();
    read_grid();
    read_equation();
    read_sides();
    read_initial();
    read_observations();
    read_kernel();
    read_output();
    check_well_posed();
    check_noisy();
    check_finite();
    check_exact();
    check_gp_hm();
    check_written();
    return std::move(result_);
  }

 private:
  // -- positions and errors --

  std::string_view line_text(int line) const {
    return line >= 1 && static_cast<std::size_t>(line) <= lines_.size()
               ? lines_[static_cast<std::size_t>(line) - 1]
               : std::string_view();
  }

  /// toml++ counts code points; messages and formulas count bytes.
  int byte_column(Position position) const {
    const std::string_view line = line_text(static_cast<int>(position.line));
    std::size_t byte = 0;
    for (unsigned k = 1; k < position.column && byte < line.size(); ++k) {
      ++byte;
      while (byte < line.size() && (static_cast<unsigned char>(line[byte]) & 0xC0u) == 0x80u)
        ++byte;
    }
    return static_cast<int>(byte) + 1;
  }

  [[noreturn]] void fail(Position position, const std::string& message) const {
    const int line = static_cast<int>(position.line);
    throw InputError(result_.file, line, line == 0 ? 0 : byte_column(position), message,
                     line_text(line));
  }

  [[noreturn]] void fail(const TextOrigin& origin, const std::string& message) const {
    throw InputError(result_.file, origin.line, origin.column, message, origin.source_line);
  }

  [[noreturn]] void fail_type(const toml::node& node, std::string_view what,
                              std::string_view expected) const {
    fail(node.source().begin, std::string(what) + " must be " + std::string(expected) + ", found " +
                                  std::string(type_text(node)));
  }

  void warn(std::string message) { result_.warnings.push_back(std::move(message)); }

  /// The bytes between two positions of one line, "" if they are not.
  std::string_view slice(const toml::source_region& region) const {
    if (region.begin.line != region.end.line || region.begin.line == 0) return {};
    const std::string_view line = line_text(static_cast<int>(region.begin.line));
    const auto begin = static_cast<std::size_t>(byte_column(region.begin) - 1);
    const auto end = static_cast<std::size_t>(byte_column(region.end) - 1);
    return begin < end && end <= line.size() ? line.substr(begin, end - begin) : std::string_view();
  }

  void parse_toml() {
    try {
      root_ = toml::parse(text_);
    } catch (const toml::parse_error& error) {
      fail(error.source().begin, "not valid TOML: " + std::string(error.description()));
    } catch (const TomlDefect&) {
      // It says not where. toml++ reads from left to right: the place is the last byte of the
      // shortest beginning of the text on which it fails as well.
      const auto fails = [&](std::size_t size) {
        try {
          (void)toml::parse(text_.substr(0, size));
        } catch (const toml::parse_error&) {
        } catch (const TomlDefect&) {
          return true;
        }
        return false;
      };
      std::size_t good = 0, bad = text_.size();
      while (bad - good > 1) {
        const std::size_t middle = good + (bad - good) / 2;
        (fails(middle) ? bad : good) = middle;
      }
      const std::string_view before = text_.substr(0, good);
      const auto line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1;
      const std::size_t newline = before.rfind('\n');
      const std::size_t column = newline == std::string_view::npos ? good : good - newline - 1;
      throw InputError(result_.file, line, static_cast<int>(column) + 1,
                       "not valid TOML: " + quote(text_.substr(good, 1)) + " cannot stand here",
                       line_text(line));
    }
  }

  /// What toml++ must not see. It recurses through dotted keys and inline values, when it parses
  /// and when it destroys. Strings and comments are skipped as TOML has them; text that is not TOML
  /// is left to the parser, which stops at the same place.
  void check_text() const {
    int depth = 0, dots = 0;
    std::size_t i = 0, line_begin = 0;
    int line = 1;
    const auto refuse = [&](const std::string& what) {
      throw InputError(result_.file, line, static_cast<int>(i - line_begin) + 1, what,
                       line_text(line));
    };
    const std::string deep = " are nested more than " + std::to_string(max_nesting) + " deep";
    const auto new_line = [&](std::size_t begin) {
      ++line;
      line_begin = begin;
    };
    while (i < text_.size()) {
      const char c = text_[i];
      if (c == '#') {
        while (i < text_.size() && text_[i] != '\n') ++i;
        continue;
      }
      if (c == '"' || c == '\'') {
        const std::string_view triple = c == '"' ? "\"\"\"" : "'''";
        const bool many = text_.substr(i, 3) == triple;
        i += many ? 3 : 1;
        while (i < text_.size()) {
          if (c == '"' && text_[i] == '\\' && i + 1 < text_.size()) {
            if (text_[i + 1] == '\n') new_line(i + 2);
            i += 2;
            continue;
          }
          if (text_[i] == '\n') {
            if (!many) break;
            new_line(i + 1);
          }
          if (many ? text_.substr(i, 3) == triple : text_[i] == c) break;
          ++i;
        }
        if (i < text_.size() && text_[i] != '\n') i += many ? 3 : 1;
        while (many && i < text_.size() && text_[i] == c) ++i;  // """a"""" ends with a quote
        continue;
      }
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') --depth;
      if (depth > max_nesting) refuse("brackets" + deep);
      if (c == '.' && ++dots > max_nesting) refuse("keys" + deep);
      if (c == '=' || c == ',' || c == '\n' || c == '[' || c == '{') dots = 0;
      if (c == '\n') new_line(i + 1);
      ++i;
    }
  }

  // -- reading values --

  /// Entries in the order of the file (toml++ sorts them by name).
  static std::vector<Entry> entries(const toml::table& table) {
    std::vector<Entry> list;
    for (auto&& [key, node] : table)
      list.push_back({std::string(key.str()), key.source().begin, &node});
    std::stable_sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) {
      return a.position.line != b.position.line ? a.position.line < b.position.line
                                                : a.position.column < b.position.column;
    });
    return list;
  }

  void check_keys(const toml::table& table, std::string_view where, const Names& known) const {
    for (const Entry& entry : entries(table))
      if (!contains(known, entry.name))
        fail(entry.position, "unknown key " + quote(entry.name) + " in " + std::string(where) +
                                 suggestion(entry.name, known) + " (known: " + joined(known) + ")");
  }

  std::string_view string_of(const toml::node& node, std::string_view what,
                             std::string_view expected) const {
    const auto* value = node.as_string();
    if (!value) fail_type(node, what, expected);
    return value->get();
  }

  /// One of a list of words.
  std::size_t word_of(const toml::node& node, std::string_view what, const Names& words) const {
    const std::string_view word = string_of(node, what, "one of " + joined(words));
    const auto found = std::find(words.begin(), words.end(), word);
    if (found == words.end())
      fail(node.source().begin, std::string(what) + " = " + quote(word) + ", must be one of " +
                                    joined(words) + suggestion(word, words));
    return static_cast<std::size_t>(found - words.begin());
  }

  /// A string with the place of its first byte.
  SourceText source_text(const toml::node& node) const {
    SourceText source;
    source.text = node.as_string()->get();
    const Position begin = node.source().begin;
    source.origin = {result_.file, static_cast<int>(begin.line), byte_column(begin),
                     std::string(line_text(static_cast<int>(begin.line)))};
    const std::string_view line = line_text(source.origin.line);
    const auto at = static_cast<std::size_t>(source.origin.column - 1);
    const std::string_view raw = at < line.size() ? line.substr(at) : std::string_view();
    const bool many = raw.starts_with("\"\"\"") || raw.starts_with("'''");
    const std::string_view first = std::string_view(source.text).substr(0, source.text.find('\n'));
    if (many && raw.size() == 3) {  // the text starts on the next line
      ++source.origin.line;
      source.origin.column = 1;
      source.origin.source_line = std::string(line_text(source.origin.line));
      source.verbatim = line_text(source.origin.line).starts_with(first) && raw.front() == '\'';
    } else {
      source.verbatim =
          raw.substr(std::min(raw.size(), std::size_t{many ? 3u : 1u})).starts_with(first) &&
          (raw.front() == '\'' || source.text.find('\n') == std::string::npos);
      if (source.verbatim) source.origin.column += many ? 3 : 1;
    }
    return source;
  }

  /// Where byte `offset` of a string stands.
  TextOrigin origin_at(const SourceText& source, std::size_t offset) const {
    TextOrigin origin = source.origin;
    if (!source.verbatim) return origin;
    const std::string_view before = std::string_view(source.text).substr(0, offset);
    const std::size_t newline = before.rfind('\n');
    if (newline == std::string_view::npos) {
      origin.column += static_cast<int>(offset);
      return origin;
    }
    origin.line += static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    origin.column = static_cast<int>(offset - newline);
    origin.source_line = std::string(line_text(origin.line));
    return origin;
  }

  Expression parse(const SourceText& source, std::size_t begin, std::size_t size,
                   const Names& symbols) const {
    const TextOrigin origin = origin_at(source, begin);
    try {
      return parse_expression(std::string_view(source.text).substr(begin, size), symbols,
                              parameters_, origin);
    } catch (const InputError& error) {
      if (!source.verbatim) fail(origin, error.message());
      throw InputError(result_.file, error.line(), error.column(), error.message(),
                       line_text(error.line()));
    }
  }

  /// A number or a formula in `symbols` and the parameters. Numbers are read as they are written,
  /// so that 0.1 and "0.1" are the same double-double.
  Expression expression_of(const toml::node& node, std::string_view what,
                           const Names& symbols) const {
    if (node.is_string()) {
      const SourceText source = source_text(node);
      return parse(source, 0, source.text.size(), symbols);
    }
    if (!node.is_number()) fail_type(node, what, "a number or a formula in quotes");
    std::string raw(slice(node.source()));
    std::erase(raw, '_');
    const std::string_view digits = "0123456789.eE+-";
    if (!raw.empty() && raw.find_first_not_of(digits) == std::string::npos) {
      try {
        return parse_expression(raw, {});
      } catch (const InputError&) {  // TOML and our grammar differ: take TOML's value
      }
    }
    const double value = node.value<double>().value_or(std::nan(""));
    if (!std::isfinite(value))
      fail(node.source().begin,
           std::string(what) + " = " + number_text(value) + ", must be finite");
    return Expression(value);
  }

  dd constant_of(const toml::node& node, std::string_view what) const {
    const dd value = expression_of(node, what, {}).constant();
    if (!is_finite(value))
      fail(node.source().begin,
           std::string(what) + " = " + number_text(value.hi) + ", must be finite");
    return value;
  }

  std::ptrdiff_t integer_of(const toml::node& node, std::string_view what, std::ptrdiff_t least,
                            std::ptrdiff_t most) const {
    const double value = constant_of(node, what).hi;
    if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
        value != std::floor(value))
      fail(node.source().begin, std::string(what) + " = " + number_text(value) +
                                    ", must be an integer from " + std::to_string(least) + " to " +
                                    std::to_string(most));
    return static_cast<std::ptrdiff_t>(value);
  }

  /// A number for all axes or an array with one for each.
  std::vector<std::ptrdiff_t> sizes_of(const toml::node& node, std::string_view what,
                                       std::ptrdiff_t least) const {
    constexpr std::ptrdiff_t most = 1000000000;
    const std::size_t axes = result_.problem.axes.size();
    if (const auto* array = node.as_array()) {
      if (array->size() != axes)
        fail(node.source().begin, std::string(what) + " has " + std::to_string(array->size()) +
                                      " entries, must have one for each of the " +
                                      std::to_string(axes) + " dimensions");
      std::vector<std::ptrdiff_t> sizes;
      for (const auto& element : *array) sizes.push_back(integer_of(element, what, least, most));
      return sizes;
    }
    return std::vector<std::ptrdiff_t>(axes, integer_of(node, what, least, most));
  }

  void require_memory(Position position, double bytes, const std::string& what) const {
    const auto limit = static_cast<double>(result_.options.memory_limit);
    if (bytes > limit)
      fail(position, what + " would need " + memory_text(bytes) + " of memory, the limit is " +
                         memory_text(limit) + " ([solver] memory)");
  }

  // -- sections --

  const toml::table* section(const std::string& name) const {
    const auto* node = root_.get(name);
    return node ? node->as_table() : nullptr;
  }

  Position section_position(const std::string& name) const {
    for (const Entry& entry : entries(root_))
      if (entry.name == name) return entry.position;
    return Position{};
  }

  void read_sections() const {
    static const Names known{"domain",  "params", "equation", "exact",  "forcing", "bc",
                             "initial", "kernel", "grid",     "solver", "output",  "observations"};
    static const std::map<std::string, std::string> not_yet{
        {"coefficients",
         "coefficients from arrays are not solved yet; formulas go into [equation] or [params]"},
    };
    for (const Entry& entry : entries(root_)) {
      if (const auto found = not_yet.find(entry.name); found != not_yet.end())
        fail(entry.position, found->second);
      if (!contains(known, entry.name))
        fail(entry.position, "unknown table " + quote(entry.name) + suggestion(entry.name, known) +
                                 " (known: " + joined(known) + ")");
      if (entry.name == "equation" && entry.node->is_array_of_tables())
        fail(entry.position, "[[equation]] must be [equation], with one key a field of a system");
      if (!entry.node->is_table())
        fail(entry.position,
             "[" + entry.name + "] must be a table, found " + std::string(type_text(*entry.node)));
    }
    for (const char* name : {"domain", "equation"})
      if (!root_.contains(name))
        throw InputError(result_.file, static_cast<int>(lines_.size()),
                         static_cast<int>(lines_.back().size()) + 1,
                         std::string("the table [") + name + "] is missing", lines_.back());
  }

  /// Names of axes, parameters and forcings share one space with those of formulas.
  void claim_name(const Entry& entry, const std::string& what) {
    const std::string& name = entry.name;
    if (!is_identifier(name))
      fail(entry.position,
           what + " " + quote(name) +
               " must be a name: a letter, then letters, digits and _ (at most 64)");
    if (contains(reserved_names(), name) || name == "and" || name == "or")
      fail(entry.position,
           what + " '" + name + "' has the name of a built-in function or constant");
    for (const std::string& field : field_names_)
      if (name == field || name.starts_with(field + "_"))
        fail(entry.position, what + " '" + name + "' has a name kept for the solution");
    if (what != "parameter" && (name == "residual" || name == "error" || name == "std"))
      fail(entry.position, what + " '" + name + "' has a name kept for an output field");
    const auto [first, fresh] = names_.emplace(name, what);
    if (!fresh) fail(entry.position, what + " '" + name + "' has the name of a " + first->second);
  }

  void read_parameters() {
    const auto* table = section("params");
    if (!table) return;
    const auto list = entries(*table);
    if (list.size() > max_parameters)
      fail(section_position("params"), "[params] has " + std::to_string(list.size()) +
                                           " entries, at most " + std::to_string(max_parameters));
    Names defined;
    for (const Entry& entry : list) {
      claim_name(entry, "parameter");
      defined.push_back(entry.name);
    }
    // A parameter may use any other: each is resolved when first needed; meeting one that is being
    // resolved closes a cycle.
    Names open;
    const std::function<void(const Entry&)> resolve = [&](const Entry& entry) {
      if (parameters_.contains(entry.name)) return;
      if (const auto begin = std::find(open.begin(), open.end(), entry.name); begin != open.end()) {
        Names cycle(begin, open.end());
        cycle.push_back(entry.name);
        fail(entry.position, "parameters define each other in a circle: " + joined(cycle, " -> "));
      }
      open.push_back(entry.name);
      if (const auto* text = entry.node->as_string())
        for (const Identifier& used : identifiers(text->get()))
          for (const Entry& other : list)
            if (other.name == used.name) resolve(other);
      open.pop_back();
      const std::string what = "parameter " + entry.name;
      const dd value = constant_of(*entry.node, what);
      // A plain number stays as it is written; what is computed is rounded once, to double-double.
      parameters_.emplace(entry.name, entry.node->is_number() ? expression_of(*entry.node, what, {})
                                                              : Expression(value));
    };
    for (const Entry& entry : list) resolve(entry);
    for (const Entry& entry : list)
      result_.parameters.emplace_back(entry.name, parameters_.at(entry.name).constant());
  }

  void read_domain() {
    const auto list = entries(*section("domain"));
    if (list.empty()) fail(section_position("domain"), "[domain] has no dimension");
    auto& axes = result_.problem.axes;
    for (const Entry& entry : list) {
      if (axes.size() == 3)
        fail(entry.position, "dimension " + quote(entry.name) +
                                 " is the fourth: more than three dimensions are not solved yet");
      claim_name(entry, "dimension");
      const auto* bounds = entry.node->as_array();
      if (!bounds) fail_type(*entry.node, "dimension " + entry.name, "[lower, upper]");
      if (bounds->size() != 2)
        fail(entry.node->source().begin, "dimension " + entry.name + " has " +
                                             std::to_string(bounds->size()) +
                                             " bounds, must be [lower, upper]");
      Axis axis{entry.name, constant_of(*bounds->get(0), "lower end of " + entry.name),
                constant_of(*bounds->get(1), "upper end of " + entry.name)};
      const double width = (axis.upper - axis.lower).hi;
      const std::string range =
          "[" + number_text(axis.lower.hi) + ", " + number_text(axis.upper.hi) + "]";
      if (!(width > 0))
        fail(entry.node->source().begin,
             "dimension " + entry.name + " = " + range + ", must have lower < upper");
      // 1e-10 leaves a double six digits to tell points of the interval apart.
      if (!std::isfinite(width) || width < 1e-300 || width > 1e300 ||
          width < 1e-10 * std::max(std::abs(axis.lower.hi), std::abs(axis.upper.hi)))
        fail(entry.node->source().begin, "dimension " + entry.name + " = " + range +
                                             " is too narrow or too wide for double precision");
      axes.push_back(axis);
      axis_names_.push_back(axis.name);
    }
    for (std::size_t i = 0; i < axes.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (axes[j].name + axes[i].name == axes[i].name + axes[j].name)
          fail(list[i].position, "dimensions '" + axes[j].name + "' and '" + axes[i].name +
                                     "' make the names of derivatives ambiguous");
    result_.problem.sides.resize(axes.size());
  }

  void read_forcing_names() {
    const auto* table = section("forcing");
    if (!table) return;
    forcings_ = entries(*table);
    if (forcings_.size() > max_parameters)
      fail(section_position("forcing"),
           "[forcing] has more than " + std::to_string(max_parameters) + " entries");
    for (const Entry& entry : forcings_) {
      claim_name(entry, "forcing");
      forcing_names_.push_back(entry.name);
    }
  }

  void read_exact() {
    const auto* table = section("exact");
    if (!table) return;
    for (const Entry& entry : entries(*table)) {
      if (entry.name != "u")
        fail(entry.position, "unknown key " + quote(entry.name) + " in [exact]: the solution is u");
      result_.problem.exact = expression_of(*entry.node, "exact u", axis_names_);
      exact_position_ = entry.node->source().begin;
    }
    if (!result_.problem.exact) fail(section_position("exact"), "[exact] has no u");
  }

  void read_solver() {
    const auto* table = section("solver");
    if (!table) return;
    const auto* method = table->get("method");
    if (method && method->as_string() && method->as_string()->get() == "gp-hm") {
      read_gp_hm(*table);
      return;
    }
    for (const Entry& entry : entries(*table))
      if (contains(gp_hm_keys(), entry.name))
        fail(entry.position, "key " + quote(entry.name) + " is one of method = \"gp-hm\"");
    check_keys(*table, "[solver]",
               {"method", "setup_precision", "precision", "tol", "threads", "max_modes", "memory",
                "guess", "newton", "slabs"});
    Options& options = result_.options;
    if (const auto* node = table->get("guess")) {
      if (system())
        read_system_guess(*node);
      else
        options.guess = expression_of(*node, "guess", axis_names_);
    }
    if (const auto* node = table->get("slabs")) {
      const auto* word = node->as_string();
      options.slabs = word && word->get() == "auto" ? 0 : integer_of(*node, "slabs", 1, 1000000);
    }
    if (const auto* node = table->get("newton"))
      options.max_newton = static_cast<int>(integer_of(*node, "newton", 1, 1000));
    if (const auto* node = table->get("method")) {
      constexpr Method methods[] = {Method::automatic, Method::galerkin, Method::collocation};
      options.method =
          methods[word_of(*node, "method", {"auto", "galerkin", "collocation", "gp-hm"})];
      const bool line = result_.problem.axes.size() == 1;
      if (options.method == (line ? Method::galerkin : Method::collocation))
        fail(node->source().begin,
             line ? "method 'galerkin' is not for one dimension; use \"auto\" or "
                    "\"collocation\""
                  : "method 'collocation' is solved in one dimension only; in more use \"auto\" or "
                    "\"galerkin\"");
    }
    if (const auto* node = table->get("setup_precision")) {
      const auto* text = node->as_string();
      const std::string_view word = text ? std::string_view(text->get()) : std::string_view();
      if (word == "double" || word.starts_with("mpfr"))
        fail(node->source().begin,
             "setup_precision " + quote(word) + " is not solved yet; use \"dd\"");
      (void)word_of(*node, "setup_precision", {"dd"});
      options.setup_precision = Precision::dd;
    }
    if (const auto* node = table->get("precision")) {
      constexpr Precision precisions[] = {Precision::dd, Precision::double_};
      options.precision = precisions[word_of(*node, "precision", {"dd", "double"})];
    }
    read_limits(*table);
    if (const auto* node = table->get("max_modes"))
      options.max_modes = integer_of(*node, "max_modes", 8, 100000);
  }

  /// Keys that all methods have.
  void read_limits(const toml::table& table) {
    Options& options = result_.options;
    if (const auto* node = table.get("tol")) {
      options.tolerance = constant_of(*node, "tol").hi;
      if (!(options.tolerance > 0 && options.tolerance < 1))
        fail(node->source().begin,
             "tol = " + number_text(options.tolerance) + ", must be > 0 and < 1");
    }
    if (const auto* node = table.get("threads"))
      options.threads = static_cast<int>(integer_of(*node, "threads", 0, 1024));
    if (const auto* node = table.get("memory")) {
      const double size = constant_of(*node, "memory").hi;
      if (!(size > 0 && size <= 1048576))
        fail(node->source().begin,
             "memory = " + number_text(size) + " GiB, must be > 0 and <= 1048576");
      options.memory_limit = static_cast<std::size_t>(size * gib);
    }
  }

  static const Names& gp_hm_keys() {
    static const Names keys{"components",    "frequency_range", "optimiser",           "iterations",
                            "learning_rate", "boundary_weight", "final_learning_rate", "jitter"};
    return keys;
  }

  void read_gp_hm(const toml::table& table) {
    Names known{"method", "tol", "threads", "memory"};
    known.insert(known.end(), gp_hm_keys().begin(), gp_hm_keys().end());
    check_keys(table, "[solver] with method = \"gp-hm\"", known);
    read_limits(table);
    method_position_ = table.get("method")->source().begin;
    HmOptions& options = result_.gp_hm.emplace();
    if (result_.options.tolerance > 0) options.tolerance = result_.options.tolerance;
    options.threads = result_.options.threads;
    if (const auto* node = table.get("components"))
      options.components = static_cast<int>(integer_of(*node, "components", 1, 10000));
    if (const auto* node = table.get("iterations"))
      options.iterations = integer_of(*node, "iterations", 0, 1000000000);
    if (const auto* node = table.get("optimiser"))
      options.optimiser = word_of(*node, "optimiser", {"adam", "lbfgs"}) == 0 ? HmOptimiser::adam
                                                                              : HmOptimiser::lbfgs;
    const auto number = [&](const char* name, double& value, bool zero) {
      const auto* node = table.get(name);
      if (!node) return;
      value = constant_of(*node, name).hi;
      if (!(zero ? value >= 0 : value > 0))
        fail(node->source().begin, std::string(name) + " = " + number_text(value) + ", must be " +
                                       (zero ? ">= 0" : "> 0"));
    };
    number("frequency_range", options.frequency_range, true);
    number("learning_rate", options.learning_rate, false);
    number("final_learning_rate", options.final_learning_rate, true);
    number("boundary_weight", options.boundary_weight, false);
    number("jitter", options.jitter, true);
  }

  /// The method's own checks, with its place; the points that an array of samples has.
  void check_gp_hm() {
    if (!result_.gp_hm) return;
    HmOptions& options = *result_.gp_hm;
    options.points = result_.options.nodes_per_axis;
    HmOptions coarse = options;  // a few points are enough to be refused
    if (const auto* samples = std::get_if<GridSamples>(&result_.problem.forcing)) {
      if (options.points.empty())
        for (const auto& axis : samples->axes) options.points.push_back(std::ssize(axis));
      coarse.points = options.points;
    } else {
      coarse.points.assign(axis_names_.size(), 9);
    }
    try {
      (void)HmObjective(result_.problem, coarse);
    } catch (const DomainError& error) {
      fail(method_position_, error.what());
    } catch (const ShapeError& error) {
      fail(method_position_, error.what());
    }
  }

  void read_grid() {
    if (result_.gp_hm) result_.options.nodes = Nodes::uniform;
    const auto* table = section("grid");
    if (!table) return;
    check_keys(*table, "[grid]", {"n", "nodes"});
    Options& options = result_.options;
    if (const auto* node = table->get("n")) {
      options.nodes_per_axis = sizes_of(*node, "n", 4);
      // On the tensor grid the forcing, its residual and the formula's registers, in double-double;
      // on each axis the double-double basis with its first two derivatives.
      double points = 1, basis = 0;
      for (const std::ptrdiff_t n : options.nodes_per_axis) {
        if (result_.gp_hm && n > 8192)
          fail(node->source().begin,
               "n = " + std::to_string(n) + ", must be at most 8192 for method 'gp-hm'");
        points *= static_cast<double>(n);
        basis += static_cast<double>(n) * static_cast<double>(std::min(n, options.max_modes)) * 48;
      }
      if (result_.gp_hm) {  // factor, two derivatives and a product an axis; about 20 fields
        basis = 0;
        for (const std::ptrdiff_t n : options.nodes_per_axis)
          basis += 32 * static_cast<double>(n) * static_cast<double>(n);
        points *= 160.0 / 96;
      }
      require_memory(node->source().begin, 96 * points + basis, "[grid] n");
    }
    if (const auto* node = table->get("nodes")) {
      constexpr Nodes kinds[] = {Nodes::gauss, Nodes::chebyshev, Nodes::uniform};
      options.nodes = kinds[word_of(*node, "nodes", {"gauss", "chebyshev", "uniform"})];
      nodes_given_ = true;
      if (result_.gp_hm && options.nodes != Nodes::uniform)
        fail(node->source().begin, "method 'gp-hm' has \"uniform\" nodes only");
    }
  }

  // -- equation and forcing --

  enum class ForcingKind { formula, automatic, array };
  struct Forcing {
    Entry entry;
    ForcingKind kind = ForcingKind::formula;
    Expression formula;
  };

  /// What a forcing is: a table { expr = ..., noise = ... } is its expr.
  static const toml::node& forcing_value(const toml::node& node) {
    const auto* table = node.as_table();
    const auto* formula = table ? table->get("expr") : nullptr;
    return formula ? *formula : node;
  }

  ForcingKind forcing_kind(const toml::node& given) const {
    const toml::node& node = forcing_value(given);
    if (node.is_table()) return ForcingKind::array;
    if (const auto* text = node.as_string()) {
      if (text->get() == "auto") return ForcingKind::automatic;
      if (text->get().ends_with(".npy")) return ForcingKind::array;
    }
    return ForcingKind::formula;
  }

  template <class Fail>
  void check_order(const std::vector<int>& orders, const std::string& name,
                   const Fail& refuse) const {
    int total = 0;
    for (const int order : orders) total += order;
    const int most = result_.gp_hm || system() ? 2 : detail::highest_order;
    if (total > most)
      refuse("the derivative " + name + " has order " + std::to_string(total) + "; orders above " +
             std::to_string(most) + " are not solved" +
             (result_.gp_hm ? " by 'gp-hm'"
              : system()    ? " in systems"
                            : " yet"));
  }

  /// Every name of the equation must mean something; what is not solved yet is named.
  Names equation_symbols(const SourceText& source) const {
    Names symbols = axis_names_;
    symbols.insert(symbols.end(), forcing_names_.begin(), forcing_names_.end());
    Names known = symbols;
    for (const auto& [name, value] : parameters_) known.push_back(name);
    known.insert(known.end(), reserved_names().begin(), reserved_names().end());
    known.insert(known.end(), {"and", "or"});
    std::set<std::string_view> seen;
    for (const Identifier& used : identifiers(source.text)) {
      const std::string name(used.name);
      if (used.called || !seen.insert(used.name).second || contains(known, name))
        continue;  // unknown functions: the parser's message
      const TextOrigin origin = origin_at(source, used.offset);
      if (const auto orders = field_derivative(name)) {
        check_order(*orders, name, [&](const std::string& message) { fail(origin, message); });
        if (!contains(symbols, name)) symbols.push_back(name);
        continue;
      }
      for (const std::string& field : field_names_)
        if (name.starts_with(field + "_"))
          fail(origin, quote(name) + " is no derivative of " + field +
                           ": the dimensions of [domain] are " + joined(axis_names_));
      const std::size_t bar = name.find('_');
      if (bar != std::string::npos && bar > 0 &&
          detail::derivative_orders(result_.problem.axes, name, name.substr(0, bar)))
        fail(origin, quote(name) + " is a derivative of " + quote(name.substr(0, bar)) +
                         ", which is no field: those are " + joined(field_names_) +
                         " (a system has one key in [equation] for each field)");
      Names near;
      for (const auto& field : field_names_)
        for (const auto& a : axis_names_) {
          near.push_back(field + "_" + a);
          for (const auto& b : axis_names_) near.push_back(field + "_" + a + b);
        }
      near.insert(near.end(), field_names_.begin(), field_names_.end());
      near.insert(near.end(), known.begin(), known.end());
      fail(origin, "unknown name " + quote(name) + suggestion(name, near) +
                       " (names come from [domain], [params] and [forcing])");
    }
    return symbols;
  }

  void read_equation() {
    const toml::table& table = *section("equation");
    for (const Entry& entry : entries(table)) {
      if (entry.name == equation_key_) continue;
      fail(entry.position, "unknown key " + quote(entry.name) + " in [equation]" +
                               suggestion(entry.name, {"expr"}) + " (known: expr)");
    }
    const auto* node = table.get(equation_key_);
    if (!node) fail(section_position("equation"), "[equation] has no expr");
    if (node->is_array())
      fail(node->source().begin,
           "expr is one equation; a system has one key in [equation] for each field");
    if (!node->is_string()) fail_type(*node, "expr", "a formula in quotes");
    const SourceText source = source_text(*node);
    result_.equation_text = source.text;
    equation_position_ = node->source().begin;

    const Names symbols = equation_symbols(source);
    Problem& problem = result_.problem;
    problem.equation = parse(source, 0, source.text.size(), symbols);
    Names fields;
    for (const auto& name : problem.equation.symbols())
      if (detail::derivative_orders(problem.axes, name)) fields.push_back(name);
    if (fields.empty()) fail(source.origin, "the equation has no u");
    for (const auto& name : fields) {  // u_yx is u_xy
      const std::string usual =
          detail::derivative_name(problem.axes, *detail::derivative_orders(problem.axes, name));
      if (usual != name)
        problem.equation = problem.equation.substitute(name, Expression::symbol(usual));
    }
    read_forcings(source);
    try {
      equation_ = detail::extract_equation(problem);
      operator_ = detail::reference_operator(problem, equation_,
                                             result_.options.guess.value_or(Expression(0.0)));
    } catch (const DomainError& error) {
      fail(equation_position_, error.what());
    }
    check_coefficients();
    normal_form();
  }

  void normal_form() {
    std::vector<std::pair<std::vector<int>, Expression>> terms;
    result_.linear = equation_.linear;
    result_.left = equation_.left;
    for (std::size_t k = 0; k < equation_.names.size(); ++k)
      if (equation_.linear) terms.emplace_back(equation_.orders[k], equation_.partial[k]);
    const auto total = [](const std::vector<int>& orders) {
      int sum = 0;
      for (const int order : orders) sum += order;
      return sum;
    };
    std::stable_sort(terms.begin(), terms.end(), [&](const auto& a, const auto& b) {
      return total(a.first) != total(b.first) ? total(a.first) > total(b.first) : a.first > b.first;
    });
    for (const auto& [orders, coefficient] : terms)
      result_.terms.emplace_back(detail::derivative_name(result_.problem.axes, orders),
                                 coefficient);
    result_.right_hand_side = operator_.source;
    if (operator_.forcing_factor != 0)
      result_.right_hand_side =
          result_.right_hand_side +
          Expression(operator_.forcing_factor) * Expression::symbol(result_.problem.forcing_symbol);
  }

  void check_coefficients() const {
    for (const auto& [orders, coefficient] : operator_.coefficients)
      if (coefficient.is_constant() && !is_finite(coefficient.constant()))
        fail(equation_position_, "the coefficient of " +
                                     detail::derivative_name(result_.problem.axes, orders) +
                                     " is not finite");
  }

  /// Formulas are folded into the equation; one forcing at most stays a symbol: the array, else the
  /// automatic one, else the first formula with a constant factor.
  void read_forcings(const SourceText& source) {
    Problem& problem = result_.problem;
    std::vector<Forcing> list;
    std::set<std::string_view> used;
    for (const Identifier& name : identifiers(source.text)) used.insert(name.name);
    for (const Entry& entry : forcings_) {
      if (!used.contains(entry.name))
        fail(entry.position, "forcing '" + entry.name + "' does not occur in the equation");
      Forcing forcing{entry, forcing_kind(*entry.node), {}};
      if (const auto* table = entry.node->as_table(); table && table->contains("expr")) {
        check_keys(*table, "forcing " + entry.name, {"expr", "noise"});
        if (forcing.kind == ForcingKind::array)
          fail(table->get("expr")->source().begin,
               "forcing " + entry.name + ": an array is given as file, not as expr");
      }
      if (forcing.kind == ForcingKind::formula)
        forcing.formula =
            expression_of(forcing_value(*entry.node), "forcing " + entry.name, axis_names_);
      list.push_back(std::move(forcing));
    }
    const Forcing* kept = nullptr;
    for (const Forcing& forcing : list) {
      if (forcing.kind == ForcingKind::formula) continue;
      if (kept && kept->kind == forcing.kind)
        fail(forcing.entry.position, forcing.kind == ForcingKind::array
                                         ? "a second forcing from an array is not solved yet"
                                         : "only one forcing can be \"auto\"");
      if (kept)
        fail(forcing.entry.position,
             "a forcing \"auto\" beside a forcing from an array is not solved yet");
      kept = &forcing;
    }
    const Forcing* noisy = nullptr;
    for (const Forcing& forcing : list) {
      const auto* table = forcing.entry.node->as_table();
      if (!table || !table->contains("noise")) continue;
      if (noisy)
        fail(table->get("noise")->source().begin, "a second forcing with noise is not solved yet");
      noisy = &forcing;
    }
    if (noisy && kept && kept != noisy)
      fail(noisy->entry.node->as_table()->get("noise")->source().begin,
           "forcing '" + noisy->entry.name + "' has noise beside '" + kept->entry.name +
               "', which is an array or \"auto\"; this is not solved yet");
    if (noisy) kept = noisy;
    const auto factor = [&](const Forcing& forcing) -> std::optional<double> {
      const Expression slope = problem.equation.derivative(forcing.entry.name);
      if (!slope.is_constant() || !detail::is_affine(problem.equation, {forcing.entry.name}))
        return std::nullopt;
      const double value = slope.constant().hi;
      return std::isfinite(value) && value != 0 ? std::optional(value) : std::nullopt;
    };
    const auto fold_others = [&] {
      std::map<std::string, Expression> by;
      for (const Forcing& forcing : list)
        if (&forcing != kept) by.emplace(forcing.entry.name, forcing.formula);
      problem.equation = problem.equation.substitute(by);
    };
    if (!kept) {
      for (const Forcing& forcing : list)
        if (!kept && factor(forcing)) kept = &forcing;
      fold_others();
    } else {
      fold_others();
      if (!factor(*kept))
        fail(kept->entry.position,
             kept->kind == ForcingKind::array
                 ? "forcing '" + kept->entry.name +
                       "' is an array: it must be a term of the equation times a constant "
                       "(coefficients from arrays are not solved yet)"
             : kept->kind == ForcingKind::automatic
                 ? "forcing '" + kept->entry.name +
                       "' is \"auto\": it must be a term of the equation times a constant"
                 : "forcing '" + kept->entry.name +
                       "' has noise: it must be a term of the equation times a constant");
    }
    if (noisy) {
      const toml::node& node = *noisy->entry.node->as_table()->get("noise");
      result_.measurements.emplace().forcing = noise_of(node, "noise of " + noisy->entry.name);
      noise_position_ = node.source().begin;
    }
    problem.forcing = Expression(0.0);
    if (!kept) {
      problem.forcing_symbol = names_.contains("f") ? "forcing_" : "f";
      while (names_.contains(problem.forcing_symbol)) problem.forcing_symbol += '_';
      return;
    }
    problem.forcing_symbol = kept->entry.name;
    forcing_position_ = kept->entry.node->source().begin;
    switch (kept->kind) {
      case ForcingKind::formula:
        problem.forcing = kept->formula;
        break;
      case ForcingKind::automatic: {
        if (!problem.exact)
          fail(forcing_position_,
               "forcing '" + kept->entry.name + "' is \"auto\", which needs [exact] u");
        const Expression rest =
            with_exact(problem.equation).substitute(kept->entry.name, Expression(0.0));
        problem.forcing = -(rest / Expression(*factor(*kept)));
        result_.forcing_automatic = true;
        break;
      }
      case ForcingKind::array:
        problem.forcing = read_samples(*kept);
        break;
    }
  }

  /// The equation with u and its derivatives replaced by those of [exact].
  Expression with_exact(const Expression& equation) const {
    const Problem& problem = result_.problem;
    std::map<std::string, Expression> by;
    for (const auto& name : equation.symbols()) {
      const auto orders = detail::derivative_orders(problem.axes, name);
      if (!orders) continue;
      Expression value = *problem.exact;
      for (std::size_t i = 0; i < orders->size(); ++i)
        for (int k = 0; k < (*orders)[i]; ++k) value = value.derivative(problem.axes[i].name);
      by.emplace(name, value);
    }
    return equation.substitute(by);
  }

  /// A standard deviation, or "learn".
  Noise noise_of(const toml::node& node, const std::string& what) const {
    if (node.as_string() && node.as_string()->get() == "learn") return {0, true};
    const double level = constant_of(node, what).hi;
    if (!(level > 0))
      fail(node.source().begin, what + " = " + number_text(level) +
                                    ", must be > 0 or \"learn\" (without errors, leave it out)");
    return {level, false};
  }

  NpyArray read_array(const toml::node& node, std::string_view what) {
    const std::string_view name = string_of(node, what, "the name of an .npy file");
    try {
      if (name.find('\0') != std::string_view::npos) throw IoError(name, "not a file name");
      NpyArray array = read_npy<double>(base_ / std::filesystem::path(name));
      const std::string_view bytes(reinterpret_cast<const char*>(array.values.data()),
                                   array.values.size() * sizeof(double));
      result_.digest =
          content_digest(result_.digest + shape_text(array.shape) + content_digest(bytes));
      return array;
    } catch (const Error& error) {
      fail(node.source().begin, error.what());
    }
  }

  static std::string shape_text(const std::vector<std::ptrdiff_t>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i)
      text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
  }

  GridSamples read_samples(const Forcing& forcing) {
    const Problem& problem = result_.problem;
    const std::string what = "forcing " + forcing.entry.name;
    const toml::node* file = forcing.entry.node;
    const toml::table* table = file->as_table();
    Position position = file->source().begin;
    if (table) {
      Names known{"file", "noise"};
      known.insert(known.end(), axis_names_.begin(), axis_names_.end());
      check_keys(*table, what, known);
      file = table->get("file");
      if (!file) fail(position, what + " has no file");
      position = file->source().begin;
    }
    NpyArray array = read_array(*file, what);
    if (array.shape.size() != problem.axes.size())
      fail(position, what + " has shape " + shape_text(array.shape) + ", must have " +
                         std::to_string(problem.axes.size()) + " dimension" +
                         (problem.axes.size() == 1 ? "" : "s") + " (" + joined(axis_names_) + ")");
    for (std::size_t i = 0; i < array.shape.size(); ++i)
      if (array.shape[i] < 4)
        fail(position, what + " has shape " + shape_text(array.shape) +
                           ", must have at least 4 samples along " + axis_names_[i]);
    require_memory(position, 8.0 * static_cast<double>(array.values.size()) * 3, what);
    for (std::size_t k = 0; k < array.values.size(); ++k)
      if (!std::isfinite(array.values[k])) {
        std::vector<std::ptrdiff_t> index(array.shape.size());
        auto rest = static_cast<std::ptrdiff_t>(k);
        for (std::size_t i = index.size(); i-- > 0; rest /= array.shape[i])
          index[i] = rest % array.shape[i];
        fail(position,
             what + shape_text(index) + " = " + number_text(array.values[k]) + ", must be finite");
      }
    GridSamples samples;
    std::size_t axes_given = 0;
    for (const auto& name : axis_names_) axes_given += table && table->contains(name) ? 1u : 0u;
    if (axes_given != 0 && axes_given != axis_names_.size())
      fail(position, what + " has axes for some dimensions only, must have " + joined(axis_names_));
    for (std::size_t i = 0; i < problem.axes.size(); ++i) {
      const Axis& axis = problem.axes[i];
      const std::ptrdiff_t n = array.shape[i];
      if (axes_given != 0) {
        const toml::node& node = *table->get(axis.name);
        NpyArray points = read_array(node, what + ": axis " + axis.name);
        if (points.shape.size() != 1 || points.shape[0] != n)
          fail(node.source().begin, "axis " + axis.name + " has shape " + shape_text(points.shape) +
                                        ", must be " + shape_text({n}));
        // Ends written as doubles may miss those of the domain by a rounding.
        const double slack = 4 * std::numeric_limits<double>::epsilon() *
                             (std::abs(axis.lower.hi) + std::abs(axis.upper.hi));
        for (std::size_t k = 0; k < points.values.size(); ++k) {
          const double value = points.values[k];
          const bool inside = value >= axis.lower.hi - slack && value <= axis.upper.hi + slack;
          if (!inside || (k > 0 && !(value > points.values[k - 1])))
            fail(node.source().begin, "axis " + axis.name + "[" + std::to_string(k) +
                                          "] = " + number_text(value) + ", must " +
                                          (inside ? "increase" : "lie in the domain"));
        }
        // What lies beyond the samples would be extrapolated.
        const double first = points.values.front(), last = points.values.back();
        const double gap = 4 * (last - first) / static_cast<double>(n - 1) + slack;
        if (first - axis.lower.hi > gap || axis.upper.hi - last > gap)
          fail(node.source().begin, "axis " + axis.name + " goes from " + number_text(first) +
                                        " to " + number_text(last) +
                                        ", must reach from one end of the domain to the other");
        samples.axes.push_back(std::move(points.values));
      } else {
        const auto& given = result_.options.nodes_per_axis;
        if (!given.empty() && given[i] != n)
          fail(position, what + " has shape " + shape_text(array.shape) + ", must be " +
                             shape_text(given) + " as [grid] n");
        const Nodes kind = nodes_given_ ? result_.options.nodes : Nodes::uniform;
        if (kind == Nodes::gauss && n > 20000)
          fail(position,
               what + " has more than 20000 samples along " + axis.name + ": give its axes");
        samples.axes.push_back(grid_nodes(kind, axis.lower.hi, axis.upper.hi, n));
      }
    }
    samples.values = std::move(array.values);
    return samples;
  }

  // -- sides --

  void read_sides() {
    const auto* table = section("bc");
    Problem& problem = result_.problem;
    side_positions_.resize(problem.axes.size());
    Names all;
    for (const Axis& axis : problem.axes)
      for (std::size_t end = 0; end < 2; ++end) all.push_back(side_name(axis, end));
    if (!table) return;
    for (const Entry& entry : entries(*table)) {
      for (std::size_t begin = 0; begin <= entry.name.size();) {
        const std::size_t comma = std::min(entry.name.find(',', begin), entry.name.size());
        const std::string_view name =
            trimmed(std::string_view(entry.name).substr(begin, comma - begin));
        begin = comma + 1;
        const auto found = std::find(all.begin(), all.end(), name);
        if (found == all.end())
          fail(entry.position,
               "unknown side " + quote(name) + " in [bc] (the sides are " + joined(all) + ")");
        const auto index = static_cast<std::size_t>(found - all.begin());
        Position& first = side_positions_[index / 2][index % 2];
        if (first.line != 0)
          fail(entry.position,
               "side " + *found + " is given twice, first in line " + std::to_string(first.line) +
                   "; several conditions on a side are an array [{ ... }, { ... }]");
        first = entry.position;
        problem.sides[index / 2][index % 2] = read_side(entry, index / 2, index % 2);
      }
    }
  }

  Side read_side(const Entry& entry, std::size_t axis, std::size_t end) {
    const std::string name = side_name(result_.problem.axes[axis], end);
    const auto* array = entry.node->as_array();
    if (!array) return read_condition(*entry.node, entry.position, axis, end, 0);
    if (array->empty()) fail(entry.position, "side " + name + " has an empty array of conditions");
    Side side;
    for (std::size_t i = 0; i < array->size(); ++i) {
      const toml::node& node = *array->get(i);
      Side one = read_condition(node, array->size() == 1 ? entry.position : node.source().begin,
                                axis, end, i);
      if (array->size() > 1 && (one.kind == SideKind::periodic || one.kind == SideKind::none))
        fail(node.source().begin, "side " + name + " is " + std::string(kind_text(one.kind)) +
                                      " and has other conditions as well");
      if (i == 0)
        side = std::move(one);
      else
        side.also.push_back(std::move(one));
    }
    return side;
  }

  Side read_condition(const toml::node& node, Position position, std::size_t axis, std::size_t end,
                      std::size_t index) {
    const std::string name = side_name(result_.problem.axes[axis], end);
    const auto* table = node.as_table();
    if (!table) fail_type(node, "side " + name, "a table { type = ..., g = ... }");
    check_keys(*table, "side " + name, {"type", "g", "a", "b", "order", "coefficients"});
    const auto* type = table->get("type");
    if (!type) fail(position, "side " + name + " has no type");
    constexpr SideKind kinds[] = {SideKind::dirichlet, SideKind::neumann, SideKind::robin,
                                  SideKind::periodic,  SideKind::none,    SideKind::derivative,
                                  SideKind::linear};
    Side side;
    side.kind = kinds[word_of(
        *type, "type",
        {"dirichlet", "neumann", "robin", "periodic", "none", "derivative", "linear"})];
    const bool conditions = side.kind != SideKind::periodic && side.kind != SideKind::none;
    for (const std::string key : {"a", "b", "g", "order", "coefficients"}) {
      const auto* given = table->get(key);
      const bool allowed = key == "g"              ? conditions
                           : key == "order"        ? side.kind == SideKind::derivative
                           : key == "coefficients" ? side.kind == SideKind::linear
                                                   : side.kind == SideKind::robin;
      if (given && !allowed)
        fail(given->source().begin,
             "side " + name + " is " + std::string(kind_text(side.kind)) + ", which has no " + key);
      if (given || !allowed || key == "g") continue;
      fail(position, side.kind == SideKind::robin
                         ? "side " + name + " is robin, a*u + b*du/dn = g, and has no " + key
                         : "side " + name + " is " + std::string(kind_text(side.kind)) +
                               " and has no " + key);
    }
    side.a = side.kind == SideKind::dirichlet ? 1 : 0;
    side.b = side.kind == SideKind::neumann ? 1 : 0;
    if (side.kind == SideKind::robin) {
      side.a = constant_of(*table->get("a"), "a").hi;
      side.b = constant_of(*table->get("b"), "b").hi;
      if (side.a == 0 && side.b == 0)
        fail(position, "side " + name + " has a = b = 0, which is no condition");
    }
    if (side.kind == SideKind::derivative)
      side.order =
          static_cast<int>(integer_of(*table->get("order"), "order", 0, detail::highest_order - 1));
    if (side.kind == SideKind::linear) {
      const auto* node_of = table->get("coefficients");
      const auto* array = node_of->as_array();
      if (!array)
        fail_type(*node_of, "coefficients", "an array of numbers, of u, its first derivative, ...");
      for (const auto& element : *array)
        side.coefficients.push_back(constant_of(element, "a coefficient").hi);
      if (side.coefficients.size() > static_cast<std::size_t>(detail::highest_order) ||
          detail::condition_coefficients(side, 0).empty())
        fail(node_of->source().begin, "coefficients must be one to four numbers, not all 0");
    }
    read_data(side, table->get("g"), axis, end, index);
    condition_positions_[{axis, end}].push_back(position);
    return side;
  }

  /// g of a condition: given, made from [exact], or zero.
  void read_data(Side& side, const toml::node* g, std::size_t axis, std::size_t end,
                 std::size_t index) {
    if (side.kind == SideKind::periodic || side.kind == SideKind::none) return;
    const Axis& normal = result_.problem.axes[axis];
    Expression value;
    if (g && g->as_string() && g->as_string()->get() == "exact") {
      if (!result_.problem.exact)
        fail(g->source().begin, "g is \"exact\", which needs [exact] " + side_field_);
      value = side_value(*result_.problem.exact, normal, end, side);
    } else {
      if (g) value = expression_of(*g, "g", axis_names_);
      conditions_to_compare_.push_back({axis, end, index});
    }
    if (g)
      side.g = value.substitute(normal.name, Expression(end == 0 ? normal.lower : normal.upper));
  }

  /// [initial]: u and its derivatives at the lower end of one dimension.
  void read_initial() {
    const auto* table = section("initial");
    if (!table) return;
    Problem& problem = result_.problem;
    std::map<int, Entry> given;
    std::optional<std::size_t> time;
    for (const Entry& entry : entries(*table)) {
      const auto orders = detail::derivative_orders(problem.axes, entry.name);
      if (!orders)
        fail(entry.position,
             "unknown key " + quote(entry.name) +
                 " in [initial] (known: u and its derivatives along one dimension)");
      int total = 0;
      std::size_t axis = 0;
      for (std::size_t i = 0; i < orders->size(); ++i) {
        total += (*orders)[i];
        if ((*orders)[i] > 0) axis = i;
      }
      if (total != (*orders)[axis] || (total > 0 && time && *time != axis))
        fail(entry.position, "[initial] has derivatives along more than one dimension");
      if (total >= detail::highest_order)
        fail(entry.position, "initial values are u and its derivatives to third order");
      if (total > 0) time = axis;
      given.emplace(total, entry);
    }
    if (given.empty()) fail(section_position("initial"), "[initial] is empty");
    if (!time) {
      const auto t = std::find(axis_names_.begin(), axis_names_.end(), "t");
      if (t == axis_names_.end() && axis_names_.size() > 1)
        fail(given.begin()->second.position,
             "[initial] u alone is meant for a dimension t; give it as a condition in [bc]");
      time = t == axis_names_.end() ? 0u : static_cast<std::size_t>(t - axis_names_.begin());
    }
    Position& first = side_positions_[*time][0];
    if (first.line != 0)
      fail(given.begin()->second.position, "side " + side_name(problem.axes[*time], 0) +
                                               " has conditions in [bc] as well, line " +
                                               std::to_string(first.line));
    first = given.begin()->second.position;
    Side& side = problem.sides[*time][0];
    std::size_t index = 0;
    for (const auto& [order, entry] : given) {
      Side one;
      one.kind = order == 0 ? SideKind::dirichlet : SideKind::derivative;
      one.a = order == 0 ? 1 : 0;
      one.order = order == 0 ? 1 : order;
      read_data(one, entry.node, *time, 0, index);
      condition_positions_[{*time, 0}].push_back(entry.position);
      if (index == 0)
        side = std::move(one);
      else
        side.also.push_back(std::move(one));
      ++index;
    }
  }

  // -- systems --

  [[nodiscard]] bool system() const { return system_; }

  /// The derivative of a field that a name stands for.
  [[nodiscard]] std::optional<std::vector<int>> field_derivative(std::string_view name) const {
    for (const std::string& field : field_names_)
      if (auto orders = detail::derivative_orders(result_.problem.axes, name, field)) return orders;
    return std::nullopt;
  }

  /// [equation] has one key a field, which occurs in the equations; or expr alone.
  void read_field_names() {
    const toml::table& table = *section("equation");
    if (table.contains("expr")) return;
    const auto list = entries(table);
    Names names;
    bool used = false;
    for (const Entry& entry : list) {
      if (!entry.node->is_string() || !is_identifier(entry.name)) return;
      names.push_back(entry.name);
    }
    for (const Entry& entry : list)
      for (const Identifier& name : identifiers(entry.node->as_string()->get()))
        for (const std::string& field : names)
          used = used || name.name == field || name.name.starts_with(field + "_");
    if (!used) return;
    if (list.size() == 1 && names[0] == "u") {
      equation_key_ = "u";
      return;
    }
    if (list.size() > 8) fail(list[8].position, "a ninth field: a system has at most eight");
    for (const Entry& entry : list) {
      const std::string& name = entry.name;
      if (contains(reserved_names(), name) || name == "and" || name == "or")
        fail(entry.position,
             "field '" + name + "' has the name of a built-in function or constant");
      for (const char* kept : {"residual", "error", "std"})
        if (name == kept || name.starts_with(std::string(kept) + "_"))
          fail(entry.position, "field '" + name + "' has a name kept for an output field");
      for (const std::string& other : names)
        if (name != other && name.starts_with(other + "_"))
          fail(entry.position,
               "field '" + name + "' has a name kept for the derivatives of " + other);
      field_positions_.push_back(entry.position);
    }
    field_names_ = names;
    system_ = true;
  }

  PdeFile read_system() {
    SystemProblem& problem = result_.system.emplace();
    problem.name = result_.problem.name;
    problem.axes = result_.problem.axes;
    if (problem.axes.size() > 2)
      fail(section_position("equation"), "systems in three dimensions are not solved yet");
    for (const std::string& name : field_names_) {
      problem.fields.emplace_back();
      problem.fields.back().name = name;
    }
    read_system_exact();
    read_solver();
    if (result_.gp_hm) fail(method_position_, "method 'gp-hm' is for a single equation");
    if (section("grid")) fail(section_position("grid"), "[grid] of a system is left to the solver");
    if (section("initial"))
      fail(section_position("initial"),
           "initial values of a system are conditions on the lower side in [bc]");
    if (section("observations"))
      fail(section_position("observations"), "observations of a system are not solved yet");
    read_system_equations();
    read_system_sides();
    read_kernel();
    read_output();
    check_system();
    check_written();
    return std::move(result_);
  }

  std::size_t field_index(const Entry& entry, std::string_view where) const {
    const auto found = std::find(field_names_.begin(), field_names_.end(), entry.name);
    if (found == field_names_.end())
      fail(entry.position, "unknown field " + quote(entry.name) + " in " + std::string(where) +
                               suggestion(entry.name, field_names_) + " (the fields are " +
                               joined(field_names_) + ")");
    return static_cast<std::size_t>(found - field_names_.begin());
  }

  void read_system_exact() {
    const auto* table = section("exact");
    if (!table) return;
    auto& fields = result_.system->fields;
    exact_positions_.resize(fields.size());
    for (const Entry& entry : entries(*table)) {
      const std::size_t i = field_index(entry, "[exact]");
      fields[i].exact = expression_of(*entry.node, "exact " + entry.name, axis_names_);
      exact_positions_[i] = entry.node->source().begin;
      require_finite(*fields[i].exact, exact_positions_[i], "exact " + entry.name);
    }
    for (const SystemField& field : fields)
      if (!field.exact)
        fail(section_position("exact"),
             "[exact] has no " + field.name + ": it has all fields or none");
  }

  void read_system_guess(const toml::node& node) {
    const auto* table = node.as_table();
    if (!table) fail_type(node, "guess of a system", "a table with the fields' formulas");
    for (const Entry& entry : entries(*table)) {
      const std::size_t i = field_index(entry, "guess");
      result_.system->fields[i].guess =
          expression_of(*entry.node, "guess of " + entry.name, axis_names_);
    }
  }

  /// Formula with the fields and their derivatives replaced by those of [exact].
  Expression with_exact_fields(const Expression& formula) const {
    const SystemProblem& problem = *result_.system;
    std::map<std::string, Expression> by;
    for (const auto& name : formula.symbols())
      for (const SystemField& field : problem.fields) {
        const auto orders = detail::derivative_orders(problem.axes, name, field.name);
        if (!orders) continue;
        Expression value = *field.exact;
        for (std::size_t i = 0; i < orders->size(); ++i)
          for (int k = 0; k < (*orders)[i]; ++k) value = value.derivative(problem.axes[i].name);
        by.emplace(name, value);
      }
    return formula.substitute(by);
  }

  void read_system_equations() {
    SystemProblem& problem = *result_.system;
    const toml::table& table = *section("equation");
    std::map<std::string, std::vector<std::size_t>> used;  // forcing: equations
    for (std::size_t i = 0; i < field_names_.size(); ++i) {
      const SourceText source = source_text(*table.get(field_names_[i]));
      const Names symbols = equation_symbols(source);
      problem.fields[i].equation = parse(source, 0, source.text.size(), symbols);
      result_.equation_text += (i ? " = 0,  " : "") + source.text;
      std::set<std::string> here;
      for (const Identifier& name : identifiers(source.text)) here.emplace(name.name);
      for (const std::string& name : forcing_names_)
        if (here.contains(name)) used[name].push_back(i);
      const auto all = problem.fields[i].equation.symbols();
      if (std::none_of(all.begin(), all.end(),
                       [&](const auto& name) { return field_derivative(name).has_value(); }))
        fail(source.origin, "the equation of " + field_names_[i] + " has no field");
    }
    std::map<std::size_t, const Entry*> automatic;  // equation: its forcing
    for (const Entry& entry : forcings_) {
      const auto& where = used[entry.name];
      if (where.empty())
        fail(entry.position, "forcing '" + entry.name + "' does not occur in the equations");
      const Position position = entry.node->source().begin;
      if (const auto* table = entry.node->as_table(); table && table->contains("noise"))
        fail(position, "a noisy forcing of a system is not solved yet");
      switch (forcing_kind(*entry.node)) {
        case ForcingKind::array:
          fail(position, "a forcing of a system from an array is not solved yet");
        case ForcingKind::formula:
          problem.forcing[entry.name] =
              expression_of(forcing_value(*entry.node), "forcing " + entry.name, axis_names_);
          break;
        case ForcingKind::automatic:
          if (!problem.fields[0].exact)
            fail(position, "forcing '" + entry.name + "' is \"auto\", which needs [exact]");
          if (where.size() > 1)
            fail(position, "forcing '" + entry.name +
                               "' is \"auto\" and occurs in several equations: each needs its own");
          if (!automatic.emplace(where[0], &entry).second)
            fail(position, "the equation of " + field_names_[where[0]] +
                               " has a second forcing that is \"auto\"");
          break;
      }
    }
    const std::map<std::string, Expression> formulas = problem.forcing;
    for (const auto& [i, entry] : automatic) {
      const Expression equation = problem.fields[i].equation.substitute(formulas);
      const Expression slope = equation.derivative(entry->name);
      if (!slope.is_constant() || !detail::is_affine(equation, {entry->name}) ||
          !(std::fabs(slope.constant().hi) > 0))
        fail(entry->node->source().begin,
             "forcing '" + entry->name +
                 "' is \"auto\": it must be a term of the equation times a constant");
      const Expression rest = with_exact_fields(equation).substitute(entry->name, Expression(0.0));
      problem.forcing[entry->name] = -(rest / slope);
      result_.forcing_automatic = true;
    }
    for (const Entry& entry : forcings_)
      require_finite(problem.forcing.at(entry.name), entry.node->source().begin, entry.name);
  }

  void read_system_sides() {
    const auto* table = section("bc");
    if (!table) return;
    SystemProblem& problem = *result_.system;
    Names all;
    for (const Axis& axis : problem.axes)
      for (std::size_t end = 0; end < 2; ++end) all.push_back(side_name(axis, end));
    std::map<std::pair<std::string, std::string>, Position> first;
    const auto add = [&](const Entry& entry, std::size_t i, std::size_t side,
                         const toml::node& node) {
      const auto [place, fresh] =
          first.emplace(std::pair(field_names_[i], all[side]), entry.position);
      if (!fresh)
        fail(entry.position, "side " + all[side] + " of " + field_names_[i] +
                                 " is given twice, first in line " +
                                 std::to_string(place->second.line));
      side_field_ = field_names_[i];
      result_.problem.exact = problem.fields[i].exact;  // what "exact" means
      const auto read = [&](const toml::node& one) {
        conditions_to_compare_.clear();
        const Entry inner{all[side], entry.position, &one};
        const Side condition = read_side(inner, side / 2, side % 2);
        if (condition.kind == SideKind::derivative || condition.kind == SideKind::linear)
          fail(entry.position, "side " + all[side] + " of " + field_names_[i] + " is " +
                                   std::string(kind_text(condition.kind)) +
                                   ", which is for one equation only, not for systems");
        require_finite(condition.g, entry.position,
                       "g of " + field_names_[i] + " on side " + all[side], side / 2, side % 2);
        if (!conditions_to_compare_.empty() && problem.fields[i].exact)
          compare_side(condition, i, side / 2, side % 2);
        problem.sides.push_back({field_names_[i], all[side], condition});
      };
      if (const auto* several = node.as_array())
        for (const auto& one : *several) read(one);
      else
        read(node);
      result_.problem.exact.reset();
    };
    for (const Entry& entry : entries(*table))
      for (std::size_t begin = 0; begin <= entry.name.size();) {
        const std::size_t comma = std::min(entry.name.find(',', begin), entry.name.size());
        const std::string_view name =
            trimmed(std::string_view(entry.name).substr(begin, comma - begin));
        begin = comma + 1;
        const auto found = std::find(all.begin(), all.end(), name);
        if (found == all.end())
          fail(entry.position,
               "unknown side " + quote(name) + " in [bc] (the sides are " + joined(all) + ")");
        const auto side = static_cast<std::size_t>(found - all.begin());
        const auto* fields = entry.node->as_table();
        if (!fields)
          fail_type(*entry.node, "side " + *found,
                    "a table { type = ..., g = ... } for all fields, or one a field");
        if (fields->contains("type")) {
          for (std::size_t i = 0; i < field_names_.size(); ++i) add(entry, i, side, *entry.node);
          continue;
        }
        for (const Entry& field : entries(*fields))
          add(field, field_index(field, "side " + *found), side, *field.node);
      }
    for (std::size_t k = 0; k < problem.axes.size(); ++k)
      for (std::size_t end = 0; end < 2; ++end) {
        const auto periodic =
            std::count_if(problem.sides.begin(), problem.sides.end(), [&](const SystemSide& s) {
              return s.side == all[2 * k + end] && s.condition.kind == SideKind::periodic;
            });
        if (periodic == std::ssize(field_names_))
          result_.problem.sides[k][end].kind = SideKind::periodic;
      }
  }

  /// [exact] must fulfil a condition that was not made from it.
  void compare_side(const Side& side, std::size_t i, std::size_t axis, std::size_t end) {
    const Expression known =
        side_value(*result_.system->fields[i].exact, result_.problem.axes[axis], end, side);
    double largest = 0, scale = 0;
    const double width = (result_.problem.axes[axis].upper - result_.problem.axes[axis].lower).hi;
    sample({*result_.system->fields[i].exact}, {}, 0, [&](const auto&, const auto& values) {
      scale = std::max(scale,
                       std::abs(values[0]) * std::max(std::abs(side.a), std::abs(side.b) / width));
    });
    sample({known, side.g}, axis, end, [&](const auto&, const auto& values) {
      const double difference = std::abs(values[0] - values[1]);
      if (!(difference <= largest)) largest = difference;
      scale = std::max({scale, std::abs(values[0]), std::abs(values[1])});
    });
    if (!(largest <= 1e-8 * scale))
      warn("[exact] " + field_names_[i] + " does not fulfil its condition on side " +
           side_name(result_.problem.axes[axis], end) + ": it misses g by up to " +
           number_text(largest));
  }

  std::vector<OutputField> system_fields() const {
    std::vector<OutputField> fields;
    for (std::size_t i = 0; i < field_names_.size(); ++i)
      fields.push_back(
          {field_names_[i], FieldKind::derivative, std::vector<int>(axis_names_.size(), 0), i});
    return fields;
  }

  /// What a name of [output] fields stands for: `error` and `residual` are those of all fields.
  std::vector<OutputField> system_fields_of(const toml::node& node) const {
    const SystemProblem& problem = *result_.system;
    const std::string name(string_of(node, "a field", "a name"));
    const Position position = node.source().begin;
    std::vector<OutputField> found;
    Names known = field_names_;
    for (const auto& [word, kind] :
         {std::pair("residual", FieldKind::residual), std::pair("error", FieldKind::error)}) {
      known.emplace_back(word);
      for (std::size_t i = 0; i < field_names_.size(); ++i) {
        const std::string one = std::string(word) + '_' + field_names_[i];
        known.push_back(one);
        if (name == word || name == one) found.push_back({one, kind, {}, i});
      }
    }
    if (!found.empty()) {
      if (found[0].kind == FieldKind::error && !problem.fields[0].exact)
        fail(position, "field '" + name + "' needs [exact]");
      return found;
    }
    if (problem.forcing.contains(name)) return {{name, FieldKind::forcing, {}, 0}};
    for (std::size_t i = 0; i < field_names_.size(); ++i) {
      const auto orders = detail::derivative_orders(problem.axes, name, field_names_[i]);
      if (!orders) continue;
      int total = 0;
      for (const int order : *orders) total += order;
      if (total > 2)
        fail(position, "the derivative " + name + " has order " + std::to_string(total) +
                           "; orders above 2 are not solved yet");
      return {{detail::derivative_name(problem.axes, *orders, field_names_[i]),
               FieldKind::derivative, *orders, i}};
    }
    for (const auto& [forcing, value] : problem.forcing) known.push_back(forcing);
    fail(position, "unknown field " + quote(name) + suggestion(name, known) +
                       " (known: " + joined(known) + ", and derivatives)");
  }

  /// The solver's own checks, with their place; [exact] must solve what is solved.
  void check_system() {
    const SystemProblem& problem = *result_.system;
    try {
      const detail::CheckedSystem checked = detail::check(problem, result_.options);
      result_.linear = checked.linear;
    } catch (const DomainError& error) {
      const std::string& argument = error.argument();
      Position position = section_position("equation");
      for (std::size_t i = 0; i < field_names_.size(); ++i)
        if (argument.starts_with("problem.fields." + field_names_[i]) &&
            argument.size() <= 15 + field_names_[i].size() + 9)
          position = field_positions_[i];
      if (argument.starts_with("problem.sides") && section_position("bc").line != 0)
        position = section_position("bc");
      fail(position, error.what());
    } catch (const ShapeError& error) {
      fail(section_position("equation"), error.what());
    }
    if (!problem.fields[0].exact) return;
    for (std::size_t i = 0; i < problem.fields.size(); ++i) {
      const Expression equation = problem.fields[i].equation.substitute(problem.forcing);
      std::vector<Expression> parts{with_exact_fields(equation)};
      for (const auto& name : equation.symbols())
        if (field_derivative(name))
          parts.push_back(with_exact_fields(equation.derivative(name) * Expression::symbol(name)));
      double largest = 0, scale = 0;
      std::vector<double> worst(axis_names_.size());
      sample(parts, {}, 0, [&](const auto& point, const auto& values) {
        if (!(std::abs(values[0]) <= largest)) {
          largest = std::abs(values[0]);
          worst = point;
        }
        for (std::size_t j = 1; j < values.size(); ++j)
          scale = std::max(scale, std::abs(values[j]));
      });
      if (!(largest <= 1e-8 * scale))
        warn("[exact] does not solve the equation of " + field_names_[i] + ": residual " +
             number_text(largest) + " at " + point_text(worst) + " (largest term " +
             number_text(scale) + ")");
    }
  }

  // -- observations --

  void read_observations() {
    const auto* table = section("observations");
    if (!table) return;
    const auto list = entries(*table);
    if (list.empty()) fail(section_position("observations"), "[observations] has no u");
    for (const Entry& entry : list)
      if (entry.name != "u")
        fail(entry.position, "unknown key " + quote(entry.name) +
                                 " in [observations]: u is what can be observed (derivatives and "
                                 "other fields are not solved yet)");
    const toml::node& node = *list[0].node;
    const auto* u = node.as_table();
    if (!u)
      fail_type(
          node, "observations u",
          "a table { file = ..., noise = ... } or { points = ..., values = ..., noise = ... }");
    check_keys(*u, "observations u", {"file", "points", "values", "noise"});
    Observations o;
    o.points.resize(axis_names_.size());
    const auto* file = u->get("file");
    if (file && (u->contains("points") || u->contains("values")))
      fail(file->source().begin, "observations u has a file and points or values: give one");
    Position position = node.source().begin;
    if (file) {
      position = file->source().begin;
      read_observed_file(*file, o);
    } else {
      for (const char* key : {"points", "values"})
        if (!u->contains(key))
          fail(list[0].position, "observations u has no " + std::string(key) + " and no file");
      position = u->get("values")->source().begin;
      read_observed_inline(*u->get("points"), *u->get("values"), o);
    }
    if (o.values.empty()) fail(position, "observations u has no data, must have one at least");
    for (std::size_t i = 0; i < o.values.size(); ++i) {
      const std::string which = " of observation " + std::to_string(i + 1);
      for (std::size_t k = 0; k < axis_names_.size(); ++k) {
        const Axis& axis = result_.problem.axes[k];
        const double x = o.points[k][i],
                     slack = 4 * std::numeric_limits<double>::epsilon() *
                             (std::abs(axis.lower.hi) + std::abs(axis.upper.hi));
        if (!(x >= axis.lower.hi - slack && x <= axis.upper.hi + slack))
          fail(position, axis.name + which + " = " + number_text(x) + ", must lie in the domain");
      }
      if (!std::isfinite(o.values[i]))
        fail(position, "u" + which + " = " + number_text(o.values[i]) + ", must be finite");
      if (!o.deviations.empty() && !(o.deviations[i] > 0 && std::isfinite(o.deviations[i])))
        fail(position, "sigma" + which + " = " + number_text(o.deviations[i]) + ", must be > 0");
    }
    const auto* noise = u->get("noise");
    if (noise && !o.deviations.empty())
      fail(noise->source().begin, "observations u has noise and a column sigma: give one");
    if (!noise && o.deviations.empty())
      fail(list[0].position,
           "observations u has no noise, and no column sigma: give their standard deviation, or "
           "noise = \"learn\"");
    if (noise) o.noise = noise_of(*noise, "noise of observations u");
    if (noise && o.noise.learn && o.values.size() < 4)
      fail(noise->source().begin, "noise = \"learn\" needs 4 observations at least, found " +
                                      std::to_string(o.values.size()));
    if (!result_.measurements) result_.measurements.emplace();
    result_.measurements->observations = std::move(o);
    noise_position_ = list[0].position;
  }

  /// Columns x, y, ..., u and perhaps sigma of a CSV file, or of an array in this order.
  void read_observed_file(const toml::node& node, Observations& o) {
    const std::string_view name = string_of(node, "file", "the name of a .csv or .npy file");
    Names columns = axis_names_;
    columns.emplace_back("u");
    if (name.ends_with(".npy")) {
      const NpyArray array = read_array(node, "observations u");
      const auto wanted = static_cast<std::ptrdiff_t>(columns.size());
      if (array.shape.size() != 2 || (array.shape[1] != wanted && array.shape[1] != wanted + 1))
        fail(node.source().begin, "observations u has shape " + shape_text(array.shape) +
                                      ", must be (n, " + std::to_string(wanted) +
                                      ") with columns " + joined(columns) +
                                      ", or one more for sigma");
      for (std::ptrdiff_t i = 0; i < array.shape[0]; ++i) {
        const double* row = array.values.data() + i * array.shape[1];
        for (std::size_t k = 0; k < axis_names_.size(); ++k) o.points[k].push_back(row[k]);
        o.values.push_back(row[wanted - 1]);
        if (array.shape[1] > wanted) o.deviations.push_back(row[wanted]);
      }
      return;
    }
    Table table;
    try {
      if (name.find('\0') != std::string_view::npos) throw IoError(name, "not a file name");
      table = read_csv(base_ / std::filesystem::path(name));
      result_.digest = content_digest(result_.digest + csv_text(table));
    } catch (const Error& error) {
      fail(node.source().begin, error.what());
    }
    Names known = columns;
    known.emplace_back("sigma");
    for (const auto& column : table.names)
      if (!contains(known, column))
        fail(node.source().begin, "unknown column " + quote(column) + " in " + quote(name) +
                                      " (known: " + joined(known) + ")");
    for (const auto& column : columns)
      if (!contains(table.names, column))
        fail(node.source().begin, quote(name) + " has no column " + column);
    for (std::size_t k = 0; k < axis_names_.size(); ++k) o.points[k] = table.column(axis_names_[k]);
    o.values = table.column("u");
    if (contains(table.names, "sigma")) o.deviations = table.column("sigma");
  }

  /// points = [0.1, 0.5] or [[0.1, 0.2], [0.5, 0.5]], values = [...]
  void read_observed_inline(const toml::node& points, const toml::node& values,
                            Observations& o) const {
    const auto* at = points.as_array();
    if (!at) fail_type(points, "points", "an array");
    const auto* list = values.as_array();
    if (!list) fail_type(values, "values", "an array of numbers");
    if (at->size() != list->size())
      fail(values.source().begin, "values has " + std::to_string(list->size()) +
                                      " entries, must have one for each of the " +
                                      std::to_string(at->size()) + " points");
    for (const auto& point : *at) {
      const auto* coordinates = point.as_array();
      if (!coordinates && axis_names_.size() == 1) {
        o.points[0].push_back(constant_of(point, "a point").hi);
        continue;
      }
      if (!coordinates || coordinates->size() != axis_names_.size())
        fail(point.source().begin, "a point must be [" + joined(axis_names_) + "]");
      for (std::size_t k = 0; k < axis_names_.size(); ++k)
        o.points[k].push_back(constant_of(*coordinates->get(k), "a coordinate").hi);
    }
    for (const auto& value : *list) o.values.push_back(constant_of(value, "a value").hi);
  }

  [[nodiscard]] bool observed() const {
    return result_.measurements && result_.measurements->observations.has_value();
  }

  /// What is solved with noise, and the options of its solver.
  void check_noisy() {
    if (!result_.measurements) return;
    const std::string rest = " with noisy data is not solved yet";
    if (result_.gp_hm) fail(method_position_, "method 'gp-hm'" + rest);
    if (axis_names_.size() > 2) fail(noise_position_, "three dimensions" + rest);
    if (!equation_.linear) fail(equation_position_, "a nonlinear equation" + rest);
    for (const auto& orders : equation_.orders) {
      int total = 0;
      for (const int order : orders) total += order;
      if (total > 2)
        fail(equation_position_, "a derivative of order " + std::to_string(total) + rest);
    }
    for (std::size_t i = 0; i < axis_names_.size(); ++i)
      for (std::size_t end = 0; end < 2; ++end) {
        const Side& side = result_.problem.sides[i][end];
        if (side.kind == SideKind::derivative || side.kind == SideKind::linear ||
            !side.also.empty())
          fail(section_position("bc").line != 0 ? section_position("bc") : noise_position_,
               "several conditions on a side, or one on a higher derivative," + rest);
      }
    InferenceOptions& inference = result_.inference;
    const Options& options = result_.options;
    if (options.slabs != 1) fail(section_position("solver"), "slabs in time" + rest);
    inference.kernel = options.kernel;
    inference.bands = options.bands;
    inference.nodes_per_axis = options.nodes_per_axis;
    inference.nodes = options.nodes;
    inference.threads = options.threads;
    inference.memory_limit = options.memory_limit;
  }

  // -- kernel and output --

  /// @param  length  the longest interval that they are for
  std::vector<Band> bands_of(const toml::node& node, double length) const {
    const auto* array = node.as_array();
    if (!array) fail_type(node, "bands", "an array of [lower, upper]");
    if (array->empty()) fail(node.source().begin, "bands is empty; \"auto\" infers them");
    std::vector<Band> bands;
    for (const auto& element : *array) {
      const auto* pair = element.as_array();
      if (!pair || pair->size() != 2)
        fail(element.source().begin, "a band must be [lower, upper], in radians per unit length");
      const Band band{constant_of(*pair->get(0), "lower end of a band").hi,
                      constant_of(*pair->get(1), "upper end of a band").hi};
      if (!(band.lower >= 0 && band.lower < band.upper))
        fail(element.source().begin, "band [" + number_text(band.lower) + ", " +
                                         number_text(band.upper) +
                                         "], must have 0 <= lower < upper");
      require_memory(element.source().begin,
                     detail::band_bytes(band, length, result_.options.max_modes),
                     "frequency " + number_text(band.upper));
      bands.push_back(band);
    }
    return bands;
  }

  void read_kernel() {
    const auto* table = section("kernel");
    if (!table) return;
    if (result_.gp_hm) {
      check_keys(*table, "[kernel] with method = \"gp-hm\"", {"type"});
      if (const auto* node = table->get("type")) {
        constexpr HmKernel kernels[] = {HmKernel::student_t, HmKernel::gaussian, HmKernel::matern,
                                        HmKernel::se};
        result_.gp_hm->kernel =
            kernels[word_of(*node, "type", {"student-t", "gaussian", "matern", "se"})];
      }
      return;
    }
    check_keys(*table, "[kernel]", {"type", "bands", "refine", "width"});
    Options& options = result_.options;
    if (const auto* node = table->get("type")) {
      constexpr KernelType types[] = {KernelType::gaussian, KernelType::gaussian,
                                      KernelType::student_t, KernelType::matern,
                                      KernelType::periodic};
      options.kernel = types[word_of(
          *node, "type", {"spectral-mixture", "gaussian", "student-t", "matern", "periodic"})];
      if (options.kernel == KernelType::periodic)
        for (std::size_t i = 0; i < axis_names_.size(); ++i)
          for (std::size_t end = 0; end < 2; ++end)
            if (result_.problem.sides[i][end].kind != SideKind::periodic)
              fail(node->source().begin,
                   "kernel 'periodic' needs periodic sides, and side " +
                       side_name(result_.problem.axes[i], end) + " is " +
                       std::string(kind_text(result_.problem.sides[i][end].kind)));
    }
    if (const auto* node = table->get("refine")) {
      const bool learn = word_of(*node, "refine", {"none", "marginal-likelihood"}) == 1;
      if (learn && !result_.measurements)
        fail(node->source().begin,
             "refine 'marginal-likelihood' is for noisy data ([observations], or a forcing with "
             "noise); for exact data it is not solved yet; use \"none\"");
      result_.inference.refine = learn;
    }
    if (const auto* node = table->get("width"))
      fail(node->source().begin,
           "a width of the bands is not solved yet; give each band as [lower, upper]");
    const auto* node = table->get("bands");
    if (!node) return;
    const auto length = [&](std::size_t i) {
      return (result_.problem.axes[i].upper - result_.problem.axes[i].lower).hi;
    };
    if (const auto* per_axis = node->as_table()) {
      check_keys(*per_axis, "bands", axis_names_);
      for (const auto& name : axis_names_) {
        const auto* bands = per_axis->get(name);
        if (!bands) fail(node->source().begin, "bands has no entry for dimension " + name);
        options.bands.push_back(bands_of(*bands, length(options.bands.size())));
      }
    } else if (node->is_array()) {
      double longest = 0;
      for (std::size_t i = 0; i < axis_names_.size(); ++i) longest = std::max(longest, length(i));
      options.bands.assign(axis_names_.size(), bands_of(*node, longest));
    } else {
      (void)word_of(*node, "bands", {"auto"});
    }
  }

  void read_output() {
    OutputOptions& output = result_.output;
    const Problem& problem = result_.problem;
    output.points.assign(axis_names_.size(), axis_names_.size() == 3 ? 100 : 300);
    output.formats = {"npy"};
    const OutputField solution{"u", FieldKind::derivative, std::vector<int>(axis_names_.size(), 0)};
    output.fields = {solution};
    if (system()) output.fields = system_fields();
    const auto* table = section("output");
    if (table) check_keys(*table, "[output]", {"points", "fields", "formats", "samples", "seed"});
    Position points_position = section_position("output");
    if (const auto* node = table ? table->get("points") : nullptr) {
      output.points = sizes_of(*node, "points", 2);
      points_position = node->source().begin;
    }
    if (const auto* node = table ? table->get("fields") : nullptr) {
      const auto* array = node->as_array();
      if (!array) fail_type(*node, "fields", "an array of names");
      Names seen;
      for (const auto& element : *array)
        for (const OutputField& field :
             system() ? system_fields_of(element) : std::vector<OutputField>{field_of(element)}) {
          if (contains(seen, field.name))
            fail(element.source().begin, "field '" + field.name + "' is given twice");
          seen.push_back(field.name);
          if (!contains(field_names_, field.name)) output.fields.push_back(field);
        }
    } else if (system()) {
      for (std::size_t i = 0; i < field_names_.size(); ++i)
        if (result_.system->fields[i].exact)
          output.fields.push_back({"error_" + field_names_[i], FieldKind::error, {}, i});
    } else {
      if (result_.measurements)
        output.fields.push_back(
            {"std", FieldKind::deviation, std::vector<int>(axis_names_.size(), 0)});
      if (problem.exact && axis_names_.size() < 3)
        output.fields.push_back({"error", FieldKind::error, {}});
    }
    if (const auto* node = table ? table->get("formats") : nullptr) {
      const auto* array = node->as_array();
      if (!array) fail_type(*node, "formats", "an array of names");
      static const Names known{"npy", "vti", "csv", "h5"};
      for (const auto& element : *array) {
        const std::string& format = known[word_of(element, "format", known)];
        if (!contains(output.formats, format)) output.formats.push_back(format);
      }
    }
    for (const char* key : {"samples", "seed"})
      if (const auto* node = table ? table->get(key) : nullptr) {
        if (!result_.measurements)
          fail(node->source().begin, std::string(key) +
                                         " needs noisy data: [observations], or a forcing with "
                                         "noise");
        if (*key == 's' && key[1] == 'a')
          output.samples = integer_of(*node, key, 1, 100000);
        else
          output.seed = static_cast<std::uint64_t>(integer_of(*node, key, 0, 1000000000000000));
      }
    double points = 1;
    for (const std::ptrdiff_t n : output.points) points *= static_cast<double>(n);
    require_memory(points_position,
                   8 * points * static_cast<double>(std::ssize(output.fields) + output.samples),
                   "[output] points");
    for (const char* key : {"points", "fields", "formats"}) {
      const auto* node = table ? table->get(key) : nullptr;
      output_positions_[key] = node ? node->source().begin : section_position("output");
    }
  }

  OutputField field_of(const toml::node& node) const {
    const Problem& problem = result_.problem;
    const std::string name(string_of(node, "a field", "a name"));
    const Position position = node.source().begin;
    if (name == "std" || name.starts_with("std_")) {
      if (!result_.measurements)
        fail(position, "field " + quote(name) +
                           " (posterior deviation) needs noisy data: [observations], or a forcing "
                           "with noise");
      const auto orders = detail::derivative_orders(problem.axes, name, "std");
      int total = 0;
      if (orders)
        for (const int order : *orders) total += order;
      if (!orders || total > 2)
        fail(position, "unknown field " + quote(name) +
                           ": std, or std_ with the axes of a derivative to second order");
      return {detail::derivative_name(problem.axes, *orders, "std"), FieldKind::deviation, *orders};
    }
    if (name == "residual") return {name, FieldKind::residual, {}};
    if (name == "error") {
      if (!problem.exact) fail(position, "field 'error' needs [exact] u");
      return {name, FieldKind::error, {}};
    }
    if (name == problem.forcing_symbol && operator_.forcing_factor != 0)
      return {name, FieldKind::forcing, {}};
    const auto orders = detail::derivative_orders(problem.axes, name);
    if (!orders) {
      Names known{"u", "residual", "error"};
      if (operator_.forcing_factor != 0) known.push_back(problem.forcing_symbol);
      for (const auto& a : axis_names_) {
        known.push_back("u_" + a);
        for (const auto& b : axis_names_) known.push_back("u_" + a + b);
      }
      fail(position, "unknown field " + quote(name) + suggestion(name, known) +
                         " (known: " + joined(known) + ")");
    }
    check_order(*orders, name, [&](const std::string& message) { fail(position, message); });
    return {detail::derivative_name(problem.axes, *orders), FieldKind::derivative, *orders};
  }

  // -- checks of the whole --

  int axis_order(std::size_t axis) const {
    int highest = 0;
    for (const auto& orders : equation_.orders) highest = std::max(highest, orders[axis]);
    return highest;
  }

  /// Sign of a constant coefficient, 0 if it is absent or varies.
  int sign_of(const std::vector<int>& orders) const {
    const auto found = operator_.coefficients.find(orders);
    if (found == operator_.coefficients.end() || !found->second.is_constant()) return 0;
    const double value = found->second.constant().hi;
    return value > 0 ? 1 : value < 0 ? -1 : 0;
  }

  void check_well_posed() {
    const Problem& problem = result_.problem;
    const Position bc =
        section_position("bc").line != 0 ? section_position("bc") : section_position("equation");
    bool derivative = false;
    for (const auto& orders : equation_.orders)
      for (const int order : orders) derivative = derivative || order > 0;
    if (!derivative)
      fail(equation_position_, "the equation has no derivative of u: there is nothing to solve");
    for (std::size_t i = 0; i < problem.axes.size(); ++i)
      for (std::size_t end = 0; end < 2; ++end)
        if (problem.sides[i][end].kind == SideKind::periodic &&
            problem.sides[i][1 - end].kind != SideKind::periodic)
          fail(side_positions_[i][end],
               "side " + side_name(problem.axes[i], end) + " is periodic, so side " +
                   side_name(problem.axes[i], 1 - end) + " must be periodic too");
    if (problem.axes.size() == 3) check_box();
    const bool strong = detail::needs_strong_conditions(problem, equation_.orders, operator_);
    if (result_.measurements) {
      bool beyond = strong || (problem.axes.size() == 1 && axis_order(0) > 2);
      for (const auto& sides : problem.sides)
        for (const Side& side : sides)
          beyond = beyond || !side.also.empty() || side.kind == SideKind::derivative ||
                   side.kind == SideKind::linear;
      if (beyond)
        fail(equation_position_,
             "a hyperbolic equation, one above second order, or conditions other than one of "
             "dirichlet, neumann or robin a side: with noisy data these are not solved yet");
    }
    if (strong) {
      check_strong(bc);
      return;
    }

    for (std::size_t i = 0; i < problem.axes.size(); ++i) {
      const Axis& axis = problem.axes[i];
      const auto& [lower, upper] = problem.sides[i];
      if (lower.kind == SideKind::periodic) continue;
      const auto all = detail::conditions_of(problem, static_cast<std::ptrdiff_t>(i));
      if (problem.axes.size() == 1 && (all.size() > 1 || axis_order(i) > 2)) {
        if (static_cast<int>(all.size()) != axis_order(i))
          fail(bc, "sides " + axis.name + "- and " + axis.name + "+ have " +
                       std::to_string(all.size()) + " conditions: the equation is of order " +
                       std::to_string(axis_order(i)) + " in " + axis.name +
                       " and takes as many, on one side or on both");
        continue;
      }
      const int given = (lower.kind != SideKind::none) + (upper.kind != SideKind::none);
      switch (axis_order(i)) {
        case 0:
          if (given != 0)
            fail(side_positions_[i][lower.kind != SideKind::none ? 0 : 1],
                 "the equation has no derivative in " + axis.name +
                     ", so the sides of that dimension can have no condition");
          break;
        case 1:
          if (given == 0 && !observed())
            fail(bc, "sides " + axis.name + "- and " + axis.name + "+ have no condition: u_" +
                         axis.name + " needs one on one of the two");
          if (given == 2)
            fail(side_positions_[i][1], "sides " + axis.name + "- and " + axis.name +
                                            "+ both have a condition: the equation is of first "
                                            "order in " +
                                            axis.name +
                                            " and takes one, the other side is \"none\"");
          for (std::size_t end = 0; end < 2; ++end) {
            const Side& side = problem.sides[i][end];
            if (problem.axes.size() == 2 && side.kind != SideKind::none && side.b != 0)
              fail(side_positions_[i][end], "side " + side_name(axis, end) +
                                                " has a condition on du/dn: the equation is "
                                                "of first order in " +
                                                axis.name + " and takes one on u (dirichlet)");
          }
          break;
        default:
          for (std::size_t end = 0; end < 2; ++end)
            if (problem.sides[i][end].kind == SideKind::none && !observed())
              fail(side_positions_[i][end].line != 0 ? side_positions_[i][end] : bc,
                   "side " + side_name(axis, end) +
                       " has no condition: the equation is of second "
                       "order in " +
                       axis.name + " and needs one on both sides");
      }
    }
    check_unique();
    if (problem.axes.size() == 2) check_directions();
  }

  /// Two dimensions, several conditions on a side or derivatives above second order.
  void check_strong(Position bc) const {
    const auto wrong = detail::objection_to(result_.problem, equation_.orders, operator_);
    if (!wrong) {
      bool free = !contains(equation_.names, "u");
      for (std::ptrdiff_t i = 0; i < 2; ++i)
        for (const auto& condition : detail::conditions_of(result_.problem, i))
          if (condition.coefficients[0] != 0) free = false;
      if (free)
        fail(bc,
             "no condition has u itself, nor has the equation: u is determined up to a constant "
             "only, which is not solved for an equation of this kind");
      return;
    }
    if (wrong->axis < 0) fail(equation_position_, wrong->found + ", must be " + wrong->rule);
    const auto axis = static_cast<std::size_t>(wrong->axis);
    const std::string& name = axis_names_[axis];
    Position position = bc;
    for (std::size_t end = 2; end-- > 0;)
      if (side_positions_[axis][end].line != 0 &&
          (wrong->side < 0 || static_cast<std::size_t>(wrong->side) == end))
        position = side_positions_[axis][end];
    fail(position, (wrong->side < 0 ? "sides " + name + "- and " + name + "+"
                                    : "side " + side_name(result_.problem.axes[axis],
                                                          static_cast<std::size_t>(wrong->side))) +
                       ": " + wrong->found + ", must be " + wrong->rule);
  }

  /// Says so where constants solve the homogeneous problem.
  void check_unique() {
    const Problem& problem = result_.problem;
    if (contains(equation_.names, "u") || observed()) return;
    for (std::size_t i = 0; i < problem.axes.size(); ++i)
      for (const auto& condition : detail::conditions_of(problem, static_cast<std::ptrdiff_t>(i)))
        if (condition.coefficients[0] != 0) return;
    // In the solver's words, so that a program that has both warnings shows one.
    warn(problem.exact ? "u is free up to a constant: its mean is that of the exact solution"
                       : "u is free up to a constant: its mean is set to zero");
  }

  /// First-order directions of constant-coefficient equations: where information enters.
  void check_directions() {
    const Problem& problem = result_.problem;
    int first_order = 0;
    for (std::size_t i = 0; i < 2; ++i) first_order += axis_order(i) == 1;
    const auto given = [&](std::size_t i) {  // -1 lower, +1 upper, 0 periodic or neither
      if (problem.sides[i][0].kind == SideKind::none && problem.sides[i][1].kind == SideKind::none)
        return 0;
      if (problem.sides[i][0].kind == SideKind::periodic) return 0;
      return problem.sides[i][0].kind != SideKind::none ? -1 : 1;
    };
    if (first_order == 2) {
      const int direction = sign_of({1, 0}) * sign_of({0, 1}) * given(0) * given(1);
      if (direction < 0) {
        const bool upper = given(1) > 0;
        fail(side_positions_[1][upper ? 1 : 0],
             "the conditions on " + side_name(problem.axes[0], given(0) > 0 ? 1 : 0) + " and " +
                 side_name(problem.axes[1], upper ? 1 : 0) +
                 " are ill-posed: some characteristics meet both of them, others neither");
      }
    }
    for (std::size_t t = 0; t < 2; ++t) {
      const std::size_t x = 1 - t;
      if (axis_order(t) != 1 || axis_order(x) != 2) continue;
      std::vector<int> first(2, 0), second(2, 0);
      first[t] = 1;
      second[x] = 2;
      // u_t = c u_xx runs forward for c > 0: signs of u_t and u_xx differ when both stand on a
      // side.
      const int forward = -sign_of(first) * sign_of(second);
      if (forward * given(t) > 0)
        fail(side_positions_[t][given(t) > 0 ? 1 : 0],
             "the condition on " + side_name(problem.axes[t], given(t) > 0 ? 1 : 0) +
                 " is ill-posed: diffusion in " + problem.axes[x].name + " cannot run " +
                 (forward > 0 ? "backward" : "forward") + " in " + problem.axes[t].name +
                 "; give it on " + side_name(problem.axes[t], given(t) > 0 ? 0 : 1));
    }
  }

  /// What three dimensions admit: a sum of second derivatives of one sign, and u.
  void check_box() const {
    const std::string rest = "; in three dimensions these are not solved yet";
    if (result_.gp_hm) fail(method_position_, "method 'gp-hm' is for one and two dimensions");
    if (!equation_.linear) fail(equation_position_, "a nonlinear equation" + rest);
    for (std::size_t k = 0; k < equation_.partial.size(); ++k)
      if (!equation_.partial[k].is_constant())
        fail(equation_position_,
             "the coefficient of " +
                 detail::derivative_name(result_.problem.axes, equation_.orders[k]) + " varies" +
                 rest);
    for (const auto& [orders, coefficient] : operator_.coefficients) {
      int total = 0, highest = 0;
      for (const int order : orders) {
        total += order;
        highest = std::max(highest, order);
      }
      const std::string name = detail::derivative_name(result_.problem.axes, orders);
      if (total > 2) fail(equation_position_, "the derivative " + name + rest);
      if (!coefficient.is_constant())
        fail(equation_position_, "the coefficient of " + name + " varies" + rest);
      if (highest == 1)
        fail(equation_position_, "the derivative " + name +
                                     (total == 1 ? " of first order" : ", which is mixed") + rest);
    }
    for (std::size_t i = 0; i < 3; ++i) {
      std::vector<int> orders(3, 0), first(3, 0);
      orders[i] = first[0] = 2;
      if (sign_of(orders) == 0 || sign_of(orders) != sign_of(first))
        fail(equation_position_,
             "the equation is not elliptic: in three dimensions each has a second derivative, all "
             "of one sign");
    }
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t end = 0; end < 2; ++end) {
        const Side& side = result_.problem.sides[i][end];
        if (!side.also.empty() || side.kind == SideKind::derivative ||
            side.kind == SideKind::linear)
          fail(side_positions_[i][end],
               "several conditions on a side, or one of another kind" + rest);
      }
    if (std::holds_alternative<GridSamples>(result_.problem.forcing))
      fail(equation_position_, "a forcing from an array" + rest);
    if (!result_.options.nodes_per_axis.empty())
      fail(section_position("grid"), "[grid] n in three dimensions is not solved yet");
  }

  /// Calls check(point, values) on about 1000 points of the box, or of one side (`fixed` axis).
  template <class Check>
  void sample(const std::vector<Expression>& formulas, std::optional<std::size_t> fixed,
              std::size_t end, const Check& check) const {
    const Problem& problem = result_.problem;
    std::vector<std::vector<double>> axes;
    std::size_t total = 1;
    const std::size_t free = problem.axes.size() - (fixed ? 1u : 0u);
    for (std::size_t i = 0; i < problem.axes.size(); ++i) {
      const Axis& axis = problem.axes[i];
      if (fixed && *fixed == i)
        axes.push_back({end == 0 ? axis.lower.hi : axis.upper.hi});
      else
        axes.push_back(uniform_points(axis.lower.hi, axis.upper.hi,
                                      free == 1   ? 1001
                                      : free == 2 ? 33
                                                  : 11));
      total *= axes.back().size();
    }
    const Program<double> code(formulas, axis_names_);
    std::vector<double> values(total * formulas.size());
    code.on_grid(axes, values, 1);
    std::vector<double> point(axes.size()), here(formulas.size());
    for (std::size_t k = 0; k < total; ++k) {
      std::size_t rest = k;
      for (std::size_t i = axes.size(); i-- > 0; rest /= axes[i].size())
        point[i] = axes[i][rest % axes[i].size()];
      for (std::size_t j = 0; j < formulas.size(); ++j) here[j] = values[j * total + k];
      check(point, here);
    }
  }

  std::string point_text(const std::vector<double>& point) const {
    std::string text;
    for (std::size_t i = 0; i < point.size(); ++i)
      text += (i ? ", " : "") + axis_names_[i] + " = " + number_text(point[i]);
    return text;
  }

  void require_finite(const Expression& formula, Position position, const std::string& what,
                      std::optional<std::size_t> fixed = {}, std::size_t end = 0) const {
    sample({formula}, fixed, end, [&](const auto& point, const auto& value) {
      if (!std::isfinite(value[0]))
        fail(position, what + " = " + number_text(value[0]) + " at " + point_text(point) +
                           ", must be finite");
    });
  }

  void check_finite() {
    const Problem& problem = result_.problem;
    if (problem.exact) require_finite(*problem.exact, exact_position_, "exact u");
    require_finite(operator_.source, equation_position_, "the equation's part without u");
    if (const auto* formula = std::get_if<Expression>(&problem.forcing))
      require_finite(
          *formula, forcing_position_,
          problem.forcing_symbol + (result_.forcing_automatic ? " (made from [exact])" : ""));
    for (const auto& [orders, coefficient] : operator_.coefficients)
      if (!coefficient.is_constant())
        check_variable(coefficient, detail::derivative_name(problem.axes, orders),
                       orders[0] == axis_order(0));
    for (std::size_t i = 0; i < problem.axes.size(); ++i)
      for (std::size_t end = 0; end < 2; ++end)
        for (std::size_t k = 0; k <= problem.sides[i][end].also.size(); ++k) {
          const Side& side = condition_of(problem.sides[i][end], k);
          if (side.kind == SideKind::none) continue;
          const auto& positions = condition_positions_[{i, end}];
          require_finite(side.g,
                         positions.size() > 1 ? positions[std::min(k, positions.size() - 1)]
                                              : side_positions_[i][end],
                         "g on side " + side_name(problem.axes[i], end), i, end);
        }
  }

  void check_variable(const Expression& coefficient, const std::string& name, bool leading) {
    bool positive = false, negative = false, zero = false;
    sample({coefficient}, {}, 0, [&](const auto& point, const auto& value) {
      if (!std::isfinite(value[0]))
        fail(equation_position_, "the coefficient of " + name + " = " + number_text(value[0]) +
                                     " at " + point_text(point) + ", must be finite");
      positive = positive || value[0] > 0;
      negative = negative || value[0] < 0;
      zero = zero || value[0] == 0;
    });
    if (leading && (zero || (positive && negative)))
      warn("the coefficient of " + name +
           " vanishes in the domain: the equation is singular there");
  }

  /// What the writer refuses is refused here, with its place.
  void check_written() const {
    try {
      check_output(result_);
    } catch (const DomainError& error) {
      const auto found = output_positions_.find(error.argument());
      fail(found != output_positions_.end() ? found->second : section_position("output"),
           error.what());
    }
  }

  /// [exact] must solve what is solved, or the reported error means nothing.
  void check_exact() {
    const Problem& problem = result_.problem;
    constexpr double tolerance = 1e-8;
    if (!problem.exact) return;
    const auto* formula = std::get_if<Expression>(&problem.forcing);
    if (formula && !result_.forcing_automatic) {
      std::vector<Expression> parts{
          with_exact(problem.equation).substitute(problem.forcing_symbol, *formula)};
      for (std::size_t k = 0; k < equation_.names.size(); ++k)
        parts.push_back(with_exact(equation_.partial[k] * Expression::symbol(equation_.names[k])));
      double largest = 0, scale = 0;
      std::vector<double> worst;
      sample(parts, {}, 0, [&](const auto& point, const auto& values) {
        if (!(std::abs(values[0]) <= largest)) {
          largest = std::abs(values[0]);
          worst = point;
        }
        for (std::size_t j = 1; j < values.size(); ++j)
          scale = std::max(scale, std::abs(values[j]));
      });
      if (!(largest <= tolerance * scale))
        warn("[exact] u does not solve the equation: residual " + number_text(largest) + " at " +
             point_text(worst) + " (largest term " + number_text(scale) + ")");
    }
    for (const auto& [i, end, index] : conditions_to_compare_) {
      const Side& side = condition_of(problem.sides[i][end], index);
      const Expression known = side_value(*problem.exact, problem.axes[i], end, side);
      double largest = 0, scale = 0;
      sample({known, side.g}, i, end, [&](const auto&, const auto& values) {
        const double difference = std::abs(values[0] - values[1]);
        if (!(difference <= largest)) largest = difference;
        scale = std::max({scale, std::abs(values[0]), std::abs(values[1])});
      });
      if (!(largest <= tolerance * scale))
        warn("[exact] u does not fulfil the condition on side " + side_name(problem.axes[i], end) +
             ": it misses g by up to " + number_text(largest));
    }
  }

  std::string_view text_;
  std::filesystem::path base_;
  std::vector<std::string_view> lines_;
  toml::table root_;
  PdeFile result_;
  std::map<std::string, Expression> parameters_;
  std::map<std::string, std::string> names_;  ///< every name in use and what it is
  Names axis_names_, forcing_names_;
  Names field_names_{"u"};
  std::string equation_key_ = "expr", side_field_ = "u";
  bool system_ = false;
  std::vector<Position> field_positions_, exact_positions_;  ///< of a system's equations, [exact]
  std::vector<Entry> forcings_;
  detail::Equation equation_;
  LinearOperator operator_;
  std::vector<std::array<Position, 2>> side_positions_;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<Position>> condition_positions_;
  std::vector<std::array<std::size_t, 3>> conditions_to_compare_;  ///< axis, end, number: g is not
                                                                   ///< "exact"
  Position exact_position_, equation_position_, forcing_position_, method_position_;
  Position noise_position_;
  bool nodes_given_ = false;
  std::map<std::string, Position, std::less<>> output_positions_;
};

}  // namespace

PdeFile parse_pde_file(std::string_view text, std::string_view file_name,
                       const std::filesystem::path& base_directory) {
  return Reader(text, file_name, base_directory).read();
}

PdeFile read_pde_file(const std::filesystem::path& path) {
  return parse_pde_file(read_file(path, max_file_size), path.string(), path.parent_path());
}

namespace {

/// Kernel, grid and solver of method gp-hm.
template <class Label>
void describe_gp_hm(std::ostream& out, const Label& label, const HmOptions& options,
                    std::size_t dimensions) {
  constexpr std::string_view kernels[] = {"Student-t mixture", "Gaussian mixture", "Matern-5/2",
                                          "squared exponential"};
  const bool mixture =
      options.kernel == HmKernel::student_t || options.kernel == HmKernel::gaussian;
  label("kernel");
  out << kernels[static_cast<int>(options.kernel)];
  if (mixture)
    out << ", " << options.components << " components, first at 0 to "
        << number_text(options.frequency_range) << " cycles per unit length";
  out << ", jitter " << number_text(options.jitter) << '\n';
  label("grid");
  for (std::size_t i = 0; i < dimensions; ++i)
    out << (i ? " x " : "")
        << (options.points.empty() ? (dimensions == 1 ? 400 : 200) : options.points[i]);
  out << ", uniform nodes\n";
  label("solver");
  out << "method gp-hm, " << options.iterations << " steps of "
      << (options.optimiser == HmOptimiser::adam ? "Adam" : "L-BFGS");
  if (options.optimiser == HmOptimiser::adam) {
    out << " at rate " << number_text(options.learning_rate);
    if (options.final_learning_rate > 0)
      out << " falling to " << number_text(options.final_learning_rate);
  }
  out << ", conditions weighted by " << number_text(options.boundary_weight) << ", tolerance "
      << number_text(options.tolerance) << '\n';
}

}  // namespace

namespace {

/// Equation, forcing, sides and exact solution.
template <class Label, class Formula>
void describe_equation(std::ostream& out, const Label& label, const Formula& formula,
                       const PdeFile& file) {
  const Problem& problem = file.problem;
  label("equation");
  std::string left;
  for (const auto& [name, coefficient] : file.terms) {
    const bool constant = coefficient.is_constant();
    const double value = constant ? coefficient.constant().hi : 1;
    left += left.empty() ? (value < 0 ? "-" : "") : (value < 0 ? " - " : " + ");
    if (!constant)
      left += '(' + formula(coefficient) + ")*";
    else if (std::abs(value) != 1)
      left += number_text(std::abs(value)) + '*';
    left += name;
  }
  out << (file.linear ? left : formula(file.left)) << " = " << formula(file.right_hand_side)
      << (file.linear ? "" : "  (nonlinear)") << '\n';
  if (file.right_hand_side.depends_on(problem.forcing_symbol)) {
    label("forcing");
    out << problem.forcing_symbol << " = ";
    if (const auto* samples = std::get_if<GridSamples>(&problem.forcing)) {
      out << "array of ";
      for (std::size_t i = 0; i < samples->axes.size(); ++i)
        out << (i ? " x " : "") << samples->axes[i].size();
      out << " samples\n";
    } else {
      out << formula(std::get<Expression>(problem.forcing))
          << (file.forcing_automatic ? "  (made from the exact solution)" : "") << '\n';
    }
  }
  bool first = true;
  for (std::size_t i = 0; i < problem.axes.size(); ++i)
    for (std::size_t end = 0; end < 2; ++end) {
      for (std::size_t k = 0; k <= problem.sides[i][end].also.size(); ++k) {
        const Side& side = condition_of(problem.sides[i][end], k);
        label(std::exchange(first, false) ? "sides" : "");
        out << side_name(problem.axes[i], end) << ' ' << kind_text(side.kind);
        if (side.kind == SideKind::dirichlet) out << ": u = " << formula(side.g);
        if (side.kind == SideKind::neumann) out << ": du/dn = " << formula(side.g);
        if (side.kind == SideKind::robin)
          out << ": " << number_text(side.a) << "*u + " << number_text(side.b)
              << "*du/dn = " << formula(side.g);
        if (side.kind == SideKind::derivative || side.kind == SideKind::linear) {
          out << ": ";
          const auto c = detail::condition_coefficients(side, static_cast<int>(end));
          bool more = false;
          for (std::size_t j = 0; j < c.size(); ++j) {
            if (c[j] == 0) continue;
            std::vector<int> orders(problem.axes.size(), 0);
            orders[i] = static_cast<int>(j);
            if (std::exchange(more, true)) out << " + ";
            if (c[j] != 1) out << number_text(c[j]) << '*';
            out << detail::derivative_name(problem.axes, orders);
          }
          out << " = " << formula(side.g);
        }
        out << '\n';
      }
    }
  if (file.measurements) {
    const auto noise = [](const Noise& n) {
      return n.learn ? std::string("learnt") : number_text(n.level);
    };
    label("noise");
    const auto& o = file.measurements->observations;
    if (file.measurements->forcing)
      out << problem.forcing_symbol << ": " << noise(*file.measurements->forcing)
          << (o ? "; " : "");
    if (o)
      out << o->values.size() << (o->values.size() == 1 ? " observation" : " observations")
          << " of u: " << (o->deviations.empty() ? noise(o->noise) : "of each its own");
    out << '\n';
  }
  if (problem.exact) {
    label("exact");
    out << "u = " << formula(*problem.exact) << "  (for the error only)\n";
  }
}

/// Equations, forcings, sides and exact solutions of a system.
template <class Label, class Formula>
void describe_system(std::ostream& out, const Label& label, const Formula& formula,
                     const PdeFile& file) {
  const SystemProblem& problem = *file.system;
  for (std::size_t i = 0; i < problem.fields.size(); ++i) {
    label(i == 0 ? "equations" : "");
    out << problem.fields[i].name << ": " << formula(problem.fields[i].equation) << " = 0"
        << (file.linear || i > 0 ? "" : "  (nonlinear)") << '\n';
  }
  bool first = true;
  for (const auto& [name, value] : problem.forcing) {
    label(std::exchange(first, false) ? "forcing" : "");
    out << name << " = " << formula(value) << '\n';
  }
  first = true;
  for (const SystemSide& side : problem.sides) {
    const Side& c = side.condition;
    label(std::exchange(first, false) ? "sides" : "");
    out << side.side << ' ' << kind_text(c.kind);
    if (c.kind == SideKind::dirichlet) out << ": " << side.field << " = " << formula(c.g);
    if (c.kind == SideKind::neumann) out << ": d" << side.field << "/dn = " << formula(c.g);
    if (c.kind == SideKind::robin)
      out << ": " << number_text(c.a) << '*' << side.field << " + " << number_text(c.b) << "*d"
          << side.field << "/dn = " << formula(c.g);
    if (c.kind == SideKind::periodic || c.kind == SideKind::none) out << ": " << side.field;
    out << '\n';
  }
  first = true;
  for (const SystemField& field : problem.fields) {
    if (!field.exact) continue;
    label(std::exchange(first, false) ? "exact" : "");
    out << field.name << " = " << formula(*field.exact) << "  (for the error only)\n";
  }
}

}  // namespace

std::string describe(const PdeFile& file) {
  constexpr std::size_t longest = 400;
  const Problem& problem = file.problem;
  const Options& options = file.options;
  std::ostringstream out;
  out.imbue(std::locale::classic());
  const auto label = [&](std::string_view name) {
    out << "  " << name << std::string(name.size() < 10 ? 10 - name.size() : 1, ' ');
  };
  const auto formula = [&](const Expression& expression) {
    const std::string text = readable(expression.brief_text(10 * longest));
    return text.size() <= longest ? text : text.substr(0, longest) + "...";
  };
  Names axis_names;
  for (const Axis& axis : problem.axes) axis_names.push_back(axis.name);
  out << escape_text(file.file) << '\n';
  label("domain");
  for (std::size_t i = 0; i < problem.axes.size(); ++i)
    out << (i ? ", " : "") << problem.axes[i].name << " in ["
        << number_text(problem.axes[i].lower.hi) << ", " << number_text(problem.axes[i].upper.hi)
        << "]";
  out << '\n';
  if (file.system)
    describe_system(out, label, formula, file);
  else
    describe_equation(out, label, formula, file);
  if (file.gp_hm) {
    describe_gp_hm(out, label, *file.gp_hm, problem.axes.size());
  } else {
    label("kernel");
    out << kernel_text(options.kernel) << ", "
        << (file.measurements
                ? file.inference.refine ? "learnt from bands " : "variances learnt, bands "
                : "bands ");
    if (options.bands.empty()) out << "inferred";
    for (std::size_t i = 0; i < options.bands.size(); ++i) {
      out << (i ? "; " : "") << axis_names[i] << ':';
      for (const Band& band : options.bands[i])
        out << " [" << number_text(band.lower) << ", " << number_text(band.upper) << "]";
    }
    out << '\n';
    label("grid");
    if (options.nodes_per_axis.empty()) out << "chosen";
    for (std::size_t i = 0; i < options.nodes_per_axis.size(); ++i)
      out << (i ? " x " : "") << options.nodes_per_axis[i];
    out << ", " << nodes_text(options.nodes) << " nodes\n";
    label("solver");
    if (file.measurements) {
      out << "posterior of noisy data, at most " << file.inference.max_features << " features and "
          << memory_text(static_cast<double>(options.memory_limit)) << " of memory\n";
    } else {
      out << method_text(options.method) << ", set-up in "
          << (options.setup_precision == Precision::dd ? "double-double" : "double")
          << (file.problem.axes.size() == 3 || options.precision == Precision::double_
                  ? ", solves in double"
                  : "")
          << ", tolerance " << (options.tolerance > 0 ? number_text(options.tolerance) : "chosen")
          << ", at most " << options.max_modes << " modes a dimension and "
          << memory_text(static_cast<double>(options.memory_limit)) << " of memory";
      if (options.slabs != 1)
        out << ", time in "
            << (options.slabs == 0 ? "as many slabs as it takes"
                                   : std::to_string(options.slabs) + " slabs");
      out << '\n';
    }
  }
  label("output");
  for (std::size_t i = 0; i < file.output.points.size(); ++i)
    out << (i ? " x " : "") << file.output.points[i];
  out << " points:";
  for (std::size_t i = 0; i < file.output.fields.size(); ++i)
    out << (i ? ", " : " ") << file.output.fields[i].name;
  if (file.output.samples > 0) out << "; " << file.output.samples << " samples";
  out << "; formats " << joined(file.output.formats) << '\n';
  return out.str();
}

}  // namespace halfulp::gp_pde
