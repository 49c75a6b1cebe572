#include <hwy/targets.h>

#include <algorithm>
#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "../validation/oracle/bessel_arb.hpp"
#include "budget.hpp"
#include "halfulp/error.hpp"
#include "halfulp/text.hpp"
#include "halfulp/vmf.hpp"

namespace vmf = halfulp::vmf;
using halfulp::hex_text;

namespace {

using Real = boost::multiprecision::number<
    boost::multiprecision::mpfr_float_backend<100, boost::multiprecision::allocate_stack>,
    boost::multiprecision::et_off>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

struct Random {
  std::mt19937_64 engine;
  explicit Random(unsigned seed) : engine(seed) {}
  double uniform() { return (static_cast<double>(engine() >> 12) + 0.5) * 0x1p-52; }
  double normal() {
    return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307 * uniform());
  }
  double log_uniform(double a, double b) { return a * std::pow(b / a, uniform()); }
};

std::vector<double> unit(std::vector<double> x) {
  double square = 0;
  for (const double y : x) square += y * y;
  for (double& y : x) y /= std::sqrt(square);
  return x;
}
std::vector<double> direction(std::ptrdiff_t p, Random& random) {
  std::vector<double> x(static_cast<std::size_t>(p));
  for (double& y : x) y = random.normal();
  return unit(x);
}
/// At about 1 - cosine = c from mu.
std::vector<double> near(const std::vector<double>& mu, double c, Random& random) {
  auto x = direction(std::ssize(mu), random);
  double along = 0;
  for (std::size_t j = 0; j < x.size(); ++j) along += x[j] * mu[j];
  for (std::size_t j = 0; j < x.size(); ++j) x[j] -= along * mu[j];
  x = unit(x);
  const double sine = std::sqrt(c * (2 - c));
  for (std::size_t j = 0; j < x.size(); ++j) x[j] = (1 - c) * mu[j] + sine * x[j];
  return unit(x);
}
void append(std::vector<double>& points, const std::vector<double>& row) {
  points.insert(points.end(), row.begin(), row.end());
}
/// n rows at 1 - cosine of about c from a common direction.
std::vector<double> cluster(std::ptrdiff_t n, std::ptrdiff_t p, double c, Random& random) {
  const auto mu = direction(p, random);
  std::vector<double> points;
  for (std::ptrdiff_t i = 0; i < n; ++i)
    append(points, near(mu, std::min(1.9, c * (0.5 + random.uniform())), random));
  return points;
}

double units(double value, const Real& reference, const Real& size) {
  if (!std::isfinite(value)) return inf;
  return static_cast<double>(abs(Real(value) - reference) / size) * 0x1p53;
}

Real real(const arb_t x) {
  Real out;
  arf_get_mpfr(out.backend().data(), arb_midref(x), MPFR_RNDN);
  return out;
}
Real bessel(bessel_arb::Function f, double v, double x) {
  bessel_arb::Ball ball;
  if (!bessel_arb::evaluate(ball.v, f, v, x)) throw std::runtime_error("no reference");
  return real(ball.v);
}

const Real pi = boost::math::constants::pi<Real>();

/// log C_p(kappa) + kappa.
Real log_normaliser_scaled(std::ptrdiff_t p, double kappa) {
  const Real v = Real(p) / 2 - 1;
  if (kappa == 0) return lgamma(v + 1) - log(Real(2)) - (v + 1) * log(pi);
  return v * log(Real(kappa)) - (v + 1) * log(2 * pi) -
         bessel(bessel_arb::Function::log_i_scaled, static_cast<double>(v), kappa);
}

Real norm(std::span<const double> x) {
  Real square = 0;
  for (const double y : x) square += Real(y) * y;
  return sqrt(square);
}
Real one_minus_cosine(std::span<const double> a, std::span<const double> b) {
  Real product = 0;
  for (std::size_t j = 0; j < a.size(); ++j) product += Real(a[j]) * b[j];
  return 1 - product / (norm(a) * norm(b));
}

struct Exact {
  std::vector<Real> direction;
  Real length, complement, weight;
};
Exact exact_resultant(std::span<const double> points, std::ptrdiff_t p,
                      std::span<const double> weights = {}) {
  const auto width = static_cast<std::size_t>(p);
  Exact out{std::vector<Real>(width, 0), 0, 0, 0};
  for (std::size_t i = 0; i * width < points.size(); ++i) {
    const auto row = points.subspan(i * width, width);
    const Real w = weights.empty() ? 1 : weights[i], factor = w / norm(row);
    out.weight += w;
    for (std::size_t j = 0; j < width; ++j) out.direction[j] += factor * row[j];
  }
  Real square = 0;
  for (const Real& s : out.direction) square += s * s;
  const Real length = sqrt(square);
  for (Real& s : out.direction) s /= length;
  out.length = length / out.weight;
  out.complement = 1 - out.length;
  return out;
}

