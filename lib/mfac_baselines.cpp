#include "halfulp/mfac_baselines.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "detail/blas_threads.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/random.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac::baseline {
namespace {

using halfulp::detail::OneBlasThread;
using halfulp::detail::require;
using halfulp::detail::require_finite;
using halfulp::detail::require_size;
using Size = std::ptrdiff_t;

constexpr Size piece = 4096;     // columns taken at a time: a row's fit the first cache
constexpr Size most_parts = 16;  // sums that are added in the end
constexpr Size together = 16;    // vectors that share a pass

std::size_t at(Size i) { return static_cast<std::size_t>(i); }
int blas(Size i) { return static_cast<int>(i); }

// ---- BLAS and LAPACK by type; arrays are by rows ------------------------------------------------

/// c (m) += a x, a: m x n.
void gemv(Size m, Size n, const double* a, Size ld, const double* x, double* c) {
  cblas_dgemv(CblasRowMajor, CblasNoTrans, blas(m), blas(n), 1, a, blas(ld), x, 1, 1, c, 1);
}
void gemv(Size m, Size n, const float* a, Size ld, const float* x, float* c) {
  cblas_sgemv(CblasRowMajor, CblasNoTrans, blas(m), blas(n), 1, a, blas(ld), x, 1, 1, c, 1);
}
/// y (n) += alpha a^T c.
void gemv_transposed(Size m, Size n, double alpha, const double* a, Size ld, const double* c,
                     double* y) {
  cblas_dgemv(CblasRowMajor, CblasTrans, blas(m), blas(n), alpha, a, blas(ld), c, 1, 1, y, 1);
}
void gemv_transposed(Size m, Size n, float alpha, const float* a, Size ld, const float* c,
                     float* y) {
  cblas_sgemv(CblasRowMajor, CblasTrans, blas(m), blas(n), alpha, a, blas(ld), c, 1, 1, y, 1);
}
/// c (k x m) += x a^T, x: k x n, a: m x n.
void gemm(Size k, Size m, Size n, const double* x, Size ld_x, const double* a, Size ld, double* c) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(k), blas(m), blas(n), 1, x, blas(ld_x),
              a, blas(ld), 1, c, blas(m));
}
void gemm(Size k, Size m, Size n, const float* x, Size ld_x, const float* a, Size ld, float* c) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(k), blas(m), blas(n), 1, x, blas(ld_x),
              a, blas(ld), 1, c, blas(m));
}
/// y (k x n) += alpha c a, c: k x m.
void gemm_back(Size k, Size m, Size n, double alpha, const double* c, const double* a, Size ld,
               double* y, Size ld_y) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas(k), blas(n), blas(m), alpha, c,
              blas(m), a, blas(ld), 1, y, blas(ld_y));
}
void gemm_back(Size k, Size m, Size n, float alpha, const float* c, const float* a, Size ld,
               float* y, Size ld_y) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, blas(k), blas(n), blas(m), alpha, c,
              blas(m), a, blas(ld), 1, y, blas(ld_y));
}
/// The lower triangle of c (m x m) += a a^T.
void syrk(Size m, Size n, const double* a, Size ld, double* c) {
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, blas(m), blas(n), 1, a, blas(ld), 1, c,
              blas(m));
}
void syrk(Size m, Size n, const float* a, Size ld, float* c) {
  cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, blas(m), blas(n), 1, a, blas(ld), 1, c,
              blas(m));
}
// A lower triangle by rows is an upper one by columns, which LAPACK is given.
int potrf(Size n, double* a) {
  return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', blas(n), a, blas(n));
}
int potrf(Size n, float* a) {
  return LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'U', blas(n), a, blas(n));
}
void potrs(Size n, Size k, const double* a, double* b) {
  LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', blas(n), blas(k), a, blas(n), b, blas(n));
}
void potrs(Size n, Size k, const float* a, float* b) {
  LAPACKE_spotrs_work(LAPACK_COL_MAJOR, 'U', blas(n), blas(k), a, blas(n), b, blas(n));
}
int getrf(Size n, double* a, int* pivots) {
  return LAPACKE_dgetrf_work(LAPACK_COL_MAJOR, blas(n), blas(n), a, blas(n), pivots);
}
int getrf(Size n, float* a, int* pivots) {
  return LAPACKE_sgetrf_work(LAPACK_COL_MAJOR, blas(n), blas(n), a, blas(n), pivots);
}
void getrs(Size n, Size k, const double* a, const int* pivots, double* b) {
  LAPACKE_dgetrs_work(LAPACK_COL_MAJOR, 'N', blas(n), blas(k), a, blas(n), pivots, b, blas(n));
}
void getrs(Size n, Size k, const float* a, const int* pivots, float* b) {
  LAPACKE_sgetrs_work(LAPACK_COL_MAJOR, 'N', blas(n), blas(k), a, blas(n), pivots, b, blas(n));
}
double dot(Size n, const double* a, const double* b) { return cblas_ddot(blas(n), a, 1, b, 1); }
float dot(Size n, const float* a, const float* b) { return cblas_sdot(blas(n), a, 1, b, 1); }
/// x = R^-1 x or R^-T x, R the upper triangle of an n x n array.
void solve_upper(Size n, const double* r, bool transposed, double* x) {
  cblas_dtrsv(CblasRowMajor, CblasUpper, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit,
              blas(n), r, blas(n), x, 1);
}
void solve_upper(Size n, const float* r, bool transposed, float* x) {
  cblas_strsv(CblasRowMajor, CblasUpper, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit,
              blas(n), r, blas(n), x, 1);
}
/// l rows of d numbers become orthonormal; the span is the same.
void orthonormalise(Size d, Size l, double* a) {
  std::vector<double> tau(at(l));
  LAPACKE_dgeqrf(LAPACK_COL_MAJOR, blas(d), blas(l), a, blas(d), tau.data());
  LAPACKE_dorgqr(LAPACK_COL_MAJOR, blas(d), blas(l), blas(l), a, blas(d), tau.data());
}
void orthonormalise(Size d, Size l, float* a) {
  std::vector<float> tau(at(l));
  LAPACKE_sgeqrf(LAPACK_COL_MAJOR, blas(d), blas(l), a, blas(d), tau.data());
  LAPACKE_sorgqr(LAPACK_COL_MAJOR, blas(d), blas(l), blas(l), a, blas(d), tau.data());
}
/// The l rows of d numbers, as columns Y, become Y C^-1, C^T C what potrf factorised.
void divide_by_factor(Size d, Size l, const double* c, double* y) {
  cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, blas(d), blas(l),
              1, c, blas(l), y, blas(d));
}
void divide_by_factor(Size d, Size l, const float* c, float* y) {
  cblas_strsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, blas(d), blas(l),
              1, c, blas(l), y, blas(d));
}
/// The l rows of d >= l numbers, as columns, become their left singular vectors.
int left_singular_vectors(Size d, Size l, double* a, double* values) {
  std::vector<double> right(at(l * l));
  return LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'O', blas(d), blas(l), a, blas(d), values, nullptr,
                        blas(d), right.data(), blas(l));
}
int left_singular_vectors(Size d, Size l, float* a, float* values) {
  std::vector<float> right(at(l * l));
  return LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'O', blas(d), blas(l), a, blas(d), values, nullptr,
                        blas(d), right.data(), blas(l));
}

