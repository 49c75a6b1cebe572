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
#if HWY_NATIVE_FMA
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

// sum x_i^2 in double
double square_sum(std::ptrdiff_t n, const double* x) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  V s0 = hn::Zero(d), s1 = s0;
  std::ptrdiff_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const V a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    s0 = hn::Add(s0, hn::Mul(a, a));
    s1 = hn::Add(s1, hn::Mul(b, b));
  }
  HWY_ALIGN double buffer[HWY_MAX_BYTES / sizeof(double)];
  hn::Store(hn::Add(s0, s1), d, buffer);
  double sum = 0;
  for (std::ptrdiff_t k = 0; k < lanes; ++k) sum += buffer[k];
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
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

void scale(std::ptrdiff_t n, double alpha_hi, double alpha_lo, double* xh, double* xl) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V ah = hn::Set(d, alpha_hi), al = hn::Set(d, alpha_lo);
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    V s = hn::Zero(d), c = s;
    fma_dd(ah, al, hn::LoadU(d, xh + i), hn::LoadU(d, xl + i), s, c);
    renormalise(s, c);
    hn::StoreU(s, d, xh + i);
    hn::StoreU(c, d, xl + i);
  }
  for (; i < n; ++i) {
    const dd x = dd(xh[i], xl[i]) * dd(alpha_hi, alpha_lo);
    xh[i] = x.hi;
    xl[i] = x.lo;
  }
}

// (c, s) <- (c uc - s us, s uc + c us), entry by entry; each array is hi, then lo.
void rotate(std::ptrdiff_t n, const double* us, const double* uc, double* s, double* c) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V ush = hn::LoadU(d, us + i), usl = hn::LoadU(d, us + n + i);
    const V uch = hn::LoadU(d, uc + i), ucl = hn::LoadU(d, uc + n + i);
    const V sh = hn::LoadU(d, s + i), sl = hn::LoadU(d, s + n + i);
    const V ch = hn::LoadU(d, c + i), cl = hn::LoadU(d, c + n + i);
    V sum = hn::Zero(d), rest = hn::Zero(d);
    fma_dd(sh, sl, uch, ucl, sum, rest);
    fma_dd(ch, cl, ush, usl, sum, rest);
    renormalise(sum, rest);
    hn::StoreU(sum, d, s + i);
    hn::StoreU(rest, d, s + n + i);
    sum = rest = hn::Zero(d);
    fma_dd(ch, cl, uch, ucl, sum, rest);
    fma_dd(hn::Neg(sh), hn::Neg(sl), ush, usl, sum, rest);
    renormalise(sum, rest);
    hn::StoreU(sum, d, c + i);
    hn::StoreU(rest, d, c + n + i);
  }
  for (; i < n; ++i) {
    const dd si(s[i], s[n + i]), ci(c[i], c[n + i]), u(us[i], us[n + i]), v(uc[i], uc[n + i]);
    const dd next = si * v + ci * u, other = ci * v - si * u;
    s[i] = next.hi;
    s[n + i] = next.lo;
    c[i] = other.hi;
    c[n + i] = other.lo;
  }
}