/// The largest error of length, complement (relative) and direction (its length), in u.
double error(const vmf::Resultant& r, const Exact& exact) {
  Real square = 0;
  for (std::size_t j = 0; j < exact.direction.size(); ++j) {
    const Real d = r.direction[j] - exact.direction[j];
    square += d * d;
  }
  return std::max({units(r.length, exact.length, exact.length),
                   units(r.complement, exact.complement, exact.complement),
                   units(r.weight, exact.weight, exact.weight),
                   static_cast<double>(sqrt(square)) * 0x1p53});
}

template <class F>
void on_every_instruction_set(F f) {
  const auto supported = hwy::SupportedTargets();
  for (auto targets = supported; targets != 0; targets &= targets - 1) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("targets " << targets);
    f();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace

TEST_CASE("log-densities are within their budget", "[vmf]") {
  Random random(1);
  for (const std::ptrdiff_t p : {2, 3, 10, 31, 37, 784, 4096})
    for (const double kappa :
         {0.0, 1e-3, 1.0, 30.0, 784.0, 1e5, 1e8, 3e11, 1e13, 1e15, 1e25, 1e29}) {
      const auto mu = direction(p, random);
      const Real top = log_normaliser_scaled(p, kappa);
      const auto crossing = static_cast<double>(top) / kappa;  // 1 - cosine where log f = 0
      std::vector<std::vector<double>> rows = {mu, direction(p, random), near(mu, 0.4, random),
                                               near(mu, 1.999, random)};
      for (double& y : rows[1]) y *= 1 + 9e-7;
      rows.push_back(mu);
      for (double& y : rows[4]) y = -y;
      if (crossing > 0 && crossing < 2)
        for (int i = 0; i < 3; ++i) rows.push_back(near(mu, crossing, random));
      rows.push_back(near(mu, std::min(1.0, 0.5 * static_cast<double>(p) / kappa), random));
      std::vector<double> points, out(rows.size());
      std::vector<Real> exact;
      for (const auto& row : rows) {
        append(points, row);
        exact.push_back(top - kappa * one_minus_cosine(row, mu));
      }
      on_every_instruction_set([&] {
        vmf::log_density({mu, kappa}, points, out);
        double worst = 0;
        std::size_t at = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const Real size = abs(exact[i]) > 1 ? Real(abs(exact[i])) : Real(1);
          const double e = units(out[i], exact[i], size);
          if (!(e <= worst)) worst = e, at = i;
        }
        INFO("p = " << p << ", kappa = " << kappa << ", row " << at << ": " << hex_text(out[at])
                    << ", error " << worst << " u");
        CHECK(worst <= limit("vmf_log_density"));
      });
    }
}

TEST_CASE("log-densities next to the mean direction, where 1 - cosine is all rounding", "[vmf]") {
  // an ulp in one entry, for kappa at which that matters
  const std::vector<double> mu = {0.6, 0.8};
  for (const double kappa : {1e28, 1e32, 1e290}) {
    std::vector<double> points = {0.6, 0.8, std::nextafter(0.6, 1), 0.8};
    std::vector<double> out(2);
    const Real top = log_normaliser_scaled(2, kappa);
    vmf::log_density({mu, kappa}, points, out);
    const Real exact = top - kappa * one_minus_cosine(std::span(points).subspan(2), mu);
    INFO("kappa = " << kappa);
    CHECK(units(out[0], top, abs(top)) <= limit("vmf_log_density"));
    // beyond 1e30 an ulp of a row is many standard deviations, and 1 - cosine all there is
    CHECK(units(out[1], exact, abs(exact)) <= (kappa < 1e30 ? limit("vmf_log_density") : 32));
  }
  const std::vector<double> opposite = {-0.6, -0.8};
  std::vector<double> out(1);
  vmf::log_density({mu, 1.7e308}, opposite, out);
  CHECK(out[0] == -inf);
}

TEST_CASE("log-densities: bad rows give NaN in their place, any norm if asked for", "[vmf]") {
  Random random(2);
  for (const std::ptrdiff_t p : {2, 5, 40}) {
    const auto mu = direction(p, random);
    const vmf::Distribution distribution{mu, 17};
    const auto width = static_cast<std::size_t>(p);
    std::vector<double> points, scaled;
    const double sizes[] = {1, 0.5, 1e200, 1e-200, 1e308, 5e-324, 3, 1 + 2e-6, 1 - 2e-6, 1 + 5e-7};
    for (const double size : sizes) {
      auto row = direction(p, random);
      if (size == 5e-324) row.assign(width, 0), row[1] = -5e-324;  // a whole multiple
      append(scaled, size == 5e-324 ? [&] { auto r = row; r[1] = -1; return r; }() : row);
      if (size != 5e-324)
        for (double& y : row) y *= size;
      append(points, row);
    }
    for (const double bad : {0.0, no_number, inf}) {
      auto row = direction(p, random);
      if (bad == 0)
        row.assign(width, 0.0);
      else
        row[width - 1] = bad;
      append(points, row);
      append(scaled, row);
    }
    std::vector<double> out(std::size(sizes) + 3), any(out.size()), expected(out.size());
    vmf::log_density(distribution, points, out);
    vmf::log_density(distribution, points, any, {.normalise = true});
    for (std::size_t i = 0; i < out.size(); ++i) {
      INFO("p = " << p << ", row " << i);
      const bool bad = i >= std::size(sizes);
      CHECK(std::isnan(any[i]) == bad);
      CHECK(std::isnan(out[i]) == (bad || std::fabs(sizes[i] - 1) > 1e-6));
      if (bad) continue;
      const std::span<const double> row(scaled.data() + i * width, width);
      const Real exact = log_normaliser_scaled(p, 17) - 17 * one_minus_cosine(row, mu);
      // the scaled row is itself rounded
      CHECK(units(any[i], exact, 17 + abs(exact)) <= 4);
      if (!std::isnan(out[i])) CHECK(units(out[i], exact, 17 + abs(exact)) <= 4);
    }
  }
}