// ---- passes over an m x n array of rows ---------------------------------------------------------

template <class T>
struct Rows {
  const T* data;
  Size m, n, ld;
};

/// The sum over columns 0 ... n - 1 of what body(begin, end, out) adds to out, of `numbers`
/// numbers: at most most_parts sums of pieces, one after the other in each, then the parts.
template <class T, class Body>
std::vector<T> sum_over_columns(Size n, Size numbers, int threads, Size parts_allowed,
                                const Body& body) {
  const Size pieces = (n + piece - 1) / piece;
  const Size parts = std::max<Size>(std::min(pieces, parts_allowed), 1);
  std::vector<T> sums(at(parts * numbers), T(0));
  parallel_for(parts, threads, [&](Size part) {
    for (Size p = part * pieces / parts; p < (part + 1) * pieces / parts; ++p)
      body(p * piece, std::min((p + 1) * piece, n), sums.data() + part * numbers);
  });
  for (Size step = 1; step < parts; step *= 2)
    for (Size part = 0; part + step < parts; part += 2 * step)
      for (Size i = 0; i < numbers; ++i)
        sums[at(part * numbers + i)] += sums[at((part + step) * numbers + i)];
  sums.resize(at(numbers));
  return sums;
}

/// x a^T: k x m.
template <class T>
std::vector<T> project(const Rows<T>& a, const T* x, Size k, Size ld_x, int threads) {
  return sum_over_columns<T>(a.n, k * a.m, threads, most_parts, [&](Size begin, Size end, T* c) {
    if (k == 1)
      gemv(a.m, end - begin, a.data + begin, a.ld, x + begin, c);
    else
      gemm(k, a.m, end - begin, x + begin, ld_x, a.data + begin, a.ld, c);
  });
}

/// y = (before x + alpha c a) after, c: k x m.
template <class T>
void combine(const Rows<T>& a, T alpha, const std::vector<T>& c, Size k, T before, const T* x,
             Size ld_x, T after, T* y, Size ld_y, int threads) {
  parallel_blocks(a.n, piece, threads, [&](Size begin, Size end) {
    const Size n = end - begin;
    for (Size v = 0; v < k; ++v)
      for (Size j = begin; j < end; ++j) y[v * ld_y + j] = before * x[v * ld_x + j];
    if (k == 1)
      gemv_transposed(a.m, n, alpha, a.data + begin, a.ld, c.data(), y + begin);
    else
      gemm_back(k, a.m, n, alpha, c.data(), a.data + begin, a.ld, y + begin, ld_y);
    if (after == T(1)) return;
    for (Size v = 0; v < k; ++v)
      for (Size j = begin; j < end; ++j) y[v * ld_y + j] *= after;
  });
}

/// G G^T, both triangles.
template <class T>
std::vector<T> gram_matrix(const Rows<T>& a, int threads) {
  const Size parts = std::clamp<Size>((Size{1} << 24) / (a.m * a.m), 2, most_parts);
  std::vector<T> gram = sum_over_columns<T>(
      a.n, a.m * a.m, threads, parts,
      [&](Size begin, Size end, T* c) { syrk(a.m, end - begin, a.data + begin, a.ld, c); });
  for (Size i = 0; i < a.m; ++i)
    for (Size j = 0; j < i; ++j) gram[at(j * a.m + i)] = gram[at(i * a.m + j)];
  return gram;
}

template <class T>
bool all_finite(std::span<const T> values) {
  return std::all_of(values.begin(), values.end(), [](T value) { return std::isfinite(value); });
}

/// How many vectors x holds; what it and y must be is checked.
template <class T>
Size vectors_in(const char* function, std::span<const T> x, std::span<T> y, Size d) {
  const Size k = std::ssize(x) / d;
  if (k * d != std::ssize(x))
    throw ShapeError(function, "x.size()", std::to_string(x.size()),
                     "a multiple of " + std::to_string(d));
  require_size(function, "y", std::ssize(y), k * d);
  require_finite<T>(function, "x", x, d);
  return k;
}

/// body(first, count) for groups of at most `together` vectors.
template <class Body>
void each_group(Size k, const Body& body) {
  for (Size first = 0; first < k; first += together) body(first, std::min(together, k - first));
}

template <class T>
void check_rows(const char* function, const char* name, std::span<const T> rows, Size d) {
  for (Size i = 0; i < std::ssize(rows); ++i)
    if (!std::isfinite(rows[at(i)]))
      throw DomainError(
          function,
          std::string(name) + '[' + std::to_string(i / d) + ", " + std::to_string(i % d) + ']',
          number_text(rows[at(i)]), "finite");
}

