#include "detail/bessel_simd.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <span>

#include "detail/bessel_cells.hpp"
#include "halfulp/kernel/bessel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bessel_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include "detail/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
constexpr double ln2_hi = bessel_ln2_hi, ln2_lo = bessel_ln2_lo;

// The units for products and divisions are the busy ones here: what can be a sum, a difference of
// exponents or another operation on integers is.

/// y/2 for a normal y and y/2.
HWY_INLINE V half_of(V y) {
  const DU du;
  return hn::BitCast(D(), hn::Sub(hn::BitCast(du, y), hn::BitCast(du, hn::Set(D(), 0x1p-1022))));
}

/// Two numbers for each of 16 intervals.
struct TwoTables {
  const double *first, *second;
  std::array<double, 32> pairs;  // one beside the other, as AVX2 looks them up sooner
  constexpr TwoTables(const double* a, const double* b) : first(a), second(b), pairs() {
    for (std::size_t i = 0; i < 16; ++i) {
      pairs[2 * i] = a[i];
      pairs[2 * i + 1] = b[i];
    }
  }
};
constexpr TwoTables slope_tables(bessel_slope_table[0], bessel_slope_table[1]);
constexpr TwoTables log_tables(bessel_log_table[0], bessel_log_table[1]);
constexpr TwoTables fast_log_tables(bessel_log_table[0], bessel_log_table[3]);

struct Two {
  V first, second;
};
HWY_INLINE Two look_up(const TwoTables& tables, hn::Vec<DU> index) {
#if HWY_TARGET == HWY_AVX2
  const DU du;
  const auto at = hn::And(index, hn::Set(du, 15ULL));
  alignas(32) std::uint64_t places[4];
  hn::Store(hn::Add(at, at), du, places);
  const auto half = [&](int lane) {
    const auto pair = [&](int k) { return _mm_loadu_pd(tables.pairs.data() + places[k]); };
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(pair(lane)), pair(lane + 2), 1);
  };
  const __m256d even = half(0), odd = half(1);
  return {V{_mm256_unpacklo_pd(even, odd)}, V{_mm256_unpackhi_pd(even, odd)}};
#else
  return {look_up(tables.first, index), look_up(tables.second, index)};
#endif
}

/// (w + v)/x = (1 + y/2)/(1 - y/2) 2^e/c for w + v = top + top_lo, with y = n/(x + n/2) and
/// n = 2^-e c top - x, small, exactly n + n_lo.
struct Quotient {
  V n, n_lo, half_n, half_lo;
  V sum, sum_lo, inverse;  // x + n/2, if not Accurate without sum_lo, and 1/sum
  V e;
  V minus_log;  // -log(c)
};

template <bool Accurate>
HWY_INLINE Quotient quotient(V top, V top_lo, V x) {
  const D d;
  const DU du;
  const V z = rough_quotient(top, x);
  const auto index = hn::ShiftRight<48>(hn::BitCast(du, z));
  // the table has 2^1022 c
  const auto exponent = hn::And(hn::BitCast(du, z), hn::Set(du, 0xfff0000000000000ULL));
  const auto [c, minus_log] = look_up(slope_tables, index);
  const V scaled_c = hn::BitCast(d, hn::Sub(hn::BitCast(du, c), exponent));
  const Pair p = product_exact(scaled_c, top);
  const V half_n = hn::Sub(p.hi, half_of(x));  // exact: p is next to x/2
  const Pair sum = Accurate ? sum_ordered(x, half_n) : Pair{hn::Add(x, half_n), hn::Zero(d)};
  const V inverse = hn::Div(hn::Set(d, 1.0), sum.hi);
  const V half_lo = hn::MulAdd(scaled_c, top_lo, p.lo);
  const V n = hn::Add(half_n, half_n), n_lo = hn::Add(half_lo, half_lo);
  return {n, n_lo, half_n, half_lo, sum.hi, sum.lo, inverse, exponent_of(z), minus_log};
}

/// Its logarithm, asinh(v/x): e log 2 - log c + 2 atanh(y/2). If Accurate to 2^-67, to 2^-62 of
/// itself where it is small, and to 2^-73 where log I and log K vanish for large v, next to
/// 1.6595 2, where c makes y small; else the first two to 2^-61 and 2^-57.
template <bool Accurate>
HWY_INLINE Pair slope(const Quotient& z, V x) {
  const D d;
  const V y = hn::Mul(z.n, z.inverse);
  const V y2 = hn::Mul(y, y);
  V rest;
  if (Accurate) {
    rest = hn::Add(minus_product(z.n, y, z.sum), z.n_lo);
    rest = hn::NegMulAdd(y, hn::Add(z.half_lo, z.sum_lo), rest);
  } else {
    // n_lo (1 - y/2), half_lo being n_lo/2
    const V lo = hn::NegMulAdd(y, z.half_lo, z.n_lo);
    rest = hn::NegMulAdd(y, z.half_n, hn::Add(minus_product(z.n, y, x), lo));
  }
  rest = hn::Mul(rest, z.inverse);
  V q;
  if (Accurate) {
    q = hn::MulAdd(y2, hn::Set(d, bessel_slope_last), hn::Set(d, 1.0 / 2304));
    q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 448));
    q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 80));
    q = hn::MulAdd(q, y2, hn::Set(d, 1.0 / 12));
  } else {
    q = hn::MulAdd(y2, hn::Set(d, bessel_fast_slope[3]), hn::Set(d, bessel_fast_slope[2]));
    q = hn::MulAdd(q, y2, hn::Set(d, bessel_fast_slope[1]));
    q = hn::MulAdd(q, y2, hn::Set(d, bessel_fast_slope[0]));
  }
  const V e_hi = hn::MulAdd(z.e, hn::Set(d, ln2_hi), z.minus_log);  // exact
  const Pair leading = sum_ordered(e_hi, y);
  const V low = hn::MulAdd(z.e, hn::Set(d, ln2_lo), hn::Add(leading.lo, rest));
  V cubic = hn::Mul(y, q);
  if (Accurate) cubic = hn::MulAdd(rest, hn::Set(d, 0.25), cubic);
  return {leading.hi, hn::MulAdd(y2, cubic, low)};
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
  const auto index = hn::ShiftRight<48>(hn::BitCast(DU(), square));
  const V e = exponent_of(square), m = mantissa_of(square);
  const auto [c, minus_log] = look_up(Accurate ? log_tables : fast_log_tables, index);
  const V hi = hn::MulAdd(e, hn::Set(d, ln2_hi / 4), hn::Set(d, constant_hi));
  const V low = hn::MulAdd(e, hn::Set(d, ln2_lo / 4), hn::Set(d, constant_lo));
  // log(1 - r)/4 is what is left
  const V one = hn::Set(d, 1.0);
  const Pair product = product_exact(m, c);
  const V r = Accurate ? hn::Sub(one, product.hi) : minus_product(one, m, c);
  if (!Accurate) {
    V q = hn::Set(d, bessel_fast_half_log[7]);
    for (int k = 6; k >= 0; --k) q = hn::MulAdd(q, r, hn::Set(d, bessel_fast_half_log[k]));
    const V first = hn::Add(low, minus_log);
    return {hi, hn::Zero(d), hn::MulAdd(q, r, first)};
  }
  V q = hn::Set(d, -0.25 / 10);
  for (int k = 9; k >= 2; --k) q = hn::MulAdd(q, r, hn::Set(d, bessel_half_log_coefficient(k, 11)));
  const V middle = hn::Mul(r, hn::Set(d, -0.25));
  const V derivative = hn::Sub(middle, hn::Set(d, 0.25));
  const V first = hn::Add(low, look_up(bessel_log_table[2], index));
  const V lo = hn::NegMulAdd(derivative, product.lo, first);
  return {hn::Add(hi, minus_log), middle, hn::MulAdd(hn::Mul(r, r), q, lo)};
}

