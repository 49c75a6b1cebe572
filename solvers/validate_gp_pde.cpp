#include <cmath>
#include <map>

#include "halfulp/expression.hpp"
#include "halfulp/gp_pde.hpp"
#include "validation.hpp"

namespace validation {
namespace {

namespace pde = halfulp::gp_pde;
using halfulp::dd;
using halfulp::Expression;

/// A manufactured problem: the forcing that makes `exact` the solution, u given on all sides.
struct Case {
  const char* name;
  const char* budget;
  const char* equation;
  const char* exact;
  const char* upper;
  std::vector<std::string> axes;
  pde::Precision precision = pde::Precision::dd;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"u1: sin 100x", "gp_pde_1d", "u_xx - f", "sin(100*x)", "2*pi", {"x"}},
      {"u2", "gp_pde_1d", "u_xx - f", "sin(x) + 0.1*sin(20*x) + 0.05*cos(100*x)", "2*pi", {"x"}},
      {"u4: x sin 200x", "gp_pde_1d", "u_xx - f", "x*sin(200*x)", "2*pi", {"x"}},
      {"u5", "gp_pde_1d", "u_xx - f", "sin(500*x) - 2*(x - 0.5)^2", "1", {"x"}},
      {"u4 in double",
       "gp_pde_1d_double",
       "u_xx - f",
       "x*sin(200*x)",
       "2*pi",
       {"x"},
       pde::Precision::double_},
      {"u6: sin 100x sin 100y",
       "gp_pde_2d",
       "u_xx + u_yy - f",
       "sin(100*x)*sin(100*y)",
       "2*pi",
       {"x", "y"}},
      {"u7",
       "gp_pde_2d",
       "u_xx + u_yy - f",
       "sin(6*x)*cos(20*x) + sin(6*y)*cos(20*y)",
       "2*pi",
       {"x", "y"}},
      {"u6 in double",
       "gp_pde_2d_double",
       "u_xx + u_yy - f",
       "sin(100*x)*sin(100*y)",
       "2*pi",
       {"x", "y"},
       pde::Precision::double_},
      {"Allen-Cahn, sin 100x",
       "gp_pde_newton",
       "u_xx + u*(u^2 - 1) - f",
       "sin(100*x)",
       "2*pi",
       {"x"}},
      {"-lap u + u^3",
       "gp_pde_newton",
       "-u_xx - u_yy + u^3 - f",
       "sin(pi*x)*sin(pi*y) + 4*sin(4*pi*x)*sin(4*pi*y)",
       "1",
       {"x", "y"}},
      {"Poisson in three dimensions",
       "gp_pde_3d",
       "u_xx + u_yy + u_zz - f",
       "sin(20*x)*cos(7*y)*exp(z)",
       "1",
       {"x", "y", "z"}},
  };
  return list;
}

pde::Problem problem_of(const Case& c) {
  pde::Problem p;
  p.name = c.name;
  std::vector<std::string> symbols = c.axes;
  symbols.insert(symbols.end(), {"u", "f"});
  for (const auto& axis : c.axes) symbols.push_back("u_" + axis + axis);
  p.equation = halfulp::parse_expression(c.equation, symbols);
  const Expression exact = halfulp::parse_expression(c.exact, c.axes);
  p.exact = exact;
  std::map<std::string, Expression> values{{"f", Expression(0.0)}, {"u", exact}};
  const pde::Side side{.kind = pde::SideKind::dirichlet, .g = exact};
  for (const auto& axis : c.axes) {
    values["u_" + axis + axis] = exact.derivative(axis).derivative(axis);
    p.axes.push_back({axis, 0.0, halfulp::parse_expression(c.upper, {}).constant()});
    p.sides.push_back({side, side});
  }
  p.forcing = p.equation.substitute(values);
  return p;
}

/// Relative L2 error against the exact solution in double-double, on a grid of the sides and
/// what lies between that no solver uses.
double error_of(const Case& c, const Common& common) {
  const pde::Problem problem = problem_of(c);
  pde::Options options;
  options.precision = c.precision;
  options.threads = common.threads;
  const pde::Solution u = pde::solve(problem, options);
  const auto d = c.axes.size();
  // no fraction of a period of the cases: they would vanish there
  const std::size_t n = d == 1 ? 997 : d == 2 ? 128 : 32;
  std::vector<std::vector<double>> grid;
  std::vector<std::vector<dd>> exact_grid;
  for (const auto& axis : problem.axes) {
    std::vector<double> points;
    for (std::size_t i = 0; i < n; ++i)
      points.push_back(((axis.upper - axis.lower) * (static_cast<double>(i) / (n - 1.0))).hi);
    exact_grid.emplace_back(points.begin(), points.end());
    grid.push_back(std::move(points));
  }
  const std::vector<int> order(d, 0);
  const std::vector<double> values = u.on_grid(grid, order);
  std::vector<dd> exact(values.size());
  halfulp::Program<dd>(*problem.exact, c.axes).on_grid(exact_grid, exact, 1);
  double sum = 0, size = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = (dd(values[i]) - exact[i]).hi;
    sum += error * error;
    size += exact[i].hi * exact[i].hi;
  }
  return std::sqrt(sum / size);
}

}  // namespace

void register_gp_pde(Registry& registry) {
  for (const Case& c : cases())
    registry.measurements.push_back({"gp_pde", c.name, c.budget, "relative L2 error",
                                     [&c](const Common& common) { return error_of(c, common); }});
}

}  // namespace validation
