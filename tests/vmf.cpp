#include "halfulp/vmf.hpp"

#include <hwy/targets.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../validation/oracle/vmf_arb.hpp"
#include "../validation/oracle/vmf_mpfr.hpp"
#include "../validation/oracle/vmf_points.hpp"
#include "budget.hpp"
#include "halfulp/csv.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "halfulp/random.hpp"
#include "halfulp/text.hpp"

using halfulp::hex_text;
using halfulp::vmf::Distribution;
using vmf_arb::Ball;
using vmf_arb::Function;
using vmf_arb::Given;
using vmf_points::LengthRegion;
using vmf_points::Region;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr double u = 0x1p-53;

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

struct Case {
  Function function;
  std::string name;  // of the budget and of the table
  double (*evaluate)(double, double);
};
const Case cases[] = {
    {Function::log_normaliser, "vmf_log_normaliser", halfulp::vmf::log_normaliser},
    {Function::log_normaliser_scaled, "vmf_log_normaliser_scaled",
     halfulp::vmf::log_normaliser_scaled},
    {Function::entropy, "vmf_entropy", halfulp::vmf::entropy},
};

struct Root {
  Given given;
  std::string table, column;
  double (*evaluate)(double, double);
};
const Root roots[] = {
    {Given::length, "vmf_kappa", "R", [](double p, double r) { return halfulp::vmf::kappa(p, r); }},
    {Given::complement, "vmf_kappa_complement", "complement",
     [](double p, double c) { return halfulp::vmf::kappa_complement(p, c); }},
};

std::string place(double p, double x) { return "p = " + hex_text(p) + ", " + hex_text(x); }

/// Error of a concentration in units of u (1 + condition); of subnormal ones in their spacing.
double root_error(double computed, double hi, double lo, double condition) {
  if (!std::isfinite(computed)) return inf;
  return std::fabs((computed - hi) - lo) / std::fmax(u * hi, 0x1p-1074) / (1 + condition);
}

/// The middle of an enclosure as hi + lo.
std::pair<double, double> parts(const Ball& value) {
  const double hi = arf_get_d(arb_midref(value.v), ARF_RND_NEAR);
  Ball rest(hi);
  arb_sub(rest.v, value.v, rest.v, 1200);
  return {hi, arf_get_d(arb_midref(rest.v), ARF_RND_NEAR)};
}

vmf_mpfr::Real middle(const Ball& value) {
  vmf_mpfr::Real r;
  arf_get_mpfr(r.backend().data(), arb_midref(value.v), MPFR_RNDN);
  return r;
}

/// A unit vector of p normal numbers.
std::vector<double> direction(std::size_t p, std::uint64_t seed) {
  std::vector<double> mu(p);
  halfulp::RandomStream(seed).fill_normal(mu);
  double square = 0;
  for (const double m : mu) square += m * m;
  for (double& m : mu) m /= std::sqrt(square);
  return mu;
}

/// 1 - a . b/(|a| |b|).
Ball half_chord(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr slong bits = 500;
  Ball ab, aa, bb;
  if (a == b) return ab;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Ball x(a[i]), y(b[i]);
    arb_addmul(ab.v, x.v, y.v, bits);
    arb_addmul(aa.v, x.v, x.v, bits);
    arb_addmul(bb.v, y.v, y.v, bits);
  }
  arb_mul(aa.v, aa.v, bb.v, bits);
  arb_rsqrt(aa.v, aa.v, bits);
  arb_mul(ab.v, ab.v, aa.v, bits);
  arb_sub_si(ab.v, ab.v, 1, bits);
  arb_neg(ab.v, ab.v);
  return ab;
}

}  // namespace

TEST_CASE("the stored tables, within the budgets", "[vmf]") {
  for (const Case& c : cases) {
    const auto table = halfulp::read_csv(HALFULP_TABLES "/" + c.name + ".csv");
    const auto &p = table.column("p"), &kappa = table.column("kappa"), &hi = table.column("hi"),
               &lo = table.column("lo");
    REQUIRE(p.size() > 500);
    double worst = 0;
    std::string at;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double y = c.evaluate(p[i], kappa[i]);
      const double error = std::fabs((y - hi[i]) - lo[i]) / std::fmax(1, std::fabs(hi[i])) / u;
      if (!(error <= worst)) worst = std::isnan(error) ? inf : error, at = place(p[i], kappa[i]);
    }
    INFO(c.name << ": worst at " << at);
    CHECK(worst <= limit(c.name));
  }
  for (const Root& root : roots) {
    const auto table = halfulp::read_csv(HALFULP_TABLES "/" + root.table + ".csv");
    const auto &p = table.column("p"), &given = table.column(root.column);
    const auto &hi = table.column("hi"), &lo = table.column("lo");
    const auto& condition = table.column("condition");
    REQUIRE(p.size() > 1000);
    double worst = 0;
    std::string at;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double error = root_error(root.evaluate(p[i], given[i]), hi[i], lo[i], condition[i]);
      if (!(error <= worst)) worst = error, at = place(p[i], given[i]);
    }
    INFO(root.table << ": worst at " << at);
    CHECK(worst <= limit("vmf_kappa"));
  }
}

