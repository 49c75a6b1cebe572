#include "halfulp/expression.hpp"

#include <algorithm>
#include <boost/multiprecision/cpp_int.hpp>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <unordered_map>
#include <utility>

#include "detail/expression_node.hpp"
#include "halfulp/error.hpp"

namespace halfulp {
namespace detail {
namespace {

using boost::multiprecision::cpp_int;

constexpr std::array all_functions{
    FunctionInfo{"sin", Op::sin, 1, 1},     FunctionInfo{"cos", Op::cos, 1, 1},
    FunctionInfo{"tan", Op::tan, 1, 1},     FunctionInfo{"asin", Op::asin, 1, 1},
    FunctionInfo{"acos", Op::acos, 1, 1},   FunctionInfo{"atan", Op::atan, 1, 1},
    FunctionInfo{"atan2", Op::atan2, 2, 2}, FunctionInfo{"sinh", Op::sinh, 1, 1},
    FunctionInfo{"cosh", Op::cosh, 1, 1},   FunctionInfo{"tanh", Op::tanh, 1, 1},
    FunctionInfo{"asinh", Op::asinh, 1, 1}, FunctionInfo{"acosh", Op::acosh, 1, 1},
    FunctionInfo{"atanh", Op::atanh, 1, 1}, FunctionInfo{"exp", Op::exp, 1, 1},
    FunctionInfo{"expm1", Op::expm1, 1, 1}, FunctionInfo{"log", Op::log, 1, 1},
    FunctionInfo{"log10", Op::log10, 1, 1}, FunctionInfo{"log2", Op::log2, 1, 1},
    FunctionInfo{"log1p", Op::log1p, 1, 1}, FunctionInfo{"sqrt", Op::sqrt, 1, 1},
    FunctionInfo{"cbrt", Op::cbrt, 1, 1},   FunctionInfo{"abs", Op::abs, 1, 1},
    FunctionInfo{"sign", Op::sign, 1, 1},   FunctionInfo{"min", Op::min, 2, -1},
    FunctionInfo{"max", Op::max, 2, -1},    FunctionInfo{"pow", Op::pow, 2, 2},
    FunctionInfo{"hypot", Op::hypot, 2, 2}, FunctionInfo{"erf", Op::erf, 1, 1},
    FunctionInfo{"erfc", Op::erfc, 1, 1},   FunctionInfo{"step", Op::step, 1, 1},
    FunctionInfo{"floor", Op::floor, 1, 1}, FunctionInfo{"ceil", Op::ceil, 1, 1},
    FunctionInfo{"round", Op::round, 1, 1}, FunctionInfo{"mod", Op::mod, 2, 2},
    FunctionInfo{"if", Op::select, 3, 3},
};

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9u;
  return h ^ (h >> 27);
}

NodePtr raw(Op op, const NodePtr& a = nullptr, const NodePtr& b = nullptr,
            const NodePtr& c = nullptr) {
  auto node = std::make_shared<Node>();
  node->op = op;
  node->hash = mix(0, static_cast<std::uint64_t>(op));
  for (const NodePtr* arg : {&a, &b, &c}) {
    if (!*arg) break;
    node->args[node->arity++] = *arg;
    node->hash = mix(node->hash, (*arg)->hash);
    node->tree_size += (*arg)->tree_size;
  }
  return node;
}

NodePtr raw_number(Literal number) {
  auto node = std::make_shared<Node>();
  const std::hash<double> of_double;
  node->hash = mix(mix(17, of_double(number.value.hi)), of_double(number.value.lo));
  node->hash = mix(node->hash, std::hash<std::string>{}(number.text));
  node->number = std::move(number);
  return node;
}

/// n / d rounded to double, for n, d > 0: 66 quotient bits with a sticky bit, then one rounding.
double quotient(cpp_int n, const cpp_int& d) {
  const int shift = 66 - (static_cast<int>(msb(n)) - static_cast<int>(msb(d)));
  cpp_int scaled_d = d;
  if (shift > 0) n <<= shift;
  if (shift < 0) scaled_d <<= -shift;
  cpp_int q, r;
  divide_qr(n, scaled_d, q, r);
  const int drop = static_cast<int>(msb(q)) - 62;
  bool sticky = r != 0;
  if (drop > 0) {
    sticky = sticky || static_cast<int>(lsb(q)) < drop;
    q >>= drop;
  }
  auto bits = static_cast<std::uint64_t>(q);
  if (sticky) bits |= 1;
  return std::ldexp(static_cast<double>(bits), std::max(drop, 0) - shift);
}

/// numerator and denominator of a finite double.
std::pair<cpp_int, cpp_int> fraction(double v) {
  int exponent = 0;
  const double m = std::ldexp(std::frexp(v, &exponent), 53);
  cpp_int n = static_cast<std::int64_t>(m), d = 1;
  exponent -= 53;
  if (exponent >= 0)
    n <<= exponent;
  else
    d <<= -exponent;
  return {n, d};
}

/// digits 10^exponent, digits without leading and trailing zeros: the shortest plain way to write
/// it.
std::string decimal_text(const std::string& digits, long exponent) {
  const long count = static_cast<long>(digits.size()), point = count + exponent;
  if (exponent >= 0 && point <= 16) return digits + std::string(exponent, '0');
  if (point > 0 && point <= 16) return digits.substr(0, point) + '.' + digits.substr(point);
  if (point <= 0 && point > -5) return "0." + std::string(-point, '0') + digits;
  std::string mantissa = digits.substr(0, 1);
  if (count > 1) mantissa += '.' + digits.substr(1);
  return mantissa + 'e' + std::to_string(point - 1);
}

/// The dd of the positive number n / d; `exact` tells whether it is all of it.
dd nearest_dd(const cpp_int& n, const cpp_int& d, bool& exact) {
  const double hi = quotient(n, d);
  exact = false;
  if (!std::isfinite(hi) || hi == 0) return hi;
  const auto [hn, hd] = fraction(hi);
  cpp_int rn = n * hd - hn * d;
  const cpp_int rd = d * hd;
  if (rn == 0) {
    exact = true;
    return hi;
  }
  const bool negative = rn < 0;
  if (negative) rn = -rn;
  double lo = quotient(rn, rd);
  const auto [ln, ld] = fraction(lo);
  exact = lo != 0 && rn * ld == ln * rd;
  if (negative) lo = -lo;
  return kernel::quick_two_sum(hi, lo);
}

bool is_double(const NodePtr& n) { return is_exact(n) && n->number.value.lo == 0; }
double double_of(const NodePtr& n) { return n->number.value.hi; }

/// Products and quotients in this range are exact pairs: no underflow of the low part.
bool safe(double v) { return std::fabs(v) < 0x1p900 && std::fabs(v) > 0x1p-800; }

NodePtr exact_sum(const NodePtr& a, const NodePtr& b) {
  if (!is_double(a) || !is_double(b)) return nullptr;
  const dd s = kernel::two_sum(double_of(a), double_of(b));
  return std::isfinite(s.hi) ? make_number(s) : nullptr;
}

NodePtr exact_product(const NodePtr& a, const NodePtr& b) {
  if (!is_double(a) || !is_double(b)) return nullptr;
  const double p = double_of(a) * double_of(b);
  if (!safe(p) || !safe(double_of(a)) || !safe(double_of(b))) return nullptr;
  return make_number(kernel::two_prod(double_of(a), double_of(b)));
}

NodePtr exact_quotient(const NodePtr& a, const NodePtr& b) {
  if (!is_double(a) || !is_double(b)) return nullptr;
  const double q = double_of(a) / double_of(b);
  if (!safe(q) || !safe(double_of(a)) || !safe(double_of(b))) return nullptr;
  const dd back = kernel::two_prod(q, double_of(b));
  return back == dd(double_of(a)) ? make_number(q) : nullptr;
}

NodePtr exact_power(const NodePtr& a, const NodePtr& b) {
  if (!is_double(a) || !is_double(b)) return nullptr;
  const double n = double_of(b);
  if (!(n >= 2 && n <= 1024 && n == std::floor(n))) return nullptr;
  double p = double_of(a);
  for (int i = 1; i < n; ++i) {
    const dd next = kernel::two_prod(p, double_of(a));
    if (next.lo != 0 || !safe(next.hi)) return nullptr;
    p = next.hi;
  }
  return make_number(p);
}

bool is_negative(const NodePtr& n) { return is_number(n) && n->number.value < dd(0); }

NodePtr negated_number(const NodePtr& n) {
  Literal l = n->number;
  l.value = -l.value;
  if (l.text.empty()) return make_number(l.value);
  l.text = l.text[0] == '-' ? l.text.substr(1) : '-' + l.text;
  return raw_number(std::move(l));
}

NodePtr zero() {
  static const NodePtr node = raw_number({dd(0), ""});
  return node;
}
NodePtr one() {
  static const NodePtr node = raw_number({dd(1), ""});
  return node;
}

NodePtr fold_unary(Op op, const NodePtr& a) {
  const bool at_zero = is_value(a, 0), at_one = is_value(a, 1);
  switch (op) {
    case Op::sin:
    case Op::tan:
    case Op::asin:
    case Op::atan:
    case Op::sinh:
    case Op::tanh:
    case Op::asinh:
    case Op::atanh:
    case Op::expm1:
    case Op::log1p:
    case Op::erf:
      return at_zero ? zero() : nullptr;
    case Op::cos:
    case Op::cosh:
    case Op::exp:
    case Op::erfc:
      return at_zero ? one() : nullptr;
    case Op::sqrt:
    case Op::cbrt:
      return at_zero || at_one ? a : nullptr;
    case Op::log:
    case Op::log2:
    case Op::log10:
      return at_one ? zero() : op == Op::log && a->op == Op::e ? one() : nullptr;
    case Op::acosh:
      return at_one ? zero() : nullptr;
    case Op::abs:
      return is_number(a) ? is_negative(a) ? negated_number(a) : a : nullptr;
    case Op::sign:
      return !is_number(a) ? nullptr : at_zero ? zero() : make_number(is_negative(a) ? -1 : 1);
    case Op::step:
      return is_number(a) ? is_negative(a) ? zero() : one() : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace

Node::~Node() {
  // The default would recurse as deep as the formula.
  std::vector<NodePtr> pending;
  const auto release = [&](Node& node) {
    for (int i = 0; i < node.arity; ++i)
      if (node.args[i].use_count() == 1) pending.push_back(std::move(node.args[i]));
  };
  release(*this);
  while (!pending.empty()) {
    NodePtr last = std::move(pending.back());
    pending.pop_back();
    if (last.use_count() == 1) release(const_cast<Node&>(*last));
  }
}

std::span<const FunctionInfo> functions() { return all_functions; }

const FunctionInfo* find_function(std::string_view name) {
  const auto at = std::find_if(all_functions.begin(), all_functions.end(),
                               [&](const FunctionInfo& f) { return f.name == name; });
  return at == all_functions.end() ? nullptr : &*at;
}

std::string_view function_name(Op op) {
  if (op == Op::pow || op == Op::select) return {};
  const auto at = std::find_if(all_functions.begin(), all_functions.end(),
                               [&](const FunctionInfo& f) { return f.op == op; });
  return at == all_functions.end() ? std::string_view{} : at->name;
}

bool is_identifier(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && letter(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
    return letter(c) || (c >= '0' && c <= '9');
  });
}

bool is_reserved(std::string_view name) {
  const auto& names = reserved_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

NodePtr make_number(dd exact) {
  if (exact.hi == 0) return zero();
  return raw_number({exact.lo == 0 ? dd(exact.hi) : exact, ""});
}

NodePtr make_literal(std::string_view text) {
  const bool hex = text.size() > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  if (hex) text.remove_prefix(2);
  std::string digits;
  long exponent = 0;
  std::size_t i = 0;
  bool point = false;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '.')
      point = true;
    else if ((c >= '0' && c <= '9') || (hex && std::isxdigit(static_cast<unsigned char>(c))))
      digits += c, exponent -= point;
    else
      break;
  }
  if (hex) exponent *= 4;
  if (i < text.size()) {  // e or p; a huge exponent only has to stay out of range
    ++i;
    if (i < text.size() && text[i] == '+') ++i;
    long written = 0;
    const auto end = std::from_chars(text.data() + i, text.data() + text.size(), written);
    if (end.ec != std::errc()) written = i < text.size() && text[i] == '-' ? -1000000 : 1000000;
    exponent += std::clamp(written, -1000000L, 1000000L);
  }
  digits.erase(0, digits.find_first_not_of('0'));
  if (digits.empty()) return zero();
  const std::size_t last = digits.find_last_not_of('0');
  exponent += static_cast<long>(digits.size() - 1 - last) * (hex ? 4 : 1);
  digits.resize(last + 1);
  const long top = static_cast<long>(digits.size()) * (hex ? 4 : 1) + exponent;
  if (top > (hex ? 1030 : 310) || top < (hex ? -1080 : -325)) return nullptr;

  cpp_int n((hex ? "0x" : "") + digits), d = 1;
  if (hex)
    (exponent >= 0 ? n : d) <<= std::labs(exponent);
  else
    (exponent >= 0 ? n : d) *= pow(cpp_int(10), static_cast<unsigned>(std::labs(exponent)));
  bool exact = false;
  const dd value = nearest_dd(n, d, exact);
  if (!std::isfinite(value.hi) || value.hi == 0) return nullptr;
  if (exact) return make_number(value);
  if (hex) return nullptr;
  return raw_number({value, decimal_text(digits, exponent)});
}

NodePtr make_symbol(std::string name) {
  auto node = std::make_shared<Node>();
  node->op = Op::symbol;
  node->hash = mix(29, std::hash<std::string>{}(name));
  node->name = std::move(name);
  return node;
}

bool same(const NodePtr& a, const NodePtr& b) {
  if (a == b) return true;
  if (a->hash != b->hash) return false;
  std::set<std::pair<const Node*, const Node*>> seen;
  std::vector<std::pair<const Node*, const Node*>> stack{{a.get(), b.get()}};
  while (!stack.empty()) {
    const auto [x, y] = stack.back();
    stack.pop_back();
    if (x == y || !seen.insert({x, y}).second) continue;
    if (x->op != y->op || x->arity != y->arity || x->hash != y->hash || x->name != y->name ||
        x->number.text != y->number.text || x->number.value != y->number.value)
      return false;
    for (int i = 0; i < x->arity; ++i) stack.emplace_back(x->args[i].get(), y->args[i].get());
  }
  return true;
}

/// A node is built raw only where no rule applies to exactly these arguments, so that building it
/// again from its own parts gives the same node: text() then parses back to the same formula.
NodePtr make(Op op, NodePtr a, NodePtr b, NodePtr c) {
  switch (op) {
    case Op::pi:
    case Op::e:
      return raw(op);
    case Op::negate:
      if (is_number(a)) return negated_number(a);
      if (a->op == Op::negate) return a->args[0];
      if (a->op == Op::subtract) return make(Op::subtract, a->args[1], a->args[0]);
      if ((a->op == Op::multiply || a->op == Op::divide) && is_number(a->args[0]))
        return make(a->op, negated_number(a->args[0]), a->args[1]);
      break;
    case Op::add:
      if (is_value(a, 0)) return b;
      if (is_value(b, 0)) return a;
      if (NodePtr s = exact_sum(a, b)) return s;
      if (b->op == Op::negate) return make(Op::subtract, a, b->args[0]);
      if (a->op == Op::negate) return make(Op::subtract, b, a->args[0]);
      if (is_negative(b)) return make(Op::subtract, a, negated_number(b));
      break;
    case Op::subtract:
      if (is_value(b, 0)) return a;
      if (is_value(a, 0)) return make(Op::negate, b);
      if (is_number(b))
        if (NodePtr s = exact_sum(a, negated_number(b))) return s;
      if (b->op == Op::negate) return make(Op::add, a, b->args[0]);
      if (is_negative(b)) return make(Op::add, a, negated_number(b));
      if (same(a, b)) return zero();
      break;
    case Op::multiply:
      if (is_value(a, 0) || is_value(b, 0)) return zero();
      if (is_value(a, 1)) return b;
      if (is_value(b, 1)) return a;
      if (NodePtr p = exact_product(a, b)) return p;
      if (is_number(b) && !is_number(a)) return make(Op::multiply, b, a);
      if (is_value(a, -1)) return make(Op::negate, b);
      if (is_value(b, -1)) return make(Op::negate, a);
      if (a->op == Op::negate && is_number(b))
        return make(Op::multiply, a->args[0], negated_number(b));
      if (b->op == Op::negate && is_number(a))
        return make(Op::multiply, negated_number(a), b->args[0]);
      if (a->op == Op::negate) return make(Op::negate, make(Op::multiply, a->args[0], b));
      if (b->op == Op::negate) return make(Op::negate, make(Op::multiply, a, b->args[0]));
      if (is_number(a) && b->op == Op::multiply)
        if (NodePtr p = exact_product(a, b->args[0])) return make(Op::multiply, p, b->args[1]);
      break;
    case Op::divide:
      if (is_value(b, 1)) return a;
      if (is_value(a, 0) && !is_value(b, 0)) return zero();
      if (NodePtr q = exact_quotient(a, b)) return q;
      if (a->op == Op::negate) return make(Op::negate, make(Op::divide, a->args[0], b));
      if (b->op == Op::negate) return make(Op::negate, make(Op::divide, a, b->args[0]));
      if (is_negative(b)) return make(Op::negate, make(Op::divide, a, negated_number(b)));
      break;
    case Op::pow:
      if (is_value(b, 0) || is_value(a, 1)) return one();
      if (is_value(b, 1)) return a;
      if (NodePtr p = exact_power(a, b)) return p;
      if (is_value(a, 0) && is_number(b) && !is_negative(b)) return zero();
      if (a->op == Op::e) return make(Op::exp, b);
      break;
    case Op::less:
    case Op::less_equal:
    case Op::greater:
    case Op::greater_equal:
    case Op::equal:
    case Op::not_equal:
      if (is_exact(a) && is_exact(b)) {
        const dd x = a->number.value, y = b->number.value;
        const bool truth = op == Op::less            ? x < y
                           : op == Op::less_equal    ? x <= y
                           : op == Op::greater       ? x > y
                           : op == Op::greater_equal ? x >= y
                           : op == Op::equal         ? x == y
                                                     : x != y;
        return truth ? one() : zero();
      }
      break;
    case Op::logical_and:
    case Op::logical_or:
      if (is_number(a) && is_number(b)) {
        const bool x = !is_value(a, 0), y = !is_value(b, 0);
        return (op == Op::logical_and ? x && y : x || y) ? one() : zero();
      }
      break;
    case Op::select:
      if (is_number(a)) return is_value(a, 0) ? c : b;
      if (same(b, c)) return b;
      break;
    default:
      if (b == nullptr)
        if (NodePtr f = fold_unary(op, a)) return f;
      break;
  }
  return raw(op, a, b, c);
}

}  // namespace detail

using detail::make;
using detail::Node;
using detail::NodePtr;
using detail::Op;

const std::vector<std::string>& reserved_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all{"pi", "e", "and", "or"};
    for (const auto& f : detail::functions()) all.emplace_back(f.name);
    return all;
  }();
  return names;
}