/// What the q_i, which are >= m, say.
template <class T, class Q>
Status status_of(Size m, Size count, const Q& q) {
  Status status = Status::converged;
  for (Size i = 0; i < count; ++i) {
    if (!std::isfinite(q(i))) return Status::not_finite;
    if (q(i) < static_cast<T>(m) * (1 - T(0x1p-10))) status = Status::not_positive_definite;
  }
  return status;
}

}  // namespace

namespace {

/// y = H x for k <= together vectors that nobody looks at.
template <class T>
void apply(const Operator<T>& H, Size k, const T* x, T* y) {
  const Size m = H.rows(), d = H.dimension();
  const OneBlasThread one;
  const Rows<T> g{H.gradients().data(), m, d, d};
  const std::vector<T> c = project(g, x, k, d, H.threads());
  combine(g, 1 / static_cast<T>(m), c, k, H.damping(), x, d, T(1), y, d, H.threads());
}

}  // namespace

// ---- Operator -----------------------------------------------------------------------------------

template <class T>
Operator<T>::Operator(std::span<const T> rows, Size d, T damping, int threads)
    : rows_(rows), d_(d), damping_(damping), threads_(thread_count(threads)) {
  constexpr const char* function = "mfac::baseline::Operator";
  constexpr Size largest = std::numeric_limits<int>::max();  // of BLAS
  require(d >= 1 && d <= largest, function, "d", d, "in 1 ... 2^31 - 1");
  require(damping > 0 && std::isfinite(damping), function, "damping", damping, "> 0 and finite");
  m_ = std::ssize(rows) / d;
  if (m_ * d != std::ssize(rows))
    throw ShapeError(function, "rows.size()", std::to_string(rows.size()),
                     "a multiple of " + std::to_string(d));
  require(m_ >= 1 && m_ <= largest, function, "rows.size()/d", m_, "in 1 ... 2^31 - 1");
  check_rows(function, "rows", rows, d);
}

template <class T>
void Operator<T>::product(std::span<const T> x, std::span<T> y) const {
  const Size k = vectors_in("mfac::baseline::Operator::product", x, y, d_);
  each_group(k, [&](Size first, Size count) {
    apply(*this, count, x.data() + first * d_, y.data() + first * d_);
  });
}

// ---- Recursion ----------------------------------------------------------------------------------

template <class T>
Recursion<T>::Recursion(const Operator<T>& H, Size block, const Progress& progress)
    : d_(H.dimension()), m_(H.rows()), block_(block), damping_(H.damping()), threads_(H.threads()) {
  constexpr const char* function = "mfac::baseline::Recursion";
  require(block >= 0, function, "block", block, ">= 0");
  block_ = block == 0 ? d_ : std::min(block, d_);
  blocks_ = (d_ + block_ - 1) / block_;
  v_.resize(at(m_ * d_));
  q_.resize(at(m_ * blocks_));
  const T* const g = H.gradients().data();
  const OneBlasThread one;
  const auto row = [&](Size b, Size i, int threads) {
    const Size begin = b * block_, n = std::min(block_, d_ - begin);
    const Rows<T> before{v_.data() + begin, i, n, d_};
    T* const q = q_.data() + b * m_;
    const T* const g_i = g + i * d_ + begin;
    T* const v_i = v_.data() + i * d_ + begin;
    std::vector<T> c;
    if (i > 0) c = project(before, g_i, 1, d_, threads);
    for (Size k = 0; k < i; ++k) c[at(k)] /= q[k];
    combine(before, T(-1), c, 1, 1 / damping_, g_i, d_, T(1), v_i, d_, threads);
    q[i] = static_cast<T>(m_) + project(Rows<T>{v_i, 1, n, d_}, g_i, 1, d_, threads)[0];
  };
  if (blocks_ < 4 * static_cast<Size>(threads_)) {
    for (Size b = 0; b < blocks_; ++b)
      for (Size i = 0; i < m_; ++i) {
        const double share = static_cast<double>(i) / static_cast<double>(m_);
        report_progress(progress,
                        (static_cast<double>(b) + share * share) / static_cast<double>(blocks_),
                        "rows", function);
        row(b, i, threads_);
      }
  } else {
    constexpr Size part = 4096;
    for (Size first = 0; first < blocks_; first += part) {
      report_progress(progress, static_cast<double>(first) / static_cast<double>(blocks_), "blocks",
                      function);
      parallel_for(std::min(part, blocks_ - first), threads_, [&](Size b) {
        for (Size i = 0; i < m_; ++i) row(first + b, i, 1);
      });
    }
  }
  status_ = status_of<T>(m_, std::ssize(q_), [&](Size i) { return q_[at(i)]; });
}

template <class T>
Status Recursion<T>::product(std::span<const T> x, std::span<T> y) const {
  const Size k = vectors_in("mfac::baseline::Recursion::product", x, y, d_);
  const OneBlasThread one;
  const auto one_block = [&](Size b, int threads) {
    const Size begin = b * block_, n = std::min(block_, d_ - begin);
    const Rows<T> v{v_.data() + begin, m_, n, d_};
    each_group(k, [&](Size first, Size count) {
      const T* const from = x.data() + first * d_ + begin;
      std::vector<T> c = project(v, from, count, d_, threads);
      for (Size i = 0; i < count * m_; ++i) c[at(i)] /= q_[at(b * m_ + i % m_)];
      combine(v, T(-1), c, count, 1 / damping_, from, d_, T(1), y.data() + first * d_ + begin, d_,
              threads);
    });
  };
  if (blocks_ < 4 * static_cast<Size>(threads_)) {
    for (Size b = 0; b < blocks_; ++b) one_block(b, threads_);
  } else {
    parallel_for(blocks_, threads_, [&](Size b) { one_block(b, 1); });
  }
  return all_finite<T>(y) ? status_ : Status::not_finite;
}

