#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "halfulp/kernel/dd.hpp"

/// Formulas as a PDE user writes them: parse -> tree -> symbolic derivative -> flat code.
///
///     const auto u = halfulp::parse_expression("sin(k*x)", {"x"}, {{"k", 100.0}});
///     const auto f = u.derivative("x").derivative("x");
///     const halfulp::Program<double> code(f, {"x"});
///     const double x = 0.3;  double value = code({&x, 1});
///
/// Grammar, tightest first: `( )`, function call, `^` or `**` (right-associative), unary `+ -`,
/// `* /`, `+ -`, comparisons `< <= > >= == !=` (1 or 0), `and`, `or`, `c ? a : b`.
/// -x^2 is -(x^2), and x^-2 is x^(-2). Comparisons do not chain: a < b < c is an error.
/// Numbers: decimal, exponent, C99 hex float. No implicit multiplication. Case matters.
/// Constants: pi, e. Functions: sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
/// exp expm1 log log10 log2 log1p sqrt cbrt abs sign min max pow hypot erf erfc step floor ceil
/// round mod if(c, a, b). min and max take two or more arguments, atan2 is atan2(y, x), log is
/// natural.
///
/// Values, where `<cmath>` leaves a choice:
///
/// | formula          | value                                                                     |
/// |------------------|---------------------------------------------------------------------------|
/// | x^n              | n an integer, -16 <= n <= 16: products, for any sign of x; x^0 = 1        |
/// | mod(a, b)        | a - b floor(a/b): has the sign of b                                       |
/// | round(x)         | halves away from zero                                                     |
/// | step(x), sign(x) | step(0) = 1, sign(0) = 0                                                  |
/// | a < b, ...       | 0 if a or b is NaN, but != gives 1                                        |
/// | c ? a : b        | b if c = 0, NaN if c is NaN, else a; both are evaluated                   |
/// | a and b, min ... | NaN if an argument is NaN                                                 |
///
/// Numbers keep what was written: "0.1" is a tenth in the precision of the Program that evaluates
/// it, and pi likewise. Simplification is exact mathematics (0*x, 1*x, x + 0, x - x, 2*(3*x)), so
/// it never rounds: 1/4 becomes 0.25, 0.1 + 0.2 and 1/3 stay.
///
/// Trees share their parts: a derivative costs time and memory linear in the number of distinct
/// nodes, and no operation recurses.
namespace halfulp {

namespace detail {
struct Node;
class SlabSampler;
}  // namespace detail

/// An immutable formula; copies share their tree. Arithmetic simplifies constants, zeros and ones.
class Expression {
 public:
  Expression();  ///< the constant 0
  /// The double itself: Expression(0.1) is 0x1.999999999999ap-4, not a tenth.
  /// @throws DomainError unless finite
  Expression(double value);  // NOLINT: numbers are formulas
  Expression(dd value);      // NOLINT
  /// @throws DomainError unless `name` is a letter or '_', then letters, digits, '_', and not
  /// reserved
  [[nodiscard]] static Expression symbol(std::string name);

  [[nodiscard]] std::set<std::string> symbols() const;
  [[nodiscard]] bool depends_on(std::string_view symbol) const;
  [[nodiscard]] bool is_constant() const;  ///< no symbols left
  [[nodiscard]] bool is_zero() const;      ///< structurally the constant 0 after simplification
  /// Value of a constant formula in double-double. @throws DomainError if symbols are left
  [[nodiscard]] dd constant() const;

  /// Partial derivative with respect to a symbol, every other symbol held fixed.
  /// abs' = sign; step', floor', ceil', round', sign' and those of comparisons = 0 (no delta
  /// functions); conditionals, min and max are differentiated by branch. a^b with b free of the
  /// symbol is b a^(b-1) a', without log(a), so that a may be negative.
  [[nodiscard]] Expression derivative(std::string_view symbol) const;
  [[nodiscard]] Expression substitute(std::string_view symbol, const Expression& by) const;
  /// All names at once: {x: y, y: x} exchanges them.
  [[nodiscard]] Expression substitute(const std::map<std::string, Expression>& by) const;

