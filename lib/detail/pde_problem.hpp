#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "detail/dd_linalg.hpp"
#include "detail/linear_operator.hpp"
#include "detail/pde_conditions.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::detail {
class SetupCache;
}

/// The problem as the solver sees it: checked, in normal form, with its data ready to be sampled.
namespace halfulp::gp_pde::detail {

namespace la = halfulp::detail;
using Size = std::ptrdiff_t;
using Points = std::vector<dd>;
inline constexpr double two_pi = 6.283185307179586;

// ---- grids and sampled functions ----

/// Values on the tensor grid as a matrix: rows run along the first axis (one column in 1-D).
[[nodiscard]] la::DdMatrix sample(const Program<dd>& program, std::span<const Points> axes,
                                  int threads);
/// a + factor b
[[nodiscard]] la::DdMatrix add_scaled(la::DdMatrix a, dd factor, const la::DdMatrix& b);
/// Row i times w_i.
[[nodiscard]] la::DdMatrix scale_rows(la::DdMatrix a, const Points& w);
/// Root mean square of the entries; NaN if one is not finite.
[[nodiscard]] double rms(const la::DdMatrix& a);

/// n nodes on [lower, upper], increasing, ends included for uniform and chebyshev; n is raised to
/// an even number for gauss.
[[nodiscard]] Points make_nodes(Nodes kind, dd lower, dd upper, Size n);
/// Quadrature weights of increasing points by the trapezoidal rule.
[[nodiscard]] Points trapezoid(const Points& p);

/// Bytes of the modes of a band on an interval: a double-double for each mode at each node of the
/// rule that integrates products of them, 0.55 nodes a radian.
[[nodiscard]] double band_bytes(const Band& band, double length, Size max_modes);

// ---- the problem ----

struct AxisOperator {
  dd second = 0.0, first = 0.0;  ///< constant coefficients of u_xx and u_x
  bool has_second = false, has_first = false;
  int order = 0;      ///< of the highest derivative along this axis alone
  int evolution = 0;  ///< all conditions on the lower side: -1, on the upper one: 1
  bool periodic = false;
  std::array<bool, 2> inflow{};  ///< sides where convection enters and u is prescribed
};

struct Checked {
  Problem problem;
  Options options;
  LinearOperator op;               ///< the equation or, with `newton`, what preconditions it
  std::optional<Equation> newton;  ///< nonlinear, or coefficients that vary in two dimensions
  std::vector<std::string> names;
  std::vector<AxisOperator> axis;
  std::vector<Condition> conditions;  ///< of all sides, axis by axis
  bool strong = false;  ///< two dimensions: conditions are fulfilled by the basis, not in weak form
  dd reaction = 0.0, mixed = 0.0;  ///< constant coefficients of u and u_xy
  bool constant = true;            ///< all coefficients are
  bool singular = false;           ///< constants solve the homogeneous problem
  int threads = 1;
  std::shared_ptr<la::SetupCache> cache;  ///< of parts of the set-up; null: none
  /// Data that replace g on the lower side of start_axis: a column of values at points of the other
  /// axis. A time slab begins where the one before it ended.
  Size start_axis = -1;
  std::function<la::DdMatrix(const Points& across)> start_data;

  [[nodiscard]] Size dimension() const { return static_cast<Size>(names.size()); }
  [[nodiscard]] dd length(Size k) const { return problem.axes[k].upper - problem.axes[k].lower; }
  [[nodiscard]] dd end(Size k, int s) const {
    return s == 0 ? problem.axes[k].lower : problem.axes[k].upper;
  }
};

/// Within a phase: asks options.progress, with what it was told last, whether to go on.
/// @throws Cancelled
void ask_to_go_on(const Options& options);
/// Options whose progress remembers what it was told, for ask_to_go_on.
[[nodiscard]] Options remembering(Options options);

/// @throws DomainError, ShapeError  what Solver's docstring lists
[[nodiscard]] Checked check(Problem problem, Options options);

/// Coefficient of a derivative, zero where absent.
[[nodiscard]] Expression coefficient(const LinearOperator& op, const std::vector<int>& order);

/// A side with a condition on it.
[[nodiscard]] inline bool has_data(const Side& side) {
  return side.kind != SideKind::none && side.kind != SideKind::periodic;
}
/// g of a condition at points of the other axis (1 x 1 in one dimension).
[[nodiscard]] la::DdMatrix condition_values(const Checked& c, const Condition& condition,
                                            const Points& points);
/// The same for the one condition of a side.
[[nodiscard]] la::DdMatrix side_values(const Checked& c, Size k, int s, const Points& points);

/// What the operator applied to u must equal: a formula, or samples plus a formula.
struct RightHandSide {
  RightHandSide(const Checked& c, const std::variant<Expression, GridSamples>& forcing);

  /// The formula's part on a grid of the caller's.
  [[nodiscard]] la::DdMatrix on(std::span<const Points> grid) const {
    return sample(formula, grid, threads);
  }
  /// All of it on the samples' own grid.
  [[nodiscard]] la::DdMatrix on_samples() const {
    return add_scaled(sample(formula, axes, threads), 1.0, samples);
  }

  Expression expression;  ///< what `formula` evaluates
  Program<dd> formula;
  Program<double> formula_double;
  /// The formula is zero but for its rounding, as what [exact] leaves of a homogeneous equation.
  bool negligible = false;
  bool sampled = false;
  std::vector<Points> axes;  ///< of the samples
  la::DdMatrix samples;      ///< times their factor in the equation
  int threads = 1;
  /// The box that largest_value was asked for last, its ends, and what it found.
  struct Largest {
    std::vector<double> ends;
    double value;
  };
  mutable std::optional<Largest> largest;
};

/// Largest |formula| at 65,536 scattered points of the box, in double: what coarser samplings are
/// compared with, so that a narrow spike is not overlooked. Kept in `rhs`: not for several threads.
[[nodiscard]] double largest_value(const Checked& c, const RightHandSide& rhs);

}  // namespace halfulp::gp_pde::detail
