#pragma once

#include <cmath>
#include <limits>

#include "halfulp/hd.hpp"

/// Double-double arithmetic: a number is the unevaluated sum hi + lo with |lo| <= ulp(hi)/2,
/// about 32 decimal digits. Host and device share this source.
///
/// Every operation keeps the exponent range of double: products and quotients with an operand or a
/// result |hi| > 2^995 may be lost (NaN) where the product is split without FMA, results with
/// |hi| < 2^-969 lose digits of lo to underflow. An infinite operand of + - * and an overflow in
/// them give NaN (x/inf is 0, x/0 as for double); the functions of dd_math.hpp treat infinities as
/// `<cmath>` does.
/// @source  Joldes, Muller, Popescu (2017), Tight and rigorous error bounds for basic building
///          blocks of double-word arithmetic, Algorithms 4, 6, 9, 12, 15, 17, 18; u = 2^-53.
namespace halfulp {

struct dd {
  double hi = 0;
  double lo = 0;

  constexpr dd() = default;
  HALFULP_HD constexpr dd(double value) : hi(value) {}  // NOLINT: a double is a dd
  HALFULP_HD constexpr dd(int value) : hi(value) {}     // NOLINT
  /// hi and lo must already be normalised: hi = fl(hi + lo).
  HALFULP_HD constexpr dd(double high, double low) : hi(high), lo(low) {}
  HALFULP_HD explicit constexpr operator double() const { return hi; }
};

namespace kernel {

/// The largest finite double, by its value: device code may not call numeric_limits.
inline constexpr double largest = std::numeric_limits<double>::max();

/// s + e = a + b exactly, for any a and b (Knuth, Moller).
HALFULP_HD constexpr dd two_sum(double a, double b) {
  const double s = a + b;
  const double t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}

/// s + e = a + b exactly if |a| >= |b| or a = 0 (Dekker).
HALFULP_HD constexpr dd quick_two_sum(double a, double b) {
  const double s = a + b;
  return {s, b - (s - a)};
}

/// p + e = a b exactly. With a fused multiply-add in the target two instructions, otherwise
/// Dekker's splitting: std::fma without hardware is a library call.
HALFULP_HD inline dd two_prod(double a, double b) {
#if defined(__CUDA_ARCH__)
  const double p = __dmul_rn(a, b);  // never contracted with a later addition
  return {p, __fma_rn(a, b, -p)};
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  const double p = a * b;
  return {p, std::fma(a, b, -p)};
#else
  const double p = a * b;
  constexpr double split = 134217729.0;  // 2^27 + 1
  const double ta = split * a, tb = split * b;
  const double ah = ta - (ta - a), bh = tb - (tb - b);
  const double al = a - ah, bl = b - bh;
  return {p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#endif
}

}  // namespace kernel

HALFULP_HD constexpr dd operator-(dd a) { return {-a.hi, -a.lo}; }

/// Relative error <= 3 u^2 (Algorithm 6); also through cancellation.
HALFULP_HD constexpr dd operator+(dd a, dd b) {
  dd s = kernel::two_sum(a.hi, b.hi);
  const dd t = kernel::two_sum(a.lo, b.lo);
  s = kernel::quick_two_sum(s.hi, s.lo + t.hi);
  return kernel::quick_two_sum(s.hi, s.lo + t.lo);
}
HALFULP_HD constexpr dd operator-(dd a, dd b) { return a + (-b); }

/// Relative error <= 2 u^2 (Algorithm 4).
HALFULP_HD constexpr dd operator+(dd a, double b) {
  const dd s = kernel::two_sum(a.hi, b);
  return kernel::quick_two_sum(s.hi, s.lo + a.lo);
}
HALFULP_HD constexpr dd operator+(double a, dd b) { return b + a; }
HALFULP_HD constexpr dd operator-(dd a, double b) { return a + (-b); }
HALFULP_HD constexpr dd operator-(double a, dd b) { return a + (-b); }

/// Relative error <= 5 u^2 (Algorithm 12).
HALFULP_HD inline dd operator*(dd a, dd b) {
  const dd p = kernel::two_prod(a.hi, b.hi);
  return kernel::quick_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}
/// Relative error <= 3 u^2 (Algorithm 9).
HALFULP_HD inline dd operator*(dd a, double b) {
  const dd p = kernel::two_prod(a.hi, b);
  return kernel::quick_two_sum(p.hi, p.lo + a.lo * b);
}
HALFULP_HD inline dd operator*(double a, dd b) { return b * a; }

/// Relative error <= 5 u^2 + O(u^3): 3 u^2 from b q1, 2 u^2 from the last sum (Algorithm 17 with
/// one more correction).
HALFULP_HD inline dd operator/(dd a, dd b) {
  const double q1 = a.hi / b.hi;
  if (!(std::fabs(q1) <= kernel::largest) || q1 == 0) return {q1, 0};
  dd r = a - b * q1;
  const double q2 = r.hi / b.hi;
  r = r - b * q2;
  const double q3 = r.hi / b.hi;
  return kernel::quick_two_sum(q1, q2) + q3;
}

/// Relative error <= 3 u^2 (Algorithm 15).
HALFULP_HD inline dd operator/(dd a, double b) {
  const double q = a.hi / b;
  if (!(std::fabs(q) <= kernel::largest) || q == 0 || !(std::fabs(b) <= kernel::largest))
    return {q, 0};
  const dd p = kernel::two_prod(q, b);
  return kernel::quick_two_sum(q, (((a.hi - p.hi) - p.lo) + a.lo) / b);
}

HALFULP_HD inline dd& operator+=(dd& a, dd b) { return a = a + b; }
HALFULP_HD inline dd& operator-=(dd& a, dd b) { return a = a - b; }
HALFULP_HD inline dd& operator*=(dd& a, dd b) { return a = a * b; }
HALFULP_HD inline dd& operator/=(dd& a, dd b) { return a = a / b; }

HALFULP_HD constexpr bool operator==(dd a, dd b) { return a.hi == b.hi && a.lo == b.lo; }
HALFULP_HD constexpr bool operator!=(dd a, dd b) { return !(a == b); }
HALFULP_HD constexpr bool operator<(dd a, dd b) {
  return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
}
HALFULP_HD constexpr bool operator>(dd a, dd b) { return b < a; }
HALFULP_HD constexpr bool operator<=(dd a, dd b) {
  return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo);
}
HALFULP_HD constexpr bool operator>=(dd a, dd b) { return b <= a; }

HALFULP_HD inline bool isfinite(dd a) { return std::fabs(a.hi) <= kernel::largest; }
HALFULP_HD inline bool isnan(dd a) { return a.hi != a.hi; }
HALFULP_HD inline dd fabs(dd a) { return {std::fabs(a.hi), a.hi < 0 ? -a.lo : a.lo}; }
HALFULP_HD inline dd abs(dd a) { return fabs(a); }
HALFULP_HD inline dd ldexp(dd a, int n) { return {std::ldexp(a.hi, n), std::ldexp(a.lo, n)}; }

/// Relative error <= 4 u^2 (one Newton step on the double root); NaN for a < 0.
HALFULP_HD inline dd sqrt(dd a) {
  if (!(a.hi > 0) || !isfinite(a)) return {std::sqrt(a.hi), 0};
  if (a.hi > 0x1p1020) return ldexp(sqrt(ldexp(a, -4)), 2);  // x^2 may round to infinity
  const double x = std::sqrt(a.hi);
  const dd r = a - kernel::two_prod(x, x);
  return kernel::quick_two_sum(x, r.hi / (2 * x));
}

}  // namespace halfulp
