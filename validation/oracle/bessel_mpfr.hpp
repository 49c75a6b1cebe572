#pragma once

#include <boost/multiprecision/mpfr.hpp>

/// The second oracle: log I by its power series (DLMF 10.25.2), log K by the trapezoidal rule for
/// its integral (DLMF 10.32.9), in MPFR with fixed 400 bits; for v and x up to about 1000.
namespace bessel_mpfr {

using Real = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<120>,
                                           boost::multiprecision::et_off>;

inline Real log_i(double order, double argument) {
  const Real v = order, half = Real(argument) / 2, q = half * half;
  Real term = 1, sum = 1;
  for (int k = 1; k < 20000 && term > sum * 1e-60; ++k) sum += (term *= q / (k * (v + k)));
  return v * log(half) - lgamma(v + 1) + log(sum);
}

/// With the integrand's size near its peak taken out. The step is halved until nothing changes.
inline Real log_k(double order, double argument) {
  const Real v = order, x = argument;
  const Real peak = asinh(v / x), top = v * peak - x * cosh(peak);
  Real before = 0;
  for (Real h = 0.125;; h /= 2) {
    Real sum = exp(-x - top) / 2;
    for (int j = 1;; ++j) {
      const Real t = j * h;
      const Real exponent = v * t - x * cosh(t) - top;
      if (t > peak && exponent < -110) break;
      sum += exp(exponent) * (1 + exp(-2 * v * t)) / 2;
    }
    const Real value = log(h * sum) + top;
    if (abs(value - before) < ldexp(1 + abs(value), -125)) return value;
    before = value;
  }
}

}  // namespace bessel_mpfr
