#include "detail/sylvester.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "detail/blas_threads.hpp"
#include "detail/gmres.hpp"
#include "halfulp/error.hpp"

namespace halfulp::detail {
namespace {

using Matrix = std::vector<double>;  // column-major

Matrix product(bool transpose_a, bool transpose_b, int m, int n, int k, const Matrix& a,
               const Matrix& b) {
  Matrix c(static_cast<std::size_t>(m) * n);
  cblas_dgemm(CblasColMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1.0, a.data(), transpose_a ? k : m,
              b.data(), transpose_b ? n : k, 0.0, c.data(), m);
  return c;
}

double norm(const Matrix& v) {
  double largest = 0;
  for (const double x : v) largest = std::max(largest, std::fabs(x));
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  double sum = 0;
  for (const double x : v) sum += (x / largest) * (x / largest);
  return largest * std::sqrt(sum);
}

// M = Z T Z^T, T diagonal (symmetric M) or quasi-triangular.
struct Schur {
  int n = 0;
  bool symmetric = false;
  Matrix z, t;
  std::vector<std::complex<double>> eigenvalues;
};

Schur factor(const DdMatrix& matrix) {
  Schur s;
  s.n = static_cast<int>(matrix.rows());
  Matrix m = matrix.rounded();
  double largest = 0, skew = 0;
  for (int j = 0; j < s.n; ++j)
    for (int i = 0; i < s.n; ++i) {
      largest = std::max(largest, std::fabs(m[i + static_cast<std::size_t>(j) * s.n]));
      skew = std::max(skew, std::fabs((matrix(i, j) - matrix(j, i)).hi));
    }
  if (!std::isfinite(largest)) throw Error("halfulp::gp_pde: the operator's matrix is not finite");
  s.symmetric = skew <= 1e-20 * largest;
  s.eigenvalues.resize(s.n);
  int info = 0;
  if (s.symmetric) {
    std::vector<double> w(s.n);
    info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', s.n, m.data(), s.n, w.data());
    s.z = std::move(m);
    s.t.assign(static_cast<std::size_t>(s.n) * s.n, 0.0);
    for (int i = 0; i < s.n; ++i) {
      s.t[i + static_cast<std::size_t>(i) * s.n] = w[i];
      s.eigenvalues[i] = w[i];
    }
  } else {
    std::vector<double> re(s.n), im(s.n);
    s.z.resize(m.size());
    int dimension = 0;
    info = LAPACKE_dgees(LAPACK_COL_MAJOR, 'V', 'N', nullptr, s.n, m.data(), s.n, &dimension,
                         re.data(), im.data(), s.z.data(), s.n);
    s.t = std::move(m);
    for (int i = 0; i < s.n; ++i) s.eigenvalues[i] = {re[i], im[i]};
  }
  if (info != 0)
    throw Error("halfulp::gp_pde: the eigenvalue iteration of LAPACK did not converge");
  return s;
}

}  // namespace

struct SylvesterSolver::Impl {
  DdMatrix a, b_transposed, d, e_transposed;
  dd mixed = 0.0;
  std::vector<double> d_double, e_double;
  bool singular = false;
  int threads = 1;
  Schur left, right;
  double smallest = 0, largest = 0;
  int null_i = 0, null_j = 0;

  // T_A Y + Y T_B^T = C in the Schur bases, in double.
  void solve_triangular(Matrix& c) const {
    const int n = left.n, m = right.n;
    if (left.symmetric && right.symmetric) {
      for (int j = 0; j < m; ++j)
        for (int i = 0; i < n; ++i) {
          const double sum = left.eigenvalues[i].real() + right.eigenvalues[j].real();
          double& value = c[i + static_cast<std::size_t>(j) * n];
          value = singular && i == null_i && j == null_j ? 0.0 : value / sum;
        }
      return;
    }
    double scale = 1;
    LAPACKE_dtrsyl(LAPACK_COL_MAJOR, 'N', 'T', 1, n, m, left.t.data(), n, right.t.data(), m,
                   c.data(), n, &scale);
    if (scale != 1)
      for (double& v : c) v /= scale;
  }

  // The factored part's inverse in double.
  [[nodiscard]] Matrix precondition(const Matrix& r) const {
    const int n = left.n, m = right.n;
    Matrix c = product(false, false, n, m, m, product(true, false, n, m, n, left.z, r), right.z);
    solve_triangular(c);
    return product(false, true, n, m, m, product(false, false, n, m, n, left.z, c), right.z);
  }

  // Approximate inverse of everything: the mixed term by GMRES on the preconditioned variable.
  [[nodiscard]] Matrix correct(const Matrix& r) const {
    if (mixed.hi == 0) return precondition(r);
    const int n = left.n, m = right.n;
    return precondition(gmres(
        r,
        [&](const Matrix& y) {
          Matrix w = product(false, false, n, m, m,
                             product(false, false, n, m, n, d_double, precondition(y)), e_double);
          for (std::size_t i = 0; i < w.size(); ++i) w[i] = y[i] + mixed.hi * w[i];
          return w;
        },
        1e-8, 60));
  }

