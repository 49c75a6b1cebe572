#include "detail/bessel_simd.hpp"

#include <array>

#include "detail/bessel_cells.hpp"
#include "halfulp/kernel/bessel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bessel_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<double>;
using V = hn::Vec<D>;
using DU = hn::RebindToUnsigned<D>;

struct Pair {
  V hi, lo;
};

HWY_INLINE Pair sum_exact(V a, V b) {
  const V s = hn::Add(a, b);
  const V t = hn::Sub(s, a);
  return {s, hn::Add(hn::Sub(a, hn::Sub(s, t)), hn::Sub(b, t))};
}
/// |a| >= |b|.
HWY_INLINE Pair sum_ordered(V a, V b) {
  const V s = hn::Add(a, b);
  return {s, hn::Sub(b, hn::Sub(s, a))};
}
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    HWY_ARCH_ARM_A64
HWY_INLINE Pair product_exact(V a, V b) {
  const V p = hn::Mul(a, b);
  return {p, hn::MulSub(a, b, p)};
}
#else
// Dekker: no fused multiply-add on this target.
HWY_INLINE Pair product_exact(V a, V b) {
  const D d;
  const V split = hn::Set(d, 134217729.0), p = hn::Mul(a, b);
  const V ta = hn::Mul(split, a), tb = hn::Mul(split, b);
  const V ah = hn::Sub(ta, hn::Sub(ta, a)), bh = hn::Sub(tb, hn::Sub(tb, b));
  const V al = hn::Sub(a, ah), bl = hn::Sub(b, bh);
  V e = hn::Sub(hn::Mul(ah, bh), p);
  e = hn::Add(e, hn::Mul(ah, bl));
  e = hn::Add(e, hn::Mul(al, bh));
  return {p, hn::Add(e, hn::Mul(al, bl))};
}
#endif

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
/// table[index] of 16 doubles: one instruction where a gather takes twenty.
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  return V{_mm512_permutex2var_pd(hn::LoadU(d, table).raw, index.raw, hn::LoadU(d, table + 8).raw)};
}
#else
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  const hn::RebindToSigned<D> di;
  return hn::GatherIndex(d, table, hn::BitCast(di, index));
}
#endif

/// x = m 2^e with m next to 1/c, c and log c from a table of 16: r + rest = m c - 1 exactly but for
/// 2^-100, |r| < 0.04, and log x = e log 2 - log c + log1p(r + rest).
struct Reduced {
  V r, rest;
  Pair constant;  // e log 2 - log c
};

HWY_INLINE Reduced reduce(V hi, V lo) {
  const D d;
  const DU du;
  const auto bits = hn::BitCast(du, hi);
  const auto shifted = hn::Sub(bits, hn::Set(du, 0x3fe6a09e00000000ULL));
  const auto exponent_bits = hn::And(shifted, hn::Set(du, 0xfff0000000000000ULL));
  const V m = hn::BitCast(d, hn::Sub(bits, exponent_bits));
  const V scale = hn::BitCast(d, hn::Sub(hn::Set(du, 0x3ff0000000000000ULL), exponent_bits));
  // e + 1023 as the low bits of 2^52 + e + 1023
  const auto biased = hn::ShiftRight<52>(hn::Add(shifted, hn::Set(du, 1023ULL << 52)));
  const V e = hn::Sub(hn::BitCast(d, hn::Or(biased, hn::Set(du, 0x4330000000000000ULL))),
                      hn::Set(d, 0x1p52 + 1023));
  const auto index = hn::And(hn::ShiftRight<48>(shifted), hn::Set(du, 0xfULL));
  const V c = look_up(bessel_log_table[0], index);
  const V table_hi = look_up(bessel_log_table[1], index);
  const V table_lo = look_up(bessel_log_table[2], index);
  const Pair product = product_exact(m, c);
  const V ln2_hi = hn::Set(d, 0x1.62e42fefa2000p-1);  // 40 bits: times e exact
  const V ln2_lo = hn::Set(d, 0x1.9ef35793c7673p-41);
  const Pair constant = sum_exact(hn::Mul(e, ln2_hi), table_hi);
  return {hn::Sub(product.hi, hn::Set(d, 1.0)),
          hn::MulAdd(hn::Mul(lo, scale), c, product.lo),
          {constant.hi, hn::Add(constant.lo, hn::MulAdd(e, ln2_lo, table_lo))}};
}

/// sum_{k >= from} (-1)^(k+1) r^(k - from)/k.
template <int From>
HWY_INLINE V log_tail(V r) {
  const D d;
  constexpr int last = 17;
  V q = hn::Set(d, 1.0 / last);
  for (int k = last - 1; k >= From; --k)
    q = hn::MulAdd(q, r, hn::Set(d, (k % 2 == 0 ? -1.0 : 1.0) / k));
  return q;
}