TEST_CASE("every function is within its budget in every region, at other points", "[vmf]") {
  for (const Case& c : cases)
    for (int r = 0; r < vmf_points::regions; ++r) {
      bessel_points::Random random(1000 + r);
      double worst = 0;
      std::string at;
      for (int i = 0; i < 15; ++i) {
        const auto point = sample(static_cast<Region>(r), c.function, random);
        Ball reference;
        REQUIRE(vmf_arb::evaluate(reference.v, c.function, point.p, point.kappa));
        const double error = bessel_arb::mixed(c.evaluate(point.p, point.kappa), reference.v);
        if (!(error <= worst)) worst = error, at = place(point.p, point.kappa);
      }
      INFO(c.name << " in " << vmf_points::names[r] << ": worst at " << at);
      CHECK(worst <= limit(c.name));
    }
  for (const Root& root : roots)
    for (int r = 0; r < vmf_points::length_regions; ++r) {
      bessel_points::Random random(1000 + r);
      double worst = 0;
      std::string at;
      for (int i = 0; i < 15; ++i) {
        const auto point = sample(static_cast<LengthRegion>(r), root.given, random, 31 * i);
        Ball kappa;
        REQUIRE(vmf_arb::concentration(kappa.v, point.p, root.given, point.value));
        const auto [hi, lo] = parts(kappa);
        const double error = root_error(root.evaluate(point.p, point.value), hi, lo,
                                        vmf_arb::condition(point.p, point.value, kappa.v));
        if (!(error <= worst)) worst = error, at = place(point.p, point.value);
      }
      INFO(root.table << " in " << vmf_points::length_names[r] << ": worst at " << at);
      CHECK(worst <= limit("vmf_kappa"));
    }
}

TEST_CASE("A, 1 - A and A' are within their budgets", "[vmf]") {
  const struct {
    Function function;
    const char* budget;
    double halfulp::BesselRatio::*part;
  } parts_of[] = {
      {Function::length, "bessel_i_ratio", &halfulp::BesselRatio::value},
      {Function::complement, "bessel_i_ratio_complement", &halfulp::BesselRatio::complement},
      {Function::derivative, "bessel_i_ratio_derivative", &halfulp::BesselRatio::derivative}};
  bessel_points::Random random(77);
  for (int i = 0; i < 120; ++i) {
    const auto at = sample(i % 2 == 0 ? Region::box : Region::small, Function::length, random);
    const auto value = halfulp::vmf::mean_length(at.p, at.kappa);
    for (const auto& part : parts_of) {
      Ball reference;
      REQUIRE(vmf_arb::evaluate(reference.v, part.function, at.p, at.kappa));
      INFO(part.budget << " at " << place(at.p, at.kappa));
      CHECK(bessel_arb::ulps(value.*part.part, reference.v) <= limit(part.budget));
    }
  }
}

TEST_CASE("the oracles agree", "[vmf]") {
  bessel_points::Random random(3);
  for (int i = 0; i < 20; ++i) {
    const double p = 2 + random.log_uniform(1e-3, 1e6), kappa = random.log_uniform(1e-8, 1e12);
    const auto moments = vmf_mpfr::moments(p, kappa);
    const auto check = [&](Function f, const vmf_mpfr::Real& other) {
      Ball value;
      REQUIRE(vmf_arb::evaluate(value.v, f, p, kappa));
      INFO(place(p, kappa) << ", function " << static_cast<int>(f));
      CHECK(abs(other - middle(value)) <= ldexp(abs(middle(value)), -110));
    };
    check(Function::log_normaliser_scaled, moments.log_normaliser_scaled);
    check(Function::length, moments.length);
    check(Function::complement, moments.complement);
  }
  // a concentration and its mean length
  Ball kappa;
  REQUIRE(vmf_arb::concentration(kappa.v, 16, Given::length, 0.75));
  CHECK(abs(vmf_mpfr::moments(16, middle(kappa)).length - 0.75) < 1e-33);
}

