#include "detail/vmf_sample.hpp"

#include <hwy/targets.h>
#include <mpfr.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/random.hpp"
#include "halfulp/vmf.hpp"

using halfulp::detail::VmfElementary;
using halfulp::vmf::Distribution;
using halfulp::vmf::sample;

namespace {

constexpr double u = 0x1p-53;
using Values = std::vector<double>;

/// A unit vector of no special kind.
Values direction(std::size_t p, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal;
  Values mu(p);
  long double square = 0;
  for (double& m : mu) m = normal(bits);
  for (const double m : mu) square += static_cast<long double>(m) * m;
  for (double& m : mu) m = static_cast<double>(m / std::sqrt(square));
  return mu;
}

Values axis(std::size_t p, double sign) {
  Values mu(p, 0.0);
  mu[0] = sign;
  return mu;
}

Values draw(const Values& mu, double kappa, std::size_t n, std::uint64_t seed = 1,
            std::uint64_t first = 0, int threads = 0) {
  Values out(n * mu.size());
  sample({mu, kappa}, seed, out, first, threads);
  return out;
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

/// sqrt(n) times the largest distance from a cdf; beyond 2.3 once in 20,000.
template <class Cdf>
double kolmogorov(Values values, const Cdf& cdf) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  double distance = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]), below = static_cast<double>(i) / n;
    distance = std::max({distance, p - below, below + 1 / n - p});
  }
  return std::sqrt(n) * distance;
}
constexpr double rare = 2.3;

/// Rows against mu: 1 - t with its digits and the tangent's part along `other`, a unit vector
/// orthogonal to mu, and the largest error of the norm and of the tangent's being one.
struct Statistics {
  Values one_minus_t, along;
  double norm_error = 0;
};
Statistics statistics(const Values& rows, const Values& mu, const Values& other) {
  Statistics s;
  const std::size_t p = mu.size();
  for (std::size_t i = 0; i < rows.size(); i += p) {
    long double chord = 0, square = 0, along = 0;
    for (std::size_t k = 0; k < p; ++k) {
      const long double x = rows[i + k], d = x - mu[k];
      chord += d * d;
      square += x * x;
      along += d * other[k];
    }
    // |x - mu|^2 = 2 (1 - t)
    const long double w = chord / 2, sine = std::sqrt(w * (2 - w));
    s.one_minus_t.push_back(static_cast<double>(w));
    s.along.push_back(static_cast<double>(std::clamp(along / sine, -1.0L, 1.0L)));
    s.norm_error = std::max(s.norm_error, static_cast<double>(std::abs(std::sqrt(square) - 1)));
  }
  return s;
}

/// A unit vector orthogonal to mu.
Values orthogonal(const Values& mu, unsigned seed) {
  Values other = direction(mu.size(), seed);
  if (mu.size() == 2) return {-mu[1], mu[0]};
  for (int again = 0; again < 2; ++again) {
    long double dot = 0, square = 0;
    for (std::size_t k = 0; k < mu.size(); ++k) dot += static_cast<long double>(mu[k]) * other[k];
    for (std::size_t k = 0; k < mu.size(); ++k) {
      other[k] -= static_cast<double>(dot * mu[k]);
      square += static_cast<long double>(other[k]) * other[k];
    }
    for (double& x : other) x = static_cast<double>(x / std::sqrt(square));
  }
  return other;
}

