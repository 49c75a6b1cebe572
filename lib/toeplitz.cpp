#include "detail/toeplitz.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "halfulp/threads.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;
using Buffer = std::unique_ptr<double[]>;
// Rows or columns that one call of BLAS gets: fixed, so that threads do not change the bits.
constexpr Size block = 128;
constexpr double root2 = std::numbers::sqrt2;

Buffer buffer(Size size) { return Buffer(new double[static_cast<std::size_t>(size)]); }

/// A matrix in the basis of even and odd vectors, along its rows' or its columns' index.
struct Parts {
  Size n, evens, odds;  // along the split index
  Size others;
  bool columns;  // the split index is that of the columns
  Buffer even, odd;

  Parts(Size size, Size other, bool split_columns)
      : n(size),
        evens(size - size / 2),
        odds(size / 2),
        others(other),
        columns(split_columns),
        even(buffer(evens * other)),
        odd(buffer(odds * other)) {}

  void split(const double* x) {
    const double scale = 1 / root2;
    if (columns) {
      for (Size r = 0; r < others; ++r) {
        const double* const row = x + r * n;
        double* const e = even.get() + r * evens;
        double* const o = odd.get() + r * odds;
        for (Size i = 0; i < odds; ++i) {
          e[i] = scale * (row[i] + row[n - 1 - i]);
          o[i] = scale * (row[i] - row[n - 1 - i]);
        }
        if (evens > odds) e[odds] = row[odds];
      }
      return;
    }
    for (Size i = 0; i < odds; ++i) {
      const double* const first = x + i * others;
      const double* const last = x + (n - 1 - i) * others;
      for (Size c = 0; c < others; ++c) {
        even[i * others + c] = scale * (first[c] + last[c]);
        odd[i * others + c] = scale * (first[c] - last[c]);
      }
    }
    if (evens > odds) std::copy_n(x + odds * others, others, even.get() + odds * others);
  }

  void negate() {
    for (Size i = 0; i < evens * others; ++i) even[i] = -even[i];
    for (Size i = 0; i < odds * others; ++i) odd[i] = -odd[i];
  }

  /// X <- parts + beta X
  void merge(double beta, double* x) const {
    const double scale = 1 / root2;
    const auto put = [&](double& to, double value) { to = beta == 0 ? value : value + beta * to; };
    if (columns) {
      for (Size r = 0; r < others; ++r) {
        double* const row = x + r * n;
        const double* const e = even.get() + r * evens;
        const double* const o = odd.get() + r * odds;
        for (Size i = 0; i < odds; ++i) {
          put(row[i], scale * (e[i] + o[i]));
          put(row[n - 1 - i], scale * (e[i] - o[i]));
        }
        if (evens > odds) put(row[odds], e[odds]);
      }
      return;
    }
    for (Size i = 0; i < odds; ++i) {
      double* const first = x + i * others;
      double* const last = x + (n - 1 - i) * others;
      for (Size c = 0; c < others; ++c) {
        const double e = even[i * others + c], o = odd[i * others + c];
        put(first[c], scale * (e + o));
        put(last[c], scale * (e - o));
      }
    }
    if (evens > odds)
      for (Size c = 0; c < others; ++c) put(x[odds * others + c], even[odds * others + c]);
  }
};

/// The block of T (line: t(n-1) ... t(-(n-1))) that maps even (odd) vectors to even (odd) ones.
std::vector<double> block_of(const double* line, Size n, bool to_even, bool from_even) {
  const Size half = n / 2, evens = n - half;
  const Size rows = to_even ? evens : half, columns = from_even ? evens : half;
  const auto t = [&](Size difference) { return line[n - 1 - difference]; };
  const double sign = from_even ? 1 : -1;
  std::vector<double> m(rows * columns);
  for (Size i = 0; i < rows; ++i)
    for (Size j = 0; j < columns; ++j) {
      double value = 0;
      if (i == half && j == half)  // the middle of an odd number
        value = t(0);
      else if (i == half || j == half)
        value = root2 * t(i - j);
      else
        value = t(i - j) + sign * t(i - (n - 1 - j));
      m[i * columns + j] = value;
    }
  return m;
}

