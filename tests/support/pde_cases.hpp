#pragma once

#include <array>
#include <boost/multiprecision/mpfr.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "budget.hpp"
#include "halfulp/expression_program.hpp"
#include "halfulp/gp_pde.hpp"

/// PDEs with a solution known, and the error of a solution in 50 digits.
namespace pde_cases {

using namespace halfulp;
using namespace halfulp::gp_pde;

using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<0>,
                                         boost::multiprecision::et_off>;
inline const bool digits_set = (Mp::default_precision(50), true);

inline double limit(const std::string& name) {
  return budget(HALFULP_BUDGETS, name, "double", "cpu");
}

// One letter a side: D dirichlet, N neumann, R robin (2 u + du/dn), P periodic, - none.
struct Case {
  std::string name;
  std::vector<std::string> axes;
  std::vector<std::array<std::string, 2>> ends;
  std::string equation, exact;
  std::vector<std::string> sides;
};

inline std::vector<std::string> symbols(const std::vector<std::string>& axes) {
  std::vector<std::string> s = axes;
  s.insert(s.end(), {"u", "f"});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    s.push_back("u_" + axes[i]);
    for (std::size_t j = i; j < axes.size(); ++j) s.push_back("u_" + axes[i] + axes[j]);
  }
  return s;
}

inline Problem manufactured(const Case& t) {
  Problem p;
  p.name = t.name;
  const Expression u = parse_expression(t.exact, t.axes);
  p.exact = u;
  p.equation = parse_expression(t.equation, symbols(t.axes));
  std::map<std::string, Expression> values{{"u", u}, {"f", Expression()}};
  for (std::size_t k = 0; k < t.axes.size(); ++k) {
    p.axes.push_back({t.axes[k], parse_expression(t.ends[k][0], {}).constant(),
                      parse_expression(t.ends[k][1], {}).constant()});
    values["u_" + t.axes[k]] = u.derivative(t.axes[k]);
    for (std::size_t j = k; j < t.axes.size(); ++j)
      values["u_" + t.axes[k] + t.axes[j]] = u.derivative(t.axes[k]).derivative(t.axes[j]);
    std::array<Side, 2> sides;
    for (int s = 0; s < 2; ++s) {
      Side& side = sides[s];
      switch (t.sides[k][s]) {
        case 'D':
          side.kind = SideKind::dirichlet;
          break;
        case 'N':
          side.kind = SideKind::neumann;
          side.a = 0;
          side.b = 1;
          break;
        case 'R':
          side.kind = SideKind::robin;
          side.a = 2;
          side.b = 1;
          break;
        case 'P':
          side.kind = SideKind::periodic;
          break;
        default:
          break;
      }
      side.g =
          Expression(side.a) * u + Expression(s == 0 ? -side.b : side.b) * u.derivative(t.axes[k]);
    }
    p.sides.push_back(sides);
  }
  p.forcing = p.equation.substitute(values);  // every equation here ends in "- f", or has no f
  return p;
}

// Derivatives of u along the axes to order four in all, by name.
inline std::map<std::string, Expression> derivatives(const Expression& u,
                                                     const std::vector<std::string>& axes) {
  std::map<std::string, Expression> all;
  Expression along = u;
  std::string first = "_";
  for (int i = 0; i <= 4; ++i) {
    Expression both = along;
    std::string name = first;
    for (int j = 0; i + j <= 4; ++j) {
      all["u" + (name == "_" ? "" : name)] = both;
      if (axes.size() < 2) break;
      both = both.derivative(axes[1]);
      name += axes[1];
    }
    along = along.derivative(axes[0]);
    first += axes[0];
  }
  return all;
}