// rows x n block of C = A B, with A(i, p) at a[i * row_step + p * step]. A is packed first, one
// vector of rows after the other, so that it streams whatever its layout; then four columns of C at
// a time keep their accumulators in registers over all of k.
void multiply_rows(std::ptrdiff_t rows, std::ptrdiff_t k, std::ptrdiff_t n, const double* ah,
                   const double* al, std::ptrdiff_t row_step, std::ptrdiff_t step, const double* bh,
                   const double* bl, double* ch, double* cl, std::ptrdiff_t ldc, double* packed) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  if (row_step == 1 && n < 4 && rows >= 4 * lanes) {
    // Of few columns packing costs more than it saves; four strips hide the latency of the sums.
    const std::ptrdiff_t done = rows / (4 * lanes) * (4 * lanes);
    for (std::ptrdiff_t j = 0; j < n; ++j)
      for (std::ptrdiff_t i = 0; i < done; i += 4 * lanes) {
        V s[4], c[4];
        for (int q = 0; q < 4; ++q) s[q] = c[q] = hn::Zero(d);
        for (std::ptrdiff_t p = 0; p < k; ++p) {
          const V yh = hn::Set(d, bh[p + j * k]), yl = hn::Set(d, bl[p + j * k]);
          const double *xh = ah + i + p * step, *xl = al + i + p * step;
          for (int q = 0; q < 4; ++q)
            fma_dd(hn::LoadU(d, xh + q * lanes), hn::LoadU(d, xl + q * lanes), yh, yl, s[q], c[q]);
        }
        for (int q = 0; q < 4; ++q) {
          renormalise(s[q], c[q]);
          hn::StoreU(s[q], d, ch + i + q * lanes + j * ldc);
          hn::StoreU(c[q], d, cl + i + q * lanes + j * ldc);
        }
      }
    if (done == rows) return;
    rows -= done;
    ah += done;
    al += done;
    ch += done;
    cl += done;
  }
  const std::ptrdiff_t strips = (rows + lanes - 1) / lanes;
  for (std::ptrdiff_t s = 0; s < strips; ++s) {
    double* out = packed + s * k * 2 * lanes;
    for (std::ptrdiff_t p = 0; p < k; ++p, out += 2 * lanes)
      for (std::ptrdiff_t l = 0; l < lanes; ++l) {
        const std::ptrdiff_t i = s * lanes + l;
        out[l] = i < rows ? ah[i * row_step + p * step] : 0.0;
        out[lanes + l] = i < rows ? al[i * row_step + p * step] : 0.0;
      }
  }
  const auto store = [&](V s, V c, std::ptrdiff_t i, std::ptrdiff_t j) {
    renormalise(s, c);
    if (i + lanes <= rows) {
      hn::StoreU(s, d, ch + i + j * ldc);
      hn::StoreU(c, d, cl + i + j * ldc);
      return;
    }
    HWY_ALIGN double buffer[2][HWY_MAX_BYTES / sizeof(double)];
    hn::Store(s, d, buffer[0]);
    hn::Store(c, d, buffer[1]);
    for (std::ptrdiff_t l = 0; i + l < rows; ++l) {
      ch[i + l + j * ldc] = buffer[0][l];
      cl[i + l + j * ldc] = buffer[1][l];
    }
  };
  std::ptrdiff_t j = 0;
  for (; j + 4 <= n; j += 4)
    for (std::ptrdiff_t s = 0; s < strips; ++s) {
      const double* in = packed + s * k * 2 * lanes;
      V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, c0 = s0, c1 = s0, c2 = s0, c3 = s0;
      const double *ph = bh + j * k, *pl = bl + j * k;
      for (std::ptrdiff_t p = 0; p < k; ++p, in += 2 * lanes, ++ph, ++pl) {
        const V xh = hn::LoadU(d, in), xl = hn::LoadU(d, in + lanes);
        fma_dd(xh, xl, hn::Set(d, ph[0]), hn::Set(d, pl[0]), s0, c0);
        fma_dd(xh, xl, hn::Set(d, ph[k]), hn::Set(d, pl[k]), s1, c1);
        fma_dd(xh, xl, hn::Set(d, ph[2 * k]), hn::Set(d, pl[2 * k]), s2, c2);
        fma_dd(xh, xl, hn::Set(d, ph[3 * k]), hn::Set(d, pl[3 * k]), s3, c3);
      }
      store(s0, c0, s * lanes, j);
      store(s1, c1, s * lanes, j + 1);
      store(s2, c2, s * lanes, j + 2);
      store(s3, c3, s * lanes, j + 3);
    }
  for (; j < n; ++j)
    for (std::ptrdiff_t s = 0; s < strips; ++s) {
      const double* in = packed + s * k * 2 * lanes;
      V sum = hn::Zero(d), c = sum;
      for (std::ptrdiff_t p = 0; p < k; ++p, in += 2 * lanes)
        fma_dd(hn::LoadU(d, in), hn::LoadU(d, in + lanes), hn::Set(d, bh[p + j * k]),
               hn::Set(d, bl[p + j * k]), sum, c);
      store(sum, c, s * lanes, j);
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
HWY_EXPORT(square_sum);
HWY_EXPORT(axpy);
HWY_EXPORT(multiply_rows);
HWY_EXPORT(rotate);
HWY_EXPORT(scale);
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

void rotate(std::ptrdiff_t n, const double* unit_sin, const double* unit_cos, double* sine,
            double* cosine) {
  HWY_DYNAMIC_DISPATCH(rotate)(n, unit_sin, unit_cos, sine, cosine);
}

void scale(std::ptrdiff_t n, dd alpha, double* x_hi, double* x_lo) {
  HWY_DYNAMIC_DISPATCH(scale)(n, alpha.hi, alpha.lo, x_hi, x_lo);
}

namespace {

// A B for A of `rows` rows given by its steps. Threads share the rows in blocks; an entry is always
// one sum in one order.
DdMatrix product(std::ptrdiff_t rows, const DdMatrix& a, std::ptrdiff_t row_step,
                 std::ptrdiff_t step, const DdMatrix& b, int threads) {
  const std::ptrdiff_t k = b.rows(), n = b.cols();
  DdMatrix c(rows, n);
  if (rows == 0 || n == 0 || k == 0) return c;
  constexpr std::ptrdiff_t block = 32;
  const std::ptrdiff_t blocks = (rows + block - 1) / block;
  const bool parallel = threads > 1 && rows * k * n > worth_a_team;
#pragma omp parallel num_threads(threads) if (parallel)
  {
    std::vector<double> packed(2 * k * block);
#pragma omp for schedule(static)
    for (std::ptrdiff_t q = 0; q < blocks; ++q) {
      const std::ptrdiff_t i = q * block;
      HWY_DYNAMIC_DISPATCH(multiply_rows)
      (std::min(block, rows - i), k, n, a.hi(0) + i * row_step, a.lo(0) + i * row_step, row_step,
       step, b.hi(0), b.lo(0), c.hi(0) + i, c.lo(0) + i, rows, packed.data());
    }
  }
  return c;
}

}  // namespace

DdMatrix multiply(const DdMatrix& a, const DdMatrix& b, int threads) {
  return product(a.rows(), a, 1, a.rows(), b, threads);
}

DdMatrix multiply_transposed(const DdMatrix& a, const DdMatrix& b, int threads) {
  return product(a.cols(), a, a.rows(), 1, b, threads);
}

DdMatrix transpose(const DdMatrix& a) {
  DdMatrix t(a.cols(), a.rows());
  for (std::ptrdiff_t j = 0; j < a.cols(); ++j)
    for (std::ptrdiff_t i = 0; i < a.rows(); ++i) t.set(j, i, a(i, j));
  return t;
}

namespace {

// Makes nearly orthonormal columns orthonormal: with Q^T Q = I + E and T = triu(E) less half its
// diagonal, Q - Q T is orthonormal to O(E^2) and R + T R keeps the product, and the triangle.
void polish(DdMatrix& q, DdMatrix& r, int threads) {
  const std::ptrdiff_t m = q.rows(), n = q.cols();
  for (int round = 0; round < 6; ++round) {
    DdMatrix t = multiply_transposed(q, q, threads);
    double off = 0;
    for (std::ptrdiff_t j = 0; j < n; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        const dd e = i < j ? t(i, j) : i == j ? (t(i, j) - 1.0) * 0.5 : dd(0.0);
        off = std::max(off, std::fabs(e.hi));
        t.set(i, j, e);
      }
    const DdMatrix change = multiply(q, t, threads), above = multiply(t, r, threads);
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      for (std::ptrdiff_t i = 0; i < m; ++i) q.set(i, j, q(i, j) - change(i, j));
      for (std::ptrdiff_t i = 0; i <= j; ++i) r.set(i, j, r(i, j) + above(i, j));
    }
    if (static_cast<double>(n) * off * off < 1e-30) return;
  }
}

}  // namespace

