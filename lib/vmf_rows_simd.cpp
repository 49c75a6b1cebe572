#include "detail/vmf_rows_simd.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vmf_rows_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<double, 8>;
using V = hn::Vec<D>;

struct Pair {
  V hi, lo;
};

HWY_INLINE Pair zero() { return {hn::Zero(D()), hn::Zero(D())}; }
HWY_INLINE Pair load(ConstPairArray a, std::ptrdiff_t i) {
  return {hn::LoadU(D(), a.hi + i), hn::LoadU(D(), a.lo + i)};
}
HWY_INLINE Pair fill(ConstPairArray a, std::ptrdiff_t i) {
  return {hn::Set(D(), a.hi[i]), hn::Set(D(), a.lo[i])};
}
HWY_INLINE void store(Pair a, PairArray out, std::ptrdiff_t i) {
  hn::StoreU(a.hi, D(), out.hi + i);
  hn::StoreU(a.lo, D(), out.lo + i);
}

/// a + b.
HWY_INLINE Pair sum_exact(V a, V b) {
  const V s = hn::Add(a, b);
  const V t = hn::Sub(s, a);
  return {s, hn::Add(hn::Sub(a, hn::Sub(s, t)), hn::Sub(b, t))};
}
#if HWY_NATIVE_FMA
HWY_INLINE Pair product_exact(V a, V b) {
  const V p = hn::Mul(a, b);
  return {p, hn::MulSub(a, b, p)};
}
/// c - a b for c near a b: rounded once.
HWY_INLINE V minus_product(V c, V a, V b) { return hn::NegMulAdd(a, b, c); }
#else
// Dekker: no fused multiply-add on this target.
HWY_INLINE Pair product_exact(V a, V b) {
  const V split = hn::Set(D(), 134217729.0), p = hn::Mul(a, b);
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

HWY_INLINE Pair add(Pair a, Pair b) {
  const Pair s = sum_exact(a.hi, b.hi);
  return sum_exact(s.hi, hn::Add(s.lo, hn::Add(a.lo, b.lo)));
}
/// sum += a b. The low half gathers all roundings; `add` puts the halves in order.
HWY_INLINE void add_product(Pair& sum, V a, V b) {
  const Pair p = product_exact(a, b);
  const Pair s = sum_exact(sum.hi, p.hi);
  sum = {s.hi, hn::Add(sum.lo, hn::Add(s.lo, p.lo))};
}
/// sum += a b for a pair b.
HWY_INLINE void add_product(Pair& sum, V a, Pair b) {
  add_product(sum, a, b.hi);
  sum.lo = hn::MulAdd(a, b.lo, sum.lo);
}

/// The sum of the lanes: of neighbours, of these, and so on.
template <class Tag>
HWY_INLINE dd fold(Tag tag, Pair a) {
  if constexpr (hn::MaxLanes(tag) >= 2)
    a = add(a, {hn::Reverse2(tag, a.hi), hn::Reverse2(tag, a.lo)});
  if constexpr (hn::MaxLanes(tag) >= 4)
    a = add(a, {hn::Reverse4(tag, a.hi), hn::Reverse4(tag, a.lo)});
  if constexpr (hn::MaxLanes(tag) >= 8)
    a = add(a, {hn::Reverse8(tag, a.hi), hn::Reverse8(tag, a.lo)});
  if constexpr (hn::MaxLanes(tag) < 2) a = sum_exact(a.hi, a.lo);
  return {hn::GetLane(a.hi), hn::GetLane(a.lo)};
}

/// The last few numbers of a row, then zeros.
HWY_INLINE V load_tail(const double* x, std::ptrdiff_t n) {
  alignas(64) double numbers[8] = {};
  for (std::ptrdiff_t j = 0; j < n; ++j) numbers[j] = x[j];
  return hn::Load(D(), numbers);
}
HWY_INLINE Pair load_tail(ConstPairArray a, std::ptrdiff_t from, std::ptrdiff_t n) {
  return {load_tail(a.hi + from, n), load_tail(a.lo + from, n)};
}

/// Below it, a vector is a number of each of several rows; from it on, several numbers of a row.
constexpr std::ptrdiff_t least_wide = 32;
/// Beyond it, an axis does not stay in the first cache.
constexpr std::ptrdiff_t most_cached = 1024;

struct Columns {
  alignas(64) double numbers[least_wide * vmf_tile];
  /// Of rows behind the last: zeros, up to a full vector.
  Columns(std::ptrdiff_t n, std::ptrdiff_t p, const double* x) {
    const std::ptrdiff_t full = std::min<std::ptrdiff_t>((n + 7) / 8 * 8, vmf_tile);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t j = 0; j < p; ++j) numbers[j * vmf_tile + i] = x[i * p + j];
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = n; i < full; ++i) numbers[j * vmf_tile + i] = 0;
  }
  HWY_INLINE V load(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return hn::Load(D(), numbers + j * vmf_tile + i);
  }
};

