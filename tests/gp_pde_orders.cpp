#include <catch2/catch.hpp>
#include <cmath>

#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"
#include "pde_cases.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using namespace pde_cases;

namespace {

void check_all(const std::vector<Case>& cases, const std::string& budget_name) {
  for (const Case& t : cases) {
    const Problem p = manufactured_orders(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
                << s.residual << ", sides " << s.boundary_residual);
    CHECK(s.report.ok());
    CHECK(error <= limit(budget_name));
    CHECK(error <= s.error_estimate);
  }
}

}  // namespace

TEST_CASE("third and fourth order in one dimension, conditions on any side", "[orders][line]") {
  check_all(
      {{"third order", {"x"}, {{"0", "1"}}, "u_xxx - f", "sin(40*x) + exp(x)", {"01/0"}},
       {"Airy type", {"x"}, {{"-2", "3"}}, "u_xxx + x*u - f", "cos(30*x)*exp(-x)", {"0/01"}},
       {"mirrored", {"x"}, {{"0", "2*pi"}}, "-u_xxx + u_x - f", "sin(100*x)", {"02/1"}},
       {"clamped beam", {"x"}, {{"0", "2"}}, "u_xxxx - f", "sin(50*x) + x^3", {"01/01"}},
       {"supported beam",
        {"x"},
        {{"0", "pi"}},
        "u_xxxx - 2*u - f",
        "sin(20*x) + x^5/40",
        {"02/02"}},
       {"cantilever", {"x"}, {{"0", "1"}}, "u_xxxx - f", "cos(60*x) + x", {"01/23"}},
       {"beam on springs", {"x"}, {{"0", "1"}}, "u_xxxx + 100*u - f", "sin(33*x)", {"23/23"}},
       {"stiff beam",
        {"x"},
        {{"0", "1"}},
        "u_xxxx - 2500*u_xx - f",
        "sin(9*x) + exp(-50*x)",
        {"01/01"}},
       {"soft foundation", {"x"}, {{"0", "1"}}, "u_xxxx + 1e6*u - f", "cos(3*x)", {"01/02"}},
       {"fast", {"x"}, {{"0", "2*pi"}}, "u_xxxx - f", "sin(300*x)", {"01/01"}},
       {"fourth order start", {"x"}, {{"0", "2"}}, "u_xxxx + u_xx + u - f", "sin(25*x)", {"0123/"}},
       {"variable",
        {"x"},
        {{"0", "2"}},
        "(1 + x^2)*u_xxxx + x*u_xxx - u - f",
        "exp(-x)*sin(40*x)",
        {"01/01"}},
       {"periodic 3", {"x"}, {{"0", "2*pi"}}, "u_xxx + u - f", "exp(sin(3*x)) + cos(50*x)", {"P"}},
       {"periodic 4",
        {"x"},
        {{"0", "2*pi"}},
        "u_xxxx - u_x + u - f",
        "exp(sin(3*x)) + cos(50*x)",
        {"P"}}},
      "gp_pde_orders_1d");
}

TEST_CASE("initial value problems", "[orders][line]") {
  check_all(
      {{"oscillator 5", {"t"}, {{"0", "20"}}, "u_tt + 25*u - f", "cos(5*t)", {"01/"}},
       {"oscillator 300",
        {"t"},
        {{"0", "20"}},
        "u_tt + 90000*u - f",
        "cos(300*t) + sin(300*t)/3",
        {"01/"}},
       {"forced", {"t"}, {{"0", "10"}}, "u_tt + 900*u - f", "sin(31*t) + cos(30*t) + t", {"01/"}},
       {"damped", {"t"}, {{"0", "10"}}, "u_tt + u_t/2 + 400*u - f", "exp(-t/4)*cos(20*t)", {"01/"}},
       {"stiff",
        {"t"},
        {{"0", "1"}},
        "u_tt + 1000*u_t + 1000*u - f",
        "exp(-t) + sin(10*t)",
        {"01/"}},
       {"growing", {"t"}, {{"0", "10"}}, "u_tt - 25*u", "cosh(5*t)", {"01/"}},
       {"backward", {"t"}, {{"0", "10"}}, "u_tt + 100*u - f", "sin(10*t) + t^2", {"/01"}},
       {"third order",
        {"t"},
        {{"0", "5"}},
        "u_ttt + u_tt + 100*u_t + 100*u - f",
        "cos(10*t)",
        {"012/"}}},
      "gp_pde_orders_1d");
}