/// v^2 + x^2 = square + square_lo and its root w + w_lo.
struct Frame {
  V square, square_lo, w, w_lo, inverse_w, half_inverse;
};

HWY_INLINE Frame frame(V v, V x) {
  const D d;
  const V a = hn::Max(v, x), b = hn::Xor3(v, x, a);  // b: the other of the two
  const Pair aa = product_exact(a, a);
  const V square = hn::MulAdd(b, b, aa.hi);
  const V square_lo = hn::Sub(aa.lo, minus_product(hn::Sub(square, aa.hi), b, b));
  const V w = hn::Sqrt(square);
  const V half_inverse = hn::Div(hn::Set(d, 0.5), w);
  const V missed = hn::Add(minus_product(square, w, w), square_lo);
  const V inverse_w = hn::Add(half_inverse, half_inverse);
  return {square, square_lo, w, hn::Mul(missed, half_inverse), inverse_w, half_inverse};
}

/// A tile: what the passes over a few vectors hand on.
constexpr std::ptrdiff_t tile_size = 64;
struct Tile {
  HWY_ALIGN double hi[tile_size];
  HWY_ALIGN double lo[tile_size];
  HWY_ALIGN double inverse_w[tile_size];
  HWY_ALIGN double t[tile_size];
  double least_square;  // v^2 + x^2 of the points for the series
};

/// Everything but the sum of (1) or, for the second kind, (2) of kernel/bessel.hpp into `hi` and
/// `lo`. Returns a bit for each point that is not one for the series; of these, if not Mixed, it
/// may be less exact.
template <bool Second, bool Scaled, bool Accurate, bool Mixed>
HWY_NOINLINE std::uint64_t tile_heads(const double* v, const double* x, Tile& tile) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const hn::RebindToSigned<D> di;
  const auto bits = [&](V y) { return hn::BitCast(di, y); };
  const auto lowest = bits(hn::Set(d, bessel_series_square));
  const auto highest = bits(hn::Set(d, bessel_simd_most_square(Scaled)));
  const auto least_x = bits(hn::Set(d, bessel_simd_least_x));
  V least = hn::Set(d, bessel_simd_most_square(Scaled));
  std::uint64_t others = 0;
  // Two vectors step by step, and in two passes: of one after the other, or of one long chain, the
  // processor would not have enough in flight.
  constexpr int n = 2;
  HWY_ALIGN double roots[tile_size], roots_lo[tile_size], w[tile_size], w_lo[tile_size];
  HWY_ALIGN double missed[Accurate ? tile_size : 1];
  HWY_ALIGN double bad[Mixed ? tile_size : 1];
  for (std::ptrdiff_t begin = 0; begin < tile_size; begin += n * lanes) {
    const auto at = [&](int k) { return begin + k * lanes; };
    Frame f[n];
    for (int k = 0; k < n; ++k) {
      const V vi = hn::LoadU(d, v + at(k)), xi = hn::LoadU(d, x + at(k));
      f[k] = frame(vi, xi);
      // negative where one of these is: v, x, x - its least, v^2 + x^2 less its least, its most
      // less v^2 + x^2, all as integers, so that NaNs are beyond infinity
      const auto square = bits(f[k].square);
      const auto of_square = hn::Or(hn::Sub(square, lowest), hn::Sub(highest, square));
      const auto of_x = hn::Or(bits(xi), hn::Sub(bits(xi), least_x));
      const auto any = hn::Or(hn::Or(of_square, of_x), bits(vi));
      others |= mask_bits(hn::RebindMask(d, hn::Lt(any, hn::Zero(di)))) << at(k);
      least = hn::Min(f[k].square, least);  // in this order not NaN
      if (Mixed) hn::Store(hn::BitCast(d, any), d, bad + at(k));
      hn::Store(f[k].w, d, w + at(k));
      hn::Store(f[k].w_lo, d, w_lo + at(k));
      hn::Store(f[k].inverse_w, d, tile.inverse_w + at(k));
      hn::Store(hn::Mul(vi, f[k].inverse_w), d, tile.t + at(k));
      if (Accurate) hn::Store(hn::Mul(f[k].square_lo, f[k].half_inverse), d, missed + at(k));
    }
    for (int k = 0; k < n; ++k) {
      const Root root = half_log<Second, Accurate>(f[k].square);
      const Pair sum =
          Accurate ? difference_exact(root.hi, hn::Neg(root.middle)) : Pair{root.hi, root.lo};
      hn::Store(sum.hi, d, roots + at(k));
      hn::Store(Accurate ? hn::Add(root.lo, sum.lo) : sum.lo, d, roots_lo + at(k));
    }
  }
  for (std::ptrdiff_t begin = 0; begin < tile_size; begin += n * lanes) {
    const auto at = [&](int k) { return begin + k * lanes; };
    Quotient z[n];
    for (int k = 0; k < n; ++k) {
      const V vi = hn::LoadU(d, v + at(k)), xi = hn::LoadU(d, x + at(k));
      const Pair top = sum_ordered(hn::Load(d, w + at(k)), vi);
      z[k] = quotient<Accurate>(top.hi, hn::Add(top.lo, hn::Load(d, w_lo + at(k))), xi);
    }
    for (int k = 0; k < n; ++k) {
      const V vi = hn::LoadU(d, v + at(k)), xi = hn::LoadU(d, x + at(k));
      // w (- x) - v slope, for the second kind its negative
      const Pair s = slope<Accurate>(z[k], xi);
      const Pair product = product_exact(vi, s.hi);
      const V product_lo = hn::MulAdd(vi, s.lo, product.lo);
      const V wi = hn::Load(d, w + at(k));
      V first = wi, first_lo = hn::Load(d, w_lo + at(k));
      if (Scaled) {
        first = hn::Sub(wi, xi);
        first_lo = hn::Add(first_lo, hn::Sub(hn::Sub(wi, first), xi));
      }
      const V rest = Second ? hn::Sub(product_lo, first_lo) : hn::Sub(first_lo, product_lo);
      const V a = Second ? product.hi : first, b = Second ? first : product.hi;
      const V root = hn::Load(d, roots + at(k));
      Pair hi;
      V lo = hn::Sub(rest, hn::Load(d, roots_lo + at(k)));
      if (Accurate || Scaled) {
        const Pair lead = difference_exact(a, b);
        hi = difference_exact(lead.hi, root);
        lo = hn::Add(hn::Add(lo, lead.lo), hi.lo);
      } else {
        // Where these differences round, the result is nearly as large as they are, for the series:
        // at most u/2 each.
        hi.hi = hn::Sub(hn::Sub(a, b), root);
        if (Mixed) {
          const auto those = hn::Lt(bits(hn::Load(d, bad + at(k))), hn::Zero(di));
          lo = hn::Add(lo, hn::IfThenElseZero(hn::RebindMask(d, those), difference_exact(a, b).lo));
        }
      }
      if (Accurate) {
        // log(w) of the part that square lacks
        const V half_inverse = half_of(hn::Load(d, tile.inverse_w + at(k)));
        lo = hn::NegMulAdd(hn::Load(d, missed + at(k)), half_inverse, lo);
      }
      hn::Store(hi.hi, d, tile.hi + at(k));
      hn::Store(lo, d, tile.lo + at(k));
    }
  }
  tile.least_square = std::fmax(hn::GetLane(hn::MinOfLanes(d, least)), bessel_series_square);
  return others;
}

