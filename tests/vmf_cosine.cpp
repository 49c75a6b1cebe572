#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "budget.hpp"
#include "halfulp/text.hpp"
#include "halfulp/vmf.hpp"

using halfulp::hex_text;
using halfulp::vmf::Cosine;
using halfulp::vmf::cosine;
using halfulp::vmf::cosine_complement;
using halfulp::vmf::cosine_quantile;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

using Real = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<45>,
                                           boost::multiprecision::et_off>;

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

/// The density over s = log((1 - t)/(1 + t)) up to a factor, integrated by trapezoids: over the
/// line, where they converge exponentially, and over a half-line with s = s0 +- c exp(x - exp(-x)).
/// No Bessel function, no gamma function, and the step is halved until nothing changes.
class Oracle {
 public:
  Oracle(double p, double kappa) : n_(Real(p - 1) / 2), k_(kappa) {
    // of the peak, n (1 - w) = k w (2 - w)/2
    const Real b = k_ + n_, w = 2 * n_ / (b + sqrt(b * b - 2 * k_ * n_));
    const Real peak = log(w / (2 - w));
    const Real bend = w * (2 - w) / 2 * (n_ + k_ * (1 - w));
    top_ = logarithm(peak);
    Real before = 0;
    for (Real h = fmin(Real(0.5), 1 / sqrt(bend) / 2);; h /= 2) {
      Real sum = 1;
      for (const int side : {-1, 1})
        for (int j = 1;; ++j) {
          const Real e = logarithm(peak + side * j * h) - top_;
          sum += exp(e);
          if (e < -85) break;
        }
      total_ = h * sum;
      if (abs(total_ - before) < total_ * 1e-28) break;
      before = total_;
    }
  }
  struct Values {
    Real cdf, survival, log_density;
  };
  [[nodiscard]] Values operator()(Real w, bool cap) const {
    const Real v = 2 - w, s = log(w / v), here = logarithm(s);
    const Real slope = n_ * (1 - w) - k_ * w * v / 2, bend = w * v / 2 * (n_ + k_ * (1 - w));
    const Real c = 1 / (abs(slope) + sqrt(abs(bend)) + Real(0.1));
    const int direction = cap ? -1 : 1;
    Real before = 0, tail = 0;
    for (Real h = 0.25; h > 0.001; h /= 2) {
      Real sum = 0;
      for (const int side : {-1, 1})
        for (int j = side == 1 ? 0 : 1;; ++j) {
          const Real x = side * j * h, e = exp(-x), y = c * exp(x - e);
          const Real term = exp(logarithm(s + direction * y) - here) * y * (1 + e);
          sum += term;
          if (j > 3 && term < 1e-36 * sum) break;
        }
      tail = h * sum;
      if (abs(tail - before) < tail * 1e-23) break;
      before = tail;
    }
    tail *= exp(here - top_) / total_;
    const Real rest = 1 - tail, log_density = here - top_ - log(total_ * w * v / 2);
    return cap ? Values{rest, tail, log_density} : Values{tail, rest, log_density};
  }

 private:
  [[nodiscard]] Real logarithm(const Real& s) const {
    const Real e = exp(s);
    return n_ * (s - 2 * log1p(e)) - k_ * (2 * e / (1 + e));
  }
  Real n_, k_, top_, total_;
};

struct Worst {
  double error = 0;
  std::string at;
  void add(double e, double p, double kappa, double w) {
    if (e <= error) return;
    error = e;
    at = "p = " + hex_text(p) + ", kappa = " + hex_text(kappa) + ", w = " + hex_text(w);
  }
};

double relative(double value, const Real& exact) {
  return static_cast<double>(abs(value - exact) / abs(exact)) * 0x1p53;
}

/// 1 - t with this cdf, roughly: only to choose where to look.
double with_cdf(double p, double kappa, double cdf) {
  double low = 0x1p-900, high = 2;
  for (int i = 0; i < 200; ++i) {
    const double middle =
        low < high / 4 ? std::sqrt(low) * std::sqrt(high) : low + (high - low) / 2;
    (cosine_complement(p, kappa, middle).cdf > cdf ? low : high) = middle;
  }
  return low;
}

}  // namespace