PivotedQr pivoted_qr(DdMatrix a, double tolerance, std::ptrdiff_t max_rank, int threads) {
  const std::ptrdiff_t m = a.rows(), n = a.cols();
  const std::ptrdiff_t limit = std::min({m, n, max_rank});
  std::vector<std::ptrdiff_t> order(n);  // order[k]: column of A at position k
  std::iota(order.begin(), order.end(), 0);
  // Norms only choose the pivot: double is enough, taken afresh of what is left of each column.
  std::vector<double> norm2(n);
  const bool parallel = threads > 1 && 2 * m * n > worth_a_team;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
  for (std::ptrdiff_t j = 0; j < n; ++j) norm2[j] = HWY_DYNAMIC_DISPATCH(square_sum)(m, a.hi(j));

  PivotedQr f;
  std::vector<std::vector<dd>> rows;  // rows[k][position] of R
  double first = 0;
  std::ptrdiff_t rank = 0;
  for (; rank < limit; ++rank) {
    std::ptrdiff_t best = rank;
    for (std::ptrdiff_t p = rank; p < n; ++p)
      if (norm2[order[p]] > norm2[order[best]]) best = p;
    std::swap(order[rank], order[best]);
    for (auto& row : rows) std::swap(row[rank], row[best]);
    const std::ptrdiff_t c = order[rank];
    const dd norm = sqrt(dot(m, a.hi(c), a.lo(c), a.hi(c), a.lo(c)));
    if (rank == 0) first = norm.hi;
    if (!(norm.hi > tolerance * first) || norm.hi == 0) break;
    f.smallest_pivot = norm.hi / first;
    scale(m, dd(1.0) / norm, a.hi(c), a.lo(c));
    std::vector<dd> row(n);
    row[rank] = norm;
#pragma omp parallel for schedule(static) num_threads(threads) if (parallel)
    for (std::ptrdiff_t p = rank + 1; p < n; ++p) {
      const std::ptrdiff_t j = order[p];
      const dd s = dot(m, a.hi(c), a.lo(c), a.hi(j), a.lo(j));
      axpy(m, -s, a.hi(c), a.lo(c), a.hi(j), a.lo(j));
      row[p] = s;
      norm2[j] = HWY_DYNAMIC_DISPATCH(square_sum)(m, a.hi(j));
    }
    rows.push_back(std::move(row));
  }
  f.rank = rank;
  f.pivots.assign(order.begin(), order.begin() + rank);
  f.q = DdMatrix(m, rank);
  f.r = DdMatrix(rank, rank);
  for (std::ptrdiff_t k = 0; k < rank; ++k) {
    std::copy_n(a.hi(order[k]), m, f.q.hi(k));
    std::copy_n(a.lo(order[k]), m, f.q.lo(k));
    for (std::ptrdiff_t p = k; p < rank; ++p) f.r.set(k, p, rows[k][p]);
  }
  polish(f.q, f.r, threads);
  return f;
}