TEST_CASE("special values", "[vmf]") {
  using namespace halfulp::vmf;
  const double dimensions[] = {2, std::nextafter(2, 3), 2.5, 3, 18.7, 1024, 1e6, 1e15};
  for (const double p : dimensions) {
    INFO("p = " << hex_text(p));
    CHECK(kappa(p, 0) == 0);
    CHECK(kappa(p, 1) == inf);
    CHECK(kappa_complement(p, 1) == 0);
    CHECK(kappa_complement(p, 0) == inf);
    CHECK(kappa(p, 1e-300) == Approx(p * 1e-300).epsilon(1e-15));
    CHECK(kappa(p, 0x1p-1022) == Approx(p * 0x1p-1022).epsilon(1e-15));
    CHECK(std::fabs(kappa(p, 0x1p-1074) / 0x1p-1074 - p) <= 0.5);
    CHECK(kappa_complement(p, 0x1p-1074) == inf);  // (p - 1)/2 2^1074
    CHECK(kappa_complement(p, 0x1p-900) == Approx((p - 1) * 0x1p899).epsilon(1e-15));
    for (const double bad : {-0x1p-1074, -1.0, 1 + 0x1p-52, 2.0, inf, -inf, no_number}) {
      CHECK(std::isnan(kappa(p, bad)));
      CHECK(std::isnan(kappa_complement(p, bad)));
    }
    CHECK(log_normaliser(p, inf) == -inf);
    CHECK(log_normaliser_scaled(p, inf) == inf);
    CHECK(entropy(p, inf) == -inf);
    CHECK(entropy(p, 0) == -log_normaliser(p, 0));
    CHECK(log_normaliser_scaled(p, 0) == log_normaliser(p, 0));
    CHECK(log_normaliser(p, 0x1p-1074) == log_normaliser(p, 0));
    CHECK(entropy(p, 0x1p-1074) == entropy(p, 0));
    for (const double large : {1e18, 1e300, 1e308, std::numeric_limits<double>::max()}) {
      CHECK(std::isfinite(log_normaliser(p, large)));
      CHECK(std::isfinite(log_normaliser_scaled(p, large)));
      CHECK(std::isfinite(entropy(p, large)));
    }
    for (const double bad : {-0x1p-1074, -1.0, -inf, no_number}) {
      CHECK(std::isnan(log_normaliser(p, bad)));
      CHECK(std::isnan(log_normaliser_scaled(p, bad)));
      CHECK(std::isnan(entropy(p, bad)));
      CHECK(std::isnan(mean_length(p, bad).value));
    }
    CHECK(mean_length(p, 0).derivative == Approx(1 / p).epsilon(1e-15));
  }
  for (const double bad : {no_number, -inf, -3.0, 0.0, 1.0, std::nextafter(2, 0)}) {
    CHECK(std::isnan(kappa(bad, 0.5)));
    CHECK(std::isnan(kappa(bad, 0)));
    CHECK(std::isnan(kappa_complement(bad, 0.5)));
    CHECK(std::isnan(log_normaliser(bad, 1)));
    CHECK(std::isnan(log_normaliser_scaled(bad, 1)));
    CHECK(std::isnan(entropy(bad, 1)));
    CHECK(std::isnan(mean_length(bad, 1).value));
  }
}

TEST_CASE("closed forms on the circle and the sphere", "[vmf]") {
  using namespace halfulp::vmf;
  const double pi = std::acos(-1.0);
  CHECK(entropy(2, 0) == Approx(std::log(2 * pi)).epsilon(1e-15));
  CHECK(entropy(3, 0) == Approx(std::log(4 * pi)).epsilon(1e-15));
  CHECK(entropy(4, 0) == Approx(std::log(2 * pi * pi)).epsilon(1e-15));
  for (double k = 1e-3; k < 1e4; k *= 1.7) {  // C_3 = kappa/(2 pi (e^kappa - e^-kappa))
    const long double x = k;
    const auto scaled =
        static_cast<double>(std::log(x / (2 * std::acos(-1.0L))) - std::log(-std::expm1(-2 * x)));
    INFO(k);
    CHECK(std::fabs(log_normaliser_scaled(3, k) - scaled) <=
          2 * u * std::fmax(1, std::fabs(scaled)));
    const auto length = static_cast<double>(1 / std::tanh(x) - 1 / x);
    if (k > 0.1) {
      const double slope = mean_length(3, k).derivative;
      CHECK(std::fabs(kappa(3, length) - k) <= 4 * u * (k + length / slope));
    }
  }
}