/// Four vectors at a time: the chains of additions are long.
struct Four {
  V v[4];
};

/// s = s z + s_k(T), with `some` only in the lanes of `wanted`; the first is just that.
HWY_INLINE void add_term(int k, const BesselSeries& series, bool first, bool some,
                         const hn::Mask<D>* wanted, const Four& t2, const Four& z, Four& s) {
  const D d;
  const double* const c = series.coefficients + k * (k + 1) / 2 - 1;
  Four p;
  for (V& each : p.v) each = hn::Set(d, c[k]);
  for (int j = k - 1; j >= 0; --j) {
    const V next = hn::Set(d, c[j]);
    for (int i = 0; i < 4; ++i) p.v[i] = hn::MulAdd(p.v[i], t2.v[i], next);
  }
  if (some)
    for (int i = 0; i < 4; ++i) p.v[i] = hn::IfThenElseZero(wanted[i], p.v[i]);
  if (first)
    s = p;
  else
    for (int i = 0; i < 4; ++i) s.v[i] = hn::MulAdd(s.v[i], z.v[i], p.v[i]);
}

/// Where sixteen floats can be looked up at once, the terms from this on are one polynomial of few
/// digits, for each of 16 columns in t = v/w another.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
constexpr int tail_from(bool accurate) { return accurate ? 9 : 7; }

/// The sum of the terms from tail_from on over that power of z, in the lanes of `wanted`, else 0.
template <bool Accurate>
HWY_INLINE Four tail(bool second, const Four& t, const Four& w, const hn::Mask<D>* wanted) {
  const D d;
  const hn::ScalableTag<float> df;
  const hn::Half<decltype(df)> half;
  const hn::RebindToSigned<decltype(df)> di;
  using F = hn::Vec<decltype(df)>;
  const auto floats = [&](const Four& y, int i) {
    return hn::Combine(df, hn::DemoteTo(half, y.v[i + 1]), hn::DemoteTo(half, y.v[i]));
  };
  F a[2], inverse_w[2], s[2], p[2];
  hn::Vec<decltype(di)> column[2];
  for (int i = 0; i < 2; ++i) {
    // 16 less its last place: t = 1 is in the last column
    const F place = hn::Mul(floats(t, 2 * i), hn::Set(df, 0x1.fffffep3F));
    const F whole = hn::Floor(place);
    column[i] = hn::ConvertTo(di, whole);
    a[i] = hn::Sub(hn::Sub(place, whole), hn::Set(df, 0.5F));
    inverse_w[i] = floats(w, 2 * i);
  }
  const auto add = [&](const auto& lengths, const float(*row)[16]) {
    bool first = true;
    for (const int length : lengths) {
      for (int i = 0; i < 2; ++i) p[i] = look_up(*row, column[i]);
      ++row;
      for (int j = 1; j < length; ++j, ++row)
        for (int i = 0; i < 2; ++i) p[i] = hn::MulAdd(p[i], inverse_w[i], look_up(*row, column[i]));
      for (int i = 0; i < 2; ++i) s[i] = first ? p[i] : hn::MulAdd(s[i], a[i], p[i]);
      first = false;
    }
  };
  if (Accurate)
    add(bessel_tail_length, bessel_tail[second ? 1 : 0]);
  else
    add(bessel_fast_tail_length, bessel_fast_tail[second ? 1 : 0]);
  Four sum;
  for (int i = 0; i < 2; ++i) {
    sum.v[2 * i] = hn::PromoteTo(d, hn::LowerHalf(half, s[i]));
    sum.v[2 * i + 1] = hn::PromoteTo(d, hn::UpperHalf(half, s[i]));
  }
  for (int i = 0; i < 4; ++i) sum.v[i] = hn::IfThenElseZero(wanted[i], sum.v[i]);
  return sum;
}
#else
constexpr int tail_from(bool) { return BesselSeries::most_terms + 1; }
template <bool Accurate>
HWY_INLINE Four tail(bool, const Four&, const Four& w, const hn::Mask<D>*) {
  return w;  // never asked
}
#endif

/// w > the positive number that `limit` has the bits of, as integers: they have more units for it.
HWY_INLINE void above(const Four& w, std::int64_t limit, hn::Mask<D>* which) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::Set(di, limit);
  for (int i = 0; i < 4; ++i) which[i] = hn::RebindMask(d, hn::Gt(hn::BitCast(di, w.v[i]), bits));
}

/// Bit i: the bound of the error of lane i is too large for the accurate mode.
HWY_INLINE std::uint64_t weak_lanes(V v, V inverse_w, V value) {
  const D d;
  // terms left out, rounding of the sum, of the slope, over what may be of the value
  constexpr double share = 0x1.ap-55;
  V error = hn::MulAdd(inverse_w, hn::Set(d, 0x1p-54 / share), hn::Set(d, 0x1p-61 / share));
  error = hn::MulAdd(v, hn::Set(d, 0x1p-69 / share), error);
  const auto good = hn::Le(error, hn::Abs(value));
  return HWY_LIKELY(hn::AllTrue(d, good)) ? 0 : mask_bits(hn::Not(good));
}

