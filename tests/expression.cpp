#include "halfulp/expression.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "halfulp/error.hpp"

using halfulp::dd;
using halfulp::Expression;
using halfulp::parse_expression;
using halfulp::Program;

namespace {

Expression parse(const std::string& text) { return parse_expression(text, {"x", "y", "z", "u"}); }

double at(const Expression& f, std::vector<double> point) {
  return Program<double>(f, {"x", "y", "z", "u"})(point);
}

}  // namespace

TEST_CASE("precedence and text", "[expression]") {
  struct Row {
    const char *formula, *text;
  };
  for (const auto& [formula, text] : std::initializer_list<Row>{
           {"-x^2", "-x^2"},
           {"(-x)^2", "(-x)^2"},
           {"2^3^2", "512"},
           {"x^y^z", "x^y^z"},
           {"(x^y)^z", "(x^y)^z"},
           {"x**2", "x^2"},
           {"x^-2", "x^-2"},
           {"x - (y - z)", "x - (y - z)"},
           {"x - y - z", "x - y - z"},
           {"x/(y*z)", "x/(y*z)"},
           {"x/y*z", "x/y*z"},
           {"-x*y", "-x*y"},
           {"-(x*y)", "-x*y"},
           {"-(x+y)", "-(x + y)"},
           {"x < y and y < z or u", "x < y and y < z or u"},
           {"x < y ? y : z < u ? 1 : 2", "x < y ? y : z < u ? 1 : 2"},
           {"(x ? y : z) + 1", "(x ? y : z) + 1"},
           {"if(x, y, z)", "x ? y : z"},
           {"0.1*x", "0.1*x"},
           {"x*3*2", "6*x"},
           {"0*sin(x) + 1*y", "y"},
           {"--x", "x"},
           {"e^x", "exp(x)"},
           {"max(x, y, z)", "max(max(x, y), z)"},
           {"0x1.8p+1*x", "3*x"},
           {"1e3*x", "1000*x"},
           {"1e-7*x", "1e-7*x"},
           {"0.1 + 0.2", "0.1 + 0.2"},
       }) {
    CAPTURE(formula);
    const Expression f = parse(formula);
    CHECK(f.text() == text);
    CHECK(parse(f.text()).text() == text);
  }
}

TEST_CASE("derivatives of a manufactured solution", "[expression]") {
  const auto u = parse_expression("sin(k*x)*sin(k*y)", {"x", "y"}, {{"k", 100.0}});
  const auto uxx = u.derivative("x").derivative("x");
  const double x = 0.3, y = 0.7;
  CHECK(at(uxx, {x, y, 0, 0}) == Approx(-1e4 * std::sin(100 * x) * std::sin(100 * y)));
  CHECK(u.derivative("z").is_zero());
}

TEST_CASE("on_grid has the bits of operator()", "[expression]") {
  const std::vector<Expression> f{parse("sin(3*x)*cos(2*y) + x*y*z"), parse("x^2"), parse("2*pi"),
                                  parse("sin(3*x)*exp(y)"), parse("y")};
  const Program<dd> p(f, {"x", "y", "z"});
  std::vector<std::vector<dd>> axes(3);
  for (int i = 0; i < 37; ++i) axes[0].push_back(dd(i) / dd(7));
  for (int i = 0; i < 21; ++i) axes[1].push_back(dd(i) / dd(11));
  for (int i = 0; i < 5; ++i) axes[2].push_back(dd(i) / dd(13));
  const std::size_t n = 37 * 21 * 5;
  for (const int threads : {1, 2, 3, 7}) {
    std::vector<dd> out(f.size() * n);
    p.on_grid(axes, out, threads);
    std::size_t wrong = 0, point = 0;
    for (const dd x : axes[0])
      for (const dd y : axes[1])
        for (const dd z : axes[2]) {
          std::vector<dd> v(f.size());
          p(std::vector<dd>{x, y, z}, v);
          for (std::size_t k = 0; k < f.size(); ++k)
            wrong += !(out[k * n + point].hi == v[k].hi && out[k * n + point].lo == v[k].lo);
          ++point;
        }
    CHECK(wrong == 0);
  }
}

TEST_CASE("an error says where", "[expression]") {
  try {
    (void)parse("sin(x");
    FAIL("accepted");
  } catch (const halfulp::InputError& e) {
    CHECK(e.column() == 6);
    CHECK(e.message() ==
          "expected ')' to close '(' of function 'sin' at column 4, found end of formula");
  }
}