template <class T>
T Recursion<T>::element(Size i, Size j) const {
  constexpr const char* function = "mfac::baseline::Recursion::element";
  require(i >= 0 && i < d_, function, "i", i, "in 0 ... d - 1");
  require(j >= 0 && j < d_, function, "j", j, "in 0 ... d - 1");
  const Size b = i / block_;
  if (b != j / block_) return 0;
  T sum = i == j ? 1 / damping_ : T(0);
  for (Size k = 0; k < m_; ++k) sum -= v_[at(k * d_ + i)] * v_[at(k * d_ + j)] / q_[at(b * m_ + k)];
  return sum;
}

template <class T>
void Recursion<T>::diagonal(std::span<T> out) const {
  require_size("mfac::baseline::Recursion::diagonal", "out", std::ssize(out), d_);
  parallel_blocks(d_, piece, threads_, [&](Size begin, Size end) {
    for (Size j = begin; j < end; ++j) out[at(j)] = 1 / damping_;
    for (Size k = 0; k < m_; ++k)
      for (Size from = begin; from < end;) {
        const Size b = from / block_, to = std::min(end, (b + 1) * block_);
        const T q = q_[at(b * m_ + k)];
        const T* const v = v_.data() + k * d_;
        for (Size j = from; j < to; ++j) out[at(j)] -= v[j] * v[j] / q;
        from = to;
      }
  });
}

// ---- Dynamic ------------------------------------------------------------------------------------

template <class T>
Dynamic<T>::Dynamic(const Operator<T>& H, const Progress& progress)
    : d_(H.dimension()),
      m_(H.rows()),
      damping_(H.damping()),
      threads_(H.threads()),
      rows_(H.gradients().begin(), H.gradients().end()),
      d_coefficients_(at(m_ * m_)),
      b_coefficients_(at(m_ * m_)) {
  constexpr const char* function = "mfac::baseline::Dynamic";
  const OneBlasThread one;
  report_progress(progress, 0, "products of rows", function);
  gram_ = gram_matrix(Rows<T>{rows_.data(), m_, d_, d_}, threads_);
  report_progress(progress, 0.5, "coefficients", function);
  rebuild();
}

template <class T>
void Dynamic<T>::rebuild() {
  const Size m = m_;
  std::vector<T>&D = d_coefficients_, &B = b_coefficients_;
  std::fill(D.begin(), D.end(), T(0));
  std::fill(B.begin(), B.end(), T(0));
  std::vector<T> w(at(m));
  for (Size i = 0; i < m; ++i) {
    for (Size k = 0; k < i; ++k)
      w[at(k)] = D[at(k * m + i)] / (static_cast<T>(m) + D[at(k * m + k)]);
    for (Size j = i; j < m; ++j) D[at(i * m + j)] = gram_[at(i * m + j)] / damping_;
    B[at(i * m + i)] = 1 / damping_;
    if (i == 0) continue;
    gemv_transposed(i, m - i, T(-1), D.data() + i, m, w.data(), D.data() + i * m + i);
    gemv_transposed(i, i, T(-1), B.data(), m, w.data(), B.data() + i * m);
  }
  status_ = status_of<T>(m, m, [&](Size i) { return q(i); });
}

template <class T>
T Dynamic<T>::q(Size i) const {
  require(i >= 0 && i < m_, "mfac::baseline::Dynamic::q", "i", i, "in 0 ... m - 1");
  return static_cast<T>(m_) + d_coefficients_[at(i * m_ + i)];
}

template <class T>
void Dynamic<T>::replace(Size row, std::span<const T> values) {
  constexpr const char* function = "mfac::baseline::Dynamic::replace";
  require(row >= 0 && row < m_, function, "row", row, "in 0 ... m - 1");
  require_size(function, "values", std::ssize(values), d_);
  require_finite<T>(function, "values", values);
  const OneBlasThread one;
  std::copy(values.begin(), values.end(), rows_.begin() + row * d_);
  const std::vector<T> c =
      project(Rows<T>{rows_.data(), m_, d_, d_}, rows_.data() + row * d_, 1, d_, threads_);
  for (Size i = 0; i < m_; ++i) gram_[at(row * m_ + i)] = gram_[at(i * m_ + row)] = c[at(i)];
  rebuild();
}

template <class T>
Status Dynamic<T>::product(std::span<const T> x, std::span<T> y) const {
  const Size k = vectors_in("mfac::baseline::Dynamic::product", x, y, d_);
  const OneBlasThread one;
  const Rows<T> g{rows_.data(), m_, d_, d_};
  std::vector<T> vx(at(m_));
  each_group(k, [&](Size first, Size count) {
    const T* const from = x.data() + first * d_;
    std::vector<T> c = project(g, from, count, d_, threads_);
    for (Size v = 0; v < count; ++v) {
      T* const along = c.data() + v * m_;
      for (Size i = 0; i < m_; ++i) along[i] /= damping_;
      for (Size i = 0; i < m_; ++i) {  // vx_i = (v_i . x)/q_i, of which all later rows take theirs
        vx[at(i)] = along[i] / q(i);
        const T* const D_i = d_coefficients_.data() + i * m_;
        for (Size j = i + 1; j < m_; ++j) along[j] -= D_i[j] * vx[at(i)];
      }
      std::fill(along, along + m_, T(0));
      gemv_transposed(m_, m_, T(1), b_coefficients_.data(), m_, vx.data(), along);
    }
    combine(g, T(-1), c, count, 1 / damping_, from, d_, T(1), y.data() + first * d_, d_, threads_);
  });
  return all_finite<T>(y) ? status_ : Status::not_finite;
}

// ---- Woodbury -----------------------------------------------------------------------------------

