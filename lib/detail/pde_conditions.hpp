#pragma once

#include <complex>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "detail/linear_operator.hpp"
#include "halfulp/gp_pde.hpp"

/// Conditions on the sides, of any order and any number, and whether they suit an equation.
namespace halfulp::gp_pde::detail {

/// Highest order of a derivative that is solved.
inline constexpr int highest_order = 4;

/// sum_j coefficients[j] d^j u / d axis^j = g at one end of an axis.
struct Condition {
  std::ptrdiff_t axis = 0;
  int side = 0;  ///< 0 lower, 1 upper
  std::vector<double> coefficients;
  Expression g;

  [[nodiscard]] int order() const { return static_cast<int>(coefficients.size()) - 1; }
};

/// Coefficients along the axis (not the outward normal) of one condition on side `s`, highest one
/// not zero; empty for none and periodic, and for a condition that is none (all are zero).
[[nodiscard]] std::vector<double> condition_coefficients(const Side& side, int s);

/// All conditions of one axis: the lower side's, then the upper side's, in the order given.
[[nodiscard]] std::vector<Condition> conditions_of(const Problem& problem, std::ptrdiff_t axis);

/// Roots of sum_j a[j] z^j; leading zeros are left out.
/// @source  Aberth (1973), Math. Comp. 27, 339-344
[[nodiscard]] std::vector<std::complex<double>> polynomial_roots(
    std::vector<std::complex<double>> a);

/// Highest pure derivative along an axis in the equation.
[[nodiscard]] int axis_order(const std::vector<std::vector<int>>& orders, std::ptrdiff_t axis);

/// True if a problem in two dimensions is not one of one condition a side on an equation of second
/// order that is elliptic or parabolic, or of first order: those have a method of their own.
[[nodiscard]] bool needs_strong_conditions(const Problem& problem,
                                           const std::vector<std::vector<int>>& orders,
                                           const LinearOperator& op);

/// Why conditions in two dimensions do not suit the equation.
struct Objection {
  std::ptrdiff_t axis = -1;  ///< -1: the equation itself
  int side = -1;             ///< -1: the axis
  std::string found, rule;
};

/// Whether an equation in two dimensions has one solution that depends continuously on the data, by
/// the roots of its symbol at high frequency: along its time an evolution must not grow without
/// bound (Petrowsky), and each end of the other axis needs as many conditions as there are
/// solutions that decay from it (Kreiss), which they must tell apart.
/// @param op      constants: the operator, or what stands for it
/// @param orders  of the derivatives that occur
/// @source  Kreiss, Lorenz (2004), Initial-Boundary Value Problems and the Navier-Stokes
///          Equations, chapters 2 and 7
[[nodiscard]] std::optional<Objection> objection_to(const Problem& problem,
                                                    const std::vector<std::vector<int>>& orders,
                                                    const LinearOperator& op);

/// All conditions of an axis stand on one side and are as many as its order: -1 lower, 1 upper;
/// else 0.
[[nodiscard]] int evolution_side(const Problem& problem, std::ptrdiff_t axis, int order);

}  // namespace halfulp::gp_pde::detail
