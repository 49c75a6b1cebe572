#include "detail/dd_linalg.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "dd_linalg.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<double>;
using V = hn::Vec<D>;

// Sum and product without rounding error, lane by lane.
HWY_INLINE void add_exact(V a, V b, V& s, V& e) {
  s = hn::Add(a, b);
  const V t = hn::Sub(s, a);
  e = hn::Add(hn::Sub(a, hn::Sub(s, t)), hn::Sub(b, t));
}
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    HWY_ARCH_ARM_A64
HWY_INLINE V product_error(V a, V b, V p) { return hn::MulSub(a, b, p); }
#else
// Dekker: no fused multiply-add on this target.
HWY_INLINE V product_error(V a, V b, V p) {
  const D d;
  const V split = hn::Set(d, 134217729.0);
  const V ta = hn::Mul(split, a), tb = hn::Mul(split, b);
  const V ah = hn::Sub(ta, hn::Sub(ta, a)), bh = hn::Sub(tb, hn::Sub(tb, b));
  const V al = hn::Sub(a, ah), bl = hn::Sub(b, bh);
  V e = hn::Sub(hn::Mul(ah, bh), p);
  e = hn::Add(e, hn::Mul(ah, bl));
  e = hn::Add(e, hn::Mul(al, bh));
  return hn::Add(e, hn::Mul(al, bl));
}
#endif

// (s, c) += (ah + al)(bh + bl). s is never renormalised while accumulating: c collects the errors,
// each <= u times a term, so the sum of n terms is good to about n u^2 of the sum of magnitudes.
HWY_INLINE void fma_dd(V ah, V al, V bh, V bl, V& s, V& c) {
  const V p = hn::Mul(ah, bh);
  V e = product_error(ah, bh, p);
  e = hn::MulAdd(ah, bl, e);
  e = hn::MulAdd(al, bh, e);
  V t, f;
  add_exact(s, p, t, f);
  s = t;
  c = hn::Add(c, hn::Add(f, e));
}
HWY_INLINE void renormalise(V& s, V& c) {
  V h, l;
  add_exact(s, c, h, l);
  s = h;
  c = l;
}

void dot(std::ptrdiff_t n, const double* xh, const double* xl, const double* yh, const double* yl,
         double* out) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  V s0 = hn::Zero(d), c0 = s0, s1 = s0, c1 = s0;
  std::ptrdiff_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    fma_dd(hn::LoadU(d, xh + i), hn::LoadU(d, xl + i), hn::LoadU(d, yh + i), hn::LoadU(d, yl + i),
           s0, c0);
    fma_dd(hn::LoadU(d, xh + i + lanes), hn::LoadU(d, xl + i + lanes), hn::LoadU(d, yh + i + lanes),
           hn::LoadU(d, yl + i + lanes), s1, c1);
  }
  HWY_ALIGN double buffer[4][HWY_MAX_BYTES / sizeof(double)];
  hn::Store(s0, d, buffer[0]);
  hn::Store(c0, d, buffer[1]);
  hn::Store(s1, d, buffer[2]);
  hn::Store(c1, d, buffer[3]);
  dd sum = 0.0;
  for (std::ptrdiff_t k = 0; k < lanes; ++k)
    sum += (dd(buffer[0][k]) + buffer[1][k]) + (dd(buffer[2][k]) + buffer[3][k]);
  for (; i < n; ++i) sum += dd(xh[i], xl[i]) * dd(yh[i], yl[i]);
  out[0] = sum.hi;
  out[1] = sum.lo;
}

void axpy(std::ptrdiff_t n, double alpha_hi, double alpha_lo, const double* xh, const double* xl,
          double* yh, double* yl) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V ah = hn::Set(d, alpha_hi), al = hn::Set(d, alpha_lo);
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    V s = hn::LoadU(d, yh + i), c = hn::LoadU(d, yl + i);
    fma_dd(ah, al, hn::LoadU(d, xh + i), hn::LoadU(d, xl + i), s, c);
    renormalise(s, c);
    hn::StoreU(s, d, yh + i);
    hn::StoreU(c, d, yl + i);
  }
  for (; i < n; ++i) {
    const dd y = dd(yh[i], yl[i]) + dd(alpha_hi, alpha_lo) * dd(xh[i], xl[i]);
    yh[i] = y.hi;
    yl[i] = y.lo;
  }
}

