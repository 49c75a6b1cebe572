#include "halfulp/bessel.hpp"

#include <cmath>
#include <limits>

#include "detail/bessel_digits.hpp"
#include "halfulp/kernel/bessel.hpp"

namespace halfulp {
namespace {

using kernel::infinity;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Neither finite v >= 0 nor finite x > 0: the table of the header.
bool is_special(double v, double x) {
  return !(v >= 0 && x > 0 && v <= kernel::largest && x <= kernel::largest);
}
bool is_outside(double v, double x) {
  return !(v >= 0 && x >= 0) || (v == infinity && x == infinity);
}

double log_special(detail::BesselKind kind, double v, double x, bool scaled) {
  if (is_outside(v, x)) return nan;
  if (kind == detail::BesselKind::second) return x == infinity ? -infinity : infinity;
  if (x == infinity) return scaled ? -infinity : infinity;
  return v == 0 ? 0 : -infinity;
}

double log_bessel(detail::BesselKind kind, double v, double x, bool scaled, BesselMode mode) {
  if (is_special(v, x)) return log_special(kind, v, x, scaled);
  const bool second = kind == detail::BesselKind::second;
  const kernel::BesselLog log =
      second ? kernel::bessel_log_k(v, x, scaled) : kernel::bessel_log_i(v, x, scaled);
  const bool accurate = log.error <= 0x1p-54 * std::fabs(log.value.hi);
  if (accurate || mode == BesselMode::fast || !(v < 0x1p400 && x < 0x1p400)) return log.value.hi;
  return detail::log_bessel_digits(kind, v, x, scaled).hi;
}

BesselRatio to_ratio(const kernel::BesselRatios& r) {
  return {r.value, r.complement, r.derivative};
}

/// The root of `f` - target in (0, inf), from a start; slope by the ratio's derivative.
double invert_ratio(double v, double ratio, double complement) {
  if (!(v >= 0 && v <= kernel::largest && ratio >= 0 && complement >= 0)) return nan;
  if (ratio == 0) return 0;
  if (complement == 0) return infinity;
  // Between 2 v r/(1 - r^2) and (2 v + 2) r/(1 - r^2): bounds of the ratio of Amos.
  const double spread = ratio / complement / (1 + ratio);
  double lower = spread * 2 * v, upper = spread * (2 * v + 2) * (1 + 0x1p-50);
  lower *= 1 - 0x1p-50;
  double x = spread * (2 * v + 2 - ratio * ratio);
  if (!(x > lower && x < upper)) x = lower + (upper - lower) / 2;
  for (int i = 0; i < 60; ++i) {
    const kernel::BesselRatios r = kernel::bessel_i_ratios(v, x);
    // the smaller of ratio and complement has the digits
    const double miss = complement < 0.5 ? complement - r.complement : r.value - ratio;
    if (miss > 0) upper = x;
    if (miss < 0) lower = x;
    if (miss == 0) break;
    double next = x - miss / r.derivative;
    if (!(next >= lower && next <= upper)) next = lower + (upper - lower) / 2;
    const double moved = std::fabs(next - x);
    x = next;
    if (moved <= 0x1p-51 * x) break;
  }
  return x;
}

}  // namespace

double log_bessel_i(double v, double x, BesselMode mode) {
  return log_bessel(detail::BesselKind::first, v, x, false, mode);
}
double log_bessel_k(double v, double x, BesselMode mode) {
  return log_bessel(detail::BesselKind::second, v, x, false, mode);
}
double log_bessel_i_scaled(double v, double x, BesselMode mode) {
  return log_bessel(detail::BesselKind::first, v, x, true, mode);
}
double log_bessel_k_scaled(double v, double x, BesselMode mode) {
  return log_bessel(detail::BesselKind::second, v, x, true, mode);
}
float log_bessel_i(float v, float x, BesselMode mode) {
  return static_cast<float>(log_bessel_i(double{v}, double{x}, mode));
}
float log_bessel_k(float v, float x, BesselMode mode) {
  return static_cast<float>(log_bessel_k(double{v}, double{x}, mode));
}
float log_bessel_i_scaled(float v, float x, BesselMode mode) {
  return static_cast<float>(log_bessel_i_scaled(double{v}, double{x}, mode));
}
float log_bessel_k_scaled(float v, float x, BesselMode mode) {
  return static_cast<float>(log_bessel_k_scaled(double{v}, double{x}, mode));
}

BesselRatio bessel_i_ratio(double v, double x) {
  if (!is_special(v, x)) return to_ratio(kernel::bessel_i_ratios(v, x));
  if (is_outside(v, x)) return {nan, nan, nan};
  if (v == infinity) return {0, 1, 0};
  if (x == infinity) return {1, 0, 0};
  return {0, 1, 0.5 / (v + 1)};
}

BesselRatio bessel_k_ratio(double v, double x) {
  if (!is_special(v, x)) return to_ratio(kernel::bessel_k_ratios(v, x));
  if (is_outside(v, x)) return {nan, nan, nan};
  if (x == infinity) return {1, 0, 0};
  return {infinity, infinity, -infinity};
}

double bessel_i_ratio_inverse(double v, double ratio) { return invert_ratio(v, ratio, 1 - ratio); }
double bessel_i_ratio_inverse_complement(double v, double complement) {
  return invert_ratio(v, 1 - complement, complement);
}

double log_bessel_i_dx(double v, double x) {
  if (!is_special(v, x)) return kernel::bessel_i_ratios(v, x).slope;
  if (is_outside(v, x)) return nan;
  if (x == infinity) return 1;
  return v == 0 ? 0 : infinity;
}

double log_bessel_k_dx(double v, double x) {
  if (!is_special(v, x)) return kernel::bessel_k_ratios(v, x).slope;
  if (is_outside(v, x)) return nan;
  return x == infinity ? -1 : -infinity;
}

double log_bessel_i_dv(double v, double x) {
  if (!is_special(v, x)) return kernel::bessel_i_order(v, x);
  if (is_outside(v, x)) return nan;
  return x == infinity ? 0 : -infinity;
}

double log_bessel_k_dv(double v, double x) {
  if (!is_special(v, x)) return kernel::bessel_k_order(v, x);
  if (is_outside(v, x)) return nan;
  return v == 0 || x == infinity ? 0 : infinity;
}

double bessel(BesselFunction f, double v, double x, BesselMode mode) {
  switch (f) {
    case BesselFunction::log_i:
      return log_bessel_i(v, x, mode);
    case BesselFunction::log_k:
      return log_bessel_k(v, x, mode);
    case BesselFunction::log_i_scaled:
      return log_bessel_i_scaled(v, x, mode);
    case BesselFunction::log_k_scaled:
      return log_bessel_k_scaled(v, x, mode);
    case BesselFunction::i_ratio:
      return bessel_i_ratio(v, x).value;
    case BesselFunction::i_ratio_complement:
      return bessel_i_ratio(v, x).complement;
    case BesselFunction::i_ratio_derivative:
      return bessel_i_ratio(v, x).derivative;
    case BesselFunction::k_ratio:
      return bessel_k_ratio(v, x).value;
    case BesselFunction::k_ratio_complement:
      return bessel_k_ratio(v, x).complement;
    case BesselFunction::k_ratio_derivative:
      return bessel_k_ratio(v, x).derivative;
    case BesselFunction::log_i_dx:
      return log_bessel_i_dx(v, x);
    case BesselFunction::log_k_dx:
      return log_bessel_k_dx(v, x);
    case BesselFunction::log_i_dv:
      return log_bessel_i_dv(v, x);
    case BesselFunction::log_k_dv:
      return log_bessel_k_dv(v, x);
  }
  return nan;
}

}  // namespace halfulp
