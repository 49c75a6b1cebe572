#pragma once

#include <boost/math/constants/constants.hpp>
#include <boost/multiprecision/mpfr.hpp>

/// The second oracle: the distribution's own integral, without a Bessel function,
///
///     1/C_p(kappa) = omega_{p-1} integral over [-1, 1] of (1 - t^2)^((p-3)/2) exp(kappa t) dt
///
/// and the means of t and 1 - t under it, with t = tanh s by the trapezoidal rule, whose error
/// falls geometrically; omega_{p-1} = 2 pi^((p-1)/2)/Gamma((p-1)/2). MPFR with fixed 70 digits.
namespace vmf_mpfr {

using Real = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<70>,
                                           boost::multiprecision::et_off>;

struct Moments {
  Real log_normaliser_scaled;  ///< log C + kappa
  Real length, complement;     ///< A and 1 - A, each from a sum of positive terms
};

namespace detail {

struct Sums {
  Real one, length, complement;
};

/// Sums of the integrand over s = shift + j h, its maximum taken out; for small kappa folded onto
/// t >= 0, where t sinh(kappa t) has one sign.
inline Sums sums(const Real& n, const Real& kappa, const Real& peak, const Real& h, bool fold) {
  Sums total{0, 0, 0};
  const Real two = boost::math::constants::ln_two<Real>();
  const auto log_weight = [&](const Real& s) {  // log of sech^n(s) exp(-kappa (1 - tanh s))
    const Real e = exp(-2 * abs(s));
    const Real rest = s >= 0 ? Real(2 * e / (1 + e)) : Real(2 / (1 + e));
    return -n * (abs(s) + log1p(e) - two) - kappa * rest;
  };
  const Real top = log_weight(peak);
  for (const int side : {1, -1}) {
    if (fold && side < 0) break;
    for (int j = side > 0 ? 0 : 1;; ++j) {
      const Real s = fold ? Real(j * h) : Real(peak + side * j * h);
      const Real exponent = log_weight(s) - top;
      if (j > 8 && exponent < -90) break;
      const Real e = exp(-2 * abs(s));
      const Real small = 2 * e / (1 + e), other = 2 / (1 + e);  // 1 - |t| and 1 + |t|
      const Real t = (1 - e) / (1 + e);
      Real w = exp(exponent);
      if (fold) {
        const Real back = exp(-2 * kappa * t);  // the weight at -s
        if (j == 0) w /= 2;
        total.one += w * (1 + back);
        total.length -= w * t * expm1(-2 * kappa * t);
        total.complement += w * (small + back * other);
      } else {
        total.one += w;
        total.length += s >= 0 ? Real(w * t) : Real(-w * t);
        total.complement += w * (s >= 0 ? small : other);
      }
    }
  }
  total.length /= total.one;
  total.complement /= total.one;
  total.one = log(total.one * h) + top;
  return total;
}

/// The error is squared where the step is halved: what differs by this much is right to its square.
inline bool close(const Real& a, const Real& b) { return abs(a - b) <= ldexp(abs(b), -66); }

}  // namespace detail

/// p >= 2, kappa > 0.
inline Moments moments(double dimension, const Real& kappa) {
  const Real p = dimension, n = p - 1;
  const Real mode = 2 * kappa / (n + sqrt(n * n + 4 * kappa * kappa));
  const Real rest = n * mode / (kappa * (1 + mode));  // 1 - mode
  const bool fold = kappa < sqrt(p) / 8;
  const Real peak = fold ? Real(0) : Real(log((1 + mode) / rest) / 2);
  const Real curvature = rest * (1 + mode) * (2 * kappa * mode + n);
  Real h = 1 / sqrt(curvature);
  if (h > 0.5) h = 0.5;
  detail::Sums before = detail::sums(n, kappa, peak, h, fold);
  for (int i = 0; i < 12; ++i) {
    h /= 2;
    const detail::Sums now = detail::sums(n, kappa, peak, h, fold);
    const bool done = detail::close(before.length, now.length) &&
                      detail::close(before.complement, now.complement) &&
                      abs(now.one - before.one) <= ldexp(Real(1), -66);
    before = now;
    if (done) break;
  }
  const Real pi = boost::math::constants::pi<Real>();
  const Real log_omega = log(Real(2)) + n / 2 * log(pi) - lgamma(Real(n / 2));
  return {-(log_omega + before.one), before.length, before.complement};
}

}  // namespace vmf_mpfr
