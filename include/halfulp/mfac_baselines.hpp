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

// ---- iterative ----------------------------------------------------------------------------------

struct IterationOptions {
  double tolerance = 1e-6;    ///< of |x - H y|/|x|, as the recurrence has it
  int max_iterations = 1000;  ///< >= 1
  Progress progress;          ///< called once an iteration
};

/// How an iteration went.
struct Trace {
  Report report;  ///< residual: the last of `residuals`; stagnated where squares underflow
  std::vector<double> residuals;  ///< |x - H y|/|x| after each iteration, by the recurrence
  double true_residual = 0;       ///< the same at the end, from H y itself, in T
};

/// y = H^-1 x by conjugate gradients, from y = 0.
///
/// Good for: few products with a well-conditioned H, or one that changes all the time: nothing is
/// prepared. Fails: iterations grow as sqrt(cond(H)), up to m + 1 if H has m distinct eigenvalues
/// beside lambda and arithmetic is exact, and well beyond where it is not; in float the residual
/// stops at about 2^-24 cond(H).
///
/// @throws  DomainError if tolerance is not >= 0, max_iterations < 1
/// @cost    two passes over G an iteration
/// @source  Hestenes, Stiefel (1952), J. Res. Natl. Bur. Stand. 49, 409, eq. (3:1)
template <class T>
Trace conjugate_gradients(const Operator<T>& H, std::span<const T> x, std::span<T> y,
                          const IterationOptions& options = {});

/// A preconditioner from a sketch of A = G^T G/m with l random vectors, Omega of d x l,
///
///     A ~ (A Omega)(Omega^T A Omega)^-1 (A Omega)^T = U diag(a) U^T,
///     P^-1 = (a_l + lambda) U (diag(a) + lambda I)^-1 U^T + I - U U^T,
///
/// with Omega orthonormal columns from normal numbers, and A shifted by nu, the spacing of numbers
/// of T at |A Omega|, against rounding, which is taken off the eigenvalues again. Where rounding
/// still makes Omega^T A Omega + nu I indefinite (rank above that of A), nu is ten times as large
/// until it is not: shift() says.
///
/// Good for: spectra that fall fast: few eigenvalues are above lambda, and then a dozen iterations
/// do. Fails: with l below the number of eigenvalues well above lambda it gains nothing; memory and
/// the QR and SVD of d x l arrays, by one thread, soon cost more than the factorisation of K,
/// since G is of low rank already.
///
/// @throws  DomainError if rank is not in 1 ... d or A Omega overflows; Error if LAPACK finds no
///          singular values
/// @cost    construction 4 m d l + O(d l^2) flops, 2 d l numbers
/// @source  Frangella, Tropp, Udell (2023), SIAM J. Matrix Anal. Appl. 44, 718 (arXiv:2110.02820),
///          algorithm 2.1 and eq. (1.3)
template <class T>
class NystromPreconditioner {
 public:
  /// @param   rank  l in 1 ... d
  NystromPreconditioner(const Operator<T>& H, std::ptrdiff_t rank, std::uint64_t seed = 0);

  [[nodiscard]] std::span<const T> eigenvalues() const { return eigenvalues_; }  ///< a, falling
  [[nodiscard]] std::span<const T> vectors() const { return vectors_; }          ///< l x d: U^T
  [[nodiscard]] T shift() const { return shift_; }
  [[nodiscard]] std::ptrdiff_t dimension() const { return d_; }
  /// y = P^-1 x.
  void apply(std::span<const T> x, std::span<T> y) const;
  void apply_unchecked(std::span<const T> x,
                       std::span<T> y) const;  ///< x and sizes are not looked at

 private:
  std::ptrdiff_t d_;
  T damping_, shift_ = 0;
  int threads_;
  std::vector<T> eigenvalues_, vectors_;
};

/// y = H^-1 x by conjugate gradients preconditioned so.
/// @throws  as conjugate_gradients; ShapeError if the preconditioner is of another dimension
/// @source  Frangella, Tropp, Udell (2023), algorithm 5.1
template <class T>
Trace conjugate_gradients(const Operator<T>& H, const NystromPreconditioner<T>& preconditioner,
                          std::span<const T> x, std::span<T> y,
                          const IterationOptions& options = {});

// ---- approximations -----------------------------------------------------------------------------

struct LissaOptions {
  /// s > 0; the series converges if |I - H_b/s| < 1 for every batch. 0: lambda + max_i |g_i|^2,
  /// for which it does.
  double scale = 0;
  std::ptrdiff_t depth = 1000;  ///< steps of the recursion, >= 1
  std::ptrdiff_t repeats = 1;   ///< independent recursions whose mean is taken, >= 1
  std::ptrdiff_t batch = 1;     ///< rows drawn for a step, with replacement, >= 1
  std::uint64_t seed = 0;
  Progress progress;  ///< called now and then
};