TEST_CASE("nonlinear equations with conditions on one side", "[orders][line][newton]") {
  check_all(
      {{"pendulum", {"t"}, {{"0", "5"}}, "u_tt + sin(u) - f", "2*cos(2*t)", {"01/"}},
       {"Duffing", {"t"}, {{"0", "5"}}, "u_tt + u + u^3 - f", "cos(3*t)/2", {"01/"}},
       {"van der Pol", {"t"}, {{"0", "4"}}, "u_tt - (1 - u^2)*u_t + u - f", "cos(3*t)", {"01/"}},
       {"Blasius",
        {"x"},
        {{"0", "4"}},
        "u_xxx + u*u_xx/2 - f",
        "x^2/(1 + x/2) + exp(-x)",
        {"01/1"}},
       {"beam", {"x"}, {{"0", "1"}}, "u_xxxx + u^3 - f", "sin(10*x)", {"01/01"}}},
      "gp_pde_orders_1d");
}

TEST_CASE("waves, beams and dispersion in space-time", "[orders][plane]") {
  const std::vector<std::array<std::string, 2>> box{{"0", "1"}, {"0", "1"}};
  const std::vector<std::string> xt{"x", "t"};
  check_all(
      {{"wave", xt, box, "u_tt - u_xx", "sin(20*x)*cos(20*t)", {"0/0", "01/"}},
       {"wave forced", xt, box, "u_tt - 4*u_xx - f", "sin(30*x)*cos(50*t) + x*t", {"0/0", "01/"}},
       {"wave Neumann",
        xt,
        box,
        "u_tt - u_xx - f",
        "cos(17*x - 5)*sin(30*t) + x^2",
        {"1/1", "01/"}},
       {"wave mixed", xt, box, "u_tt - u_xx - f", "exp(x)*sin(30*t)", {"0/1", "01/"}},
       {"wave periodic",
        xt,
        {{"0", "2*pi"}, {"0", "2"}},
        "u_tt - u_xx",
        "sin(10*(x - t))",
        {"P", "01/"}},
       {"travelling", xt, box, "u_tt - u_xx", "sin(50*(x - t)) + exp(x + t)", {"0/0", "01/"}},
       {"wave backward", xt, box, "u_tt - u_xx", "sin(20*x)*cos(20*t)", {"0/0", "/01"}},
       {"Klein-Gordon", xt, box, "u_tt - u_xx + 100*u - f", "sin(8*x)*cos(13*t)", {"0/0", "01/"}},
       {"damped wave",
        xt,
        box,
        "u_tt + u_t - u_xx - f",
        "exp(-t/2)*sin(10*x + 7*t)",
        {"0/0", "01/"}},
       {"wave 100", xt, box, "u_tt - u_xx - f", "sin(100*x)*cos(90*t)", {"0/0", "01/"}},
       {"beam", xt, box, "u_tt + u_xxxx/100 - f", "sin(12*x)*cos(20*t)", {"02/02", "01/"}},
       {"cantilever", xt, box, "u_tt + u_xxxx/100 - f", "sin(12*x)*cos(20*t)", {"01/23", "01/"}},
       {"clamped beam", xt, box, "u_tt + u_xxxx - f", "exp(x)*cos(9*t)", {"01/01", "01/"}},
       {"linear KdV", xt, box, "u_t + u_xxx - f", "sin(10*x + 20*t)", {"0/01", "0/"}},
       {"linear KdV, mirrored", xt, box, "u_t - u_xxx - f", "sin(30*x)*cos(20*t)", {"01/0", "0/"}},
       {"linear KdV, periodic",
        xt,
        {{"0", "2*pi"}, {"0", "1"}},
        "u_t + u_xxx",
        "cos(4*x + 64*t)",
        {"P", "0/"}},
       {"fourth order diffusion",
        xt,
        box,
        "u_t + u_xxxx/100 - f",
        "sin(9*x)*exp(-t)",
        {"01/01", "0/"}},
       {"plate",
        {"x", "y"},
        box,
        "u_xxxx + 2*u_xxyy + u_yyyy - f",
        "sin(9*x)*cos(7*y)",
        {"01/01", "01/01"}},
       {"plate, supported",
        {"x", "y"},
        box,
        "u_xxxx + u_yyyy - f",
        "sin(9*x)*cos(7*y)",
        {"02/02", "02/02"}}},
      "gp_pde_orders_2d");
}

