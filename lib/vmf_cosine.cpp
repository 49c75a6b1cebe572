#include <cmath>
#include <limits>

#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "halfulp/vmf.hpp"

// A tail of the cosine up to x = 1 - t (the cap) or x = 1 + t is, with x exp(-y) for x,
//
//     x f(x) J,   J = integral of exp(h(y)) over y > 0,   h(0) = 0, h falling,
//     h(y) = s y - (k x + a r) (y + expm1(-y)) + a (log1p(z) - z),
//
// f the density, a = (p - 3)/2, k = kappa or -kappa, r = x/(2 - x), z = -r expm1(-y) and
// s = a r + k x - (a + 1) <= 0. The leading factor has its digits from double-double, J from
// Gauss's rule on panels that double in length.

namespace halfulp::vmf {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// log Gamma(x) for x >= 1/2, absolute error 2^-60 beside double-double's own.
/// @source  DLMF 5.11.1
dd log_gamma(dd x) {
  constexpr double least = 32;
  dd product = 1;
  while (x.hi < least) {
    product *= x;
    x += 1;
  }
  const double z = 1 / x.hi, z2 = z * z;
  const double rest =
      z * (1.0 / 12 - z2 * (1.0 / 360 - z2 * (1.0 / 1260 - z2 * (1.0 / 1680 - z2 / 1188))));
  return (x - 0.5) * log(x) - x + 0.5 * kernel::log_two_pi() + rest - log(product);
}

/// y + expm1(-y), y >= 0.
double expm1_rest(double y) {
  if (y > 0.5) return y + std::expm1(-y);
  double s = 1;
  for (int k = 14; k > 2; --k) s = 1 - s * y / k;
  return y * y * s / 2;
}

/// log1p(z) - z, z >= 0.
double log1p_rest(double z) {
  if (z > 0.5) return std::log1p(z) - z;
  const double s = z / (2 + z), s2 = s * s;
  double sum = 1.0 / 25;
  for (int k = 23; k >= 3; k -= 2) sum = 1.0 / k + s2 * sum;
  return s * (2 * s2 * sum - z);
}

class Exponent {
 public:
  /// x + other = 2.
  Exponent(double p, double k, dd x, dd other) : a_((p - 3) / 2) {
    const dd r = x / other, bend = k * x + a_ * r;
    r_ = r.hi;
    bend_ = bend.hi;
    slope_ = (bend - (a_ + 1)).hi;
    const double curvature = std::sqrt(std::fabs(bend_)) + std::sqrt(std::fabs(a_)) * r_;
    // of the slope, the curvature, the singularity at x exp(-y) = 2, of exp(-y)
    scale_ = std::fmin(1, 2 * std::log1p(1 / r_));
    if (slope_ < 0) scale_ = std::fmin(scale_, -4 / slope_);
    scale_ = std::fmin(scale_, 1.5 / curvature);
  }
  [[nodiscard]] double slope() const { return slope_; }
  [[nodiscard]] double operator()(double y) const {
    const double z = -r_ * std::expm1(-y);
    return slope_ * y + (a_ * log1p_rest(z) - bend_ * expm1_rest(y));
  }
  /// J.
  [[nodiscard]] double integral() const {
    constexpr double node[] = {0x1.852bd6676a9f9p-4, 0x1.205cae642337cp-2, 0x1.d50259a43a772p-2,
                               0x1.3c5a466d5e8b8p-1, 0x1.82c45dda4726bp-1, 0x1.bb3403514e483p-1,
                               0x1.e39f56616f9b0p-1, 0x1.fa92c264d787ep-1};
    constexpr double weight[] = {0x1.83feae80e4dfcp-3, 0x1.75f8c77e0c00fp-3, 0x1.5a6ebbb5a75fcp-3,
                                 0x1.325f61bca3cbfp-3, 0x1.fe7af2bad386ap-4, 0x1.85c4ee79cc258p-4,
                                 0x1.fdfb1a2c1265dp-5, 0x1.bcddab4b7c211p-6};
    double sum = 0, begin = 0;
    double length = scale_;
    for (int panels = 0; panels < 100; ++panels, length *= 2) {  // 7 or so
      const double half = length / 2, middle = begin + half;
      double panel = 0;
      for (int i = 7; i >= 0; --i)
        panel += weight[i] * (std::exp((*this)(middle - half * node[i])) +
                              std::exp((*this)(middle + half * node[i])));
      sum += half * panel;
      begin += length;
      if (std::exp((*this)(begin)) * std::fmax(2 * length, 4) <= 0x1p-60 * sum) break;
    }
    return sum;
  }