TEST_CASE("resultants are within their budget", "[vmf]") {
  Random random(3);
  struct Case {
    std::ptrdiff_t n, p;
  };
  for (const Case c : {Case{2, 2},
                       {3, 3},
                       {500, 3},
                       {70, 10},
                       {65, 31},
                       {64, 32},
                       {33, 45},
                       {300, 40},
                       {21, 784},
                       {3, 4097}})
    for (const double spread : {1.9, 0.3, 1e-3, 1e-9, 1e-12, 1e-16, 1e-20}) {
      auto points = cluster(c.n, c.p, spread, random);
      for (const int kind : {0, 1, 2}) {
        if (kind == 1)  // norms off 1 by what is allowed
          for (std::size_t i = 0; i < points.size(); ++i)
            points[i] *=
                1 + 9e-7 * std::sin(static_cast<double>(i / static_cast<std::size_t>(c.p)));
        if (kind == 2)  // by anything
          for (std::size_t i = 0; i < points.size(); ++i)
            points[i] *= std::pow(
                10.0, 290 * std::sin(static_cast<double>(i / static_cast<std::size_t>(c.p))));
        std::vector<double> weights;
        if (kind == 2)
          for (std::ptrdiff_t i = 0; i < c.n; ++i)
            weights.push_back(i % 5 == 2 ? 0 : random.log_uniform(1e-3, 1e4));
        const Exact exact = exact_resultant(points, c.p, weights);
        on_every_instruction_set([&] {
          const auto r = vmf::resultant(points, c.p, {.weights = weights, .normalise = kind == 2});
          const double e = error(r, exact);
          INFO(c.n << " x " << c.p << ", spread " << spread << ", kind " << kind << ": length "
                   << hex_text(r.length) << ", 1 - length " << hex_text(r.complement) << ", error "
                   << e << " u");
          CHECK(e <= limit("vmf_resultant"));
        });
      }
    }
}

TEST_CASE("resultants of rows that cancel", "[vmf]") {
  Random random(4);
  for (const std::ptrdiff_t p : {2, 3, 50}) {
    std::vector<double> points;
    for (int i = 0; i < 200; ++i) {
      auto x = direction(p, random);
      append(points, x);
      for (double& y : x) y = -y;
      append(points, x);
    }
    const auto none = vmf::resultant(points, p);
    CHECK(none.length == 0);
    CHECK(none.complement == 1);
    CHECK(none.direction.empty());
    CHECK(none.count == 400);
    // one entry moved by a little: all of the length
    for (const double step : {1e-3, 1e-9, 1e-14}) {
      points[1] += step;
      CHECK(error(vmf::resultant(points, p, {.normalise = true}), exact_resultant(points, p)) <=
            limit("vmf_resultant"));
    }
  }
}

TEST_CASE("resultants far below the rounding of the rows", "[vmf]") {
  for (const double tiny : {1e-18, 3e-22}) {
    const std::vector<double> points = {1, tiny, -1, tiny};
    const auto r = vmf::resultant(points, 2);
    CHECK(r.length == Approx(tiny).epsilon(1e-15));
    CHECK(r.direction == std::vector<double>{0, 1});
    CHECK_THROWS_AS(vmf::fit(points, 2), halfulp::DomainError);
  }
}

TEST_CASE("resultants of many rows", "[vmf]") {
  Random random(5);
  std::vector<double> points;
  for (int i = 0; i < 50000; ++i) append(points, direction(3, random));
  const double e = error(vmf::resultant(points, 3), exact_resultant(points, 3));
  INFO(e);
  CHECK(e <= limit("vmf_resultant"));
}

TEST_CASE("resultants of a million rows", "[vmf][.slow]") {
  Random random(6);
  std::vector<double> points;
  for (int i = 0; i < 1000000; ++i) append(points, direction(3, random));
  const double e = error(vmf::resultant(points, 3), exact_resultant(points, 3));
  INFO(e);
  CHECK(e <= limit("vmf_resultant"));
}