struct LissaResult {
  Status status = Status::converged;  ///< not_finite: it diverged, and y is not to be used
  double scale = 0;                   ///< that was used
  /// Standard deviation of y, 2-norm, from how far the repeats are apart; 0 for one repeat. It
  /// knows nothing of the bias.
  double deviation = 0;
  /// |y_j|/s of the first repeat after j = 0, 1, ..., depth steps: where it still grows, depth is
  /// too small
  std::vector<double> norms;
};

/// y ~ H^-1 x by LiSSA: a Neumann series whose every factor is of a few rows,
///
///     y_0 = x,   y_j = x + y_{j-1} - H_b y_{j-1}/s,   y ~ mean of y_depth/s,
///
/// H_b = lambda I + mean of g_i g_i^T over the rows that were drawn (the mean is taken in double).
/// Its expectation is (I - (I - H/s)^(depth + 1)) H^-1 x: a bias that falls as (1 -
/// lambda/s)^depth, and a variance that falls as 1/repeats, and grows with depth up to a limit.
///
/// Good for: H of which only products with a few terms at a time can be had, and to one digit.
/// Fails: s must be above |g_i|^2, not sigma^2/m, so that depth of the order of
/// |g|^2/lambda, often 1e6 and more, is needed; with smaller s it diverges.
///
/// @throws  DomainError for options by name
/// @cost    (4 batch + 4) d flops a step, depth * repeats steps; repeats run side by side
/// @source  Agarwal, Bullins, Hazan (2017), J. Mach. Learn. Res. 18(116), algorithm 1; s: Koh,
///          Liang (2017), arXiv:1703.04730
template <class T>
LissaResult lissa(const Operator<T>& H, std::span<const T> x, std::span<T> y,
                  const LissaOptions& options = {});

struct DataInfOptions {
  /// Sizes of the layers, of sum d, each with an operator of its own; empty: one layer.
  std::span<const std::ptrdiff_t> layers = {};
  /// The damping of each layer is 0.1 times the mean of its |g_i|^2, over its size, as the authors
  /// take it, in place of lambda.
  bool authors_damping = false;
};

/// y = (1/m) sum_i (lambda I + g_i g_i^T)^-1 x, layer by layer: the mean of the inverses in place
/// of the inverse of the mean,
///
///     y = (1/m) sum_i (x - g_i (g_i . x)/(lambda + |g_i|^2))/lambda.
///
/// Good for: ranking data by influence in two passes and with no solve. Fails as H^-1: where the
/// rows are orthogonal it takes a direction of eigenvalue a of G^T G/m, a >> lambda, for one of
/// about lambda m/(m - 1), since all rows but one leave it at 1/lambda: off by a/lambda, not by
/// digits. The authors bound its error by the number of parameters of a layer.
///
/// @throws  DomainError for a layer's size < 1, and if authors_damping finds a layer without
///          gradient; ShapeError if they do not add up to d
/// @cost    6 m d flops, two passes
/// @source  Kwon, Wu, Wu, Zou (2024), ICLR, arXiv:2310.00902, section 3
template <class T>
void datainf(const Operator<T>& H, std::span<const T> x, std::span<T> y,
             const DataInfOptions& options = {});

/// The inverse that L-BFGS has after p pairs (s_i, z_i), z_i = H s_i, from gamma I, in compact
/// form: with S and Z of d x p, R_ij = s_i . z_j for i <= j (0 below), E = diag(s_i . z_i),
///
///     gamma I + [S, gamma Z] [R^-T (E + gamma Z^T Z) R^-1, -R^-T; -R^-1, 0] [S, gamma Z]^T,
///
/// gamma = s . z/|z|^2 of the last pair, unless given.
///
/// Good for: what it was made for, a model of curvature along the path of an optimiser, in
/// O(p d). Fails as H^-1: it is right for the last z, for all of them if the s are conjugate, and
/// gamma where it knows nothing; with p = d conjugate directions it is H^-1.
///
/// @cost    construction 4 p^2 d flops, one pass; a product 8 p d
/// @source  Byrd, Nocedal, Schnabel (1994), Math. Program. 63, 129, theorem 2.2
template <class T>
class CompactLbfgs {
 public:
  /// Pairs are rows of p x d arrays and copied.
  /// @param   gamma  > 0, or 0
  /// @throws  DomainError if p = 0, d < 1, gamma is not >= 0 and finite, a number is not finite,
  ///          with its pair, or s_i . z_i is not > 0 and finite; ShapeError
  CompactLbfgs(std::span<const T> s, std::span<const T> z, std::ptrdiff_t d, T gamma = 0,
               int threads = 0);
  /// z_i = H s_i.
  CompactLbfgs(const Operator<T>& H, std::span<const T> s, T gamma = 0);

  [[nodiscard]] std::ptrdiff_t pairs() const { return p_; }
  [[nodiscard]] T gamma() const { return gamma_; }
  /// y = the inverse times x, for k vectors.
  void product(std::span<const T> x, std::span<T> y) const;

 private:
  void prepare(T gamma);
  std::ptrdiff_t d_, p_ = 0;
  int threads_;
  T gamma_ = 0;
  std::vector<T> s_, z_, r_, middle_;
};

}  // namespace halfulp::mfac::baseline
