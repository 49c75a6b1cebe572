#pragma once

#include <algorithm>
#include <limits>

#include "detail/pde_discretisation.hpp"
#include "detail/pde_problem.hpp"

/// How well a field fulfils its equation and its conditions.
namespace halfulp::gp_pde::detail {

struct Quality {
  double residual = std::numeric_limits<double>::infinity();  ///< relative
  double scale = 0;
  double boundary = std::numeric_limits<double>::infinity();  ///< relative
  double largest = 0;                                         ///< |f| at the residual's points
  [[nodiscard]] double worst() const { return std::max(residual, boundary); }
};

[[nodiscard]] inline double relative(double value, double scale) {
  return scale > 0 ? value / scale : value;
}

/// Points that the discretisation did not use (the samples, where the forcing is samples).
[[nodiscard]] GridEvaluator residual_points(const Checked& c, const RightHandSide& rhs,
                                            const Field& field);

[[nodiscard]] Quality measure(const Checked& c, const RightHandSide& rhs, const Field& field,
                              const GridEvaluator& evaluator);

/// Gauss points to compare fields on: on equally spaced ones sin(100 x) may vanish altogether.
[[nodiscard]] std::vector<Points> comparison_grid(const Checked& c);

}  // namespace halfulp::gp_pde::detail
