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
  else if constexpr (F == i_ratio)
    return bessel_i_ratios(v, x).value;
  else if constexpr (F == i_ratio_complement)
    return bessel_i_ratios(v, x).complement;
  else if constexpr (F == i_ratio_derivative)
    return bessel_i_ratios(v, x).derivative;
  else if constexpr (F == log_i_dx)
    return bessel_i_ratios(v, x).slope;
  else if constexpr (F == k_ratio)
    return bessel_k_ratios(v, x).value;
  else if constexpr (F == k_ratio_complement)
    return bessel_k_ratios(v, x).complement;
  else if constexpr (F == k_ratio_derivative)
    return bessel_k_ratios(v, x).derivative;
  else
    return bessel_k_ratios(v, x).slope;
}

}  // namespace halfulp::kernel