/// out = hi + lo + sum of the series, for each point with the terms that its own 1/w asks for. In
/// the accurate mode points that `here` has a bit for are added to `weak` if they are too
/// uncertain: the first of the tile is number `first`. `out` may be v or x.
template <bool Accurate>
HWY_INLINE void tile_series(const Tile& tile, bool second, const BesselSeries& series,
                            const double* v, const double* x, std::uint64_t here,
                            std::ptrdiff_t first, double* out, BesselPoints& weak) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  // to the safe side of rounding: which terms a point gets is its own 1/w's affair
  const double highest = (1 + 0x1p-50) / std::sqrt(tile.least_square);
  constexpr int from = tail_from(Accurate);
  const bool tailed = from <= series.terms && highest > series.most_inverse_w[from - 1];
  int most = std::min(series.terms, from - 1);
  while (most > 1 && highest <= series.most_inverse_w[most - 1]) --most;
  const V sign = hn::Set(d, second ? -0.0 : 0.0);
  for (std::ptrdiff_t begin = 0; begin < tile_size; begin += 4 * lanes) {
    Four t, t2, w, z, s;
    for (int i = 0; i < 4; ++i) {
      t.v[i] = hn::Load(d, tile.t + begin + i * lanes);
      t2.v[i] = hn::Mul(t.v[i], t.v[i]);
      w.v[i] = hn::Load(d, tile.inverse_w + begin + i * lanes);
      z.v[i] = hn::Xor(w.v[i], sign);
      s.v[i] = hn::Zero(d);
    }
    const auto bits = [&](int k) { return std::bit_cast<std::int64_t>(series.most_inverse_w[k]); };
    std::int64_t limit = bits(tailed ? from - 1 : most - 1);
    hn::Mask<D> wanted[4];
    above(w, limit, wanted);
    if (tailed) s = tail<Accurate>(second, t, w, wanted);
    for (int k = most; k >= 1; --k) {
      if (limit != bits(k - 1)) {
        limit = bits(k - 1);
        above(w, limit, wanted);
      }
      add_term(k, series, k == most && !tailed, limit > 0, wanted, t2, z, s);
    }
    std::uint64_t uncertain = 0;
    for (int i = 0; i < 4; ++i) {
      const std::ptrdiff_t at = begin + i * lanes;
      const V low = hn::MulAdd(s.v[i], z.v[i], hn::Load(d, tile.lo + at));
      s.v[i] = hn::Add(hn::Load(d, tile.hi + at), low);
      if (Accurate) uncertain |= weak_lanes(hn::LoadU(d, v + at), w.v[i], s.v[i]) << at;
    }
    for (std::uint64_t left = uncertain & here; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      weak.add(v[i], x[i], first + i);
    }
    for (int i = 0; i < 4; ++i) hn::StoreU(s.v[i], d, out + begin + i * lanes);
  }
}

/// The points of a tile that `others` has a bit for, and what is known of them.
HWY_INLINE void set_aside(const double* v, const double* x, const Tile& tile, std::ptrdiff_t begin,
                          std::uint64_t others, BesselNarrow& narrow) {
  const std::ptrdiff_t to = narrow.points.size;
  if (others == ~std::uint64_t{0}) {
    const D d;
    const hn::Rebind<std::uint32_t, D> di;
    const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
    static constexpr std::uint32_t numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const auto steps = hn::LoadU(di, numbers);
    for (std::ptrdiff_t i = 0; i < tile_size; i += lanes) {
      hn::StoreU(hn::LoadU(d, v + i), d, narrow.points.v + to + i);
      hn::StoreU(hn::LoadU(d, x + i), d, narrow.points.x + to + i);
      hn::StoreU(hn::Load(d, tile.hi + i), d, narrow.hi + to + i);
      hn::StoreU(hn::Load(d, tile.lo + i), d, narrow.lo + to + i);
      hn::StoreU(hn::Load(d, tile.inverse_w + i), d, narrow.inverse_w + to + i);
      const auto first = hn::Set(di, static_cast<std::uint32_t>(begin + i));
      hn::StoreU(hn::Add(first, steps), di, narrow.points.place + to + i);
    }
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
  bool mixed = false;
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
    // Only the fast mode has two ways; most often a tile is like the one before.
    constexpr bool two_ways = !Accurate && !Scaled;
    std::uint64_t others =
        mixed ? tile_heads<Second, Scaled, Accurate, two_ways>(tile_v, tile_x, tile)
              : tile_heads<Second, Scaled, Accurate, false>(tile_v, tile_x, tile);
    if (two_ways && !mixed && others != 0)
      others = tile_heads<Second, Scaled, Accurate, two_ways>(tile_v, tile_x, tile);
    mixed = others != 0;
    others &= mine;
    if (others != 0) set_aside(tile_v, tile_x, tile, begin, others, narrow);
    if (others == mine) continue;
    tile_series<Accurate>(tile, Second, series, tile_v, tile_x, mine & ~others, begin, tile_out,
                          weak);
    if (tile_out == last[2]) std::copy(last[2], last[2] + size, out + begin);
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
    const V m = mantissa_of(inverse_w);
    V row = hn::NegMulAdd(e, hn::Set(d, 3.0), hn::Set(d, 5.0));
    row = hn::Sub(row, hn::Add(step(hn::Ge(m, hn::Set(d, 0x1.428a2f98d728bp+0))),
                               step(hn::Ge(m, hn::Set(d, 0x1.965fea53d6e3dp+0)))));
    row = hn::Min(hn::Max(row, hn::Zero(d)), hn::Set(d, bessel_cell_rows - 1));
    const V sixths = hn::Mul(t, hn::Set(d, 6.0));
    V column = hn::Min(hn::Floor(sixths), hn::Set(d, 5.0));
    const auto in_row = hn::Le(inverse_w, hn::Set(d, bessel_cell_inverse_w[0]));
    const auto good =
        hn::And(hn::And(hn::Ge(v, hn::Zero(d)), hn::Ge(x, hn::Set(d, bessel_simd_least_x))),
                hn::Ge(inverse_w, hn::Set(d, bessel_cell_inverse_w[bessel_cell_rows])));
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
    bin = hn::IfThenElse(in_row, bin, hn::Set(d, bessel_tiny_bin));
    bin = hn::IfThenElse(good, bin, hn::Set(d, bessel_tiny_bin + 1.0));
    hn::StoreU(hn::DemoteTo(di, bin), di, narrow.bin + i);
  }
}

/// a + b.
HWY_INLINE Pair sum_exact(V a, V b) { return difference_exact(a, hn::Neg(b)); }