// As Case, with the conditions of an axis as "orders/orders": "01/" is u and u_x at the lower end,
// "02/2" u and u_xx there and u_xx at the upper one, "P" periodic.
inline Problem manufactured_orders(const Case& t) {
  Problem p;
  p.name = t.name;
  const Expression u = parse_expression(t.exact, t.axes);
  p.exact = u;
  auto values = derivatives(u, t.axes);
  std::vector<std::string> names = t.axes;
  for (const auto& [name, value] : values) names.push_back(name);
  names.push_back("f");
  p.equation = parse_expression(t.equation, names);
  for (std::size_t k = 0; k < t.axes.size(); ++k) {
    p.axes.push_back({t.axes[k], parse_expression(t.ends[k][0], {}).constant(),
                      parse_expression(t.ends[k][1], {}).constant()});
    std::array<Side, 2> sides;
    int s = 0;
    std::array<std::vector<Side>, 2> all;
    for (const char letter : t.sides[k]) {
      if (letter == '/') {
        s = 1;
      } else if (letter == 'P') {
        sides[0].kind = sides[1].kind = SideKind::periodic;
      } else {
        Side side{.kind = SideKind::derivative, .order = letter - '0'};
        side.g = u;
        for (int j = 0; j < side.order; ++j) side.g = side.g.derivative(t.axes[k]);
        if (side.order == 0) side.kind = SideKind::dirichlet;
        all[s].push_back(side);
      }
    }
    for (int e = 0; e < 2; ++e) {
      if (all[e].empty()) continue;
      sides[e] = all[e][0];
      sides[e].also.assign(all[e].begin() + 1, all[e].end());
    }
    p.sides.push_back(sides);
  }
  values["f"] = Expression();
  p.forcing = p.equation.substitute(values);
  return p;
}

inline std::vector<std::vector<double>> grid_of(const Problem& p, int n) {
  std::vector<std::vector<double>> grid;
  for (const Axis& axis : p.axes) {
    std::vector<double> x(n);
    for (int i = 0; i < n; ++i)
      x[i] = axis.lower.hi + (axis.upper.hi - axis.lower.hi) * i / (n - 1);
    grid.push_back(std::move(x));
  }
  return grid;
}

// Relative L2 error on n points an axis, the exact solution in 50 digits of MPFR.
inline double true_error(const Problem& p, const Solution& s, int n = 60) {
  const auto grid = grid_of(p, n);
  const std::vector<int> zero(p.axes.size(), 0);
  const std::vector<double> u = s.on_grid(grid, zero);
  std::vector<std::string> names;
  for (const Axis& axis : p.axes) names.push_back(axis.name);
  const Program<Mp> exact(*p.exact, names);
  Mp error = 0, size = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    std::vector<Mp> x(p.axes.size());
    x[0] = grid[0][p.axes.size() == 1 ? i : i / n];
    if (p.axes.size() > 1) x[1] = grid[1][i % n];
    const Mp e = exact(std::span<const Mp>(x));
    error += (e - u[i]) * (e - u[i]);
    size += e * e;
  }
  return static_cast<double>(sqrt(error / size));
}

/// Problems of Fang et al. (2024).
inline const std::vector<Case>& paper() {
  static const std::vector<Case> cases{
      {"u1", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(100*x)", {"DD"}},
      {"u2",
       {"x"},
       {{"0", "2*pi"}},
       "u_xx - f",
       "sin(x) + 0.1*sin(20*x) + 0.05*cos(100*x)",
       {"DD"}},
      {"u3", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(6*x)*cos(100*x)", {"DD"}},
      {"u4", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "x*sin(200*x)", {"DD"}},
      {"u5", {"x"}, {{"0", "1"}}, "u_xx - f", "sin(500*x) - 2*(x - 0.5)^2", {"DD"}},
      {"u6",
       {"x", "y"},
       {{"0", "2*pi"}, {"0", "2*pi"}},
       "u_xx + u_yy - f",
       "sin(100*x)*sin(100*y)",
       {"DD", "DD"}},
      {"u7",
       {"x", "y"},
       {{"0", "2*pi"}, {"0", "2*pi"}},
       "u_xx + u_yy - f",
       "sin(6*x)*cos(20*x) + sin(6*y)*cos(20*y)",
       {"DD", "DD"}},
      {"advection",
       {"x", "t"},
       {{"0", "1"}, {"0", "1"}},
       "u_t + 200*u_x",
       "sin(x - 200*t)",
       {"D-", "D-"}}};
  return cases;
}

}  // namespace pde_cases
