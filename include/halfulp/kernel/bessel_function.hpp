#pragma once

#include "halfulp/hd.hpp"
#include "halfulp/kernel/bessel.hpp"
#include "halfulp/kernel/bessel_name.hpp"

/// The functions of halfulp/bessel.hpp with their special values, host and device. The logarithms
/// are as accurate as double-double allows: within a unit in the last place down to values of about
/// 2^-45 hypot(v, x), where the host goes on with more digits.
namespace halfulp::kernel {

/// Neither finite v >= 0 nor finite x > 0: the table of halfulp/bessel.hpp.
HALFULP_HD inline bool bessel_is_special(double v, double x) {
  return !(v >= 0 && x > 0 && v <= largest && x <= largest);
}

HALFULP_HD inline double bessel_special(BesselFunction f, double v, double x) {
  if (!(v >= 0 && x >= 0) || (v > largest && x > largest)) return nan;
  const bool right = x > largest;  // x = inf; else v = inf or x = 0
  const bool left = x == 0 && v <= largest;
  switch (f) {
    case BesselFunction::log_i:
      return right ? infinity : v == 0 ? 0 : -infinity;
    case BesselFunction::log_i_scaled:
      return !right && v == 0 ? 0 : -infinity;
    case BesselFunction::log_k:
    case BesselFunction::log_k_scaled:
      return right ? -infinity : infinity;
    case BesselFunction::i_ratio:
      return right ? 1 : 0;
    case BesselFunction::i_ratio_complement:
      return right ? 0 : 1;
    case BesselFunction::i_ratio_derivative:
      return left ? 0.5 / (v + 1) : 0;
    case BesselFunction::k_ratio:
      return right ? 1 : infinity;
    case BesselFunction::k_ratio_complement:
      return right ? 0 : infinity;
    case BesselFunction::k_ratio_derivative:
      return right ? 0 : -infinity;
    case BesselFunction::log_i_dx:
      return right ? 1 : v == 0 ? 0 : infinity;
    case BesselFunction::log_k_dx:
      return right ? -1 : -infinity;
    case BesselFunction::log_i_dv:
      return right ? 0 : -infinity;
    case BesselFunction::log_k_dv:
      return right || v == 0 ? 0 : infinity;
  }
  return nan;
}

/// One of the ratios and slopes of the first or of the second kind.
HALFULP_HD inline double bessel_ratio(BesselFunction f, const BesselRatios& r) {
  using enum BesselFunction;
  return f == i_ratio || f == k_ratio                         ? r.value
         : f == i_ratio_complement || f == k_ratio_complement ? r.complement
         : f == i_ratio_derivative || f == k_ratio_derivative ? r.derivative
                                                              : r.slope;
}

template <BesselFunction F>
HALFULP_HD double bessel_value(double v, double x) {
  using enum BesselFunction;
  if (bessel_is_special(v, x)) return bessel_special(F, v, x);
  if constexpr (F == log_i || F == log_i_scaled)
    return bessel_log_i(v, x, F == log_i_scaled).value.hi;
  else if constexpr (F == log_k || F == log_k_scaled)
    return bessel_log_k(v, x, F == log_k_scaled).value.hi;
  else if constexpr (F == log_i_dv)
    return bessel_i_order(v, x);
  else if constexpr (F == log_k_dv)
    return bessel_k_order(v, x);
  else if constexpr (F == k_ratio || F == k_ratio_complement || F == k_ratio_derivative ||
                     F == log_k_dx)
    return bessel_ratio(F, bessel_k_ratios(v, x));
  else
    return bessel_ratio(F, bessel_i_ratios(v, x));
}

}  // namespace halfulp::kernel
