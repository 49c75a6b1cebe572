#include "halfulp/expression.hpp"

#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>
#ifdef HALFULP_TEST_GINAC
#include <ginac/ginac.h>
#endif

#include "halfulp/error.hpp"
#include "halfulp/expression_program.hpp"

using halfulp::dd;
using halfulp::DomainError;
using halfulp::Expression;
using halfulp::InputError;
using halfulp::parse_expression;
using halfulp::Program;
using halfulp::ShapeError;

namespace {

/// A hundred digits: the references, and the step of the finite differences.
using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<100>,
                                         boost::multiprecision::et_off>;

const std::vector<std::string> kNames{"x", "y", "z", "u"};

Expression parse(const std::string& text) { return parse_expression(text, kNames); }

template <class T = double>
T value(const Expression& f, std::vector<T> point = {}) {
  point.resize(kNames.size(), T(0));
  return Program<T>(f, kNames)(std::span<const T>(point));
}

bool same_bits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}
bool same_bits(dd a, dd b) {
  return same_bits(a.hi, b.hi) && (a.hi != a.hi || same_bits(a.lo, b.lo));
}

Mp to_mp(dd a) { return Mp(a.hi) + Mp(a.lo); }
bool finite(const Mp& a) { return boost::multiprecision::isfinite(a); }

/// Random formulas as text with redundant parentheses.
class RandomFormula {
 public:
  explicit RandomFormula(unsigned seed) : engine_(seed) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<unsigned>(n)); }
  double uniform(double a, double b) {
    return a + (b - a) * std::ldexp(static_cast<double>(engine_() >> 11), -53);
  }

  /// Values and condition stay moderate, whatever the nesting.
  std::string smooth(int depth) {
    if (depth == 0) return leaf(smooth_leaves_);
    const int kind = below(24);
    const std::string a = smooth(depth - 1);  // in this order with every compiler
    const auto next = [&] { return smooth(depth - 1); };
    switch (kind) {
      case 0:
        return "(" + a + ")+(" + next() + ")";
      case 1:
        return "(" + a + ")-(" + next() + ")";
      case 2:
        return "(" + a + ")*sin(" + next() + ")";
      case 3:
        return "(" + a + ")/(2+(" + next() + ")^2)";
      case 4:
        return "-(" + a + ")";
      case 5:
        return "sin(" + a + ")";
      case 6:
        return "cos(" + a + ")";
      case 7:
        return "exp(sin(" + a + "))";
      case 8:
        return "log(1.1+(" + a + ")^2)";
      case 9:
        return "sqrt(0.3+(" + a + ")^2)";
      case 10:
        return "tanh(" + a + ")";
      case 11:
        return "atan(" + a + ")";
      case 12:
        return "tan(0.5*sin(" + a + "))";
      case 13:
        return "asin(0.7*sin(" + a + "))";
      case 14:
        return "acosh(1.5+(" + a + ")^2)";
      case 15:
        return "atanh(0.6*cos(" + a + "))";
      case 16:
        return "erf(" + a + ")";
      case 17:
        return "hypot(" + a + ", 1+cos(" + next() + ")^2)";
      case 18:
        return "atan2(" + a + ", 1+(" + next() + ")^2)";
      case 19:
        return "sin(" + a + ")^3";
      case 20:
        return "(1.5+(" + a + ")^2)^sin(" + next() + ")";
      case 21:
        return "max(" + a + ", " + next() + ")";
      case 22: {
        const std::string b = next(), c = next();
        return "((" + a + ") < (" + b + ") ? (" + c + ") : (" + next() + "))";
      }
      default:
        return "abs(" + a + ")";
    }
  }

  /// Anything the grammar has, sensible or not.
  std::string wild(int depth) {
    if (depth == 0 || below(12) == 0) return leaf(leaves_);
    static const char* operators[] = {"+",  "-",  "*",  "/",     "^",    "**", "<", "<=", ">",
                                      ">=", "==", "!=", " and ", " or ", "+",  "-", "*",  "/"};
    const int kind = below(6), op = below(18), sign = below(2);
    const auto& names = halfulp::reserved_names();
    const std::string name = names[4 + below(static_cast<int>(names.size()) - 4)];
    const std::string a = wild(depth - 1);
    if (kind == 3) return (sign ? "-(" : "+(") + a + ")";
    const bool unary = kind == 5 && name != "if" && !two_arguments(name);
    if (unary) return name + "(" + a + ")";
    const std::string b = wild(depth - 1);
    if (kind < 3) return "(" + a + ")" + operators[op] + "(" + b + ")";
    if (kind == 5 && name != "if") return name + "(" + a + ", " + b + ")";
    const std::string c = wild(depth - 1);
    return kind == 4 ? "(" + a + ") ? " + b + " : " + c : "if(" + a + "," + b + "," + c + ")";
  }

 private:
  static bool two_arguments(const std::string& name) {
    for (const char* two : {"atan2", "min", "max", "pow", "hypot", "mod"})
      if (name == two) return true;
    return false;
  }
  std::string leaf(const std::vector<const char*>& from) {
    return from[static_cast<std::size_t>(below(static_cast<int>(from.size())))];
  }
  std::vector<const char*> smooth_leaves_{"x",
                                          "y",
                                          "z",
                                          "u",
                                          "x",
                                          "y",
                                          "1",
                                          "2",
                                          "0.5",
                                          "0.1",
                                          "3.7e-2",
                                          "pi",
                                          "e",
                                          "0",
                                          "1e-7",
                                          "0x1.8p-3",
                                          "0.333333333333"};
  std::vector<const char*> leaves_{"x", "y", "z",    "u",        "x",         "y",
                                   "1", "2", "0.5",  "0.1",      "3.7e-2",    "pi",
                                   "e", "0", "1e-7", "0x1.8p-3", "12345.678", "0.333333333333"};
  std::mt19937_64 engine_;
};

}  // namespace