Expression::Expression() : Expression(dd(0)) {}
Expression::Expression(double value) : Expression(dd(value)) {}
Expression::Expression(dd value) {
  if (!isfinite(value) || !std::isfinite(value.lo))
    throw DomainError("Expression", "value", value.hi, "finite");
  node_ = detail::make_number(kernel::two_sum(value.hi, value.lo));
}
Expression::Expression(std::shared_ptr<const detail::Node> node) : node_(std::move(node)) {}

Expression Expression::symbol(std::string name) {
  if (!detail::is_identifier(name))
    throw DomainError("Expression::symbol", "name", name,
                      "a letter or '_', then letters, digits and '_'");
  if (detail::is_reserved(name))
    throw DomainError("Expression::symbol", "name", name,
                      "other than the built-in functions and constants");
  return Expression(detail::make_symbol(std::move(name)));
}

std::set<std::string> Expression::symbols() const {
  std::set<std::string> names;
  post_order(node_, [&](const NodePtr& n) {
    if (n->op == Op::symbol) names.insert(n->name);
  });
  return names;
}

bool Expression::depends_on(std::string_view symbol) const {
  bool found = false;
  post_order(node_, [&](const NodePtr& n) {
    found = found || (n->op == Op::symbol && n->name == symbol);
  });
  return found;
}

