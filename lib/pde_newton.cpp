#include "detail/pde_newton.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace halfulp::gp_pde::detail {
namespace {

double size_of(const la::DdMatrix& x) {
  return rms(x) * std::sqrt(static_cast<double>(x.rows() * x.cols()));
}

// Norm of the entries of a residual that are the equation.
double size_of_equation(const NewtonSystem& system, const la::DdMatrix& r) {
  if (system.equations < 0) return size_of(r);
  double sum = 0;
  for (Size i = 0; i < system.equations; ++i) sum += r(i, 0).hi * r(i, 0).hi;
  return std::sqrt(sum);
}

// Calls use(i, j, inputs) for every point of the grid, inputs being its coordinates and the values
// of the fields there.
template <class T, class Use>
void at_points(std::span<const Points> grid, std::span<const la::DdMatrix> fields, int threads,
               const Use& use) {
  const auto n = static_cast<Size>(grid[0].size());
  const Size m = grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1;
  const auto rounded = [](dd v) {
    if constexpr (std::is_same_v<T, dd>)
      return v;
    else
      return v.hi;
  };
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && n * m > 4096)
  for (Size j = 0; j < m; ++j) {
    std::vector<T> inputs(grid.size() + fields.size());
    if (grid.size() > 1) inputs[1] = rounded(grid[1][j]);
    for (Size i = 0; i < n; ++i) {
      inputs[0] = rounded(grid[0][i]);
      for (std::size_t k = 0; k < fields.size(); ++k)
        inputs[grid.size() + k] = rounded(fields[k](i, j));
      use(i, j, std::span<const T>(inputs));
    }
  }
}

}  // namespace

PointwiseEquation::PointwiseEquation(const Checked& c, bool keep_constant) {
  const Equation& e = *c.newton;
  Expression left = e.left;
  std::vector<std::string> inputs = c.names;
  std::vector<Expression> partial;
  for (std::size_t k = 0; k < e.names.size(); ++k) {
    const bool mixed = e.orders[k].size() > 1 && e.orders[k][0] > 0 && e.orders[k][1] > 0;
    if (!keep_constant && e.partial[k].is_constant() && !mixed) {
      left = left.substitute(e.names[k], Expression(0.0));  // affine in it: leaves the rest alone
      continue;
    }
    inputs.push_back(e.names[k]);
    orders_.push_back(e.orders[k]);
    partial.push_back(e.partial[k]);
  }
  value_.emplace_back(left, inputs);
  if (!partial.empty()) partial_.emplace_back(partial, inputs);
}

la::DdMatrix PointwiseEquation::value(std::span<const Points> grid,
                                      std::span<const la::DdMatrix> fields, int threads) const {
  la::DdMatrix out(static_cast<Size>(grid[0].size()),
                   grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1);
  at_points<dd>(grid, fields, threads, [&](Size i, Size j, std::span<const dd> inputs) {
    out.set(i, j, value_.front()(inputs));
  });
  return out;
}

std::vector<std::vector<double>> PointwiseEquation::partial(std::span<const Points> grid,
                                                            std::span<const la::DdMatrix> fields,
                                                            int threads) const {
  const auto n = static_cast<Size>(grid[0].size());
  const Size m = grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1;
  std::vector<std::vector<double>> out(orders_.size(), std::vector<double>(n * m));
  if (orders_.empty()) return out;
  at_points<double>(grid, fields, threads, [&](Size i, Size j, std::span<const double> inputs) {
    double values[16];  // derivatives to order four in two dimensions: fifteen
    partial_.front()(inputs, std::span<double>(values, orders_.size()));
    for (std::size_t k = 0; k < orders_.size(); ++k) out[k][i + j * n] = values[k];
  });
  return out;
}

NewtonResult newton(const NewtonSystem& system, la::DdMatrix start, int most_derivatives) {
  constexpr double rounding = 1e-18, shrinking = 0.1, shortest = 1e-4;
  NewtonResult result;
  result.x = std::move(start);
  la::DdMatrix residual = system.residual(result.x);
  double damping = 1;
  for (; result.derivatives < most_derivatives;) {
    system.go_on();
    system.linearise(result.x);
    ++result.derivatives;
    la::DdMatrix step = system.correct(residual);
    double length = size_of(step);
    result.residual = size_of_equation(system, residual);
    if (!std::isfinite(length)) return result;
    if (length <= rounding * size_of(result.x)) {
      result.x = add_scaled(std::move(result.x), 1.0, step);
      result.converged = true;
      return result;
    }
    // Damped step.
    la::DdMatrix next, next_residual, next_step;
    double next_length = 0;
    for (;; damping *= 0.5) {
      if (damping < shortest) return result;
      system.go_on();
      next = add_scaled(result.x, damping, step);
      next_residual = system.residual(next);
      next_step = system.correct(next_residual);
      next_length = size_of(next_step);
      if (next_length <= (1 - damping / 4) * length) break;
      // At the rounding of the arithmetic no step is shorter than the last.
      if (damping == 1 && length <= 1e-13 * size_of(next) && next_length <= 4 * length) {
        result.x = std::move(next);
        result.residual = size_of_equation(system, next_residual);
        result.converged = true;
        return result;
      }
    }
    const bool full = damping == 1;
    result.x = std::move(next);
    residual = std::move(next_residual);
    result.residual = size_of_equation(system, residual);
    damping = std::min(1.0, 2 * damping);
    // Simplified steps.
    while (full && next_length <= shrinking * length) {
      system.go_on();
      result.x = add_scaled(std::move(result.x), 1.0, next_step);
      if (next_length <= rounding * size_of(result.x)) {
        result.converged = true;
        return result;
      }
      residual = system.residual(result.x);
      result.residual = size_of_equation(system, residual);
      length = next_length;
      next_step = system.correct(residual);
      next_length = size_of(next_step);
    }
  }
  return result;
}

NewtonResult newton_or_continuation(const NewtonSystem& system, la::DdMatrix start,
                                    const la::DdMatrix& origin, int most_derivatives) {
  // On the way the modes need not resolve what lies between two solutions that they do.
  constexpr double small = 1e-6, on_the_way = 0.02, shortest = 1.0 / 512;
  const la::DdMatrix at_origin = system.residual(origin);
  const double scale = size_of_equation(system, at_origin);
  NewtonResult direct = newton(system, std::move(start), most_derivatives);
  int derivatives = direct.derivatives;
  if ((direct.converged && (scale == 0 || direct.residual <= small * scale)) ||
      !std::isfinite(scale))
    return direct;
  NewtonResult best;
  best.x = origin;
  double s = 0;
  for (double step = 0.25; s < 1 && step >= shortest && derivatives < 2 * most_derivatives;) {
    const double to = std::min(1.0, s + step);
    NewtonSystem part = system;
    part.residual = [&](const la::DdMatrix& x) {
      return add_scaled(system.residual(x), to - 1.0, at_origin);
    };
    NewtonResult next = newton(part, best.x, std::min(12, most_derivatives));
    derivatives += next.derivatives;
    if (next.converged && next.residual <= on_the_way * scale) {
      best = std::move(next);
      s = to;
      step *= 2;
    } else {
      step *= 0.25;
    }
  }
  if (s < 1 || (direct.converged && direct.residual <= best.residual)) best = std::move(direct);
  best.derivatives = derivatives;
  return best;
}

}  // namespace halfulp::gp_pde::detail