// ---- parsing
// ----------------------------------------------------------------------------------------

TEST_CASE("precedence, simplification and text", "[expression]") {
  struct Row {
    const char *formula, *text;
  };
  for (const auto& [formula, text] : std::initializer_list<Row>{
           {"-x^2", "-x^2"},
           {"(-x)^2", "(-x)^2"},
           {"2^3^2", "512"},
           {"(2^3)^2", "64"},
           {"x^y^z", "x^y^z"},
           {"(x^y)^z", "(x^y)^z"},
           {"x**2", "x^2"},
           {"pow(x, y)", "x^y"},
           {"x^-2", "x^-2"},
           {"2^-x*y", "2^-x*y"},
           {"x^(-y*z)", "x^(-y*z)"},
           {"x - (y - z)", "x - (y - z)"},
           {"x - y - z", "x - y - z"},
           {"x + (y + z)", "x + (y + z)"},
           {"x/(y*z)", "x/(y*z)"},
           {"x/y*z", "x/y*z"},
           {"x/y/z", "x/y/z"},
           {"x/(y/z)", "x/(y/z)"},
           {"-x*y", "-x*y"},
           {"-(x*y)", "-x*y"},
           {"-x/y", "-x/y"},
           {"x*-y", "-x*y"},
           {"x--y", "x + y"},
           {"x+-y", "x - y"},
           {"+x", "x"},
           {"-(2*x*y)", "-(2*x*y)"},
           {"-2*x*y", "-2*x*y"},
           {"-(x+y)", "-(x + y)"},
           {"-(x-y)", "y - x"},
           {"x < y and y < z or u", "x < y and y < z or u"},
           {"x < y and (y < z or u)", "x < y and (y < z or u)"},
           {"x + 1 < y * 2", "x + 1 < 2*y"},
           {"(x < y) < z", "(x < y) < z"},
           {"(x == y)*z", "(x == y)*z"},
           {"x < y ? y : z < u ? 1 : 2", "x < y ? y : z < u ? 1 : 2"},
           {"(x ? y : z) + 1", "(x ? y : z) + 1"},
           {"(x ? y : z) ? 1 : 2", "(x ? y : z) ? 1 : 2"},
           {"x ? y ? 1 : 2 : 3", "x ? y ? 1 : 2 : 3"},
           {"if(x, y, z)", "x ? y : z"},
           {"if(1 < 2, y, z)", "y"},
           {"0.1*x", "0.1*x"},
           {"x*3*2", "6*x"},
           {"2*(3*x)", "6*x"},
           {"0*sin(x) + 1*y", "y"},
           {"x + 0", "x"},
           {"x^1 + y^0", "x + 1"},
           {"x - x", "0"},
           {"--x", "x"},
           {"e^x", "exp(x)"},
           {"log(e)", "1"},
           {"max(x, y, z)", "max(x, y, z)"},
           {"max(x, max(y, z))", "max(x, max(y, z))"},
           {"min(max(x, y), z, u)", "min(max(x, y), z, u)"},
           {"0x1.8p+1*x", "3*x"},
           {"0X.8P1*x", "x"},
           {"1e3*x", "1000*x"},
           {".5*x", "0.5*x"},
           {"5.*x", "5*x"},
           {"1E-7*x", "1e-7*x"},
           {"0.10*x", "0.1*x"},
           {"0.1 + 0.2", "0.1 + 0.2"},
           {"0.5 + 0.25", "0.75"},
           {"1/3", "1/3"},
           {"3/4", "0.75"},
           {"1 - 3", "-2"},
           {"(1 - 3)^x", "(-2)^x"},
           {"x - (1 - 3)", "x + 2"},
           {"9007199254740993 + x", "9007199254740992 + 1 + x"},
           {"123456789012345678901234567890123456789012*x",
            "1.23456789012345678901234567890123456789012e41*x"},
           {" x\t+\r\n y ", "x + y"},
       }) {
    CAPTURE(formula);
    const Expression f = parse(formula);
    if (std::strncmp(formula, "9007", 4) != 0) CHECK(f.text() == text);
    CHECK(parse(f.text()).text() == f.text());
  }
}

