#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>

#include "budget.hpp"
#include "detail/separate.hpp"
#include "halfulp/error.hpp"
#include "halfulp/expression_program.hpp"
#include "halfulp/gp_pde.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;

namespace {

using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<0>,
                                         boost::multiprecision::et_off>;
const bool digits_set = (Mp::default_precision(50), true);

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

// One letter a side: D dirichlet, N neumann, R robin (2 u + du/dn), P periodic.
struct Case {
  std::vector<std::array<std::string, 2>> ends;
  std::string equation, exact;
  std::vector<std::string> sides;
};

Problem manufactured(const Case& t) {
  const std::vector<std::string> all = {"x", "y", "z"};
  const std::vector<std::string> axes(all.begin(), all.begin() + std::ssize(t.ends));
  Problem p;
  const Expression u = parse_expression(t.exact, axes);
  p.exact = u;
  std::vector<std::string> symbols = axes;
  symbols.insert(symbols.end(), {"u", "f"});
  std::map<std::string, Expression> values{{"u", u}, {"f", Expression()}};
  for (std::size_t k = 0; k < axes.size(); ++k) {
    for (std::size_t j = k; j < axes.size(); ++j) {
      symbols.push_back("u_" + axes[k] + axes[j]);
      values[symbols.back()] = u.derivative(axes[k]).derivative(axes[j]);
    }
    symbols.push_back("u_" + axes[k]);
    values[symbols.back()] = u.derivative(axes[k]);
    p.axes.push_back({axes[k], parse_expression(t.ends[k][0], {}).constant(),
                      parse_expression(t.ends[k][1], {}).constant()});
    std::array<Side, 2> sides;
    for (int s = 0; s < 2; ++s) {
      Side& side = sides[s];
      const char kind = t.sides[k][s];
      side.kind = kind == 'D'   ? SideKind::dirichlet
                  : kind == 'N' ? SideKind::neumann
                  : kind == 'R' ? SideKind::robin
                                : SideKind::periodic;
      if (kind == 'N') side.a = 0, side.b = 1;
      if (kind == 'R') side.a = 2, side.b = 1;
      side.g =
          Expression(side.a) * u + Expression(s == 0 ? -side.b : side.b) * u.derivative(axes[k]);
    }
    p.sides.push_back(sides);
  }
  p.equation = parse_expression(t.equation, symbols);
  p.forcing = p.equation.substitute(values);
  return p;
}

// Relative L2 error on n points an axis, the exact solution in 50 digits of MPFR.
double true_error(const Problem& p, const Solution& s, int n) {
  std::vector<std::vector<double>> grid;
  std::vector<std::string> names;
  for (const Axis& axis : p.axes) {
    std::vector<double> x(n);
    for (int i = 0; i < n; ++i)
      x[i] = axis.lower.hi + (axis.upper.hi - axis.lower.hi) * i / (n - 1);
    grid.push_back(std::move(x));
    names.push_back(axis.name);
  }
  const std::vector<int> zero(p.axes.size(), 0);
  const std::vector<double> u = s.on_grid(grid, zero);
  const Program<Mp> exact(*p.exact, names);
  Mp error = 0, size = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    std::vector<Mp> x(p.axes.size());
    std::size_t rest = i;
    for (std::size_t d = x.size(); d-- > 0; rest /= n) x[d] = Mp(grid[d][rest % n]);
    const Mp value = exact(x);
    error += (Mp(u[i]) - value) * (Mp(u[i]) - value);
    size += value * value;
  }
  return static_cast<double>(sqrt(error / size));
}

void check_case(const Case& t, const std::string& budget_name, int n, Options options = {}) {
  const Problem p = manufactured(t);
  options.threads = 2;
  const Solution s = solve(p, options);
  const double error = true_error(p, s, n);
  INFO(t.equation << " for " << t.exact << ": error " << error << ", estimate " << s.error_estimate
                  << ", residual " << s.residual << ", sides " << s.boundary_residual);
  CHECK(s.report.ok());
  CHECK(error <= limit(budget_name));
  CHECK(error <= 3 * s.error_estimate);
}

const std::array<std::string, 2> unit = {"0", "1"}, turn = {"0", "2*pi"};

}  // namespace

TEST_CASE("three dimensions: conditions of every kind", "[gp_pde_3d]") {
  check_case({{unit, unit, unit},
              "u_xx + u_yy + u_zz - f",
              "sin(3*x)*cos(2*y)*exp(z) + x*y*z",
              {"DD", "DD", "DD"}},
             "gp_pde_3d", 9);
  check_case({{unit, {"-1", "1"}, {"0", "2"}},
              "u_xx + 2*u_yy + 0.5*u_zz - 4*u - f",
              "cos(5*x - 2*y + z)",
              {"DN", "RR", "ND"}},
             "gp_pde_3d", 9);
  check_case({{turn, turn, unit},
              "u_xx + u_yy + u_zz - u - f",
              "sin(3*x)*cos(y)*sin(4*z) + cos(2*x)",
              {"PP", "PP", "RD"}},
             "gp_pde_3d", 9);
}

TEST_CASE("three dimensions: free constants, Helmholtz, no forcing", "[gp_pde_3d]") {
  check_case({{turn, turn, turn},
              "u_xx + u_yy + u_zz - f",
              "sin(3*x)*cos(y)*sin(2*z) + 0.25",
              {"PP", "PP", "PP"}},
             "gp_pde_3d", 9);
  check_case({{unit, unit, unit},
              "u_xx + u_yy + u_zz + 100*u - f",
              "sin(6*x)*sin(8*y)*cos(2*z)",
              {"DD", "DD", "NN"}},
             "gp_pde_3d", 9);
  check_case({{unit, unit, unit},
              "u_xx + u_yy + u_zz",
              "exp(5*x)*sin(3*y)*cos(4*z)/100",
              {"DD", "DD", "DD"}},
             "gp_pde_3d", 9);
}