/// N vectors of a cell; if Accurate, what rounding loses in the last additions is kept.
template <int N, bool Accurate>
HWY_INLINE void cell_vectors(std::ptrdiff_t begin, const BesselNarrow& narrow,
                             const BesselCell& cell) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const auto scaled = [&](V y, const double* scale, const double* shift) {
    const V r = hn::MulAdd(y, hn::Set(d, scale[0]), hn::Set(d, shift[0]));
    return Accurate ? hn::Add(r, hn::MulAdd(y, hn::Set(d, scale[1]), hn::Set(d, shift[1]))) : r;
  };
  V a[N], b[N], s[N], p[N];
  for (int k = 0; k < N; ++k) {
    const std::ptrdiff_t at = begin + k * lanes;
    a[k] = scaled(hn::LoadU(d, narrow.ordered_t + at), cell.a_scale, cell.a_shift);
    b[k] = scaled(hn::LoadU(d, narrow.ordered_inverse_w + at), cell.b_scale, cell.b_shift);
    s[k] = hn::Zero(d);
  }
  const double* c = cell.coefficients;
  const auto row = [&](int length) {
    ++c;
    for (int k = 0; k < N; ++k) p[k] = hn::Zero(d);
    for (int j = 0; j < length; ++j) {
      const V next = hn::Set(d, *c++);
      for (int k = 0; k < N; ++k) p[k] = hn::MulAdd(p[k], b[k], next);
    }
  };
  const int last = cell.rows - 1;
  for (int i = 0; i < last; ++i) {
    row(cell.length[i]);
    for (int k = 0; k < N; ++k) s[k] = hn::MulAdd(s[k], a[k], p[k]);
  }
  row(cell.length[last] - (Accurate ? 1 : 0));
  for (int k = 0; k < N; ++k) {
    const std::ptrdiff_t at = begin + k * lanes;
    const V inverse_w = hn::LoadU(d, narrow.ordered_inverse_w + at);
    if (!Accurate) {
      const V sum = hn::MulAdd(s[k], a[k], p[k]);
      hn::StoreU(hn::Mul(sum, inverse_w), d, narrow.ordered_sum + at);
      continue;
    }
    // s a + p b + the last coefficient
    const Pair sa = product_exact(s[k], a[k]), pb = product_exact(p[k], b[k]);
    const Pair first = sum_exact(hn::Set(d, *c), pb.hi);
    const Pair all = sum_exact(first.hi, sa.hi);
    const V low = hn::Add(hn::Add(first.lo, all.lo), hn::Add(sa.lo, pb.lo));
    const Pair sum = product_exact(all.hi, inverse_w);
    hn::StoreU(sum.hi, d, narrow.ordered_sum + at);
    hn::StoreU(hn::MulAdd(low, inverse_w, sum.lo), d, narrow.ordered_sum_lo + at);
  }
}

template <bool Accurate>
void add_cell_as(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
                 const BesselCell& cell) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  std::ptrdiff_t i = begin;
  for (; i + 3 * lanes < end; i += 4 * lanes) cell_vectors<4, Accurate>(i, narrow, cell);
  if (i + 2 * lanes < end)
    cell_vectors<3, Accurate>(i, narrow, cell);
  else if (i + lanes < end)
    cell_vectors<2, Accurate>(i, narrow, cell);
  else if (i < end)
    cell_vectors<1, Accurate>(i, narrow, cell);
}
void add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
              const BesselCell& cell, bool accurate) {
  (accurate ? add_cell_as<true> : add_cell_as<false>)(begin, end, narrow, cell);
}

/// What the cells did not see: a^2/(v^2 + x^2) - t^2 for t = a/w rounded, and 1/(v^2 + x^2) over
/// the square of 1/w rounded, less 1.
struct Missed {
  V t_square, inverse_square;
};
HWY_INLINE Missed missed(V a, V v, V x, V inverse_w, V t) {
  const D d;
  const Pair aa = product_exact(a, a), vv = product_exact(v, v), xx = product_exact(x, x);
  const V square = hn::Add(vv.hi, xx.hi);
  const V larger = hn::Max(vv.hi, xx.hi), smaller = hn::Min(vv.hi, xx.hi);
  const V square_lo = hn::Add(hn::Sub(smaller, hn::Sub(square, larger)), hn::Add(vv.lo, xx.lo));
  // c - y^2 (v^2 + x^2)
  const auto rest = [&](V c, V c_lo, V y) {
    const Pair yy = product_exact(y, y);
    const Pair p = product_exact(yy.hi, square);
    const V low = hn::MulAdd(yy.hi, square_lo, hn::MulAdd(yy.lo, square, p.lo));
    return hn::Add(hn::Sub(c, p.hi), hn::Sub(c_lo, low));
  };
  return {hn::Mul(hn::Mul(rest(aa.hi, aa.lo, t), inverse_w), inverse_w),
          rest(hn::Set(d, 1.0), hn::Zero(d), inverse_w)};
}

std::ptrdiff_t finish(const BesselNarrow& narrow, bool second, bool accurate, const double* bounds,
                      double* values, std::int32_t* weak) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<std::int32_t, D> di32;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const BesselPoints& points = narrow.points;
  std::ptrdiff_t found = 0;
  const auto store = [&](V value, std::ptrdiff_t i) {
    if (i + lanes <= points.size) {
      hn::StoreU(value, d, values + i);
      return;
    }
    double last[64 / sizeof(double)];
    hn::StoreU(value, d, last);
    std::copy(last, last + (points.size - i), values + i);
  };
  for (std::ptrdiff_t i = 0; i < points.size; i += lanes) {
    const V hi = hn::LoadU(d, narrow.hi + i), lo = hn::LoadU(d, narrow.lo + i);
    const V sum = hn::LoadU(d, narrow.sum + i);
    if (!accurate) {
      store(hn::Add(hi, hn::Add(lo, sum)), i);
      continue;
    }
    // the rounding of t, by the first term of either series: -5/24 t^2/w and 5/24 (1 - u^2)/w;
    // that of 1/w as if the sum were proportional to it. What this leaves is in the bounds.
    const V v = hn::LoadU(d, points.v + i), x = hn::LoadU(d, points.x + i);
    const V inverse_w = hn::LoadU(d, narrow.inverse_w + i);
    const Missed m = missed(second ? x : v, v, x, inverse_w, hn::LoadU(d, narrow.t + i));
    V more = hn::Mul(hn::Mul(m.t_square, inverse_w), hn::Set(d, -5.0 / 24));
    more = hn::MulAdd(hn::Mul(m.inverse_square, sum), hn::Set(d, 0.5), more);
    more = hn::Add(more, hn::LoadU(d, narrow.sum_lo + i));
    const Pair leading = sum_exact(hi, sum);
    const V value = hn::Add(leading.hi, hn::Add(leading.lo, hn::Add(lo, more)));
    store(value, i);
    // of the cell, of the last additions, of the slope
    const auto bin = hn::PromoteTo(di, hn::LoadU(di32, narrow.bin + i));
    V error = hn::MulAdd(inverse_w, hn::Set(d, 0x1p-58), hn::GatherIndex(d, bounds, bin));
    error = hn::MulAdd(v, hn::Set(d, 0x1p-69), error);
    const auto good = hn::Le(error, hn::Mul(hn::Abs(value), hn::Set(d, 0x1.ap-55)));
    if (HWY_LIKELY(hn::AllTrue(d, good))) continue;
    for (std::uint64_t left = mask_bits(hn::Not(good)); left != 0; left &= left - 1) {
      const std::ptrdiff_t k = i + std::countr_zero(left);
      if (k < points.size) weak[found++] = static_cast<std::int32_t>(k);
    }
  }
  return found;
}

