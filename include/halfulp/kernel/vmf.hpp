#pragma once

#include <cmath>

#include "halfulp/hd.hpp"
#include "halfulp/kernel/bessel.hpp"

/// The functions of p and kappa of halfulp/vmf.hpp, v = p/2 - 1 >= 0, kappa >= 0 finite; host and
/// device.
///
/// With w = hypot(v, kappa), u = kappa/w and the sums of kernel/bessel.hpp, for w >= 36
///
///     log C_p = v log((v + w)/(2 pi)) - w + log(w/(2 pi))/2 - sum s_k W^k             (1)
///     H = v - v log((v + w)/(2 pi)) - log(w/(2 pi))/2 + sum s_k W^k - u^2 (E - 1/2)   (2)
///
/// in which log kappa, kappa A_p and what of w they cancel no longer appear.
namespace halfulp::kernel {

/// log C_p(kappa), plus kappa where scaled.
HALFULP_HD inline dd vmf_log_normaliser(double v, double kappa, bool scaled) {
  if (!bessel_is_wide(v, kappa)) {
    const dd r = v * ln2() - bessel_log_i_rest(v, kappa) - (v + 1.0) * log_two_pi();
    return scaled ? r + kappa : r;
  }
  const BesselFrame f = bessel_frame_without_slope(v, kappa);
  const dd inverse_w = 1.0 / f.w;
  const dd t = v * inverse_w;
  const double s = bessel_sums(bessel_terms(f.w.hi), (t * t).hi, inverse_w.hi).s;
  const dd logs = v * (log(v + f.w) - log_two_pi()) + 0.5 * (log(f.w) - log_two_pi());
  return logs - (scaled ? f.excess : f.w) - s;
}

/// The entropy.
HALFULP_HD inline dd vmf_entropy(double v, double kappa) {
  if (!bessel_is_wide(v, kappa)) {
    const dd length = kappa < 0x1p-400 ? dd(0) : bessel_i_ratio_over_x(v, kappa) * kappa;
    return -vmf_log_normaliser(v, kappa, false) - length * kappa;
  }
  const BesselFrame f = bessel_frame_without_slope(v, kappa);
  const double w = f.w.hi, t = v / w, u = kappa / w;
  const BesselSums<double> sums = bessel_sums(bessel_slope_terms(w), t * t, 1 / w);
  const double e = -(sums.ks + 2 * t * t * sums.ds);
  const dd logs = v * (1.0 - (log(v + f.w) - log_two_pi())) - 0.5 * (log(f.w) - log_two_pi());
  return logs + (sums.s - u * u * (e - 0.5));
}

}  // namespace halfulp::kernel