TEST_CASE("the concentration of a mean length gives it back, and rises with it", "[vmf]") {
  bessel_points::Random random(9);
  for (int i = 0; i < 3000; ++i) {
    const auto region = static_cast<LengthRegion>(i % vmf_points::length_regions);
    if (region == LengthRegion::ends || region == LengthRegion::seams) continue;
    const auto at = sample(region, Given::length, random, i);
    INFO(place(at.p, at.value));
    const double k = halfulp::vmf::kappa(at.p, at.value);
    const auto back = halfulp::vmf::mean_length(at.p, k);
    CHECK(std::fabs(back.value - at.value) <=
          u * (4 * (at.value + k * back.derivative) + 2 * at.value));
    const double next = halfulp::vmf::kappa(at.p, std::nextafter(at.value, 1));
    CHECK(next >= k - 2 * u * (k + at.value / back.derivative));
  }
}

TEST_CASE("batches of concentrations are the scalar values, for any number of threads", "[vmf]") {
  using namespace halfulp::vmf;
  for (const std::size_t n : {0, 1, 2, 7, 31, 32, 33, 63, 1000, 8191, 8192, 8193, 30001}) {
    std::vector<double> p(n), given(n), scalar(n), complement(n);
    halfulp::RandomStream(1).fill_uniform(p);
    halfulp::RandomStream(2).fill_uniform(given);
    for (std::size_t i = 0; i < n; ++i) {
      p[i] = i % 3 == 0 ? 2 + 60 * p[i] * p[i] : i % 3 == 1 ? std::floor(3 + 9 * p[i]) : 1e6 * p[i];
      if (i % 4 == 0) given[i] = std::exp(-40 * given[i]);
      if (i % 101 == 0) p[i] = 1.5;
      if (i % 103 == 0) given[i] = no_number;
      scalar[i] = halfulp::vmf::kappa(p[i], given[i]);
      complement[i] = halfulp::vmf::kappa_complement(p[i], given[i]);
    }
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
      return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
    };
    for (const int threads : {1, 2, 3, 7}) {
      INFO(n << " lengths, " << threads << " threads");
      std::vector<double> out(n);
      kappa(p, given, out, threads);
      CHECK(same(out, scalar));
      kappa_complement(p, given, out, threads);
      CHECK(same(out, complement));
      out = given;
      kappa(p, out, out, threads);
      CHECK(same(out, scalar));
      const double one[] = {5.0};
      kappa(one, given, out, threads);
      for (std::size_t i = 0; i < n; i += 97) {
        const double alone = kappa(5, given[i]);
        CHECK(std::memcmp(&out[i], &alone, sizeof(double)) == 0);
      }
    }
  }
}

TEST_CASE("batches of concentrations refuse wrong sizes", "[vmf]") {
  const std::vector<double> one = {3}, two = {3, 4}, three = {0.1, 0.2, 0.3};
  std::vector<double> out(3);
  CHECK_THROWS_WITH(halfulp::vmf::kappa(two, three, out),
                    "halfulp::vmf::kappa: p.size() = 2, must be 3");
  CHECK_THROWS_WITH(halfulp::vmf::kappa(one, two, out),
                    "halfulp::vmf::kappa: length.size() = 2, must be 3");
  CHECK_THROWS_WITH(halfulp::vmf::kappa_complement(one, two, out),
                    Catch::Contains("complement.size() = 2, must be 3"));
  CHECK_THROWS_AS(halfulp::vmf::kappa({}, three, out), halfulp::ShapeError);
  CHECK_THROWS_AS(halfulp::vmf::kappa(one, {}, out), halfulp::ShapeError);
  CHECK_THROWS_AS(halfulp::vmf::kappa(one, three, out, -1), halfulp::DomainError);
}

