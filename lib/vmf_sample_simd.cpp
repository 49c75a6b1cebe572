#include <algorithm>
#include <cmath>

#include "detail/vmf_sample.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vmf_sample_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<double, 8>;
using V = hn::Vec<D>;
using DU = hn::RebindToUnsigned<D>;
using U = hn::Vec<DU>;
using M = hn::Mask<D>;

constexpr int width = 8;  // of what is done at once, whatever the vectors
constexpr int lanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int parts = width / lanes;

// ---- elementary functions
// ------------------------------------------------------------------------
// Polynomials interpolate at Chebyshev's points.

HWY_INLINE V constant(double x) { return hn::Set(D(), x); }

/// c[0] + c[1] x + ...
template <int N>
HWY_INLINE V polynomial(const double (&c)[N], V x) {
  V s = constant(c[N - 1]);
  for (int k = N - 2; k >= 0; --k) s = hn::Add(constant(c[k]), hn::Mul(x, s));
  return s;
}

constexpr double ln2_hi = 0x1.62e42fefa2000p-1;  // 40 bits: times an exponent exact
constexpr double ln2_lo = 0x1.9ef35793c7673p-41;

/// log x for normal x > 0, plus `rest`: x = m 2^e, m in [sqrt(1/2), sqrt(2)),
/// log m = 2 atanh((m - 1)/(m + 1)).
HWY_INLINE V log_plus(V x, V rest) {
  const D d;
  const DU du;
  constexpr std::uint64_t root = 0x3fe6a09e667f3bcd;  // of sqrt(1/2)
  constexpr double q[] = {0x1.5555555555558p-1, 0x1.99999999952e2p-2, 0x1.2492492df148dp-2,
                          0x1.c71c62e5800a1p-3, 0x1.7462b4ab2ef6bp-3, 0x1.39fe606542ddep-3,
                          0x1.2b584aae78a57p-3};
  const U shifted = hn::Add(hn::BitCast(du, x), hn::Set(du, 0x3ff0000000000000ULL - root));
  const U biased = hn::Or(hn::ShiftRight<52>(shifted), hn::Set(du, 0x4330000000000000ULL));
  const V e = hn::Sub(hn::BitCast(d, biased), constant(0x1p52 + 1023));
  const U fraction = hn::And(shifted, hn::Set(du, 0x000fffffffffffffULL));
  const V m = hn::BitCast(d, hn::Add(fraction, hn::Set(du, root)));
  const V f = hn::Sub(m, constant(1));
  const V s = hn::Div(f, hn::Add(m, constant(1)));
  const V z = hn::Mul(s, s);
  // 2 s = f - s f, and f is exact
  const V small = hn::Mul(s, hn::Sub(hn::Mul(z, polynomial(q, z)), f));
  const V low = hn::Add(hn::Add(small, hn::Mul(e, constant(ln2_lo))), rest);
  return hn::Add(hn::Mul(e, constant(ln2_hi)), hn::Add(f, low));
}

HWY_INLINE V log(V x) { return log_plus(x, hn::Zero(D())); }

/// log(1 + y) for y > -1.
HWY_INLINE V log1p(V y) {
  const V s = hn::Add(y, constant(1));
  // what s lacks: the larger of 1 and y comes first
  const V missed = hn::IfThenElse(hn::Gt(y, constant(1)), hn::Sub(constant(1), hn::Sub(s, y)),
                                  hn::Sub(y, hn::Sub(s, constant(1))));
  return log_plus(s, hn::Div(missed, s));
}