TEST_CASE("the same bits for any number of threads", "[vmf]") {
  Random random(7);
  for (const std::ptrdiff_t p : {3, 40, 1500}) {
    const std::ptrdiff_t n = p == 3 ? 20000 : p == 40 ? 3000 : 700;
    const auto points = cluster(n, p, 1e-13, random);
    const vmf::Distribution distribution{direction(p, random), 1e15};
    const auto one = vmf::resultant(points, p, {.threads = 1});
    const double sum = vmf::log_likelihood(distribution, points, {.threads = 1});
    std::vector<double> density(static_cast<std::size_t>(n)), other(density.size());
    vmf::log_density(distribution, points, density, {.threads = 1});
    for (const int threads : {2, 3, 7}) {
      const auto more = vmf::resultant(points, p, {.threads = threads});
      CHECK(more.length == one.length);
      CHECK(more.complement == one.complement);
      CHECK(more.direction == one.direction);
      CHECK(vmf::log_likelihood(distribution, points, {.threads = threads}) == sum);
      vmf::log_density(distribution, points, other, {.threads = threads});
      CHECK(other == density);
    }
  }
}

TEST_CASE("likelihoods are the sums of log-densities", "[vmf]") {
  Random random(8);
  for (const std::ptrdiff_t p : {2, 3, 100})
    for (const double kappa : {0.0, 2.0, 1e4, 1e14}) {
      const auto points = cluster(150, p, std::min(1.0, 2 / (1 + kappa)), random);
      const vmf::Distribution distribution{
          kappa < 1e5 ? direction(p, random) : vmf::resultant(points, p).direction, kappa};
      std::vector<double> weights(150);
      for (double& w : weights) w = 1e3 * random.uniform();
      weights[7] = 0;
      Real exact = 0, size = 0;
      const Real top = log_normaliser_scaled(p, kappa);
      for (std::size_t i = 0; i < 150; ++i) {
        const auto width = static_cast<std::size_t>(p);
        const std::span<const double> row(points.data() + i * width, width);
        const Real term = weights[i] * (top - kappa * one_minus_cosine(row, distribution.mu));
        exact += term;
        size += abs(term);
      }
      INFO("p = " << p << ", kappa = " << kappa);
      CHECK(units(vmf::log_likelihood(distribution, points, {.weights = weights}), exact, size) <=
            2);
    }
}

TEST_CASE("weights are frequencies", "[vmf]") {
  Random random(9);
  const auto points = cluster(60, 4, 0.2, random);
  std::vector<double> weights, repeated;
  double total = 0;
  for (std::size_t i = 0; i < 60; ++i) {
    weights.push_back(static_cast<double>(i % 4));
    total += weights.back();
    for (std::size_t k = 0; k < i % 4; ++k)
      append(repeated, {points.begin() + static_cast<std::ptrdiff_t>(4 * i),
                        points.begin() + static_cast<std::ptrdiff_t>(4 * i + 4)});
  }
  for (const auto correction : {vmf::BiasCorrection::none, vmf::BiasCorrection::marginal}) {
    const auto a = vmf::fit(points, 4, {{.weights = weights}, correction});
    const auto b = vmf::fit(repeated, 4, {{}, correction});
    CHECK(a.resultant.weight == total);
    CHECK(a.resultant.count == 45);
    CHECK(b.resultant.count == static_cast<std::ptrdiff_t>(total));
    CHECK(a.distribution.kappa == Approx(b.distribution.kappa).epsilon(1e-15));
    CHECK(a.kappa_error == Approx(b.kappa_error).epsilon(1e-15));
    CHECK(a.direction_error == Approx(b.direction_error).epsilon(1e-15));
    CHECK(a.log_likelihood == Approx(b.log_likelihood).epsilon(1e-14));
    for (std::size_t j = 0; j < 4; ++j)
      CHECK(std::fabs(a.distribution.mu[j] - b.distribution.mu[j]) <= 0x1p-53);
  }
  // their unit does not matter to the direction and the length, however large or small
  const auto one = vmf::resultant(points, 4, {.weights = weights});
  for (const double factor : {0x1p-1020, 0x1p1010}) {
    auto other_weights = weights;
    for (double& w : other_weights) w *= factor;
    const auto other = vmf::resultant(points, 4, {.weights = other_weights});
    CHECK(other.direction == one.direction);
    CHECK(other.complement == one.complement);
    CHECK(other.weight == one.weight * factor);
  }
}

