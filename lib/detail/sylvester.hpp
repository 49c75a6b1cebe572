#pragma once

#include <memory>
#include <vector>

#include "detail/dd_linalg.hpp"

namespace halfulp::detail {

/// Solves A X + X B^T + m D X E^T = R in double-double.
///
/// A and B are factored in double (eigenvectors where symmetric, else real Schur form; Bartels and
/// Stewart 1972); that solve alone loses cond(A, B) digits, so it only corrects: residuals are
/// formed in double-double and the solution is kept there, and each round gains -log10(u cond)
/// digits (iterative refinement, Higham 2002, ch. 12). A mixed term m is handled inside the
/// correction by GMRES, preconditioned with the factored part.
class SylvesterSolver {
 public:
  struct Mixed {
    dd factor = 0.0;
    DdMatrix d, e;
  };
  /// @param singular  constants solve the homogeneous problem: the solution without the mode of
  ///                  the smallest eigenvalue is returned
  SylvesterSolver(DdMatrix a, DdMatrix b, Mixed mixed, bool singular, int threads);

  struct Result {
    DdMatrix x;
    int rounds = 0;
    double last_correction = 0;  ///< relative to the solution; large: refinement did not converge
    double next_correction = 0;  ///< as foreseen from the last two
  };
  [[nodiscard]] Result solve(const DdMatrix& r) const;

  /// (A, B)^-1 r in double, column-major, without the mixed term: loses cond(A, B) digits.
  [[nodiscard]] std::vector<double> precondition(const std::vector<double>& r) const;
  /// r - A x - x B^T - m D x E^T
  [[nodiscard]] DdMatrix residual(const DdMatrix& x, const DdMatrix& r) const;

  /// Largest over smallest |lambda_i + mu_j|.
  [[nodiscard]] double condition() const;
  [[nodiscard]] double smallest_eigenvalue() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace halfulp::detail
