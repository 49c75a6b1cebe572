#pragma once

#include <functional>
#include <span>
#include <vector>

#include "detail/pde_problem.hpp"

/// Nonlinear equations, and linear ones whose coefficients vary in two dimensions.
namespace halfulp::gp_pde::detail {

/// The part of an equation that is not linear with constant coefficients, at points.
class PointwiseEquation {
 public:
  PointwiseEquation() = default;
  /// @param keep_constant  false: terms with constant coefficients are left out (but u_xy, which
  /// the
  ///                       preconditioner does not have)
  PointwiseEquation(const Checked& c, bool keep_constant);

  /// Derivatives that occur, and whose values the functions below take in this order.
  [[nodiscard]] const std::vector<std::vector<int>>& orders() const { return orders_; }
  /// The formula's values on a grid, given those of the derivatives there.
  [[nodiscard]] la::DdMatrix value(std::span<const Points> grid,
                                   std::span<const la::DdMatrix> fields, int threads) const;
  /// d value / d derivative, one matrix an order, in double.
  [[nodiscard]] std::vector<std::vector<double>> partial(std::span<const Points> grid,
                                                         std::span<const la::DdMatrix> fields,
                                                         int threads) const;

 private:
  std::vector<std::vector<int>> orders_;
  std::vector<Program<dd>> value_;        // one, or none where there is nothing to evaluate
  std::vector<Program<double>> partial_;  // likewise
};

/// Newton's method with a damping that does not depend on how the equation is scaled: a step is
/// good if the next correction by the same derivative is shorter. That correction is taken as well,
/// and so are its successors while they shrink fast.
/// @source  Deuflhard (2011), Newton Methods for Nonlinear Problems, NLEQ-ERR, 3.3.3
struct NewtonSystem {
  std::function<la::DdMatrix(const la::DdMatrix& x)> residual;
  std::function<void(const la::DdMatrix& x)> linearise;
  std::function<la::DdMatrix(const la::DdMatrix& r)> correct;  ///< derivative^-1 r, approximately
  std::function<void()> go_on = [] {};  ///< called before each step; may throw
  Size equations = -1;  ///< entries of a residual that are the equation (the first); -1: all
};
struct NewtonResult {
  la::DdMatrix x;
  int derivatives = 0;  ///< times that the derivative was formed
  double residual = 0;  ///< norm of the equation's residual at x
  bool converged = false;
};
[[nodiscard]] NewtonResult newton(const NewtonSystem& system, la::DdMatrix start,
                                  int most_derivatives);

/// newton from `start`; if that fails, or ends where the residual is not small (a least-squares
/// problem has such points), the way from `origin` on which the residual shrinks in proportion:
/// r(x) = (1 - s) r(origin), s from 0 to 1 in steps as long as Newton's method follows.
/// @source  Deuflhard (2011), chapter 5
[[nodiscard]] NewtonResult newton_or_continuation(const NewtonSystem& system, la::DdMatrix start,
                                                  const la::DdMatrix& origin, int most_derivatives);

}  // namespace halfulp::gp_pde::detail
