#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "halfulp/checkpoint.hpp"
#include "halfulp/expression.hpp"
#include "halfulp/kernel/dd.hpp"
#include "halfulp/report.hpp"

/// Gaussian-process solvers for PDEs on intervals, rectangles and boxes, in square-root form.
///
/// The prior of the solution is a Gaussian process whose spectral density is a mixture of bands,
/// k(x - x') = sum_j S(w_j) cos(w_j (x - x')), one factor an axis (Fang et al. 2024, eq. 6-9). It
/// is never used as a Gram matrix, whose condition number would cost half of the digits: its square
/// root, the weighted Fourier features sqrt(S(w_j)) cos(w_j x), sqrt(S(w_j)) sin(w_j x), spans the
/// solution, and a rank-revealing factorisation in double-double keeps as many orthonormal modes as
/// carry weight. The bands come from the data: forcing and boundary data, through a windowed FFT.
///
///     using namespace halfulp;
///     const Expression u = parse_expression("sin(100*x)", {"x"});
///     gp_pde::Problem p;
///     p.axes = {{"x", 0.0, 1.0}};
///     p.equation = parse_expression("u_xx - f", {"x", "u", "u_xx", "f"});
///     p.forcing = u.derivative("x").derivative("x");
///     p.sides = {{{{.kind = gp_pde::SideKind::dirichlet, .g = u},
///                  {.kind = gp_pde::SideKind::dirichlet, .g = u}}}};
///     const gp_pde::Solution s = gp_pde::solve(p);   // s.report, s.error_estimate, s.on_grid(...)
///
/// One dimension: equation at the nodes and conditions at the ends as one weighted least-squares
/// problem, with the fast exponentials of the homogeneous equation beside the modes (a boundary
/// layer is not imitated by frequencies). Two dimensions: Galerkin with the conditions in weak form
/// (Nitsche 1971), a Sylvester equation A X + X B^T = R factored in double and refined in
/// double-double; or, with Options::precision, eigenvectors of A and B in double-double, combined
/// with quadrature and evaluation and rounded once, so that a solve is a few matrix products in
/// double. Likewise in one dimension: the forcing's values at a few points times a matrix. Three
/// dimensions: the latter with three axes. docs/gp_pde.md derives all.
namespace halfulp::gp_pde {

/// One dimension of the box, [lower, upper]; `name` is also the suffix of derivatives (u_xx).
struct Axis {
  std::string name;
  dd lower = 0.0;
  dd upper = 1.0;
};

enum class SideKind { dirichlet, neumann, robin, periodic, none, derivative, linear };

/// a u + b du/dn = g on one side, n the outward normal (on a lower side du/dn = -u_x).
/// dirichlet: a = 1, b = 0; neumann: a = 0, b = 1; robin: constants a and b as given;
/// derivative: the derivative of the given order along the axis (u_t, u_xx: no outward sign) = g;
/// linear: coefficients[0] u + coefficients[1] u_x + coefficients[2] u_xx + ... = g, likewise;
/// g: an expression in the other axes (the side's own axis is replaced by its end).
///
/// A side with several conditions has the others in `also`. An initial state at rest:
///     const Side start{.kind = SideKind::dirichlet, .g = u0,
///                      .also = {{.kind = SideKind::derivative, .order = 1}}};
struct Side {
  SideKind kind = SideKind::none;
  double a = 1;
  double b = 0;
  Expression g = {};
  int order = 1;                          ///< derivative
  std::vector<double> coefficients = {};  ///< linear
  std::vector<Side> also = {};            ///< further conditions on the same side
};

/// A function known by samples on a tensor grid; axes[i] increasing, of any spacing, from one end
/// of the domain to the other; values in C order.
struct GridSamples {
  std::vector<std::vector<double>> axes;
  std::vector<double> values;
};

/// A PDE `equation = 0` on a box: any smooth formula in the axes, u and its derivatives to order
/// four. Nonlinear equations are solved by Newton's method from options.guess, or else from the
/// solution of the equation's derivative at u = 0. Each axis needs as many conditions as its order,
/// or both sides periodic. In one dimension they may stand on either end. In two dimensions where
/// they stand decides: second order in two axes of one sign (elliptic) needs one on each side;
/// first order one where the flow enters; an evolution (wave, heat, KdV, beam) u, u_t, ... on one
/// side of its time, and in space as many on each side as solutions decay from it (docs/gp_pde.md).
/// Three dimensions: a sum of second derivatives of one sign, and u, with constant coefficients;
/// the forcing a formula.
struct Problem {
  std::string name;
  std::vector<Axis> axes;  ///< one to three
  Expression equation;     ///< in the axes' names, u, u_x, u_xx, u_xy, ..., and forcing_symbol
  std::string forcing_symbol = "f";               ///< may be absent from the equation
  std::variant<Expression, GridSamples> forcing;  ///< what forcing_symbol stands for
  std::optional<Expression> exact;         ///< errors are reported against it; never used to solve
  std::vector<std::array<Side, 2>> sides;  ///< sides[axis][0] lower, [1] upper
};

/// A function of the user's as samples, for Problem::forcing: on equally spaced points, on each
/// axis as many as its spectrum asks for (201, 401, ...), so that nothing is left near their limit.
/// The solver then says what the samples' rounding costs, and that the data are not resolved where
/// no number up to `most` is enough.
/// @param  axes      one or two, as in the problem
/// @param  function  called with a point, one coordinate an axis; from one thread
/// @param  most      points an axis; 0: 6401 in one dimension, 1601 in two
/// @throws           DomainError if a value is not finite, naming the point
[[nodiscard]] GridSamples sample_function(
    std::span<const Axis> axes, const std::function<double(std::span<const double>)>& function,
    std::ptrdiff_t most = 0);

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
  /// How the density falls off outside a band: as a Gaussian, or as a Student-t with five degrees
  /// of freedom (the spectrum of Matern-5/2). matern: that of one band about zero, the plain Matern
  /// prior, as a baseline. periodic: Gaussian, and refused unless all sides are periodic.
  KernelType kernel = KernelType::gaussian;
  std::vector<std::vector<Band>>
      bands;  ///< per axis; empty: inferred from forcing and boundary data
  std::vector<std::ptrdiff_t> nodes_per_axis;  ///< where the equation is imposed; empty: chosen
  Nodes nodes = Nodes::gauss;                  ///< kind of those nodes
  Method method = Method::automatic;           ///< collocation in 1-D, else galerkin
  Precision setup_precision = Precision::dd;
  /// Of what is done in every solve. double_: all O(N^d) work in double, with operators that are
  /// combined in double-double and rounded once, where the forcing is a formula and the equation
  /// linear: in one dimension any such, in two those with constant coefficients and without first
  /// and mixed derivatives. Elsewhere, and in one dimension where the result would not be within
  /// the tolerance of the one in double-double or a later forcing is outside of the modes that
  /// double needs, dd is used. In three dimensions it is always double.
  Precision precision = Precision::dd;
  double tolerance = 0;             ///< on Report::residual; 0: 1e-10
  std::ptrdiff_t max_modes = 640;   ///< per axis; at most 640 in 1-D, else 400 are used
  std::optional<Expression> guess;  ///< where Newton's method starts, in the axes' names
  int max_newton = 40;              ///< derivatives that Newton's method forms at most
  /// A long window in time is cut into this many slabs of equal length, solved one after the other,
  /// each from the end of the one before; 0: as many as the frequencies ask for, perhaps none. Time
  /// is an axis of first order with a condition on its lower side only (the one called t, if there
  /// are several); one and two dimensions, the forcing a formula.
  std::ptrdiff_t slabs = 1;
  /// State of a solve in slabs, after each slab; nothing else is kept.
  Checkpoint checkpoint = {};
  /// Folder where bases and factorisations of one axis are kept and found again, by everything that
  /// enters them: the same bits with and without. Any number of programs may share it. Empty: none.
  std::filesystem::path cache = {};
  std::size_t cache_limit = std::size_t{1} << 30;  ///< bytes; the least recently used go first
  int threads = 0;                                 ///< 0: OpenMP's default
  std::size_t memory_limit = std::size_t{8}
                             << 30;  ///< bytes; a larger need is a DomainError naming it
  /// Called between phases with a fraction in [0, 1] and what is being done; returning false stops
  /// the solver with Cancelled.
  std::function<bool(double fraction, const char* phase)> progress;
};

