#pragma once

#include <cmath>

#include "halfulp/hd.hpp"

/// Rounding errors of products with H^-1, where H = lambda I + G^T G/m, as docs/mfac.md derives
/// them. The host, which knows the factor and the gradients better, has finer estimates besides.
namespace halfulp::kernel {

/// The largest sqrt(s)/(shift + s) for s in [low, high]: at s = shift, or the end that is nearer.
HALFULP_HD inline double mfac_rho(double shift, double low, double high) {
  const double s = shift < low ? low : shift > high ? high : shift;
  return std::sqrt(s) / (shift + s);
}

/// What is known of K = shift I + G G^T, shift = m lambda, and of how sums were formed.
struct MfacRounding {
  double largest = 0;    ///< >= the largest eigenvalue of G G^T
  double shift = 1;      ///< m lambda
  double rho = 0;        ///< >= |G^T K^-1|
  double core_unit = 0;  ///< rounding of K and of its factor, relative to |K|
  double pass_unit = 0;  ///< of sums over d
};

/// |G^T K^-1 dK c| <= this |dK|/|K| |c|.
HALFULP_HD inline double mfac_core_weight(const MfacRounding& r) {
  return r.rho * (r.largest + r.shift);
}

/// Of y = (x or 0)/lambda + G^T b, relative: |x| is rounded in passes, b by the core and the
/// passes, and G x by |G| |x|, however small it is itself: G^T K^-1 is applied to that. The norms
/// are those of x, lambda b and lambda y, or of three that are proportional to them.
HALFULP_HD inline double mfac_relative_error(const MfacRounding& r, double x_norm, double b_norm,
                                             double y_norm) {
  if (!(y_norm > 0)) return 0;
  const double sigma = std::sqrt(r.largest);
  return (r.pass_unit * (1 + r.rho * sigma) * x_norm +
          (r.core_unit * mfac_core_weight(r) + r.pass_unit * sigma) * b_norm) /
         y_norm;
}

/// Of H^-1 x for the worst x.
HALFULP_HD inline double mfac_worst_error(const MfacRounding& r) {
  return (1 + r.largest / r.shift) *
         (r.pass_unit + r.core_unit * (1 + r.rho * std::sqrt(r.largest)));
}

}  // namespace halfulp::kernel
