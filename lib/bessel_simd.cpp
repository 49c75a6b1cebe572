#include "detail/bessel_simd.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>

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

/// a - b.
HWY_INLINE Pair difference_exact(V a, V b) {
  const V s = hn::Sub(a, b);
  const V t = hn::Sub(s, a);
  return {s, hn::Sub(hn::Sub(a, hn::Sub(s, t)), hn::Add(b, t))};
}
/// a + b, |a| >= |b|.
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
/// c - a b for c near a b: rounded once.
HWY_INLINE V minus_product(V c, V a, V b) { return hn::NegMulAdd(a, b, c); }
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
HWY_INLINE V minus_product(V c, V a, V b) {
  const Pair p = product_exact(a, b);
  return hn::Sub(hn::Sub(c, p.hi), p.lo);
}
#endif

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
/// table[index mod 16]: one instruction where a gather takes twenty.
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  return V{_mm512_permutex2var_pd(hn::LoadU(d, table).raw, index.raw, hn::LoadU(d, table + 8).raw)};
}
/// a/b to 2^-13.
HWY_INLINE V rough_quotient(V a, V b) { return hn::Mul(a, V{_mm512_rcp14_pd(b.raw)}); }
#else
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  const DU du;
  const hn::RebindToSigned<D> di;
  return hn::GatherIndex(d, table, hn::BitCast(di, hn::And(index, hn::Set(du, 15ULL))));
}
HWY_INLINE V rough_quotient(V a, V b) { return hn::Div(a, b); }
#endif

/// x = m 2^e with m in [1, 2), and c next to 1/m from a table of 16.
struct Reduced {
  hn::Vec<DU> index;
  V e, scaled_c;  // 2^-e c
};

HWY_INLINE Reduced reduce(V x) {
  const D d;
  const DU du;
  const auto bits = hn::BitCast(du, x);
  const auto index = hn::ShiftRight<48>(bits);
  // e + 1023 as the low bits of 2^52 + e + 1023
  const auto biased = hn::Or(hn::ShiftRight<52>(bits), hn::Set(du, 0x4330000000000000ULL));
  const V e = hn::Sub(hn::BitCast(d, biased), hn::Set(d, 0x1p52 + 1023));
  // the table has 2^1023 c
  const auto exponent = hn::And(bits, hn::Set(du, 0xfff0000000000000ULL));
  const auto c = hn::BitCast(du, look_up(bessel_log_table[0], index));
  return {index, e, hn::BitCast(d, hn::Sub(c, exponent))};
}

constexpr double ln2_hi = 0x1.62e42fefa2000p-1;  // 40 bits: times e exact
constexpr double ln2_lo = 0x1.9ef35793c7673p-41;

/// log((w + v)/x)/2 to 2^-70, for w + v = top + top_lo; to 2^-74 where log I and log K vanish for
/// large v, at 1.6588 2, the middle of an interval of the table.
HWY_INLINE Pair half_slope(V top, V top_lo, V x) {
  const D d;
  const Reduced z = reduce(rough_quotient(top, x));
  // log z = e log 2 - log c + 2 atanh(n/(2 x + n)), n = 2^-e c top - x
  const Pair p = product_exact(z.scaled_c, top);
  const V n = hn::Sub(p.hi, x);  // exact: p is next to x
  const V n_lo = hn::MulAdd(z.scaled_c, top_lo, p.lo);
  const Pair sum = sum_ordered(hn::Add(x, x), n);
  const V inverse = hn::Div(hn::Set(d, 1.0), sum.hi);
  const V y = hn::Mul(n, inverse);
  V rest = hn::Add(minus_product(n, y, sum.hi), n_lo);
  rest = hn::Mul(hn::NegMulAdd(y, hn::Add(sum.lo, n_lo), rest), inverse);
  const V y2 = hn::Mul(y, y);
  V q = hn::MulAdd(y2, hn::Set(d, 1.0 / 11), hn::Set(d, 1.0 / 9));
  q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 7));
  q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 5));
  q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 3));
  const V table_hi = look_up(bessel_log_table[1], z.index);
  const V table_lo = look_up(bessel_log_table[2], z.index);
  const V e_hi = hn::MulAdd(z.e, hn::Set(d, ln2_hi / 2), table_hi);  // exact
  const V e_lo = hn::MulAdd(z.e, hn::Set(d, ln2_lo / 2), table_lo);
  const Pair leading = sum_ordered(e_hi, y);
  const V low = hn::Add(hn::Add(leading.lo, e_lo), rest);
  return {leading.hi, hn::MulAdd(y2, hn::MulAdd(y, q, rest), low)};
}

