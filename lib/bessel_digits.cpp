#include "detail/bessel_digits.hpp"

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <vector>

namespace halfulp::detail {
namespace {

namespace mp = boost::multiprecision;
using Real = mp::number<mp::cpp_bin_float<256, mp::digit_base_2>, mp::et_off>;

constexpr int terms = 60;
constexpr double wide = 128;  // there 60 terms reach 2^-210

/// s_k of kernel/bessel.hpp, row k from index k (k + 1)/2 - 1 on; made once, in about 20 ms.
const std::vector<Real>& log_series() {
  static const std::vector<Real> series = [] {
    std::vector<std::vector<Real>> c(terms + 1);
    c[0] = {Real(-0.5), Real(0.5)};
    std::vector<Real> all;
    for (int k = 0; k < terms; ++k) {
      // 2 c_{k+1} = (1 - T)(k c_k + 2 T c_k') - sum c_i c_{k-i}
      std::vector<Real> next(k + 3, Real(0));
      for (int j = 0; j <= k + 1; ++j) {
        const Real a = c[k][j] * (k + 2 * j);
        next[j] += a;
        next[j + 1] -= a;
      }
      for (int i = 0; i <= k; ++i)
        for (int a = 0; a <= i + 1; ++a)
          for (int b = 0; b <= k - i + 1; ++b) next[a + b] -= c[i][a] * c[k - i][b];
      for (auto& value : next) value /= 2;
      Real quotient = 0;
      for (int j = 0; j <= k + 1; ++j) {
        quotient += next[j];
        all.push_back(-quotient / (k + 1 + 2 * j));
      }
      c[k + 1] = std::move(next);
    }
    return all;
  }();
  return series;
}

Real series_sum(const Real& t2, const Real& inverse_w) {
  const auto& series = log_series();
  // the k-th term is below k! (w/2)^-k
  const double log_w = -std::log(2 * std::fabs(static_cast<double>(inverse_w)));
  int last = 1;
  for (double size = 0; last < terms && size > -160; ++last) size += std::log(last) - log_w;
  Real sum = 0;
  for (int k = last; k >= 1; --k) {
    const std::size_t row = static_cast<std::size_t>(k) * (k + 1) / 2 - 1;
    Real p = 0;
    for (int j = k; j >= 0; --j) p = p * t2 + series[row + j];
    sum = (sum + p) * inverse_w;
  }
  return sum;
}

const Real& log_two_pi() {
  static const Real value = log(2 * acos(Real(-1)));
  return value;
}

/// log Gamma(1 + v): Stirling's series, which is (1) at x = 0, beyond a shift.
Real log_gamma1p(double v) {
  Real product = 1, z = v;
  while (z < wide) product *= (z += 1);
  return z * log(z) - z + (log(z) + log_two_pi()) / 2 - series_sum(Real(1), 1 / z) - log(product);
}

Real log_wide(BesselKind kind, double v, double x, bool scaled) {
  const Real order = v, argument = x, w = sqrt(order * order + argument * argument);
  const Real inverse_w = 1 / w, t = order * inverse_w;
  const Real lead =
      (scaled ? order * order / (w + argument) : w) - order * log((order + w) / argument);
  if (kind == BesselKind::first)
    return lead - (log(w) + log_two_pi()) / 2 + series_sum(t * t, inverse_w);
  return -lead + (log_two_pi() - log(4 * w)) / 2 + series_sum(t * t, -inverse_w);
}

Real log_i_narrow(double v, double x) {
  const Real half = Real(x) / 2, q = half * half;
  Real term = 1, sum = 1;
  for (int k = 1; k < 1000 && term > sum * 1e-80; ++k) sum += (term *= q / (k * (Real(v) + k)));
  const Real power = v == 0 ? Real(0) : v * log(half);
  return power - log_gamma1p(v) + log(sum);
}

/// The trapezoidal rule at an order in [0, 1) and the next one, then upwards; times exp(x).
Real log_k_narrow_scaled(double v, double x) {
  const int n = static_cast<int>(v);
  const Real mu = Real(v) - n;
  const Real h = 9.5 / (170 + x);
  Real k0 = 0.5, k1 = 0.5;
  // exp(+-j h) and exp(+-mu j h) by multiplication: 256 bits can spare the few that this costs
  const Real up = exp(h), down = 1 / up, mu_up = exp(mu * h), mu_down = 1 / mu_up;
  Real a = 1, b = 1, c = 1, d = 1;
  for (int j = 1;; ++j) {
    a *= up, b *= down, c *= mu_up, d *= mu_down;
    const Real exponent = x * ((a + b) / 2 - 1);
    if (exponent > 185 + 2 * j * static_cast<double>(h)) break;
    const Real weight = exp(-exponent) / 2;
    k0 += weight * (c + d);
    k1 += weight * (a * c + b * d);
  }
  k0 *= h;
  k1 *= h;
  for (int j = 1; j <= n; ++j) {
    const Real next = k0 + 2 * (mu + j) / x * k1;
    k0 = k1;
    k1 = next;
  }
  return log(k0);
}

}  // namespace

dd log_bessel_digits(BesselKind kind, double v, double x, bool scaled) {
  Real value;
  if (v >= wide || x >= wide || v * v + x * x >= wide * wide) {
    value = log_wide(kind, v, x, scaled);
  } else if (kind == BesselKind::first) {
    value = log_i_narrow(v, x);
    if (scaled) value -= x;
  } else {
    value = log_k_narrow_scaled(v, x);
    if (!scaled) value -= x;
  }
  const double high = static_cast<double>(value);
  return {high, static_cast<double>(value - high)};
}

}  // namespace halfulp::detail
