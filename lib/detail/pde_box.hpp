#pragma once

#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "detail/fourier_basis.hpp"
#include "detail/pde_bands.hpp"
#include "detail/pde_problem.hpp"

/// Fast diagonalisation in double on boxes of two or three dimensions.
///
/// Without first and mixed derivatives the Galerkin matrix is a Kronecker sum of symmetric
/// matrices, one an axis. Each is diagonalised once, in double-double, and combined with what
/// stands next to it: values at Gauss nodes -> eigen-coefficients, V^T P, and eigen-coefficients ->
/// values, E V. The combined matrices are rounded once; a solve is then a mode product an axis, a
/// division by lambda_i + mu_j (+ nu_k), and a mode product an axis, all in double and all backward
/// stable: no condition number comes in, because no ill-conditioned factor is left.
namespace halfulp::gp_pde::detail {

using Doubles = std::vector<double>;

/// Whether the operator is such a sum, and the data a formula.
[[nodiscard]] bool diagonalisable(const Checked& c);

/// One axis: its basis in the eigenvectors of its Galerkin matrix.
class BoxAxis {
 public:
  BoxAxis(const Checked& c, Size k, std::shared_ptr<const la::FourierBasis> basis);

  [[nodiscard]] Size modes() const { return rank[0] + rank[1]; }
  /// points x modes(), row by row: a derivative of the eigenfunctions. The last few are kept, so
  /// that repeated solves evaluate on the same grid for the price of a product.
  [[nodiscard]] std::shared_ptr<const Doubles> evaluate(const Points& points, int order,
                                                        int threads) const;

  std::shared_ptr<const la::FourierBasis> basis;
  Points nodes;  ///< Gauss nodes that data are sampled at: fewer than the basis' own
  /// The axis matrix keeps even and odd functions apart: values are folded about the centre, and
  /// the parts 0 (even) and 1 (odd) are projected on their own. Else everything is in part 0.
  bool folded = false;
  Size half = 0;  ///< nodes after folding
  std::array<Size, 2> rank{};
  std::array<Doubles, 2> projector;  ///< rank x half, row by row
  std::vector<dd> values;            ///< eigenvalues
  std::array<Doubles, 2> load;       ///< multiplies the data of a side; empty without data
  Doubles integral;                  ///< of the eigenfunctions over the axis
  double length = 0;

 private:
  la::DdMatrix to_features_;  ///< eigen-coefficients -> coefficients of the features
  struct Evaluated {
    Points points;
    int order = 0;
    std::shared_ptr<const Doubles> values;
  };
  mutable std::mutex mutex_;
  mutable std::deque<Evaluated> evaluated_;  ///< the latest last
};

/// A solution in eigenfunctions.
struct BoxField {
  std::vector<std::shared_ptr<const BoxAxis>> axes;
  Doubles coefficients;  ///< C order
  double shift = 0;      ///< the free constant
  int threads = 1;
  /// A derivative on a tensor grid, C order.
  [[nodiscard]] Doubles values(std::span<const Points> points, std::span<const int> orders) const;
  /// Root mean square over the box: the eigenfunctions are orthonormal.
  [[nodiscard]] double rms() const;
};

struct BoxQuality {
  double residual = 0, scale = 0, boundary = 0, largest = 0;
};

class BoxSolver {
 public:
  BoxSolver() = default;
  BoxSolver(const Checked& c, std::vector<std::shared_ptr<const la::FourierBasis>> basis,
            Timings& timings);

  [[nodiscard]] BoxField solve(const Checked& c, const RightHandSide& rhs, Timings& timings) const;
  /// Residuals at Gauss points that the solve did not use, and on the sides.
  [[nodiscard]] BoxQuality measure(const Checked& c, const RightHandSide& rhs,
                                   const BoxField& field) const;

  double condition = 1;
  double smallest_eigenvalue = 0;

 private:
  [[nodiscard]] Doubles project(const Program<dd>& formula, Size skip, int threads) const;
  /// As project, by products of one axis each; nothing where the formula is no short sum of such
  /// products, or where they cancel.
  [[nodiscard]] std::optional<Doubles> project_products(const Expression& formula,
                                                        const std::vector<std::string>& names,
                                                        Size skip, int threads) const;
  std::vector<std::shared_ptr<const BoxAxis>> axes_;
  struct SideData {
    Size axis = 0;
    int end = 0;
    Doubles coefficients;  ///< of the data in the other axes' eigenfunctions
    Doubles trace;         ///< a u + b du/dn there, of the eigenfunctions of `axis`
    Doubles at_points;     ///< the data at the residual's points
    double slope = 0;      ///< |b|
  };
  std::vector<SideData> sides_;
  Doubles inverse_;            ///< two dimensions: 1 / (lambda_i + mu_j)
  std::vector<dd> plane_sum_;  ///< three: lambda_i + mu_j
  std::array<Size, 3> null_{-1, -1, -1};
  std::vector<Points> points_;                                            ///< of the residual
  std::vector<std::array<std::shared_ptr<const Doubles>, 3>> at_points_;  ///< [axis][order]
  double exact_mean_ = 0;
};

/// What is found out before the first solve in three dimensions.
struct BoxPlan {
  std::vector<Spectrum> spectra;
  std::vector<std::vector<Band>> bands;
  std::vector<std::shared_ptr<const la::FourierBasis>> basis;
  BoxSolver solver;
  BoxField field;
  BoxQuality quality;
  double error_estimate = 0;
  bool data_seen = true;  ///< no spike of the forcing hides between the points looked at
};
/// @throws DomainError  what options.memory_limit does not hold
[[nodiscard]] BoxPlan plan_box(const Checked& c, const RightHandSide& rhs, double tolerance,
                               Timings& timings);

}  // namespace halfulp::gp_pde::detail
