#pragma once

#include <cmath>

#include "detail/bessel_fast.hpp"

/// The logarithms in single precision by pairs of floats, for the series with w >= 40.3: a device
/// has twice as many units for floats, or many times. What is too close to a zero for that is told.
namespace halfulp::detail {

struct FloatPair {
  float hi, lo;
};

/// For the mantissas from 1 + i/64 to 1 + (i + 1)/64, c next to 1/the middle, but 1 in the first,
/// and -log(c) = log_hi + log_lo, log_hi a multiple of 2^-16.
struct BesselSingleTables {
  float inverse[64], log_hi[64], log_lo[64];
};
/// Coefficients that every point needs, as an argument of the kernel.
struct BesselSingleNumbers {
  static constexpr int terms = 7;
  float series[terms * (terms + 3) / 2];
};

/// log(z), z in [1, 2], by the series of 2 atanh((z - 1)/(z + 1)).
constexpr double bessel_constant_log(double z) {
  const double y = (z - 1) / (z + 1);
  double sum = 0;
  for (int k = 41; k >= 1; k -= 2) sum = sum * y * y + 1.0 / k;
  return 2 * y * sum;
}

constexpr BesselSingleTables bessel_single_tables() {
  BesselSingleTables tables{};
  for (int i = 0; i < 64; ++i) {
    tables.inverse[i] = i == 0 ? 1.0F : static_cast<float>(128.0 / (129 + 2 * i));
    const double log = bessel_constant_log(1 / static_cast<double>(tables.inverse[i]));
    const double hi = static_cast<double>(static_cast<int>(log * 0x1p16 + 0.5)) * 0x1p-16;
    tables.log_hi[i] = static_cast<float>(hi);
    tables.log_lo[i] = static_cast<float>(log - hi);
  }
  return tables;
}

inline BesselSingleNumbers bessel_single_numbers() {
  BesselSingleNumbers numbers;
  for (int i = 0; i < BesselSingleNumbers::terms * (BesselSingleNumbers::terms + 3) / 2; ++i)
    numbers.series[i] = static_cast<float>(kernel::bessel_log_series(i).hi);
  return numbers;
}

HALFULP_HD inline float float_from(int bits) { return __builtin_bit_cast(float, bits); }
/// a + b, and likewise for |a| >= |b|.
HALFULP_HD inline FloatPair sum_of(float a, float b) {
  const float s = a + b, t = s - a;
  return {s, (a - (s - t)) + (b - t)};
}
HALFULP_HD inline FloatPair ordered_sum(float a, float b) {
  const float s = a + b;
  return {s, b - (s - a)};
}
HALFULP_HD inline FloatPair product_of(float a, float b) {
#if defined(__CUDA_ARCH__)
  const float p = __fmul_rn(a, b);  // never contracted with a later addition
#else
  const float p = a * b;
#endif
  return {p, std::fma(a, b, -p)};
}
HALFULP_HD inline float inverse_root(float x) {
#if defined(__CUDA_ARCH__)
  return rsqrtf(x);
#else
  return 1 / std::sqrt(x);
#endif
}

/// May bessel_single be asked for the point?
HALFULP_HD inline bool bessel_single_takes(float v, float x) {
  const float square = v * v + x * x;  // no NaN is above
  return v >= 0 && x >= 0x1p-60F && square >= 1625 && square <= 0x1p120F;
}

/// The logarithm for a point that it takes; NaN where it may be off by more than half a unit in
/// the last place before it is rounded.
template <bool Second, bool Scaled>
HALFULP_HD float bessel_single(float v, float x, const BesselSingleTables& tables,
                               const BesselSingleNumbers& numbers) {
  // w + w_lo, the root of square + square_lo
  const float a = v > x ? v : x, b = v > x ? x : v;
  const FloatPair aa = product_of(a, a);
  const float square = std::fma(b, b, aa.hi);
  const float square_lo = aa.lo - std::fma(-b, b, square - aa.hi);
  const float inverse_w = inverse_root(square), near = square * inverse_w;
  const float w = std::fma(std::fma(-near, near, square), 0.5F * inverse_w, near);
  const float w_lo = (std::fma(-w, w, square) + square_lo) * (0.5F * inverse_w);

  // (w + v)/x = (1 + y/2)/(1 - y/2) 2^e/c, y = n/(x + n/2), n = 2^-e c (w + v) - x
  const FloatPair top = ordered_sum(w, v);
  const float top_lo = top.lo + w_lo;
  // At least 1, as it is: the interval below 1 has no small y where v is small beside x.
  const int quotient = bits_of(std::fmax(rough_quotient(top.hi, x), 1.0F));
  const int e = (quotient >> 23) - 127, interval = (quotient >> 17) & 63;
  const float c = tables.inverse[interval] * float_from((126 - e) << 23);  // 2^(-e-1) c
  const FloatPair product = product_of(c, top.hi);
  const float half_n = product.hi - 0.5F * x;  // exact
  const float half_lo = std::fma(c, top_lo, product.lo), n = 2 * half_n;
  const float inverse = rough_quotient(1.0F, x + half_n);
  const float y = n * inverse, y2 = y * y;
  // n_lo (1 - y/2), half_lo being n_lo/2
  const float n_lo = std::fma(-y, half_lo, 2 * half_lo);
  const float rest = (std::fma(-y, half_n, std::fma(-y, x, n)) + n_lo) * inverse;
  constexpr float ln2_hi = 0x1.62e4p-1F;  // 15 bits: times e exact
  constexpr float ln2_lo = 0x1.7f7d1cp-20F;
  const auto e_float = static_cast<float>(e);
  const FloatPair sum = ordered_sum(std::fma(e_float, ln2_hi, tables.log_hi[interval]), y);
  const float slope_lo =
      std::fma(y * y2, std::fma(y2, 1.0F / 80, 1.0F / 12),
               std::fma(e_float, ln2_lo, tables.log_lo[interval]) + (sum.lo + rest));

  // log(2 pi w)/2 or log(2 w/pi)/2 by log(w^2)/4
  constexpr dd constant = Second ? -kernel::log_half_pi() : kernel::log_two_pi();
  constexpr double rounded =
      static_cast<double>(static_cast<int>(0x1p15 * constant.hi + (Second ? -0.5 : 0.5))) * 0x1p-16;
  constexpr auto constant_hi = static_cast<float>(rounded);
  constexpr auto constant_lo = static_cast<float>(0.5 * constant.hi - rounded);
  const int square_bits = bits_of(square);
  const int square_interval = (square_bits >> 17) & 63;
  const auto square_e = static_cast<float>((square_bits >> 23) - 127);
  const float m = float_from((square_bits & 0x7fffff) | 0x3f800000);
  const float r = std::fma(-m, tables.inverse[square_interval], 1.0F);
  float log1p = std::fma(r, -0.25F / 4, -0.25F / 3);
  log1p = std::fma(log1p, r, -0.25F / 2);
  log1p = std::fma(log1p, r, -0.25F);
  const float root_hi = std::fma(square_e, 0.25F * ln2_hi,
                                 std::fma(0.25F, tables.log_hi[square_interval], constant_hi));
  float root_lo = std::fma(square_e, 0.25F * ln2_lo,
                           std::fma(0.25F, tables.log_lo[square_interval], constant_lo));
  root_lo = std::fma(0.25F * square_lo * inverse_w, inverse_w, std::fma(log1p, r, root_lo));

  // w (- x) - v slope, for the second kind its negative
  const FloatPair turned = product_of(v, sum.hi);
  const float turned_lo = std::fma(v, slope_lo, turned.lo);
  const float first = Scaled ? w - x : w;
  const float first_lo = Scaled ? w_lo + ((w - first) - x) : w_lo;
  const FloatPair lead = Second ? sum_of(turned.hi, -first) : sum_of(first, -turned.hi);
  const float lead_lo = Second ? turned_lo - first_lo : first_lo - turned_lo;
  const FloatPair head = sum_of(lead.hi, -root_hi);

  // the series
  const float t = v * inverse_w, t2 = t * t, z = Second ? -inverse_w : inverse_w;
  const bool near_series = square < 200.0F * 200.0F;
  float s = 0;
  const auto add_term = [&](int k) {
    const int row = k * (k + 1) / 2 - 1;
    float p = numbers.series[row + k];
    for (int j = k - 1; j >= 0; --j) p = std::fma(p, t2, numbers.series[row + j]);
    s = std::fma(s, z, p);
  };
  if (near_series) {
    add_term(7);
    add_term(6);
    add_term(5);
  }
  add_term(4);
  add_term(3);
  add_term(2);
  add_term(1);
  const float low = std::fma(s, z, ((lead_lo - root_lo) + lead.lo) + head.lo);
  const float value = head.hi + low;
  // of the slope, of w, of the logarithm, of 1/w in the sum, of the terms left out
  const float z2 = z * z, z4 = z2 * z2;
  const float error =
      std::fma(v, 0x1p-39F, std::fma(w, 0x1p-45F, std::fma(inverse_w, 0x1p-24F, 0x1p-31F))) +
      (near_series ? 0x1p16F * z4 * z4 : 0x1p7F * z4 * inverse_w);
  return error <= 0x1p-26F * std::fabs(value) ? value : __builtin_nanf("");
}

}  // namespace halfulp::detail
