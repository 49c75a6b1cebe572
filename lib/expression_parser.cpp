#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "detail/expression_node.hpp"
#include "halfulp/error.hpp"
#include "halfulp/expression.hpp"

namespace halfulp {
namespace {

using detail::make;
using detail::NodePtr;
using detail::Op;

constexpr std::size_t max_bytes = 64 * 1024;
constexpr std::size_t max_digits = 1000;
constexpr int max_nesting = 200;

enum class Kind { number, name, symbol, end };

struct Token {
  Kind kind = Kind::end;
  std::string_view text;  // of a symbol its canonical form
  std::size_t at = 0;     // byte
  std::size_t length = 0;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_digit(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = lower(c);
  return out;
}

/// Bytes that a terminal may not show as \xNN.
std::string escaped(std::string_view s) {
  std::string out;
  for (const char c : s) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      constexpr char digits[] = "0123456789abcdef";
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

std::string quoted(std::string_view s) {
  constexpr std::size_t longest = 40;
  if (s.size() > longest) return '\'' + escaped(s.substr(0, longest)) + "...'";
  return '\'' + escaped(s) + '\'';
}

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// ", did you mean 'sin'?" if a candidate is near enough, else "".
std::string suggestion(std::string_view name, const std::vector<std::string_view>& candidates) {
  constexpr int near = 2;
  if (name.size() > 64) return {};
  std::string_view best;
  int least = std::min(near, static_cast<int>(name.size()) - 1) + 1;
  for (const std::string_view c : candidates) {
    if (lower(c) == lower(name)) return ", did you mean " + quoted(c) + "?";
    if (c.size() > name.size() + near || c.size() + near < name.size()) continue;
    const int d = edit_distance(name, c);
    if (d < least && d < static_cast<int>(c.size())) best = c, least = d;
  }
  return best.empty() ? std::string{} : ", did you mean " + quoted(best) + "?";
}

/// Names other programs use for what this grammar has.
constexpr std::array<std::pair<std::string_view, std::string_view>, 22> foreign_names{{
    {"ln", "log"},        {"arcsin", "asin"},   {"arccos", "acos"},    {"arctan", "atan"},
    {"arctan2", "atan2"}, {"arsinh", "asinh"},  {"arcosh", "acosh"},   {"artanh", "atanh"},
    {"arcsinh", "asinh"}, {"arccosh", "acosh"}, {"arctanh", "atanh"},  {"fabs", "abs"},
    {"sgn", "sign"},      {"signum", "sign"},   {"heaviside", "step"}, {"power", "pow"},
    {"fmod", "mod"},      {"fmin", "min"},      {"fmax", "max"},       {"minimum", "min"},
    {"maximum", "max"},   {"lg", "log2"},
}};

struct Foreign {
  std::string_view bytes, what, instead;
};
/// Characters of typeset formulas, and operators of other languages.
constexpr std::array<Foreign, 18> foreign_symbols{{
    {"\xe2\x88\x92", "a minus sign (U+2212)", "-"},
    {"\xe2\x80\x93", "a dash (U+2013)", "-"},
    {"\xc3\x97", "a multiplication sign (U+00D7)", "*"},
    {"\xc2\xb7", "a middle dot (U+00B7)", "*"},
    {"\xe2\x8b\x85", "a dot operator (U+22C5)", "*"},
    {"\xc3\xb7", "a division sign (U+00F7)", "/"},
    {"\xcf\x80", "a Greek letter pi (U+03C0)", "pi"},
    {"\xc2\xb2", "a superscript two (U+00B2)", "^2"},
    {"\xc2\xb3", "a superscript three (U+00B3)", "^3"},
    {"\xe2\x89\xa4", "a less-or-equal sign (U+2264)", "<="},
    {"\xe2\x89\xa5", "a greater-or-equal sign (U+2265)", ">="},
    {"\xe2\x89\xa0", "a not-equal sign (U+2260)", "!="},
    {"&&", "'&&'", "and"},
    {"||", "'||'", "or"},
    {"%", "'%'", "mod(a, b)"},
    {"!", "'!'", "(...) == 0"},
    {"|", "'|'", "abs(...)"},
    {";", "';'", ","},
}};

class Parser {
 public:
  Parser(std::string_view text, const std::vector<std::string>& symbols,
         const std::map<std::string, Expression>& parameters, const TextOrigin& origin)
      : text_(text), symbols_(symbols), parameters_(parameters), origin_(origin) {}

  NodePtr formula() {
    if (text_.size() > max_bytes)
      fail(max_bytes, "a formula has at most " + std::to_string(max_bytes) + " bytes, found " +
                          std::to_string(text_.size()));
    advance();
    if (token_.kind == Kind::end) fail(token_.at, "the formula is empty, expected an expression");
    NodePtr result = ternary();
    if (token_.kind != Kind::end) unexpected_after_operand();
    return result;
  }

 private:
  // ---- where an error is ------------------------------------------------------------------------
  [[noreturn]] void fail(std::size_t at, const std::string& message) const {
    at = std::min(at, text_.size());
    int line = origin_.line;
    std::size_t start = 0;
    for (std::size_t i = 0; i < at; ++i)
      if (text_[i] == '\n') ++line, start = i + 1;
    int column = static_cast<int>(at - start) + 1;
    std::string source;
    if (start == 0) column += origin_.column - 1;
    if (start == 0 && !origin_.source_line.empty()) {
      source = origin_.source_line;
    } else {
      const std::size_t end = std::min(text_.find('\n', start), text_.size());
      source.assign(text_.substr(start, end - start));
      if (start == 0 && origin_.column > 1)  // so that the caret stands below its byte
        source.insert(0, static_cast<std::size_t>(origin_.column - 1), ' ');
    }
    throw InputError(origin_.file, line, column, message, source);
  }

  std::string column_text(std::size_t at) const {
    std::size_t start = 0;
    int line = origin_.line;
    for (std::size_t i = 0; i < at; ++i)
      if (text_[i] == '\n') ++line, start = i + 1;
    const auto column = static_cast<int>(at - start) + (start == 0 ? origin_.column : 1);
    const std::string here = "column " + std::to_string(column);
    return line == origin_.line ? here : "line " + std::to_string(line) + ", " + here;
  }

  std::string found() const {
    switch (token_.kind) {
      case Kind::number:
        return "number " + quoted(token_.text);
      case Kind::name:
        return "name " + quoted(token_.text);
      case Kind::symbol:
        return quoted(text_.substr(token_.at, token_.length));
      case Kind::end:
        return "end of formula";
    }
    return {};
  }

  // ---- tokens -----------------------------------------------------------------------------------
  char peek(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  void advance() {
    previous_ = token_;
    std::size_t i = token_.at + token_.length;
    while (i < text_.size() &&
           (text_[i] == ' ' || text_[i] == '\t' || text_[i] == '\n' || text_[i] == '\r'))
      ++i;
    token_ = {Kind::end, {}, i, 0};
    if (i == text_.size()) return;
    const char c = text_[i];
    if (is_digit(c) || (c == '.' && is_digit(peek(i + 1)))) {
      token_.length = number_length(i);
      token_.kind = Kind::number;
      token_.text = text_.substr(i, token_.length);
    } else if (is_letter(c)) {
      std::size_t end = i;
      while (is_letter(peek(end)) || is_digit(peek(end))) ++end;
      token_ = {Kind::name, text_.substr(i, end - i), i, end - i};
      if (token_.text == "and" || token_.text == "or") token_.kind = Kind::symbol;
    } else {
      token_.kind = Kind::symbol;
      for (const std::string_view s : {"**", "<=", ">=", "==", "!="})
        if (text_.substr(i).starts_with(s)) {
          token_.text = s == "**" ? "^" : s;
          token_.length = 2;
          return;
        }
      if (std::string_view("+-*/^()<>?:,").find(c) == std::string_view::npos) bad_character(i);
      token_.text = text_.substr(i, 1);
      token_.length = 1;
    }
  }

  std::size_t number_length(std::size_t start) const {
    std::size_t i = start;
    std::size_t digits = 0;
    const bool hex = text_[i] == '0' && lower(peek(i + 1)) == 'x';
    const auto run = [&] {
      while (hex ? is_hex_digit(peek(i)) : is_digit(peek(i))) ++i, ++digits;
    };
    if (hex) i += 2;
    run();
    if (peek(i) == '.') {
      ++i;
      run();
    }
    if (hex && digits == 0) fail(i, "expected hexadecimal digits after '0x', found " + at_text(i));
    // "2e" is the number 2 and the name e: an exponent needs a digit.
    const std::size_t sign = peek(i + 1) == '+' || peek(i + 1) == '-' ? 1 : 0;
    if (lower(peek(i)) == (hex ? 'p' : 'e') && is_digit(peek(i + 1 + sign))) {
      i += 1 + sign;
      while (is_digit(peek(i))) ++i;
    }
    if (digits > max_digits)
      fail(start, "a number has at most " + std::to_string(max_digits) + " digits, found " +
                      std::to_string(digits));
    return i - start;
  }

  std::string at_text(std::size_t i) const {
    return i < text_.size() ? quoted(text_.substr(i, 1)) : "end of formula";
  }

  [[noreturn]] void bad_character(std::size_t i) const {
    const std::string_view rest = text_.substr(i);
    for (const auto& f : foreign_symbols)
      if (rest.starts_with(f.bytes))
        fail(i, "found " + std::string(f.what) + ", write '" + std::string(f.instead) + "'");
    if (rest[0] == '=') fail(i, "found '=', write '==' to compare");
    if (rest[0] == '.') fail(i, "expected digits before or after '.'");
    if (rest[0] == '[' || rest[0] == '{')
      fail(i, "found " + quoted(rest.substr(0, 1)) + ", write '(' to group");
    fail(i, "unexpected character " + quoted(rest.substr(0, 1)) +
                ", expected a formula of numbers, "
                "names, operators and parentheses");
  }

  bool is(std::string_view symbol) const {
    return token_.kind == Kind::symbol && token_.text == symbol;
  }

  // ---- grammar, loosest first
  // ---------------------------------------------------------------------
  struct Nesting {
    explicit Nesting(Parser& p) : parser(p) {
      if (++parser.depth_ > max_nesting)
        parser.fail(parser.token_.at,
                    "the formula is nested more than " + std::to_string(max_nesting) + " deep");
    }
    ~Nesting() { --parser.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    Parser& parser;
  };

  NodePtr ternary() {
    const Nesting nesting(*this);
    NodePtr condition = binary(0);
    if (!is("?")) return condition;
    const std::size_t at = token_.at;
    advance();
    NodePtr yes = ternary();
    if (!is(":"))
      fail(token_.at, "expected ':' after '?' at " + column_text(at) + ", found " + found());
    advance();
    NodePtr no = ternary();
    return make(Op::select, condition, yes, no);
  }

  struct Binary {
    std::string_view text;
    int level;
    Op op;
  };
  static constexpr int comparison_level = 2, unary_level = 5;
  static constexpr std::array<Binary, 12> binary_operators{{
      {"or", 0, Op::logical_or},
      {"and", 1, Op::logical_and},
      {"<", 2, Op::less},
      {"<=", 2, Op::less_equal},
      {">", 2, Op::greater},
      {">=", 2, Op::greater_equal},
      {"==", 2, Op::equal},
      {"!=", 2, Op::not_equal},
      {"+", 3, Op::add},
      {"-", 3, Op::subtract},
      {"*", 4, Op::multiply},
      {"/", 4, Op::divide},
  }};
  const Binary* binary_operator() const {
    if (token_.kind != Kind::symbol) return nullptr;
    const auto at = std::find_if(binary_operators.begin(), binary_operators.end(),
                                 [&](const Binary& b) { return b.text == token_.text; });
    return at == binary_operators.end() ? nullptr : &*at;
  }

  /// Operators of `level` and tighter, left-associative (precedence climbing).
  NodePtr binary(int level) {
    NodePtr left = unary();
    int highest = unary_level;  // a comparison closes its own level: a < b < c is refused
    while (const Binary* op = binary_operator()) {
      if (op->level < level) break;
      if (op->level == comparison_level && highest == comparison_level)
        fail(token_.at, "comparisons do not chain, write 'a < b and b < c'");
      advance();
      NodePtr right = binary(op->level + 1);
      left = make(op->op, left, right);
      highest = op->level;
    }
    return left;
  }

  NodePtr unary() {
    if (is("+") || is("-")) {
      const Nesting nesting(*this);
      const bool minus = is("-");
      advance();
      NodePtr operand = unary();
      return minus ? make(Op::negate, operand) : operand;
    }
    NodePtr base = primary();
    if (!is("^")) return base;
    const Nesting nesting(*this);
    advance();
    return make(Op::pow, base, unary());  // right-associative, and 2^-x
  }

  NodePtr primary() {
    const Token t = token_;
    if (t.kind == Kind::number) {
      advance();
      if (NodePtr number = detail::make_literal(t.text)) return number;
      const bool hex = t.text.size() > 1 && lower(t.text[1]) == 'x';
      fail(t.at, "number " + quoted(t.text) + " is outside the range of double" +
                     (hex ? " or has more than 106 significant bits" : ""));
    }
    if (t.kind == Kind::name) {
      advance();
      return is("(") ? call(t) : value(t);
    }
    if (is("(")) {
      advance();
      NodePtr inner = ternary();
      close(t.at);
      return inner;
    }
    const bool after_operator = previous_.kind == Kind::symbol && previous_.length > 0;
    fail(t.at,
         "expected a number, a name or '('" +
             (after_operator ? " after " + quoted(text_.substr(previous_.at, previous_.length))
                             : std::string{}) +
             ", found " + found());
  }

  void close(std::size_t open) {
    if (is(")")) return advance();
    if (token_.kind == Kind::end || is(",") || is(":"))
      fail(token_.at, "expected ')' to close '(' at " + column_text(open) + ", found " + found());
    unexpected_after_operand();
  }

  NodePtr value(const Token& name) {
    if (name.text == "pi") return make(Op::pi);
    if (name.text == "e") return make(Op::e);
    if (const auto at = parameters_.find(std::string(name.text)); at != parameters_.end())
      return at->second.node();
    if (std::find(symbols_.begin(), symbols_.end(), name.text) != symbols_.end()) {
      NodePtr& node = names_[name.text];
      if (!node) node = detail::make_symbol(std::string(name.text));
      return node;
    }
    if (name.text == "if")
      fail(token_.at,
           "expected '(' after 'if', found " + found() + ": write 'if(c, a, b)' or 'c ? a : b'");
    if (name.text == "not") fail(name.at, "found 'not', write '(...) == 0'");
    if (detail::find_function(name.text))
      fail(token_.at, "expected '(' after function " + quoted(name.text) + ", found " + found());
    for (const auto& [elsewhere, here] : foreign_names)
      if (lower(name.text) == elsewhere)
        fail(name.at, "unknown name " + quoted(name.text) + ", did you mean " + quoted(here) + "?");
    std::vector<std::string_view> known(symbols_.begin(), symbols_.end());
    for (const auto& [parameter, unused] : parameters_) known.push_back(parameter);
    known.insert(known.end(), {"pi", "e"});
    std::string hint = suggestion(name.text, known);
    if (hint.empty()) {
      std::string list;
      constexpr std::size_t shown = 12;
      for (std::size_t i = 0; i < std::min(shown, known.size()); ++i)
        list += (i ? ", " : "") + std::string(known[i]);
      hint = ", known are " + list + (known.size() > shown ? ", ..." : "");
    }
    fail(name.at, "unknown name " + quoted(name.text) + hint);
  }

  NodePtr call(const Token& name) {
    const detail::FunctionInfo* f = detail::find_function(name.text);
    if (f == nullptr) {
      const bool known = name.text == "pi" || name.text == "e" ||
                         parameters_.contains(std::string(name.text)) ||
                         std::find(symbols_.begin(), symbols_.end(), name.text) != symbols_.end();
      if (known)
        fail(token_.at, quoted(name.text) + " is not a function, for a product write '" +
                            escaped(name.text.substr(0, 40)) + "*('");
      for (const auto& [elsewhere, here] : foreign_names)
        if (lower(name.text) == elsewhere)
          fail(name.at,
               "unknown function " + quoted(name.text) + ", did you mean " + quoted(here) + "?");
      std::vector<std::string_view> names;
      for (const auto& info : detail::functions()) names.push_back(info.name);
      fail(name.at, "unknown function " + quoted(name.text) + suggestion(name.text, names));
    }
    const std::size_t open = token_.at;
    advance();
    std::vector<NodePtr> args;
    if (!is(")")) {
      args.push_back(ternary());
      while (is(",")) {
        advance();
        args.push_back(ternary());
      }
    }
    if (!is(")")) close_call(*f, open);
    const int count = static_cast<int>(args.size());
    if (count < f->min_arity || (f->max_arity >= 0 && count > f->max_arity))
      fail(name.at, "function " + quoted(f->name) + " takes " +
                        (f->max_arity < 0 ? "at least " : "") + std::to_string(f->min_arity) +
                        (f->min_arity == 1 ? " argument" : " arguments") + ", found " +
                        std::to_string(count));
    advance();
    if (f->max_arity >= 0)
      return make(f->op, args[0], count > 1 ? args[1] : nullptr, count > 2 ? args[2] : nullptr);
    NodePtr folded = args[0];
    for (int i = 1; i < count; ++i) folded = make(f->op, folded, args[i]);
    return folded;
  }

  [[noreturn]] void close_call(const detail::FunctionInfo& f, std::size_t open) {
    if (token_.kind == Kind::end || is(":"))
      fail(token_.at, "expected ')' to close '(' of function " + quoted(f.name) + " at " +
                          column_text(open) + ", found " + found());
    unexpected_after_operand();
  }

  /// The token stands where an operator or the end must be.
  [[noreturn]] void unexpected_after_operand() const {
    if (is(")")) fail(token_.at, "found ')' without its '('");
    if (is(",")) fail(token_.at, "found ',' outside the arguments of a function");
    if (is(":")) fail(token_.at, "found ':' without its '?'");
    const std::string_view before = text_.substr(previous_.at, previous_.length);
    const bool short_enough = before.size() <= 20 && token_.length <= 20;
    std::string product;
    if (short_enough && (token_.kind == Kind::name || token_.kind == Kind::number || is("(")))
      product = ", for a product write '" + escaped(before) + "*" +
                escaped(text_.substr(token_.at, token_.length)) + "'";
    fail(token_.at, "expected an operator or the end after " + quoted(before) + ", found " +
                        found() + product);
  }

  std::string_view text_;
  const std::vector<std::string>& symbols_;
  const std::map<std::string, Expression>& parameters_;
  const TextOrigin& origin_;
  Token token_, previous_;
  std::map<std::string_view, NodePtr> names_;
  int depth_ = 0;
};

void require_name(std::string_view argument, const std::string& name) {
  if (!detail::is_identifier(name))
    throw DomainError("parse_expression", argument, name,
                      "a letter or '_', then letters, digits and '_'");
  if (detail::is_reserved(name))
    throw DomainError("parse_expression", argument, name,
                      "other than the built-in functions and constants");
}

}  // namespace

Expression parse_expression(std::string_view text, const std::vector<std::string>& symbols,
                            const std::map<std::string, Expression>& parameters,
                            const TextOrigin& origin) {
  for (const auto& name : symbols) {
    require_name("symbols", name);
    if (parameters.contains(name))
      throw DomainError("parse_expression", "symbols", name, "other than the parameters");
  }
  for (const auto& [name, unused] : parameters) require_name("parameters", name);
  return Expression(Parser(text, symbols, parameters, origin).formula());
}

}  // namespace halfulp
