#pragma once

#include <cstddef>
#include <vector>

#include "halfulp/kernel/dd.hpp"

/// Dense linear algebra in double-double, vectorised at run time for the machine it is on.
///
/// Everything is column-major with hi and lo in separate arrays (structure of arrays), which is
/// what SIMD wants. All results are the same bits for any number of threads: an entry is always one
/// sum in one order.
namespace halfulp::detail {

class DdMatrix {
 public:
  DdMatrix() = default;
  DdMatrix(std::ptrdiff_t rows, std::ptrdiff_t cols)
      : rows_(rows), cols_(cols), hi_(rows * cols), lo_(rows * cols) {}

  [[nodiscard]] std::ptrdiff_t rows() const { return rows_; }
  [[nodiscard]] std::ptrdiff_t cols() const { return cols_; }
  [[nodiscard]] dd operator()(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return {hi_[i + j * rows_], lo_[i + j * rows_]};
  }
  void set(std::ptrdiff_t i, std::ptrdiff_t j, dd v) {
    hi_[i + j * rows_] = v.hi;
    lo_[i + j * rows_] = v.lo;
  }
  [[nodiscard]] const double* hi(std::ptrdiff_t j) const { return hi_.data() + j * rows_; }
  [[nodiscard]] const double* lo(std::ptrdiff_t j) const { return lo_.data() + j * rows_; }
  [[nodiscard]] double* hi(std::ptrdiff_t j) { return hi_.data() + j * rows_; }
  [[nodiscard]] double* lo(std::ptrdiff_t j) { return lo_.data() + j * rows_; }
  /// hi parts only, column-major: the matrix rounded to double.
  [[nodiscard]] const std::vector<double>& rounded() const { return hi_; }

 private:
  std::ptrdiff_t rows_ = 0, cols_ = 0;
  std::vector<double> hi_, lo_;
};

/// sum_i x_i y_i. Error <= about n u^2 sum |x_i y_i|.
[[nodiscard]] dd dot(std::ptrdiff_t n, const double* x_hi, const double* x_lo, const double* y_hi,
                     const double* y_lo);
/// y += alpha x
void axpy(std::ptrdiff_t n, dd alpha, const double* x_hi, const double* x_lo, double* y_hi,
          double* y_lo);
/// sin and cos of n angles to those of the angles plus theirs: addition theorems. Each array is n
/// hi parts, then n lo parts.
void rotate(std::ptrdiff_t n, const double* unit_sin, const double* unit_cos, double* sine,
            double* cosine);
/// x *= alpha
void scale(std::ptrdiff_t n, dd alpha, double* x_hi, double* x_lo);

/// A B, A m x k, B k x n.
[[nodiscard]] DdMatrix multiply(const DdMatrix& a, const DdMatrix& b, int threads);
[[nodiscard]] DdMatrix transpose(const DdMatrix& a);
/// A^T B
[[nodiscard]] DdMatrix multiply_transposed(const DdMatrix& a, const DdMatrix& b, int threads);

/// Rank-revealing factorisation A P = Q R by modified Gram-Schmidt with column pivoting. What it
/// loses of orthogonality, as the pivots shrink, is restored at the end by matrix products.
/// @source  Golub, Van Loan (2013), Matrix Computations, 5.2.8, 5.4.1
struct PivotedQr {
  std::ptrdiff_t rank = 0;
  std::vector<std::ptrdiff_t> pivots;  ///< the first `rank` entries: columns of A chosen, in order
  DdMatrix q;                          ///< m x rank
  DdMatrix r;                          ///< rank x rank, upper triangular: A(:, pivots) = Q R
  double smallest_pivot = 0;           ///< last accepted pivot over the first
};
/// @param tolerance  stops when the largest remaining column norm is <= tolerance times the first
[[nodiscard]] PivotedQr pivoted_qr(DdMatrix a, double tolerance, std::ptrdiff_t max_rank,
                                   int threads);

/// A = Q R without pivoting, in panels that are orthogonalised twice against all earlier ones by
/// matrix products (block Gram-Schmidt): several times faster than pivoted_qr, to which R is handed
/// where the rank matters. rows >= columns.
/// @source  Carson, Lund, Rozloznik, Thomas (2022), Block Gram-Schmidt algorithms and their
///          stability properties, Linear Algebra Appl. 638, 150-195, BCGSI+
struct BlockQr {
  DdMatrix q;  ///< m x n
  DdMatrix r;  ///< n x n
};
[[nodiscard]] BlockQr block_qr(const DdMatrix& a, int threads);

/// X R = A for upper triangular R (rank x rank): returns A R^-1.
[[nodiscard]] DdMatrix solve_right_upper(DdMatrix a, const DdMatrix& r, int threads);
/// R x = b by back substitution.
[[nodiscard]] DdMatrix solve_upper(const DdMatrix& r, DdMatrix b);

/// R^T x = b by forward substitution.
[[nodiscard]] DdMatrix solve_upper_transposed(const DdMatrix& r, DdMatrix b);

/// Gauss-Legendre rule with n (even) points on [-1, 1]: the positive nodes, increasing, and
/// weights, in O(n): from node to node by the Taylor series that Legendre's equation gives.
/// @source  Glaser, Liu, Rokhlin (2007), SIAM J. Sci. Comput. 29, 1420-1438, 3.2
void gauss_legendre_half(std::ptrdiff_t n, std::vector<dd>& nodes, std::vector<dd>& weights);

/// Name of the instruction set the kernels run on here, e.g. "AVX3".
[[nodiscard]] const char* simd_target();

}  // namespace halfulp::detail