TEST_CASE("the cosine's distribution agrees with quadrature in MPFR", "[vmf][cosine]") {
  Worst tails, density, quantile;
  std::mt19937_64 bits(1);
  const auto uniform = [&] { return static_cast<double>(bits() >> 11) * 0x1p-53; };
  const auto check = [&](const Oracle& oracle, double p, double kappa, double w, double asked) {
    if (!(w > 0x1p-1022 && w < 2)) return;
    const Cosine c = cosine_complement(p, kappa, w);
    const auto exact = oracle(w, c.survival < c.cdf);
    if (exact.cdf > 1e-300) tails.add(relative(c.cdf, exact.cdf), p, kappa, w);
    if (exact.survival > 1e-300) tails.add(relative(c.survival, exact.survival), p, kappa, w);
    const Real scale = fmax(Real(1), abs(exact.log_density));
    density.add(static_cast<double>(abs(c.log_density - exact.log_density) / scale) * 0x1p53, p,
                kappa, w);
    if (!(asked > 0)) return;
    // where w is as it should be to its last digit, survival changes by this
    const Real step = asked + exp(exact.log_density) * w;
    quantile.add(static_cast<double>(abs(exact.survival - asked) / step) * 0x1p53, p, kappa, w);
  };
  for (const double p : {2.0, 2.5, 3.0, 4.0, 10.0, 100.0, 4096.0, 1e6})
    for (const double kappa : {0.0, 1e-8, 1.0, 50.0, 1e4, 1e8, 1e15}) {
      const Oracle oracle(p, kappa);
      for (const double survival : {1e-290, 1e-12, 0.03 + 0.9 * uniform(), 1 - 1e-7})
        check(oracle, p, kappa, cosine_quantile(p, kappa, survival), survival);
      for (const double cdf : {1e-12, 1e-290}) check(oracle, p, kappa, with_cdf(p, kappa, cdf), -1);
    }
  for (int i = 0; i < 60; ++i) {
    const double p = 2 + std::exp(14 * uniform() - 3), kappa = std::exp(30 * uniform() - 4);
    const double survival = i % 2 == 0 ? uniform() : std::exp(-600 * uniform());
    check({p, kappa}, p, kappa, cosine_quantile(p, kappa, survival), survival);
  }
  INFO("tails at " << tails.at << ", density at " << density.at << ", quantile at " << quantile.at);
  CHECK(tails.error <= limit("vmf_cosine"));
  CHECK(density.error <= limit("vmf_cosine_log_density"));
  CHECK(quantile.error <= limit("vmf_cosine_quantile"));
}

TEST_CASE("closed forms: p = 3, and p = 2 and 5 where kappa = 0", "[vmf][cosine]") {
  std::mt19937_64 bits(2);
  const auto uniform = [&] { return static_cast<double>((bits() >> 11) + 1) * 0x1p-53; };
  const Real pi = boost::math::constants::pi<Real>();
  Worst worst;
  for (int i = 0; i < 3000; ++i) {
    const double kappa = std::exp(45 * uniform() - 15);
    const double w = std::fmin(2, 2 * std::exp(-30 * uniform()));
    const double v = 2 - w;
    if (v == 2) continue;
    const auto add = [&](double p, double value, const Real& exact) {
      if (exact > 1e-300) worst.add(relative(value, exact), p, kappa, w);
    };
    const Real k = kappa, one_minus = w, one_plus = 2 - Real(w);
    const Cosine three = cosine_complement(3, kappa, w);
    add(3, three.survival, expm1(-k * one_minus) / expm1(-2 * k));
    add(3, three.cdf, exp(-k * one_minus) * expm1(-k * one_plus) / expm1(-2 * k));
    const Cosine two = cosine_complement(2, 0, w);
    add(2, two.survival, 2 * asin(sqrt(one_minus / 2)) / pi);
    add(2, two.cdf, 2 * asin(sqrt(one_plus / 2)) / pi);
    // p = 5: density (3/4) (1 - t^2)
    const Cosine five = cosine_complement(5, 0, w);
    add(5, five.survival, one_minus * one_minus * (3 - one_minus) / 4);
    add(5, five.cdf, one_plus * one_plus * (3 - one_plus) / 4);
    // from t itself, which 1 - t need not be able to say
    const double t = 1 - 2 * uniform();
    add(3, cosine(3, kappa, t).survival, expm1(-k * (1 - Real(t))) / expm1(-2 * k));
    add(3, cosine(3, kappa, t).cdf,
        exp(-k * (1 - Real(t))) * expm1(-k * (1 + Real(t))) / expm1(-2 * k));
  }
  INFO(worst.at);
  CHECK(worst.error <= limit("vmf_cosine"));
}