TEST_CASE("bad data is refused by name", "[vmf]") {
  const std::vector<double> good = {1, 0, 0, 1, 0, 0, 0.6, 0.8, 0};
  const auto with = [&](std::size_t i, double value) {
    auto points = good;
    points[i] = value;
    return points;
  };
  using Catch::Matchers::Equals;
  const vmf::Distribution distribution{{0, 1, 0}, 2};
  CHECK_THROWS_WITH(vmf::fit(with(7, 0.9), 3),
                    Equals("halfulp::vmf::fit: |points[2]| = 1.0816653826391966, must be 1 (or set "
                           "normalise)"));
  CHECK_THROWS_WITH(vmf::resultant(with(3, 0), 3),
                    Equals("halfulp::vmf::resultant: |points[1]| = 0, must be 1 (or set "
                           "normalise)"));
  CHECK_THROWS_WITH(vmf::resultant(with(3, 0), 3, {.normalise = true}),
                    Equals("halfulp::vmf::resultant: |points[1]| = 0, must be > 0"));
  CHECK_THROWS_WITH(vmf::log_likelihood(distribution, with(5, no_number)),
                    Equals("halfulp::vmf::log_likelihood: points[1][2] = nan, must be finite"));
  CHECK_THROWS_WITH(vmf::fit(with(5, -inf), 3, {{.normalise = true}}),
                    Equals("halfulp::vmf::fit: points[1][2] = -inf, must be finite"));
  CHECK_THROWS_AS(vmf::fit(with(0, 1e300), 3), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::fit(with(0, 1 + 2e-6), 3), halfulp::DomainError);
  CHECK_NOTHROW(vmf::fit(with(0, 1 + 5e-7), 3));
  // a bad row is refused whatever its weight
  const std::vector<double> weights = {1, 0, 2};
  CHECK_THROWS_AS(vmf::fit(with(5, no_number), 3, {{.weights = weights}}), halfulp::DomainError);
  CHECK_THROWS_WITH(vmf::resultant(good, 2),
                    Equals("halfulp::vmf::resultant: points.size() = 9, must be a multiple of p = "
                           "2"));
  CHECK_THROWS_AS(vmf::resultant(good, 2), halfulp::ShapeError);
  CHECK_THROWS_WITH(vmf::resultant(good, 1),
                    Equals("halfulp::vmf::resultant: p = 1, must be >= 2"));
  CHECK_THROWS_WITH(vmf::resultant(std::vector<double>(), 3),
                    Equals("halfulp::vmf::resultant: rows of points = 0, must be > 0"));
  const std::vector<double> two = {1, 2}, negative = {1, -1, 1}, none = {0, 0, 0},
                            infinite = {1, inf, 0};
  CHECK_THROWS_AS(vmf::resultant(good, 3, {.weights = two}), halfulp::ShapeError);
  CHECK_THROWS_WITH(vmf::resultant(good, 3, {.weights = negative}),
                    Equals("halfulp::vmf::resultant: weights[1] = -1, must be >= 0 and finite"));
  CHECK_THROWS_WITH(vmf::resultant(good, 3, {.weights = infinite}),
                    Equals("halfulp::vmf::resultant: weights[1] = inf, must be >= 0 and finite"));
  CHECK_THROWS_WITH(vmf::resultant(good, 3, {.weights = none}),
                    Equals("halfulp::vmf::resultant: sum of weights = 0, must be > 0"));
  // no fit
  const std::vector<double> single = {0, 5, 0}, same = {1, 0, 0, 1, 0, 0};
  CHECK_THROWS_WITH(vmf::fit(good, 3, {{.weights = single}}),
                    Equals("halfulp::vmf::fit: rows with weight = 1, must be >= 2"));
  CHECK_THROWS_WITH(vmf::fit(same, 3), Equals("halfulp::vmf::fit: 1 - mean resultant length = 0, "
                                              "must be > 0: all rows agree, kappa = inf"));
  const std::vector<double> thirds = {0.1, 0.7, -0.3, 0.05, 0.35, -0.15, 0.4, 2.8, -1.2};
  CHECK(vmf::resultant(std::span(thirds).first(6), 3, {.normalise = true}).complement == 0);
  const std::vector<double> opposite = {0.6, 0.8, -0.6, -0.8};
  CHECK_THROWS_WITH(vmf::fit(opposite, 2),
                    Equals("halfulp::vmf::fit: mean resultant length = 0, must be > 2^-53: every "
                           "mean direction is as good"));
  // a regular polygon, rounded
  std::vector<double> polygon;
  for (int i = 0; i < 7; ++i)
    append(polygon, {std::cos(2 * std::acos(-1.0) * i / 7), std::sin(2 * std::acos(-1.0) * i / 7)});
  CHECK_THROWS_AS(vmf::fit(polygon, 2), halfulp::DomainError);
  // distributions
  std::vector<double> out(3);
  CHECK_THROWS_AS(vmf::log_density({{0, 1, 0}, -1}, good, out), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::log_density({{0, 1, 0}, inf}, good, out), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::log_density({{0, 1.1, 0}, 1}, good, out), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::log_density({{0, no_number, 0}, 1}, good, out), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::log_density({{0, 1}, 1}, good, out), halfulp::ShapeError);
  CHECK_THROWS_AS(vmf::log_likelihood({{0, 1}, 1}, good), halfulp::ShapeError);
  std::vector<double> empty;
  CHECK_NOTHROW(vmf::log_density(distribution, std::vector<double>(), empty));
  // resultants made by hand
  CHECK_THROWS_WITH(vmf::kappa_interval({{}, 0.5, 0.25, 10, 10}, 3),
                    Equals("halfulp::vmf::kappa_interval: resultant.complement = 0.25, must be 1 - "
                           "length"));
  CHECK_THROWS_AS(vmf::kappa_interval({{}, 0.5, 0.5, 10, 10}, 3, 1), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::kappa_interval({{}, 0.5, 0.5, 10, 10}, 1.5), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::kappa_interval({{}, 0.5, 0.5, 0, 10}, 3), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::kappa_interval({{}, 1, 0, 10, 10}, 3), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::kappa_interval({{}, no_number, 1, 10, 10}, 3), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::uniformity({{}, 0.5, 0.5, 10, 10}, 1), halfulp::DomainError);
  CHECK_THROWS_AS(vmf::uniformity({{}, 0.5, 0.5, 0.5, 1}, 3), halfulp::DomainError);
}