/// log(2 pi w)/2 or, for the second kind, log(2 w/pi)/2 as hi + middle + lo, hi a multiple of 2^-42
/// and exact: to 2^-64 (but for what square lacks), or to 2^-56 and without a middle if not
/// Accurate.
struct Root {
  V hi, middle, lo;
};

template <bool Second, bool Accurate>
HWY_INLINE Root half_log(V square) {
  const D d;
  const dd constant = Second ? -kernel::log_half_pi() : kernel::log_two_pi();
  const double constant_hi = std::nearbyint(0x1p40 * constant.hi) * 0x1p-41;
  const double constant_lo = 0.5 * constant.hi - constant_hi + 0.5 * constant.lo;
  const Reduced s = reduce(square);
  const V hi = hn::MulAdd(s.e, hn::Set(d, ln2_hi / 4), hn::Set(d, constant_hi));
  const V low = hn::MulAdd(s.e, hn::Set(d, ln2_lo / 4), hn::Set(d, constant_lo));
  // log(1 - r)/4 is what is left
  const V one = hn::Set(d, 1.0), quarter = hn::Set(d, -0.25), half = hn::Set(d, 0.5);
  const Pair product = product_exact(square, s.scaled_c);
  const V r = Accurate ? hn::Sub(one, product.hi) : minus_product(one, square, s.scaled_c);
  constexpr int last = Accurate ? 11 : 9;
  V q = hn::Set(d, -0.25 / last);
  for (int k = last - 1; k >= 2; --k) q = hn::MulAdd(q, r, hn::Set(d, -0.25 / k));
  if (!Accurate) {
    const V first = hn::Add(low, look_up(bessel_log_table[3], s.index));
    return {hi, hn::Zero(d), hn::MulAdd(hn::MulAdd(q, r, quarter), r, first)};
  }
  const V slope = hn::MulAdd(r, quarter, quarter);
  V lo = hn::NegMulAdd(slope, product.lo, low);
  lo = hn::MulAdd(half, look_up(bessel_log_table[2], s.index), lo);
  return {hn::MulAdd(half, look_up(bessel_log_table[1], s.index), hi), hn::Mul(r, quarter),
          hn::MulAdd(hn::Mul(r, r), q, lo)};
}

/// Everything but the sum of (1) or, for the second kind, (2) of kernel/bessel.hpp, as hi + lo.
struct Head {
  V hi, lo, inverse_w;
};

template <bool Second, bool Scaled, bool Accurate>
HWY_INLINE Head head(V v, V x) {
  const D d;
  const V half = hn::Set(d, 0.5);
  const V a = hn::Max(v, x), b = hn::Min(v, x);
  const Pair aa = product_exact(a, a);
  const V square = hn::MulAdd(b, b, aa.hi);
  const V square_lo = hn::Sub(aa.lo, minus_product(hn::Sub(square, aa.hi), b, b));
  const V w = hn::Sqrt(square);
  const V inverse_w = hn::Div(hn::Set(d, 1.0), w);
  const V w_lo = hn::Mul(hn::Add(minus_product(square, w, w), square_lo), hn::Mul(half, inverse_w));
  const Pair top = sum_ordered(w, v);
  const Pair slope = half_slope(top.hi, hn::Add(top.lo, w_lo), x);
  // w (- x) - v slope, for the second kind its negative
  const V twice_v = hn::Add(v, v);
  const Pair product = product_exact(twice_v, slope.hi);
  const V product_lo = hn::MulAdd(twice_v, slope.lo, product.lo);
  V first = w, first_lo = w_lo;
  if (Scaled) {
    const V excess = hn::Sub(w, x);
    first_lo = hn::Add(w_lo, hn::Sub(hn::Sub(w, excess), x));
    first = excess;
  }
  const Pair lead =
      Second ? difference_exact(product.hi, first) : difference_exact(first, product.hi);
  const V lead_lo =
      hn::Add(lead.lo, Second ? hn::Sub(product_lo, first_lo) : hn::Sub(first_lo, product_lo));
  const Root root = half_log<Second, Accurate>(square);
  Pair sum = difference_exact(lead.hi, root.hi);
  V low = hn::Sub(hn::Add(lead_lo, sum.lo), root.lo);
  if (Accurate) {
    // log(w) of the part that square lacks
    low = hn::NegMulAdd(hn::Mul(square_lo, hn::Set(d, 0.25)), hn::Mul(inverse_w, inverse_w), low);
    sum = difference_exact(sum.hi, root.middle);
    low = hn::Add(low, sum.lo);
  }
  return {sum.hi, low, inverse_w};
}

