#include "detail/mfac_core.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "detail/blas_threads.hpp"
#include "detail/mfac_rows_simd.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/mfac.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac::detail {
namespace {

using halfulp::detail::DdMatrix;
using halfulp::detail::OneBlasThread;
using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

/// Of sums over d and of the factorisation: measured on the cases of validation/oracle/mfac.hpp.
constexpr double unit_double = 0x1p-51;
constexpr double unit_single = 0x1p-21;
/// What refinement leaves of an error in a step: more, and double-double is used at once.
constexpr double slowest_refinement = 0.03;
constexpr Size all_eigenvalues = 128;  // up to this size, else Lanczos
constexpr int lanczos_steps = 24;
constexpr double least_spread = 16;  // of squares of rows, from which on lengths are kept

std::size_t at(Size i) { return static_cast<std::size_t>(i); }
int as_int(Size n) { return static_cast<int>(n); }

/// Lanczos for the largest eigenvalue of a positive semidefinite matrix, with full
/// orthogonalisation: its Ritz value and the residual, within which there is an eigenvalue. The sum
/// of both is the estimate: from above, unless the start has none of the vector.
double largest_eigenvalue(Size n, const std::function<void(const double*, double*)>& apply) {
  const Size steps = std::min<Size>(n, lanczos_steps);
  Numbers basis(at((steps + 1) * n)), alpha, beta;
  RandomStream(0x6d666163).fill_normal(std::span(basis).first(at(n)), 0, 1);
  cblas_dscal(as_int(n), 1 / cblas_dnrm2(as_int(n), basis.data(), 1), basis.data(), 1);
  for (Size k = 0; k < steps; ++k) {
    const double* const v = basis.data() + k * n;
    double* const next = basis.data() + (k + 1) * n;
    apply(v, next);
    alpha.push_back(cblas_ddot(as_int(n), v, 1, next, 1));
    for (int round = 0; round < 2; ++round)
      for (Size j = 0; j <= k; ++j)
        cblas_daxpy(as_int(n), -cblas_ddot(as_int(n), basis.data() + j * n, 1, next, 1),
                    basis.data() + j * n, 1, next, 1);
    beta.push_back(cblas_dnrm2(as_int(n), next, 1));
    if (!(beta.back() > 0x1p-40 * std::fabs(alpha.front()))) break;
    cblas_dscal(as_int(n), 1 / beta.back(), next, 1);
  }
  const auto order = std::ssize(alpha);
  Numbers off = beta, vectors(at(order * order));
  const double last = off.back();
  LAPACKE_dstev(LAPACK_COL_MAJOR, 'V', as_int(order), alpha.data(), off.data(), vectors.data(),
                as_int(order));
  return alpha.back() + last * std::fabs(vectors.back());
}

/// Lower Cholesky factor of a matrix that may not be positive definite once rounded: a pivot that
/// is not above shift/2 becomes shift, and what is below it, all rounding then, 0.
void cholesky_with_floor(Size n, double shift, double* a, Size& lost, double& lost_value) {
  for (Size j = 0; j < n; ++j) {
    const double pivot = a[j + j * n] - cblas_ddot(as_int(j), a + j, as_int(n), a + j, as_int(n));
    if (!(pivot > 0.5 * shift)) {
      if (lost < 0) lost = j, lost_value = pivot / shift;
      a[j + j * n] = std::sqrt(shift);
      for (Size i = j + 1; i < n; ++i) a[i + j * n] = 0;
      continue;
    }
    const double root = std::sqrt(pivot);
    a[j + j * n] = root;
    for (Size i = j + 1; i < n; ++i)
      a[i + j * n] =
          (a[i + j * n] - cblas_ddot(as_int(j), a + i, as_int(n), a + j, as_int(n))) / root;
  }
}

/// G^T G over the columns, lower triangle: rows by chunks, in order.
void gram_of_columns(const Gradients& gradients, Columns columns, double* out) {
  const Size m = gradients.rows(), d = columns.end - columns.begin, chunk = 1024;
  std::fill_n(out, d * d, 0.0);
  Numbers rows(at(std::min(chunk, m) * d));
  for (Size first = 0; first < m; first += chunk) {
    const Size last = std::min(first + chunk, m);
    load(gradients, first, last, columns.begin, columns.end, rows.data(), d);
    cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, as_int(d), as_int(last - first), 1.0,
                rows.data(), as_int(d), 1.0, out, as_int(d));
  }
}

}  // namespace