/// Seconds spent, by phase, in order of execution.
using Timings = std::vector<std::pair<std::string, double>>;

/// What the solver did on one axis.
struct AxisInfo {
  std::vector<Band> bands;                 ///< used
  std::vector<double> spectrum_frequency;  ///< angular frequencies of the windowed spectrum; only
                                           ///< of a Solver's first solve, later ones take none
  std::vector<double> spectrum;            ///< its amplitude (largest 1), forcing and boundary data
  std::ptrdiff_t features = 0;             ///< weighted Fourier features
  std::ptrdiff_t modes = 0;                ///< L2-orthonormal basis functions kept
  std::ptrdiff_t nodes = 0;                ///< where the equation is imposed
  double smallest_pivot = 1;  ///< of the rank-revealing factorisation, relative to the largest
};

/// What the solver did on one slab of time.
struct SlabInfo {
  double begin = 0, end = 0;     ///< of the slab
  double residual = 0;           ///< as Solution::residual, on this slab
  double boundary_residual = 0;  ///< likewise
  /// Relative L2 on this slab, with what came from those before it: 4 times the distance of two
  /// chains of slabs that never meet, each in a discretisation of its own and from its own ends.
  double error_estimate = 0;
  int newton_steps = 0;
};

/// A solved field: evaluate it anywhere in the box, with derivatives up to order four.
class Solution {
 public:
  /// Values of a derivative on a tensor grid in C order; orders[i] derivatives along axis i.
  [[nodiscard]] std::vector<double> on_grid(std::span<const std::vector<double>> axes,
                                            std::span<const int> orders) const;