/// p b + c for pairs p and b, to about 2^-100.
HWY_INLINE Pair pair_step(const Pair& p, const Pair& b, V c) {
  const Pair product = product_exact(p.hi, b.hi);
  const Pair sum = difference_exact(c, hn::Neg(product.hi));
  const V low = hn::MulAdd(p.hi, b.lo, hn::MulAdd(p.lo, b.hi, product.lo));
  return {sum.hi, hn::Add(sum.lo, low)};
}

/// The points that `weak` has the numbers of, all of one cell, once more with pairs for t, 1/w and
/// the polynomial; a bit for each that is still too uncertain.
std::uint64_t exact_cell(const std::int32_t* weak, int n, const BesselNarrow& narrow, bool second,
                         const BesselCell& cell, double* values) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<std::int32_t, D> di32;
  const auto lanes = static_cast<int>(hn::Lanes(d));
  std::uint64_t uncertain = 0;
  for (int i = 0; i < n; i += lanes) {
    const auto at = hn::PromoteTo(di, hn::LoadU(di32, weak + i));
    const V v = hn::GatherIndex(d, narrow.points.v, at);
    const V x = hn::GatherIndex(d, narrow.points.x, at);
    const Frame f = frame(v, x);
    const V one = hn::Set(d, 1.0);
    const V missed = hn::NegMulAdd(f.w_lo, f.inverse_w, minus_product(one, f.w, f.inverse_w));
    const Pair inverse_w = {f.inverse_w, hn::Mul(missed, f.inverse_w)};
    const V top = second ? x : v;
    Pair t = product_exact(top, inverse_w.hi);
    t.lo = hn::MulAdd(top, inverse_w.lo, t.lo);
    const auto scaled = [&](const Pair& y, const double* scale, const double* shift) {
      const Pair hi = {hn::Set(d, scale[0]), hn::Set(d, scale[1])};
      Pair r = pair_step(y, hi, hn::Set(d, shift[0]));
      r.lo = hn::Add(r.lo, hn::Set(d, shift[1]));
      return r;
    };
    const Pair a = scaled(t, cell.a_scale, cell.a_shift);
    const Pair b = scaled(inverse_w, cell.b_scale, cell.b_shift);
    const V zero = hn::Zero(d);
    Pair s = {zero, zero};
    const double* c = cell.coefficients;
    for (int row = 0; row < cell.rows; ++row) {
      ++c;
      Pair p = {hn::Set(d, *c++), zero};
      for (int j = 1; j < cell.length[row]; ++j) p = pair_step(p, b, hn::Set(d, *c++));
      s = pair_step(s, a, p.hi);
      s.lo = hn::Add(s.lo, p.lo);
    }
    const V rest = hn::MulAdd(hn::Set(d, cell.rest[1]), b.hi, hn::Set(d, cell.rest[0]));
    s.lo = hn::Add(s.lo, hn::MulAdd(hn::Set(d, cell.rest[2]), a.hi, rest));
    s = pair_step(s, inverse_w, zero);
    const Pair sum = difference_exact(hn::GatherIndex(d, narrow.hi, at), hn::Neg(s.hi));
    const V low = hn::Add(hn::Add(hn::GatherIndex(d, narrow.lo, at), s.lo), sum.lo);
    const V value = hn::Add(sum.hi, low);
    // left out, rounding of the coefficients, of the slope
    V error = hn::Set(d, cell.bound + cell.rounding + 0x1.6p-64);
    error = hn::MulAdd(f.inverse_w, hn::Set(d, 0x1p-60), error);
    error = hn::MulAdd(v, hn::Set(d, 0x1p-69), error);
    const auto good = hn::Le(error, hn::Mul(hn::Abs(value), hn::Set(d, 0x1.ap-55)));
    uncertain |= mask_bits(hn::Not(good)) << i;
    double exact[64 / sizeof(double)];
    hn::StoreU(value, d, exact);
    for (int k = 0; k < std::min(lanes, n - i); ++k) values[weak[i + k]] = exact[k];
  }
  return uncertain;
}

// ---- w < 1/4, and the second kind next to x = 0 -------------------------------------------------

/// log y for a normal y > 0, to 2^-62 of max(1, |log|).
HWY_INLINE Pair logarithm(V y) {
  const D d;
  const auto index = hn::ShiftRight<48>(hn::BitCast(DU(), y));
  const V e = exponent_of(y), one = hn::Set(d, 1.0), four = hn::Set(d, 4.0);
  const Pair product = product_exact(mantissa_of(y), look_up(bessel_log_table[0], index));
  const V r = hn::Sub(one, product.hi);
  const V hi =
      hn::MulAdd(e, hn::Set(d, ln2_hi), hn::Mul(four, look_up(bessel_log_table[1], index)));
  V lo = hn::MulAdd(e, hn::Set(d, ln2_lo), hn::Mul(four, look_up(bessel_log_table[2], index)));
  V q = hn::Set(d, -1.0 / 11);
  for (int k = 10; k >= 2; --k) q = hn::MulAdd(q, r, hn::Set(d, -1.0 / k));
  const Pair leading = difference_exact(hi, r);
  lo = hn::Add(hn::MulAdd(product.lo, hn::Add(one, r), lo), leading.lo);
  return {leading.hi, hn::MulAdd(hn::Mul(r, r), q, lo)};
}

constexpr auto reciprocal_factorial = [] {
  std::array<double, 15> c{};
  double factorial = 1;  // exact
  for (int j = 0; j < 15; ++j) c[j] = 1 / (factorial *= std::max(j, 1));
  return c;
}();