namespace {

/// On the sphere of R^3: coth(k) - 1/k and its derivative.
Real langevin(const Real& k) { return 1 / tanh(k) - 1 / k; }
Real langevin_slope(const Real& k) { return 1 / (k * k) - 1 / (sinh(k) * sinh(k)); }

}  // namespace

TEST_CASE("fits on the sphere solve the equations in closed form", "[vmf]") {
  Random random(10);
  for (const double spread : {1.0, 0.3, 1e-2, 1e-6, 1e-12, 1e-18}) {
    const auto points = cluster(40, 3, spread, random);
    const auto fit = vmf::fit(points, 3);
    const auto& r = fit.resultant;
    const double kappa = fit.distribution.kappa;
    const Real k = kappa;
    const Real length = r.complement < 0.5 ? 1 - Real(r.complement) : Real(r.length);
    const Real slope = langevin_slope(k);
    INFO("spread " << spread << ", kappa = " << hex_text(kappa));
    CHECK(fit.distribution.mu == r.direction);
    const Real condition = std::min(r.length, r.complement) / (k * slope);
    CHECK(static_cast<double>(abs((langevin(k) - length) / (k * slope)) / (1 + condition)) <=
          4 * 0x1p-53);
    CHECK(units(fit.kappa_error, 1 / sqrt(40 * slope), fit.kappa_error) <= 8);
    CHECK(units(fit.direction_error, 1 / sqrt(40 * k * langevin(k)), fit.direction_error) <= 4);
    // log C + kappa = log(k/(2 pi (1 - e^-2k)))
    const Real top = log(k / (2 * pi * (1 - exp(-2 * k))));
    const Real likelihood = 40 * (top - k * r.complement);
    CHECK(units(fit.log_likelihood, likelihood, 40 * (abs(top) + k * r.complement)) <= 2);
    CHECK(fit.log_likelihood ==
          Approx(vmf::log_likelihood(fit.distribution, points)).epsilon(1e-13));
  }
}

namespace {

struct MarginalCase {
  std::ptrdiff_t p;
  double n, complement;
};

/// Two rows of weight n/2 at the angle that gives 1 - R.
vmf::Fit marginal_fit(const MarginalCase& c) {
  std::vector<double> points(2 * static_cast<std::size_t>(c.p)), weights(2, c.n / 2);
  const double sine = std::sqrt(c.complement * (2 - c.complement));
  points[0] = points[static_cast<std::size_t>(c.p)] = 1 - c.complement;
  points[1] = sine;
  points[static_cast<std::size_t>(c.p) + 1] = -sine;
  return vmf::fit(points, c.p,
                  {{.weights = weights, .normalise = true}, vmf::BiasCorrection::marginal});
}

struct Ratio {
  Real value, complement, slope;
};
Ratio ratio(std::ptrdiff_t p, const Real& k) {
  const double v = 0.5 * static_cast<double>(p) - 1, x = static_cast<double>(k);
  Ratio r{bessel(bessel_arb::Function::i_ratio, v, x),
          bessel(bessel_arb::Function::i_complement, v, x),
          bessel(bessel_arb::Function::i_derivative, v, x)};
  const Real step = k - x;  // k is no double
  r.value += step * r.slope;
  r.complement -= step * r.slope;
  return r;
}

std::vector<MarginalCase> marginal_cases() {
  std::vector<MarginalCase> cases = {
      {2, 5, 0.5},          {2, 40, 0.8},      {3, 3, 0.3},           {3, 100, 0.88},
      {3, 100, 0.95},       {3, 1e9, 0.9999},  {10, 20, 1e-3},        {10, 20, 1e-15},
      {784, 10, 0.6},       {784, 70000, 0.2}, {784, 70000, 0.99},    {784, 1e9, 1e-15},
      {1000000, 2, 1e-4},   {1000000, 5, 0.5}, {1000000, 1e9, 0.999}, {1000000, 1e9, 1e-3},
      {1000000, 1e9, 1e-15}};
  Random random(11);
  for (int i = 0; i < 60; ++i) {
    const double n = std::floor(random.log_uniform(2, 1e9));
    // 1 - R down to 1e-15, or R down to where the estimate becomes 0
    const double complement =
        i % 2 == 0 ? random.log_uniform(1e-15, 0.5) : 1 - random.log_uniform(1 / std::sqrt(n), 1);
    cases.push_back({static_cast<std::ptrdiff_t>(random.log_uniform(2, 2e4)), n, complement});
  }
  return cases;
}

}  // namespace