namespace {

// block = Q T by modified Gram-Schmidt; Q overwrites the block.
DdMatrix orthonormalise_panel(DdMatrix& block) {
  const std::ptrdiff_t m = block.rows(), width = block.cols();
  DdMatrix t(width, width);
  for (std::ptrdiff_t j = 0; j < width; ++j) {
    for (std::ptrdiff_t k = 0; k < j; ++k) {
      const dd s = dot(m, block.hi(k), block.lo(k), block.hi(j), block.lo(j));
      axpy(m, -s, block.hi(k), block.lo(k), block.hi(j), block.lo(j));
      t.set(k, j, s);
    }
    const dd norm = sqrt(dot(m, block.hi(j), block.lo(j), block.hi(j), block.lo(j)));
    t.set(j, j, norm);
    if (norm.hi > 0) scale(m, dd(1.0) / norm, block.hi(j), block.lo(j));
  }
  return t;
}

// block -= Q Q^T block; returns Q^T block.
DdMatrix remove_projection(const DdMatrix& q, DdMatrix& block, int threads) {
  DdMatrix s = multiply_transposed(q, block, threads);
  const DdMatrix along = multiply(q, s, threads);
  for (std::ptrdiff_t j = 0; j < block.cols(); ++j)
    for (std::ptrdiff_t i = 0; i < block.rows(); ++i) block.set(i, j, block(i, j) - along(i, j));
  return s;
}

DdMatrix columns(const DdMatrix& a, std::ptrdiff_t first, std::ptrdiff_t count) {
  DdMatrix part(a.rows(), count);
  std::copy_n(a.hi(first), a.rows() * count, part.hi(0));
  std::copy_n(a.lo(first), a.rows() * count, part.lo(0));
  return part;
}

}  // namespace

