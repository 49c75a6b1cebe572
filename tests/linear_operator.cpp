#include "detail/linear_operator.hpp"

#include <catch2/catch.hpp>

#include "halfulp/error.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;

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
  auto op = gp_pde::detail::extract_linear_operator(problem_of("u_xx + u_yy - f"));
  REQUIRE(op.coefficients.size() == 2);
  CHECK(op.coefficients.at({2, 0}).constant().hi == 1);
  CHECK(op.coefficients.at({0, 2}).constant().hi == 1);
  CHECK(op.forcing_factor == 1);
  CHECK(op.source.is_zero());

  op = gp_pde::detail::extract_linear_operator(
      problem_of("2*(f - u_xx/4) + k*(u_x - u) + (1 + x)*(u_xy + u_yx - y) + sin(x)*u"));
  REQUIRE(op.coefficients.size() == 4);
  CHECK(at(op.coefficients.at({2, 0}), 0.5, 0.25) == -0.5);
  CHECK(at(op.coefficients.at({1, 0}), 0.5, 0.25) == 3);
  CHECK(at(op.coefficients.at({1, 1}), 0.5, 0.25) == 3);
  CHECK(at(op.coefficients.at({0, 0}), 0.5, 0.25) == std::sin(0.5) - 3);
  CHECK(op.forcing_factor == -2);
  CHECK(at(op.source, 0.5, 0.25) == 1.5 * 0.25);

  op = gp_pde::detail::extract_linear_operator(problem_of("u_xx - u_xx + u_y", {"x", "y"}));
  CHECK(op.coefficients.size() == 1);
  CHECK(op.forcing_factor == 0);
}

TEST_CASE("what is not linear is refused", "[linear_operator]") {
  for (const auto* equation : {"u_xx + u^2 - f",
                               "u*u_x - f",
                               "sin(u) + u_xx",
                               "u_xx + step(u)",
                               "u_xx + abs(u_x)",
                               "u_xx + u + floor(u) - f",
                               "u_xx*f + u",
                               "u_xx + f^2",
                               "u_xx + x*f",
                               "x + y - f",
                               "f",
                               "0",
                               "u_xx - u_xx - f",
                               "u_xx + v",
                               "u_xx + (u > 0 ? u : 2*u)",
                               "u_xx + (u > 0)",
                               "1/u_x + u_xx",
                               "u_xx + u_t",
                               "exp(u_xx) - f",
                               "u_xx + max(u, 0)",
                               "u_xx + u/f"}) {
    INFO(equation);
    CHECK_THROWS_AS(gp_pde::detail::extract_linear_operator(problem_of(equation)), DomainError);
  }
}
