#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "halfulp/progress.hpp"
#include "halfulp/report.hpp"

/// What others use for y = H^-1 x, H = lambda I + G^T G/m: the algorithms that halfulp/mfac.hpp is
/// compared with and that users switch from, as they were published.
///
/// All is in the working precision T, float or double, sums included, so that the digits an
/// algorithm loses are lost here too. What must be exact is so only in exact arithmetic; LiSSA,
/// DataInf and L-BFGS are approximations even there. For answers use halfulp/mfac.hpp.
///
///     const baseline::Operator<float> H(rows, d, 1e-5F);
///     baseline::Recursion<float> recursion(H);
///     recursion.product(x, y);
///
/// The rows of G are g_0, ..., g_{m-1}. Vectors are of d numbers; where k of them are taken they
/// are the rows of a k x d array. Each function throws ShapeError if sizes do not fit and
/// DomainError for an x that is not finite, with its index, and each that takes a Progress throws
/// Cancelled. x and y may be the same. Columns are taken in blocks of a fixed size, whose sums are
/// added in a fixed order: same bits for any number of threads, on one machine. d and m are below
/// 2^31, as BLAS has it.
namespace halfulp::mfac::baseline {

/// H = lambda I + (1/m) sum_i g_i g_i^T, matrix-free: a view of rows that outlive it.
template <class T>
class Operator {
 public:
  /// @param  rows     G, m rows of d numbers
  /// @param  damping  lambda > 0
  /// @throws DomainError if d < 1, m = 0, damping is not > 0 and finite, for a number of G that is
  ///         not finite, with its row; ShapeError if rows.size() is no multiple of d
  Operator(std::span<const T> rows, std::ptrdiff_t d, T damping, int threads = 0);

  [[nodiscard]] std::span<const T> gradients() const { return rows_; }
  [[nodiscard]] std::ptrdiff_t rows() const { return m_; }       ///< m
  [[nodiscard]] std::ptrdiff_t dimension() const { return d_; }  ///< d
  [[nodiscard]] T damping() const { return damping_; }
  [[nodiscard]] int threads() const { return threads_; }

  /// y = H x for k vectors.  @cost  two passes over G, 4 m d k flops
  void product(std::span<const T> x, std::span<T> y) const;

 private:
  std::span<const T> rows_;
  std::ptrdiff_t d_ = 0, m_ = 0;
  T damping_ = 0;
  int threads_ = 1;
};

// ---- exact in exact arithmetic ------------------------------------------------------------------

/// The static algorithm of M-FAC: H^-1 by the formula of Sherman and Morrison, a row at a time,
///
///     v_i = g_i/lambda - sum_{k<i} v_k (v_k . g_i)/q_k,    q_i = m + g_i . v_i,
///     H^-1 = I/lambda - sum_i v_i v_i^T/q_i.
///
/// In terms of the Cholesky factor L of m lambda I + G G^T: q_i = L_ii^2/lambda, and v_i is row i
/// of L^-1 G times L_ii/lambda. With `block`, H is taken to be block-diagonal, blocks of that many
/// coordinates, the last one of what is left, each with a recursion of its own.
///
/// Good for: the diagonal, of which it is the published form. Fails: x/lambda cancels in every
/// product with an x near the rows' span, all of it but lambda/sigma^2 for a row of G; in float at
/// lambda = 1e-5 a row of G loses all but one digit, and with rows that are nearly parallel q_i
/// falls below m, which it cannot be, or to zero.
///
/// @cost    2 m^2 d flops, bound by memory: 2 m passes over what there is of V so far. A product is
///          two passes over V, 4 m d flops; memory: m d numbers beside G
/// @source  Frantar, Kurtic, Alistarh (2021), arXiv:2107.03356, section 3.1
template <class T>
class Recursion {
 public:
  /// @throws  DomainError if block < 0
  explicit Recursion(const Operator<T>& H, std::ptrdiff_t block = 0, const Progress& progress = {});

  /// converged; not_positive_definite if a q_i is below m (1 - 2^-10), further than rounding of a
  /// sum that is benign goes; not_finite
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] std::ptrdiff_t blocks() const { return blocks_; }
  /// q_i, m numbers for each block; each >= m but for rounding.
  [[nodiscard]] std::span<const T> q() const { return q_; }
  /// v_i, m rows of d numbers.
  [[nodiscard]] std::span<const T> v() const { return v_; }

