#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "detail/fourier_basis.hpp"
#include "detail/pde_newton.hpp"
#include "detail/pde_problem.hpp"
#include "detail/pde_samples.hpp"
#include "detail/pde_strong.hpp"
#include "detail/sylvester.hpp"

namespace halfulp::gp_pde::detail {

/// A solution of the homogeneous equation with constant coefficients in one dimension, Re or Im of
/// exp(z (x - origin)). Where it decays within a small part of the axis it is a function of its
/// own: no band of frequencies has to imitate a boundary layer.
struct Exponential {
  dd rate = 0.0, frequency = 0.0;  ///< z = rate + i frequency
  dd origin = 0.0;                 ///< the end where it is largest
  bool imaginary = false;
  /// Derivative of the given order at x.
  [[nodiscard]] dd operator()(dd x, int order) const;
};

/// A field in the bases of its axes.
struct Field {
  std::vector<std::shared_ptr<const la::FourierBasis>> basis;
  la::DdMatrix features;  ///< coefficients of the features: rows first axis, columns second
  std::vector<Exponential> exponentials;  ///< one dimension only
  Points exponential_coefficients;
  dd shift = 0.0;  ///< the free constant of a pure Neumann or periodic problem
  int newton_steps = 0;
  bool converged = true;  ///< Newton's method, where there was one
  double condition = 1, smallest_eigenvalue = 0;
  bool singular = false;  ///< to working precision
  int threads = 1;

  /// Values of a derivative on a tensor grid, rows along the first axis.
  [[nodiscard]] la::DdMatrix values(std::span<const Points> points,
                                    std::span<const int> orders) const;
};

/// Evaluates fields of one set of bases on one tensor grid; the features there are formed once.
class GridEvaluator {
 public:
  GridEvaluator() = default;
  /// @param highest  derivatives along each axis that values() is asked for; at least two
  GridEvaluator(const Field& field, std::vector<Points> grid, std::array<int, 2> highest = {2, 2});
  [[nodiscard]] const std::vector<Points>& grid() const { return grid_; }
  /// As Field::values on this grid.
  [[nodiscard]] la::DdMatrix values(const Field& field, std::span<const int> orders) const;

 private:
  std::vector<Points> grid_;
  std::array<std::array<la::DdMatrix, highest_order + 1>, 2>
      features_;  ///< [axis][order]; transposed for axis 1
};

/// How the modes of one dimension are made, margin and number apart.
[[nodiscard]] la::BasisOptions line_basis_options(const Checked& c);

/// One dimension: weighted rows of equations and conditions, factored.
struct LineSystem {
  la::DdMatrix rows_to_modes;  ///< orthonormal columns: the rows' part of the factorisation
  la::PivotedQr system;
  Size columns = 0;       ///< unknowns
  Size undetermined = 0;  ///< directions of the unknowns that the rows say nothing of
  double condition = 1, smallest_eigenvalue = 0;
  bool singular = false;
  [[nodiscard]] la::DdMatrix solve(const la::DdMatrix& b) const;
};
/// @param scale  largest entry of the equations' rows: what is tiny is so relative to it
[[nodiscard]] LineSystem factor_rows(la::DdMatrix rows, double scale, int threads);

/// Basis, operator and factorisation for one choice of bands.
///
/// One dimension: the equation at the nodes and the conditions at the ends, as one weighted
/// least-squares problem in double-double, factored with column pivoting.
/// Two dimensions: Galerkin in the tensor basis, A X + X B^T (+ mixed), with the sides in weak form
/// or, where there are several conditions on one or orders above two, in the basis (StrongPlane).
class Discretisation {
 public:
  struct Choice {
    double margin = 12;
    Size most_modes = 640;
    std::shared_ptr<const SampleFit> samples = {};  ///< where the forcing is sampled
    /// Instead of building them: those of another operator with the same bands.
    std::vector<std::shared_ptr<const la::FourierBasis>> basis = {};
  };
  Discretisation() = default;
  Discretisation(const Checked& c, std::vector<std::vector<Band>> bands, const Choice& choice,
                 Timings& timings);

  /// @param start  where Newton's method begins; null: at options.guess, or with what the reference
  ///               operator gives
  [[nodiscard]] Field solve(const Checked& c, const RightHandSide& rhs, const Field* start,
                            Timings& timings) const;