/// exp(x) = scale (1 + rest), scale a power of two; -700 < x < 700.
struct Exponential {
  V scale, rest;
};
HWY_INLINE Exponential exponential(V x) {
  const D d;
  const DU du;
  constexpr double q[] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.5555555555556p-5,
                          0x1.11111111100dfp-7,  0x1.6c16c16c162d6p-10, 0x1.a01a01abe62ddp-13,
                          0x1.a01a01a6d7808p-16, 0x1.71de02375656cp-19, 0x1.27e4db67b4303p-22,
                          0x1.af4ddd84882fep-26, 0x1.1f72fc730b4ffp-29};
  constexpr double shift = 0x1.8p52;
  const V sum = hn::Add(hn::Mul(x, constant(0x1.71547652b82fep+0)), constant(shift));
  const V n = hn::Sub(sum, constant(shift));
  const V high = hn::Sub(x, hn::Mul(n, constant(ln2_hi)));
  const V r = hn::Sub(high, hn::Mul(n, constant(ln2_lo)));
  const V rest = hn::Add(r, hn::Mul(hn::Mul(r, r), polynomial(q, r)));
  // the low bits of the sum are n
  const U bits = hn::ShiftLeft<52>(hn::Add(hn::BitCast(du, sum), hn::Set(du, 1023ULL)));
  return {hn::BitCast(d, bits), rest};
}
HWY_INLINE V exp(V x) {
  const Exponential e = exponential(x);
  return hn::Add(e.scale, hn::Mul(e.scale, e.rest));
}
HWY_INLINE V expm1(V x) {
  const Exponential e = exponential(x);
  return hn::Add(hn::Sub(e.scale, constant(1)), hn::Mul(e.scale, e.rest));
}

/// cos and sin of pi x/2, |x| <= 1/2.
HWY_INLINE V cos_arc(V square) {
  constexpr double q[] = {-0x1.3bd3cc9be45dep+0, 0x1.03c1f081b5ac0p-2,   -0x1.55d3c7e3cb241p-6,
                          0x1.e1f5068688d5bp-11, -0x1.a6d1eef479be1p-16, 0x1.f9ce245cada0bp-22,
                          -0x1.b2f3eb054afcdp-28};
  return hn::Add(constant(1), hn::Mul(square, polynomial(q, square)));
}
HWY_INLINE V sin_arc(V x, V square) {
  constexpr double q[] = {0x1.921fb54442d18p+0,  -0x1.4abbce625be41p-1, 0x1.466bc677587f8p-4,
                          -0x1.32d2cce2e5b19p-8, 0x1.50782fda12d96p-13, -0x1.e30071afc3e59p-19,
                          0x1.e3f38399551bfp-25};
  return hn::Mul(x, polynomial(q, square));
}

// ---- random numbers
// ------------------------------------------------------------------------------