/// log(hi + lo) for normal numbers, to about 2^-77 of max(1, |log|): four terms of log1p and what
/// they round off, the rest in plain numbers.
HWY_INLINE Pair logarithm(V hi, V lo) {
  const D d;
  const Reduced x = reduce(hi, lo);
  const V r = x.r;
  const Pair square = product_exact(r, r);
  const Pair cube = product_exact(square.hi, r);
  const V third = hn::Set(d, 1.0 / 3);
  const Pair term = product_exact(cube.hi, third);
  V low = hn::MulAdd(square.lo, r, cube.lo);
  low = hn::MulAdd(low, third, hn::MulAdd(cube.hi, hn::Set(d, 0x1.5555555555555p-56), term.lo));
  low = hn::MulAdd(square.lo, hn::Set(d, -0.5), low);
  const V one = hn::Set(d, 1.0);
  V slope = hn::Sub(one, r);  // 1/(1 + r), which rest is worth
  for (int k = 0; k < 3; ++k) slope = hn::NegMulAdd(slope, r, one);
  low = hn::MulAdd(slope, x.rest, low);
  const Pair fourth = product_exact(square.hi, square.hi);
  low = hn::NegMulAdd(hn::MulAdd(hn::Add(square.hi, square.hi), square.lo, fourth.lo),
                      hn::Set(d, 0.25), low);
  low = hn::MulAdd(hn::Mul(fourth.hi, r), log_tail<5>(r), low);
  const Pair a = sum_exact(x.constant.hi, r);
  const Pair b = sum_exact(a.hi, hn::Mul(square.hi, hn::Set(d, -0.5)));
  const Pair c = sum_exact(b.hi, term.hi);
  const Pair e = sum_exact(c.hi, hn::Mul(fourth.hi, hn::Set(d, -0.25)));
  low = hn::Add(hn::Add(hn::Add(a.lo, b.lo), hn::Add(c.lo, e.lo)), hn::Add(x.constant.lo, low));
  return {e.hi, low};
}

/// The same to about 2^-60.
HWY_INLINE Pair logarithm_short(V hi, V lo) {
  const Reduced x = reduce(hi, lo);
  const V low = hn::MulAdd(hn::Mul(x.r, x.r), log_tail<2>(x.r), x.rest);
  const Pair a = sum_exact(x.constant.hi, x.r);
  return {a.hi, hn::Add(hn::Add(a.lo, x.constant.lo), low)};
}

void heads(std::ptrdiff_t n, const BesselBlock& block, bool second, bool scaled) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V half = hn::Set(d, 0.5);
  const dd constant = second ? -kernel::log_half_pi() : kernel::log_two_pi();
  const V constant_hi = hn::Set(d, constant.hi), constant_lo = hn::Set(d, constant.lo);
  const V sign = hn::Set(d, second ? -0.0 : 0.0);
  for (std::ptrdiff_t i = 0; i < n; i += lanes) {
    const V v = hn::LoadU(d, block.v + i), x = hn::LoadU(d, block.x + i);
    const Pair vv = product_exact(v, v), xx = product_exact(x, x);
    const Pair squares = sum_exact(vv.hi, xx.hi);
    const V squares_lo = hn::Add(squares.lo, hn::Add(vv.lo, xx.lo));
    const V w = hn::Sqrt(squares.hi);
    const V inverse_w = hn::Div(hn::Set(d, 1.0), w);
    const Pair ww = product_exact(w, w);
    const V w_lo = hn::Mul(
        hn::Mul(hn::Add(hn::Sub(hn::Sub(squares.hi, ww.hi), ww.lo), squares_lo), half), inverse_w);
    // slope = log((v + w)/x)
    const Pair top = sum_ordered(w, v);
    const V top_lo = hn::Add(top.lo, w_lo);
    const V inverse_x = hn::Div(hn::Set(d, 1.0), x);
    const V z = hn::Mul(top.hi, inverse_x);
    const Pair zx = product_exact(z, x);
    const V z_lo = hn::Mul(hn::Add(hn::Sub(hn::Sub(top.hi, zx.hi), zx.lo), top_lo), inverse_x);
    const Pair slope = logarithm(z, z_lo);
    const Pair log_w = logarithm_short(w, w_lo);
    // lead = w (- x) - v slope
    const Pair product = product_exact(v, slope.hi);
    Pair lead = sum_exact(w, scaled ? hn::Neg(x) : hn::Zero(d));
    V low = hn::Add(lead.lo, hn::NegMulAdd(v, slope.lo, hn::Sub(w_lo, product.lo)));
    lead = sum_exact(lead.hi, hn::Neg(product.hi));
    low = hn::Add(low, lead.lo);
    const V lead_hi = hn::Xor(lead.hi, sign), lead_lo = hn::Xor(low, sign);
    const Pair root = sum_exact(log_w.hi, constant_hi);
    const V root_lo = hn::Add(root.lo, hn::Add(log_w.lo, constant_lo));
    const Pair head = sum_exact(lead_hi, hn::Mul(root.hi, hn::Neg(half)));
    hn::StoreU(head.hi, d, block.hi + i);
    hn::StoreU(hn::Add(head.lo, hn::NegMulAdd(half, root_lo, lead_lo)), d, block.lo + i);
    hn::StoreU(inverse_w, d, block.inverse_w + i);
    hn::StoreU(hn::Mul(second ? x : v, inverse_w), d, block.t + i);
  }
}