  // r - A x - x B^T - mixed D x E^T
  [[nodiscard]] DdMatrix residual(const DdMatrix& x, const DdMatrix& r) const {
    const DdMatrix ax = multiply(a, x, threads), xb = multiply(x, b_transposed, threads);
    DdMatrix cross, rest(r.rows(), r.cols());
    if (mixed.hi != 0) cross = multiply(multiply(d, x, threads), e_transposed, threads);
    for (std::ptrdiff_t k = 0; k < r.rows() * r.cols(); ++k) {
      dd v =
          dd(r.hi(0)[k], r.lo(0)[k]) - dd(ax.hi(0)[k], ax.lo(0)[k]) - dd(xb.hi(0)[k], xb.lo(0)[k]);
      if (mixed.hi != 0) v -= mixed * dd(cross.hi(0)[k], cross.lo(0)[k]);
      rest.hi(0)[k] = v.hi;
      rest.lo(0)[k] = v.lo;
    }
    return rest;
  }
};

SylvesterSolver::SylvesterSolver(DdMatrix a, DdMatrix b, Mixed mixed, bool singular, int threads) {
  const OneBlasThread one;
  auto impl = std::make_shared<Impl>();
  impl->left = factor(a);
  impl->right = factor(b);
  impl->a = std::move(a);
  impl->b_transposed = transpose(b);
  impl->mixed = mixed.factor;
  if (mixed.factor.hi != 0) {
    impl->e_transposed = transpose(mixed.e);
    impl->d_double = mixed.d.rounded();
    impl->e_double = impl->e_transposed.rounded();
    impl->d = std::move(mixed.d);
  }
  impl->singular = singular;
  impl->threads = threads;
  if (singular && !(impl->left.symmetric && impl->right.symmetric && mixed.factor.hi == 0))
    throw Error(
        "halfulp::gp_pde: the solution is determined up to a constant only, which is solved for "
        "self-adjoint operators without mixed derivatives; give a condition on u on some side");
  impl->smallest = std::numeric_limits<double>::infinity();
  double null = std::numeric_limits<double>::infinity();
  if (singular)
    for (int j = 0; j < impl->right.n; ++j)
      for (int i = 0; i < impl->left.n; ++i) {
        const double size = std::abs(impl->left.eigenvalues[i] + impl->right.eigenvalues[j]);
        if (size < null) {
          null = size;
          impl->null_i = i;
          impl->null_j = j;
        }
      }
  for (int j = 0; j < impl->right.n; ++j)
    for (int i = 0; i < impl->left.n; ++i) {
      if (singular && i == impl->null_i && j == impl->null_j) continue;
      const double size = std::abs(impl->left.eigenvalues[i] + impl->right.eigenvalues[j]);
      impl->smallest = std::min(impl->smallest, size);
      impl->largest = std::max(impl->largest, size);
    }
  impl_ = std::move(impl);
}

double SylvesterSolver::condition() const {
  return impl_->smallest > 0 ? impl_->largest / impl_->smallest
                             : std::numeric_limits<double>::infinity();
}
double SylvesterSolver::smallest_eigenvalue() const { return impl_->smallest; }

std::vector<double> SylvesterSolver::precondition(const std::vector<double>& r) const {
  return impl_->precondition(r);
}

DdMatrix SylvesterSolver::residual(const DdMatrix& x, const DdMatrix& r) const {
  return impl_->residual(x, r);
}

SylvesterSolver::Result SylvesterSolver::solve(const DdMatrix& r) const {
  const OneBlasThread one;
  const Impl& s = *impl_;
  const std::ptrdiff_t n = r.rows(), m = r.cols(), size = n * m;
  Result result;
  result.x = DdMatrix(n, m);
  DdMatrix residual = r;
  const double scale = norm(r.rounded());
  if (!(scale > 0)) return result;
  double last = 0;
  constexpr int most_rounds = 12;
  for (result.rounds = 1; result.rounds <= most_rounds; ++result.rounds) {
    const Matrix correction = s.correct(residual.rounded());
    for (std::ptrdiff_t k = 0; k < size; ++k) {
      const dd x = dd(result.x.hi(0)[k], result.x.lo(0)[k]) + correction[k];
      result.x.hi(0)[k] = x.hi;
      result.x.lo(0)[k] = x.lo;
    }
    // Corrections shrink geometrically: the next one is foreseen from the last two, and the
    // residual that it would need is not formed when it is too small to matter.
    const double change = norm(correction), x_norm = norm(result.x.rounded());
    if (!std::isfinite(change)) break;
    if (result.rounds > 1) {
      result.last_correction = change / x_norm;
      result.next_correction = result.last_correction * (change / last);
      if (change * (change / last) <= 1e-19 * x_norm || !(change < 0.5 * last)) break;
    }
    last = change;
    residual = s.residual(result.x, r);
  }
  return result;
}

}  // namespace halfulp::detail