template <class T>
Woodbury<T>::Woodbury(const Operator<T>& H, Factorisation factorisation, const Progress& progress)
    : operator_(H), factorisation_(factorisation) {
  constexpr const char* function = "mfac::baseline::Woodbury";
  const Size m = H.rows(), d = H.dimension();
  const OneBlasThread one;
  report_progress(progress, 0, "products of rows", function);
  factor_ = gram_matrix(Rows<T>{H.gradients().data(), m, d, d}, H.threads());
  for (Size i = 0; i < m; ++i) factor_[at(i * m + i)] += static_cast<T>(m) * H.damping();
  report_progress(progress, 0.9, "factorisation", function);
  if (!all_finite<T>(factor_)) {
    status_ = Status::not_finite;
    return;
  }
  int info = 0;
  if (factorisation == Factorisation::cholesky) {
    info = potrf(m, factor_.data());
  } else {
    pivots_.resize(at(m));
    info = getrf(m, factor_.data(), pivots_.data());
  }
  if (info == 0) return;
  status_ = Status::not_positive_definite;
  pivot_ = info - 1;
}

template <class T>
T Woodbury<T>::q(Size i) const {
  constexpr const char* function = "mfac::baseline::Woodbury::q";
  require(factorisation_ == Factorisation::cholesky, function, "factorisation", "lu", "cholesky");
  const Size m = operator_.rows();
  require(i >= 0 && i < m, function, "i", i, "in 0 ... m - 1");
  if (status_ != Status::converged) return std::numeric_limits<T>::quiet_NaN();
  const T l = factor_[at(i * m + i)];
  return l * l / operator_.damping();
}

template <class T>
Status Woodbury<T>::product(std::span<const T> x, std::span<T> y) const {
  const Size d = operator_.dimension(), m = operator_.rows();
  const Size k = vectors_in("mfac::baseline::Woodbury::product", x, y, d);
  if (status_ != Status::converged) {
    std::fill(y.begin(), y.end(), std::numeric_limits<T>::quiet_NaN());
    return status_;
  }
  const OneBlasThread one;
  const Rows<T> g{operator_.gradients().data(), m, d, d};
  each_group(k, [&](Size first, Size count) {
    const T* const from = x.data() + first * d;
    std::vector<T> c = project(g, from, count, d, operator_.threads());
    if (factorisation_ == Factorisation::cholesky)
      potrs(m, count, factor_.data(), c.data());
    else
      getrs(m, count, factor_.data(), pivots_.data(), c.data());
    combine(g, T(-1), c, count, T(1), from, d, 1 / operator_.damping(), y.data() + first * d, d,
            operator_.threads());
  });
  return all_finite<T>(y) ? status_ : Status::not_finite;
}

// ---- conjugate gradients ------------------------------------------------------------------------

namespace {

template <class T>
T dot_product(const std::vector<T>& a, const std::vector<T>& b, int threads) {
  return sum_over_columns<T>(std::ssize(a), 1, threads, most_parts,
                             [&](Size begin, Size end, T* sum) {
                               *sum += dot(end - begin, a.data() + begin, b.data() + begin);
                             })[0];
}

/// |x - H y|/norm.
template <class T>
double relative_residual(const Operator<T>& H, const std::vector<T>& x, std::span<const T> y,
                         T norm) {
  std::vector<T> r(x.size());
  apply(H, 1, y.data(), r.data());
  for (std::size_t j = 0; j < r.size(); ++j) r[j] = x[j] - r[j];
  return static_cast<double>(std::sqrt(dot_product(r, r, H.threads())) / norm);
}

template <class T, class Precondition>
Trace iterate(const char* function, const Operator<T>& H, std::span<const T> x, std::span<T> y,
              const IterationOptions& options, const Precondition& precondition) {
  const Size d = H.dimension();
  const int threads = H.threads();
  require_size(function, "x", std::ssize(x), d);
  require_size(function, "y", std::ssize(y), d);
  require_finite<T>(function, "x", x);
  require(options.tolerance >= 0, function, "tolerance", options.tolerance, ">= 0");
  require(options.max_iterations >= 1, function, "max_iterations", options.max_iterations, ">= 1");
  const OneBlasThread one;
  Trace trace;
  trace.report.tolerance = options.tolerance;
  const std::vector<T> right(x.begin(), x.end());
  std::fill(y.begin(), y.end(), T(0));
  const T norm = std::sqrt(dot_product(right, right, threads));
  if (norm == 0) {
    const bool zero = std::all_of(right.begin(), right.end(), [](T value) { return value == 0; });
    trace.report.status = zero ? Status::converged : Status::stagnated;
    trace.report.residual = trace.true_residual = zero ? 0 : 1;
    return trace;
  }
  std::vector<T> r = right, z(at(d)), q(at(d));
  precondition(r, z);
  std::vector<T> p = z;
  T rz = dot_product(r, z, threads);
  trace.report.status = Status::max_iterations;
  trace.report.residual = 1;
  while (trace.report.iterations < options.max_iterations) {
    report_progress(options.progress,
                    static_cast<double>(trace.report.iterations) / options.max_iterations,
                    "iterations", function);
    apply(H, 1, p.data(), q.data());
    const T curvature = dot_product(p, q, threads);
    const T alpha = rz / curvature;
    if (!(curvature > 0) || !std::isfinite(curvature) || !std::isfinite(alpha)) {
      trace.report.status = curvature == 0 ? Status::stagnated : Status::not_finite;
      break;
    }
    parallel_blocks(d, piece, threads, [&](Size begin, Size end) {
      for (Size j = begin; j < end; ++j) {
        y[at(j)] += alpha * p[at(j)];
        r[at(j)] -= alpha * q[at(j)];
      }
    });
    ++trace.report.iterations;
    const T residual = std::sqrt(dot_product(r, r, threads)) / norm;
    trace.report.residual = static_cast<double>(residual);
    trace.residuals.push_back(trace.report.residual);
    if (!std::isfinite(residual)) {
      trace.report.status = Status::not_finite;
      break;
    }
    if (trace.report.residual <= options.tolerance) {
      trace.report.status = Status::converged;
      break;
    }
    precondition(r, z);
    const T next = dot_product(r, z, threads), beta = next / rz;
    if (!std::isfinite(beta)) {
      trace.report.status = std::isfinite(next) ? Status::stagnated : Status::not_finite;
      break;
    }
    rz = next;
    parallel_blocks(d, piece, threads, [&](Size begin, Size end) {
      for (Size j = begin; j < end; ++j) p[at(j)] = z[at(j)] + beta * p[at(j)];
    });
  }
  trace.true_residual = all_finite<T>(y) ? relative_residual<T>(H, right, y, norm)
                                         : std::numeric_limits<double>::quiet_NaN();
  return trace;
}

}  // namespace