/// out = hi + lo + s.
HWY_INLINE void finish(std::ptrdiff_t i, const BesselBlock& block, V s) {
  const D d;
  const V hi = hn::LoadU(d, block.hi + i), lo = hn::LoadU(d, block.lo + i);
  hn::StoreU(hn::Add(hi, hn::Add(lo, s)), d, block.out + i);
}

void add_series(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block, bool second,
                const double* series, int terms) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V sign = hn::Set(d, second ? -0.0 : 0.0), one = hn::Set(d, 1.0);
  const auto square = [&](V t) { return second ? hn::NegMulAdd(t, t, one) : hn::Mul(t, t); };
  // two vectors at a time: the chains of additions are long
  for (std::ptrdiff_t i = begin; i < end; i += 2 * lanes) {
    const std::ptrdiff_t j = i + lanes;
    const V t0 = square(hn::LoadU(d, block.t + i)), t1 = square(hn::LoadU(d, block.t + j));
    const V w0 = hn::Xor(hn::LoadU(d, block.inverse_w + i), sign);
    const V w1 = hn::Xor(hn::LoadU(d, block.inverse_w + j), sign);
    V s0 = hn::Zero(d), s1 = s0;
    for (int k = terms; k >= 1; --k) {
      const double* row = series + k * (k + 1) / 2 - 1;
      V p0 = hn::Set(d, row[k]), p1 = p0;
      for (int m = k - 1; m >= 0; --m) {
        const V c = hn::Set(d, row[m]);
        p0 = hn::MulAdd(p0, t0, c);
        p1 = hn::MulAdd(p1, t1, c);
      }
      s0 = hn::Mul(hn::Add(s0, p0), w0);
      s1 = hn::Mul(hn::Add(s1, p1), w1);
    }
    finish(i, block, s0);
    finish(j, block, s1);
  }
}

void add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
              const double* cell, double a0, double a1, double b0, double b1) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const int degree = static_cast<int>(cell[0]);
  const V a_scale = hn::Set(d, 2 / (a1 - a0)), a_shift = hn::Set(d, -(a1 + a0) / (a1 - a0));
  const V b_scale = hn::Set(d, 2 / (b1 - b0)), b_shift = hn::Set(d, -(b1 + b0) / (b1 - b0));
  for (std::ptrdiff_t i = begin; i < end; i += lanes) {
    const V a = hn::MulAdd(hn::LoadU(d, block.t + i), a_scale, a_shift);
    const V b = hn::MulAdd(hn::LoadU(d, block.inverse_w + i), b_scale, b_shift);
    const double* c = cell + 2;
    V s = hn::Set(d, *c++);
    for (int length = 2; length <= degree + 1; ++length) {
      V p = hn::Set(d, *c++);
      for (int j = 1; j < length; ++j) p = hn::MulAdd(p, b, hn::Set(d, *c++));
      s = hn::MulAdd(s, a, p);
    }
    finish(i, block, s);
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(heads);
HWY_EXPORT(add_series);
HWY_EXPORT(add_cell);

void bessel_heads(std::ptrdiff_t n, const BesselBlock& block, bool second, bool scaled) {
  HWY_DYNAMIC_DISPATCH(heads)(n, block, second, scaled);
}

void bessel_add_series(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
                       bool second, int terms) {
  static const auto series = [] {
    constexpr int size = kernel::bessel_log_terms * (kernel::bessel_log_terms + 3) / 2;
    std::array<double, size> values;
    for (int i = 0; i < size; ++i) values[i] = kernel::bessel_log_series(i).hi;
    return values;
  }();
  HWY_DYNAMIC_DISPATCH(add_series)(begin, end, block, second, series.data(), terms);
}

void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
                     const double* cell, double a0, double a1, double b0, double b1) {
  HWY_DYNAMIC_DISPATCH(add_cell)(begin, end, block, cell, a0, a1, b0, b1);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
