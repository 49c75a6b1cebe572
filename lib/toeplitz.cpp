#include "detail/toeplitz.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "halfulp/threads.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;
// Rows or columns that one call of BLAS gets: fixed, so that threads do not change the bits.
constexpr Size block = 128;

}  // namespace

bool ToeplitzCholesky::factor(std::span<const double> first_column) {
  n_ = 0;
  const auto n = static_cast<Size>(first_column.size());
  if (n == 0 || !(first_column[0] > 0)) return false;
  r_.resize(n * n);
  const double root = std::sqrt(first_column[0]);
  std::vector<double> q(n);
  for (Size i = 0; i < n; ++i) r_[i] = q[i] = first_column[i] / root;
  double* const y = q.data();
  for (Size k = 0; k + 1 < n; ++k) {
    // A hyperbolic rotation of the shifted first generator and the second one, in mixed form.
    const double* const x = r_.data() + k * n + k;
    double* const next = r_.data() + (k + 1) * n + k + 1;
    const double rho = y[1] / x[0];
    if (!(std::fabs(rho) < 1)) return false;
    const double c = std::sqrt((1 - rho) * (1 + rho)), inverse = 1 / c;
    const Size m = n - k - 1;
    for (Size i = 0; i < m; ++i) {
      const double second = y[i + 1];
      const double first = (x[i] - rho * second) * inverse;
      next[i] = first;
      y[i] = c * second - rho * first;
    }
  }
  n_ = n;
  return true;
}

double ToeplitzCholesky::log_determinant() const {
  double sum = 0;
  for (Size i = 0; i < n_; ++i) sum += std::log(r_[i * n_ + i]);
  return 2 * sum;
}

void ToeplitzCholesky::solve_left(double* x, Size columns, int threads) const {
  const int n = static_cast<int>(n_), m = static_cast<int>(columns);
  if (columns == 1) {
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasTrans, CblasNonUnit, n, r_.data(), n, x, 1);
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasNoTrans, CblasNonUnit, n, r_.data(), n, x, 1);
    return;
  }
  parallel_blocks(columns, block, threads, [&](Size begin, Size end) {
    const int width = static_cast<int>(end - begin);
    for (const auto side : {CblasTrans, CblasNoTrans})
      cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, side, CblasNonUnit, n, width, 1.0,
                  r_.data(), n, x + begin, m);
  });
}

void ToeplitzCholesky::solve_right(double* x, Size rows, int threads) const {
  const int n = static_cast<int>(n_);
  parallel_blocks(rows, block, threads, [&](Size begin, Size end) {
    const int height = static_cast<int>(end - begin);
    for (const auto side : {CblasNoTrans, CblasTrans})
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, side, CblasNonUnit, height, n, 1.0,
                  r_.data(), n, x + begin * n, n);
  });
}

std::vector<double> ToeplitzCholesky::inverse_diagonal_sums() const {
  std::vector<double> z(n_), weighted(n_), sums(n_);
  z[0] = 1;
  solve_left(z.data(), 1, 1);
  for (Size p = 0; p < n_; ++p) weighted[p] = static_cast<double>(2 * p) * z[p];
  for (Size l = 0; l < n_; ++l) {
    const int m = static_cast<int>(n_ - l);
    const double all = cblas_ddot(m, z.data(), 1, z.data() + l, 1);
    const double moment = cblas_ddot(m, weighted.data(), 1, z.data() + l, 1);
    sums[l] = (static_cast<double>(m) * all - moment) / z[0];
  }
  return sums;
}

void multiply_into(bool transpose_a, bool transpose_b, Size m, Size n, Size k, const double* a,
                   const double* b, double beta, double* c, int threads) {
  parallel_blocks(m, block, threads, [&](Size begin, Size end) {
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(end - begin),
                static_cast<int>(n), static_cast<int>(k), 1.0,
                transpose_a ? a + begin : a + begin * k, static_cast<int>(transpose_a ? m : k), b,
                static_cast<int>(transpose_b ? k : n), beta, c + begin * n, static_cast<int>(n));
  });
}

Toeplitz::Toeplitz(std::span<const double> lags, bool odd)
    : n_(static_cast<Size>(lags.size())), line_(2 * lags.size() - 1) {
  for (Size l = 0; l < n_; ++l) {
    line_[n_ - 1 - l] = lags[l];
    line_[n_ - 1 + l] = odd ? -lags[l] : lags[l];
  }
  if (odd) line_[n_ - 1] = 0;
}

const std::vector<double>& Toeplitz::dense() const {
  if (dense_.empty()) {
    dense_.resize(n_ * n_);
    for (Size i = 0; i < n_; ++i)
      std::copy_n(line_.begin() + (n_ - 1 - i), n_, dense_.begin() + i * n_);
  }
  return dense_;
}

void Toeplitz::multiply_left(bool transpose, const double* x, Size columns, double beta, double* y,
                             int threads) const {
  if (columns > 1) {
    multiply_into(transpose, false, n_, columns, n_, dense().data(), x, beta, y, threads);
    return;
  }
  // Row i is line_ from n-1-i on. T^T is T with its line reversed: T of the reversed vector.
  std::vector<double> reversed;
  if (transpose) {
    reversed.assign(x, x + n_);
    std::reverse(reversed.begin(), reversed.end());
    x = reversed.data();
  }
  for (Size i = 0; i < n_; ++i) {
    const double value = cblas_ddot(static_cast<int>(n_), line_.data() + (n_ - 1 - i), 1, x, 1);
    double& to = y[transpose ? n_ - 1 - i : i];
    to = beta == 0 ? value : value + beta * to;
  }
}

void Toeplitz::multiply_right(bool transpose, const double* x, Size rows, double beta, double* y,
                              int threads) const {
  multiply_into(false, transpose, rows, n_, n_, x, dense().data(), beta, y, threads);
}

void add_diagonal_sums(bool transpose, bool odd, Size n, Size m, const double* x, const double* y,
                       double factor, std::span<double> out, int threads) {
  const double sign = odd ? -1 : 1;
  if (m == 1) {
    for (Size l = 0; l < n; ++l) {
      const int count = static_cast<int>(n - l);
      double sum = cblas_ddot(count, x + l, 1, y, 1);
      if (l > 0) sum += sign * cblas_ddot(count, x, 1, y + l, 1);
      if (l > 0 || !odd) out[l] += factor * sum;
    }
    return;
  }
  std::vector<double> product(n * n);
  multiply_into(transpose, !transpose, n, n, m, x, y, 0.0, product.data(), threads);
  std::vector<double> sums(n);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < n; ++j) {
      const double value = product[i * n + j];
      if (i >= j)
        sums[i - j] += value;
      else
        sums[j - i] += sign * value;
    }
  for (Size l = odd ? 1 : 0; l < n; ++l) out[l] += factor * sums[l];
}

}  // namespace halfulp::detail