/// A tile: what the passes over a few vectors hand on.
constexpr std::ptrdiff_t tile_size = 64;
struct Tile {
  HWY_ALIGN double hi[tile_size];
  HWY_ALIGN double lo[tile_size];
  HWY_ALIGN double inverse_w[tile_size];
  HWY_ALIGN double t[tile_size];
};

template <bool Second, bool Scaled, bool Accurate>
HWY_NOINLINE void tile_heads(const double* v, const double* x, Tile& tile) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  for (std::ptrdiff_t i = 0; i < tile_size; i += lanes) {
    const V vi = hn::LoadU(d, v + i);
    const Head h = head<Second, Scaled, Accurate>(vi, hn::LoadU(d, x + i));
    hn::Store(h.hi, d, tile.hi + i);
    hn::Store(h.lo, d, tile.lo + i);
    hn::Store(h.inverse_w, d, tile.inverse_w + i);
    hn::Store(hn::Mul(vi, h.inverse_w), d, tile.t + i);
  }
}

template <class M>
HWY_INLINE std::uint64_t mask_bits(M mask) {
  const D d;
  std::uint8_t bytes[8] = {};
  hn::StoreMaskBits(d, mask, bytes);
  std::uint64_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

/// No point of the tile is one for cells or scalars.
HWY_INLINE bool tile_is_wide(const double* v, const double* x) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V least = hn::Set(d, bessel_series_square), most = hn::Set(d, bessel_simd_most_square);
  const V zero = hn::Zero(d), least_x = hn::Set(d, bessel_simd_least_x);
  V sum = zero, low = most, low_v = most, low_x = most;
  for (std::ptrdiff_t i = 0; i < tile_size; i += lanes) {
    const V vi = hn::LoadU(d, v + i), xi = hn::LoadU(d, x + i);
    const V square = hn::MulAdd(vi, vi, hn::Mul(xi, xi));
    sum = hn::Add(sum, square);  // no number if one of them is none
    low = hn::Min(low, square);
    low_v = hn::Min(low_v, vi);
    low_x = hn::Min(low_x, xi);
  }
  return hn::AllTrue(d, hn::And(hn::And(hn::Le(sum, most), hn::Ge(low, least)),
                                hn::And(hn::Ge(low_v, zero), hn::Ge(low_x, least_x))));
}

/// Bit i: point i of the tile is one for cells or scalars.
HWY_INLINE std::uint64_t tile_others(const double* v, const double* x) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V least = hn::Set(d, bessel_series_square), most = hn::Set(d, bessel_simd_most_square);
  const V zero = hn::Zero(d), least_x = hn::Set(d, bessel_simd_least_x);
  std::uint64_t others = 0;
  for (std::ptrdiff_t i = 0; i < tile_size; i += lanes) {
    const V vi = hn::LoadU(d, v + i), xi = hn::LoadU(d, x + i);
    const V square = hn::MulAdd(vi, vi, hn::Mul(xi, xi));
    const auto wide = hn::And(hn::And(hn::Le(square, most), hn::Ge(square, least)),
                              hn::And(hn::Ge(vi, zero), hn::Ge(xi, least_x)));
    others |= mask_bits(hn::Not(wide)) << i;
  }
  return others;
}