  /// Text that parses back to the same formula, with only the parentheses that are needed (if it
  /// is within the parser's limits). A double that is no short decimal is written as hex float.
  /// @throws DomainError beyond 10^6 nodes, counted as a tree
  [[nodiscard]] std::string text() const;
  /// The beginning of text() for people, of a formula of any size: after `longest` bytes "...".
  [[nodiscard]] std::string brief_text(std::size_t longest) const;

  friend Expression operator+(const Expression& a, const Expression& b);
  friend Expression operator-(const Expression& a, const Expression& b);
  friend Expression operator*(const Expression& a, const Expression& b);
  friend Expression operator/(const Expression& a, const Expression& b);
  friend Expression operator-(const Expression& a);

  explicit Expression(std::shared_ptr<const detail::Node> node);
  [[nodiscard]] const std::shared_ptr<const detail::Node>& node() const { return node_; }

 private:
  std::shared_ptr<const detail::Node> node_;
};

/// Where a formula's text stands, so that an error can point at it. column is that of its first
/// byte.
struct TextOrigin {
  std::string file = "<expression>";
  int line = 1;
  int column = 1;
  std::string source_line = {};  ///< the whole line, shown with a caret; empty: the formula itself
};

/// The formula that `text` is; blanks and line breaks may stand between its parts.
///
///     poisson.toml:8:6: unknown function 'sine', did you mean 'sin'?
///       u = "sine(k*x)"
///            ^
///
/// @param  text        at most 64 KiB; parentheses, calls, signs, powers and conditionals nest at
///                     most 200 deep; a number has at most 1000 digits and is in the range of
///                     double
/// @param  symbols     names that may stay free, e.g. {"x", "y", "u", "u_xx", "f"}
/// @param  parameters  names replaced by their value, which may be a formula
/// @throws InputError  with line, column (in bytes), caret, what was found and what was expected;
/// an
///                     unknown name is answered with the nearest known one
/// @throws DomainError if a symbol or parameter is no identifier, is reserved, or is both
[[nodiscard]] Expression parse_expression(std::string_view text,
                                          const std::vector<std::string>& symbols,
                                          const std::map<std::string, Expression>& parameters = {},
                                          const TextOrigin& origin = {});

/// Names of the built-in functions and constants (a symbol or parameter must not use one).
[[nodiscard]] const std::vector<std::string>& reserved_names();

/// Flat register code for one or several formulas that share their common subexpressions.
/// T: double, dd (compiled in the library), or any type with the functions found by ADL (tests use
/// Boost's mpfr_float); then include <halfulp/expression_program.hpp>, which has the definitions.
///
/// Values outside a function's domain are NaN, as in `<cmath>`; only wrong sizes throw. A Program
/// is immutable: any number of threads may use one.
/// @cost  one instruction for each distinct subexpression; operator() allocates nothing up to 128
template <class T>
class Program {
 public:
  /// @param  inputs  at most 64 names, every symbol of the formulas among them
  /// @throws DomainError if a symbol is not among them, or one is given twice
  Program(std::span<const Expression> formulas, std::vector<std::string> inputs);
  Program(const Expression& formula, std::vector<std::string> inputs);

  [[nodiscard]] std::ptrdiff_t outputs() const;
  /// One point; `out` has outputs() entries, `inputs` as many as the names given.
  void operator()(std::span<const T> inputs, std::span<T> out) const;
  [[nodiscard]] T operator()(std::span<const T> inputs) const;  ///< first formula only

  /// Values on the tensor grid axes[0] x axes[1] x ... (one axis an input), C order: the last axis
  /// runs fastest; formula k fills out[k*N .. (k+1)*N), N the product of the axis lengths.
  /// A subexpression that depends on some axes only is evaluated on those axes only, so that
  /// sin(k*x)*sin(k*y) on n^2 points costs 2n sines. Same bits as operator(), for any threads.
  /// @param threads  0: OpenMP's default
  void on_grid(std::span<const std::vector<T>> axes, std::span<T> out, int threads = 0) const;

 private:
  friend class detail::SlabSampler;
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace halfulp