TEST_CASE("bad formulas are refused at their column", "[expression]") {
  struct Row {
    std::string formula;
    int column;
    std::string message;
  };
  const std::string open = "expected a number, a name or '('";
  const std::string deep(201, '('), signs(201, '-'), powers = [] {
    std::string s = "x";
    for (int i = 0; i < 200; ++i) s += "^x";
    return s;
  }();
  const Row rows[] = {
      {"", 1, "the formula is empty, expected an expression"},
      {"   ", 4, "the formula is empty, expected an expression"},
      {"x +", 4, open + " after '+', found end of formula"},
      {"+ ", 3, open + " after '+', found end of formula"},
      {"-", 2, open + " after '-', found end of formula"},
      {"x + * y", 5, open + " after '+', found '*'"},
      {"* x", 1, open + ", found '*'"},
      {"x * / y", 5, open + " after '*', found '/'"},
      {"x ^", 4, open + " after '^', found end of formula"},
      {"x ^^ 2", 4, open + " after '^', found '^'"},
      {"x ** ** 2", 6, open + " after '**', found '**'"},
      {"(x", 3, "expected ')' to close '(' at column 1, found end of formula"},
      {"((x)", 5, "expected ')' to close '(' at column 1, found end of formula"},
      {"(x, y)", 3, "expected ')' to close '(' at column 1, found ','"},
      {"x)", 2, "found ')' without its '('"},
      {"sin(x))", 7, "found ')' without its '('"},
      {"x\n+ y)", 4, "found ')' without its '('"},
      {"()", 2, open + " after '(', found ')'"},
      {"x y", 3,
       "expected an operator or the end after 'x', found name 'y', for a product write 'x*y'"},
      {"2x", 2,
       "expected an operator or the end after '2', found name 'x', for a product write '2*x'"},
      {"2pi", 2,
       "expected an operator or the end after '2', found name 'pi', for a product write '2*pi'"},
      {"2(x)", 2,
       "expected an operator or the end after '2', found '(', for a product write '2*('"},
      {"(x)(y)", 4,
       "expected an operator or the end after ')', found '(', for a product write ')*('"},
      {"3 4", 3,
       "expected an operator or the end after '3', found number '4', for a product write '3*4'"},
      {"1.2.3", 4,
       "expected an operator or the end after '1.2', found number '.3', for a product write "
       "'1.2*.3'"},
      {"1e", 2,
       "expected an operator or the end after '1', found name 'e', for a product write '1*e'"},
      {"1e+", 2,
       "expected an operator or the end after '1', found name 'e', for a product write '1*e'"},
      {"0x1p", 4,
       "expected an operator or the end after '0x1', found name 'p', for a product write '0x1*p'"},
      {"max(x y)", 7,
       "expected an operator or the end after 'x', found name 'y', for a product write 'x*y'"},
      {"x(y)", 2, "'x' is not a function, for a product write 'x*('"},
      {"k(x)", 2, "'k' is not a function, for a product write 'k*('"},
      {"pi(x)", 3, "'pi' is not a function, for a product write 'pi*('"},
      {"sin", 4, "expected '(' after function 'sin', found end of formula"},
      {"sin x", 5, "expected '(' after function 'sin', found name 'x'"},
      {"sin^2", 4, "expected '(' after function 'sin', found '^'"},
      {"sin(x", 6, "expected ')' to close '(' of function 'sin' at column 4, found end of formula"},
      {"sin((x)", 8,
       "expected ')' to close '(' of function 'sin' at column 4, found end of formula"},
      {"sin(x,", 7, open + " after ',', found end of formula"},
      {"max(,x)", 5, open + " after '(', found ','"},
      {"max(x,,y)", 7, open + " after ',', found ','"},
      {"sin()", 1, "function 'sin' takes 1 argument, found 0"},
      {"1 + sin(x, y)", 5, "function 'sin' takes 1 argument, found 2"},
      {"atan2(x)", 1, "function 'atan2' takes 2 arguments, found 1"},
      {"if(x, y)", 1, "function 'if' takes 3 arguments, found 2"},
      {"if(x, y, u, k)", 1, "function 'if' takes 3 arguments, found 4"},
      {"max(x)", 1, "function 'max' takes at least 2 arguments, found 1"},
      {"2*sine(x)", 3, "unknown function 'sine', did you mean 'sin'?"},
      {"Sin(x)", 1, "unknown function 'Sin', did you mean 'sin'?"},
      {"sqrtt(x)", 1, "unknown function 'sqrtt', did you mean 'sqrt'?"},
      {"ln(x)", 1, "unknown function 'ln', did you mean 'log'?"},
      {"arctan(x)", 1, "unknown function 'arctan', did you mean 'atan'?"},
      {"Heaviside(x)", 1, "unknown function 'Heaviside', did you mean 'step'?"},
      {"frobnicate(x)", 1, "unknown function 'frobnicate'"},
      {"x + v", 5, "unknown name 'v', known are x, y, u, u_xx, k, pi, e"},
      {"U", 1, "unknown name 'U', did you mean 'u'?"},
      {"u_xy", 1, "unknown name 'u_xy', did you mean 'u_xx'?"},
      {"PI", 1, "unknown name 'PI', did you mean 'pi'?"},
      {"x ? y", 6, "expected ':' after '?' at column 3, found end of formula"},
      {"x ? y :", 8, open + " after ':', found end of formula"},
      {"x ? : y", 5, open + " after '?', found ':'"},
      {"? x : y", 1, open + ", found '?'"},
      {"x : y", 3, "found ':' without its '?'"},
      {"x, y", 2, "found ',' outside the arguments of a function"},
      {"max(x; y)", 6, "found ';', write ','"},
      {"x = y", 3, "found '=', write '==' to compare"},
      {"x === y", 5, "found '=', write '==' to compare"},
      {"x < y < u", 7, "comparisons do not chain, write 'a < b and b < c'"},
      {"x <> y", 4, open + " after '<', found '>'"},
      {"x && y", 3, "found '&&', write 'and'"},
      {"x || y", 3, "found '||', write 'or'"},
      {"|x|", 1, "found '|', write 'abs(...)'"},
      {"!x", 1, "found '!', write '(...) == 0'"},
      {"not x", 1, "found 'not', write '(...) == 0'"},
      {"x % 2", 3, "found '%', write 'mod(a, b)'"},
      {"[x]", 1, "found '[', write '(' to group"},
      {"if x then y", 4,
       "expected '(' after 'if', found name 'x': write 'if(c, a, b)' or 'c ? a : b'"},
      {"x and", 6, open + " after 'and', found end of formula"},
      {"and x", 1, open + ", found 'and'"},
      {"x $ y", 3,
       "unexpected character '$', expected a formula of numbers, names, operators and parentheses"},
      {std::string("x\0y", 3), 2,
       "unexpected character '\\x00', expected a formula of numbers, names, operators and "
       "parentheses"},
      {"\xc3\xa9", 1,
       "unexpected character '\\xc3', expected a formula of numbers, names, operators and "
       "parentheses"},
      {"x \xe2\x88\x92 y", 3, "found a minus sign (U+2212), write '-'"},
      {"x\xc2\xb7y", 2, "found a middle dot (U+00B7), write '*'"},
      {"\xcf\x80", 1, "found a Greek letter pi (U+03C0), write 'pi'"},
      {"x\xc2\xb2", 2, "found a superscript two (U+00B2), write '^2'"},
      {"x.y", 2, "expected digits before or after '.'"},
      {".", 1, "expected digits before or after '.'"},
      {"x + 1e999", 5, "number '1e999' is outside the range of double"},
      {"1e-999", 1, "number '1e-999' is outside the range of double"},
      {"1e99999999999999999999", 1,
       "number '1e99999999999999999999' is outside the range of double"},
      {"0x", 3, "expected hexadecimal digits after '0x', found end of formula"},
      {"0xg", 3, "expected hexadecimal digits after '0x', found 'g'"},
      {"0x1.0000000000000000000000000000001p-1022", 1,
       "number '0x1.0000000000000000000000000000001p-102...' is outside the range of double or has "
       "more than 106 significant bits"},
      {std::string(1001, '7'), 1, "a number has at most 1000 digits, found 1001"},
      {deep + "x", 201, "the formula is nested more than 200 deep"},
      {signs + "x", 200, "the formula is nested more than 200 deep"},
      {powers, 400, "the formula is nested more than 200 deep"},
      {std::string(70000, ' '), 65537, "a formula has at most 65536 bytes, found 70000"},
  };
  static_assert(std::size(rows) >= 60);
  for (const Row& row : rows) {
    CAPTURE(row.formula.substr(0, 60));
    try {
      (void)parse_expression(row.formula, {"x", "y", "u", "u_xx"}, {{"k", 100.0}});
      FAIL_CHECK("accepted");
    } catch (const InputError& e) {
      CHECK(e.column() == row.column);
      CHECK(e.message() == row.message);
    }
  }
}