bool Expression::is_constant() const {
  bool found = false;
  post_order(node_, [&](const NodePtr& n) { found = found || n->op == Op::symbol; });
  return !found;
}

bool Expression::is_zero() const { return detail::is_value(node_, 0); }

dd Expression::constant() const {
  const auto names = symbols();
  if (!names.empty())
    throw DomainError("Expression::constant", "formula", text(),
                      "without symbols: found '" + *names.begin() + "'");
  return Program<dd>(*this, {})(std::span<const dd>{});
}

namespace {

/// Derivative of one node from its arguments' derivatives; arguments with derivative zero cost
/// nothing because make() drops the term.
Expression node_derivative(const NodePtr& node, const Expression& da, const Expression& db,
                           const Expression& dc) {
  const auto wrap = [&](int i) {
    return i < node->arity ? Expression(node->args[i]) : Expression();
  };
  const Expression f(node), a = wrap(0), b = wrap(1);
  const auto call = [](Op op, const Expression& x) { return Expression(make(op, x.node())); };
  const auto call2 = [](Op op, const Expression& x, const Expression& y) {
    return Expression(make(op, x.node(), y.node()));
  };
  const auto square = [&](const Expression& x) { return call2(Op::pow, x, 2.0); };
  const auto select = [](const Expression& c, const Expression& x, const Expression& y) {
    return Expression(make(Op::select, c.node(), x.node(), y.node()));
  };
  switch (node->op) {
    case Op::negate:
      return -da;
    case Op::add:
      return da + db;
    case Op::subtract:
      return da - db;
    case Op::multiply:
      return da * b + a * db;
    case Op::divide:
      if (db.is_zero()) return da / b;
      return (da - f * db) / b;
    case Op::pow: {
      if (db.is_zero()) return b * call2(Op::pow, a, b - 1.0) * da;
      const Expression log_a = call(Op::log, a);
      if (da.is_zero()) return f * log_a * db;
      return f * (db * log_a + b * da / a);
    }
    case Op::select:
      return select(a, db, dc);
    case Op::min:
      return select(call2(Op::less_equal, a, b), da, db);
    case Op::max:
      return select(call2(Op::greater_equal, a, b), da, db);
    case Op::sin:
      return da * call(Op::cos, a);
    case Op::cos:
      return -(da * call(Op::sin, a));
    case Op::tan:
      return da * (1.0 + square(f));
    case Op::asin:
      return da / call(Op::sqrt, (1.0 - a) * (1.0 + a));
    case Op::acos:
      return -(da / call(Op::sqrt, (1.0 - a) * (1.0 + a)));
    case Op::atan:
      return da / (1.0 + square(a));
    case Op::atan2:
      return (b * da - a * db) / (square(a) + square(b));
    case Op::sinh:
      return da * call(Op::cosh, a);
    case Op::cosh:
      return da * call(Op::sinh, a);
    case Op::tanh:
      return da * (1.0 - square(f));  // 1 / cosh^2 overflows, then 0 * inf
    case Op::asinh:
      return da / call(Op::sqrt, square(a) + 1.0);
    case Op::acosh:
      return da / (call(Op::sqrt, a - 1.0) * call(Op::sqrt, a + 1.0));
    case Op::atanh:
      return da / ((1.0 - a) * (1.0 + a));
    case Op::exp:
      return da * f;
    case Op::expm1:
      return da * call(Op::exp, a);
    case Op::log:
      return da / a;
    case Op::log10:
      return da / (call(Op::log, 10.0) * a);
    case Op::log2:
      return da / (call(Op::log, 2.0) * a);
    case Op::log1p:
      return da / (1.0 + a);
    case Op::sqrt:
      return da / (2.0 * f);
    case Op::cbrt:
      return da / (3.0 * square(f));
    case Op::abs:
      return call(Op::sign, a) * da;
    case Op::hypot:
      return (a * da + b * db) / f;
    case Op::erf:
    case Op::erfc: {
      const Expression bell =
          2.0 / call(Op::sqrt, Expression(make(Op::pi))) * call(Op::exp, -square(a)) * da;
      return node->op == Op::erf ? bell : -bell;
    }
    case Op::mod:
      return da - call(Op::floor, a / b) * db;
    default:
      return {};  // numbers, comparisons, and functions that are constant by pieces
  }
}

}  // namespace