/// A sum of products a b, to about 2^-105 of the sum of their magnitudes.
struct AnySum {
  Pair sum;
  HWY_INLINE AnySum() : sum(zero()) {}
  HWY_INLINE void add(V a, V b) { add_product(sum, a, b); }
  HWY_INLINE void add(V a, Pair b) { add_product(sum, a, b); }
  HWY_INLINE Pair total() const { return sum; }
};

#if HWY_NATIVE_FMA
/// Likewise where sums stay below 2, to about 2^-99, in four instructions: the high half begins at
/// 6 and stays between 4 and 8, so that its steps are exact, and what a step leaves of its product
/// is one more fused multiply-add.
struct UnitSum {
  V hi, lo;
  HWY_INLINE UnitSum() : hi(hn::Set(D(), 6.0)), lo(hn::Zero(D())) {}
  HWY_INLINE void add(V a, V b) {
    const V next = hn::MulAdd(a, b, hi);
    lo = hn::Add(lo, hn::MulSub(a, b, hn::Sub(next, hi)));
    hi = next;
  }
  HWY_INLINE void add(V a, Pair b) {
    add(a, b.hi);
    lo = hn::MulAdd(a, b.lo, lo);
  }
  HWY_INLINE Pair total() const { return {hn::Sub(hi, hn::Set(D(), 6.0)), lo}; }
};
#else
using UnitSum = AnySum;
#endif

template <class Sum, bool WithAxis>
void products_narrow(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
                     PairArray square, PairArray product) {
  const Columns columns(n, p, x);
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(D()))) {
    Sum q, a;
    for (std::ptrdiff_t j = 0; j < p; ++j) {
      const V v = columns.load(i, j);
      q.add(v, v);
      if constexpr (WithAxis) a.add(v, fill(axis, j));
    }
    store(sum_exact(q.total().hi, q.total().lo), square, i);
    if constexpr (WithAxis) store(sum_exact(a.total().hi, a.total().lo), product, i);
  }
}

/// Rows at a time: they share what is loaded of the axis.
template <class Sum, bool WithAxis, int Rows>
HWY_INLINE void products_of_rows(std::ptrdiff_t p, const double* x, ConstPairArray axis,
                                 PairArray square, PairArray product) {
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(D()));
  const std::ptrdiff_t whole = p / lanes * lanes;
  Sum q[Rows], a[Rows];
  for (std::ptrdiff_t j = 0; j < whole; j += lanes) {
    const Pair m = WithAxis ? load(axis, j) : zero();
    for (int r = 0; r < Rows; ++r) {
      const V v = hn::LoadU(D(), x + r * p + j);
      q[r].add(v, v);
      if constexpr (WithAxis) a[r].add(v, m);
    }
  }
  if (whole < p) {
    const Pair m = WithAxis ? load_tail(axis, whole, p - whole) : zero();
    for (int r = 0; r < Rows; ++r) {
      const V v = load_tail(x + r * p + whole, p - whole);
      q[r].add(v, v);
      if constexpr (WithAxis) a[r].add(v, m);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    const dd qs = fold(D(), q[r].total());
    square.hi[r] = qs.hi;
    square.lo[r] = qs.lo;
    if constexpr (WithAxis) {
      const dd as = fold(D(), a[r].total());
      product.hi[r] = as.hi;
      product.lo[r] = as.lo;
    }
  }
}