Core::Core(const Gradients& gradients, Columns columns, const Options& options, int threads,
           std::vector<double> gram, const Progress& progress, const char* function)
    : gradients_(&gradients),
      columns_(columns),
      accumulation_(options.gram),
      damping_(options.damping),
      threads_(threads) {
  const Size m = gradients.rows();
  by_columns_ = width() <= m && gram.empty();
  n_ = by_columns_ ? width() : m;
  shift_ = static_cast<double>(m) * damping_;
  const bool single = options.gram == Accumulation::float32 && !by_columns_;
  // where H itself is factorised, sums are over m rows, one after the other
  core_unit_ = single ? unit_single : by_columns_ ? 2 * unit_double : unit_double;
  pass_unit_ =
      options.products == Accumulation::float32 && !by_columns_ ? unit_single : unit_double;
  may_extend_ = options.precision == Precision::automatic && !single &&
                options.products == Accumulation::float64;
  factorise(std::move(gram), progress, function);
}

double Core::gram(Size i, Size j) const {
  return i == j ? diagonal_[at(i)] : factor_[at(std::min(i, j) + n_ * std::max(i, j))];
}

void Core::multiply(const double* x, double* y) const {
  // the upper triangle of S, whose diagonal is apart
  for (Size i = 0; i < n_; ++i) y[i] = diagonal_[at(i)] * x[i];
  for (Size j = 1; j < n_; ++j) {
    const double* const column = factor_.data() + j * n_;
    cblas_daxpy(as_int(j), x[j], column, 1, y, 1);
    y[j] += cblas_ddot(as_int(j), column, 1, x, 1);
  }
}

void Core::check_diagonal(const char* function) const {
  double trace = 0;
  for (const double s : diagonal_) trace += s;
  if (trace < 0x1p1000) return;
  // Something is wrong with a row: which?
  const Size m = gradients_->rows();
  Numbers row(at(width()));
  for (Size i = 0; i < m; ++i) {
    load(*gradients_, i, i + 1, columns_.begin, columns_.end, row.data(), width());
    double square = 0;
    for (Size j = 0; j < width(); ++j) {
      halfulp::detail::require(
          std::isfinite(row[at(j)]), function,
          "gradients[" + std::to_string(i) + ", " + std::to_string(columns_.begin + j) + "]",
          row[at(j)], "finite");
      square += row[at(j)] * row[at(j)];
    }
    halfulp::detail::require(square < 0x1p1000 / static_cast<double>(m), function,
                             "|gradients[" + std::to_string(i) + "]|^2", square, "below 2^1000/m");
  }
}