Expression Expression::derivative(std::string_view symbol) const {
  std::unordered_map<const Node*, Expression> of;
  const Expression zero, one(1.0);
  post_order(node_, [&](const NodePtr& n) {
    if (n->op == Op::symbol) {
      of.emplace(n.get(), n->name == symbol ? one : zero);
      return;
    }
    std::array<const Expression*, 3> d{&zero, &zero, &zero};
    bool depends = false;
    for (int i = 0; i < n->arity; ++i) {
      d[i] = &of.at(n->args[i].get());
      depends = depends || !d[i]->is_zero();
    }
    of.emplace(n.get(), depends ? node_derivative(n, *d[0], *d[1], *d[2]) : zero);
  });
  return of.at(node_.get());
}

Expression Expression::substitute(std::string_view symbol, const Expression& by) const {
  return substitute({{std::string(symbol), by}});
}

Expression Expression::substitute(const std::map<std::string, Expression>& by) const {
  std::unordered_map<const Node*, NodePtr> of;
  post_order(node_, [&](const NodePtr& n) {
    if (n->op == Op::symbol) {
      const auto at = by.find(n->name);
      of.emplace(n.get(), at == by.end() ? n : at->second.node());
      return;
    }
    std::array<NodePtr, 3> args;
    bool changed = false;
    for (int i = 0; i < n->arity; ++i) {
      args[i] = of.at(n->args[i].get());
      changed = changed || args[i] != n->args[i];
    }
    of.emplace(n.get(), changed ? make(n->op, args[0], args[1], args[2]) : n);
  });
  return Expression(of.at(node_.get()));
}