/// X <- R^-1 R^-T X for a row-major n x columns matrix.
void solve_rows(const std::vector<double>& r, Size n, double* x, Size columns, int threads) {
  if (n == 0) return;
  parallel_blocks(columns, block, threads, [&](Size begin, Size end) {
    for (const auto transpose : {CblasTrans, CblasNoTrans})
      cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, transpose, CblasNonUnit,
                  static_cast<int>(n), static_cast<int>(end - begin), 1.0, r.data(),
                  static_cast<int>(n), x + begin, static_cast<int>(columns));
  });
}

/// X <- X R^-1 R^-T for a row-major rows x n matrix.
void solve_columns(const std::vector<double>& r, Size n, double* x, Size rows, int threads) {
  if (n == 0) return;
  parallel_blocks(rows, block, threads, [&](Size begin, Size end) {
    for (const auto transpose : {CblasNoTrans, CblasTrans})
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasUpper, transpose, CblasNonUnit,
                  static_cast<int>(end - begin), static_cast<int>(n), 1.0, r.data(),
                  static_cast<int>(n), x + begin * n, static_cast<int>(n));
  });
}

}  // namespace

bool ToeplitzCholesky::factor(std::span<const double> first_column) {
  n_ = 0;
  blocks_ = false;
  const auto n = static_cast<Size>(first_column.size());
  if (n == 0 || !(first_column[0] > 0)) return false;
  column_.assign(first_column.begin(), first_column.end());
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

void ToeplitzCholesky::factor_blocks() const {
  if (blocks_) return;
  const Toeplitz matrix(column_, false);
  matrix.blocks(even_, odd_);
  sound_ = true;
  for (auto* part : {&even_, &odd_}) {
    const auto size = static_cast<int>(part == &odd_ ? n_ / 2 : n_ - n_ / 2);
    // The lower triangle in columns is the upper one in rows.
    if (size > 0)
      sound_ = sound_ && LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', size, part->data(), size) == 0;
  }
  blocks_ = true;
}

void ToeplitzCholesky::solve_left(double* x, Size columns, int threads) const {
  const int n = static_cast<int>(n_);
  if (columns == 1) {
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasTrans, CblasNonUnit, n, r_.data(), n, x, 1);
    cblas_dtrsv(CblasRowMajor, CblasUpper, CblasNoTrans, CblasNonUnit, n, r_.data(), n, x, 1);
    return;
  }
  factor_blocks();
  if (!sound_) {  // within rounding of singular
    solve_rows(r_, n_, x, columns, threads);
    return;
  }
  Parts parts(n_, columns, false);
  parts.split(x);
  solve_rows(even_, parts.evens, parts.even.get(), columns, threads);
  solve_rows(odd_, parts.odds, parts.odd.get(), columns, threads);
  parts.merge(0, x);
}

void ToeplitzCholesky::solve_right(double* x, Size rows, int threads) const {
  factor_blocks();
  if (!sound_) {
    solve_columns(r_, n_, x, rows, threads);
    return;
  }
  Parts parts(n_, rows, true);
  parts.split(x);
  solve_columns(even_, parts.evens, parts.even.get(), rows, threads);
  solve_columns(odd_, parts.odds, parts.odd.get(), rows, threads);
  parts.merge(0, x);
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
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (Size i = 0; i < m * n; ++i) c[i] = beta == 0 ? 0 : beta * c[i];
    return;
  }
  parallel_blocks(m, block, threads, [&](Size begin, Size end) {
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(end - begin),
                static_cast<int>(n), static_cast<int>(k), 1.0,
                transpose_a ? a + begin : a + begin * k, static_cast<int>(transpose_a ? m : k), b,
                static_cast<int>(transpose_b ? k : n), beta, c + begin * n, static_cast<int>(n));
  });
}