template <class T>
Trace conjugate_gradients(const Operator<T>& H, std::span<const T> x, std::span<T> y,
                          const IterationOptions& options) {
  return iterate("mfac::baseline::conjugate_gradients", H, x, y, options,
                 [](const std::vector<T>& r, std::vector<T>& z) { z = r; });
}

template <class T>
Trace conjugate_gradients(const Operator<T>& H, const NystromPreconditioner<T>& preconditioner,
                          std::span<const T> x, std::span<T> y, const IterationOptions& options) {
  constexpr const char* function = "mfac::baseline::conjugate_gradients";
  require_size(function, "preconditioner", preconditioner.dimension(), H.dimension());
  return iterate(function, H, x, y, options, [&](const std::vector<T>& r, std::vector<T>& z) {
    preconditioner.apply_unchecked(r, z);
  });
}

template <class T>
NystromPreconditioner<T>::NystromPreconditioner(const Operator<T>& H, Size rank, std::uint64_t seed)
    : d_(H.dimension()), damping_(H.damping()), threads_(H.threads()) {
  constexpr const char* function = "mfac::baseline::NystromPreconditioner";
  require(rank >= 1 && rank <= d_, function, "rank", rank, "in 1 ... d");
  const Size l = rank;
  const OneBlasThread one;
  std::vector<T> omega(at(l * d_)), y(at(l * d_));
  {
    std::vector<double> normal(at(d_));
    for (Size i = 0; i < l; ++i) {
      RandomStream(seed).fill_normal(normal, static_cast<std::uint64_t>(i * d_), threads_);
      std::transform(normal.begin(), normal.end(), omega.begin() + i * d_,
                     [](double value) { return static_cast<T>(value); });
    }
  }
  orthonormalise(d_, l, omega.data());
  const Rows<T> g{H.gradients().data(), H.rows(), d_, d_};
  const std::vector<T> c = project(g, omega.data(), l, d_, threads_);
  combine(g, 1 / static_cast<T>(H.rows()), c, l, T(0), omega.data(), d_, T(1), y.data(), d_,
          threads_);
  const T norm = std::sqrt(dot_product(y, y, threads_));
  require(std::isfinite(norm), function, "|A Omega|", norm, "finite");
  eigenvalues_.assign(at(l), T(0));
  if (norm == 0) {  // no gradient: P = I
    vectors_ = std::move(omega);
    return;
  }
  const std::vector<T> core = project(Rows<T>{omega.data(), l, d_, d_}, y.data(), l, d_, threads_);
  std::vector<T> factor;
  for (shift_ = std::nextafter(norm, std::numeric_limits<T>::infinity()) - norm;; shift_ *= 10) {
    factor = core;
    for (Size i = 0; i < l; ++i) factor[at(i * l + i)] += shift_;
    if (potrf(l, factor.data()) == 0) break;
    if (shift_ > norm) throw Error("halfulp::" + std::string(function) + ": no Cholesky factor");
  }
  for (std::size_t j = 0; j < y.size(); ++j) y[j] += shift_ * omega[j];
  divide_by_factor(d_, l, factor.data(), y.data());
  if (left_singular_vectors(d_, l, y.data(), eigenvalues_.data()) != 0)
    throw Error("halfulp::" + std::string(function) + ": no singular values found");
  for (T& value : eigenvalues_) value = std::max(T(0), value * value - shift_);
  vectors_ = std::move(y);
}

template <class T>
void NystromPreconditioner<T>::apply(std::span<const T> x, std::span<T> y) const {
  constexpr const char* function = "mfac::baseline::NystromPreconditioner::apply";
  require_size(function, "x", std::ssize(x), d_);
  require_size(function, "y", std::ssize(y), d_);
  require_finite<T>(function, "x", x);
  apply_unchecked(x, y);
}

template <class T>
void NystromPreconditioner<T>::apply_unchecked(std::span<const T> x, std::span<T> y) const {
  const OneBlasThread one;
  const Rows<T> u{vectors_.data(), std::ssize(eigenvalues_), d_, d_};
  std::vector<T> c = project(u, x.data(), 1, d_, threads_);
  const T last = eigenvalues_.back() + damping_;
  for (std::size_t j = 0; j < c.size(); ++j) c[j] *= last / (eigenvalues_[j] + damping_) - 1;
  combine(u, T(1), c, 1, T(1), x.data(), d_, T(1), y.data(), d_, threads_);
}

// ---- LiSSA --------------------------------------------------------------------------------------