struct Keys {
  std::uint64_t round[10][2];
  explicit Keys(std::uint64_t seed) {
    auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
    for (auto& keys : round) {
      keys[0] = k0;
      keys[1] = k1;
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
  }
};

/// A counter, then random words; of each lane only the lower half counts.
struct Words {
  U word[4];
};

HWY_INLINE U low_product(U a, U b) {
#if HWY_TARGET == HWY_SCALAR
  return U(std::uint64_t{static_cast<std::uint32_t>(a.raw)} * b.raw);
#else
  const hn::Repartition<std::uint32_t, DU> d32;
  return hn::MulEven(hn::BitCast(d32, a), hn::BitCast(d32, b));
#endif
}

/// Philox4x32-10 of N vectors, step by step: of one alone the processor would have too little to
/// do.
template <int N>
HWY_INLINE void philox(const Keys& keys, Words (&c)[N]) {
  const DU du;
  const U m0 = hn::Set(du, 0xD2511F53ULL), m1 = hn::Set(du, 0xCD9E8D57ULL);
  for (const auto& key : keys.round) {
    const U k0 = hn::Set(du, key[0]), k1 = hn::Set(du, key[1]);
    for (Words& x : c) {
      const U a = low_product(x.word[0], m0), b = low_product(x.word[2], m1);
      x.word[0] = hn::Xor(hn::ShiftRight<32>(b), hn::Xor(x.word[1], k0));
      x.word[2] = hn::Xor(hn::ShiftRight<32>(a), hn::Xor(x.word[3], k1));
      x.word[1] = b;
      x.word[3] = a;
    }
  }
}

/// 1 + the upper 52 of 64 bits/2^52.
HWY_INLINE V one_and_fraction(U low, U high) {
  const DU du;
  const U bits = hn::Or(hn::ShiftLeft<32>(high), hn::And(low, hn::Set(du, 0xffffffffULL)));
  return hn::BitCast(D(), hn::Or(hn::ShiftRight<12>(bits), hn::Set(du, 0x3ff0000000000000ULL)));
}
/// Uniform in (0, 1), an odd multiple of 2^-53.
HWY_INLINE V uniform(U low, U high) {
  return hn::Sub(one_and_fraction(low, high), constant(1 - 0x1p-53));
}

/// A uniform point of the circle: the arc around (1, 0), by 52 bits, and which quarter, by two.
struct Point {
  V x, y;
};
HWY_INLINE Point circle(V turn, U low) {
  const D d;
  const DU du;
  const V arc = hn::Add(hn::Sub(turn, constant(1.5)), constant(0x1p-53));
  const V square = hn::Mul(arc, arc);
  const U sign = hn::And(hn::ShiftLeft<62>(low), hn::Set(du, 0x8000000000000000ULL));
  const V c = hn::Xor(cos_arc(square), hn::BitCast(d, sign));
  const V s = sin_arc(arc, square);
  const U one = hn::Set(du, 1ULL);
  const M swap = hn::RebindMask(d, hn::Eq(hn::And(low, one), one));
  return {hn::IfThenElse(swap, s, c), hn::IfThenElse(swap, c, s)};
}
HWY_INLINE Point circle(U low, U high) { return circle(one_and_fraction(low, high), low); }

HWY_INLINE V radius(V u) { return hn::Sqrt(hn::Mul(constant(-2), log(u))); }

/// Two independent standard normals.
HWY_INLINE Point normals(const Words& random) {
  const V r = radius(uniform(random.word[0], random.word[1]));
  const Point p = circle(random.word[2], random.word[3]);
  return {hn::Mul(r, p.x), hn::Mul(r, p.y)};
}

enum Kind : std::uint64_t { cosine_kind = 3, tangent_kind = 4 };

// ---- cosines
// -------------------------------------------------------------------------------------

/// Proposals for `width` rows and what log(keep) exceeds log u by.
void propose(const VmfSampler& s, const Keys& keys, const std::uint64_t* row, std::uint64_t attempt,
             double* w, double* rest, double* margin) {
  const D d;
  const DU du;
  for (int at = 0; at < width; at += lanes) {
    const U index = hn::Load(du, row + at);
    const U kind = hn::Set(du, cosine_kind + 256 * attempt);
    const U high = hn::ShiftRight<32>(index);
    if (s.p == 3) {
      Words random[1] = {{{index, high, hn::Zero(du), kind}}};
      philox(keys, random);
      const V u = uniform(random[0].word[0], random[0].word[1]);
      // without an exponential where kappa is no more than the rounding of 1
      V one_minus_t = hn::Add(u, u);
      if (s.kappa > 0x1p-60)
        one_minus_t = hn::Div(log1p(hn::Mul(u, constant(-s.fall))), constant(-s.kappa));
      one_minus_t = hn::Min(one_minus_t, constant(2));
      hn::Store(one_minus_t, d, w + at);
      hn::Store(hn::Sub(constant(2), one_minus_t), d, rest + at);
      hn::Store(hn::Zero(d), d, margin + at);
      continue;
    }
    Words random[2] = {{{index, high, hn::Zero(du), kind}}, {{index, high, hn::Set(du, 1), kind}}};
    philox(keys, random);
    // 1 - r and r
    V gap = hn::Zero(d), r = constant(1);
    if (s.p > 2) {
      const V exponent =
          hn::Mul(log(uniform(random[0].word[0], random[0].word[1])), constant(s.power));
      r = hn::Sqrt(hn::Neg(expm1(exponent)));
      gap = hn::Div(exp(exponent), hn::Add(constant(1), r));
    }
    const Point half = circle(random[0].word[2], random[0].word[3]);
    const V twice_r = hn::Add(r, r);
    const V z = hn::Add(gap, hn::Mul(twice_r, hn::Mul(half.y, half.y)));
    const V other = hn::Add(gap, hn::Mul(twice_r, hn::Mul(half.x, half.x)));
    const V scale = hn::Div(constant(2), hn::Add(other, hn::Mul(constant(s.b), z)));
    const V down = hn::Mul(constant(s.b), hn::Mul(z, scale)), up = hn::Mul(other, scale);
    // the smaller has its digits, and the two add up: the norm of x depends on it
    const M near = hn::Lt(down, up);
    const V two = constant(2);
    const V one_minus_t = hn::IfThenElse(near, down, hn::Sub(two, up));
    const V one_plus_t = hn::IfThenElse(near, hn::Sub(two, down), up);
    const V drop = hn::Mul(constant(s.slope), hn::Sub(constant(s.peak), one_minus_t));
    const V keep =
        hn::Mul(constant(static_cast<double>(s.p - 1)), hn::Add(drop, log1p(hn::Neg(drop))));
    const V u = log(uniform(random[1].word[0], random[1].word[1]));
    hn::Store(one_minus_t, d, w + at);
    hn::Store(one_plus_t, d, rest + at);
    hn::Store(hn::Sub(keep, u), d, margin + at);
  }
}

void cosines(const VmfSampler& s, std::uint64_t first, std::ptrdiff_t n, double* w, double* rest) {
  constexpr std::ptrdiff_t most = 512;
  const Keys keys(s.seed);
  for (std::ptrdiff_t begin = 0; begin < n; begin += most) {
    const std::ptrdiff_t size = std::min(most, n - begin);
    std::int32_t left[most];
    for (std::ptrdiff_t i = 0; i < size; ++i) left[i] = static_cast<std::int32_t>(i);
    std::ptrdiff_t count = size;
    for (std::uint64_t attempt = 0; count > 0; ++attempt) {
      std::ptrdiff_t again = 0;
      for (std::ptrdiff_t at = 0; at < count; at += width) {
        HWY_ALIGN std::uint64_t row[width];
        HWY_ALIGN double one_minus_t[width], one_plus_t[width], margin[width];
        const int here = static_cast<int>(std::min<std::ptrdiff_t>(width, count - at));
        for (int k = 0; k < width; ++k)
          row[k] = first + static_cast<std::uint64_t>(begin + left[at + std::min(k, here - 1)]);
        propose(s, keys, row, attempt, one_minus_t, one_plus_t, margin);
        for (int k = 0; k < here; ++k) {
          const std::int32_t i = left[at + k];
          w[begin + i] = one_minus_t[k];
          rest[begin + i] = one_plus_t[k];
          if (!(margin[k] >= 0)) left[again++] = i;
        }
      }
      count = again;
    }
  }
}

// ---- tangents
// ------------------------------------------------------------------------------------

/// What a row is made of: x = base mu + (along g - fall mu) behind the first entry, and there
/// base mu + (turn - straight mu), with g normal and the reflection in `fall` and `turn`.
struct Mix {
  V base, along, fall, turn, straight;
};

/// square = |g|^2, dot = g . tail.
HWY_INLINE Mix mix(const VmfSampler& s, V w, V rest, V square, V dot) {
  const V one = constant(1), zero = hn::Zero(D());
  const V along = hn::Div(hn::Sqrt(hn::Mul(w, rest)), hn::Sqrt(square));
  // next to mu x is mu and a deviation, elsewhere the cosine has all digits
  const M near = hn::Lt(w, constant(0.5));
  const V straight = hn::IfThenElse(near, w, hn::Sub(w, one));
  const V turn = hn::Mul(along, dot);
  return {hn::IfThenElse(near, one, zero), along,
          hn::Add(straight, hn::Mul(turn, constant(s.scale))), s.head > 0 ? hn::Neg(turn) : turn,
          straight};
}
HWY_INLINE V mixed(V base, V mu, V turned, V fall) {
  return hn::Add(hn::Mul(base, mu), hn::Sub(turned, hn::Mul(fall, mu)));
}

/// Rows of p <= vmf_narrow, a lane a row: normals 2 k and 2 k + 1 from block k.
void narrow_rows(const VmfSampler& s, const Keys& keys, std::uint64_t first, std::ptrdiff_t n,
                 const double* w, const double* rest, double* out) {
  const D d;
  const DU du;
  const std::ptrdiff_t p = s.p;
  for (std::ptrdiff_t begin = 0; begin < n; begin += lanes) {
    HWY_ALIGN double buffer[(vmf_narrow + 1) * lanes];
    HWY_ALIGN double ones[2][lanes];
    HWY_ALIGN std::uint64_t row[lanes];
    const std::ptrdiff_t here = std::min<std::ptrdiff_t>(lanes, n - begin);
    for (int k = 0; k < lanes; ++k) {
      const std::ptrdiff_t i = begin + std::min<std::ptrdiff_t>(k, here - 1);
      row[k] = first + static_cast<std::uint64_t>(i);
      ones[0][k] = w[i];
      ones[1][k] = rest[i];
    }
    const U index = hn::Load(du, row), high = hn::ShiftRight<32>(index);
    V square = hn::Zero(d), dot = hn::Zero(d);
    for (std::ptrdiff_t k = 1; k < p; k += 2) {
      const U block = hn::Set(du, static_cast<std::uint64_t>(k / 2));
      Words random[1] = {{{index, high, block, hn::Set(du, tangent_kind)}}};
      philox(keys, random);
      Point g;
      if (p == 2) {
        const U sign =
            hn::And(hn::ShiftLeft<63>(random[0].word[0]), hn::Set(du, 0x8000000000000000ULL));
        g.x = hn::Or(constant(1), hn::BitCast(d, sign));
        g.y = hn::Zero(d);
      } else if (p == 3) {
        g = circle(random[0].word[2], random[0].word[3]);
      } else {
        g = normals(random[0]);
      }
      hn::Store(g.x, d, buffer + k * lanes);
      hn::Store(g.y, d, buffer + (k + 1) * lanes);
      square = hn::Add(square, hn::Mul(g.x, g.x));
      dot = hn::Add(dot, hn::Mul(g.x, constant(s.tail[k - 1])));
      if (k + 1 == p) continue;
      square = hn::Add(square, hn::Mul(g.y, g.y));
      dot = hn::Add(dot, hn::Mul(g.y, constant(s.tail[k])));
    }
    if (p <= 3) square = constant(1);
    Mix m = mix(s, hn::Load(d, ones[0]), hn::Load(d, ones[1]), square, dot);
    const V head = constant(s.head);
    if (p == 2) {
      // the tangent is g (-mu_2, mu_1), which the reflection would give with a difference
      const V along = hn::Mul(m.along, hn::Load(d, buffer + lanes)), mu = constant(s.tail[0]);
      const V x = mixed(m.base, head, hn::Neg(hn::Mul(along, mu)), m.straight);
      const V y = mixed(m.base, mu, hn::Mul(along, head), m.straight);
      hn::Store(x, d, buffer);
      hn::Store(y, d, buffer + lanes);
    } else {
      hn::Store(mixed(m.base, head, m.turn, m.straight), d, buffer);
      for (std::ptrdiff_t k = 1; k < p; ++k) {
        const V g = hn::Load(d, buffer + k * lanes);
        hn::Store(mixed(m.base, constant(s.tail[k - 1]), hn::Mul(m.along, g), m.fall), d,
                  buffer + k * lanes);
      }
    }
    for (std::ptrdiff_t i = 0; i < here; ++i)
      for (std::ptrdiff_t k = 0; k < p; ++k) out[(begin + i) * p + k] = buffer[k * lanes + i];
  }
}

/// `width` sums of squares or products: terms in groups, groups of 512 with what rounding lost.
struct Sums {
  V part[2 * parts];  // of this group
  V total[parts], lost[parts];
  HWY_INLINE Sums() {
    for (V& x : part) x = hn::Zero(D());
    for (int k = 0; k < parts; ++k) total[k] = lost[k] = hn::Zero(D());
  }
  HWY_INLINE void close() {
    for (int k = 0; k < parts; ++k) {
      const V add = hn::Add(part[k], part[k + parts]);
      const V sum = hn::Add(total[k], add), t = hn::Sub(sum, total[k]);
      lost[k] = hn::Add(lost[k], hn::Add(hn::Sub(total[k], hn::Sub(sum, t)), hn::Sub(add, t)));
      total[k] = sum;
      part[k] = part[k + parts] = hn::Zero(D());
    }
  }
  HWY_INLINE double sum() {
    close();
    HWY_ALIGN double s[width], l[width];
    for (int k = 0; k < parts; ++k) {
      hn::Store(total[k], D(), s + k * lanes);
      hn::Store(lost[k], D(), l + k * lanes);
    }
    for (int half = width / 2; half > 0; half /= 2)
      for (int k = 0; k < half; ++k) {
        const double sum = s[k] + s[k + half], t = sum - s[k];
        l[k] += l[k + half] + ((s[k] - (sum - t)) + (s[k + half] - t));
        s[k] = sum;
      }
    return s[0] + l[0];
  }
};

/// Random bits of up to `chunk` normals of a row.
constexpr std::ptrdiff_t chunk = 512;
struct Bits {
  HWY_ALIGN double u[chunk / 2];     // uniform
  HWY_ALIGN double turn[chunk / 2];  // and of circle()
  HWY_ALIGN std::uint64_t low[chunk / 2];
};

/// Those of the blocks from `begin` in steps of N vectors, as far as whole steps go. Returns how
/// far.
template <int N>
HWY_INLINE std::ptrdiff_t draw_steps(const Keys& keys, std::uint64_t row, std::uint64_t block,
                                     std::ptrdiff_t begin, std::ptrdiff_t end, Bits& bits) {
  const DU du;
  for (; begin + N * lanes <= end; begin += N * lanes) {
    Words random[N];
    for (int k = 0; k < N; ++k)
      random[k] = {{hn::Set(du, row), hn::Set(du, row >> 32),
                    hn::Iota(du, block + static_cast<std::uint64_t>(begin + k * lanes)),
                    hn::Set(du, tangent_kind)}};
    philox(keys, random);
    for (int k = 0; k < N; ++k) {
      const Words& x = random[k];
      const std::ptrdiff_t to = begin + k * lanes;
      hn::Store(uniform(x.word[0], x.word[1]), D(), bits.u + to);
      hn::Store(one_and_fraction(x.word[2], x.word[3]), D(), bits.turn + to);
      hn::Store(x.word[2], du, bits.low + to);
    }
  }
  return begin;
}
/// Those of n blocks, n a multiple of 8.
HWY_NOINLINE void draw(const Keys& keys, std::uint64_t row, std::uint64_t block, std::ptrdiff_t n,
                       Bits& bits) {
  const std::ptrdiff_t at = draw_steps<4>(keys, row, block, 0, n, bits);
  draw_steps<1>(keys, row, block, at, n, bits);
}

/// The normals of n blocks, n a multiple of 8.
HWY_NOINLINE void transform(const Bits& bits, std::ptrdiff_t n, double* to) {
  for (std::ptrdiff_t i = 0; i < n; i += width)
    for (std::ptrdiff_t k = 0; k < width; k += lanes) {
      const V r = radius(hn::Load(D(), bits.u + i + k));
      const Point c = circle(hn::Load(D(), bits.turn + i + k), hn::Load(DU(), bits.low + i + k));
      hn::Store(hn::Mul(r, c.x), D(), to + 2 * i + k);
      hn::Store(hn::Mul(r, c.y), D(), to + 2 * i + width + k);
    }
}

/// One row: normals 16 i + k and 16 i + 8 + k from block 8 i + k.
void wide_row(const VmfSampler& s, const Keys& keys, std::uint64_t row, double w, double rest,
              double* work, double* out) {
  const D d;
  const std::ptrdiff_t n = s.p - 1;
  Sums square, dot;
  const auto add = [&](std::ptrdiff_t at, int k, V g) {
    const V mu = hn::Load(d, s.tail + at + k * lanes);
    square.part[k] = hn::Add(square.part[k], hn::Mul(g, g));
    dot.part[k] = hn::Add(dot.part[k], hn::Mul(g, mu));
  };
  Bits bits;
  for (std::ptrdiff_t at = 0; at < n; at += chunk) {
    const std::ptrdiff_t here = std::min(chunk, (n - at + 15) / 16 * 16);
    draw(keys, row, static_cast<std::uint64_t>(at / 2), here / 2, bits);
    transform(bits, here / 2, work + at);
    for (std::ptrdiff_t i = std::max(at, n); i < at + here; ++i) work[i] = 0;
    for (std::ptrdiff_t i = 0; i < here; i += 16)
      for (int k = 0; k < 2 * parts; ++k) add(at + i, k, hn::Load(d, work + at + i + k * lanes));
    square.close();
    dot.close();
  }
  const Mix m = mix(s, constant(w), constant(rest), constant(square.sum()), constant(dot.sum()));
  out[0] = hn::GetLane(mixed(m.base, constant(s.head), m.turn, m.straight));
  std::ptrdiff_t at = 0;
  for (; at + lanes <= n; at += lanes) {
    const V turned = hn::Mul(m.along, hn::Load(d, work + at));
    hn::StoreU(mixed(m.base, hn::Load(d, s.tail + at), turned, m.fall), d, out + 1 + at);
  }
  if (at < n) {
    const V turned = hn::Mul(m.along, hn::Load(d, work + at));
    hn::Store(mixed(m.base, hn::Load(d, s.tail + at), turned, m.fall), d, work + at);
    std::copy(work + at, work + n, out + 1 + at);
  }
}

void rows(const VmfSampler& s, std::uint64_t first, std::ptrdiff_t n, const double* w,
          const double* rest, double* work, double* out) {
  const Keys keys(s.seed);
  if (s.p <= vmf_narrow) return narrow_rows(s, keys, first, n, w, rest, out);
  for (std::ptrdiff_t i = 0; i < n; ++i)
    wide_row(s, keys, first + static_cast<std::uint64_t>(i), w[i], rest[i], work, out + i * s.p);
}

void elementary(VmfElementary f, std::span<const double> x, std::span<double> out) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const V at = constant(x[i]);
    V value = at;
    switch (f) {
      case VmfElementary::log:
        value = log(at);
        break;
      case VmfElementary::log1p:
        value = log1p(at);
        break;
      case VmfElementary::exp:
        value = exp(at);
        break;
      case VmfElementary::expm1:
        value = expm1(at);
        break;
      case VmfElementary::cos_arc:
        value = cos_arc(hn::Mul(at, at));
        break;
      case VmfElementary::sin_arc:
        value = sin_arc(at, hn::Mul(at, at));
        break;
    }
    out[i] = hn::GetLane(value);
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(cosines);
HWY_EXPORT(rows);
HWY_EXPORT(elementary);

void vmf_cosines(const VmfSampler& sampler, std::uint64_t first, std::ptrdiff_t n, double* w,
                 double* rest) {
  HWY_DYNAMIC_DISPATCH(cosines)(sampler, first, n, w, rest);
}

void vmf_rows(const VmfSampler& sampler, std::uint64_t first, std::ptrdiff_t n, const double* w,
              const double* rest, double* work, double* out) {
  HWY_DYNAMIC_DISPATCH(rows)(sampler, first, n, w, rest, work, out);
}

void vmf_elementary(VmfElementary f, std::span<const double> x, std::span<double> out) {
  HWY_DYNAMIC_DISPATCH(elementary)(f, x, out);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
