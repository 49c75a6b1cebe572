#include "detail/linear_operator.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "halfulp/error.hpp"
#include "halfulp/expression_program.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using gp_pde::detail::Equation;
using gp_pde::detail::LinearOperator;

namespace {

Problem problem_of(const std::string& equation, const std::vector<std::string>& axes = {"x", "y"}) {
  Problem problem;
  std::vector<std::string> symbols = axes;
  for (const auto& name : axes) problem.axes.push_back({name, 0.0, 1.0});
  for (const auto* name : {"u", "u_x", "u_y", "u_xx", "u_xy", "u_yx", "u_yy", "u_t", "f", "v"})
    symbols.emplace_back(name);
  problem.equation = parse_expression(equation, symbols, {{"k", 3.0}});
  return problem;
}

LinearOperator linear_operator(const Problem& problem) {
  const Equation equation = gp_pde::detail::extract_equation(problem);
  REQUIRE(equation.linear);
  LinearOperator op;
  op.source = equation.source;
  op.forcing_factor = equation.forcing_factor;
  for (std::size_t k = 0; k < equation.names.size(); ++k)
    op.coefficients.emplace(equation.orders[k], equation.partial[k]);
  return op;
}

double at(const Expression& formula, double x, double y) {
  const double point[] = {x, y};
  return Program<double>(formula, {"x", "y"})(point);
}

}  // namespace

TEST_CASE("derivatives have one name in the axes' order", "[linear_operator]") {
  const std::vector<Axis> axes{{"x", 0.0, 1.0}, {"theta", 0.0, 1.0}};
  CHECK(gp_pde::detail::derivative_name(axes, {0, 0}) == "u");
  CHECK(gp_pde::detail::derivative_name(axes, {2, 0}) == "u_xx");
  CHECK(gp_pde::detail::derivative_name(axes, {1, 1}) == "u_xtheta");
  CHECK(gp_pde::detail::derivative_orders(axes, "u") == std::vector<int>{0, 0});
  CHECK(gp_pde::detail::derivative_orders(axes, "u_thetax") == std::vector<int>{1, 1});
  CHECK(gp_pde::detail::derivative_orders(axes, "u_thetatheta") == std::vector<int>{0, 2});
  CHECK_FALSE(gp_pde::detail::derivative_orders(axes, "u_"));
  CHECK_FALSE(gp_pde::detail::derivative_orders(axes, "u_y"));
  CHECK_FALSE(gp_pde::detail::derivative_orders(axes, "v"));
  CHECK_FALSE(gp_pde::detail::derivative_orders(axes, "ux"));
  CHECK_FALSE(gp_pde::detail::derivative_orders(axes, "u_" + std::string(1000, 'x')));
}

TEST_CASE("an equation comes apart into coefficients and right-hand side", "[linear_operator]") {
  auto op = linear_operator(problem_of("u_xx + u_yy - f"));
  REQUIRE(op.coefficients.size() == 2);
  CHECK(op.coefficients.at({2, 0}).constant().hi == 1);
  CHECK(op.coefficients.at({0, 2}).constant().hi == 1);
  CHECK(op.forcing_factor == 1);
  CHECK(op.source.is_zero());

  op = linear_operator(
      problem_of("2*(f - u_xx/4) + k*(u_x - u) + (1 + x)*(u_xy + u_yx - y) + sin(x)*u"));
  REQUIRE(op.coefficients.size() == 4);
  CHECK(at(op.coefficients.at({2, 0}), 0.5, 0.25) == -0.5);
  CHECK(at(op.coefficients.at({1, 0}), 0.5, 0.25) == 3);
  CHECK(at(op.coefficients.at({1, 1}), 0.5, 0.25) == 3);
  CHECK(at(op.coefficients.at({0, 0}), 0.5, 0.25) == std::sin(0.5) - 3);
  CHECK(op.forcing_factor == -2);
  CHECK(at(op.source, 0.5, 0.25) == 1.5 * 0.25);

  op = linear_operator(problem_of("u_xx - u_xx + u_y", {"x", "y"}));
  CHECK(op.coefficients.size() == 1);
  CHECK(op.forcing_factor == 0);
}

TEST_CASE("a nonlinear equation comes apart", "[linear_operator]") {
  const Problem problem = problem_of("u_xx + u_yy + u*(u^2 - 1) + x*u*u_x - 2*f + sin(y)");
  const Equation e = gp_pde::detail::extract_equation(problem);
  CHECK_FALSE(e.linear);
  CHECK(e.forcing_factor == 2);
  CHECK(at(e.source, 0.5, 0.25) == -std::sin(0.25));
  const auto index = [&](const std::string& name) {
    return static_cast<std::size_t>(std::find(e.names.begin(), e.names.end(), name) -
                                    e.names.begin());
  };
  REQUIRE(e.names.size() == 4);
  const std::vector<std::string> inputs{"x", "y", "u", "u_x", "u_xx", "u_yy"};
  const double point[] = {0.5, 0.25, 2, 3, 5, 7};
  CHECK(Program<double>(e.left, inputs)(point) == Approx(5 + 7 + 2 * 3 + 0.5 * 2 * 3));
  CHECK(Program<double>(e.partial[index("u")], inputs)(point) == Approx(3 * 4 - 1 + 0.5 * 3));
  CHECK(Program<double>(e.partial[index("u_x")], inputs)(point) == 1);

  // Its derivative at a guess, with constants in the middle of their ranges.
  const auto op =
      gp_pde::detail::reference_operator(problem, e, parse_expression("2 + x", {"x", "y"}));
  CHECK(op.coefficients.at({2, 0}).constant().hi == 1);
  // 3 (2 + x)^2 - 1 + x: from 11 to 27; x (2 + x): from 0 to 3
  CHECK(op.coefficients.at({0, 0}).constant().hi == Approx(19));
  CHECK(op.coefficients.at({1, 0}).constant().hi == Approx(1.5));
  // Not finite at u = 0: nothing is moved to the right, and the guess must help.
  const Problem logarithm = problem_of("u_xx + log(u) - f", {"x"});
  const Equation l = gp_pde::detail::extract_equation(logarithm);
  CHECK(l.source.is_zero());
  CHECK_THROWS_AS(gp_pde::detail::reference_operator(logarithm, l, Expression(0.0)), DomainError);
  CHECK_NOTHROW(gp_pde::detail::reference_operator(logarithm, l, Expression(1.0)));
}

TEST_CASE("what is not solved is refused", "[linear_operator]") {
  for (const auto* equation : {"u_xx*f + u", "u_xx + f^2", "u_xx + x*f", "x + y - f", "f", "0",
                               "u_xx - u_xx - f", "u_xx + v", "u_xx + u_t", "u_xx + u/f",
                               "u_xx + step(u)", "u_xx + (u > 0)", "u_xx + floor(u) - f"}) {
    INFO(equation);
    CHECK_THROWS_AS(gp_pde::detail::extract_equation(problem_of(equation)), DomainError);
  }
}