void Core::factorise(std::vector<double> gram, const Progress& progress, const char* function) {
  const OneBlasThread one;
  factor_ = std::move(gram);
  if (factor_.empty()) {
    factor_.resize(at(n_ * n_));
    if (by_columns_)
      gram_of_columns(*gradients_, columns_, factor_.data());
    else
      detail::gram(*gradients_, columns_, accumulation_, threads_, factor_, progress);
  }
  diagonal_.resize(at(n_));
  for (Size i = 0; i < n_; ++i) diagonal_[at(i)] = factor_[at(i + i * n_)];
  check_diagonal(function);
  for (Size j = 0; j < n_; ++j) {
    for (Size i = j + 1; i < n_; ++i) factor_[at(j + i * n_)] = factor_[at(i + j * n_)];
    factor_[at(j + j * n_)] += shift_;
  }
  const int info =
      LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', as_int(n_), factor_.data(), as_int(n_));
  bool whole = info == 0;
  for (Size i = 0; whole && i < n_; ++i) {
    const double l = factor_[at(i + i * n_)];
    whole = l * l > 0.5 * shift_;
  }
  if (!whole) {
    for (Size j = 0; j < n_; ++j) {
      for (Size i = j + 1; i < n_; ++i) factor_[at(i + j * n_)] = factor_[at(j + i * n_)];
      factor_[at(j + j * n_)] = diagonal_[at(j)] + shift_;
    }
    cholesky_with_floor(n_, shift_, factor_.data(), lost_, lost_value_);
  }
  estimate_spectrum();
  if (!by_columns_) estimate_lengths();
  // By how much a step of refinement lowers the error: |G^T A^-1 dA A^-1 G H|/lambda with
  // A^-1 G H = G/m, and the rounding of x - G^T a.
  const double kappa = condition();
  const double left =
      by_columns_ ? core_unit_ * kappa : core_unit_ * kappa * (1 + rho() * std::sqrt(largest_));
  extended_only_ = may_extend_ && (lost_ >= 0 || left > slowest_refinement);
  if (extended_only_) {
    const Extended& e = extended();
    lost_ = e.factor.lost;
    lost_value_ = e.factor.lost_value;
  }
}

void Core::estimate_spectrum() {
  double trace = 0;
  for (const double s : diagonal_) trace += s;
  const double rounding = unit_double * trace;
  if (n_ <= all_eigenvalues) {
    Numbers s(at(n_ * n_)), values(at(n_));
    for (Size j = 0; j < n_; ++j)
      for (Size i = 0; i < n_; ++i) s[at(i + j * n_)] = gram(i, j);
    LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'N', 'L', as_int(n_), s.data(), as_int(n_), values.data());
    largest_ = std::fmax(0, values.back()) + rounding;
    smallest_ = shift_ + std::fmax(0, values.front() - rounding);
    for (const double value : values)
      rho_ = std::fmax(rho_, kernel::mfac_rho(shift_, std::fmax(0, value - rounding),
                                              std::fmax(0, value) + rounding));
    return;
  }
  largest_ = std::fmin(trace, largest_eigenvalue(
                                  n_, [&](const double* x, double* y) { multiply(x, y); })) +
             rounding;
  const double inverse = largest_eigenvalue(n_, [&](const double* x, double* y) {
    std::copy_n(x, n_, y);
    solve(1, y);
  });
  smallest_ = std::fmax(shift_, 1 / inverse - rounding);
  rho_ = kernel::mfac_rho(shift_, smallest_ - shift_, largest_);
}

