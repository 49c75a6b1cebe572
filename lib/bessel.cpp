#include "halfulp/bessel.hpp"

#include <cmath>
#include <limits>

#include "detail/bessel_digits.hpp"
#include "halfulp/kernel/bessel_function.hpp"
#include "halfulp/kernel/vmf.hpp"

namespace halfulp {
namespace {

using kernel::infinity;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double log_bessel(BesselFunction f, double v, double x, BesselMode mode) {
  if (kernel::bessel_is_special(v, x)) return kernel::bessel_special(f, v, x);
  const bool second = f == BesselFunction::log_k || f == BesselFunction::log_k_scaled;
  const bool scaled = f == BesselFunction::log_i_scaled || f == BesselFunction::log_k_scaled;
  const kernel::BesselLog log =
      second ? kernel::bessel_log_k(v, x, scaled) : kernel::bessel_log_i(v, x, scaled);
  const bool accurate = log.error <= 0x1p-54 * std::fabs(log.value.hi);
  if (accurate || mode == BesselMode::fast || !(v < 0x1p400 && x < 0x1p400)) return log.value.hi;
  const auto kind = second ? detail::BesselKind::second : detail::BesselKind::first;
  return detail::log_bessel_digits(kind, v, x, scaled).hi;
}

}  // namespace

double log_bessel_i(double v, double x, BesselMode mode) {
  return log_bessel(BesselFunction::log_i, v, x, mode);
}
double log_bessel_k(double v, double x, BesselMode mode) {
  return log_bessel(BesselFunction::log_k, v, x, mode);
}
double log_bessel_i_scaled(double v, double x, BesselMode mode) {
  return log_bessel(BesselFunction::log_i_scaled, v, x, mode);
}
double log_bessel_k_scaled(double v, double x, BesselMode mode) {
  return log_bessel(BesselFunction::log_k_scaled, v, x, mode);
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
  using enum BesselFunction;
  if (kernel::bessel_is_special(v, x))
    return {kernel::bessel_special(i_ratio, v, x), kernel::bessel_special(i_ratio_complement, v, x),
            kernel::bessel_special(i_ratio_derivative, v, x)};
  const kernel::BesselRatios r = kernel::bessel_i_ratios(v, x);
  return {r.value, r.complement, r.derivative};
}

BesselRatio bessel_k_ratio(double v, double x) {
  using enum BesselFunction;
  if (kernel::bessel_is_special(v, x))
    return {kernel::bessel_special(k_ratio, v, x), kernel::bessel_special(k_ratio_complement, v, x),
            kernel::bessel_special(k_ratio_derivative, v, x)};
  const kernel::BesselRatios r = kernel::bessel_k_ratios(v, x);
  return {r.value, r.complement, r.derivative};
}

double bessel_i_ratio_inverse(double v, double ratio) {
  return v >= 0 ? kernel::vmf_kappa(2 * v + 2, ratio, 1 - ratio) : nan;
}
double bessel_i_ratio_inverse_complement(double v, double complement) {
  return v >= 0 ? kernel::vmf_kappa(2 * v + 2, 1 - complement, complement) : nan;
}

double log_bessel_i_dx(double v, double x) {
  return kernel::bessel_value<BesselFunction::log_i_dx>(v, x);
}
double log_bessel_k_dx(double v, double x) {
  return kernel::bessel_value<BesselFunction::log_k_dx>(v, x);
}
double log_bessel_i_dv(double v, double x) {
  return kernel::bessel_value<BesselFunction::log_i_dv>(v, x);
}
double log_bessel_k_dv(double v, double x) {
  return kernel::bessel_value<BesselFunction::log_k_dv>(v, x);
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