TEST_CASE("nonlinear evolutions", "[orders][plane][newton]") {
  const std::vector<std::array<std::string, 2>> box{{"0", "1"}, {"0", "1"}};
  const std::vector<std::string> xt{"x", "t"};
  check_all(
      {{"sine-Gordon in time",
        xt,
        box,
        "u_tt - u_xx + sin(u) - f",
        "sin(8*x)*cos(9*t)",
        {"0/0", "01/"}},
       {"KdV forced", xt, box, "u_t + 6*u*u_x + u_xxx - f", "sin(6*x - 4*t)/2", {"0/01", "0/"}},
       {"variable wave speed",
        xt,
        box,
        "u_tt - (1 + x^2)*u_xx - f",
        "sin(8*x)*cos(9*t)",
        {"0/0", "01/"}},
       {"variable damping",
        xt,
        box,
        "u_tt + x*u_t - u_xx - f",
        "sin(8*x)*cos(9*t)",
        {"0/0", "01/"}},
       {"beam, cubic",
        xt,
        box,
        "u_tt + u_xxxx/100 + u^3 - f",
        "sin(8*x)*cos(9*t)",
        {"02/02", "01/"}},
       {"KdV small periodic",
        xt,
        {{"0", "2*pi"}, {"0", "1"}},
        "u_t + 6*u*u_x + u_xxx - f",
        "0.1*cos(x - t)",
        {"P", "0/"}}},
      "gp_pde_orders_2d");
}

TEST_CASE("a side's conditions in the forms that they have", "[orders][line]") {
  // The same beam by neumann and derivative, robin and linear conditions.
  const Problem p = manufactured_orders(
      {"beam", {"x"}, {{"0", "1"}}, "u_xxxx - f", "sin(20*x) + x^2", {"01/01"}});
  Problem q = p;
  const Expression slope = p.exact->derivative("x");
  q.sides[0][0] = {.kind = SideKind::neumann, .g = -slope};
  q.sides[0][0].also = {
      {.kind = SideKind::linear, .g = *p.exact * Expression(3.0), .coefficients = {3.0}}};
  q.sides[0][1] = {
      .kind = SideKind::robin, .a = 2, .b = 1, .g = *p.exact * Expression(2.0) + slope};
  q.sides[0][1].also = {{.kind = SideKind::linear,
                         .g = *p.exact - Expression(0.5) * slope,
                         .coefficients = {1.0, -0.5}}};
  const Solution s = solve(q);
  CHECK(s.report.ok());
  CHECK(true_error(q, s) <= limit("gp_pde_orders_1d"));
  // All derivatives to the fourth.
  const auto x = grid_of(p, 40);
  Expression exact = *p.exact;
  for (int order = 0; order <= 4; ++order) {
    const std::vector<double> values = s.on_grid(x, std::vector<int>{order});
    const Program<double> known(exact, {"x"});
    for (std::size_t i = 0; i < values.size(); ++i)
      CHECK(values[i] == Approx(known(std::span<const double>(&x[0][i], 1)))
                             .epsilon(1e-11)
                             .margin(1e-12 * std::pow(20.0, order)));
    exact = exact.derivative("x");
  }
}

TEST_CASE("conditions that do not suit the equation are refused", "[orders]") {
  const std::vector<std::string> xt{"x", "t"};
  const std::vector<std::array<std::string, 2>> box{{"0", "1"}, {"0", "1"}};
  const auto message = [&](const std::string& equation, const std::vector<std::string>& sides) {
    try {
      (void)Solver(manufactured_orders({"refused", xt, box, equation, "sin(x)*cos(t)", sides}));
    } catch (const DomainError& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  using Catch::Matchers::Contains;
  CHECK(message("u_tt - u_xx - f", {"0/0", "01/"}) == "taken");
  CHECK_THAT(message("u_tt - u_xx - f", {"0/0", "0/0"}), Contains("hyperbolic"));
  CHECK_THAT(message("u_tt + u_xx - f", {"0/0", "01/"}), Contains("grow without bound"));
  CHECK_THAT(message("u_tt - u_xxxx - f", {"01/01", "01/"}), Contains("grow without bound"));
  CHECK_THAT(message("u_t + u_xxx - f", {"01/0", "0/"}), Contains("1 on x- and 2 on x+"));
  CHECK_THAT(message("u_t - u_xxx - f", {"0/01", "0/"}), Contains("2 on x- and 1 on x+"));
  CHECK_THAT(message("u_t + u_xxx - f", {"0/01", "/0"}), Contains("on x-"));
  CHECK_THAT(message("u_t + u_xxxx - f", {"00/01", "0/"}), Contains("independent"));
  CHECK_THAT(message("u_t + u_x - u_xxt - f", {"0/", "0/"}), Contains("mixed derivative u_xxt"));
  CHECK_THAT(message("u_tt - u_xx - f", {"0/0", "12/"}), Contains("lower order"));
}