TEST_CASE("an error points into the file it came from", "[expression]") {
  const halfulp::TextOrigin origin{"poisson.toml", 8, 6, "u = \"sine(k*x)\""};
  try {
    (void)parse_expression("sine(k*x)", {"x"}, {{"k", 100.0}}, origin);
    FAIL("accepted");
  } catch (const InputError& e) {
    CHECK(e.line() == 8);
    CHECK(e.column() == 6);
    CHECK(std::string(e.what()) ==
          "poisson.toml:8:6: unknown function 'sine', did you mean 'sin'?\n"
          "  u = \"sine(k*x)\"\n"
          "       ^");
  }
  try {  // a later line of a formula starts at column 1
    (void)parse_expression("x +\n  y", {"x"}, {}, origin);
    FAIL("accepted");
  } catch (const InputError& e) {
    CHECK(e.line() == 9);
    CHECK(e.column() == 3);
  }
  try {
    (void)parse_expression("x + y", {"x"});
    FAIL("accepted");
  } catch (const InputError& e) {
    CHECK(std::string(e.what()) ==
          "<expression>:1:5: unknown name 'y', known are x, pi, e\n"
          "  x + y\n"
          "      ^");
  }
}

TEST_CASE("names are checked", "[expression]") {
  CHECK_THROWS_AS(parse_expression("x", {"x", "sin"}), DomainError);
  CHECK_THROWS_AS(parse_expression("x", {"x"}, {{"pi", 3.0}}), DomainError);
  CHECK_THROWS_AS(parse_expression("x", {"x"}, {{"x", 3.0}}), DomainError);
  CHECK_THROWS_AS(parse_expression("x", {"2x"}), DomainError);
  CHECK_THROWS_AS(Expression::symbol("and"), DomainError);
  CHECK_THROWS_AS(Expression::symbol(""), DomainError);
  CHECK_THROWS_AS(Expression(std::nan("")), DomainError);
  CHECK_THROWS_AS(Expression(std::numeric_limits<double>::infinity()), DomainError);
  CHECK_THROWS_AS(Program<double>(parse("x + y"), {"x"}), DomainError);
  CHECK_THROWS_AS(Program<double>(parse("x"), {"x", "x"}), DomainError);
  CHECK_THROWS_WITH(parse("x + y").constant(),
                    "halfulp::Expression::constant: formula = x + y, must be without symbols: "
                    "found 'x'");
}

TEST_CASE("parameters may be formulas", "[expression]") {
  const Expression k = parse_expression("2*pi", {});
  const Expression f = parse_expression("sin(k*x)", {"x"}, {{"k", k}});
  CHECK(f.text() == "sin(2*pi*x)");
  CHECK(f.symbols() == std::set<std::string>{"x"});
  CHECK(f.substitute("x", Expression::symbol("y") + 1.0).text() == "sin(2*pi*(y + 1))");
  CHECK(parse("x*y").substitute({{"x", parse("y")}, {"y", parse("x")}}).text() == "y*x");
  CHECK(f.substitute("x", 0.0).is_zero());
  CHECK(f.depends_on("x"));
  CHECK_FALSE(f.depends_on("k"));
  CHECK(k.is_constant());
}

TEST_CASE("text of random trees reads back", "[expression]") {
  RandomFormula random(1);
  int distinct = 0;
  for (int i = 0; i < 4000; ++i) {
    const Expression f = parse(random.wild(1 + i % 6));
    const std::string text = f.text();
    CAPTURE(text);
    const Expression back = parse(text);
    REQUIRE(back.text() == text);
    std::vector<double> point;
    for (int d = 0; d < 4; ++d) point.push_back(random.uniform(-2, 2));
    REQUIRE(same_bits(value(f, point), value(back, point)));
    distinct += text.size() > 12;
  }
  CHECK(distinct > 2000);
}

TEST_CASE("numbers of any kind survive text", "[expression]") {
  for (const double v :
       {0.1, -0.1, 5e-324, 1.7976931348623157e308, 1e22, 1e23, 0.5, -3.0, 2e-310}) {
    CAPTURE(v);
    const Expression f(v);
    CHECK(same_bits(value(parse(f.text())), v));
    CHECK(parse(f.text()).text() == f.text());
  }
  const dd third = dd(1) / dd(3);
  CHECK(same_bits(parse(Expression(third).text()).constant(), third));
  CHECK(same_bits(
      parse((Expression(-third) * Expression::symbol("x")).text()).substitute("x", 1.0).constant(),
      -third));
}

