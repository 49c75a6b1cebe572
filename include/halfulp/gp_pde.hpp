#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "halfulp/expression.hpp"
#include "halfulp/kernel/dd.hpp"
#include "halfulp/report.hpp"

/// Gaussian-process solvers for linear PDEs on boxes, in square-root form.
/// (The manual part of this header is written with the solver.)
namespace halfulp::gp_pde {

/// One dimension of the box, [lower, upper]; `name` is also the suffix of derivatives (u_xx).
struct Axis {
  std::string name;
  dd lower = 0.0;
  dd upper = 1.0;
};

enum class SideKind { dirichlet, neumann, robin, periodic, none };

/// a u + b du/dn = g on one side, n the outward normal (on a lower side du/dn = -u_x).
/// dirichlet: a = 1, b = 0; neumann: a = 0, b = 1; robin: constants a and b as given;
/// g: an expression in the other axes (the side's own axis is replaced by its end).
struct Side {
  SideKind kind = SideKind::none;
  double a = 1;
  double b = 0;
  Expression g;
};

/// A function known by samples on a tensor grid; axes[i] increasing, values in C order.
struct GridSamples {
  std::vector<std::vector<double>> axes;
  std::vector<double> values;
};

/// A PDE `equation = 0`, linear in u and its derivatives.
struct Problem {
  std::string name;
  std::vector<Axis> axes;                       ///< one or two
  Expression equation;                          ///< in the axes' names, u, u_x, u_xx, u_xy, ..., and forcing_symbol
  std::string forcing_symbol = "f";             ///< may be absent from the equation
  std::variant<Expression, GridSamples> forcing;///< what forcing_symbol stands for
  std::optional<Expression> exact;              ///< errors are reported against it; never used to solve
  std::vector<std::array<Side, 2>> sides;       ///< sides[axis][0] lower, [1] upper
};

enum class KernelType { gaussian, student_t, matern, periodic };
enum class Nodes { gauss, chebyshev, uniform };
enum class Method { automatic, galerkin, collocation };
enum class Precision { double_, dd };

/// A band of angular frequencies [lower, upper] (radians per unit length).
struct Band {
  double lower = 0;
  double upper = 0;
};

struct Options {
  KernelType kernel = KernelType::gaussian;
  std::vector<std::vector<Band>> bands;   ///< per axis; empty: inferred from forcing and boundary data
  std::vector<std::ptrdiff_t> nodes_per_axis;  ///< empty: chosen
  Nodes nodes = Nodes::gauss;
  Method method = Method::automatic;
  Precision setup_precision = Precision::dd;
  double tolerance = 0;                   ///< on the relative residual; 0: what the precision allows
  std::ptrdiff_t max_modes = 1200;        ///< per axis
  int threads = 0;                        ///< 0: OpenMP's default
  std::size_t memory_limit = std::size_t{8} << 30;  ///< bytes; a larger need is a DomainError naming it
  /// Called between phases with a fraction in [0, 1] and what is being done; returning false stops
  /// the solver with Cancelled.
  std::function<bool(double fraction, const char* phase)> progress;
};

/// Seconds spent, by phase, in order of execution.
using Timings = std::vector<std::pair<std::string, double>>;

/// What the solver did on one axis.
struct AxisInfo {
  std::vector<Band> bands;       ///< used
  std::vector<double> spectrum_frequency;  ///< angular frequencies of the windowed spectrum
  std::vector<double> spectrum;            ///< its amplitude (largest 1), forcing and boundary data
  std::ptrdiff_t features = 0;   ///< weighted Fourier features
  std::ptrdiff_t modes = 0;      ///< L2-orthonormal basis functions kept
  std::ptrdiff_t nodes = 0;      ///< where the equation is imposed
  double smallest_pivot = 1;     ///< of the rank-revealing factorisation, relative to the largest
};

/// A solved field: evaluate it anywhere in the box, with derivatives up to order two.
class Solution {
 public:
  /// Values of a derivative on a tensor grid in C order; orders[i] derivatives along axis i.
  [[nodiscard]] std::vector<double> on_grid(std::span<const std::vector<double>> axes,
                                            std::span<const int> orders) const;

  Report report;                   ///< residual: relative L2 of the equation, see docs/gp_pde.md
  double residual = 0;             ///< ||L u - f||_2 / scale on independent points
  double residual_scale = 0;       ///< max of ||f||_2 and the L2 norms of the equation's terms (RMS)
  double boundary_residual = 0;    ///< largest relative L2 residual of a side's condition
  double error_estimate = 0;       ///< relative L2, from a second discretisation
  double floor_estimate = 0;       ///< relative L2 error that rounding the data alone causes
  double condition = 0;            ///< of the system that was solved
  std::vector<AxisInfo> axes;
  Timings timings;
  std::vector<std::string> warnings;

  struct Impl;
  std::shared_ptr<const Impl> impl;
};

/// Plan for a problem: infers bands, builds the basis and factors the operator once; solve() is then
/// cheap and can be repeated with new data.
class Solver {
 public:
  explicit Solver(Problem problem, Options options = {});
  [[nodiscard]] Solution solve();
  /// Same operator, domain and kinds of sides; new forcing.
  [[nodiscard]] Solution solve(const std::variant<Expression, GridSamples>& forcing);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

[[nodiscard]] Solution solve(Problem problem, Options options = {});

}  // namespace halfulp::gp_pde
