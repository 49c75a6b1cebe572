#pragma once

#include <cstddef>
#include <span>
#include <vector>

/// Symmetric positive definite Toeplitz matrices: what a stationary kernel gives on a uniform grid.
///
/// A Toeplitz matrix commutes with the reversal of the order, up to its parity: in the basis of
/// even and odd vectors, (x_i +- x_(n-1-i)) / sqrt(2), it has two blocks of half the size. Products
/// and solves with matrices use them, which halves their work.
namespace halfulp::detail {

/// Cholesky factor T = R^T R of a Toeplitz matrix from its first column, by Schur's algorithm:
/// O(n^2) instead of O(n^3), and as backward stable as Cholesky's (Bojanczyk, Brent, de Hoog, Sweet
/// 1995, SIAM J. Matrix Anal. Appl. 16, 40-57). Several right-hand sides are solved for with the
/// Cholesky factors of the even and odd blocks, formed once: n^3/12 more.
class ToeplitzCholesky {
 public:
  /// Returns false, and leaves no factor, unless the matrix is numerically positive definite.
  [[nodiscard]] bool factor(std::span<const double> first_column);
  [[nodiscard]] std::ptrdiff_t size() const { return n_; }
  [[nodiscard]] double log_determinant() const;

  /// X <- T^-1 X for a row-major size() x columns matrix.
  void solve_left(double* x, std::ptrdiff_t columns, int threads) const;
  /// X <- X T^-1 for a row-major rows x size() matrix.
  void solve_right(double* x, std::ptrdiff_t rows, int threads) const;

  /// Sums over the diagonals of the inverse: entry l is sum_i (T^-1)_{i+l,i}, l = 0 .. n-1. From
  /// its first column z alone: sum_p (n - l - 2p) z_p z_{p+l} / z_0, which sums the formula of
  /// Gohberg and Semencul over a diagonal.
  [[nodiscard]] std::vector<double> inverse_diagonal_sums() const;

 private:
  void factor_blocks() const;
  std::ptrdiff_t n_ = 0;
  std::vector<double> r_;                       // row-major, upper triangle
  std::vector<double> column_;                  // of T
  mutable std::vector<double> even_, odd_;      // factors of the blocks, row-major, upper triangle
  mutable bool blocks_ = false, sound_ = true;  // formed; both positive definite
};

/// Row-major C <- A B + beta C for m x k times k x n, transposes as given; same bits for any number
/// of threads.
void multiply_into(bool transpose_a, bool transpose_b, std::ptrdiff_t m, std::ptrdiff_t n,
                   std::ptrdiff_t k, const double* a, const double* b, double beta, double* c,
                   int threads);

/// A Toeplitz matrix T_ij = t(i - j), even or odd in i - j, given by t at 0 .. n-1.
class Toeplitz {
 public:
  Toeplitz() = default;
  Toeplitz(std::span<const double> lags, bool odd);

  /// Y <- T X + beta Y, row-major with `columns` columns; T^T for transpose.
  void multiply_left(bool transpose, const double* x, std::ptrdiff_t columns, double beta,
                     double* y, int threads) const;
  /// Y <- X T + beta Y, row-major with `rows` rows; T^T for transpose.
  void multiply_right(bool transpose, const double* x, std::ptrdiff_t rows, double beta, double* y,
                      int threads) const;

  /// Its two blocks, row-major: those that lead to even and to odd vectors.
  void blocks(std::vector<double>& to_even, std::vector<double>& to_odd) const;

 private:
  void form_blocks() const;
  std::ptrdiff_t n_ = 0;
  bool odd_ = false;
  std::vector<double> line_;  // t(n-1) ... t(0) ... t(-(n-1))
  /// Row-major, filled when a matrix is multiplied. Even T: of even and of odd vectors; odd T: from
  /// odd to even vectors and back.
  mutable std::vector<double> to_even_, to_odd_;
};

/// Sums over the diagonals of X Y^T (of X^T Y for transpose), X and Y row-major n x m (m x n):
/// entry l is sum_i (X Y^T)_{i+l,i} + s (X Y^T)_{i,i+l} for l > 0, with s = -1 for odd, else 1;
/// what multiplies dt(l) in the differential of <X Y^T, T>. out has n entries and is added to,
/// times factor.
void add_diagonal_sums(bool transpose, bool odd, std::ptrdiff_t n, std::ptrdiff_t m,
                       const double* x, const double* y, double factor, std::span<double> out,
                       int threads);

}  // namespace halfulp::detail