// ---- values
// -------------------------------------------------------------------------------------------

TEST_CASE("literals and constants have the precision of T", "[expression]") {
  for (const char* text : {"0.1", "-0.1", "3.14159265358979323846264338327950288419716939937511",
                           "1e-7", "123456789.123456789e-3", "2.2250738585072011e-308", "1e308",
                           "9007199254740993", "0.3333333333333333333333333333333333333333"}) {
    CAPTURE(text);
    const Mp exact(text);
    const Expression f = parse(text);
    CHECK(abs(value<Mp>(f) - exact) <= abs(exact) * Mp("1e-98"));
    CHECK(value<double>(f) == static_cast<double>(exact));
    const dd v = value<dd>(f);
    CHECK(abs(to_mp(v) - exact) <= abs(exact) * ldexp(Mp(1), -106) + ldexp(Mp(1), -1075));
    CHECK(v.hi == static_cast<double>(exact));
  }
  const Mp pi = boost::math::constants::pi<Mp>(), e = exp(Mp(1));
  CHECK(abs(value<Mp>(parse("pi")) - pi) < Mp("1e-97"));
  CHECK(abs(to_mp(value<dd>(parse("pi"))) - pi) < ldexp(Mp(1), -106));
  CHECK(abs(to_mp(value<dd>(parse("e"))) - e) < ldexp(Mp(1), -106));
  CHECK(value(parse("pi")) == M_PI);
  // Nothing is rounded before T is known.
  CHECK(abs(value<Mp>(parse("0.1 + 0.2 - 0.3"))) < Mp("1e-98"));
  CHECK(abs(value<Mp>(parse("1/3*3 - 1"))) < Mp("1e-98"));
}

TEST_CASE("operators and functions, point by point", "[expression]") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  struct Row {
    const char* formula;
    double x, expected;
  };
  for (const auto& [formula, x, expected] : std::initializer_list<Row>{
           {"x^2", -3, 9},
           {"x^3", -3, -27},
           {"x^-1", -4, -0.25},
           {"x^16", -2, 65536},
           {"x^17", -2, -131072},
           {"x^-3", -2, -0.125},
           {"x^0.5", 4, 2},
           {"x^0.5", -4, nan},
           {"x^0", 0, 1},
           {"x^-1", 0, inf},
           {"x^y", 0, 1},
           {"step(x)", 0, 1},
           {"step(x)", -1, 0},
           {"step(x)", nan, nan},
           {"sign(x)", -2, -1},
           {"sign(x)", 0, 0},
           {"sign(x)", nan, nan},
           {"min(x, 1)", 2, 1},
           {"min(x, 1)", nan, nan},
           {"max(1, x)", nan, nan},
           {"max(x, 1)", 2, 2},
           {"mod(x, 3)", 7, 1},
           {"mod(x, 3)", -7, 2},
           {"mod(x, -3)", 7, -2},
           {"round(x)", 2.5, 3},
           {"round(x)", -2.5, -3},
           {"floor(x)", -1.5, -2},
           {"ceil(x)", -1.5, -1},
           {"log(x)", -1, nan},
           {"sqrt(x)", -1, nan},
           {"asin(x)", 2, nan},
           {"x < 1", 0, 1},
           {"x < 1", nan, 0},
           {"x != 1", nan, 1},
           {"x ? 2 : 3", 0, 3},
           {"x ? 2 : 3", -1, 2},
           {"x ? 2 : 3", nan, nan},
           {"x and 1", 5, 1},
           {"x and 1", nan, nan},
           {"x or 1", 0, 1},
           {"x > 0 and x < 2 or x == 7", 7, 1},
           {"1/x", 0, inf},
           {"hypot(x, 4)", 3, 5},
           {"atan2(x, -1)", 0, M_PI},
           {"abs(x)", -2.5, 2.5},
           {"x/0", 1, inf},
       }) {
    CAPTURE(formula, x, expected);
    CHECK(same_bits(value(parse(formula), {x}), expected));
    const double as_dd = value<dd>(parse(formula), {dd(x)}).hi;
    CHECK((same_bits(as_dd, expected) || as_dd == expected));
  }
}

TEST_CASE("double, double-double and multiprecision agree", "[expression]") {
  RandomFormula random(2);
  int compared = 0;
  for (int i = 0; i < 300; ++i) {
    const Expression f = parse(random.smooth(2 + i % 3));
    std::vector<double> point;
    std::vector<dd> point_dd;
    std::vector<Mp> point_mp;
    for (int d = 0; d < 4; ++d) {
      point.push_back(random.uniform(-1, 1));
      point_dd.emplace_back(point.back());
      point_mp.emplace_back(point.back());
    }
    const Mp exact = value<Mp>(f, point_mp);
    CAPTURE(f.text(), exact);
    if (!finite(exact) || abs(exact) > 1e6) continue;
    ++compared;
    const Mp scale = 1 + abs(exact);
    CHECK(abs(value(f, point) - exact) < 1e-12 * scale);
    CHECK(abs(to_mp(value<dd>(f, point_dd)) - exact) < Mp("1e-28") * scale);
  }
  CHECK(compared > 250);
}

// ---- derivatives
// --------------------------------------------------------------------------------------

namespace {

/// Central difference; error of order h^2 f''' with h = 1e-30.
Mp difference(const Program<Mp>& f, std::vector<Mp> point, std::size_t along) {
  const Mp h("1e-30"), x = point[along];
  point[along] = x + h;
  const Mp up = f(std::span<const Mp>(point));
  point[along] = x - h;
  return (up - f(std::span<const Mp>(point))) / (2 * h);
}

}  // namespace