/// out = hi + lo + sum of the series, for each point with the terms that its own 1/w asks for.
HWY_INLINE void tile_series(const Tile& tile, bool second, const BesselSeries& series,
                            double* out) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  V high = hn::Load(d, tile.inverse_w), low = high;
  for (std::ptrdiff_t i = lanes; i < tile_size; i += lanes) {
    const V w = hn::Load(d, tile.inverse_w + i);
    high = hn::Max(high, w);
    low = hn::Min(low, w);
  }
  const double highest = hn::GetLane(hn::MaxOfLanes(d, high));
  const double lowest = hn::GetLane(hn::MinOfLanes(d, low));
  int most = series.terms, least = 1;
  while (most > 1 && highest <= series.most_inverse_w[most - 1]) --most;
  while (least < most && lowest > series.most_inverse_w[least]) ++least;
  const V sign = hn::Set(d, second ? -0.0 : 0.0);
  // four vectors at a time: the chains of additions are long
  for (std::ptrdiff_t i = 0; i < tile_size; i += 4 * lanes) {
    const auto at = [&](const double* p, int j) { return hn::Load(d, p + i + j * lanes); };
    V t0 = at(tile.t, 0), t1 = at(tile.t, 1), t2 = at(tile.t, 2), t3 = at(tile.t, 3);
    t0 = hn::Mul(t0, t0), t1 = hn::Mul(t1, t1), t2 = hn::Mul(t2, t2), t3 = hn::Mul(t3, t3);
    const V w0 = at(tile.inverse_w, 0), w1 = at(tile.inverse_w, 1), w2 = at(tile.inverse_w, 2),
            w3 = at(tile.inverse_w, 3);
    const V z0 = hn::Xor(w0, sign), z1 = hn::Xor(w1, sign), z2 = hn::Xor(w2, sign),
            z3 = hn::Xor(w3, sign);
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    const double* c = series.coefficients + most * (most + 3) / 2;  // read backwards
    for (int k = most; k >= 1; --k) {
      V p0 = hn::Set(d, *--c), p1 = p0, p2 = p0, p3 = p0;
      for (int m = 0; m < k; ++m) {
        const V next = hn::Set(d, *--c);
        p0 = hn::MulAdd(p0, t0, next);
        p1 = hn::MulAdd(p1, t1, next);
        p2 = hn::MulAdd(p2, t2, next);
        p3 = hn::MulAdd(p3, t3, next);
      }
      if (k > least) {
        const V limit = hn::Set(d, series.most_inverse_w[k - 1]);
        p0 = hn::IfThenElseZero(hn::Gt(w0, limit), p0);
        p1 = hn::IfThenElseZero(hn::Gt(w1, limit), p1);
        p2 = hn::IfThenElseZero(hn::Gt(w2, limit), p2);
        p3 = hn::IfThenElseZero(hn::Gt(w3, limit), p3);
      }
      s0 = hn::MulAdd(s0, z0, p0);
      s1 = hn::MulAdd(s1, z1, p1);
      s2 = hn::MulAdd(s2, z2, p2);
      s3 = hn::MulAdd(s3, z3, p3);
    }
    const auto finish = [&](int j, V s, V z) {
      const V low = hn::MulAdd(s, z, at(tile.lo, j));
      hn::StoreU(hn::Add(at(tile.hi, j), low), d, out + i + j * lanes);
    };
    finish(0, s0, z0);
    finish(1, s1, z1);
    finish(2, s2, z2);
    finish(3, s3, z3);
  }
}

/// Bit i: the bound of the error of point i is too large for the accurate mode.
HWY_INLINE std::uint64_t tile_weak(const double* v, const Tile& tile, const double* out) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  std::uint64_t weak = 0;
  for (std::ptrdiff_t i = 0; i < tile_size; i += lanes) {
    // terms left out, rounding of the sum, of the slope
    const V size = hn::Abs(hn::LoadU(d, out + i));
    V error = hn::MulAdd(hn::Load(d, tile.inverse_w + i), hn::Set(d, 0x1p-54), hn::Set(d, 0x1p-61));
    error = hn::MulAdd(hn::LoadU(d, v + i), hn::Set(d, 0x1p-69), error);
    const auto good = hn::Le(error, hn::Mul(size, hn::Set(d, 0x1.ap-55)));
    if (HWY_LIKELY(hn::AllTrue(d, good))) continue;
    weak |= mask_bits(hn::Not(good)) << i;
  }
  return weak;
}

/// The points of a tile that `others` has a bit for, and what is known of them.
HWY_INLINE void set_aside(const double* v, const double* x, const Tile& tile, std::ptrdiff_t begin,
                          std::uint64_t others, BesselNarrow& narrow) {
  const std::ptrdiff_t to = narrow.points.size;
  if (others == ~std::uint64_t{0}) {
    constexpr std::size_t bytes = tile_size * sizeof(double);
    std::memcpy(narrow.points.v + to, v, bytes);
    std::memcpy(narrow.points.x + to, x, bytes);
    std::memcpy(narrow.hi + to, tile.hi, bytes);
    std::memcpy(narrow.lo + to, tile.lo, bytes);
    std::memcpy(narrow.inverse_w + to, tile.inverse_w, bytes);
    for (int i = 0; i < tile_size; ++i)
      narrow.points.place[to + i] = static_cast<std::uint32_t>(begin + i);
    narrow.points.size += tile_size;
    return;
  }
  for (std::uint64_t left = others; left != 0; left &= left - 1) {
    const int i = std::countr_zero(left);
    const std::ptrdiff_t k = narrow.points.size;
    narrow.hi[k] = tile.hi[i];
    narrow.lo[k] = tile.lo[i];
    narrow.inverse_w[k] = tile.inverse_w[i];
    narrow.points.add(v[i], x[i], begin + i);
  }
}