/// The cosine by its distribution, the tangent by that of one coordinate of a uniform direction,
/// their moments, and norms.
void check_sample(const Values& mu, double kappa, std::size_t n, std::uint64_t seed) {
  const auto p = static_cast<double>(mu.size());
  INFO("p = " << p << ", kappa = " << kappa << ", mu[0] = " << mu[0]);
  const std::size_t part = std::clamp<std::size_t>(4000000 / mu.size(), 1, n);
  const Values other = orthogonal(mu, 99);
  Statistics all;
  Values rows;
  for (std::size_t begin = 0; begin < n; begin += part) {
    rows.resize(std::min(part, n - begin) * mu.size());
    sample({mu, kappa}, seed, rows, begin);
    const Statistics s = statistics(rows, mu, other);
    all.one_minus_t.insert(all.one_minus_t.end(), s.one_minus_t.begin(), s.one_minus_t.end());
    all.along.insert(all.along.end(), s.along.begin(), s.along.end());
    all.norm_error = std::max(all.norm_error, s.norm_error);
  }
  CHECK(all.norm_error <= 8 * u);
  // where rounding of x does not hide 1 - t: a chord of 2^-26 has an error of 2^-27 of itself
  const double typical = halfulp::vmf::mean_length(p, kappa).complement;
  const bool on_axis = std::fabs(mu[0]) == 1;
  if (typical > 1e-12 || on_axis) {
    CHECK(kolmogorov(all.one_minus_t, [&](double w) {
            return halfulp::vmf::cosine_complement(p, kappa, w).survival;
          }) < rare);
    double mean = 0, square = 0;
    for (const double w : all.one_minus_t) mean += w / static_cast<double>(n);
    for (const double w : all.one_minus_t) square += (w - mean) * (w - mean);
    const auto length = halfulp::vmf::mean_length(p, kappa);
    const double deviation = std::sqrt(length.derivative);  // A' is the variance of t
    CHECK(std::fabs(mean - length.complement) <=
          4.5 * deviation / std::sqrt(static_cast<double>(n)));
    // the fourth moment is at most that of an exponential, 9 deviations^4
    const double variance = square / static_cast<double>(n);
    CHECK(std::fabs(variance / length.derivative - 1) <=
          4.5 * std::sqrt(8 / static_cast<double>(n)));
  }
  if (typical < 1e-9 && !on_axis) return;
  if (p == 2) {
    double sum = 0;
    for (const double x : all.along) {
      CHECK(std::fabs(std::fabs(x) - 1) < 1e-6);
      sum += x;
    }
    CHECK(std::fabs(sum) < 4.5 * std::sqrt(static_cast<double>(n)));
  } else {
    CHECK(kolmogorov(all.along, [&](double x) { return halfulp::vmf::cosine(p - 1, 0, x).cdf; }) <
          rare);
  }
  // cosine and tangent are independent, and so are neighbours
  double cross = 0, lag = 0, scale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    cross += (all.one_minus_t[i] - typical) * all.along[i];
    scale += std::pow((all.one_minus_t[i] - typical) * all.along[i], 2);
    if (i > 0) lag += all.along[i] * all.along[i - 1] * (p - 1);
  }
  CHECK(std::fabs(cross) <= 4.5 * std::sqrt(scale));
  CHECK(std::fabs(lag) <= 4.5 * std::sqrt(static_cast<double>(n)));
}

/// MPFR's value of an elementary function, to 120 bits, rounded twice.
double error_in_ulp(VmfElementary f, double x, double value) {
  mpfr_t exact, got;
  mpfr_init2(exact, 160);
  mpfr_init2(got, 160);
  mpfr_set_d(exact, x, MPFR_RNDN);
  switch (f) {
    case VmfElementary::log:
      mpfr_log(exact, exact, MPFR_RNDN);
      break;
    case VmfElementary::log1p:
      mpfr_log1p(exact, exact, MPFR_RNDN);
      break;
    case VmfElementary::exp:
      mpfr_exp(exact, exact, MPFR_RNDN);
      break;
    case VmfElementary::expm1:
      mpfr_expm1(exact, exact, MPFR_RNDN);
      break;
    default:
      mpfr_const_pi(got, MPFR_RNDN);
      mpfr_mul(exact, exact, got, MPFR_RNDN);
      mpfr_div_ui(exact, exact, 2, MPFR_RNDN);
      if (f == VmfElementary::cos_arc) mpfr_cos(exact, exact, MPFR_RNDN);
      if (f == VmfElementary::sin_arc) mpfr_sin(exact, exact, MPFR_RNDN);
  }
  const double near = std::fabs(mpfr_get_d(exact, MPFR_RNDN));
  mpfr_set_d(got, value, MPFR_RNDN);
  mpfr_sub(got, got, exact, MPFR_RNDN);
  const double error = std::fabs(mpfr_get_d(got, MPFR_RNDN));
  mpfr_clear(exact);
  mpfr_clear(got);
  return error / (std::nextafter(near, HUGE_VAL) - near);
}

}  // namespace