Expression operator+(const Expression& a, const Expression& b) {
  return Expression(make(Op::add, a.node(), b.node()));
}
Expression operator-(const Expression& a, const Expression& b) {
  return Expression(make(Op::subtract, a.node(), b.node()));
}
Expression operator*(const Expression& a, const Expression& b) {
  return Expression(make(Op::multiply, a.node(), b.node()));
}
Expression operator/(const Expression& a, const Expression& b) {
  return Expression(make(Op::divide, a.node(), b.node()));
}
Expression operator-(const Expression& a) { return Expression(make(Op::negate, a.node())); }

namespace {

// Binding strength, as the parser has it.
enum Level { kTernary = 1, kOr, kAnd, kCompare, kSum, kProduct, kSign, kPower, kAtom };

std::string hex_number(double v) {
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::fabs(v), std::chars_format::hex);
  return (v < 0 ? "-0x" : "0x") + std::string(buffer, end.ptr);
}

/// Text that is exactly the double: decimal where that is short, else hex.
std::string double_text(double v) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::fabs(v));
  const std::string shortest(buffer, end.ptr);
  const NodePtr back = detail::make_literal(shortest);
  if (back && detail::is_value(back, std::fabs(v))) return (v < 0 ? "-" : "") + shortest;
  return hex_number(v);
}