TEST_CASE("every function's derivative against finite differences", "[expression]") {
  struct Row {
    const char* formula;
    double low, high;
  };
  RandomFormula random(3);
  for (const auto& [formula, low, high] : std::initializer_list<Row>{
           {"sin(x)", -9, 9},
           {"cos(x)", -9, 9},
           {"tan(x)", -1.5, 1.5},
           {"asin(x)", -0.99, 0.99},
           {"acos(x)", -0.99, 0.99},
           {"atan(x)", -9, 9},
           {"atan2(x, y)", -9, 9},
           {"atan2(y, x)", -9, 9},
           {"sinh(x)", -3, 3},
           {"cosh(x)", -3, 3},
           {"tanh(x)", -3, 3},
           {"asinh(x)", -9, 9},
           {"acosh(x)", 1.1, 9},
           {"atanh(x)", -0.99, 0.99},
           {"exp(x)", -3, 3},
           {"expm1(x)", -3, 3},
           {"log(x)", 0.1, 9},
           {"log10(x)", 0.1, 9},
           {"log2(x)", 0.1, 9},
           {"log1p(x)", -0.9, 9},
           {"sqrt(x)", 0.1, 9},
           {"cbrt(x)", 0.1, 9},
           {"abs(x)", -9, 9},
           {"sign(x)", 0.1, 9},
           {"min(x, y)", -1, 1},
           {"max(x, y)", -1, 1},
           {"min(y, x)", -1, 1},
           {"hypot(x, y)", -9, 9},
           {"erf(x)", -3, 3},
           {"erfc(x)", -3, 3},
           {"step(x)", 0.1, 9},
           {"floor(x)", 1.1, 1.9},
           {"ceil(x)", 1.1, 1.9},
           {"round(x)", 1.6, 2.4},
           {"mod(x, y)", 2.1, 2.9},
           {"mod(3*y, x)", 0.1, 3},
           {"if(x < 0, x^2, x^3)", -1, 1},
           {"x^5", -2, 2},
           {"x^-3", -2, -1},
           {"x^0.1", 0.1, 3},
           {"x^pi", 0.1, 3},
           {"0.3^x", -2, 2},
           {"pi^x", -2, 2},
           {"x^y", 0.1, 3},
           {"x^(x*y)", 0.1, 3},
           {"x*y/(x - 7)", -2, 2},
           {"(x < y) + (x == y)", 1.1, 2},
           {"x and y", 0.1, 1},
           {"-x", -1, 1},
           {"x - y*x", -1, 1},
       }) {
    const Expression f = parse(formula), df = f.derivative("x"), ddf = df.derivative("x");
    const Program<Mp> p(f, kNames), dp(df, kNames), ddp(ddf, kNames);
    for (int i = 0; i < 8; ++i) {
      std::vector<Mp> point{random.uniform(low, high), random.uniform(0.2, 1), 0, 0};
      CAPTURE(formula, df.text(), point[0], point[1]);
      const Mp d = dp(std::span<const Mp>(point)), dd_ = ddp(std::span<const Mp>(point));
      CHECK(abs(d - difference(p, point, 0)) <= Mp("1e-45") * (1 + abs(d)));
      CHECK(abs(dd_ - difference(dp, point, 0)) <= Mp("1e-45") * (1 + abs(dd_)));
    }
  }
}

TEST_CASE("derivatives of random trees against finite differences", "[expression]") {
  RandomFormula random(4);
  int compared = 0;
  for (int i = 0; i < 250; ++i) {
    const Expression f = parse(random.smooth(2 + i % 3));
    const Program<Mp> p(f, kNames);
    std::vector<Mp> point;
    for (int d = 0; d < 4; ++d) point.emplace_back(random.uniform(-1, 1));
    for (std::size_t d = 0; d < 2; ++d) {
      const Expression df = f.derivative(kNames[d]);
      CAPTURE(f.text(), df.text());
      const Mp exact = value<Mp>(df, point), approximate = difference(p, point, d);
      if (!finite(exact) || abs(exact) > 1e6) continue;
      ++compared;
      CHECK(abs(exact - approximate) < Mp("1e-38") * (1 + abs(exact)));
    }
  }
  CHECK(compared > 450);
}

TEST_CASE("derivatives against GiNaC", "[expression]") {
#ifdef HALFULP_TEST_GINAC
  const auto to_mp = [](const GiNaC::ex& e) {
    std::ostringstream text;
    text << e;
    return Mp(text.str());
  };
  GiNaC::Digits = 60;
  for (const char* formula : {"x^2*y",
                              "sin(x)*cos(y)",
                              "sin(3*x)^2/(1 + y^2)",
                              "exp(-x^2 - y^2)",
                              "log(1 + x^2*y^2)",
                              "sqrt(1 + x^2 + y^4)",
                              "x^y",
                              "(x + y)^5",
                              "tanh((x - y)/3)",
                              "atan(x/y)",
                              "atan2(x, y)",
                              "sinh(x)*cosh(y)",
                              "asin(x*y/4)",
                              "acos(x*y/4)",
                              "exp(sin(x*y))",
                              "x*y/(x + y)",
                              "tan(x*y/4)",
                              "asinh(x*y)",
                              "atanh(x*y/4)",
                              "acosh(2 + x*y)",
                              "(x^2 + y^2)^(3/2)",
                              "sin(sin(sin(x*y)))",
                              "x^3*exp(-2*x)*sin(5*y)",
                              "1/(1 + exp(-x*y))",
                              "2^(x*y)",
                              "x^(-3)*y^(-2)",
                              "(x - y)^7/(x + y)^3",
                              "log(x)*log(y)",
                              "cos(100*x)*cos(100*y)",
                              "exp(x*log(y))",
                              "-x^2 - -y^2"}) {
    GiNaC::symtab table;
    const GiNaC::symbol x("x"), y("y");
    table["x"] = x, table["y"] = y;
    GiNaC::parser reader(table, true);
    const GiNaC::ex g = reader(formula);
    const Expression f = parse(formula);
    const GiNaC::numeric gx("7/10"), gy("13/10");
    const std::vector<Mp> point{Mp("0.7"), Mp("1.3")};
    const GiNaC::lst at{x == gx, y == gy};
    struct Derivative {
      const char* name;
      GiNaC::ex theirs;
      Expression ours;
    };
    for (const auto& [name, theirs, ours] :
         {Derivative{"f", g, f}, Derivative{"f_x", g.diff(x), f.derivative("x")},
          Derivative{"f_xx", g.diff(x, 2), f.derivative("x").derivative("x")},
          Derivative{"f_xy", g.diff(x).diff(y), f.derivative("x").derivative("y")},
          Derivative{"f_xyy", g.diff(x).diff(y, 2),
                     f.derivative("y").derivative("y").derivative("x")}}) {
      CAPTURE(formula, name, ours.text());
      const Mp reference = to_mp(theirs.subs(at).evalf());
      CHECK(abs(value<Mp>(ours, point) - reference) <= Mp("1e-50") * (1 + abs(reference)));
    }
  }
#else
  WARN("SKIPPED: built without GiNaC");
#endif
}