TEST_CASE("the marginal estimate solves Schou's equation", "[vmf]") {
  double largest = 0;
  for (const MarginalCase& c : marginal_cases()) {
    const auto fit = marginal_fit(c);
    const auto& r = fit.resultant;
    INFO("p = " << c.p << ", n = " << c.n << ", 1 - R = " << r.complement
                << ", kappa = " << fit.distribution.kappa);
    const Real length = r.complement < 0.5 ? 1 - Real(r.complement) : Real(r.length);
    if (c.n * length * length <= 1) {
      CHECK(fit.distribution.kappa == 0);
      continue;
    }
    const Real k = fit.distribution.kappa, n = c.n;
    const Ratio one = ratio(c.p, k), all = ratio(c.p, n * length * k);
    const Real value = (1 - length) - one.complement + length * all.complement;
    const Real slope = one.slope - n * length * length * all.slope;
    // R, or 1 - R, has an error of u of its own
    const Real condition =
        (all.value + n * length * k * all.slope) * std::min(r.length, r.complement) / (k * slope);
    REQUIRE(slope > 0);
    const auto e = static_cast<double>(abs(value / (k * slope)) / (1 + condition)) * 0x1p53;
    largest = std::max(largest, e);
    CHECK(e <= 4);
    CHECK(fit.distribution.kappa < vmf::kappa_complement(static_cast<double>(c.p), r.complement));
    CHECK(fit.kappa_error == Approx(static_cast<double>(1 / sqrt(n * one.slope))).epsilon(1e-14));
  }
  INFO(largest);
  // n R^2 <= 1: the uniform distribution
  const auto none = marginal_fit({3, 4, 0.6});
  CHECK(none.distribution.kappa == 0);
  CHECK(none.direction_error == inf);
  CHECK(none.kappa_error == Approx(std::sqrt(3.0 / 4)));
  // next to it, R = 1/2 (1 + step): kappa^2 from the cubic terms of A, p = 3
  for (const double step : {1e-2, 1e-5, 1e-9}) {
    const auto fit = marginal_fit({3, 4, 0.5 - 0.5 * step});
    const double k = fit.distribution.kappa, z = 4 * std::pow(fit.resultant.length, 2);
    CHECK(k > 0);
    CHECK(k == Approx(std::sqrt(15 * (z - 1) / (4 * z * z - 1))).epsilon(5 * step + 1e-6));
  }
}

TEST_CASE("intervals end where the marginal likelihood has fallen by the quantile", "[vmf]") {
  const auto log_c = [](std::ptrdiff_t p, const Real& k) -> Real {
    if (k == 0) return log_normaliser_scaled(p, 0);
    const auto x = static_cast<double>(k);
    return log_normaliser_scaled(p, x) + (k - x) * bessel(bessel_arb::Function::i_complement,
                                                          0.5 * static_cast<double>(p) - 1, x);
  };
  for (const MarginalCase& c : marginal_cases()) {
    const auto fit = marginal_fit(c);
    auto r = fit.resultant;
    const auto p = static_cast<double>(c.p);
    const auto [lower, upper] = vmf::kappa_interval(r, p);
    INFO("p = " << c.p << ", n = " << c.n << ", 1 - R = " << r.complement << ": " << lower << " < "
                << fit.distribution.kappa << " < " << upper);
    const Real length = 1 - Real(r.complement), n = c.n;
    const auto l = [&](const Real& k) -> Real {
      return n * log_c(c.p, k) - log_c(c.p, n * length * k) - n * k * r.complement;
    };
    const Real top = l(fit.distribution.kappa);
    constexpr double quantile = 3.841458820694124;  // of chi^2_1 at 0.95
    CHECK(static_cast<double>(2 * (top - l(upper))) == Approx(quantile).epsilon(1e-6));
    if (lower > 0)
      CHECK(static_cast<double>(2 * (top - l(lower))) == Approx(quantile).epsilon(1e-6));
    else
      CHECK(static_cast<double>(2 * (top - l(0))) <= quantile);
    CHECK((lower < fit.distribution.kappa || lower == 0));
    CHECK(upper > fit.distribution.kappa);
    const auto wide = vmf::kappa_interval(r, p, 0.999), narrow = vmf::kappa_interval(r, p, 0.01);
    CHECK(wide.lower <= lower);
    CHECK(wide.upper > upper);
    CHECK(narrow.lower >= lower);
    CHECK(narrow.upper < upper);
  }
  // no mean direction at all, and an estimate of 0
  const auto none = vmf::kappa_interval({{}, 0, 1, 20, 20}, 3);
  CHECK(none.lower == 0);
  // 20 (log C(0) - log C(k)) = quantile/2: k^2/6 = 0.096 to leading order
  CHECK(none.upper == Approx(std::sqrt(6 * 3.841458820694124 / 40)).epsilon(0.02));
}

namespace {

/// n directions in R^3: the cosine's distribution function has an inverse in closed form.
std::vector<double> sphere_sample(int n, double kappa, Random& random) {
  std::vector<double> points;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(), angle = 2 * std::acos(-1.0) * random.uniform();
    const double t =
        kappa == 0 ? 2 * u - 1 : 1 + std::log(u + (1 - u) * std::exp(-2 * kappa)) / kappa;
    const double s = std::sqrt(std::max(0.0, 1 - t * t));
    append(points, unit({t, s * std::cos(angle), s * std::sin(angle)}));
  }
  return points;
}

}  // namespace