// Four columns of C at a time, one vector of rows: accumulators stay in registers over all of k.
void multiply_columns(std::ptrdiff_t m, std::ptrdiff_t k, const double* ah, const double* al,
                      const double* bh, const double* bl, double* ch, double* cl,
                      std::ptrdiff_t columns) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  std::ptrdiff_t j = 0;
  for (; j + 4 <= columns; j += 4) {
    std::ptrdiff_t i = 0;
    for (; i + lanes <= m; i += lanes) {
      V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, c0 = s0, c1 = s0, c2 = s0, c3 = s0;
      for (std::ptrdiff_t p = 0; p < k; ++p) {
        const V xh = hn::LoadU(d, ah + i + p * m), xl = hn::LoadU(d, al + i + p * m);
        const double *ph = bh + p + j * k, *pl = bl + p + j * k;
        fma_dd(xh, xl, hn::Set(d, ph[0]), hn::Set(d, pl[0]), s0, c0);
        fma_dd(xh, xl, hn::Set(d, ph[k]), hn::Set(d, pl[k]), s1, c1);
        fma_dd(xh, xl, hn::Set(d, ph[2 * k]), hn::Set(d, pl[2 * k]), s2, c2);
        fma_dd(xh, xl, hn::Set(d, ph[3 * k]), hn::Set(d, pl[3 * k]), s3, c3);
      }
      renormalise(s0, c0);
      renormalise(s1, c1);
      renormalise(s2, c2);
      renormalise(s3, c3);
      hn::StoreU(s0, d, ch + i + j * m);
      hn::StoreU(c0, d, cl + i + j * m);
      hn::StoreU(s1, d, ch + i + (j + 1) * m);
      hn::StoreU(c1, d, cl + i + (j + 1) * m);
      hn::StoreU(s2, d, ch + i + (j + 2) * m);
      hn::StoreU(c2, d, cl + i + (j + 2) * m);
      hn::StoreU(s3, d, ch + i + (j + 3) * m);
      hn::StoreU(c3, d, cl + i + (j + 3) * m);
    }
    for (; i < m; ++i)
      for (std::ptrdiff_t q = j; q < j + 4; ++q) {
        dd s = 0.0;
        for (std::ptrdiff_t p = 0; p < k; ++p)
          s += dd(ah[i + p * m], al[i + p * m]) * dd(bh[p + q * k], bl[p + q * k]);
        ch[i + q * m] = s.hi;
        cl[i + q * m] = s.lo;
      }
  }
  for (; j < columns; ++j) {
    std::ptrdiff_t i = 0;
    for (; i + lanes <= m; i += lanes) {
      V s = hn::Zero(d), c = s;
      for (std::ptrdiff_t p = 0; p < k; ++p)
        fma_dd(hn::LoadU(d, ah + i + p * m), hn::LoadU(d, al + i + p * m),
               hn::Set(d, bh[p + j * k]), hn::Set(d, bl[p + j * k]), s, c);
      renormalise(s, c);
      hn::StoreU(s, d, ch + i + j * m);
      hn::StoreU(c, d, cl + i + j * m);
    }
    for (; i < m; ++i) {
      dd s = 0.0;
      for (std::ptrdiff_t p = 0; p < k; ++p)
        s += dd(ah[i + p * m], al[i + p * m]) * dd(bh[p + j * k], bl[p + j * k]);
      ch[i + j * m] = s.hi;
      cl[i + j * m] = s.lo;
    }
  }
}

const char* target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace halfulp::detail {

namespace {
// Multiply-adds below which a team of threads costs more than it saves, on a machine that has other
// work to do as well.
constexpr std::ptrdiff_t worth_a_team = 4'000'000;
}  // namespace

HWY_EXPORT(dot);
HWY_EXPORT(axpy);
HWY_EXPORT(multiply_columns);
HWY_EXPORT(target);

const char* simd_target() { return HWY_DYNAMIC_DISPATCH(target)(); }

dd dot(std::ptrdiff_t n, const double* x_hi, const double* x_lo, const double* y_hi,
       const double* y_lo) {
  double out[2];
  HWY_DYNAMIC_DISPATCH(dot)(n, x_hi, x_lo, y_hi, y_lo, out);
  return {out[0], out[1]};
}

void axpy(std::ptrdiff_t n, dd alpha, const double* x_hi, const double* x_lo, double* y_hi,
          double* y_lo) {
  HWY_DYNAMIC_DISPATCH(axpy)(n, alpha.hi, alpha.lo, x_hi, x_lo, y_hi, y_lo);
}

void scale(std::ptrdiff_t n, dd alpha, double* x_hi, double* x_lo) {
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const dd x = dd(x_hi[i], x_lo[i]) * alpha;
    x_hi[i] = x.hi;
    x_lo[i] = x.lo;
  }
}