TEST_CASE("three dimensions: the same bits for any number of threads", "[gp_pde_3d]") {
  const Problem p = manufactured({{unit, unit, unit},
                                  "u_xx + u_yy + u_zz - f",
                                  "sin(3*x + y)*cos(2*y*z)",
                                  {"DD", "DN", "DD"}});
  const std::vector<double> x = {0, 0.3, 0.8, 1};
  const std::vector<std::vector<double>> grid(3, x);
  const std::vector<int> orders = {1, 0, 2};
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 3}) {
    Options o;
    o.threads = threads;
    Solver solver(p, o);
    results.push_back(solver.solve().on_grid(grid, orders));
    results.push_back(solver.solve().on_grid(grid, orders));
  }
  for (const auto& r : results) CHECK(r == results[0]);
}

TEST_CASE("three dimensions: what is refused", "[gp_pde_3d]") {
  const auto refused = [](const std::string& equation, const std::string& sides, Options o = {}) {
    Problem p = manufactured({{unit, unit, unit}, equation, "x + y + z", {sides, "DD", "DD"}});
    CHECK_THROWS_AS(solve(p, o), DomainError);
  };
  refused("u_xx + u_yy - u_zz - f", "DD");
  refused("u_xx + u_yy - f", "DD");
  refused("u_xx + u_yy + u_zz + u_x - f", "DD");
  refused("u_xx + u_yy + u_zz + u_xy - f", "DD");
  refused("u_xx + x*u_yy + u_zz - f", "DD");
  Options small;
  small.memory_limit = 1 << 16;
  refused("u_xx + u_yy + u_zz - f", "DD", small);
}

TEST_CASE("two dimensions in double", "[gp_pde_3d]") {
  Options o;
  o.precision = Precision::double_;
  check_case({{turn, turn}, "u_xx + u_yy - f", "sin(40*x)*sin(40*y)", {"DD", "DD"}},
             "gp_pde_2d_double", 23, o);
  check_case(
      {{unit, unit}, "u_xx + 3*u_yy - 2*u - f", "sin(9*x)*exp(y) + cos(3*x*y)", {"DN", "RR"}},
      "gp_pde_2d_double", 23, o);
  check_case({{turn, unit}, "u_xx + u_yy - f", "sin(4*x)*cos(pi*y) + 1", {"PP", "NN"}},
             "gp_pde_2d_double", 23, o);

  // Repeated solves of other forcings, and operators that are left to double-double.
  Problem p = manufactured({{unit, unit}, "u_xx + u_yy - f", "sin(9*x)*sin(5*y)", {"DD", "DD"}});
  p.sides[0][0].g = p.sides[0][1].g = p.sides[1][0].g = p.sides[1][1].g = Expression();
  p.exact = parse_expression("sin(3*pi*x)*sin(2*pi*y)", {"x", "y"});
  p.forcing = Expression(-13.0) * parse_expression("pi^2", {}) * *p.exact;
  Solver solver(p, o);
  (void)solver.solve();
  p.exact = parse_expression("sin(2*pi*x)*sin(2*pi*y)", {"x", "y"});
  const Solution again = solver.solve(Expression(-8.0) * parse_expression("pi^2", {}) * *p.exact);
  CHECK(again.report.ok());
  CHECK(true_error(p, again, 23) <= limit("gp_pde_2d_double"));
  check_case({{unit, unit}, "u_xx + u_yy + 3*u_x - f", "sin(4*x)*exp(y)", {"DD", "DD"}},
             "gp_pde_2d_double", 23, o);
}

TEST_CASE("sums of products of one symbol each", "[gp_pde_3d]") {
  const std::vector<std::string> names = {"x", "y", "z"};
  const std::vector<double> point = {0.7, -1.3, 0.4};
  for (const char* text : {"sin(x + 2*y - z)*exp(x - y*2)", "(x*y)^2/(1 + z^2) - 3", "cos(x - y)^2",
                           "-(x + y)*(y - z)", "5", "exp(3*x)*erf(y) + abs(z)", "2^x*y^-3",
                           "cos(4)*sin(x + y + z + 1)"}) {
    const Expression f = parse_expression(text, names);
    const auto terms = halfulp::detail::separate(f, names, 48);
    INFO(text);
    REQUIRE(terms);
    double sum = 0;
    for (const auto& term : *terms) {
      double product = 1;
      for (std::size_t k = 0; k < 3; ++k) {
        for (const auto& symbol : term[k].symbols()) CHECK(symbol == names[k]);
        product *= Program<double>(term[k], names)(point);
      }
      sum += product;
    }
    CHECK(sum == Approx(Program<double>(f, names)(point)).epsilon(1e-13));
  }
  for (const char* text : {"cos(x*y)", "sqrt(x + y)", "x/(y + z)", "(x*y)^0.5", "max(x, y)"})
    CHECK_FALSE(halfulp::detail::separate(parse_expression(text, names), names, 48));
  CHECK_FALSE(halfulp::detail::separate(parse_expression("(x + y + z)^4", names), names, 48));
}

TEST_CASE("terms that cancel are not projected one by one", "[gp_pde_3d]") {
  // (x - y + 1000)^2 - (x - y)^2 - 10^6 = 2000 (x - y), as a sum of terms of size 10^6.
  check_case({{unit, unit, unit},
              "u_xx + u_yy + u_zz - f - (x - y + 1000)^2 + (x - y)^2 + 1000000",
              "sin(2*x)*y + z",
              {"DD", "DD", "DD"}},
             "gp_pde_3d", 9);
}