TEST_CASE("derivatives of large formulas stay small", "[expression]") {
  // p -> p^2-like products nested ten deep: 2^10 factors as a tree, ten products as a graph.
  Expression f = Expression::symbol("x") + Expression::symbol("y");
  for (int i = 0; i < 10; ++i) f = f * (f + 1.0);
  const Expression second = f.derivative("x").derivative("x");
  const auto flat = halfulp::detail::flatten({&second, 1}, {"x", "y"});
  CHECK(flat.instructions.size() < 120);
  CHECK_THROWS_AS(
      [&] {
        Expression g = f;
        for (int i = 0; i < 20; ++i) g = g * (g + 1.0);
        return g.text();
      }(),
      DomainError);

  // Parsed text has no shared nodes: value numbering finds them.
  std::string text = "x + y";
  for (int i = 0; i < 8; ++i) text = "(" + text + ")*(" + text + ")";
  const Expression parsed = parse(text), d = parsed.derivative("x").derivative("x");
  const auto shared = halfulp::detail::flatten({&d, 1}, {"x", "y"});
  CHECK(shared.instructions.size() < 80);

  // Deep formulas: no recursion anywhere.
  Expression sum(0.0), x = Expression::symbol("x");
  for (int i = 0; i < 200000; ++i) sum = sum + x * x;
  const Expression ds = sum.derivative("x").substitute("x", Expression::symbol("z"));
  CHECK(value(ds, {0, 0, 1.5}) == 600000);
}

// ---- grids
// ------------------------------------------------------------------------------------------