  /// y = H^-1 x for k vectors.
  /// @return  status(), or not_finite if a y is not
  Status product(std::span<const T> x, std::span<T> y) const;
  /// (H^-1)_ij.  @cost  O(m)
  [[nodiscard]] T element(std::ptrdiff_t i, std::ptrdiff_t j) const;
  /// out[j] = (H^-1)_jj = 1/lambda - sum_i v_ij^2/q_i.  @cost  one pass over V
  void diagonal(std::span<T> out) const;

 private:
  std::ptrdiff_t d_, m_, block_, blocks_;
  T damping_;
  int threads_;
  std::vector<T> v_, q_;
  Status status_ = Status::converged;
};

/// The dynamic algorithm of M-FAC: coefficients that a new row changes, in place of the v_i,
///
///     D_ij = g_i . g_j/lambda - sum_{k<i} D_ki D_kj/(m + D_kk),                    j >= i,
///     B_ii = 1/lambda,   B_ij = -sum_{k=j}^{i-1} D_ki/(m + D_kk) B_kj,             j < i,
///     v_i . x = g_i . x/lambda - sum_{k<i} D_ki/(m + D_kk) (v_k . x),
///     H^-1 x = x/lambda - sum_j g_j sum_{i>=j} B_ij (v_i . x)/(m + D_ii).
///
/// m + D_ii = q_i, D is the upper factor of an elimination without pivots of m I + G G^T/lambda
/// less m I, and B unit(L)^-1/lambda.
///
/// Good for: windows of gradients, one replaced at a time. Fails: as Recursion, and sooner, since B
/// is an explicit inverse; and each replaced row costs a rebuild of D and B.
///
/// @cost    construction m^2 d + m^3 flops, the m^3 by one thread; replace 2 m d + m^3, product O(d
/// m + m^2)
/// @source  Frantar, Kurtic, Alistarh (2021), arXiv:2107.03356, section 3.2
template <class T>
class Dynamic {
 public:
  /// Copies G.
  explicit Dynamic(const Operator<T>& H, const Progress& progress = {});

  /// As Recursion::status, of q_i = m + D_ii.
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] T q(std::ptrdiff_t i) const;
  [[nodiscard]] std::span<const T> d_coefficients() const { return d_coefficients_; }  ///< m x m
  [[nodiscard]] std::span<const T> b_coefficients() const { return b_coefficients_; }  ///< m x m

  /// g_row = values, and the rebuild.
  /// @throws  DomainError for a row not in 0 ... m - 1 and for a value that is not finite
  void replace(std::ptrdiff_t row, std::span<const T> values);
  /// y = H^-1 x for k vectors.
  /// @return  as Recursion::product
  Status product(std::span<const T> x, std::span<T> y) const;

 private:
  void rebuild();
  std::ptrdiff_t d_, m_;
  T damping_;
  int threads_;
  std::vector<T> rows_, gram_, d_coefficients_, b_coefficients_;
  Status status_ = Status::converged;
};

/// How Woodbury factorises its m x m matrix.
enum class Factorisation {
  cholesky,  ///< LAPACK's potrf: says when K is not positive definite
  lu,        ///< LAPACK's getrf: goes on where it is not
};

/// The identity of Woodbury as it stands,
///
///     H^-1 x = (x - G^T K^-1 G x)/lambda,    K = m lambda I + G G^T.
///
/// Good for: x random or orthogonal to the rows, where little cancels. Fails: for x a row of G,
/// where x - G^T K^-1 G x is lambda/sigma^2 of x; and where m lambda is below the rounding of G G^T
/// (rows that are nearly parallel, many rows), K has no factor.
///
/// @cost    construction m^2 d + m^3/3 flops (lu: 2 m^3/3); a product 4 m d + 2 m^2, two passes
/// @source  Woodbury (1950); Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 13
template <class T>
class Woodbury {
 public:
  explicit Woodbury(const Operator<T>& H, Factorisation factorisation = Factorisation::cholesky,
                    const Progress& progress = {});

  /// converged; not_positive_definite if the factorisation ended at pivot(); not_finite if K is not
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] std::ptrdiff_t pivot() const { return pivot_; }  ///< -1: none was lost
  /// L_ii^2/lambda, which is q_i of Recursion; NaN where there is no factor.
  /// @throws  DomainError for Factorisation::lu
  [[nodiscard]] T q(std::ptrdiff_t i) const;

  /// y = H^-1 x for k vectors; NaN where there is no factor.
  /// @return  status(), or not_finite if a y is not
  Status product(std::span<const T> x, std::span<T> y) const;

 private:
  Operator<T> operator_;
  Factorisation factorisation_;
  std::vector<T> factor_;
  std::vector<int> pivots_;
  Status status_ = Status::converged;
  std::ptrdiff_t pivot_ = -1;
};

}  // namespace halfulp::mfac::baseline
