#pragma once

#include <cmath>

#include "halfulp/hd.hpp"
#include "halfulp/kernel/bessel.hpp"
#include "halfulp/kernel/vmf_tables.hpp"

/// The functions of p and kappa of halfulp/vmf.hpp, v = p/2 - 1 >= 0, kappa >= 0 finite; host and
/// device.
///
/// With w = hypot(v, kappa), u = kappa/w and the sums of kernel/bessel.hpp, for w >= 36
///
///     log C_p = v log((v + w)/(2 pi)) - w + log(w/(2 pi))/2 - sum s_k W^k             (1)
///     H = v - v log((v + w)/(2 pi)) - log(w/(2 pi))/2 + sum s_k W^k - u^2 (E - 1/2)   (2)
///
/// in which log kappa, kappa A_p and what of w they cancel no longer appear. The concentration of a
/// mean resultant length R, with m = (p - 1)/2, T = (1 - R^2)/(1 + R^2) and W = T/m:
///
///     kappa = R/(1 - R^2) (2 m + T G(T, W)),   kappa A_p'(kappa)/R = T G               (3)
///
/// G by its series in W, G = 1 + W (1 - T^2)/2 + ..., below W = 1/50, and by polynomials on cells
/// up to W = 2 (p = 2, R = 0). Riccati's equation for A_p makes G the solution of (G - 1)(2 + W G)
/// = (1 - T^2) W G (G + T dG/dT + W dG/dW).
namespace halfulp::kernel {

/// log C_p(kappa), plus kappa where scaled.
HALFULP_HD inline dd vmf_log_normaliser(double v, double kappa, bool scaled) {
  if (!bessel_is_wide(v, kappa)) {
    const dd r = v * ln2() - bessel_log_i_rest(v, kappa) - (v + 1.0) * log_two_pi();
    return scaled ? r + kappa : r;
  }
  if (bessel_is_huge(v, kappa)) {  // w = kappa, beside which v is nothing
    const dd logs = (v + 0.5) * (log(dd(kappa)) - log_two_pi());
    return scaled ? logs : logs - kappa;
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

/// W G/2, from the cells: 2^(-17/3) < W <= 2.
HALFULP_HD inline double vmf_kappa_cell(double t, double w) {
  int row = 0, column = 0;
  while (row < vmf_cell_rows - 1 && w < vmf_cell_row(row + 1)) ++row;
  const double width = 1 - 0.5 * w;
  const double theta = width > 0x1p-60 ? (t - 0.5 * w) / width : 0;
  while (column < vmf_cell_columns - 1 && theta >= vmf_cell_column(column + 1)) ++column;
  const auto scaled = [](double y, double low, double high) {
    return (2 * y - (low + high)) / (high - low);
  };
  const double a = scaled(theta, vmf_cell_column(column), vmf_cell_column(column + 1));
  const double b = scaled(w, vmf_cell_row(row + 1), vmf_cell_row(row));
  const double* c = vmf_cell(row, column);
  const int powers = static_cast<int>(c[0]);
  c += 2;
  double sum = 0;
  for (int i = 0; i < powers; ++i) {
    double p = 0;
    for (int left = static_cast<int>(*c++); left > 0; --left) p = p * b + *c++;
    sum = sum * a + p;
  }
  return sum * w;
}

/// W G/2, from the series: W <= 2^(-17/3).
HALFULP_HD inline double vmf_kappa_sum(double t, double w) {
  int terms = vmf_kappa_terms;
  while (terms > 0 && w <= vmf_kappa_limit(terms - 1)) --terms;
  double sum = 0;
  for (int k = terms; k >= 1; --k) {
    const int row = k * (k + 1) / 2 - 1;
    double p = vmf_kappa_series(row + k);
    for (int j = k - 1; j >= 0; --j) p = p * (t * t) + vmf_kappa_series(row + j);
    sum = (sum + p) * w;
  }
  return 0.5 * w * (1 + sum);
}

/// (3), from R and 1 - R, one of which is exact; NaN outside finite p >= 2, 0 <= R <= 1.
HALFULP_HD inline double vmf_kappa(double p, double length, double complement) {
  if (!(p >= 2 && p <= largest && length >= 0 && length <= 1 && complement >= 0)) return nan;
  const double rest = length < complement ? 1 - length * length : complement * (1 + length);
  const double t = rest / (1 + length * length);
  const double two_m = p - 1;
  const double w = 2 * t / two_m;
  const double sum = w > vmf_cell_row(vmf_cell_rows) ? vmf_kappa_cell(t, w) : vmf_kappa_sum(t, w);
  return length / rest * two_m * (1 + sum);
}

}  // namespace halfulp::kernel