template <class T>
LissaResult lissa(const Operator<T>& H, std::span<const T> x, std::span<T> y,
                  const LissaOptions& options) {
  constexpr const char* function = "mfac::baseline::lissa";
  const Size d = H.dimension(), m = H.rows(), batch = options.batch;
  const int threads = H.threads();
  require_size(function, "x", std::ssize(x), d);
  require_size(function, "y", std::ssize(y), d);
  require_finite<T>(function, "x", x);
  require(options.scale >= 0 && std::isfinite(options.scale), function, "scale", options.scale,
          ">= 0 and finite");
  require(options.depth >= 1, function, "depth", options.depth, ">= 1");
  require(options.repeats >= 1 && options.repeats <= Size{0xffffffff}, function, "repeats",
          options.repeats, "in 1 ... 2^32 - 1");
  require(batch >= 1, function, "batch", batch, ">= 1");
  const OneBlasThread one;
  const T* const g = H.gradients().data();
  LissaResult result;
  result.scale = options.scale;
  if (result.scale == 0) {
    const std::vector<T> squares =
        sum_over_columns<T>(d, m, threads, most_parts, [&](Size begin, Size end, T* sum) {
          for (Size i = 0; i < m; ++i)
            sum[i] += dot(end - begin, g + i * d + begin, g + i * d + begin);
        });
    result.scale =
        static_cast<double>(H.damping() + *std::max_element(squares.begin(), squares.end()));
  }
  const T scale = static_cast<T>(result.scale);
  const std::vector<T> right(x.begin(), x.end());

  constexpr Size side_by_side = 16, steps = 256;
  std::vector<std::vector<T>> vectors;  // of the repeats under way
  const auto step = [&](Size repeat, Size number, std::vector<T>& v, int inner) {
    const RandomStream random(options.seed, static_cast<std::uint32_t>(repeat));
    std::vector<const T*> rows;
    for (Size b = 0; b < batch; ++b)
      rows.push_back(
          g + d * static_cast<Size>(random.below(static_cast<std::uint64_t>(number * batch + b),
                                                 static_cast<std::uint64_t>(m))));
    std::vector<T> c =
        sum_over_columns<T>(d, batch, inner, most_parts, [&](Size begin, Size end, T* sum) {
          for (Size b = 0; b < batch; ++b)
            sum[b] += dot(end - begin, rows[at(b)] + begin, v.data() + begin);
        });
    for (T& value : c) value /= static_cast<T>(batch);
    parallel_blocks(d, piece, inner, [&](Size begin, Size end) {
      std::array<T, piece> hv;
      for (Size j = begin; j < end; ++j) hv[at(j - begin)] = H.damping() * v[at(j)];
      for (Size b = 0; b < batch; ++b) {
        const T factor = c[at(b)];
        const T* const row = rows[at(b)];
        for (Size j = begin; j < end; ++j) hv[at(j - begin)] += factor * row[j];
      }
      for (Size j = begin; j < end; ++j)
        v[at(j)] = right[at(j)] + (v[at(j)] - hv[at(j - begin)] / scale);
    });
  };
  const auto note = [&](const std::vector<T>& v, int inner) {
    result.norms.push_back(static_cast<double>(std::sqrt(dot_product(v, v, inner)) / scale));
  };

  double squares = 0;  // of differences from the mean, by the formulas of Welford
  std::vector<double> mean(at(d));
  for (Size first = 0; first < options.repeats; first += side_by_side) {
    const Size count = std::min(side_by_side, options.repeats - first);
    vectors.assign(at(count), right);
    if (first == 0) note(right, threads);
    for (Size from = 0; from < options.depth; from += steps) {
      const Size to = std::min(from + steps, options.depth);
      report_progress(
          options.progress,
          (static_cast<double>(first) + static_cast<double>(count) * static_cast<double>(from) /
                                            static_cast<double>(options.depth)) /
              static_cast<double>(options.repeats),
          "steps", function);
      const auto advance = [&](Size r, int inner) {
        for (Size number = from; number < to; ++number) {
          step(first + r, number, vectors[at(r)], inner);
          if (first + r == 0) note(vectors[0], inner);
        }
      };
      if (count == 1)
        advance(0, threads);
      else
        parallel_for(count, threads, [&](Size r) { advance(r, 1); });
      for (const std::vector<T>& v : vectors)
        if (!all_finite<T>(v)) {
          std::fill(y.begin(), y.end(), std::numeric_limits<T>::quiet_NaN());
          result.status = Status::not_finite;
          return result;
        }
    }
    for (Size r = 0; r < count; ++r)
      for (Size j = 0; j < d; ++j) {
        const double value = static_cast<double>(vectors[at(r)][at(j)] / scale);
        const double before = value - mean[at(j)];
        mean[at(j)] += before / static_cast<double>(first + r + 1);
        squares += before * (value - mean[at(j)]);
      }
  }
  for (Size j = 0; j < d; ++j) y[at(j)] = static_cast<T>(mean[at(j)]);
  const auto repeats = static_cast<double>(options.repeats);
  if (options.repeats > 1) result.deviation = std::sqrt(squares / (repeats - 1) / repeats);
  return result;
}

// ---- DataInf ------------------------------------------------------------------------------------

template <class T>
void datainf(const Operator<T>& H, std::span<const T> x, std::span<T> y,
             const DataInfOptions& options) {
  constexpr const char* function = "mfac::baseline::datainf";
  const Size d = H.dimension(), m = H.rows();
  require_size(function, "x", std::ssize(x), d);
  require_size(function, "y", std::ssize(y), d);
  require_finite<T>(function, "x", x);
  std::vector<Size> layers(options.layers.begin(), options.layers.end());
  if (layers.empty()) layers.push_back(d);
  Size left = d;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    require(layers[l] >= 1, function, "layers[" + std::to_string(l) + ']', layers[l], ">= 1");
    if (layers[l] > left)
      throw ShapeError(function, "sum of layers", "more than " + std::to_string(d),
                       std::to_string(d));
    left -= layers[l];
  }
  require_size(function, "layers: coordinates", d - left, d);
  const OneBlasThread one;
  const T* const g = H.gradients().data();
  const auto sums_of = [&](Size from, Size n) {  // g_i . x, then |g_i|^2
    return sum_over_columns<T>(n, 2 * m, H.threads(), most_parts,
                               [&](Size begin, Size end, T* sums) {
                                 const T* const part = g + from + begin;
                                 gemv(m, end - begin, part, d, x.data() + from + begin, sums);
                                 for (Size i = 0; i < m; ++i)
                                   sums[m + i] += dot(end - begin, part + i * d, part + i * d);
                               });
  };
  std::vector<std::vector<T>> sums;  // all of them first: y may be x
  Size from = 0;
  std::vector<T> damping(layers.size(), H.damping());
  for (std::size_t l = 0; l < layers.size(); ++l) {
    sums.push_back(sums_of(from, layers[l]));
    from += layers[l];
    if (!options.authors_damping) continue;
    T mean = 0;
    for (Size i = 0; i < m; ++i) mean += sums[l][at(m + i)];
    damping[l] = T(0.1) * (mean / static_cast<T>(m) / static_cast<T>(layers[l]));
    require(damping[l] > 0, function, "gradient of layers[" + std::to_string(l) + ']', damping[l],
            "> 0, for its damping");
  }
  from = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::vector<T>& c = sums[l];
    for (Size i = 0; i < m; ++i) c[at(i)] /= damping[l] + c[at(m + i)];
    combine(Rows<T>{g + from, m, layers[l], d}, -1 / static_cast<T>(m), c, 1, T(1), x.data() + from,
            d, 1 / damping[l], y.data() + from, d, H.threads());
    from += layers[l];
  }
}

