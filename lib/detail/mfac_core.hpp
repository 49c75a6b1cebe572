#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "detail/dd_eigen.hpp"
#include "detail/mfac_extended.hpp"

/// The n x n matrix that stands for one block of H, and what is solved with it.
///
/// With S = G G^T (n = m rows) or, where the block has no more than m columns, S = G^T G (n
/// columns),
///
///     A = m lambda I + S = L L^T,
///     rows:     H^-1 = (I - G^T A^-1 G)/lambda,
///     columns:  H^-1 = m A^-1.
namespace halfulp::mfac::detail {

/// S = U diag(values) U^T.
struct Eigen {
  std::vector<double> values;   ///< increasing, >= 0
  std::vector<double> vectors;  ///< column-major
};

/// L as the upper triangle R = L^T, and S, in double-double.
struct Extended {
  DdMatrix gram;
  ExtendedCholesky factor;
};

class Core {
 public:
  /// @param  gram  S of the rows, lower triangle, column-major, if it is known; else empty
  Core(const Gradients& gradients, Columns columns, const Options& options, int threads,
       std::vector<double> gram, const Progress& progress, const char* function);

  [[nodiscard]] bool by_columns() const { return by_columns_; }
  [[nodiscard]] std::ptrdiff_t size() const { return n_; }
  [[nodiscard]] Columns columns() const { return columns_; }
  [[nodiscard]] std::ptrdiff_t width() const { return columns_.end - columns_.begin; }
  [[nodiscard]] double shift() const { return shift_; }  ///< m lambda
  [[nodiscard]] double diagonal(std::ptrdiff_t i) const { return diagonal_[index(i)]; }  ///< of S
  [[nodiscard]] double gram(std::ptrdiff_t i, std::ptrdiff_t j) const;                   ///< S_ij

  [[nodiscard]] double largest() const { return largest_; }  ///< >= the largest eigenvalue of S
  /// cond(H) and cond(A), upper estimates.
  [[nodiscard]] double condition() const { return 1 + largest_ / shift_; }
  [[nodiscard]] double core_condition() const { return (largest_ + shift_) / smallest_; }
  /// |G^T A^-1| = max sigma/(m lambda + sigma^2), from above.
  [[nodiscard]] double rho() const { return rho_; }
  /// Rounding of A and its factor, relative to |A|; rounding of sums over d.
  [[nodiscard]] double core_unit() const { return core_unit_; }
  [[nodiscard]] double pass_unit() const { return pass_unit_; }
  /// Whether double-double may stand in, and whether it has to for everything: refinement with the
  /// factor in double would not converge.
  [[nodiscard]] bool may_extend() const { return may_extend_; }
  [[nodiscard]] bool extended_only() const { return extended_only_; }
  [[nodiscard]] std::ptrdiff_t lost() const { return lost_; }
  [[nodiscard]] double lost_value() const { return lost_value_; }

  /// b <- A^-1 b and L^-1 b, k vectors of n.
  void solve(std::ptrdiff_t k, double* b) const;
  void solve_lower(std::ptrdiff_t k, double* b) const;
  /// L for solve_columns, formed when first asked for.
  [[nodiscard]] const std::vector<double>& solve_factor() const;

  /// Formed when first asked for.
  [[nodiscard]] const Extended& extended() const;
  [[nodiscard]] const Eigen& eigen() const;
  [[nodiscard]] const halfulp::detail::SymmetricEigen& extended_eigen() const;

 private:
  static std::size_t index(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }
  void factorise(std::vector<double> gram, const Progress& progress, const char* function);
  void check_diagonal(const char* function) const;
  void estimate_spectrum();
  void multiply(const double* x, double* y) const;  ///< S x

  const Gradients* gradients_;
  Columns columns_;
  Accumulation accumulation_;
  double damping_;
  int threads_;
  std::ptrdiff_t n_ = 0;
  bool by_columns_ = false;
  double shift_ = 0, largest_ = 0, smallest_ = 0, rho_ = 0;
  double core_unit_ = 0, pass_unit_ = 0;
  bool may_extend_ = false, extended_only_ = false;
  std::ptrdiff_t lost_ = -1;
  double lost_value_ = 0;
  std::vector<double> factor_;    ///< lower: L; strictly upper: S
  std::vector<double> diagonal_;  ///< of S
  mutable std::mutex mutex_;
  mutable std::vector<double> solve_factor_;
  mutable std::optional<Extended> extended_;
  mutable std::optional<Eigen> eigen_;
  mutable std::optional<halfulp::detail::SymmetricEigen> extended_eigen_;
};

}  // namespace halfulp::mfac::detail