template <class Sum, bool WithAxis>
void products_wide(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
                   PairArray square, PairArray product) {
  std::ptrdiff_t i = 0;
  if (p > most_cached)
    for (; i + 4 <= n; i += 4)
      products_of_rows<Sum, WithAxis, 4>(p, x + i * p, axis, square + i, product + i);
  for (; i < n; ++i)
    products_of_rows<Sum, WithAxis, 1>(p, x + i * p, axis, square + i, product + i);
}

template <class Sum>
void products_by(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
                 PairArray square, PairArray product) {
  const bool with_axis = axis.hi != nullptr;
  const auto run = p < least_wide
                       ? (with_axis ? products_narrow<Sum, true> : products_narrow<Sum, false>)
                       : (with_axis ? products_wide<Sum, true> : products_wide<Sum, false>);
  run(n, p, x, axis, square, product);
}

void products(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
              PairArray square, PairArray product, bool unit) {
  const auto run = unit ? products_by<UnitSum> : products_by<AnySum>;
  run(n, p, x, axis, square, product);
}

void add_narrow(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray factor,
                PairArray sum) {
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(D()));
  const std::ptrdiff_t whole = n / lanes * lanes;
  const Columns columns(n, p, x);
  for (std::ptrdiff_t j = 0; j < p; ++j) {
    Pair s = zero();
    for (std::ptrdiff_t i = 0; i < whole; i += lanes)
      add_product(s, columns.load(i, j), load(factor, i));
    // what is behind the last factor may be no number
    if (whole < n) add_product(s, columns.load(whole, j), load_tail(factor, whole, n - whole));
    const dd total = dd(sum.hi[j], sum.lo[j]) + fold(D(), s);
    sum.hi[j] = total.hi;
    sum.lo[j] = total.lo;
  }
}

void add_wide(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray factor,
              PairArray sum) {
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(D()));
  const std::ptrdiff_t whole = p / lanes * lanes;
  for (std::ptrdiff_t j = 0; j < whole; j += lanes) {
    Pair s = load(sum, j);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      add_product(s, hn::LoadU(D(), x + i * p + j), fill(factor, i));
    store(sum_exact(s.hi, s.lo), sum, j);
  }
  if (whole < p) {
    Pair s = load_tail(ConstPairArray(sum), whole, p - whole);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      add_product(s, load_tail(x + i * p + whole, p - whole), fill(factor, i));
    s = sum_exact(s.hi, s.lo);
    alignas(64) double hi[8], lo[8];
    store(s, {hi, lo}, 0);
    std::copy_n(hi, p - whole, sum.hi + whole);
    std::copy_n(lo, p - whole, sum.lo + whole);
  }
}

void add_rows(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray factor,
              PairArray sum) {
  const auto run = p < least_wide ? add_narrow : add_wide;
  run(n, p, x, factor, sum);
}

/// sum += |x - t m|^2.
HWY_INLINE void add_deviation(Pair& sum, V x, Pair m, Pair t) {
  const Pair tm = product_exact(t.hi, m.hi);
  Pair d = sum_exact(x, hn::Neg(tm.hi));
  d.lo = hn::Sub(d.lo, tm.lo);
  d.lo = hn::NegMulAdd(t.lo, m.hi, d.lo);
  d.lo = hn::NegMulAdd(t.hi, m.lo, d.lo);
  d = sum_exact(d.hi, d.lo);  // the high half may have been 0
  add_product(sum, d.hi, {d.hi, hn::Add(d.lo, d.lo)});
}