BlockQr block_qr(const DdMatrix& a, int threads) {
  constexpr std::ptrdiff_t panel = 24;
  const std::ptrdiff_t m = a.rows(), n = a.cols();
  BlockQr f{DdMatrix(m, n), DdMatrix(n, n)};
  for (std::ptrdiff_t first = 0; first < n; first += panel) {
    const std::ptrdiff_t width = std::min(panel, n - first);
    // A_k = Q S1 + U T1, then U = Q S2 + Q_k T2, so that A_k = Q (S1 + S2 T1) + Q_k (T2 T1).
    const DdMatrix q = columns(f.q, 0, first);
    DdMatrix block = columns(a, first, width);
    const DdMatrix s1 = remove_projection(q, block, threads);
    const DdMatrix t1 = orthonormalise_panel(block);
    const DdMatrix s2 = remove_projection(q, block, threads);
    const DdMatrix t2 = orthonormalise_panel(block);
    const DdMatrix above = multiply(s2, t1, 1), diagonal = multiply(t2, t1, 1);
    for (std::ptrdiff_t j = 0; j < width; ++j) {
      for (std::ptrdiff_t i = 0; i < first; ++i) f.r.set(i, first + j, s1(i, j) + above(i, j));
      for (std::ptrdiff_t i = 0; i <= j; ++i) f.r.set(first + i, first + j, diagonal(i, j));
    }
    std::copy_n(block.hi(0), m * width, f.q.hi(first));
    std::copy_n(block.lo(0), m * width, f.q.lo(first));
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

DdMatrix solve_upper_transposed(const DdMatrix& r, DdMatrix b) {
  for (std::ptrdiff_t c = 0; c < b.cols(); ++c)
    for (std::ptrdiff_t j = 0; j < r.cols(); ++j)
      b.set(j, c, (b(j, c) - dot(j, r.hi(j), r.lo(j), b.hi(c), b.lo(c))) / r(j, j));
  return b;
}

void gauss_legendre_half(std::ptrdiff_t n, std::vector<dd>& nodes, std::vector<dd>& weights) {
  const std::ptrdiff_t half = n / 2;
  nodes.assign(half, dd{});
  weights.assign(half, dd{});
  constexpr double pi = 3.14159265358979323846;
  const auto nn = static_cast<double>(n);
  const dd degree = kernel::two_prod(nn, nn + 1);
  // From x = 0, where P_n is known and P_n' = 0, outwards from node to node.
  dd x = 0.0, value = 1.0, slope = 0.0;
  for (std::ptrdiff_t k = 1; k <= half; ++k)
    value *= dd(static_cast<double>(1 - 2 * k)) / static_cast<double>(2 * k);
  std::vector<dd> c;  // Taylor coefficients of P_n(x + t / n) in t
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    // Tricomi's approximation of the node, good to O(n^-4).
    const double theta = pi * (4.0 * static_cast<double>(half - i) - 1.0) / (4.0 * nn + 2.0);
    const double start = (1.0 - (nn - 1.0) / (8.0 * nn * nn * nn)) * std::cos(theta);
    const double t0 = (start - x).hi * nn;
    const dd s = (1.0 - x * x) * (nn * nn);
    c.assign({value, slope / nn});
    double size = std::max(std::fabs(value.hi), std::fabs(c[1].hi)), power = t0;
    double term = size, last = size;
    // (1 - x^2) (j + 2) (j + 1) c_{j+2} = 2 x (j + 1)^2 c_{j+1} + (j (j + 1) - n (n + 1)) c_j
    for (std::ptrdiff_t j = 0; j < n - 1 && (term > 1e-36 * size || last > 1e-36 * size); ++j) {
      const auto k = static_cast<double>(j);
      const dd next =
          (2.0 * nn * ((k + 1) * (k + 1)) * (x * c[j + 1]) + (k * (k + 1) - degree) * c[j]) /
          (s * ((k + 1) * (k + 2)));
      c.push_back(next);
      power *= t0;
      last = term;
      term = std::fabs(next.hi * power);
      size = std::max(size, term);
    }
    // Newton, in double first; the last step in double-double is below its rounding.
    const auto terms = static_cast<std::ptrdiff_t>(c.size());
    double t = t0;
    for (int it = 0; it < 4; ++it) {
      double p = 0, dp = 0;
      for (std::ptrdiff_t j = terms - 1; j >= 0; --j) {
        dp = dp * t + p;
        p = p * t + c[j].hi;
      }
      t -= p / dp;
    }
    dd to = t;
    for (int it = 0; it < 2; ++it) {
      dd p = 0.0, dp = 0.0;
      for (std::ptrdiff_t j = terms - 1; j >= 0; --j) {
        dp = dp * to + p;
        p = p * to + c[j];
      }
      if (it == 0) {
        to -= p / dp;
        continue;
      }
      value = p;
      slope = dp * nn;
    }
    x += to / nn;
    nodes[i] = x;
    weights[i] = dd(2.0) / ((1.0 - x * x) * slope * slope);
  }
}

}  // namespace halfulp::detail

#endif  // HWY_ONCE
