#include <catch2/catch.hpp>

#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"
#include "pde_cases.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using namespace pde_cases;

TEST_CASE("nonlinear equations", "[gp_pde][newton]") {
  const std::vector<Case> cases{
      {"Allen-Cahn", {"x"}, {{"0", "2*pi"}}, "u_xx + u*(u^2 - 1) - f", "sin(100*x)", {"DD"}},
      {"pendulum", {"x"}, {{"0", "3"}}, "u_xx + sin(u) - f", "2*cos(2*x)", {"DN"}},
      {"Burgers", {"x"}, {{"0", "1"}}, "u*u_x - 0.05*u_xx - f", "1 + sin(5*x)/2", {"DD"}},
      {"periodic", {"x"}, {{"0", "2*pi"}}, "u_xx - u^3 - u - f", "sin(5*x) + cos(9*x)", {"PP"}},
      {"quasilinear",
       {"x"},
       {{"0", "1"}},
       "(1 + u^2)*u_xx + 2*u*u_x^2 - f",
       "exp(x)*cos(5*x)",
       {"DD"}},
      {"Allen-Cahn 2-D",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "u_xx + u_yy + u*(u^2 - 1) - f",
       "(sin(x) + 0.1*sin(20*x))*(sin(y) + 0.1*cos(20*y))",
       {"DD", "DD"}},
      {"sine-Gordon",
       {"x", "y"},
       {{"0", "2"}, {"0", "1"}},
       "u_xx + u_yy - sin(u) - f",
       "sin(12*x)*cos(3*y) + x",
       {"DD", "NR"}},
      {"Burgers in time",
       {"x", "t"},
       {{"0", "1"}, {"0", "1"}},
       "u_t + u*u_x - 0.05*u_xx - f",
       "1 + sin(6*x - 4*t)/2",
       {"DD", "D-"}},
      {"quasilinear 2-D",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "(1 + u^2)*(u_xx + u_yy) + 2*u*(u_x^2 + u_y^2) - f",
       "exp(x)*cos(6*x)*sin(3*y)",
       {"DD", "DD"}}};
  for (const Case& t : cases) {
    const Problem p = manufactured(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
                << s.residual << ", steps " << s.newton_steps);
    CHECK(s.report.ok());
    CHECK(s.newton_steps > 0);
    CHECK(error <= limit("gp_pde_newton"));
    CHECK(error <= s.error_estimate);
  }
}

TEST_CASE("variable coefficients in two dimensions", "[gp_pde][newton]") {
  const std::vector<Case> cases{
      {"Darcy",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "exp(sin(3*x)*cos(2*y))*(u_xx + u_yy + 3*cos(3*x)*cos(2*y)*u_x - 2*sin(3*x)*sin(2*y)*u_y) "
       "- f",
       "sin(9*x)*exp(y)",
       {"DD", "DD"}},
      {"anisotropic, mixed",
       {"x", "y"},
       {{"0", "1"}, {"-1", "1"}},
       "(2 + x)*u_xx + (3 + y*x)*u_yy + x*u_xy + sin(y)*u - f",
       "sin(15*x)*cos(10*y)",
       {"DN", "DD"}},
      {"constant mixed",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "(2 + x^2)*u_xx + 0.5*u_xy + u_yy - f",
       "sin(5*x)*cos(3*y)",
       {"DD", "DD"}},
      {"Helmholtz",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "u_xx + u_yy + (900 + 100*sin(5*x))*u - f",
       "sin(25*x)*sin(17*y)",
       {"DD", "DD"}}};
  for (const Case& t : cases) {
    const Problem p = manufactured(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
                << s.residual);
    CHECK(s.report.ok());
    CHECK(error <= limit("gp_pde_newton"));
    CHECK(error <= s.error_estimate);
  }
}

TEST_CASE("a guess, and no solution without one", "[gp_pde][newton]") {
  const Problem p =
      manufactured({"log", {"x"}, {{"0", "1"}}, "u_xx - log(u) - f", "2 + sin(9*x)", {"DD"}});
  CHECK_THROWS_AS(solve(p), DomainError);
  Options o;
  o.guess = Expression(2.0);
  const Solution s = solve(p, o);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_newton"));
  // Beyond Bratu's fold, lambda = 3.51, there is no solution.
  Problem bratu =
      manufactured({"Bratu", {"x"}, {{"0", "1"}}, "u_xx + 4*exp(u) - f", "0*x", {"DD"}});
  bratu.equation = parse_expression("u_xx + 4*exp(u)", {"x", "u", "u_xx"});
  bratu.exact.reset();
  const Solution none = solve(bratu);
  INFO("residual " << none.residual << ", estimate " << none.error_estimate);
  CHECK_FALSE(none.report.ok());
  CHECK(none.error_estimate >= 0.1);
}

TEST_CASE("an iteration can be cancelled, and progress keeps what it was told",
          "[gp_pde][newton]") {
  const Problem p = manufactured({"cubic",
                                  {"x", "y"},
                                  {{"0", "1"}, {"0", "1"}},
                                  "-u_xx - u_yy + u^3 - f",
                                  "sin(5*x)*sin(7*y)",
                                  {"DD", "DD"}});
  Options o;
  int solving = 0;
  double last = 0;
  o.progress = [&](double fraction, const char* phase) {
    CHECK(fraction >= last);
    last = fraction;
    if (std::string(phase) == "solving") ++solving;
    return solving < 20;  // far more often than there are phases
  };
  CHECK_THROWS_AS(solve(p, o), Cancelled);
  CHECK(solving == 20);
}

TEST_CASE("Newton's method gives the same bits for any number of threads",
          "[gp_pde][newton][threads]") {
  const Problem p = manufactured({"cubic",
                                  {"x", "y"},
                                  {{"0", "1"}, {"0", "1"}},
                                  "-u_xx - u_yy + u^3 - f",
                                  "sin(pi*x)*sin(pi*y) + 4*sin(4*pi*x)*sin(4*pi*y)",
                                  {"DD", "DD"}});
  const std::vector<std::vector<double>> grid{{0.1, 0.35, 0.7}, {0.2, 0.9}};
  const std::vector<int> zero{0, 0};
  Options o;
  o.threads = 1;
  const std::vector<double> one = solve(p, o).on_grid(grid, zero);
  for (const int threads : {2, 3}) {
    o.threads = threads;
    CHECK(solve(p, o).on_grid(grid, zero) == one);
  }
}
