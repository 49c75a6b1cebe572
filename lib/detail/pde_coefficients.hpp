#pragma once

#include <string>
#include <vector>

#include "detail/pde_discretisation.hpp"

/// What neither the equations nor their residual see, and what is said of a result that is not
/// within its tolerance.
namespace halfulp::gp_pde::detail {

/// A grid between whose points no spike of a coefficient is looked for: 65,536 of them.
[[nodiscard]] std::vector<Points> fine_grid(const std::vector<Axis>& axes);
/// Whether a formula depends on an axis.
[[nodiscard]] bool varies(const Expression& e, const std::vector<std::string>& axes);
/// Fields of the given constant values on a grid.
[[nodiscard]] std::vector<la::DdMatrix> constant_fields(const std::vector<double>& values,
                                                        const std::vector<Points>& grid);
/// Largest modulus.
[[nodiscard]] double largest_of(const std::vector<double>& values);
/// Whether no coefficient (of a nonlinear equation: of its derivative, where u and its derivatives
/// are of their sizes) is twice as large between the points of the residual as on them: a spike
/// there would be unknown to the equations and to the residual alike.
[[nodiscard]] bool coefficients_seen(const Checked& c, const Field& field,
                                     const GridEvaluator& evaluator);
inline constexpr const char* coefficient_unseen =
    "a coefficient is not resolved: it has a spike between the points where the equation is "
    "imposed";

/// Why a result is not within its tolerance, where nothing else was said.
[[nodiscard]] std::string unexplained(double residual, double boundary, double distance,
                                      double tolerance);

}  // namespace halfulp::gp_pde::detail