DdMatrix multiply(const DdMatrix& a, const DdMatrix& b, int threads) {
  DdMatrix c(a.rows(), b.cols());
  const std::ptrdiff_t n = b.cols(), width = 4, blocks = (n + width - 1) / width;
  const bool parallel = threads > 1 && a.rows() * a.cols() * n > worth_a_team;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (std::ptrdiff_t q = 0; q < blocks; ++q) {
    const std::ptrdiff_t j = q * width;
    HWY_DYNAMIC_DISPATCH(multiply_columns)
    (a.rows(), a.cols(), a.hi(0), a.lo(0), b.hi(j), b.lo(j), c.hi(j), c.lo(j),
     std::min(width, n - j));
  }
  return c;
}

DdMatrix transpose(const DdMatrix& a) {
  DdMatrix t(a.cols(), a.rows());
  for (std::ptrdiff_t j = 0; j < a.cols(); ++j)
    for (std::ptrdiff_t i = 0; i < a.rows(); ++i) t.set(j, i, a(i, j));
  return t;
}

DdMatrix multiply_transposed(const DdMatrix& a, const DdMatrix& b, int threads) {
  return multiply(transpose(a), b, threads);
}

PivotedQr pivoted_qr(DdMatrix a, double tolerance, std::ptrdiff_t max_rank, DdMatrix b,
                     int threads) {
  const std::ptrdiff_t m = a.rows(), n = a.cols();
  const std::ptrdiff_t limit = std::min({m, n, max_rank});
  std::vector<std::ptrdiff_t> order(n);  // order[k]: column of A at position k
  std::iota(order.begin(), order.end(), 0);
  std::vector<double> norm2(n);
  const bool parallel = threads > 1 && 3 * m * n > worth_a_team;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (std::ptrdiff_t j = 0; j < n; ++j) norm2[j] = dot(m, a.hi(j), a.lo(j), a.hi(j), a.lo(j)).hi;

  PivotedQr f;
  std::vector<std::vector<dd>> rows;  // rows[k][position]: R, then Q^T B appended
  double first = 0;
  std::ptrdiff_t rank = 0;
  for (; rank < limit; ++rank) {
    std::ptrdiff_t best = rank;
    for (std::ptrdiff_t p = rank; p < n; ++p)
      if (norm2[order[p]] > norm2[order[best]]) best = p;
    std::swap(order[rank], order[best]);
    for (auto& row : rows) std::swap(row[rank], row[best]);
    const std::ptrdiff_t c = order[rank];
    // Second orthogonalisation: MGS alone loses orthogonality as the pivots shrink.
    for (std::ptrdiff_t k = 0; k < rank; ++k) {
      const std::ptrdiff_t q = order[k];
      const dd s = dot(m, a.hi(q), a.lo(q), a.hi(c), a.lo(c));
      axpy(m, -s, a.hi(q), a.lo(q), a.hi(c), a.lo(c));
      rows[k][rank] += s;
    }
    const dd norm = sqrt(dot(m, a.hi(c), a.lo(c), a.hi(c), a.lo(c)));
    if (rank == 0) first = norm.hi;
    if (!(norm.hi > tolerance * first) || norm.hi == 0) break;
    f.smallest_pivot = norm.hi / first;
    scale(m, dd(1.0) / norm, a.hi(c), a.lo(c));
    std::vector<dd> row(n + b.cols());
    row[rank] = norm;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
    for (std::ptrdiff_t p = rank + 1; p < n; ++p) {
      const std::ptrdiff_t j = order[p];
      const dd s = dot(m, a.hi(c), a.lo(c), a.hi(j), a.lo(j));
      axpy(m, -s, a.hi(c), a.lo(c), a.hi(j), a.lo(j));
      row[p] = s;
      norm2[j] = dot(m, a.hi(j), a.lo(j), a.hi(j), a.lo(j)).hi;
    }
    for (std::ptrdiff_t j = 0; j < b.cols(); ++j) {
      const dd s = dot(m, a.hi(c), a.lo(c), b.hi(j), b.lo(j));
      axpy(m, -s, a.hi(c), a.lo(c), b.hi(j), b.lo(j));
      row[n + j] = s;
    }
    rows.push_back(std::move(row));
  }
  f.rank = rank;
  f.pivots.assign(order.begin(), order.begin() + rank);
  f.q = DdMatrix(m, rank);
  f.r = DdMatrix(rank, rank);
  f.qtb = DdMatrix(rank, b.cols());
  for (std::ptrdiff_t k = 0; k < rank; ++k) {
    std::copy_n(a.hi(order[k]), m, f.q.hi(k));
    std::copy_n(a.lo(order[k]), m, f.q.lo(k));
    for (std::ptrdiff_t p = k; p < rank; ++p) f.r.set(k, p, rows[k][p]);
    for (std::ptrdiff_t j = 0; j < b.cols(); ++j) f.qtb.set(k, j, rows[k][n + j]);
  }
  return f;
}