TEST_CASE("concentrations of every instruction set and of the device's formula", "[vmf]") {
  const auto supported = hwy::SupportedTargets();
  for (auto targets = supported; targets != 0; targets &= targets - 1) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    for (const Root& root : roots) {
      const auto table = halfulp::read_csv(HALFULP_TABLES "/" + root.table + ".csv");
      const auto &p = table.column("p"), &given = table.column(root.column);
      const auto &hi = table.column("hi"), &lo = table.column("lo");
      const auto& condition = table.column("condition");
      const bool complement = root.column == std::string("complement");
      std::vector<double> out(p.size());
      if (complement)
        halfulp::vmf::kappa_complement(p, given, out, 1);
      else
        halfulp::vmf::kappa(p, given, out, 1);
      double worst = 0, worst_kernel = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        worst = std::fmax(worst, root_error(out[i], hi[i], lo[i], condition[i]));
        const double other = 1 - given[i];
        const double kernel = halfulp::kernel::vmf_kappa(p[i], complement ? other : given[i],
                                                         complement ? given[i] : other);
        worst_kernel = std::fmax(worst_kernel, root_error(kernel, hi[i], lo[i], condition[i]));
      }
      INFO(root.table << ", targets " << targets);
      CHECK(worst <= limit("vmf_kappa"));
      CHECK(worst_kernel <= limit("vmf_kappa"));
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_CASE("the divergence keeps its digits next to 0", "[vmf]") {
  double worst = 0;
  std::string at;
  for (const std::size_t p : {2, 3, 10, 784, 4096}) {
    const auto mu = direction(p, p), other = direction(p, p + 1);
    auto back = mu, nearby = mu, close = mu;
    for (double& m : back) m = -m;
    const auto lean = [&](std::vector<double>& to, double angle) {
      double square = 0;
      for (std::size_t i = 0; i < p; ++i) to[i] += angle * other[i], square += to[i] * to[i];
      for (double& m : to) m /= std::sqrt(square);
    };
    lean(nearby, 1e-3);
    lean(close, 1e-9);
    for (const double a : {0.0, 1e-9, 0.3, 5.0, 700.0, 1e9})
      for (const double b : {0.0, 1e-9, a * (1 + 0x1p-50), a * (1 - 1e-9), a * 1.01, a * 1.37,
                             a * 1.38, a * 0.62, a * 4, 0.3, 1e6})
        for (const std::vector<double>* to : std::initializer_list<const std::vector<double>*>{
                 &mu, &close, &nearby, &other, &back}) {
          const double value = halfulp::vmf::kl({mu, a}, {*to, b});
          Ball reference;
          REQUIRE(vmf_arb::divergence(reference.v, static_cast<double>(p), a, b,
                                      half_chord(mu, *to).v));
          const auto [hi, lo] = parts(reference);
          CHECK(value >= 0);
          if (hi == 0 || std::fabs(hi) < 1e-290) {
            CHECK(std::fabs(value) <= 1e-290);
            continue;
          }
          const double error = std::fabs((value - hi) - lo) / hi / u;
          if (!(error <= worst)) {
            worst = error;
            at = place(static_cast<double>(p), a) + " to " + hex_text(b) + ": " + hex_text(value) +
                 ", reference " + hex_text(hi) + ", 1 - cosine " +
                 hex_text(parts(half_chord(mu, *to)).first);
          }
        }
  }
  INFO("worst " << worst << " at " << at);
  CHECK(worst <= limit("vmf_kl"));
}

TEST_CASE("the divergence refuses what is no distribution", "[vmf]") {
  const Distribution good{{0.6, 0.8}, 3};
  const auto message = [&](const Distribution& bad, const char* text) {
    CHECK_THROWS_WITH(halfulp::vmf::kl(bad, good), Catch::Contains(text));
  };
  CHECK(halfulp::vmf::kl(good, good) == 0);
  message({{}, 1}, "halfulp::vmf::kl: a.mu.size() = 0, must be >= 2");
  message({{1}, 1}, "halfulp::vmf::kl: a.mu.size() = 1, must be >= 2");
  message({{1, no_number}, 1}, "halfulp::vmf::kl: a.mu[1] = nan, must be finite");
  message({{inf, 0}, 1}, "halfulp::vmf::kl: a.mu[0] = inf, must be finite");
  message({{0, 0}, 1}, "halfulp::vmf::kl: |a.mu| = 0, must be 1");
  message({{1, 1e-2}, 1}, "halfulp::vmf::kl: |a.mu| = ");
  message({{1e200, 1e200}, 1}, "halfulp::vmf::kl: |a.mu| = inf, must be 1");
  message({{1, 0}, -1}, "halfulp::vmf::kl: a.kappa = -1, must be >= 0 and finite");
  message({{1, 0}, no_number}, "halfulp::vmf::kl: a.kappa = nan, must be >= 0 and finite");
  message({{1, 0}, inf}, "halfulp::vmf::kl: a.kappa = inf, must be >= 0 and finite");
  message({{1, 0, 0}, 1}, "halfulp::vmf::kl: b.mu.size() = 2, must be 3");
  CHECK_THROWS_WITH(halfulp::vmf::kl(good, {{1, 0}, -1}), Catch::Contains("b.kappa = -1"));
  CHECK_THROWS_AS(halfulp::vmf::kl(good, {{1, 0, 0}, 1}), halfulp::ShapeError);
  CHECK_THROWS_AS(halfulp::vmf::kl(good, {{2, 0}, 1}), halfulp::DomainError);
  CHECK(halfulp::vmf::kl({{1 + 5e-7, 0}, 1}, {{1, 0}, 1}) >= 0);  // within the tolerance
}