TEST_CASE("the cosine at the ends, outside and without a number", "[vmf][cosine]") {
  for (const double kappa : {0.0, 1.0, 1e15, 1e300}) {
    INFO(kappa);
    for (const double p : {2.0, 3.0, 4.0}) {
      const Cosine top = cosine(p, kappa, 1), bottom = cosine(p, kappa, -1);
      CHECK(top.cdf == 1);
      CHECK(top.survival == 0);
      CHECK(bottom.cdf == 0);
      CHECK(bottom.survival == 1);
      if (p != 3) CHECK(top.log_density == (p < 3 ? inf : -inf));
      if (p != 3) CHECK(bottom.log_density == (p < 3 ? inf : -inf));
      CHECK(cosine(p, kappa, 1.5).cdf == 1);
      CHECK(cosine(p, kappa, 1.5).log_density == -inf);
      CHECK(cosine(p, kappa, -1.5).survival == 1);
      CHECK(cosine_complement(p, kappa, -0.1).survival == 0);
      CHECK(cosine_complement(p, kappa, 2.1).cdf == 0);
      CHECK(cosine_quantile(p, kappa, 0) == 0);
      CHECK(cosine_quantile(p, kappa, 1) == 2);
      const double middle = cosine_quantile(p, kappa, 0.5);
      CHECK(middle > 0);
      CHECK(middle <= 1);
    }
  }
  CHECK(cosine(3, 0, 1).log_density == std::log(0.5));
  CHECK(cosine(3, 0, -1).log_density == std::log(0.5));
  CHECK(cosine(3, inf, 0.5).survival == 1);
  CHECK(cosine(3, inf, 1).cdf == 1);
  CHECK(cosine_quantile(3, inf, 0.5) == 0);
  for (const auto& [p, kappa, t] : {std::tuple{1.9, 1.0, 0.0},
                                    {no_number, 1.0, 0.0},
                                    {inf, 1.0, 0.0},
                                    {3.0, -1.0, 0.0},
                                    {3.0, no_number, 0.0},
                                    {3.0, 1.0, no_number}}) {
    CHECK(std::isnan(cosine(p, kappa, t).cdf));
    CHECK(std::isnan(cosine(p, kappa, t).survival));
    CHECK(std::isnan(cosine(p, kappa, t).log_density));
    CHECK(std::isnan(cosine_complement(p, kappa, t).cdf));
    if (t == 0) CHECK(std::isnan(cosine_quantile(p, kappa, 0.5)));
  }
  for (const double survival : {-0.1, 1.1, no_number})
    CHECK(std::isnan(cosine_quantile(3, 1, survival)));
}

TEST_CASE("cdf, survival and quantile are monotone", "[vmf][cosine]") {
  for (const double p : {2.0, 3.0, 17.0, 4096.0})
    for (const double kappa : {0.0, 3.0, 1e6}) {
      INFO("p = " << p << ", kappa = " << kappa);
      double w = 0, survival = 0, cdf = 1;
      for (int i = 1; i < 100; ++i) {
        const double next = cosine_quantile(p, kappa, i / 100.0);
        const Cosine c = cosine_complement(p, kappa, next);
        CHECK(next > w);
        CHECK(c.survival > survival);
        CHECK(c.cdf < cdf);
        CHECK(std::fabs(c.survival + c.cdf - 1) <= 0x1p-52);
        w = next;
        survival = c.survival;
        cdf = c.cdf;
      }
    }
}