DdMatrix solve_right_upper(DdMatrix a, const DdMatrix& r, int threads) {
  // Columns are eliminated in panels of rows, so that threads never share a row.
  const std::ptrdiff_t m = a.rows(), n = r.cols(), panel = 64, panels = (m + panel - 1) / panel;
  const bool parallel = threads > 1 && m * n * n / 2 > worth_a_team;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (std::ptrdiff_t b = 0; b < panels; ++b) {
    const std::ptrdiff_t i = b * panel, size = std::min(panel, m - i);
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      for (std::ptrdiff_t k = 0; k < j; ++k)
        axpy(size, -r(k, j), a.hi(k) + i, a.lo(k) + i, a.hi(j) + i, a.lo(j) + i);
      scale(size, dd(1.0) / r(j, j), a.hi(j) + i, a.lo(j) + i);
    }
  }
  return a;
}

DdMatrix solve_upper(const DdMatrix& r, DdMatrix b) {
  for (std::ptrdiff_t c = 0; c < b.cols(); ++c)
    for (std::ptrdiff_t j = r.cols() - 1; j >= 0; --j) {
      const dd x = b(j, c) / r(j, j);
      b.set(j, c, x);
      axpy(j, -x, r.hi(j), r.lo(j), b.hi(c), b.lo(c));
    }
  return b;
}

void gauss_legendre_half(std::ptrdiff_t n, std::vector<dd>& nodes, std::vector<dd>& weights,
                         int threads) {
  const std::ptrdiff_t half = n / 2;
  nodes.assign(half, dd{});
  weights.assign(half, dd{});
  constexpr double pi = 3.14159265358979323846;
  // P_{k+1} = a_k x P_k - b_k P_{k-1} (DLMF 18.9.1), with the divisions done once.
  std::vector<dd> a(n), b(n);
  for (std::ptrdiff_t k = 1; k < n; ++k) {
    const auto next = static_cast<double>(k + 1);
    a[k] = dd(static_cast<double>(2 * k + 1)) / next;
    b[k] = dd(static_cast<double>(k)) / next;
  }
  const auto nn = static_cast<double>(n);
  const bool parallel = threads > 1 && n * n > worth_a_team / 4;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    // Tricomi's start, good to O(n^-4); Newton in double.
    const double theta = pi * (4.0 * static_cast<double>(half - i) - 1.0) / (4.0 * nn + 2.0);
    double x = (1.0 - (nn - 1.0) / (8.0 * nn * nn * nn)) * std::cos(theta);
    for (int it = 0; it < 5; ++it) {
      double p0 = 1, p1 = x;
      for (std::ptrdiff_t k = 1; k < n; ++k) {
        const double p2 = a[k].hi * x * p1 - b[k].hi * p0;
        p0 = p1;
        p1 = p2;
      }
      const double step = p1 * (1 - x * x) / (nn * (p0 - x * p1));
      x -= step;
      if (std::fabs(step) < 1e-12) break;  // the next step is below rounding
    }
    // One recurrence in double-double at this x; node and derivative follow from the Taylor series
    // about it, with the higher derivatives from Legendre's equation
    // (1 - x^2) P'' = 2 x P' - n (n + 1) P.
    dd p0 = 1.0, p1 = x;
    for (std::ptrdiff_t k = 1; k < n; ++k) {
      const dd p2 = a[k] * (p1 * x) - b[k] * p0;
      p0 = p1;
      p1 = p2;
    }
    const dd s = 1.0 - kernel::two_prod(x, x);
    const dd first = nn * (p0 - p1 * x) / s;
    const dd second = (2.0 * x * first - nn * (nn + 1) * p1) / s;
    const dd third = (4.0 * x * second - (nn * (nn + 1) - 2) * first) / s;
    dd step = -p1 / first;
    step -= step * step * second / (2.0 * first);
    const dd node = x + step;
    const dd derivative = first + step * (second + step * third * 0.5);
    nodes[i] = node;
    weights[i] = dd(2.0) / ((1.0 - node * node) * derivative * derivative);
  }
}

}  // namespace halfulp::detail

#endif  // HWY_ONCE
