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

bool varies(const Expression& e, const std::vector<std::string>& axes) {
  return std::any_of(axes.begin(), axes.end(),
                     [&e](const std::string& name) { return e.depends_on(name); });
}

std::vector<la::DdMatrix> constant_fields(const std::vector<double>& values,
                                          const std::vector<Points>& grid) {
  std::vector<la::DdMatrix> fields;
  for (const double value : values) {
    fields.emplace_back(static_cast<Size>(grid[0].size()),
                        grid.size() == 1 ? 1 : static_cast<Size>(grid[1].size()));
    std::fill_n(fields.back().hi(0), fields.back().rows() * fields.back().cols(), value);
  }
  return fields;
}

double largest_of(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) most = std::max(most, std::fabs(v));
  return most;
}

bool coefficients_seen(const Checked& c, const Field& field, const GridEvaluator& evaluator) {
  if (c.dimension() > 2) return true;
  if (!c.newton) {
    return std::all_of(c.op.coefficients.begin(), c.op.coefficients.end(), [&](const auto& term) {
      if (!varies(term.second, c.names)) return true;
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
  const std::vector<Expression>& partial = c.newton->partial;
  if (std::none_of(partial.begin(), partial.end(),
                   [&c](const Expression& e) { return varies(e, c.names); }))
    return true;
  const PointwiseEquation equation(c, true);
  std::vector<double> sizes;
  for (const auto& order : equation.orders()) sizes.push_back(rms(evaluator.values(field, order)));
  const auto slopes = [&](const std::vector<Points>& grid) {
    return equation.partial(grid, constant_fields(sizes, grid), c.threads);
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