TEST_CASE("elementary functions of the sampler agree with MPFR", "[vmf][sample]") {
  std::mt19937_64 bits(3);
  const auto uniform = [&] { return static_cast<double>((bits() >> 11) + 1) * 0x1p-53; };
  struct Case {
    VmfElementary f;
    double limit;  // ulp
  };
  for (const Case c : {Case{VmfElementary::log, 1.5},
                       {VmfElementary::log1p, 2.5},
                       {VmfElementary::exp, 1.5},
                       {VmfElementary::expm1, 3},
                       {VmfElementary::cos_arc, 1.5},
                       {VmfElementary::sin_arc, 1.5}}) {
    Values x;
    for (int i = 0; i < 4000; ++i) {
      const double tiny = std::exp(-36 * uniform());
      switch (c.f) {
        case VmfElementary::log:
          x.push_back(i % 3 == 0 ? tiny : i % 3 == 1 ? 1 - tiny / 2 : uniform());
          break;
        case VmfElementary::log1p:
          x.push_back(i % 3 == 0 ? -tiny / 2 : i % 3 == 1 ? -uniform() * (1 - 0x1p-53) : tiny - 1);
          break;
        case VmfElementary::exp:
        case VmfElementary::expm1:
          x.push_back(i % 2 == 0 ? -37 * uniform() : -tiny);
          break;
        default:
          x.push_back((i % 2 == 0 ? uniform() : tiny) - 0.5 * (i % 2 == 0 ? 1 : 0));
          x.back() = std::clamp(x.back(), -0.5, 0.5);
      }
    }
    x.erase(std::remove_if(x.begin(), x.end(),
                           [&](double y) { return c.f == VmfElementary::log1p && y == -1; }),
            x.end());
    Values value(x.size());
    halfulp::detail::vmf_elementary(c.f, x, value);
    double worst = 0, at = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (x[i] == 0 || (c.f == VmfElementary::log && x[i] == 1)) continue;
      const double error = error_in_ulp(c.f, x[i], value[i]);
      if (error > worst) worst = error, at = x[i];
    }
    INFO("function " << static_cast<int>(c.f) << " at " << at);
    CHECK(worst <= c.limit);
  }
}