TEST_CASE("intervals and errors cover what they say, in samples", "[vmf]") {
  constexpr int samples = 2000;
  for (const double kappa : {0.0, 0.5, 2.0, 20.0}) {
    Random random(20 + static_cast<unsigned>(kappa));
    int covered = 0, within = 0;
    double bias = 0, corrected_bias = 0;
    for (int i = 0; i < samples; ++i) {
      const auto points = sphere_sample(30, kappa, random);
      const auto fit = vmf::fit(points, 3);
      const auto [lower, upper] = vmf::kappa_interval(fit.resultant, 3);
      covered += lower <= kappa && kappa <= upper ? 1 : 0;
      const double angle = std::acos(std::min(1.0, fit.distribution.mu[0]));
      // the angle's two components are normal: 5.991 is chi^2_2 at 0.95
      within += angle * angle <= 5.991 * fit.direction_error * fit.direction_error ? 1 : 0;
      bias += fit.distribution.kappa - kappa;
      corrected_bias +=
          vmf::fit(points, 3, {{}, vmf::BiasCorrection::marginal}).distribution.kappa - kappa;
    }
    INFO("kappa = " << kappa << ", covered " << covered << ", direction " << within);
    // at 0 only the upper end can miss: half of the 5 per cent and a little
    CHECK(covered >= 0.935 * samples);
    CHECK(covered <= (kappa < 1 ? 0.995 : 0.965) * samples);
    if (kappa >= 2) CHECK(within >= 0.93 * samples);
    if (kappa >= 2) CHECK(within <= 0.97 * samples);
    CHECK(std::fabs(corrected_bias) < 0.6 * std::fabs(bias));
  }
}

TEST_CASE("uniformity: the statistic and the tail of chi^2", "[vmf]") {
  // even p: the tail is e^-x sum of x^j/j! for j < p/2
  for (const std::ptrdiff_t p : {2, 4, 10, 784, 1000000})
    for (const double deviations : {-3.0, -1.0, 0.0, 1.0, 5.0}) {
      const double n = 100;
      const double wanted = std::max(
          0.1, static_cast<double>(p) + deviations * std::sqrt(2.0 * static_cast<double>(p)));
      const double length = std::sqrt(wanted / (n * static_cast<double>(p)));
      const vmf::Resultant r{{}, length, 1 - length, n, 100};
      const auto u = vmf::uniformity(r, static_cast<double>(p));
      const Real s = Real(n) * p * length * length;
      const Real statistic = (1 - 1 / (2 * n)) * s + s * s / (2 * n * (p + 2));
      const Real x = Real(u.statistic) / 2;
      Real term = exp(-x), sum = term;
      for (std::ptrdiff_t j = 1; j < p / 2; ++j) sum += (term *= x / j);
      INFO("p = " << p << ", " << deviations << " deviations, p_value " << u.p_value);
      CHECK(units(u.statistic, statistic, statistic) <= 8);
      // the statistic's own rounding is as large as this
      CHECK(u.p_value == Approx(static_cast<double>(sum)).epsilon(p > 1000 ? 1e-10 : 1e-13));
    }
  // p = 3: erfc(a) + 2 a e^-a^2/sqrt(pi), a^2 = statistic/2
  for (const double length : {0.01, 0.1, 0.3, 0.9}) {
    const auto u = vmf::uniformity({{}, length, 1 - length, 50, 50}, 3);
    const Real a = sqrt(Real(u.statistic) / 2);
    const Real tail = erfc(a) + 2 * a * exp(-a * a) / sqrt(pi);
    CHECK(u.p_value == Approx(static_cast<double>(tail)).epsilon(1e-13));
  }
  CHECK(vmf::uniformity({{}, 0, 1, 50, 50}, 3).p_value == 1);
  CHECK(vmf::uniformity({{}, 1, 0, 1e9, 50}, 1e6).p_value == 0);
}

TEST_CASE("uniformity: p-values of uniform samples are uniform", "[vmf]") {
  Random random(30);
  constexpr int samples = 4000;
  for (const std::ptrdiff_t p : {2, 3, 12}) {
    std::vector<double> values;
    for (int i = 0; i < samples; ++i) {
      std::vector<double> points;
      for (int k = 0; k < 10; ++k) append(points, direction(p, random));
      values.push_back(vmf::uniformity(vmf::resultant(points, p), static_cast<double>(p)).p_value);
    }
    std::ranges::sort(values);
    double distance = 0;
    for (int i = 0; i < samples; ++i)
      distance =
          std::max(distance, std::fabs(values[static_cast<std::size_t>(i)] - (i + 0.5) / samples));
    INFO("p = " << p << ": Kolmogorov's distance " << distance);
    CHECK(distance < 1.95 / std::sqrt(samples));  // probability 0.001
  }
}