  /// The right-hand side on a grid: formula and, where there are any, samples, which fits(rhs).
  [[nodiscard]] la::DdMatrix data_on(const RightHandSide& rhs, std::span<const Points> grid) const;
  /// Whether the fit at hand is for samples on these axes.
  [[nodiscard]] bool fits(const RightHandSide& rhs) const {
    return samples_ && samples_->fits(rhs);
  }
  void take(std::shared_ptr<const SampleFit> samples) { samples_ = std::move(samples); }
  [[nodiscard]] bool ready() const { return sylvester_ || !rows_.empty(); }

  std::vector<std::vector<Band>> bands;  ///< as used: merged, with the low band
  std::vector<std::shared_ptr<const la::FourierBasis>> basis;
  [[nodiscard]] const SampleFit& samples() const { return *samples_; }
  [[nodiscard]] const std::vector<Exponential>& exponentials() const { return exponentials_; }
  double condition = 1;
  double smallest_eigenvalue = 0;  ///< in modulus (smallest singular value in 1-D)
  bool singular = false;           ///< to working precision

 private:
  [[nodiscard]] LineSystem factor_line(const Checked& c, const la::DdMatrix& a) const;
  [[nodiscard]] la::DdMatrix start_coefficients(const Checked& c, const Field* start,
                                                const la::DdMatrix& lift) const;
  // `line` becomes the last derivative.
  [[nodiscard]] NewtonResult newton_line(const Checked& c, const la::DdMatrix& data, la::DdMatrix x,
                                         std::shared_ptr<const LineSystem>& line) const;
  // `lift`: with strong conditions, the coefficients that take up their data; else not used.
  [[nodiscard]] NewtonResult newton_plane(const Checked& c, const la::DdMatrix& load,
                                          const la::DdMatrix& lift, la::DdMatrix x) const;
  void set_up_newton(const Checked& c);
  void set_up_line(const Checked& c);
  void set_up_plane(const Checked& c);
  /// Two dimensions: inner products of the data with the basis, sides in weak form included.
  [[nodiscard]] la::DdMatrix load_plane(const Checked& c, const RightHandSide& rhs,
                                        const la::DdMatrix& lift, Timings& timings) const;
  std::shared_ptr<const SampleFit> samples_;
  PointwiseEquation pointwise_;
  // [axis][order]: derivatives of the basis functions at the nodes, nodes x modes, where needed
  std::array<std::array<la::DdMatrix, highest_order + 1>, 2> at_nodes_;
  la::DdMatrix conditions_;  ///< one dimension: weighted rows of the conditions on the sides
  // One dimension
  Points rows_, row_weight_;
  bool in_modes_ = false;  ///< the equation's rows are coefficients of the modes, not nodes
  std::vector<Exponential> exponentials_;
  LineSystem line_;
  /// Newton's method: the first derivative formed, for the next solve that begins there.
  struct FirstDerivative {
    la::DdMatrix at;
    std::shared_ptr<const LineSystem> line;
  };
  mutable std::optional<FirstDerivative> first_derivative_;
  // Two dimensions
  std::vector<la::DdMatrix> projector_;  // (W Q)^T: values at nodes -> coefficients
  std::vector<std::array<la::DdMatrix, 2>>
      load_;  // [axis][side]: r x 1, multiplies the side's data
  std::shared_ptr<const la::SylvesterSolver> sylvester_;
  // Two dimensions with conditions that the basis fulfils: unknowns are those of strong_'s sets.
  std::shared_ptr<const StrongPlane> strong_;
  std::array<std::array<la::DdMatrix, highest_order + 1>, 2>
      lift_at_nodes_;  ///< as at_nodes_, of the whole basis
};

/// Galerkin matrix of one axis, a u'' + c u', with its sides in weak form: Nitsche (1971) for
/// prescribed u, natural conditions for the others, upwind for convection. load[s] multiplies the
/// data of side s.
[[nodiscard]] la::DdMatrix axis_matrix(const Checked& c, Size k, const la::FourierBasis& basis,
                                       std::array<la::DdMatrix, 2>& load);

/// Adds the time since construction, or since the last call, to a phase.
class Stopwatch {
 public:
  explicit Stopwatch(Timings& timings);
  void lap(const char* phase);

 private:
  Timings& timings_;
  double start_;
};

/// make(i, timings) for i = 0 and 1. Two threads take one each, which is better than to share small
/// matrices; with more of them each shares the matrices. Phases done side by side count half.
void two_at_once(int threads, Timings& timings,
                 const std::function<void(int i, Timings& timings)>& make);

}  // namespace halfulp::gp_pde::detail
