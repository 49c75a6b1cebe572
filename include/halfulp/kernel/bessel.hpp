#pragma once

#include <cmath>

#include "halfulp/hd.hpp"
#include "halfulp/kernel/bessel_tables.hpp"
#include "halfulp/kernel/dd.hpp"
#include "halfulp/kernel/dd_math.hpp"

/// Modified Bessel functions of the first and second kind, order v >= 0 and argument x > 0 both
/// finite: logarithms, ratios and derivatives, host and device. Special values are the caller's
/// (halfulp/bessel.hpp has the table).
///
/// With w = hypot(v, x), T = (v/w)^2 and W = 1/w, for w >= 36
///
///     log I_v(x) =  w - v asinh(v/x) - log(2 pi w)/2 + sum s_k(T) W^k              (1)
///     log K_v(x) = -w + v asinh(v/x) + log(pi/(2 w))/2 + sum (-1)^k s_k(T) W^k     (2)
///
/// and below that the power series (I), Temme's series (K, x <= 2) and the trapezoidal rule (K),
/// the latter two at an order in [-1/2, 1/2] with the recurrence upwards. Everything that cancels
/// is in double-double.
/// @source  DLMF 10.41.3, 10.41.4 (uniform expansions, here of the logarithm: the s_k follow from
///          x y' + y^2 = w^2 for y = x I'/I), 10.25.2, 10.33; Temme (1975), J. Comp. Phys. 19, 324;
///          Amos (1974), Math. Comp. 28, 239
namespace halfulp::kernel {

/// A value with a bound of its error that holds but for constants near 1.
struct BesselLog {
  dd value;
  double error;
};

/// f and its derivative with respect to the order.
struct BesselDual {
  dd f, d;
  BesselDual() = default;
  HALFULP_HD BesselDual(dd value) : f(value) {}      // NOLINT: a constant
  HALFULP_HD BesselDual(double value) : f(value) {}  // NOLINT
  HALFULP_HD BesselDual(dd value, dd derivative) : f(value), d(derivative) {}
};
HALFULP_HD inline BesselDual operator+(BesselDual a, BesselDual b) {
  return {a.f + b.f, a.d + b.d};
}
HALFULP_HD inline BesselDual operator-(BesselDual a, BesselDual b) {
  return {a.f - b.f, a.d - b.d};
}
HALFULP_HD inline BesselDual operator*(BesselDual a, BesselDual b) {
  return {a.f * b.f, a.f * b.d + a.d * b.f};
}
HALFULP_HD inline BesselDual operator/(BesselDual a, BesselDual b) {
  const dd q = a.f / b.f;
  return {q, (a.d - q * b.d) / b.f};
}
HALFULP_HD inline BesselDual exp(BesselDual a) {
  const dd e = halfulp::exp(a.f);
  return {e, e * a.d};
}

/// What the two kinds of number share: a plain value, or one with its derivative.
HALFULP_HD inline dd bessel_order(double v, dd) { return dd(v); }
HALFULP_HD inline BesselDual bessel_order(double v, BesselDual) { return {dd(v), dd(1)}; }
HALFULP_HD inline dd bessel_part(dd a) { return a; }
HALFULP_HD inline dd bessel_part(const BesselDual& a) { return a.f; }

HALFULP_HD constexpr dd log_two_pi() { return {0x1.d67f1c864beb5p+0, -0x1.65b5a1b7ff5dfp-54}; }
HALFULP_HD constexpr dd log_half_pi() { return {0x1.ce6bb25aa1316p-2, -0x1.dcd49c8e5aff6p-57}; }

/// Beyond this w the uniform expansions reach the last bit of a double.
inline constexpr double bessel_wide = 36;
/// Beyond this x, if v is not comparable, what remains of the expansions is exact.
inline constexpr double bessel_huge = 0x1p120;

HALFULP_HD inline bool bessel_is_wide(double v, double x) {
  return v >= bessel_wide || x >= bessel_wide || v * v + x * x >= bessel_wide * bessel_wide;
}
HALFULP_HD inline bool bessel_is_huge(double v, double x) {
  return x > bessel_huge && v < 0x1p-60 * x;
}

// ---- uniform expansions -------------------------------------------------------------------------

/// w = hypot(v, x), excess = w - x and slope = asinh(v/x), each to its last digits.
struct BesselFrame {
  dd w, excess, slope;
};

HALFULP_HD inline BesselFrame bessel_frame_without_slope(double v, double x) {
  BesselFrame f;
  const bool plain = v < 0x1p400 && x < 0x1p400;
  f.w = plain ? sqrt(two_prod(v, v) + two_prod(x, x)) : hypot(dd(v), dd(x));
  f.excess = v > x ? f.w - x : plain ? two_prod(v, v) / (f.w + x) : v * (dd(v) / (f.w + x));
  return f;
}
HALFULP_HD inline BesselFrame bessel_frame(double v, double x) {
  BesselFrame f = bessel_frame_without_slope(v, x);
  if (v <= x)
    f.slope = log1p((v + f.excess) / x);
  else
    f.slope = v + f.w.hi < 0x1p900 * x ? log((v + f.w) / x) : log(v + f.w) - log(dd(x));
  return f;
}

/// sum s_k W^k, sum k s_k W^k and sum s_k' W^k, the last over T.
template <class T>
struct BesselSums {
  T s, ks, ds;
};

HALFULP_HD inline double bessel_log_coefficient(int i, double) { return bessel_log_series(i).hi; }
HALFULP_HD inline dd bessel_log_coefficient(int i, dd) { return bessel_log_series(i); }

template <class T>
HALFULP_HD BesselSums<T> bessel_sums(int terms, T t2, T inverse_w) {
  BesselSums<T> sums{T(0), T(0), T(0)};
  for (int k = terms; k >= 1; --k) {
    const int row = k * (k + 1) / 2 - 1;
    T p = bessel_log_coefficient(row + k, T()), dp = T(0);
    for (int j = k - 1; j >= 0; --j) {
      dp = dp * t2 + p;
      p = p * t2 + bessel_log_coefficient(row + j, T());
    }
    sums.s = (sums.s + p) * inverse_w;
    sums.ks = (sums.ks + p * static_cast<double>(k)) * inverse_w;
    sums.ds = (sums.ds + dp) * inverse_w;
  }
  return sums;
}

/// Terms after which the rest of the sum is below 2^-57, for w >= 36.
HALFULP_HD constexpr int bessel_terms(double w) {
  if (w > 304)
    return w > 1.11e4 ? (w > 2.2e5 ? (w > 9.5e7 ? 1 : 2) : 3) : w > 1985 ? 4 : w > 654 ? 5 : 6;
  if (w > 83.5) return w > 174.5 ? 7 : w > 115.1 ? 8 : 9;
  if (w > 44.94) return w > 64.9 ? 10 : w > 52.94 ? 11 : 12;
  return w > 39.3 ? 13 : 14;
}

/// Terms after which the rest of the derivatives is, times 2 w, for w >= 36.
HALFULP_HD inline int bessel_slope_terms(double w) {
  if (w > 298)
    return w > 2.36e4 ? (w > 5.3e5 ? (w > 3.8e8 ? 2 : 3) : 4)
           : w > 3930 ? 5
           : w > 1222 ? 6
           : w > 542  ? 7
                      : 8;
  if (w > 80.6) return w > 133.6 ? (w > 189.8 ? 9 : 10) : w > 101 ? 11 : 12;
  if (w > 50.5) return w > 66.9 ? 13 : w > 57.4 ? 14 : 15;
  return w > 41.3 ? (w > 45.3 ? 16 : 17) : w > 38.3 ? 18 : 19;
}

/// Terms of which doubles would lose more than 2^-94 in all: their polynomials cancel, s_24 by
/// 2^60.
HALFULP_HD constexpr int bessel_leading_terms(double w) {
  return w > 140 ? bessel_terms(w) : w > 85 ? 12 : bessel_log_terms;
}

/// sum s_k W^k to about 2^-94: the terms behind the first `leading` are small enough for doubles.
HALFULP_HD inline dd bessel_sum_digits(dd t2, dd inverse_w, int leading) {
  double tail = 0;
  for (int k = bessel_log_terms; k > leading; --k) {
    const int row = k * (k + 1) / 2 - 1;
    double p = bessel_log_series(row + k).hi;
    for (int j = k - 1; j >= 0; --j) p = p * t2.hi + bessel_log_series(row + j).hi;
    tail = (tail + p) * inverse_w.hi;
  }
  dd sum = tail;
  for (int k = leading; k >= 1; --k) {
    const int row = k * (k + 1) / 2 - 1;
    dd p = bessel_log_series(row + k);
    for (int j = k - 1; j >= 0; --j) p = p * t2 + bessel_log_series(row + j);
    sum = (sum + p) * inverse_w;
  }
  return sum;
}

/// asinh(v/x) for orders beyond the domain, whose quotient or sum with w may overflow.
HALFULP_HD inline double bessel_slope_beyond(double v, double x) {
  const double z = x / v;
  return z > 0x1p-500 ? std::asinh(1 / z) : ln2().hi + std::log(v) - std::log(x);
}

/// (1) or (2), with +x (I) or -x (K) left out where scaled.
HALFULP_HD inline BesselLog bessel_log_wide(bool second, double v, double x, bool scaled) {
  const double sign = second ? -1 : 1;
  if (bessel_is_huge(v, x)) {
    const dd root = 0.5 * (log(dd(x)) + (second ? -log_half_pi() : log_two_pi()));
    const dd lead = two_prod(v, v / x) * -0.5 + (scaled ? 0 : x);
    const dd r = (second ? -lead : lead) - root;
    return {r, 0};
  }
  if (v > 0x1p500) {  // beyond the domain, yet no NaN: the leading term, in halves
    const double z = x / v;
    return {dd(sign * v * ((std::hypot(1.0, z) - (scaled ? z : 0.0)) - bessel_slope_beyond(v, x))),
            0};
  }
  const BesselFrame f = bessel_frame(v, x);
  const dd lead = (scaled ? f.excess : f.w) - v * f.slope;
  const dd root = 0.5 * (log(f.w) + (second ? -log_half_pi() : log_two_pi()));
  const dd head = (second ? -lead : lead) - root;
  const double t = v / f.w.hi, inverse_w = 1 / f.w.hi;
  const double s = bessel_sums(bessel_terms(f.w.hi), t * t, sign * inverse_w).s;
  dd value = head + s;
  const double head_error =
      0x1p-98 * ((scaled ? f.excess.hi : f.w.hi) + v * f.slope.hi + std::fabs(root.hi));
  double error = 0x1p-51 * std::fabs(s) + 0x1p-57 + head_error;
  if (error < 0x1p-55 * std::fabs(value.hi)) return {value, error};
  const dd wide_inverse = 1.0 / f.w;
  const dd wide_t = v * wide_inverse;
  value =
      head + bessel_sum_digits(wide_t * wide_t, sign * wide_inverse, bessel_leading_terms(f.w.hi));
  const double square = inverse_w * inverse_w, fifth = square * square * inverse_w;
  const double power = fifth * fifth * fifth * fifth * fifth;
  const double t2 = t * t;
  error = head_error + 0x1p-94 + (t2 > 0.6 && t2 < 0.8 ? 0x1p46 : 0x1p55) * power;
  return {value, error};
}

// ---- small w: gamma function -------------------------------------------------------------------

/// 1/Gamma(1 + z) - 1 for |z| <= 1/2.
template <class T>
HALFULP_HD T bessel_rgamma1pm1(T z) {
  T sum = T(bessel_rgamma(bessel_rgamma_terms - 1));
  for (int k = bessel_rgamma_terms - 2; k >= 0; --k) sum = sum * z + T(bessel_rgamma(k));
  return sum * z;
}

/// The integer nearest to the order, by which recurrences reach [-1/2, 1/2].
HALFULP_HD inline int bessel_nearest(double v) { return static_cast<int>(nearest_small(v)); }

/// (x/2)^2, exact but for the end of the range.
HALFULP_HD inline dd bessel_quarter_square(double x) {
  const double y = 0.5 * x;
  return y > 0x1p-450 ? two_prod(y, y) : dd(y * y);
}

// ---- small w: first kind ----------------------------------------------------------------------

/// sum_{k >= 1} q^k / (k! (v+1) ... (v+k)), q = (x/2)^2, x <= 36.
template <class T>
HALFULP_HD T bessel_i_series(T v, dd q, double x) {
  if (q.hi < 0x1p-900) return T(q.hi) / (1.0 + v);
  const int terms = x < 0.01   ? 7
                    : x < 0.25 ? 11
                               : static_cast<int>(x < 8 ? 15 + 2 * x : 19.4 + 1.45 * x);
  T h = T(1.0);
  for (int k = terms; k >= 2; --k) {
    const double n = k;
    h = T(1.0) + T(q) * h / ((v + T(n)) * T(n));
  }
  return T(q) * h / (v + T(1.0));
}

/// log I_v(x) - v log(x/2), w < 36, x >= 0.
HALFULP_HD inline dd bessel_log_i_rest(double v, double x) {
  const int n = bessel_nearest(v);
  const double mu = v - n;
  const dd sigma = bessel_i_series(dd(v), bessel_quarter_square(x), x);
  const dd rho = bessel_rgamma1pm1(dd(mu));
  if (n == 0) return log1p(rho + sigma + rho * sigma);
  dd product = two_sum(mu, 1);
  for (int j = 2; j <= n; ++j) product = product * two_sum(mu, j);
  return log((1.0 + rho) * (1.0 + sigma) / product);
}

/// log I_v(x) (minus x where scaled), w < 36.
HALFULP_HD inline BesselLog bessel_log_i_narrow(double v, double x, bool scaled) {
  if (v < 0x1p-300 && x < 0x1p-150) {  // v (log(x/2) + gamma) + (x/2)^2, clear of underflow
    const double y = x * 0x1p199;
    dd r = (v * 0x1p400) * (log(dd(x)) - ln2() + bessel_rgamma(0));
    const double size = std::fabs(r.hi) + y * y;
    r = r + two_prod(y, y);
    double error = 0x1p-498 * size;
    if (scaled) r = r - x * 0x1p400, error = 0;
    r = {r.hi * 0x1p-400, r.lo * 0x1p-400};
    return {r, error};
  }
  const int n = bessel_nearest(v);
  const dd rest = bessel_log_i_rest(v, x);
  const dd power = v == 0 ? dd(0) : v * (log(dd(x)) - ln2());
  dd value = power + rest;
  double error = 0x1p-97 * (std::fabs(power.hi) + std::fabs(rest.hi) + (n == 0 ? 0 : 1));
  if (scaled) {
    value = value - x;
    error += 0x1p-105 * x;
  }
  return {value, error};
}

/// I_{v+1}(x)/(x I_v(x)) by its continued fraction backwards, w < 36.
HALFULP_HD inline dd bessel_i_ratio_over_x(double v, double x) {
  const dd x2 = x < 0x1p-450 ? dd(0) : two_prod(x, x);
  const int start = static_cast<int>(20 + 1.25 * x);
  const double top = v + start + 1;
  dd rho = 1.0 / (top + std::sqrt(top * top + x * x));
  for (int k = start; k >= 1; --k) rho = 1.0 / (2.0 * two_sum(v, k) + x2 * rho);
  return rho;
}

// ---- small w: second kind ---------------------------------------------------------------------

/// K at mu + n and mu + n + 1 times (x/2)^n and (x/2)^(n+1), times exp(shift).
template <class T>
struct BesselPair {
  T k0, k1;
  double shift;
};

/// sinh(s)/s for |s| <= 1 by its series, which keeps the derivative's digits at 0.
template <class T>
HALFULP_HD T bessel_sinhc_small(T s) {
  const T square = s * s;
  T h = T(1.0);
  for (int k = 13; k >= 1; --k) h = T(1.0) + square * h / T(dd(2.0 * k * (2.0 * k + 1)));
  return h;
}

/// Temme's series at mu in [-1/2, 1/2], x <= 2.
template <class T>
HALFULP_HD BesselPair<T> bessel_k_temme(T mu, double x) {
  const dd q = bessel_quarter_square(x);
  const dd log_2_x = ln2() - log(dd(x));
  const T plus = T(1.0) + bessel_rgamma1pm1(mu), minus = T(1.0) + bessel_rgamma1pm1(T(0.0) - mu);
  const T mu2 = mu * mu;
  T gamma1 = T(bessel_rgamma(bessel_rgamma_terms - 2)),
    gamma2 = T(bessel_rgamma(bessel_rgamma_terms - 1));
  for (int k = bessel_rgamma_terms - 4; k >= 0; k -= 2) {
    gamma1 = gamma1 * mu2 + T(bessel_rgamma(k));
    gamma2 = gamma2 * mu2 + T(bessel_rgamma(k + 1));
  }
  gamma2 = gamma2 * mu2 + T(1.0);
  const T sigma = mu * T(log_2_x);
  const T up = exp(sigma), down = T(1.0) / up;
  const T cosh_sigma = T(0.5) * (up + down);
  const T sinhc = std::fabs(bessel_part(sigma).hi) < 1 ? bessel_sinhc_small(sigma)
                                                       : T(0.5) * (up - down) / sigma;
  T f = (sinhc * T(log_2_x) * gamma2 - cosh_sigma * gamma1) / (plus * minus);
  T p = T(0.5) * up / plus, r = T(0.5) * down / minus;
  T k0 = f, k1 = p;
  dd c = 1;
  const int terms = x < 0.01 ? 7 : x < 0.25 ? 11 : 22;
  for (int k = 1; k <= terms; ++k) {
    const double n = k;
    f = (T(n) * f + p + r) / (T(n * n) - mu2);
    p = p / (T(n) - mu);
    r = r / (T(n) + mu);
    c = c * q / n;
    k0 = k0 + T(c) * f;
    k1 = k1 + T(c) * (p - T(n) * f);
  }
  return {k0, k1, 0};
}

HALFULP_HD inline void bessel_cosh_sinh(dd mu, double step, dd& c, dd& s) {
  c = cosh(mu * step);
  s = sinh(mu * step);
}
HALFULP_HD inline void bessel_cosh_sinh(BesselDual mu, double step, BesselDual& c, BesselDual& s) {
  c.f = cosh(mu.f * step);
  s.f = sinh(mu.f * step);
  c.d = s.f * mu.d * step;
  s.d = c.f * mu.d * step;
}

/// The trapezoidal rule for integral exp(-x (cosh t - 1)) cosh(mu t) dt over [0, inf) and the same
/// at mu + 1; 2 < x < 36.
template <class T>
HALFULP_HD BesselPair<T> bessel_k_trapezoid(T mu, double x) {
  T step_c, step_s;
  bessel_cosh_sinh(mu, bessel_k_step, step_c, step_s);
  T c = step_c, s = step_s, k0 = T(0.5), k1 = T(0.5);
  for (int j = 0; j < bessel_k_nodes; ++j) {
    const dd rise = bessel_k_cosh(j);
    const dd exponent = x * rise;
    if (exponent.hi > 78) break;
    const dd weight = halfulp::exp(-exponent);
    k0 = k0 + T(weight) * c;
    k1 = k1 + T(weight) * (c * T(1.0 + rise) + s * T(bessel_k_sinh(j)));
    const T next = c * step_c + s * step_s;
    s = s * step_c + c * step_s;
    c = next;
  }
  const T h = T(dd(bessel_k_step));
  return {k0 * h, k1 * h * T(dd(0.5 * x)), x};
}

/// The pair at v, w < 36.
template <class T>
HALFULP_HD BesselPair<T> bessel_k_pair(double v, double x) {
  const int n = bessel_nearest(v);
  const T mu = bessel_order(v - n, T());
  BesselPair<T> pair = x <= 2 ? bessel_k_temme(mu, x) : bessel_k_trapezoid(mu, x);
  const dd q = bessel_quarter_square(x);
  for (int j = 1; j <= n; ++j) {
    const T next = (mu + T(dd(j))) * pair.k1 + T(q) * pair.k0;
    pair.k0 = pair.k1;
    pair.k1 = next;
  }
  return pair;
}

/// log K_v(x) (plus x where scaled), w < 36.
HALFULP_HD inline BesselLog bessel_log_k_narrow(double v, double x, bool scaled) {
  const BesselPair<dd> pair = bessel_k_pair<dd>(v, x);
  const dd power = static_cast<double>(bessel_nearest(v)) * (ln2() - log(dd(x)));
  const dd rest = log(pair.k0);
  dd value = power + rest;
  if (scaled && pair.shift == 0) value = value + x;
  if (!scaled && pair.shift != 0) value = value - x;
  return {value, 0x1p-92 * (std::fabs(power.hi) + std::fabs(rest.hi) + x + 1)};
}

// ---- the functions -----------------------------------------------------------------------------

HALFULP_HD inline BesselLog bessel_log_i(double v, double x, bool scaled) {
  return bessel_is_wide(v, x) ? bessel_log_wide(false, v, x, scaled)
                              : bessel_log_i_narrow(v, x, scaled);
}
HALFULP_HD inline BesselLog bessel_log_k(double v, double x, bool scaled) {
  return bessel_is_wide(v, x) ? bessel_log_wide(true, v, x, scaled)
                              : bessel_log_k_narrow(v, x, scaled);
}

/// I_{v+1}/I_v, 1 minus it, its derivative in x, and d/dx log I_v.
struct BesselRatios {
  double value, complement, derivative, slope;
};

HALFULP_HD inline BesselRatios bessel_i_ratios(double v, double x) {
  if (x < 0x1p-400) return {x / (2 * v + 2), 1, 1 / (2 * v + 2), v / x + x / (2 * v + 2)};
  if (bessel_is_huge(v, x)) {
    const double c = (v + 0.5) / x;
    return {1 - c, c, c / x, 1 - 0.5 / x};
  }
  if (!bessel_is_wide(v, x)) {
    const dd rho = bessel_i_ratio_over_x(v, x), r = rho * x;
    // with 2 (v + 1) rho = 1 - r r_next the derivative is 1 - r^2 - (2 v + 1) rho
    const dd derivative = 1.0 - r * r - two_sum(2 * v, 1) * rho;
    return {r.hi, (1.0 - r).hi, derivative.hi, (r + dd(v) / x).hi};
  }
  if (v > 0x1p400) {
    const double z = x / v, w = std::hypot(1.0, z);
    return {z / (1 + w), 1 - z / (1 + w), 1 / (v * w * (1 + w)), w / z};
  }
  const BesselFrame f = bessel_frame(v, x);
  const double w = f.w.hi, t = v / w, u = x / w;
  const BesselSums<double> sums = bessel_sums(bessel_slope_terms(w), t * t, 1 / w);
  const double e = -(sums.ks + 2 * t * t * sums.ds);
  const dd correction = two_sum(e, -0.5) * (x / f.w / f.w);
  const dd sum = f.w + v;
  const dd value = x / sum + correction;
  const dd complement = (f.excess + v) / sum - correction;
  // r' = v/(w (w + v)) + W^2 (1/2 - 2 w E - E - (x/w)^2 (E - 1/2)^2)
  const dd bracket = two_sum(0.5, -(2 * w * e + (e + u * u * (e - 0.5) * (e - 0.5))));
  const dd derivative = v / (f.w * sum) + bracket / f.w / f.w;
  const double steep = w / x;
  const double slope = steep > 0x1p900 ? steep : (f.w / x + correction).hi;
  return {value.hi, complement.hi, derivative.hi, slope};
}

/// K_{v+1}/K_v, that minus 1, its derivative in x, and d/dx log K_v.
HALFULP_HD inline BesselRatios bessel_k_ratios(double v, double x) {
  if (bessel_is_huge(v, x)) {
    const double c = (v + 0.5) / x;
    return {1 + c, c, -c / x, -1 - 0.5 / x};
  }
  if (!bessel_is_wide(v, x)) {
    const BesselPair<dd> pair = bessel_k_pair<dd>(v, x);
    const dd q = 2.0 * (pair.k1 / pair.k0);  // x K_{v+1}/K_v
    // the quotients in double-double, clear of where its parts underflow
    const double up = x < 0x1p-500 ? 0x1p500 : 1, x_up = x * up;
    const double value = (q / x_up).hi * up;
    const double steep = ((q - v) / x_up).hi * up;
    if (!(value < 0x1p400)) {
      // x^2 times the derivative: q^2 - (2 v + 1) q up to what x^2 adds
      const dd scaled = q * q - two_sum(2 * v, 1) * q;
      return {value, value, scaled.hi / x / x, -steep};
    }
    const dd r = q / x;
    const dd derivative = r * (r - two_sum(2 * v, 1) / x) - 1.0;
    return {r.hi, (r - 1.0).hi, derivative.hi, ((dd(v) / x) - r).hi};
  }
  if (v > 0x1p400) {
    const double z = x / v, w = std::hypot(1.0, z);
    return {(1 + w) / z, (1 + w - z) / z, -(1 + w) / (v * w * z * z), -w / z};
  }
  const BesselFrame f = bessel_frame(v, x);
  const double w = f.w.hi, t = v / w, u = x / w;
  const BesselSums<double> sums = bessel_sums(bessel_slope_terms(w), t * t, -1 / w);
  const double e = -(sums.ks + 2 * t * t * sums.ds);
  const dd correction = two_sum(0.5, -e) * (x / f.w / f.w);
  const dd bracket = two_sum(-0.5, (e - 2 * w * e) + u * u * (e - 0.5) * (e - 0.5));
  const double steep = (v + w) / x;
  if (!(steep < 0x1p400)) return {steep, steep, -(v / w) * steep / x, -(w / x)};
  const dd sum = (f.w + v) / x;
  const dd value = sum + correction;
  // r' = -v (v + w)/(w x^2) + W^2 (-2 w E + (E - 1/2) + (x/w)^2 (E - 1/2)^2)
  const dd derivative = bracket / f.w / f.w - v / f.w * sum / x;
  const dd complement = (f.excess + v) / x + correction;
  return {value.hi, complement.hi, derivative.hi, -((f.w / x) + correction).hi};
}

/// d/dv log I_v by the power series, w < 36.
HALFULP_HD inline dd bessel_i_order_narrow(double v, double x) {
  const int n = bessel_nearest(v);
  const BesselDual mu(dd(v - n), dd(1));
  const BesselDual sigma = bessel_i_series(BesselDual(dd(v), dd(1)), bessel_quarter_square(x), x);
  const BesselDual rho = bessel_rgamma1pm1(mu);
  dd sum = rho.d / (1.0 + rho.f) + sigma.d / (1.0 + sigma.f);
  for (int j = 1; j <= n; ++j) sum = sum - 1.0 / two_sum(v - n, j);
  return (log(dd(x)) - ln2()) + sum;
}

/// d/dv log I_v: negative; tends to -K_0/I_0 at v = 0.
HALFULP_HD inline double bessel_i_order(double v, double x) {
  if (bessel_is_huge(v, x)) return -v / x;
  if (!bessel_is_wide(v, x)) {
    constexpr double small = 0x1p-33;
    if (x <= 17 || v >= small) return bessel_i_order_narrow(v, x).hi;
    // odd part linear in v, even part K_0/I_0: the series alone would lose both
    const dd tail = halfulp::exp(bessel_log_k_narrow(0, x, false).value -
                                 bessel_log_i_narrow(0, x, false).value);
    const dd odd = (bessel_i_order_narrow(small, x) + tail) * 0x1p33;
    return (odd * v - tail).hi;
  }
  const double w = std::hypot(v, x);
  if (v > 0x1p400) return -bessel_slope_beyond(v, x) - 0.5 / v;
  const BesselFrame f = bessel_frame(v, x);
  const double t = v / w, u = x / w;
  const BesselSums<double> sums = bessel_sums(bessel_slope_terms(w), t * t, 1 / w);
  const double g = -sums.ks + 2 * u * u * sums.ds;
  double correction = t / w * (g - 0.5);
  if (v < 1e-6 && x < 400)
    correction -= halfulp::exp(bessel_log_wide(true, v, x, false).value -
                               bessel_log_wide(false, v, x, false).value)
                      .hi;
  return (correction - f.slope).hi;
}

/// d/dv log K_v: positive, odd in v.
HALFULP_HD inline double bessel_k_order(double v, double x) {
  if (v == 0) return 0;
  if (bessel_is_huge(v, x)) return v / x;
  if (!bessel_is_wide(v, x)) {
    constexpr double small = 0x1p-40;  // below it linear in v to the last digit
    const BesselPair<BesselDual> pair = bessel_k_pair<BesselDual>(v < small ? small : v, x);
    const double r = (pair.k0.d / pair.k0.f).hi;
    return v < small ? r * 0x1p40 * v : r;
  }
  const double w = std::hypot(v, x);
  if (v > 0x1p400) return bessel_slope_beyond(v, x) - 0.5 / v;
  const BesselFrame f = bessel_frame(v, x);
  const double t = v / w, u = x / w;
  const BesselSums<double> sums = bessel_sums(bessel_slope_terms(w), t * t, -1 / w);
  const double g = -sums.ks + 2 * u * u * sums.ds;
  return (f.slope + t / w * (g - 0.5)).hi;
}

}  // namespace halfulp::kernel