/// (1 - exp(-s))/(2 mu) for s = 2 mu l, |s| < 700, l > 0, in two parts, and exp(-s).
struct Fall {
  Pair mean;
  V end;
};
HWY_INLINE Fall fall(V mu, const Pair& l) {
  const D d;
  const DU du;
  const V one = hn::Set(d, 1.0), zero = hn::Zero(d), twice = hn::Add(mu, mu);
  Pair s = product_exact(twice, l.hi);
  s.lo = hn::MulAdd(twice, l.lo, s.lo);
  const V k = hn::Round(hn::Mul(s.hi, hn::Set(d, -0x1.71547652b82fep+0)));
  const V r = hn::Sub(hn::NegMulAdd(k, hn::Set(d, ln2_hi), hn::Neg(s.hi)),
                      hn::MulAdd(k, hn::Set(d, ln2_lo), s.lo));
  // (e^r - 1 - r)/r to r^13
  V p = hn::Set(d, reciprocal_factorial[14]);
  for (int j = 13; j >= 2; --j) p = hn::MulAdd(p, r, hn::Set(d, reciprocal_factorial[j]));
  p = hn::Mul(p, r);
  // k + 1023 as the low bits of 1.5 2^52 + k + 1023
  const auto biased = hn::BitCast(du, hn::Add(k, hn::Set(d, 0x1.8p52 + 1023)));
  const V power = hn::BitCast(d, hn::ShiftLeft<52>(biased));
  // where k = 0, l times 1 + p; else (1 - 2^k - 2^k (r + r p))/(2 mu)
  const auto whole = hn::Eq(k, zero);
  const Pair near = sum_ordered(l.hi, hn::Mul(l.hi, p));
  const V scaled_r = hn::Mul(power, r), rise = hn::MulAdd(scaled_r, p, scaled_r);
  const Pair part = difference_exact(hn::Sub(one, power), scaled_r);
  const V part_lo = hn::NegMulAdd(scaled_r, p, part.lo);
  const V inverse = hn::Div(one, hn::IfThenElse(whole, one, twice));
  const V far = hn::Mul(hn::Add(part.hi, part_lo), inverse);
  const V far_lo = hn::Mul(hn::Add(minus_product(part.hi, far, twice), part_lo), inverse);
  return {{hn::IfThenElse(whole, near.hi, far),
           hn::IfThenElse(whole, hn::MulAdd(l.lo, p, hn::Add(near.lo, l.lo)), far_lo)},
          hn::Add(power, rise)};
}

/// A cell of bessel_tiny.
HWY_INLINE Four tiny_cell(int number, const Four& a, const Four& b) {
  const D d;
  const double* c = bessel_tiny + bessel_tiny_start[number];
  const int rows = static_cast<int>(*c);
  c += 2;
  Four s, p;
  for (int k = 0; k < 4; ++k) s.v[k] = hn::Zero(d);
  for (int row = 0; row < rows; ++row) {
    const double* const end = c + 1 + static_cast<int>(*c);
    for (V& each : p.v) each = hn::Set(d, c[1]);
    for (c += 2; c < end; ++c) {
      const V next = hn::Set(d, *c);
      for (int k = 0; k < 4; ++k) p.v[k] = hn::MulAdd(p.v[k], b.v[k], next);
    }
    for (int k = 0; k < 4; ++k) s.v[k] = hn::MulAdd(s.v[k], a.v[k], p.v[k]);
  }
  return s;
}

/// log I = log(Gamma(1 + v) G) - v (log(2/x) + log(Gamma(1 + v))/v), G = (x/2)^-v I_v(x), and the
/// sum of the sizes of the two.
template <bool Scaled>
HWY_INLINE void tiny_first(const Four& v, const Four& x, Four& value, Four& size) {
  const D d;
  Four a, b, q;
  for (int k = 0; k < 4; ++k) {
    const V half = hn::Mul(x.v[k], hn::Set(d, 0.5));
    q.v[k] = hn::Mul(half, half);
    a.v[k] = hn::MulSub(v.v[k], hn::Set(d, 8.0), hn::Set(d, 1.0));
    b.v[k] = hn::MulSub(q.v[k], hn::Set(d, 128.0), hn::Set(d, 1.0));
  }
  const Four gamma = tiny_cell(0, a, b), series = tiny_cell(1, a, b);
  for (int k = 0; k < 4; ++k) {
    const Pair log_half = logarithm(hn::Mul(x.v[k], hn::Set(d, 0.5)));
    const Pair sum = difference_exact(gamma.v[k], log_half.hi);
    const Pair power = product_exact(v.v[k], sum.hi);
    const V rest = hn::Mul(q.v[k], series.v[k]);
    V low = hn::MulAdd(v.v[k], hn::Sub(sum.lo, log_half.lo), power.lo);
    Pair all = difference_exact(rest, power.hi);
    size.v[k] = hn::Add(rest, power.hi);
    if (Scaled) {
      low = hn::Sub(low, all.lo);
      all = difference_exact(all.hi, x.v[k]);
    }
    value.v[k] = hn::Add(all.hi, hn::Sub(all.lo, low));
  }
}

/// With L = log(2/x) and v = n + mu, |mu| <= 1/2, Temme's formulas for K_mu and (x/2) K_{mu+1}
/// times (x/2)^mu, then the recurrence upwards; log K = v L + the logarithm of that. The first is
/// A + (B - mu A) L (1 - exp(-s))/s, s = 2 mu L, A and B the two functions in the table. What n >=
/// 1 needs has x < 6e-4 and log K > 4: there two terms in q = (x/2)^2 are enough, and simple sums.
template <bool Scaled>
HWY_INLINE void tiny_second(const Four& v, const Four& x, Four& value) {
  const D d;
  const V one = hn::Set(d, 1.0), two = hn::Set(d, 2.0), half = hn::Set(d, 0.5);
  Four n, mu, square, q, a, b;
  for (int k = 0; k < 4; ++k) {
    n.v[k] = hn::Round(v.v[k]);
    mu.v[k] = hn::Sub(v.v[k], n.v[k]);
    square.v[k] = hn::Mul(mu.v[k], mu.v[k]);
    const V half_x = hn::Mul(x.v[k], half);
    q.v[k] = hn::Mul(half_x, half_x);
    a.v[k] = hn::MulSub(square.v[k], hn::Set(d, 8.0), one);
    b.v[k] = hn::MulSub(q.v[k], hn::Set(d, 128.0), one);
  }
  const Four odd = tiny_cell(2, a, b), even = tiny_cell(3, a, b);
  for (int k = 0; k < 4; ++k) {
    const Pair log_half = logarithm(hn::Mul(x.v[k], half));
    const Pair l = {hn::Neg(log_half.hi), hn::Neg(log_half.lo)};
    const V m = mu.v[k], qk = q.v[k];
    const Fall f = fall(m, l);
    // B - mu A = 1 + c
    const V c = hn::NegMulAdd(m, odd.v[k], even.v[k]);
    V low = hn::Add(f.mean.lo, hn::MulAdd(c, f.mean.hi, odd.v[k]));
    low = hn::MulAdd(c, f.mean.lo, low);
    Pair r = sum_exact(f.mean.hi, low);
    const auto first = hn::Lt(n.v[k], half);
    if (!hn::AllTrue(d, first)) {
      const V square_k = square.v[k];
      const V up = hn::Div(one, hn::Sub(one, m)), down = hn::Div(one, hn::Add(one, m));
      // Gamma(1 + mu)/2 and Gamma(1 - mu) exp(-s)/2: B +- mu A to q^2 less what q adds
      const V q_up = hn::Mul(qk, hn::MulAdd(hn::Mul(qk, half), hn::Div(one, hn::Sub(two, m)), one));
      const V q_down =
          hn::Mul(qk, hn::MulAdd(hn::Mul(qk, half), hn::Div(one, hn::Add(two, m)), one));
      const V plus = hn::Add(one, hn::MulAdd(m, odd.v[k], even.v[k]));
      const V p0 = hn::Div(hn::Mul(half, plus), hn::MulAdd(q_up, up, one));
      const V r0 =
          hn::Mul(hn::Div(hn::Mul(half, hn::Add(one, c)), hn::MulAdd(q_down, down, one)), f.end);
      const V f1 = hn::Div(hn::Add(r.hi, hn::Add(p0, r0)), hn::Add(hn::Sub(one, square_k), qk));
      const V p1 = hn::Mul(p0, up), r1 = hn::Mul(r0, down);
      const V f2 =
          hn::Div(hn::MulAdd(two, f1, hn::Add(p1, r1)), hn::Sub(hn::Set(d, 4.0), square_k));
      const V p2 = hn::Div(p1, hn::Sub(two, m));
      V k1 = hn::MulAdd(qk, hn::Sub(p1, f1), p0);
      k1 = hn::MulAdd(hn::Mul(qk, qk), hn::MulSub(half, p2, f2), k1);
      const V k2 = hn::MulAdd(hn::Add(one, m), k1, hn::Mul(qk, r.hi));
      const V higher = hn::IfThenElse(hn::Eq(n.v[k], one), k1, k2);
      r = {hn::IfThenElse(first, r.hi, higher), hn::IfThenElseZero(first, r.lo)};
    }
    const Pair power = product_exact(v.v[k], l.hi);
    const Pair rest = logarithm(r.hi);
    low = hn::Add(hn::MulAdd(v.v[k], l.lo, power.lo), hn::Add(rest.lo, hn::Div(r.lo, r.hi)));
    Pair all = sum_exact(power.hi, rest.hi);
    if (Scaled) {
      low = hn::Add(low, all.lo);
      all = sum_exact(all.hi, x.v[k]);
    }
    value.v[k] = hn::Add(all.hi, hn::Add(all.lo, low));
  }
}