namespace {

/// A row again, from halfulp/random.hpp's Philox in long double, by the textbook's formulas.
std::vector<long double> textbook_row(const Values& mu, double kappa, std::uint64_t seed,
                                      std::uint64_t row) {
  using Long = long double;
  const auto words = [&](std::uint32_t block, std::uint32_t kind) {
    return halfulp::philox(
        {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32), block, kind},
        {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  };
  const auto fraction = [](std::uint32_t low, std::uint32_t high) {
    const std::uint64_t bits = static_cast<std::uint64_t>(high) << 32 | low;
    return (static_cast<Long>(bits >> 12) + 0.5L) * 0x1p-52L;
  };
  const auto circle = [&](std::uint32_t low, std::uint32_t high) {
    const Long angle = std::numbers::pi_v<Long> / 2 * (fraction(low, high) - 0.5L);
    Long c = std::cos(angle), s = std::sin(angle);
    if ((low & 2) != 0) c = -c;
    if ((low & 1) != 0) std::swap(c, s);
    return std::pair(c, s);
  };
  const std::size_t p = mu.size();
  const Long k = kappa, d = static_cast<Long>(p - 1);
  Long t = 0;
  if (p == 3) {
    const auto x = words(0, 3);
    const Long v = fraction(x[0], x[1]);
    t = kappa == 0 ? 1 - 2 * v : 1 + std::log1p(v * std::expm1(-2 * k)) / k;
  } else {
    const Long b = (-2 * k + std::sqrt(4 * k * k + d * d)) / d, x0 = (1 - b) / (1 + b);
    const Long c = k * x0 + d * std::log(1 - x0 * x0);
    for (std::uint32_t attempt = 0;; ++attempt) {
      const auto x = words(0, 3 + 256 * attempt), y = words(1, 3 + 256 * attempt);
      const Long r =
          p == 2 ? 1 : std::sqrt(1 - std::pow(fraction(x[0], x[1]), 2 / static_cast<Long>(p - 2)));
      const auto [cos, sin] = circle(x[2], x[3]);
      const Long z = (1 - r * (cos * cos - sin * sin)) / 2;
      t = (1 - (1 + b) * z) / (1 - (1 - b) * z);
      if (k * t + d * std::log(1 - x0 * t) - c >= std::log(fraction(y[0], y[1]))) break;
    }
  }
  const std::size_t n = p - 1;
  std::vector<Long> g(n + 16);
  for (std::size_t j = 0; j < n; ++j) {
    const bool narrow = p <= 24;
    const std::size_t block = narrow ? j / 2 : j / 16 * 8 + j % 8;
    const bool second = narrow ? j % 2 == 1 : j % 16 >= 8;
    const auto x = words(static_cast<std::uint32_t>(block), 4);
    const auto [c, s] = circle(x[2], x[3]);
    const Long r = p == 3 ? 1 : std::sqrt(-2 * std::log(fraction(x[0], x[1])));
    g[j] = r * (second ? s : c);
    if (p == 2) g[j] = (x[0] & 1) != 0 ? -1 : 1;
  }
  Long square = 0;
  for (std::size_t j = 0; j < n; ++j) square += g[j] * g[j];
  // the reflection in v = mu -+ e1 takes +-e1 to mu
  const Long sign = mu[0] > 0 ? -1 : 1;
  std::vector<Long> v(mu.begin(), mu.end()), x(p);
  v[0] -= sign;
  for (std::size_t j = 0; j < n; ++j) x[j + 1] = g[j] / std::sqrt(square);
  Long vv = 0, vx = 0;
  for (std::size_t j = 0; j < p; ++j) vv += v[j] * v[j], vx += v[j] * x[j];
  for (std::size_t j = 0; j < p; ++j)
    x[j] = t * mu[j] + std::sqrt(1 - t * t) * (x[j] - 2 * vx / vv * v[j]);
  if (p == 2) {
    x[0] = t * mu[0] - std::sqrt(1 - t * t) * g[0] * mu[1];
    x[1] = t * mu[1] + std::sqrt(1 - t * t) * g[0] * mu[0];
  }
  return x;
}

}  // namespace

TEST_CASE("a row is the documented function of seed and index", "[vmf][sample]") {
  const std::uint64_t seed = 0x0123456789abcdef, first = 0xfffffffe;
  for (const std::size_t p : {2, 3, 4, 5, 10, 24, 25, 33, 100, 600})
    for (const double kappa : {0.0, 0.7, 40.0})
      for (const unsigned which : {1U, 2U}) {
        Values mu = direction(p, which);
        if (which == 2) mu[0] = -mu[0];
        const Values rows = draw(mu, kappa, 40, seed, first);
        long double worst = 0;
        for (std::size_t i = 0; i < 40; ++i) {
          const auto x = textbook_row(mu, kappa, seed, first + i);
          for (std::size_t k = 0; k < p; ++k)
            worst = std::max(worst, std::abs(x[k] - rows[i * p + k]));
        }
        INFO("p = " << p << ", kappa = " << kappa);
        CHECK(worst < 3e-15L);
      }
}

TEST_CASE("the same bits for any number of threads, in parts and on every instruction set",
          "[vmf][sample]") {
  for (const std::size_t p : {2, 3, 4, 7, 24, 25, 40, 1000, 5000}) {
    INFO(p);
    const Values mu = direction(p, 5);
    const double kappa = static_cast<double>(p);
    const std::size_t n = p > 500 ? 21 : 1501;
    const Values all = draw(mu, kappa, n, 7, 1000, 1);
    CHECK(same_bits(all, draw(mu, kappa, n, 7, 1000, 3)));
    Values parts;
    for (std::size_t begin = 0; begin < n; begin += n / 3 + 1) {
      const Values part = draw(mu, kappa, std::min(n / 3 + 1, n - begin), 7, 1000 + begin, 2);
      parts.insert(parts.end(), part.begin(), part.end());
    }
    CHECK(same_bits(all, parts));
    CHECK_FALSE(same_bits(all, draw(mu, kappa, n, 8, 1000)));
    const auto supported = hwy::SupportedTargets();
    for (auto left = supported; left != 0; left &= left - 1) {
      const auto target = left & -left;
      INFO(hwy::TargetName(target));
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      CHECK(same_bits(all, draw(mu, kappa, n, 7, 1000)));
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
  }
}

TEST_CASE("samples have the distribution", "[vmf][sample]") {
  std::uint64_t seed = 100;
  for (const std::size_t p : {2, 3, 4, 24, 100, 784})
    for (const double kappa : {0.0, 1e-12, 1.0, 300.0, 1e8, 1e15})
      for (const Values& mu : {direction(p, 3), axis(p, 1), axis(p, -1)})
        check_sample(mu, kappa, p > 500 ? 300 : 1500, ++seed);
}

TEST_CASE("many samples", "[vmf][sample]") {
  check_sample(direction(3, 4), 5, 50000, 1);
  check_sample(direction(4096, 4), 2000, 1000, 1);
  check_sample(axis(4096, -1), 1e8, 500, 2);
}

TEST_CASE("very many samples", "[vmf][sample][.slow]") {
  for (const double kappa : {0.0, 1e-12, 10.0, 1e8})
    for (const Values& mu : {direction(3, 4), axis(3, 1), axis(3, -1)})
      check_sample(mu, kappa, 1000000, 11);
  for (const double kappa : {0.0, 1e-12, 4000.0, 1e8})
    check_sample(direction(4096, 4), kappa, 100000, 12);
  check_sample(axis(4096, 1), 3000, 100000, 13);
  check_sample(axis(4096, -1), 3000, 100000, 14);
}

TEST_CASE("next to mu the deviation has its digits, next to the axes the reflection",
          "[vmf][sample]") {
  // the first entry shows 1 - t, the others sqrt(1 - t^2) to all digits, for any kappa
  for (const double kappa : {1e15, 1e30, 1e200}) {
    for (const std::size_t p : {2, 3, 10, 30}) {
      INFO("p = " << p << ", kappa = " << kappa);
      const Values rows = draw(axis(p, 1), kappa, 2000);
      Values w;
      for (std::size_t i = 0; i < rows.size(); i += p) {
        double square = 0;
        for (std::size_t k = 1; k < p; ++k) square += std::pow(rows[i + k] * std::sqrt(kappa), 2);
        w.push_back(square / 2 / kappa);  // 1 - t = s^2/2 to 1e-15 of itself
      }
      CHECK(kolmogorov(w, [&](double x) {
              return halfulp::vmf::cosine_complement(static_cast<double>(p), kappa, x).survival;
            }) < rare);
    }
  }
  for (const double tilt : {1e-300, 1e-20, 1e-9, 1e-4})
    for (const double sign : {1.0, -1.0})
      for (const std::size_t p : {3, 30}) {
        Values mu(p, 0.0);
        mu[0] = sign * std::sqrt(1 - tilt * tilt);
        mu[p - 1] = tilt;
        const Values rows = draw(mu, 1e-3, 500);
        // differs from the axis by no more than the angle
        const Values straight = draw(axis(p, sign), 1e-3, 500);
        double worst = 0;
        for (std::size_t i = 0; i < rows.size(); ++i)
          worst = std::max(worst, std::fabs(rows[i] - straight[i]));
        CHECK(worst <= 2 * tilt + 8 * u);
        check_sample(mu, 2, 2000, 5);
      }
}

TEST_CASE("mean directions whose norm is not quite 1 give samples whose norm is", "[vmf][sample]") {
  Values mu = direction(50, 8);
  for (double& m : mu) m *= 1 + 9e-7;
  const Values rows = draw(mu, 100, 200);
  CHECK(statistics(rows, direction(50, 8), orthogonal(direction(50, 8), 1)).norm_error <= 8 * u);
}

TEST_CASE("sample refuses what it cannot use", "[vmf][sample]") {
  Values out(12);
  const auto refused = [&](const Distribution& d, std::span<double> to, const std::string& text) {
    try {
      sample(d, 1, to);
    } catch (const halfulp::Error& e) {
      INFO(e.what());
      return std::string(e.what()).find(text) != std::string::npos;
    }
    return false;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = HUGE_VAL;
  CHECK(refused({{1}, 1}, out, "distribution.mu.size() = 1"));
  CHECK(refused({{1, 1}, 1}, out, "|distribution.mu|"));
  CHECK(refused({{1, nan}, 1}, out, "distribution.mu[1]"));
  CHECK(refused({{1, 0}, -1}, out, "distribution.kappa = -1"));
  CHECK(refused({{1, 0}, nan}, out, "distribution.kappa = nan"));
  CHECK(refused({{1, 0}, inf}, out, "distribution.kappa = inf"));
  CHECK(refused({{1, 0, 0, 0, 0}, 1}, out, "out.size() = 12"));
  CHECK_THROWS_AS(sample({{1, 0, 0, 0, 0}, 1}, 1, out), halfulp::ShapeError);
  CHECK_THROWS_AS(sample({{1, 0}, 1}, 1, out, 0, -1), halfulp::DomainError);
  CHECK_NOTHROW(sample({{1, 0}, 1}, 1, {}));
  for (const double kappa : {0x1p-1074, 1e308}) {
    for (const double x : draw(axis(7, 1), kappa, 100)) CHECK(std::isfinite(x));
    for (const double x : draw(direction(3, 1), kappa, 100)) CHECK(std::isfinite(x));
    for (const double x : draw(direction(2, 1), kappa, 100)) CHECK(std::isfinite(x));
    for (const double x : draw(direction(40, 1), kappa, 100)) CHECK(std::isfinite(x));
  }
}