std::string literal_text(const detail::Literal& number) {
  if (!number.text.empty()) return number.text;
  if (number.value.lo == 0) return double_text(number.value.hi);
  const double lo = number.value.lo;
  return double_text(number.value.hi) + (lo < 0 ? " - " : " + ") + double_text(std::fabs(lo));
}

/// -(a*b) is written -a*b, which is (-a)*b and simplifies to the same node, unless -a itself
/// simplifies: -(2*x*y) is not -2*x*y, -((x - y)*z) not (y - x)*z.
bool sign_needs_parentheses(const Node& product) {
  const Node* first = &product;
  while (first->op == Op::multiply || first->op == Op::divide) first = first->args[0].get();
  return first->op == Op::number || first->op == Op::subtract;
}

Level level(const Node& n) {
  switch (n.op) {
    case Op::number:
      return n.number.text.empty() && n.number.value.lo != 0 ? kSum
             : n.number.value < dd(0)                        ? kSign
                                                             : kAtom;
    case Op::negate: {
      const Node& a = *n.args[0];
      const bool product = a.op == Op::multiply || a.op == Op::divide;
      return product && !sign_needs_parentheses(a) ? kProduct : kSign;
    }
    case Op::add:
    case Op::subtract:
      return kSum;
    case Op::multiply:
    case Op::divide:
      return kProduct;
    case Op::pow:
      return kPower;
    case Op::less:
    case Op::less_equal:
    case Op::greater:
    case Op::greater_equal:
    case Op::equal:
    case Op::not_equal:
      return kCompare;
    case Op::logical_and:
      return kAnd;
    case Op::logical_or:
      return kOr;
    case Op::select:
      return kTernary;
    default:
      return kAtom;
  }
}