template <bool Second, bool Scaled>
void tiny_as(const BesselPoints& points, bool relative, double* out, BesselPoints& weak) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  HWY_ALIGN double values[4 * 64 / sizeof(double)];
  for (std::ptrdiff_t i = 0; i < points.size; i += 4 * lanes) {
    Four v, x, value, size;
    for (int k = 0; k < 4; ++k) {
      v.v[k] = hn::LoadU(d, points.v + i + k * lanes);
      x.v[k] = hn::LoadU(d, points.x + i + k * lanes);
    }
    if (Second)
      tiny_second<Scaled>(v, x, value);
    else
      tiny_first<Scaled>(v, x, value, size);
    for (int k = 0; k < 4; ++k) hn::Store(value.v[k], d, values + k * lanes);
    const std::ptrdiff_t here = std::min(4 * lanes, points.size - i);
    for (std::ptrdiff_t j = 0; j < here; ++j) out[points.place[i + j]] = values[j];
    if (Second || Scaled || !relative) continue;  // no zeros
    std::uint64_t small = 0;
    for (int k = 0; k < 4; ++k) {
      const V least = hn::Mul(size.v[k], hn::Set(d, 0x1p-20));
      small |= mask_bits(hn::Lt(hn::Abs(value.v[k]), least)) << (k * lanes);
    }
    for (; small != 0; small &= small - 1) {
      const std::ptrdiff_t j = i + std::countr_zero(small);
      if (j < points.size) weak.add(points.v[j], points.x[j], points.place[j]);
    }
  }
}

void tiny_points(const BesselPoints& points, BesselTask task, bool relative, double* out,
                 BesselPoints& weak) {
  constexpr decltype(&tiny_as<false, false>) all[2][2] = {
      {tiny_as<false, false>, tiny_as<false, true>}, {tiny_as<true, false>, tiny_as<true, true>}};
  all[task.second ? 1 : 0][task.scaled ? 1 : 0](points, relative, out, weak);
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {
namespace {

/// From w = least[k] on k + 1 terms are enough; behind the last there may be a 0.
BesselSeries make_series(std::span<const double> least) {
  BesselSeries series{};
  for (const double w : least)
    if (w > 0) series.most_inverse_w[++series.terms] = 1 / w;
  for (int i = 0; i < series.terms * (series.terms + 3) / 2; ++i)
    series.coefficients[i] = kernel::bessel_log_series(i).hi;
  return series;
}

}  // namespace

HWY_EXPORT(wide);
HWY_EXPORT(bins);
HWY_EXPORT(add_cell);
HWY_EXPORT(finish);
HWY_EXPORT(exact_cell);
HWY_EXPORT(tiny_points);

void bessel_wide(std::ptrdiff_t n, const double* v, const double* x, double* out, BesselTask task,
                 BesselNarrow& narrow, BesselPoints& weak) {
  // Accurate: what is left out is below 2^-57 max(1/16, |log|).
  constexpr double ever = HUGE_VAL;
  static constexpr double least[] = {ever, ever, ever, 1280, 815,  250, 193,
                                     102,  85,   59.1, 51.4, 41.4, 36.6};
  static constexpr double least_scaled[] = {ever, ever, ever, 3440, 990,  365, 217,
                                            153,  110,  80.8, 56.6, 52.5, 47,  41.4};
  static const BesselSeries series[2][2] = {
      {make_series(bessel_fast_least_w[0]), make_series(least)},
      {make_series(bessel_fast_least_w[1]), make_series(least_scaled)}};
  HWY_DYNAMIC_DISPATCH(wide)
  (n, v, x, out, task, series[task.scaled ? 1 : 0][task.accurate ? 1 : 0], narrow, weak);
}

void bessel_bins(const BesselNarrow& narrow, bool second) {
  HWY_DYNAMIC_DISPATCH(bins)(narrow, second);
}

void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
                     const BesselCell& cell, bool accurate) {
  HWY_DYNAMIC_DISPATCH(add_cell)(begin, end, narrow, cell, accurate);
}

std::ptrdiff_t bessel_finish(const BesselNarrow& narrow, BesselTask task, const double* bounds,
                             double* values, std::int32_t* weak) {
  return HWY_DYNAMIC_DISPATCH(finish)(narrow, task.second, task.accurate, bounds, values, weak);
}

std::uint64_t bessel_exact_cell(const std::int32_t* weak, int n, const BesselNarrow& narrow,
                                bool second, const BesselCell& cell, double* values) {
  return HWY_DYNAMIC_DISPATCH(exact_cell)(weak, n, narrow, second, cell, values);
}

void bessel_tiny_points(const BesselPoints& points, BesselTask task, bool relative, double* out,
                        BesselPoints& weak) {
  HWY_DYNAMIC_DISPATCH(tiny_points)(points, task, relative, out, weak);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