namespace {

template <class T>
void check_grid(const std::vector<Expression>& f, const std::vector<std::ptrdiff_t>& lengths) {
  const std::vector<std::string> names(kNames.begin(), kNames.begin() + std::ssize(lengths));
  const Program<T> p(f, names);
  std::vector<std::vector<T>> axes(lengths.size());
  std::size_t n = 1;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    for (int i = 0; i < lengths[d]; ++i)
      axes[d].push_back(T(2 * i - static_cast<int>(lengths[d])) / T(7 + static_cast<int>(d)));
    n *= static_cast<std::size_t>(lengths[d]);
  }
  for (const int threads : {1, 2, 3, 7}) {
    std::vector<T> out(f.size() * n, T(-77));
    p.on_grid(axes, out, threads);
    std::size_t wrong = 0;
    for (std::size_t point = 0; point < n; ++point) {
      std::vector<T> in(lengths.size()), v(f.size());
      std::size_t rest = point;
      for (std::size_t d = lengths.size(); d-- > 0;) {
        in[d] = axes[d][rest % static_cast<std::size_t>(lengths[d])];
        rest /= static_cast<std::size_t>(lengths[d]);
      }
      p(std::span<const T>(in), std::span<T>(v));
      for (std::size_t k = 0; k < f.size(); ++k) wrong += !same_bits(out[k * n + point], v[k]);
    }
    CAPTURE(threads, lengths.size());
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("on_grid has the bits of operator(), for any threads", "[expression]") {
  std::vector<Expression> f;
  for (const char* text : {"sin(3*x)*cos(2*y) + x*y*z", "x^2", "2*pi", "sin(3*x)*exp(y)", "y",
                           "x^2", "y*z + cos(y*z)", "x < y ? log(x) : sqrt(z)",
                           "x + y + z + (x + y)*(y + z)*(x + z)", "0", "sin(3*x)*cos(2*y) + x*y*z"})
    f.push_back(parse(text));
  check_grid<double>(f, {37, 21, 5});
  check_grid<dd>(f, {37, 21, 5});
  check_grid<double>(f, {1, 3000, 1});
  check_grid<double>(f, {3000, 1, 2});
  check_grid<double>({parse("sin(100*x)*sin(100*y)"), parse("x*y")}, {300, 300});
  check_grid<double>({parse("sin(100*x)"), parse("x"), parse("3")}, {5000});
  check_grid<double>({parse("7")}, {});

  RandomFormula random(5);
  for (int i = 0; i < 40; ++i) {
    std::vector<Expression> many;
    for (int k = 0; k < 3; ++k) many.push_back(parse(random.smooth(4)));
    for (int k = 0; k < 3; ++k) many.push_back(parse(random.wild(4)));
    check_grid<double>(many, {11, 13, 7, 3});
    if (i % 8 == 0) check_grid<dd>(many, {5, 1, 7, 3});
  }
}

TEST_CASE("the example of the manual", "[expression]") {
  const auto u = parse_expression("sin(k*x)*exp(-y)", {"x", "y"}, {{"k", 100.0}});
  const auto u_xx = u.derivative("x").derivative("x");
  CHECK(u_xx.text() == "-10000*sin(100*x)*exp(-y)");
}

TEST_CASE("precision that is chosen at run time", "[expression]") {
  using boost::multiprecision::mpfr_float;
  for (const unsigned digits : {30u, 200u}) {
    mpfr_float::default_precision(digits);
    const Program<mpfr_float> p(parse("sin(pi/6) + 0.1*x"), {"x"});
    const mpfr_float x(1), tolerance = pow(mpfr_float(10), 2 - static_cast<int>(digits));
    CHECK(abs(p(std::span<const mpfr_float>(&x, 1)) - mpfr_float("0.6")) < tolerance);
    std::vector<mpfr_float> out(1);
    p.on_grid(std::vector<std::vector<mpfr_float>>{{x}}, out, 1);
    CHECK(abs(out[0] - mpfr_float("0.6")) < tolerance);
  }
}

TEST_CASE("a multiprecision grid", "[expression]") {
  const Program<Mp> p(parse("sin(x)*exp(y)"), {"x", "y"});
  const std::vector<std::vector<Mp>> axes{{Mp("0.1"), Mp("0.2")}, {Mp(1), Mp(2), Mp(3)}};
  std::vector<Mp> out(6);
  p.on_grid(axes, out);
  CHECK(out[5] == sin(axes[0][1]) * exp(axes[1][2]));
}

namespace {

/// A double that counts its sines.
struct Counted {
  double v = 0;
  static inline long sines = 0;
  Counted(double value = 0) : v(value) {}  // NOLINT
  friend Counted operator+(Counted a, Counted b) { return a.v + b.v; }
  friend Counted operator-(Counted a, Counted b) { return a.v - b.v; }
  friend Counted operator*(Counted a, Counted b) { return a.v * b.v; }
  friend Counted operator/(Counted a, Counted b) { return a.v / b.v; }
  friend Counted operator-(Counted a) { return -a.v; }
  friend bool operator==(Counted a, Counted b) { return a.v == b.v; }
  friend auto operator<=>(Counted a, Counted b) { return a.v <=> b.v; }
  friend Counted sin(Counted a) { return ++sines, std::sin(a.v); }
};
#define SAME_AS_DOUBLE(f) \
  [[maybe_unused]] Counted f(Counted a) { return std::f(a.v); }
// clang-format off
SAME_AS_DOUBLE(cos) SAME_AS_DOUBLE(tan) SAME_AS_DOUBLE(asin) SAME_AS_DOUBLE(acos)
SAME_AS_DOUBLE(atan) SAME_AS_DOUBLE(sinh) SAME_AS_DOUBLE(cosh) SAME_AS_DOUBLE(tanh)
SAME_AS_DOUBLE(asinh) SAME_AS_DOUBLE(acosh) SAME_AS_DOUBLE(atanh) SAME_AS_DOUBLE(exp)
SAME_AS_DOUBLE(expm1) SAME_AS_DOUBLE(log) SAME_AS_DOUBLE(log10) SAME_AS_DOUBLE(log2)
SAME_AS_DOUBLE(log1p) SAME_AS_DOUBLE(sqrt) SAME_AS_DOUBLE(cbrt) SAME_AS_DOUBLE(abs)
SAME_AS_DOUBLE(erf) SAME_AS_DOUBLE(erfc) SAME_AS_DOUBLE(floor) SAME_AS_DOUBLE(ceil)
SAME_AS_DOUBLE(round)
// clang-format on
#undef SAME_AS_DOUBLE
                            [[maybe_unused]] Counted pow(Counted a, Counted b) {
  return std::pow(a.v, b.v);
}
[[maybe_unused]] Counted atan2(Counted a, Counted b) { return std::atan2(a.v, b.v); }
[[maybe_unused]] Counted hypot(Counted a, Counted b) { return std::hypot(a.v, b.v); }

}  // namespace

template <>
struct halfulp::ProgramTraits<Counted> : halfulp::ProgramTraits<double> {};

TEST_CASE("a subexpression is evaluated on its own axes only", "[expression]") {
  const std::vector<Expression> f{parse("sin(3*x)*sin(3*y)"), parse("sin(3*x)*x*y + sin(2)")};
  const Program<Counted> p(f, {"x", "y"});
  const std::vector<std::vector<Counted>> axes{std::vector<Counted>(300, 0.5),
                                               std::vector<Counted>(200, 0.5)};
  std::vector<Counted> out(2 * 300 * 200);
  Counted::sines = 0;
  p.on_grid(axes, out, 1);
  CHECK(Counted::sines == 500);
}

TEST_CASE("wrong sizes are refused", "[expression]") {
  const Program<double> p(parse("x*y"), {"x", "y"});
  std::vector<double> out(6), point{1, 2, 3};
  std::vector<std::vector<double>> axes{{1, 2}, {1, 2, 3}};
  CHECK_NOTHROW(p.on_grid(axes, out));
  CHECK(out == std::vector<double>{1, 2, 3, 2, 4, 6});
  CHECK_THROWS_AS(p.on_grid(axes, std::span(out).first(5)), ShapeError);
  CHECK_THROWS_AS(p.on_grid(axes, out, -1), DomainError);
  CHECK_THROWS_AS(p.on_grid(std::span(axes).first(1), out), ShapeError);
  CHECK_THROWS_AS(p(point), ShapeError);
  axes[0].clear();
  CHECK_THROWS_AS(p.on_grid(axes, out), ShapeError);
  CHECK_NOTHROW(p.on_grid(axes, std::span<double>{}));
  CHECK_THROWS_AS(Program<double>(parse("1"), std::vector<std::string>(65, "x")), DomainError);
}

TEST_CASE("brief_text is the beginning of text", "[expression]") {
  const auto f = halfulp::parse_expression("sin(100*x) + x^2", {"x"});
  CHECK(f.brief_text(100) == f.text());
  CHECK(f.brief_text(f.text().size()) == f.text());
  CHECK(f.brief_text(5) == "sin(1...");
  CHECK(f.brief_text(0) == "...");
}