dd deviation(std::ptrdiff_t p, const double* x, ConstPairArray axis, dd t) {
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(D()));
  const std::ptrdiff_t whole = p / lanes * lanes;
  const Pair factor{hn::Set(D(), t.hi), hn::Set(D(), t.lo)};
  Pair sum = zero();
  for (std::ptrdiff_t j = 0; j < whole; j += lanes)
    add_deviation(sum, hn::LoadU(D(), x + j), load(axis, j), factor);
  if (whole < p)
    add_deviation(sum, load_tail(x + whole, p - whole), load_tail(axis, whole, p - whole), factor);
  return fold(D(), sum);
}

/// The square root: s + e to about 2^-104 of itself.
HWY_INLINE Pair root(Pair a) {
  const V s = hn::Sqrt(a.hi);
  const V rest = hn::Add(minus_product(a.hi, s, s), a.lo);
  return {s, hn::Div(rest, hn::Add(s, s))};
}
/// a/b for halves in order.
HWY_INLINE Pair quotient(Pair a, Pair b) {
  const V q = hn::Div(a.hi, b.hi);
  const V rest = hn::Add(minus_product(a.hi, q, b.hi), hn::NegMulAdd(q, b.lo, a.lo));
  return sum_exact(q, hn::Div(rest, b.hi));
}

void factors(std::ptrdiff_t n, const double* weight, ConstPairArray square, PairArray factor) {
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(D()))) {
    const Pair w{hn::LoadU(D(), weight + i), hn::Zero(D())};
    store(quotient(w, root(load(square, i))), factor, i);
  }
}

void complements(std::ptrdiff_t n, ConstPairArray product, ConstPairArray square,
                 PairArray complement) {
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(D()))) {
    const Pair norm = root(load(square, i)), a = load(product, i);
    const Pair difference = add(norm, {hn::Neg(a.hi), hn::Neg(a.lo)});
    store(quotient(difference, norm), complement, i);
  }
}

void log_densities(std::ptrdiff_t n, ConstPairArray complement, double kappa, dd top, double* out) {
  const V k = hn::Set(D(), kappa), hi = hn::Set(D(), top.hi), lo = hn::Set(D(), top.lo);
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(D()))) {
    const Pair c = load(complement, i);
    const Pair kc = product_exact(k, c.hi);
    const Pair s = sum_exact(hi, hn::Neg(kc.hi));
    const V rest = hn::Sub(hn::Sub(lo, kc.lo), hn::Mul(k, c.lo));
    hn::StoreU(hn::Add(s.hi, hn::Add(s.lo, rest)), D(), out + i);
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(products);
HWY_EXPORT(add_rows);
HWY_EXPORT(deviation);
HWY_EXPORT(factors);
HWY_EXPORT(complements);
HWY_EXPORT(log_densities);

void vmf_products(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
                  PairArray square, PairArray product, bool unit) {
  HWY_DYNAMIC_DISPATCH(products)(n, p, x, axis, square, product, unit);
}
void vmf_add_rows(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray factor,
                  PairArray sum) {
  HWY_DYNAMIC_DISPATCH(add_rows)(n, p, x, factor, sum);
}
dd vmf_deviation(std::ptrdiff_t p, const double* x, ConstPairArray axis, dd t) {
  return HWY_DYNAMIC_DISPATCH(deviation)(p, x, axis, t);
}
void vmf_factors(std::ptrdiff_t n, const double* weight, ConstPairArray square, PairArray factor) {
  HWY_DYNAMIC_DISPATCH(factors)(n, weight, square, factor);
}
void vmf_complements(std::ptrdiff_t n, ConstPairArray product, ConstPairArray square,
                     PairArray complement) {
  HWY_DYNAMIC_DISPATCH(complements)(n, product, square, complement);
}
void vmf_log_densities(std::ptrdiff_t n, ConstPairArray complement, double kappa, dd top,
                       double* out) {
  HWY_DYNAMIC_DISPATCH(log_densities)(n, complement, kappa, top, out);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