 private:
  double a_, r_ = 0, bend_ = 0, slope_ = 0, scale_ = 1;
};

/// The distribution at one point.
struct Tails {
  Cosine values;
  double log_tail;  // of the survival where `cap`, else of the cdf
  bool cap;
};

/// w + v = 2, both > 0; finite kappa.
Tails tails(double p, double kappa, dd w, dd v) {
  // Far beyond anything that is not 0 or 1, and where products would overflow.
  if (kappa * w.hi > 1e290) return {{0, 1, -kappa * w.hi}, -infinity, false};
  const double a = (p - 3) / 2;
  const dd log_area = kernel::ln2() + (a + 1) * log(kernel::pi()) - log_gamma(dd(p - 1) / 2.0);
  const dd log_density = kernel::vmf_log_normaliser(0.5 * p - 1, kappa, true) + log_area +
                         a * (log(w) + log(v)) - kappa * w;
  const Exponent above(p, kappa, w, v);
  const bool cap = w.hi <= 1 && above.slope() <= 0;
  const dd head = log_density + log(cap ? w : v);
  const double j = cap ? above.integral() : Exponent(p, -kappa, v, w).integral();
  const double tail = std::fmin(1, exp(head).hi * j);
  Tails t{{tail, 1 - tail, log_density.hi}, head.hi + std::log(j), cap};
  if (cap) t.values = {1 - tail, tail, log_density.hi};
  return t;
}

bool valid(double p, double kappa) { return p >= 2 && p < infinity && kappa >= 0; }

Cosine distribution(double p, double kappa, dd w, dd v) {
  if (!valid(p, kappa) || std::isnan(w.hi)) return {nan, nan, nan};
  if (w.hi < 0) return {1, 0, -infinity};
  if (v.hi < 0) return {0, 1, -infinity};
  if (kappa == infinity) return w.hi > 0 ? Cosine{0, 1, -infinity} : Cosine{1, 0, infinity};
  if (w.hi > 0 && v.hi > 0) return tails(p, kappa, w, v).values;
  double log_density = p > 3 ? -infinity : infinity;
  if (p == 3)
    log_density =
        (kernel::vmf_log_normaliser(0.5, kappa, true) + log(2.0 * kernel::pi()) - kappa * w).hi;
  return w.hi > 0 ? Cosine{0, 1, log_density} : Cosine{1, 0, log_density};
}

}  // namespace

Cosine cosine(double p, double kappa, double t) {
  return distribution(p, kappa, kernel::two_sum(1, -t), kernel::two_sum(1, t));
}

Cosine cosine_complement(double p, double kappa, double one_minus_t) {
  return distribution(p, kappa, one_minus_t, kernel::two_sum(2, -one_minus_t));
}

double cosine_quantile(double p, double kappa, double survival) {
  if (!valid(p, kappa) || !(survival >= 0 && survival <= 1)) return nan;
  if (survival == 0 || kappa == infinity) return 0;
  if (survival == 1) return 2;
  const double log_survival = std::log(survival), log_cdf = std::log1p(-survival);
  // w = 1 - t and v = 1 + t, of which the smaller counts, each between two bounds
  double w = std::fmin(1, bessel_i_ratio(0.5 * p - 1, kappa).complement), v = 2 - w;
  double w_low = 0, w_high = 2, v_low = 0, v_high = 2;
  const auto inside = [&](double w_next, double v_next) {
    return w_next <= v_next ? w_next > w_low && w_next < w_high : v_next > v_low && v_next < v_high;
  };
  for (int i = 0; i < 200 && w > 0 && v > 0; ++i) {
    const bool near = w <= v;
    const Tails t = tails(p, kappa, near ? dd(w) : kernel::two_sum(2, -v),
                          near ? kernel::two_sum(2, -w) : dd(v));
    const double tail = t.cap ? t.values.survival : t.values.cdf;
    const double asked = t.cap ? survival : 1 - survival;
    // of its own logarithms, where the quotient has no digits
    const bool close = tail > 0.5 * asked && tail < 2 * asked && asked > 0x1p-1000;
    const double excess =
        close ? std::log1p((tail - asked) / asked) : t.log_tail - (t.cap ? log_survival : log_cdf);
    if (excess == 0) break;
    if ((excess > 0) == t.cap) {
      w_high = w;
      v_low = v;
    } else {
      w_low = w;
      v_high = v;
    }
    // Newton's step of the tail's logarithm over that of w or v
    const double x = t.cap ? w : v;
    const double rate = std::exp(t.values.log_density + std::log(x) - t.log_tail);
    const double step = -excess / rate, change = x * std::expm1(step);
    double w_next = t.cap ? w * std::exp(step) : w - change;
    double v_next = t.cap ? v - change : v * std::exp(step);
    const bool vanishes = (t.cap ? w_next : v_next) == 0;  // below any double
    if (!vanishes && !inside(w_next, v_next)) {
      // halve, on the scale of logarithms
      const auto middle = [](double low, double high) {
        return low == 0 ? high / 64 : std::sqrt(low) * std::sqrt(high);
      };
      if (w_high <= 1) {
        w_next = middle(w_low, w_high);
        v_next = 2 - w_next;
      } else {
        v_next = v_high <= 1 ? middle(v_low, v_high) : 1;
        w_next = 2 - v_next;
      }
      if (!inside(w_next, v_next)) break;  // the bounds are neighbours
    }
    const double moved = near ? std::fabs(w_next - w) / w : std::fabs(v_next - v) / v;
    w = w_next;
    v = v_next;
    if (moved <= 0x1p-52) break;
  }
  return w <= v ? w : 2 - v;
}

}  // namespace halfulp::vmf
