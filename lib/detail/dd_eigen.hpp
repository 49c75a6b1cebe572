#pragma once

#include <vector>

#include "detail/dd_linalg.hpp"

namespace halfulp::detail {

/// A = V diag(values) V^T in double-double.
struct SymmetricEigen {
  std::vector<dd> values;  ///< increasing
  DdMatrix vectors;        ///< orthonormal columns
  int rounds = 0;          ///< of refinement
  double last_change = 0;  ///< largest entry of the last correction: the next is about its square
};

/// Eigen-decomposition of a symmetric matrix: LAPACK in double, then refinement, which squares the
/// error in each round with four matrix products in double-double. Where eigenvalues lie so close
/// that rounding mixes their vectors, the matrix projected onto the cluster, less its mean, is
/// diagonalised in double again, which separates them relative to the width of the cluster.
/// Values are good to about n u^2 of the largest in modulus, vectors to that over the gap; vectors
/// of eigenvalues equal to that accuracy are an orthonormal basis of their span.
/// @throws Error  an entry is not finite; LAPACK's iteration does not converge
/// @source Ogita, Aishima (2018), Iterative refinement for symmetric eigenvalue decomposition,
///         Japan J. Indust. Appl. Math. 35, 1007-1035, algorithm 1; (2019), II: clustered
///         eigenvalues, 36, 435-459
[[nodiscard]] SymmetricEigen symmetric_eigen(const DdMatrix& a, int threads);

}  // namespace halfulp::detail