template <bool Second, bool Scaled, bool Accurate>
void wide_as(std::ptrdiff_t n, const double* v, const double* x, double* out,
             const BesselSeries& series, BesselNarrow& narrow, BesselPoints& weak) {
  Tile tile;
  HWY_ALIGN double last[3][tile_size];
  std::uint64_t others = 0;
  for (std::ptrdiff_t begin = 0; begin < n; begin += tile_size) {
    const double *tile_v = v + begin, *tile_x = x + begin;
    double* tile_out = out + begin;
    const std::ptrdiff_t size = std::min(n - begin, tile_size);
    if (size < tile_size) {
      for (std::ptrdiff_t i = 0; i < tile_size; ++i) {
        last[0][i] = i < size ? tile_v[i] : tile_v[0];
        last[1][i] = i < size ? tile_x[i] : tile_x[0];
      }
      tile_v = last[0], tile_x = last[1], tile_out = last[2];
    }
    const std::uint64_t mine = ~std::uint64_t{0} >> (tile_size - size);
    // the cheap test, unless the tile before failed it
    const bool wide = others == 0 && tile_is_wide(tile_v, tile_x);
    const std::uint64_t not_wide = wide ? 0 : tile_others(tile_v, tile_x);
    others = not_wide & mine;
    tile_heads<Second, Scaled, Accurate>(tile_v, tile_x, tile);
    if (others != 0) set_aside(tile_v, tile_x, tile, begin, others, narrow);
    if (others == mine) continue;
    // they must not decide how many terms the series takes
    for (std::uint64_t left = not_wide; left != 0; left &= left - 1)
      tile.inverse_w[std::countr_zero(left)] = series.most_inverse_w[series.terms];
    // the accurate mode looks at v again, which out may be
    double* const values = Accurate ? last[2] : tile_out;
    tile_series(tile, Second, series, values);
    if (Accurate) {
      std::uint64_t left = tile_weak(tile_v, tile, values) & mine & ~others;
      for (; left != 0; left &= left - 1) {
        const int i = std::countr_zero(left);
        weak.add(tile_v[i], tile_x[i], begin + i);
      }
    }
    if (values == last[2]) std::copy(last[2], last[2] + size, out + begin);
  }
}

void wide(std::ptrdiff_t n, const double* v, const double* x, double* out, BesselTask task,
          const BesselSeries& series, BesselNarrow& narrow, BesselPoints& weak) {
  constexpr decltype(&wide_as<false, false, false>) all[2][2][2] = {
      {{wide_as<false, false, false>, wide_as<false, false, true>},
       {wide_as<false, true, false>, wide_as<false, true, true>}},
      {{wide_as<true, false, false>, wide_as<true, false, true>},
       {wide_as<true, true, false>, wide_as<true, true, true>}}};
  all[task.second ? 1 : 0][task.scaled ? 1 : 0][task.accurate ? 1 : 0](n, v, x, out, series, narrow,
                                                                       weak);
}

/// The exponent of a normal number.
HWY_INLINE V exponent_of(V x) {
  const D d;
  const DU du;
  const auto biased =
      hn::Or(hn::ShiftRight<52>(hn::BitCast(du, x)), hn::Set(du, 0x4330000000000000ULL));
  return hn::Sub(hn::BitCast(d, biased), hn::Set(d, 0x1p52 + 1023));
}