  /// residual: the largest of `residual`, `boundary_residual` and the distance of the two
  /// discretisations. converged: it is within the tolerance, the data are resolved by their
  /// sampling, and the operator is not singular. Otherwise stagnated: the field is there, and is
  /// not to be trusted beyond `error_estimate`.
  Report report;
  /// RMS of (L u - f) / residual_scale at points that were not used to solve (at the samples, where
  /// the forcing is samples).
  double residual = 0;
  double residual_scale = 0;     ///< largest RMS of f and of the equation's terms
  double boundary_residual = 0;  ///< largest RMS residual of a condition on a side, relative
  double error_estimate = 0;     ///< relative L2: 4 times the distance from a second
  ///< discretisation, plus the floor (1-D in double: 3 times)
  double floor_estimate = 0;  ///< relative L2 error that the rounding of result and data causes;
  ///< 1-D in double: one standard deviation of it, and no less than what was measured at first
  /// 2-D, 3-D: largest over smallest |eigenvalue| of the operator. 1-D: largest entry over smallest
  /// singular value.
  double condition = 0;
  int newton_steps = 0;  ///< derivatives formed; 0: a linear equation with constant coefficients
  std::vector<AxisInfo> axes;   ///< with slabs: of the first one
  std::vector<SlabInfo> slabs;  ///< empty: one window
  int cache_hits = 0;    ///< parts of the set-up found in options.cache, since its Solver began
  int cache_misses = 0;  ///< likewise: looked for and made
  Timings timings;
  std::vector<std::string> warnings;

  struct Impl;
  std::shared_ptr<const Impl> impl;
};

/// Plan for a problem. The first solve() infers the bands, builds the bases and factors the
/// operator; later ones reuse them and cost two (1-D) or a handful (2-D) of matrix products.
///
/// @throws DomainError  a problem outside of what Problem's docstring admits, naming the part; an
///                      ill-posed one (conditions missing, or on the side where the flow leaves);
///                      options out of range; more nodes than options.memory_limit holds
/// @throws ShapeError   sides, bands or nodes not one an axis; forcing values not as many as nodes
/// @throws Cancelled    options.progress returned false
/// @accuracy            budgets `gp_pde_*` in validation/budgets.csv
/// @cost                set-up O(n r^2) an axis for n nodes and r modes, in double-double; solve
///                      O(n^2 r + n r^2 + r^3) in 2-D, O(n^3 r) in 3-D. Same bits for any number of
///                      threads.
/// @source              Fang et al. (2024), ICLR, arXiv 2311.04465; Adcock, Huybrechs (2019), SIAM
///                      Rev. 61; Nitsche (1971); Bartels, Stewart (1972), CACM 15
class Solver {
 public:
  explicit Solver(Problem problem, Options options = {});
  [[nodiscard]] Solution solve();
  /// Same operator, domain and sides; new forcing. A formula is compiled when it is not that of the
  /// solve before: to solve again and again with one is quickest. Its bands are taken to be those
  /// of the first solve: where they are not, the residual says so.
  [[nodiscard]] Solution solve(const std::variant<Expression, GridSamples>& forcing);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// Solver(problem, options).solve()
[[nodiscard]] Solution solve(Problem problem, Options options = {});

}  // namespace halfulp::gp_pde