Toeplitz::Toeplitz(std::span<const double> lags, bool odd)
    : n_(static_cast<Size>(lags.size())), odd_(odd), line_(2 * lags.size() - 1) {
  for (Size l = 0; l < n_; ++l) {
    line_[n_ - 1 - l] = lags[l];
    line_[n_ - 1 + l] = odd ? -lags[l] : lags[l];
  }
  if (odd) line_[n_ - 1] = 0;
}

void Toeplitz::blocks(std::vector<double>& to_even, std::vector<double>& to_odd) const {
  to_even = block_of(line_.data(), n_, true, !odd_);
  to_odd = block_of(line_.data(), n_, false, odd_);
}

void Toeplitz::form_blocks() const {
  if (to_even_.empty()) blocks(to_even_, to_odd_);
}

void Toeplitz::multiply_left(bool transpose, const double* x, Size columns, double beta, double* y,
                             int threads) const {
  if (columns > 1) {
    form_blocks();
    Parts from(n_, columns, false), to(n_, columns, false);
    from.split(x);
    // The transpose of an odd matrix is its negative, that of an even one itself.
    const double* const for_even = odd_ ? from.odd.get() : from.even.get();
    const double* const for_odd = odd_ ? from.even.get() : from.odd.get();
    multiply_into(false, false, to.evens, columns, odd_ ? from.odds : from.evens, to_even_.data(),
                  for_even, 0.0, to.even.get(), threads);
    multiply_into(false, false, to.odds, columns, odd_ ? from.evens : from.odds, to_odd_.data(),
                  for_odd, 0.0, to.odd.get(), threads);
    if (odd_ && transpose) to.negate();
    to.merge(beta, y);
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
  // X T = (T^T X^T)^T: the blocks' transposes.
  form_blocks();
  Parts from(n_, rows, true), to(n_, rows, true);
  from.split(x);
  const double* const for_even = odd_ ? from.odd.get() : from.even.get();
  const double* const for_odd = odd_ ? from.even.get() : from.odd.get();
  multiply_into(false, true, rows, to.evens, odd_ ? from.odds : from.evens, for_even,
                to_even_.data(), 0.0, to.even.get(), threads);
  multiply_into(false, true, rows, to.odds, odd_ ? from.evens : from.odds, for_odd, to_odd_.data(),
                0.0, to.odd.get(), threads);
  if (odd_ && !transpose) to.negate();
  to.merge(beta, y);
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
  // Only the blocks that T has count.
  Parts left(n, m, transpose), right(n, m, transpose);
  left.split(x);
  right.split(y);
  const Size half = left.odds, evens = left.evens;
  // first: rows of even vectors; second: rows of odd ones.
  const Size first_columns = odd ? half : evens, second_columns = odd ? evens : half;
  const Buffer first = buffer(evens * first_columns), second = buffer(half * second_columns);
  multiply_into(transpose, !transpose, evens, first_columns, m, left.even.get(),
                odd ? right.odd.get() : right.even.get(), 0.0, first.get(), threads);
  multiply_into(transpose, !transpose, half, second_columns, m, left.odd.get(),
                odd ? right.even.get() : right.odd.get(), 0.0, second.get(), threads);
  std::vector<double> sums(n);
  for (Size i = 0; i < half; ++i)
    for (Size j = 0; j < half; ++j) {
      const double a = first[i * first_columns + j], b = second[i * second_columns + j];
      if (i >= j)
        sums[i - j] += a + b;
      else
        sums[j - i] += sign * (a + b);
      sums[n - 1 - i - j] += a - b;
    }
  if (evens > half) {
    for (Size i = 0; i < half; ++i) {
      sums[half - i] += root2 * first[half * first_columns + i];
      sums[half - i] +=
          root2 * (odd ? -second[i * second_columns + half] : first[i * first_columns + half]);
    }
    if (!odd) sums[0] += first[half * first_columns + half];
  }
  for (Size l = odd ? 1 : 0; l < n; ++l) out[l] += factor * sums[l];
}

}  // namespace halfulp::detail