/// The bin of each point, and its t = v/w (first kind) or x/w (second).
void bins(const BesselNarrow& narrow, bool second) {
  const D d;
  const hn::Rebind<std::int32_t, D> di;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const V one = hn::Set(d, 1.0);
  const auto step = [&](auto mask) { return hn::IfThenElseZero(mask, one); };
  for (std::ptrdiff_t i = 0; i < narrow.points.size; i += lanes) {
    const V v = hn::LoadU(d, narrow.points.v + i), x = hn::LoadU(d, narrow.points.x + i);
    const V inverse_w = hn::LoadU(d, narrow.inverse_w + i);
    const V t = hn::Mul(second ? x : v, inverse_w);
    hn::StoreU(t, d, narrow.t + i);
    // rows fall by 2^(1/3) in 1/w from 4; what rounding puts into the next cell is at its edge
    const V e = exponent_of(inverse_w);
    const V m = hn::BitCast(
        d, hn::Or(hn::And(hn::BitCast(DU(), inverse_w), hn::Set(DU(), 0x000fffffffffffffULL)),
                  hn::Set(DU(), 0x3ff0000000000000ULL)));
    V row = hn::NegMulAdd(e, hn::Set(d, 3.0), hn::Set(d, 5.0));
    row = hn::Sub(row, hn::Add(step(hn::Ge(m, hn::Set(d, 0x1.428a2f98d728bp+0))),
                               step(hn::Ge(m, hn::Set(d, 0x1.965fea53d6e3dp+0)))));
    row = hn::Min(hn::Max(row, hn::Zero(d)), hn::Set(d, bessel_cell_rows - 1));
    const V sixths = hn::Mul(t, hn::Set(d, 6.0));
    V column = hn::Min(hn::Floor(sixths), hn::Set(d, 5.0));
    auto good =
        hn::And(hn::And(hn::Ge(v, hn::Zero(d)), hn::Ge(x, hn::Set(d, bessel_simd_least_x))),
                hn::And(hn::Le(inverse_w, hn::Set(d, bessel_cell_inverse_w[0])),
                        hn::Ge(inverse_w, hn::Set(d, bessel_cell_inverse_w[bessel_cell_rows]))));
    if (second) {
      const auto first = hn::Lt(sixths, one);
      // the first column, in the fine rows cut into halves
      const V part = hn::Max(hn::Add(exponent_of(sixths), hn::Set(d, bessel_cell_halvings + 1.0)),
                             hn::Zero(d));
      const auto cut = hn::And(first, hn::Lt(row, hn::Set(d, bessel_cell_fine_rows)));
      column =
          hn::IfThenElse(first, hn::Zero(d), hn::Add(column, hn::Set(d, bessel_cell_halvings)));
      column = hn::IfThenElse(cut, part, column);
    }
    V bin = hn::MulAdd(row, hn::Set(d, bessel_cell_columns), column);
    bin = hn::IfThenElse(good, bin, hn::Set(d, bessel_cell_rows * bessel_cell_columns));
    hn::StoreU(hn::DemoteTo(di, bin), di, narrow.bin + i);
  }
}

/// N vectors of a cell: the points `order` has numbers of.
template <int N>
HWY_INLINE void cell_vectors(const std::int32_t* order, const BesselNarrow& narrow,
                             const BesselCell& cell) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<std::int32_t, D> di32;
  const V a_scale = hn::Set(d, cell.a_scale), a_shift = hn::Set(d, cell.a_shift);
  const V b_scale = hn::Set(d, cell.b_scale), b_shift = hn::Set(d, cell.b_shift);
  V a[N], b[N], s[N], p[N];
  for (int k = 0; k < N; ++k) {
    const auto at = hn::PromoteTo(di, hn::LoadU(di32, order + k * hn::Lanes(d)));
    a[k] = hn::MulAdd(hn::GatherIndex(d, narrow.t, at), a_scale, a_shift);
    b[k] = hn::MulAdd(hn::GatherIndex(d, narrow.inverse_w, at), b_scale, b_shift);
  }
  const double* c = cell.coefficients;
  for (int k = 0; k < N; ++k) s[k] = hn::Set(d, *c);
  ++c;
  for (int length = 2; length <= cell.degree + 1; ++length) {
    V next = hn::Set(d, *c++);
    for (int k = 0; k < N; ++k) p[k] = next;
    for (int j = 1; j < length; ++j) {
      next = hn::Set(d, *c++);
      for (int k = 0; k < N; ++k) p[k] = hn::MulAdd(p[k], b[k], next);
    }
    for (int k = 0; k < N; ++k) s[k] = hn::MulAdd(s[k], a[k], p[k]);
  }
  for (int k = 0; k < N; ++k) {
    const auto at = hn::PromoteTo(di, hn::LoadU(di32, order + k * hn::Lanes(d)));
    hn::ScatterIndex(s[k], d, narrow.sum, at);
  }
}