void Core::estimate_lengths() {
  Numbers root(diagonal_);
  for (double& value : root) value = std::sqrt(value + shift_);
  const auto [low, high] = std::minmax_element(root.begin(), root.end());
  if (!(*high * *high > least_spread * *low * *low)) return;
  // The largest and the smallest eigenvalue of D^-1 A D^-1, D the root of the diagonal of A.
  const double rounding = unit_double * static_cast<double>(n_);
  double largest = 0, smallest = 0;
  if (n_ <= all_eigenvalues) {
    Numbers a(at(n_ * n_)), values(at(n_));
    for (Size j = 0; j < n_; ++j)
      for (Size i = j; i < n_; ++i)
        a[at(i + j * n_)] = i == j ? 1 : gram(i, j) / root[at(i)] / root[at(j)];
    LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'N', 'L', as_int(n_), a.data(), as_int(n_), values.data());
    largest = values.back() + rounding;
    smallest = values.front() - rounding;
  } else {
    Numbers scaled(at(n_));
    largest = largest_eigenvalue(n_, [&](const double* x, double* y) {
      for (Size i = 0; i < n_; ++i) scaled[at(i)] = x[i] / root[at(i)];
      multiply(scaled.data(), y);
      for (Size i = 0; i < n_; ++i) y[i] = (y[i] + shift_ * scaled[at(i)]) / root[at(i)];
    });
    largest = std::fmin(largest, static_cast<double>(n_)) + rounding;
    const double inverse = largest_eigenvalue(n_, [&](const double* x, double* y) {
      for (Size i = 0; i < n_; ++i) y[i] = x[i] * root[at(i)];
      solve(1, y);
      for (Size i = 0; i < n_; ++i) y[i] *= root[at(i)];
    });
    smallest = 1 / inverse - rounding;
  }
  smallest = std::fmax(smallest, shift_ / *high / *high);
  // G^T A^-1 e_i = H^-1 g_i/m, and |G^T A^-1 D| is not above the root of |(D^-1 A D^-1)^-1|.
  lengths_ = {diagonal_, Numbers(at(n_)), 0, largest};
  for (Size i = 0; i < n_; ++i) {
    double& length = lengths_.length[at(i)];
    length = std::sqrt(length);
    lengths_.reach[at(i)] =
        std::min({rho_, length / shift_, 1 / (std::sqrt(smallest) * root[at(i)])});
    lengths_.weight = std::hypot(lengths_.weight, lengths_.reach[at(i)] * length);
  }
}

void Core::solve(Size k, double* b) const {
  const OneBlasThread one;
  cblas_dtrsm(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, as_int(n_),
              as_int(k), 1.0, factor_.data(), as_int(n_), b, as_int(n_));
  cblas_dtrsm(CblasColMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, as_int(n_), as_int(k),
              1.0, factor_.data(), as_int(n_), b, as_int(n_));
}

void Core::solve_lower(Size k, double* b) const {
  const OneBlasThread one;
  cblas_dtrsm(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, as_int(n_),
              as_int(k), 1.0, factor_.data(), as_int(n_), b, as_int(n_));
}

const Numbers& Core::solve_factor() const {
  const std::lock_guard lock(mutex_);
  if (solve_factor_.empty()) solve_factor_ = mfac_solve_factor(factor_.data(), n_);
  return solve_factor_;
}

const Extended& Core::extended() const {
  const std::lock_guard lock(mutex_);
  if (!extended_) {
    DdMatrix s = gram_extended(*gradients_, columns_, by_columns_, threads_);
    const dd shift = kernel::two_prod(static_cast<double>(gradients_->rows()), damping_);
    ExtendedCholesky factor = cholesky_extended(s, shift, threads_);
    extended_.emplace(Extended{std::move(s), std::move(factor)});
  }
  return *extended_;
}

const Eigen& Core::eigen() const {
  const std::lock_guard lock(mutex_);
  if (!eigen_) {
    const OneBlasThread one;
    Eigen e{Numbers(at(n_)), Numbers(at(n_ * n_))};
    for (Size j = 0; j < n_; ++j)
      for (Size i = 0; i < n_; ++i) e.vectors[at(i + j * n_)] = gram(i, j);
    const int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', as_int(n_), e.vectors.data(),
                                    as_int(n_), e.values.data());
    if (info != 0) throw Error("halfulp::mfac::Estimator: LAPACK's dsyevd did not converge");
    for (double& value : e.values) value = std::fmax(value, 0.0);  // S is positive semidefinite
    eigen_.emplace(std::move(e));
  }
  return *eigen_;
}

const halfulp::detail::SymmetricEigen& Core::extended_eigen() const {
  const Extended& e = extended();
  const std::lock_guard lock(mutex_);
  if (!extended_eigen_) extended_eigen_.emplace(halfulp::detail::symmetric_eigen(e.gram, threads_));
  return *extended_eigen_;
}

}  // namespace halfulp::mfac::detail
