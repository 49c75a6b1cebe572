#include "detail/pde_coefficients.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace halfulp::gp_pde::detail {

std::vector<Points> fine_grid(const std::vector<Axis>& axes) {
  const Size n = axes.size() == 1 ? 65536 : 256;
  std::vector<Points> grid;
  for (const Axis& axis : axes) {
    Points points;
    for (Size i = 0; i < n; ++i)
      points.push_back(axis.lower + (axis.upper - axis.lower) * ((static_cast<double>(i) + 0.618) /
                                                                 static_cast<double>(n)));
    grid.push_back(std::move(points));
  }
  return grid;
}

double largest_of(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) most = std::max(most, std::fabs(v));
  return most;
}

bool coefficients_seen(const Checked& c, const Field& field, const GridEvaluator& evaluator) {
  const auto varies = [&c](const Expression& e) {
    return std::any_of(c.names.begin(), c.names.end(),
                       [&e](const std::string& name) { return e.depends_on(name); });
  };
  const Size d = c.dimension();
  if (d > 2) return true;
  if (!c.newton) {
    return std::all_of(c.op.coefficients.begin(), c.op.coefficients.end(), [&](const auto& term) {
      if (!varies(term.second)) return true;
      const Program<double> program(term.second, c.names);
      const auto largest = [&](const std::vector<Points>& grid) {
        std::vector<std::vector<double>> axes(grid.size());
        std::size_t count = 1;
        for (std::size_t k = 0; k < grid.size(); ++k) {
          for (const dd& x : grid[k]) axes[k].push_back(x.hi);
          count *= axes[k].size();
        }
        std::vector<double> values(count);
        program.on_grid(axes, values, c.threads);
        return largest_of(values);
      };
      return largest(evaluator.grid()) >= 0.5 * largest(fine_grid(c.problem.axes));
    });
  }
  if (std::none_of(c.newton->partial.begin(), c.newton->partial.end(), varies)) return true;
  const PointwiseEquation equation(c, true);
  std::vector<double> sizes;
  for (const auto& order : equation.orders()) sizes.push_back(rms(evaluator.values(field, order)));
  const auto slopes = [&](const std::vector<Points>& grid) {
    std::vector<la::DdMatrix> jet;
    for (const double size : sizes) {
      jet.emplace_back(static_cast<Size>(grid[0].size()),
                       d == 1 ? 1 : static_cast<Size>(grid[1].size()));
      std::fill_n(jet.back().hi(0), jet.back().rows() * jet.back().cols(), size);
    }
    return equation.partial(grid, jet, c.threads);
  };
  const auto there = slopes(evaluator.grid()), all = slopes(fine_grid(c.problem.axes));
  for (std::size_t k = 0; k < all.size(); ++k)
    if (!(largest_of(there[k]) >= 0.5 * largest_of(all[k]))) return false;
  return true;
}

std::string unexplained(double residual, double boundary, double distance, double tolerance) {
  const char* name = "two discretisations differ by ";
  double value = distance;
  if (!(residual <= tolerance)) {
    name = "the residual is ";
    value = residual;
  } else if (!(boundary <= tolerance)) {
    name = "the residual of the conditions is ";
    value = boundary;
  }
  char number[32];
  std::snprintf(number, sizeof number, "%.1e", value);
  return std::string(name) + number +
         ": the solution is not smooth (a layer, a kink, a corner where the data do not fit "
         "together), or needs more modes than there are";
}

}  // namespace halfulp::gp_pde::detail