void add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
              const BesselCell& cell) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  std::ptrdiff_t i = begin;
  for (; i + 3 * lanes < end; i += 4 * lanes) cell_vectors<4>(narrow.order + i, narrow, cell);
  if (i + 2 * lanes < end)
    cell_vectors<3>(narrow.order + i, narrow, cell);
  else if (i + lanes < end)
    cell_vectors<2>(narrow.order + i, narrow, cell);
  else if (i < end)
    cell_vectors<1>(narrow.order + i, narrow, cell);
}

/// sum = hi + lo + sum; in the accurate mode what is too uncertain is added to `weak`.
void finish(const BesselNarrow& narrow, bool accurate, const double* bounds, BesselPoints& weak) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<std::int32_t, D> di32;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const BesselPoints& points = narrow.points;
  for (std::ptrdiff_t i = 0; i < points.size; i += lanes) {
    const V hi = hn::LoadU(d, narrow.hi + i), lo = hn::LoadU(d, narrow.lo + i);
    const V value = hn::Add(hi, hn::Add(lo, hn::LoadU(d, narrow.sum + i)));
    hn::StoreU(value, d, narrow.sum + i);
    if (!accurate) continue;
    // left out, rounding of the sum, of the slope
    const auto bin = hn::PromoteTo(di, hn::LoadU(di32, narrow.bin + i));
    const V bound = hn::GatherIndex(d, bounds, bin);
    V error = hn::MulAdd(hn::LoadU(d, narrow.inverse_w + i), hn::Set(d, 0x1p-54), bound);
    error = hn::MulAdd(hn::LoadU(d, points.v + i), hn::Set(d, 0x1p-69), error);
    const auto good = hn::Le(error, hn::Mul(hn::Abs(value), hn::Set(d, 0x1.ap-55)));
    if (HWY_LIKELY(hn::AllTrue(d, good))) continue;
    for (std::uint64_t left = mask_bits(hn::Not(good)); left != 0; left &= left - 1) {
      const std::ptrdiff_t k = i + std::countr_zero(left);
      if (k < points.size) weak.add(points.v[k], points.x[k], points.place[k]);
    }
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {
namespace {

/// From w = least[k] on k + 1 terms are enough.
BesselSeries make_series(std::initializer_list<double> least) {
  BesselSeries series{};
  for (const double w : least) series.most_inverse_w[++series.terms] = 1 / w;
  for (int i = 0; i < series.terms * (series.terms + 3) / 2; ++i)
    series.coefficients[i] = kernel::bessel_log_series(i).hi;
  return series;
}

}  // namespace

HWY_EXPORT(wide);
HWY_EXPORT(bins);
HWY_EXPORT(add_cell);
HWY_EXPORT(finish);

void bessel_wide(std::ptrdiff_t n, const double* v, const double* x, double* out, BesselTask task,
                 BesselNarrow& narrow, BesselPoints& weak) {
  // Fast: what is left out is below 2^-54.5 max(1, |log|), accurate: below 2^-57 max(1/16, |log|).
  static const BesselSeries series[2][2] = {
      {make_series({3.5e7, 2.22e4, 5690, 565, 383, 140, 110, 65.4, 54.3, 41.4}),
       make_series({3.31e8, 9.83e4, 1.75e4, 1280, 813, 247, 192, 102, 85, 59.1, 51.2, 41.1, 36.5})},
      {make_series({1.43e7, 1.03e5, 7150, 1370, 457, 210, 139, 94.8, 70, 55.2, 45.8, 39}),
       make_series(
           {3.29e7, 1.37e5, 1.33e4, 2990, 971, 346, 216, 153, 110, 80.8, 56.6, 52.5, 47, 41.4})}};
  HWY_DYNAMIC_DISPATCH(wide)
  (n, v, x, out, task, series[task.scaled ? 1 : 0][task.accurate ? 1 : 0], narrow, weak);
}

void bessel_bins(const BesselNarrow& narrow, bool second) {
  HWY_DYNAMIC_DISPATCH(bins)(narrow, second);
}

void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
                     const BesselCell& cell) {
  HWY_DYNAMIC_DISPATCH(add_cell)(begin, end, narrow, cell);
}

void bessel_finish(const BesselNarrow& narrow, bool accurate, const double* bounds,
                   BesselPoints& weak) {
  HWY_DYNAMIC_DISPATCH(finish)(narrow, accurate, bounds, weak);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