// ---- L-BFGS -------------------------------------------------------------------------------------

template <class T>
CompactLbfgs<T>::CompactLbfgs(std::span<const T> s, std::span<const T> z, Size d, T gamma,
                              int threads)
    : d_(d), threads_(thread_count(threads)), s_(s.begin(), s.end()), z_(z.begin(), z.end()) {
  prepare(gamma);
}

template <class T>
CompactLbfgs<T>::CompactLbfgs(const Operator<T>& H, std::span<const T> s, T gamma)
    : d_(H.dimension()), threads_(H.threads()), s_(s.begin(), s.end()), z_(s.size()) {
  H.product(s_, z_);
  prepare(gamma);
}

template <class T>
void CompactLbfgs<T>::prepare(T gamma) {
  constexpr const char* function = "mfac::baseline::CompactLbfgs";
  constexpr Size largest = std::numeric_limits<int>::max();
  require(d_ >= 1 && d_ <= largest, function, "d", d_, "in 1 ... 2^31 - 1");
  p_ = std::ssize(s_) / d_;
  if (p_ * d_ != std::ssize(s_))
    throw ShapeError(function, "s.size()", std::to_string(s_.size()),
                     "a multiple of " + std::to_string(d_));
  require_size(function, "z", std::ssize(z_), std::ssize(s_));
  require(p_ >= 1 && p_ <= largest, function, "s.size()/d", p_, "in 1 ... 2^31 - 1");
  require(gamma >= 0 && std::isfinite(gamma), function, "gamma", gamma, ">= 0 and finite");
  check_rows<T>(function, "s", s_, d_);
  check_rows<T>(function, "z", z_, d_);
  const OneBlasThread one;
  const Rows<T> z{z_.data(), p_, d_, d_};
  r_ = project(z, s_.data(), p_, d_, threads_);
  middle_ = gram_matrix(z, threads_);
  for (Size i = 0; i < p_; ++i) {
    const T product = r_[at(i * p_ + i)];
    require(product > 0 && std::isfinite(product), function, "s . z of pair " + std::to_string(i),
            product, "> 0 and finite");
  }
  gamma_ = gamma > 0 ? gamma : r_.back() / middle_.back();
  for (T& value : middle_) value *= gamma_;
  for (Size i = 0; i < p_; ++i) middle_[at(i * p_ + i)] += r_[at(i * p_ + i)];
}

template <class T>
void CompactLbfgs<T>::product(std::span<const T> x, std::span<T> y) const {
  const Size k = vectors_in("mfac::baseline::CompactLbfgs::product", x, y, d_);
  const OneBlasThread one;
  const Rows<T> s{s_.data(), p_, d_, d_}, z{z_.data(), p_, d_, d_};
  each_group(k, [&](Size first, Size count) {
    const T* const from = x.data() + first * d_;
    T* const to = y.data() + first * d_;
    std::vector<T> a = project(s, from, count, d_, threads_);
    std::vector<T> b = project(z, from, count, d_, threads_);
    for (Size v = 0; v < count; ++v) {
      // t = R^-1 S^T x;  a = R^-T ((E + gamma Z^T Z) t - gamma Z^T x),  b = -t
      T* const a_v = a.data() + v * p_;
      T* const b_v = b.data() + v * p_;
      solve_upper(p_, r_.data(), false, a_v);
      const std::vector<T> t(a_v, a_v + p_);
      for (Size i = 0; i < p_; ++i) a_v[i] = -gamma_ * b_v[i];
      gemv(p_, p_, middle_.data(), p_, t.data(), a_v);
      solve_upper(p_, r_.data(), true, a_v);
      std::copy(t.begin(), t.end(), b_v);
    }
    combine(s, T(1), a, count, gamma_, from, d_, T(1), to, d_, threads_);
    combine(z, -gamma_, b, count, T(1), to, d_, T(1), to, d_, threads_);
  });
}

template class Operator<float>;
template class Operator<double>;
template class Recursion<float>;
template class Recursion<double>;
template class Dynamic<float>;
template class Dynamic<double>;
template class Woodbury<float>;
template class Woodbury<double>;
template class NystromPreconditioner<float>;
template class CompactLbfgs<float>;
template Trace conjugate_gradients(const Operator<float>&, std::span<const float>, std::span<float>,
                                   const IterationOptions&);
template Trace conjugate_gradients(const Operator<float>&, const NystromPreconditioner<float>&,
                                   std::span<const float>, std::span<float>,
                                   const IterationOptions&);
template LissaResult lissa(const Operator<float>&, std::span<const float>, std::span<float>,
                           const LissaOptions&);
template void datainf(const Operator<float>&, std::span<const float>, std::span<float>,
                      const DataInfOptions&);
template class NystromPreconditioner<double>;
template class CompactLbfgs<double>;
template Trace conjugate_gradients(const Operator<double>&, std::span<const double>,
                                   std::span<double>, const IterationOptions&);
template Trace conjugate_gradients(const Operator<double>&, const NystromPreconditioner<double>&,
                                   std::span<const double>, std::span<double>,
                                   const IterationOptions&);
template LissaResult lissa(const Operator<double>&, std::span<const double>, std::span<double>,
                           const LissaOptions&);
template void datainf(const Operator<double>&, std::span<const double>, std::span<double>,
                      const DataInfOptions&);

}  // namespace halfulp::mfac::baseline