const char* infix(Op op) {
  switch (op) {
    case Op::add:
      return " + ";
    case Op::subtract:
      return " - ";
    case Op::multiply:
      return "*";
    case Op::divide:
      return "/";
    case Op::pow:
      return "^";
    case Op::less:
      return " < ";
    case Op::less_equal:
      return " <= ";
    case Op::greater:
      return " > ";
    case Op::greater_equal:
      return " >= ";
    case Op::equal:
      return " == ";
    case Op::not_equal:
      return " != ";
    case Op::logical_and:
      return " and ";
    case Op::logical_or:
      return " or ";
    default:
      return nullptr;
  }
}

/// Stops soon after `longest` bytes.
std::string write(const Node* root, std::size_t longest) {
  struct Item {
    const Node* node;  // nullptr: print `token`
    const char* token;
    int least;  // parentheses around weaker nodes
  };
  std::string out;
  std::vector<Item> stack{{root, nullptr, 0}};
  const auto push = [&](std::initializer_list<Item> items) {
    stack.insert(stack.end(), std::rbegin(items), std::rend(items));
  };
  while (!stack.empty() && out.size() <= longest) {
    const Item item = stack.back();
    stack.pop_back();
    if (item.node == nullptr) {
      out += item.token;
      continue;
    }
    const Node& n = *item.node;
    const Level own = level(n);
    if (own < item.least) {
      out += '(';
      stack.push_back({nullptr, ")", 0});
    }
    const Node *a = n.args[0].get(), *b = n.args[1].get(), *c = n.args[2].get();
    if (n.op == Op::number) {
      out += literal_text(n.number);
    } else if (n.op == Op::symbol) {
      out += n.name;
    } else if (n.op == Op::pi || n.op == Op::e) {
      out += n.op == Op::pi ? "pi" : "e";
    } else if (n.op == Op::negate) {
      out += '-';
      stack.push_back({a, nullptr, own == kProduct ? kProduct : kPower});
    } else if (n.op == Op::select) {
      push({{a, nullptr, kOr},
            {nullptr, " ? ", 0},
            {b, nullptr, kTernary},
            {nullptr, " : ", 0},
            {c, nullptr, kTernary}});
    } else if (n.op == Op::pow) {
      push({{a, nullptr, kAtom}, {nullptr, "^", 0}, {b, nullptr, kSign}});
    } else if (const char* op = infix(n.op)) {
      push(
          {{a, nullptr, own == kCompare ? own + 1 : own}, {nullptr, op, 0}, {b, nullptr, own + 1}});
    } else {
      out += detail::function_name(n.op);
      out += '(';
      stack.push_back({nullptr, ")", 0});
      // min(min(a, b), c) is written, and was perhaps read, as min(a, b, c).
      const bool folds = n.op == Op::min || n.op == Op::max;
      const Node* call = &n;
      while (true) {
        for (int i = call->arity - 1; i > 0; --i) {
          stack.push_back({call->args[i].get(), nullptr, 0});
          stack.push_back({nullptr, ", ", 0});
        }
        if (!folds || call->args[0]->op != n.op) break;
        call = call->args[0].get();
      }
      stack.push_back({call->args[0].get(), nullptr, 0});
    }
  }
  return out;
}

}  // namespace

std::string Expression::text() const {
  constexpr double most = 1e6;
  if (!(node_->tree_size <= most))
    throw DomainError("Expression::text", "nodes of the tree", node_->tree_size, "<= 1e6");
  return write(node_.get(), std::numeric_limits<std::size_t>::max());
}

std::string Expression::brief_text(std::size_t longest) const {
  std::string out = write(node_.get(), longest);
  if (out.size() > longest) out.replace(longest, std::string::npos, "...");
  return out;
}

}  // namespace halfulp
