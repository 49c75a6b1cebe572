#include "halfulp/bessel.hpp"

#include <hwy/targets.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../validation/oracle/bessel_arb.hpp"
#include "../validation/oracle/bessel_mpfr.hpp"
#include "../validation/oracle/bessel_points.hpp"
#include "budget.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/bessel_function.hpp"
#include "halfulp/text.hpp"

using bessel_arb::Function;
using bessel_points::Region;
using halfulp::BesselMode;
using halfulp::hex_text;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

struct Case {
  Function function;
  std::string budget;
  double (*evaluate)(double, double);
};

const Case cases[] = {
    {Function::log_i, "bessel_log_i",
     [](double v, double x) { return halfulp::log_bessel_i(v, x); }},
    {Function::log_k, "bessel_log_k",
     [](double v, double x) { return halfulp::log_bessel_k(v, x); }},
    {Function::log_i_scaled, "bessel_log_i_scaled",
     [](double v, double x) { return halfulp::log_bessel_i_scaled(v, x); }},
    {Function::log_k_scaled, "bessel_log_k_scaled",
     [](double v, double x) { return halfulp::log_bessel_k_scaled(v, x); }},
    {Function::i_ratio, "bessel_i_ratio",
     [](double v, double x) { return halfulp::bessel_i_ratio(v, x).value; }},
    {Function::i_complement, "bessel_i_ratio_complement",
     [](double v, double x) { return halfulp::bessel_i_ratio(v, x).complement; }},
    {Function::i_derivative, "bessel_i_ratio_derivative",
     [](double v, double x) { return halfulp::bessel_i_ratio(v, x).derivative; }},
    {Function::k_ratio, "bessel_k_ratio",
     [](double v, double x) { return halfulp::bessel_k_ratio(v, x).value; }},
    {Function::k_complement, "bessel_k_ratio_complement",
     [](double v, double x) { return halfulp::bessel_k_ratio(v, x).complement; }},
    {Function::k_derivative, "bessel_k_ratio_derivative",
     [](double v, double x) { return halfulp::bessel_k_ratio(v, x).derivative; }},
    {Function::log_i_dx, "bessel_log_i_dx", halfulp::log_bessel_i_dx},
    {Function::log_k_dx, "bessel_log_k_dx", halfulp::log_bessel_k_dx},
    {Function::log_i_dv, "bessel_log_i_dv", halfulp::log_bessel_i_dv},
    {Function::log_k_dv, "bessel_log_k_dv", halfulp::log_bessel_k_dv},
};

bool applies(Function f, Region region) {
  switch (region) {
    case Region::zeros_i:
      return f == Function::log_i;
    case Region::zeros_k:
      return f == Function::log_k;
    case Region::zeros_k_scaled:
      return f == Function::log_k_scaled;
    case Region::order_zero:
      return f < Function::log_i_dv;  // the difference would need negative orders
    case Region::extreme_x:
    case Region::tail_columns:
    case Region::cell_corners:
      return f <= Function::log_k_scaled;
    default:
      return true;
  }
}

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

std::string place(bessel_points::Point p) {
  return "v = " + hex_text(p.v) + ", x = " + hex_text(p.x);
}

}  // namespace

TEST_CASE("every function is within its budget in every region", "[bessel]") {
  for (const Case& c : cases)
    for (int r = 0; r < bessel_points::regions; ++r) {
      const auto region = static_cast<Region>(r);
      if (!applies(c.function, region)) continue;
      bessel_points::Random random(1000 + r);
      double worst = 0;
      bessel_points::Point at{};
      const int n = c.function <= Function::log_k_scaled ? 80 : 30;
      for (int i = 0; i < n; ++i) {
        const auto p = sample(region, random);
        bessel_arb::Ball reference;
        REQUIRE(bessel_arb::evaluate(reference.v, c.function, p.v, p.x));
        const double error = bessel_arb::ulps(c.evaluate(p.v, p.x), reference.v);
        if (!(error <= worst)) worst = error, at = p;
      }
      INFO(c.budget << " in " << bessel_points::names[r] << ": worst at " << place(at));
      CHECK(worst <= limit(c.budget));
    }
}

TEST_CASE("the fast mode is within its mixed budget", "[bessel]") {
  for (const bool second : {false, true})
    for (const auto region : {Region::box, Region::small, Region::small_log, Region::transition,
                              Region::zeros_i, Region::zeros_k, Region::extreme_x, Region::seams}) {
      bessel_points::Random random(7);
      double worst = 0;
      bessel_points::Point at{};
      for (int i = 0; i < 60; ++i) {
        auto p = sample(region, random);
        if (p.v > 1e6) continue;
        bessel_arb::Ball reference;
        REQUIRE(bessel_arb::evaluate(reference.v, second ? Function::log_k : Function::log_i, p.v,
                                     p.x));
        const double value = second ? halfulp::log_bessel_k(p.v, p.x, BesselMode::fast)
                                    : halfulp::log_bessel_i(p.v, p.x, BesselMode::fast);
        const double error = bessel_arb::mixed(value, reference.v);
        if (!(error <= worst)) worst = error, at = p;
      }
      INFO(bessel_points::names[static_cast<int>(region)] << ": worst at " << place(at));
      CHECK(worst <= limit("bessel_log_fast"));
    }
}

TEST_CASE("the oracles agree", "[bessel]") {
  bessel_points::Random random(3);
  for (int i = 0; i < 60; ++i) {
    const double v = i % 7 == 0 ? std::round(30 * random.uniform()) : random.log_uniform(1e-3, 600);
    const double x = random.log_uniform(1e-2, 600);
    for (const bool second : {false, true}) {
      bessel_arb::Ball enclosure;
      REQUIRE(bessel_arb::evaluate(enclosure.v, second ? Function::log_k : Function::log_i, v, x));
      const bessel_mpfr::Real other = second ? bessel_mpfr::log_k(v, x) : bessel_mpfr::log_i(v, x);
      bessel_mpfr::Real middle;
      arf_get_mpfr(middle.backend().data(), arb_midref(enclosure.v), MPFR_RNDN);
      INFO(place({v, x}) << (second ? " K" : " I"));
      CHECK(abs(other - middle) <= ldexp(fmax(abs(middle), bessel_mpfr::Real(1)), -115));
    }
  }
}

TEST_CASE("special values are the table's", "[bessel]") {
  const double grid[] = {0,   5e-324, 0x1p-1022, 1e-300, 0.5,      1, std::nextafter(1, 2),
                         1e6, 1e15,   1e308,     inf,    no_number};
  for (const double v : grid)
    for (const double x : grid)
      for (const Case& c : cases) {
        const double y = c.evaluate(v, x);
        INFO(c.budget << " at " << place({v, x}) << " = " << hex_text(y));
        if (std::isnan(v) || std::isnan(x) || (v == inf && x == inf)) {
          CHECK(std::isnan(y));
          continue;
        }
        CHECK_FALSE(std::isnan(y));
        CHECK(std::isnan(c.evaluate(v, -1)));
        CHECK(std::isnan(c.evaluate(-1, x)));
      }
  struct Row {
    Function f;
    double zero, zero_order_zero, x_inf, v_inf;
  };
  const Row rows[] = {
      {Function::log_i, -inf, 0, inf, -inf},
      {Function::log_k, inf, inf, -inf, inf},
      {Function::log_i_scaled, -inf, 0, -inf, -inf},
      {Function::log_k_scaled, inf, inf, -inf, inf},
      {Function::i_ratio, 0, 0, 1, 0},
      {Function::i_complement, 1, 1, 0, 1},
      {Function::i_derivative, 1.0 / 7, 0.5, 0, 0},
      {Function::k_ratio, inf, inf, 1, inf},
      {Function::k_complement, inf, inf, 0, inf},
      {Function::k_derivative, -inf, -inf, 0, -inf},
      {Function::log_i_dx, inf, 0, 1, inf},
      {Function::log_k_dx, -inf, -inf, -1, -inf},
      {Function::log_i_dv, -inf, -inf, 0, -inf},
      {Function::log_k_dv, inf, 0, 0, inf},
  };
  for (const Row& row : rows) {
    const auto& f = cases[static_cast<int>(row.f)];
    INFO(f.budget);
    CHECK(f.evaluate(2.5, 0) == row.zero);
    CHECK(f.evaluate(0, 0) == row.zero_order_zero);
    CHECK(f.evaluate(2.5, inf) == row.x_inf);
    CHECK(f.evaluate(inf, 2.5) == row.v_inf);
    CHECK(f.evaluate(inf, 0) == row.v_inf);
  }
}

TEST_CASE("orders beyond the domain: no overflow of what is finite", "[bessel]") {
  const double slope = std::log(2.0) + std::log(1e308);
  CHECK(halfulp::log_bessel_i_dv(1e308, 1) == Approx(-slope).epsilon(1e-15));
  CHECK(halfulp::log_bessel_k_dv(1e308, 1) == Approx(slope).epsilon(1e-15));
  CHECK(halfulp::log_bessel_i_dv(1.7e308, 1.7e308) == Approx(-std::asinh(1.0)).epsilon(1e-15));
  CHECK(halfulp::log_bessel_k_dv(1.7e308, 1.7e308) == Approx(std::asinh(1.0)).epsilon(1e-15));
}

TEST_CASE("powers of two of all sizes: the fast mode is next to the accurate one", "[bessel]") {
  using enum halfulp::BesselFunction;
  for (const auto f : {log_i, log_k, log_i_scaled, log_k_scaled})
    for (int a = -1070; a < 1024; a += 29)
      for (int b = -1070; b < 1024; b += 29) {
        const double v = std::ldexp(1.0, a), x = std::ldexp(1.0, b);
        const double accurate = halfulp::bessel(f, v, x);
        INFO(v << " " << x);
        const double fast = halfulp::bessel(f, v, x, BesselMode::fast);
        CHECK((fast == accurate || fast == Approx(accurate).epsilon(1e-13).margin(1e-13)));
      }
}

TEST_CASE("closed forms at order one half", "[bessel]") {
  for (double x = 0.01; x < 600; x *= 1.37) {
    const long double root = 0.5L * std::log(std::acos(-1.0L) * x / 2);
    CHECK(halfulp::log_bessel_k(0.5, x) ==
          Approx(static_cast<double>(0.5L * std::log(std::acos(-1.0L) / (2 * x)) - x))
              .epsilon(1e-15));
    CHECK(halfulp::log_bessel_i(0.5, x) ==
          Approx(static_cast<double>(std::log(std::sinh(static_cast<long double>(x))) - root))
              .epsilon(2e-15));
  }
}

TEST_CASE("the Wronskian and the recurrences hold", "[bessel]") {
  bessel_points::Random random(11);
  for (int i = 0; i < 2000; ++i) {
    const auto p = sample(i % 2 == 0 ? Region::box : Region::small, random);
    const auto a = halfulp::bessel_i_ratio(p.v, p.x);
    const auto b = halfulp::bessel_k_ratio(p.v, p.x);
    // x I K (r_K + r_I) = 1
    const double sum = std::log(p.x) + std::log(a.value + b.value) +
                       halfulp::log_bessel_i(p.v, p.x) + halfulp::log_bessel_k(p.v, p.x);
    const double size = 1 + std::fabs(halfulp::log_bessel_i(p.v, p.x)) + std::fabs(std::log(p.x));
    INFO(place(p));
    CHECK(std::fabs(sum) <= 8 * 0x1p-53 * size);
    // 1/r_v = 2 (v + 1)/x + r_{v+1}; r_K,v+1 = 2 (v + 1)/x + 1/r_K,v
    if (p.v + 1 - 1 != p.v) continue;
    const double step = 2 * (p.v + 1) / p.x;
    CHECK(1 / a.value == Approx(step + halfulp::bessel_i_ratio(p.v + 1, p.x).value).epsilon(2e-15));
    CHECK(halfulp::bessel_k_ratio(p.v + 1, p.x).value == Approx(step + 1 / b.value).epsilon(2e-15));
  }
}

TEST_CASE("monotone in the order and the argument, across the seams too", "[bessel]") {
  bessel_points::Random random(5);
  for (int i = 0; i < 1500; ++i) {
    const auto p = sample(i % 2 == 0 ? Region::seams : Region::box, random);
    const double more_v = p.v * (1 + random.log_uniform(1e-16, 1)),
                 more_x = p.x * (1 + random.log_uniform(1e-16, 1));
    INFO(place(p));
    const double i0 = halfulp::log_bessel_i(p.v, p.x), k0 = halfulp::log_bessel_k(p.v, p.x);
    CHECK(halfulp::log_bessel_i(more_v, p.x) <= std::nextafter(i0, inf));
    CHECK(halfulp::log_bessel_k(more_v, p.x) >= std::nextafter(k0, -inf));
    CHECK(halfulp::log_bessel_i(p.v, more_x) >= std::nextafter(i0, -inf));
    CHECK(halfulp::log_bessel_k(p.v, more_x) <= std::nextafter(k0, inf));
  }
}

TEST_CASE("the inverse ratio gives back its argument", "[bessel]") {
  bessel_points::Random random(9);
  double worst = 0;
  for (int i = 0; i < 2000; ++i) {
    const double v = i % 10 == 0 ? 0.5 * static_cast<double>(i % 7) : random.log_uniform(1e-3, 1e6);
    const double x = random.log_uniform(1e-6, 1e9);
    const auto r = halfulp::bessel_i_ratio(v, x);
    const double back = r.value < 0.5 ? halfulp::bessel_i_ratio_inverse(v, r.value)
                                      : halfulp::bessel_i_ratio_inverse_complement(v, r.complement);
    // the ratio's own rounding moves the root by u times the condition number
    const double condition = std::fmin(r.value, r.complement) / (x * r.derivative);
    const double error = std::fabs(back - x) / x * 0x1p53 / (1 + condition);
    INFO(place({v, x}));
    CHECK(error <= limit("bessel_i_ratio_inverse"));
    worst = std::fmax(worst, error);
  }
  INFO(worst);
  CHECK(halfulp::bessel_i_ratio_inverse(1.5, 0) == 0);
  CHECK(halfulp::bessel_i_ratio_inverse(1.5, 1) == inf);
  CHECK(std::isnan(halfulp::bessel_i_ratio_inverse(1.5, 1.5)));
  CHECK(std::isnan(halfulp::bessel_i_ratio_inverse(1.5, -0.5)));
  CHECK(std::isnan(halfulp::bessel_i_ratio_inverse(-1, 0.5)));
  CHECK(std::isnan(halfulp::bessel_i_ratio_inverse(1.5, no_number)));
  // subnormal ratios, and arguments up to the largest double and beyond
  CHECK(halfulp::bessel_i_ratio_inverse(0, 0x1p-1074) == 0x1p-1073);
  CHECK(halfulp::bessel_i_ratio_inverse(1.5, 3 * 0x1p-1074) == 15 * 0x1p-1074);
  CHECK(halfulp::bessel_i_ratio_inverse_complement(0, 0x1p-1022) == 0x1p1021);
  CHECK(halfulp::bessel_i_ratio_inverse_complement(0, 0x1p-1074) == inf);
  CHECK(halfulp::bessel_i_ratio_inverse_complement(15.5, 0x1p-1019) == 0x1p1023);
}

TEST_CASE("float is the rounded double", "[bessel]") {
  for (float x = 1e-6F; x < 1e6F; x *= 1.7F)
    for (const float v : {0.0F, 0.3F, 7.5F, 1023.0F})
      CHECK(halfulp::log_bessel_k(v, x) == static_cast<float>(halfulp::log_bessel_k(
                                               static_cast<double>(v), static_cast<double>(x))));
}

TEST_CASE("batches: the scalar functions, for any number of threads", "[bessel]") {
  bessel_points::Random random(21);
  for (const std::size_t n : {0, 1, 31, 1000, 10003}) {
    std::vector<double> v(n), x(n), one(n), more(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto p = sample(i % 3 == 0   ? Region::box
                            : i % 3 == 1 ? Region::small
                                         : Region::large_order,
                            random);
      v[i] = i % 97 == 5 ? no_number : p.v;
      x[i] = i % 89 == 7 ? 0 : p.x;
    }
    for (const auto f : {halfulp::BesselFunction::log_i, halfulp::BesselFunction::log_k,
                         halfulp::BesselFunction::log_k_scaled, halfulp::BesselFunction::i_ratio}) {
      halfulp::bessel(f, v, x, one, {.threads = 1});
      for (const int threads : {2, 3, 7}) {
        halfulp::bessel(f, v, x, more, {.threads = threads});
        CHECK((n == 0 || std::memcmp(one.data(), more.data(), n * sizeof(double)) == 0));
      }
      double worst = 0;  // against the scalar function, in ulps
      for (std::size_t i = 0; i < n; ++i) {
        const double y = halfulp::bessel(f, v[i], x[i]);
        if (std::isnan(y) || std::isinf(y)) {
          CHECK(std::memcmp(&y, &one[i], sizeof y) == 0);
          continue;
        }
        worst = std::fmax(
            worst, std::fabs(one[i] - y) / (std::nextafter(std::fabs(y), inf) - std::fabs(y)));
      }
      CHECK(worst <= 1);
    }
  }
}

TEST_CASE("batches: one order for all, and wrong sizes", "[bessel]") {
  const std::vector<double> v = {2.5}, x = {1, 2, 3};
  std::vector<double> out(3);
  using halfulp::BesselFunction;
  halfulp::bessel(BesselFunction::log_i, v, x, out);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(out[i] == Approx(halfulp::log_bessel_i(2.5, x[i])).epsilon(3e-16));
  halfulp::bessel(BesselFunction::log_i, x, v, out);
  CHECK(out[2] == Approx(halfulp::log_bessel_i(3, 2.5)).epsilon(3e-16));
  std::vector<double> longer(4);
  CHECK_THROWS_WITH(halfulp::bessel(BesselFunction::log_i, v, x, longer),
                    "halfulp::bessel: x.size() = 3, must be 4");
  CHECK_THROWS_AS(halfulp::bessel(BesselFunction::log_i, x, longer, out), halfulp::ShapeError);
  CHECK_THROWS_AS(halfulp::bessel(BesselFunction::log_i, v, x, out, {.threads = -1}),
                  halfulp::DomainError);
  const std::vector<float> vf = {0.5F}, xf = {1.5F, 1e30F};
  std::vector<float> outf(2);
  halfulp::bessel(BesselFunction::log_k, vf, xf, outf);
  CHECK(outf[0] == halfulp::log_bessel_k(0.5F, 1.5F));
  CHECK(outf[1] == halfulp::log_bessel_k(0.5F, 1e30F));
}

namespace {

/// Points on the edges of everything that batches tell apart, and next to them: cells, terms of the
/// series, the end of the series; with some that no vector may touch.
std::vector<bessel_points::Point> edge_points() {
  std::vector<bessel_points::Point> points;
  bessel_points::Random random(31);
  const auto add = [&](double w, double share, bool of_x) {
    const double a = w * share, b = w * std::sqrt((1 - share) * (1 + share));
    for (const double by : {1 - 0x1p-52, 1.0, 1 + 0x1p-51, 1 + 1e-3 * random.uniform()})
      points.push_back(of_x ? bessel_points::Point{b * by, a} : bessel_points::Point{a * by, b});
  };
  std::vector<double> widths = {40.2985, 36, 1e4, 1e6};
  for (int k = -6; k <= 18; ++k) widths.push_back(std::exp2(k / 3.0));
  for (const double w : {41.4, 54.3, 65.4, 110.0, 140.0, 383.0, 565.0, 5690.0, 51.2, 85.0, 192.0})
    widths.push_back(w);
  for (const double w : widths)
    for (const bool of_x : {false, true}) {
      for (int k = 0; k <= 6; ++k) add(w, k / 6.0, of_x);
      for (int k = 1; k <= 11; ++k) add(w, std::ldexp(1.0 / 6, -k), of_x);
      for (int k = 0; k < 4; ++k) add(w, random.uniform(), of_x);
      add(w, 1e-9, of_x);
    }
  for (const double v : {50.0, 1e3, 1e6})
    for (const double x : {0x1p-499, 1e-30, 1e11, 0x1p39}) points.push_back({v, x});
  for (const double v :
       {0.0, -0.0, 1e-310, 1e-300, 1e-6, 3e-3, 0.07, 0.2, 0.2499, 0.25, 0.5, 1.0, 1.5})
    for (const double x : {1e-310, 0x1p-501, 0x1p-500, 0x1p-499, 1e-100, 1e-45, 1e-10, 1e-4, 0.01,
                           0.13, 0.2, 0.2499})
      points.push_back({v, x});
  for (const double v : {948257.53678700374, 617270.83349356917, 15348.208476141193, 1e6})
    for (int i = -3; i <= 3; ++i) {  // log e^x K vanishes
      const double x = bessel_points::zero(
          [&](double y) { return halfulp::log_bessel_k_scaled(v, y, BesselMode::fast); }, false);
      points.push_back({v, x * (1 + 0.01 * i)});
    }
  for (const double v : {no_number, -1.0, -0.0, inf, 1e13})
    for (const double x : {no_number, -2.0, 0.0, 1e-200, inf, 3.0, 60.0}) points.push_back({v, x});
  return points;
}

/// |y - reference| in units in the last place; infinite where they are not both finite or the same.
double ulps_apart(double y, double reference) {
  if (std::memcmp(&y, &reference, sizeof y) == 0) return 0;
  if (std::isnan(y) && std::isnan(reference)) return 0;
  if (!std::isfinite(y) || !std::isfinite(reference)) return inf;
  return std::fabs(y - reference) /
         (std::nextafter(std::fabs(reference), inf) - std::fabs(reference));
}

/// Batches in both modes are within their budgets of the accurate scalar values.
void check_beside_scalar(halfulp::BesselFunction f, const std::vector<double>& v,
                         const std::vector<double>& x) {
  std::vector<double> accurate(v.size()), fast(v.size());
  halfulp::bessel(f, v, x, accurate);
  halfulp::bessel(f, v, x, fast, {.mode = BesselMode::fast});
  double worst = 0, worst_mixed = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double reference = halfulp::bessel(f, v[i], x[i]);
    worst = std::fmax(worst, ulps_apart(accurate[i], reference));
    const double size = std::fmax(1, std::fabs(reference));
    worst_mixed = std::fmax(worst_mixed, std::fabs(fast[i] - reference) / size * 0x1p53);
  }
  INFO(static_cast<int>(f));
  CHECK(worst <= 1);
  CHECK(worst_mixed <= limit("bessel_log_fast"));
}

}  // namespace

TEST_CASE("batches: where the scaled K is near 1, far out", "[bessel]") {
  // log e^x K = v^2/(2 x) - log(2 x/pi)/2 + ...: v is small beside x there, and the series long
  constexpr std::size_t n = 20000;
  std::vector<double> v(n), x(n);
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> exponent(std::log(50.0), std::log(1e9)), share(0.9, 1.1);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = std::exp(exponent(random));
    v[i] = std::sqrt(x[i] * std::log(2 * x[i] / 3.141592653589793)) * share(random);
  }
  check_beside_scalar(halfulp::BesselFunction::log_k_scaled, v, x);
}

TEST_CASE("batches: v small beside x", "[bessel]") {
  // (w + v)/x is next to 1, and v takes what is wrong with its logarithm times itself. Some
  // processors only estimate the quotient: too low for 1.0156 and others.
  constexpr std::size_t n = 24000;
  std::vector<double> v(n), x(n);
  std::mt19937_64 random(11);
  std::uniform_real_distribution<double> order(std::log(1.0), std::log(1e6)), power(8, 24);
  for (std::size_t i = 0; i < n; ++i) {
    v[i] = i % 2 == 0 ? std::exp(order(random)) : 1e6 - 1e5 * static_cast<double>(i) / n;
    x[i] = v[i] * std::exp2(power(random));
    if (i % 3 == 0) x[i] = std::ldexp(1.0156097412109375, std::ilogb(x[i]));
  }
  using halfulp::BesselFunction;
  for (const auto f : {BesselFunction::log_i, BesselFunction::log_k, BesselFunction::log_i_scaled,
                       BesselFunction::log_k_scaled})
    check_beside_scalar(f, v, x);
}

TEST_CASE("batches: the edges of cells and terms, on every instruction set", "[bessel]") {
  const auto points = edge_points();
  const std::size_t n = points.size();
  std::vector<double> v(n), x(n), reference(n), accurate(n), fast(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = points[i].v, x[i] = points[i].x;
  using halfulp::BesselFunction;
  for (const auto f : {BesselFunction::log_i, BesselFunction::log_k, BesselFunction::log_i_scaled,
                       BesselFunction::log_k_scaled}) {
    for (std::size_t i = 0; i < n; ++i) reference[i] = halfulp::bessel(f, v[i], x[i]);
    const auto supported = hwy::SupportedTargets();
    for (auto targets = supported; targets != 0; targets &= targets - 1) {
      hwy::SetSupportedTargetsForTest(targets);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      halfulp::bessel(f, v, x, accurate);
      halfulp::bessel(f, v, x, fast, {.mode = BesselMode::fast});
      double worst = 0, worst_mixed = 0;
      std::size_t at = 0, at_mixed = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double apart = ulps_apart(accurate[i], reference[i]);
        if (apart > worst) worst = apart, at = i;
        const double size = std::fmax(1, std::fabs(reference[i]));
        const double mixed = ulps_apart(fast[i], reference[i]) == 0
                                 ? 0
                                 : std::fabs(fast[i] - reference[i]) / size * 0x1p53;
        if (!(mixed <= worst_mixed) && v[i] <= 1e6) worst_mixed = mixed, at_mixed = i;
      }
      INFO("targets " << targets << ", function " << static_cast<int>(f) << ", worst at "
                      << place(points[at]) << " and " << place(points[at_mixed]));
      CHECK(worst <= 1);
      CHECK(worst_mixed <= limit("bessel_log_fast"));
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

TEST_CASE("batches: the same bits in any order and company, and in place", "[bessel]") {
  auto points = edge_points();
  bessel_points::Random random(41);
  for (int i = 0; i < 9000; ++i)
    points.push_back(sample(i % 2 == 0 ? Region::box : Region::small, random));
  const std::size_t n = points.size();
  std::vector<double> v(n), x(n), one(n), other(n), swapped_v(n), swapped_x(n);
  std::vector<std::size_t> order(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = points[i].v, x[i] = points[i].x, order[i] = i;
  for (std::size_t i = n; i > 1; --i)
    std::swap(order[i - 1],
              order[static_cast<std::size_t>(random.uniform() * 0.999 * static_cast<double>(i))]);
  for (std::size_t i = 0; i < n; ++i) swapped_v[i] = v[order[i]], swapped_x[i] = x[order[i]];
  using halfulp::BesselFunction;
  for (const auto f : {BesselFunction::log_i, BesselFunction::log_k, BesselFunction::log_k_scaled})
    for (const auto mode : {BesselMode::fast, BesselMode::accurate}) {
      halfulp::bessel(f, v, x, one, {.mode = mode});
      auto in_place = swapped_v;
      halfulp::bessel(f, in_place, swapped_x, in_place, {.mode = mode});
      for (std::size_t i = 0; i < n; ++i) other[order[i]] = in_place[i];
      CHECK(std::memcmp(one.data(), other.data(), n * sizeof(double)) == 0);
      for (const std::size_t size : {1, 2, 63, 64, 65, 127, 129}) {  // tiles of 64
        halfulp::bessel(f, std::span(v).last(size), std::span(x).last(size),
                        std::span(other).first(size), {.mode = mode});
        CHECK(std::memcmp(one.data() + n - size, other.data(), size * sizeof(double)) == 0);
      }
    }
}

namespace {

/// Runs the check with the instruction sets that are here, then with one after the other taken away
/// from the top.
template <class Check>
void on_every_target(Check check) {
  const auto supported = hwy::SupportedTargets();
  for (auto targets = supported; targets != 0; targets &= targets - 1) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("targets " << targets);
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

constexpr halfulp::BesselFunction logarithms[] = {
    halfulp::BesselFunction::log_i, halfulp::BesselFunction::log_k,
    halfulp::BesselFunction::log_i_scaled, halfulp::BesselFunction::log_k_scaled};
constexpr Function references[] = {Function::log_i, Function::log_k, Function::log_i_scaled,
                                   Function::log_k_scaled};

/// hypot(v, x) < 1/4, or x < v/3072 with v < 1.6: the points with vectors of their own.
std::vector<bessel_points::Point> tiny_points(int n) {
  std::vector<bessel_points::Point> points;
  bessel_points::Random random(61);
  for (int i = 0; i < n; ++i) {
    const double w = i % 2 == 0 ? 0.25 * random.uniform() : random.log_uniform(1e-12, 0.25);
    const double angle = 1.5707963 * random.uniform();
    const double v = 1.59 * random.uniform();
    const double orders[] = {0, random.log_uniform(1e-300, 1e-6), random.log_uniform(1e-6, 0.1)};
    switch (i % 5) {
      case 0:
      case 1:
        points.push_back({w * std::sin(angle), w * std::cos(angle)});
        break;
      case 2:
        points.push_back({orders[i / 5 % 3], random.log_uniform(1e-150, 0.22)});
        break;
      case 3:
        points.push_back({v, v / 3073 * random.log_uniform(1e-100, 1)});
        break;
      default:  // the orders at which terms of K's series have poles, and where the recurrence
                // starts
        points.push_back({0.5 * (1 + i / 5 % 3) * (1 + 1e-9 * (random.uniform() - 0.5)),
                          1e-4 * random.uniform()});
    }
  }
  return points;
}

}  // namespace

TEST_CASE("batches: tiny arguments and orders against Arb", "[bessel]") {
  const auto points = tiny_points(1500);
  const std::size_t n = points.size();
  std::vector<double> v(n), x(n), fast(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = points[i].v, x[i] = points[i].x;
  for (int f = 0; f < 4; ++f) {
    std::vector<bessel_arb::Ball> reference(n);
    for (std::size_t i = 0; i < n; ++i)
      REQUIRE(bessel_arb::evaluate(reference[i].v, references[f], v[i], x[i]));
    on_every_target([&] {
      halfulp::bessel(logarithms[f], v, x, fast, {.mode = BesselMode::fast});
      double worst = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double error = bessel_arb::mixed(fast[i], reference[i].v);
        if (!(error <= worst)) worst = error, at = i;
      }
      INFO("function " << f << ", worst at " << place(points[at]));
      CHECK(worst <= limit("bessel_log_fast"));
    });
  }
}

TEST_CASE("batches: the seams of tiny arguments and orders, +-1000 doubles", "[bessel]") {
  std::vector<double> v, x;
  const auto around = [&](double seam_v, double seam_x, bool move_v) {
    double& moved = move_v ? seam_v : seam_x;
    for (int i = 0; i < 1000; ++i) moved = std::nextafter(moved, 0);
    for (int i = -1000; i <= 1000; ++i) {
      v.push_back(seam_v);
      x.push_back(seam_x);
      moved = std::nextafter(moved, inf);
    }
  };
  around(0, 0.25, false);
  around(1e-300, 0.25, false);
  around(1e-6, 0.25, false);
  around(0.1, std::sqrt(0.0525), false);
  around(0.2, 0.15, true);
  around(0.25, 1e-3, true);
  around(0.25, 1e-100, true);
  around(0.5, 0.5 / 3072, false);  // the vectors for K end, and its recurrence has a step more
  around(0.5, 1e-5, true);
  around(1.5, 1e-4, true);
  around(1, 1 / std::sqrt(3072.0 * 3072 - 1), false);
  around(1.587401051968199, 1e-4, true);
  around(0.1, 0x1p-500, false);
  const std::size_t n = v.size();
  std::vector<double> fast(n), reference(n);
  for (int f = 0; f < 4; ++f) {
    for (std::size_t i = 0; i < n; ++i) reference[i] = halfulp::bessel(logarithms[f], v[i], x[i]);
    on_every_target([&] {
      halfulp::bessel(logarithms[f], v, x, fast, {.mode = BesselMode::fast});
      double worst = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double size = std::fmax(1, std::fabs(reference[i]));
        const double error = std::fabs(fast[i] - reference[i]) / size * 0x1p53;
        if (!(error <= worst)) worst = error, at = i;
      }
      INFO("function " << f << ", worst at " << place({v[at], x[at]}));
      CHECK(worst <= limit("bessel_log_fast"));
    });
  }
}

TEST_CASE("batches of floats: tiny arguments and orders to the last place", "[bessel]") {
  std::vector<float> v, x;
  bessel_points::Random random(67);
  for (const auto& p : tiny_points(600))
    if (p.x > 1e-45) v.push_back(static_cast<float>(p.v)), x.push_back(static_cast<float>(p.x));
  for (const float order : {0.0F, 0x1p-149F, 1e-40F, 1e-30F, 1e-12F, 1e-6F, 1e-3F, 5e-3F, 0.009F}) {
    for (const float argument : {0x1p-149F, 5e-45F, 1e-40F, 1e-38F, 1e-30F, 1e-20F, 1e-8F})
      v.push_back(order), x.push_back(argument);
  }
  for (int i = 0; i < 400; ++i) {  // the floats next to a zero of log I: there the vectors give up
    const auto order = static_cast<float>(random.log_uniform(i % 4 == 0 ? 1e-30 : 1e-5, 9e-3));
    const double root = bessel_points::zero(
        [&](double y) { return halfulp::log_bessel_i(double{order}, y); }, true);
    auto argument = static_cast<float>(root);
    v.insert(v.end(), 5, order);
    for (const int step : {0, 1, 1, -3, -1}) {
      for (int k = 0; k < std::abs(step); ++k)
        argument = std::nextafter(argument, step > 0 ? 1.0F : 0.0F);
      x.push_back(argument);
    }
    v.push_back(order);
    x.push_back(static_cast<float>(root * (1 + random.log_uniform(1e-8, 1e-2))));
  }
  const std::size_t n = v.size();
  std::vector<float> out(n);
  for (int f = 0; f < 4; ++f) {
    std::vector<double> reference(n);
    for (std::size_t i = 0; i < n; ++i) {
      bessel_arb::Ball y;
      REQUIRE(bessel_arb::evaluate(y.v, references[f], v[i], x[i]));
      reference[i] = arf_get_d(arb_midref(y.v), ARF_RND_NEAR);
    }
    on_every_target([&] {
      halfulp::bessel(logarithms[f], std::span<const float>(v), std::span<const float>(x),
                      std::span<float>(out));
      double worst = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < n; ++i) {
        int exponent = 0;
        std::frexp(reference[i], &exponent);
        const double unit = std::ldexp(1.0, std::max(exponent - 24, -149));
        const double error = std::fabs(static_cast<double>(out[i]) - reference[i]) / unit;
        if (!(error <= worst)) worst = error, at = i;
      }
      INFO("function " << f << ", worst at " << place({v[at], x[at]}));
      CHECK(worst <= budget(HALFULP_BUDGETS, "bessel_float", "float", "cpu"));
      CHECK(worst <= 0.505);  // next to a zero, too, the double that is rounded is good
    });
  }
}

TEST_CASE("ratios of K for tiny arguments are rounded once", "[bessel]") {
  bessel_points::Random random(635);
  double worst[2] = {};
  for (int i = 0; i < 300; ++i) {
    const double v = i % 3 == 0 ? 0 : random.log_uniform(1e-9, 30);
    const double x = random.log_uniform(1e-270, 1e-130);
    bessel_arb::Ball ratio, slope;
    REQUIRE(bessel_arb::evaluate(ratio.v, Function::k_ratio, v, x));
    REQUIRE(bessel_arb::evaluate(slope.v, Function::log_k_dx, v, x));
    worst[0] = std::fmax(worst[0], bessel_arb::ulps(halfulp::bessel_k_ratio(v, x).value, ratio.v));
    worst[1] = std::fmax(worst[1], bessel_arb::ulps(halfulp::log_bessel_k_dx(v, x), slope.v));
  }
  CHECK(worst[0] <= limit("bessel_k_ratio"));
  CHECK(worst[1] <= limit("bessel_log_k_dx"));
}

TEST_CASE("near the zeros of small orders of the series the last terms count", "[bessel]") {
  bessel_points::Random random(4242);
  for (const bool second : {false, true}) {
    double worst = 0;
    bessel_points::Point at{};
    for (int i = 0; i < 300; ++i) {
      const double v = i % 4 == 0 ? random.log_uniform(28, 150) : random.log_uniform(34, 40);
      const auto value = [&](double y) {
        return second ? halfulp::log_bessel_k(v, y) : halfulp::log_bessel_i(v, y);
      };
      const double off = random.log_uniform(1e-13, 5e-13);
      const double x =
          bessel_points::zero(value, !second) * (1 + (random.bits() % 2 == 0 ? off : -off));
      bessel_arb::Ball reference;
      REQUIRE(bessel_arb::evaluate(reference.v, second ? Function::log_k : Function::log_i, v, x));
      const double error = bessel_arb::ulps(value(x), reference.v);
      if (!(error <= worst)) worst = error, at = {v, x};
    }
    INFO((second ? "log K" : "log I") << ": worst at " << place(at));
    CHECK(worst <= limit(second ? "bessel_log_k" : "bessel_log_i"));
  }
}

TEST_CASE("accurate batches in every cell, against double-double", "[bessel]") {
  constexpr std::size_t n = 40000;
  bessel_points::Random random(99);
  std::vector<double> v(n), x(n), value(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double w = random.log_uniform(0.25, 42), u = random.uniform();
    // a third each: all angles, next to one axis, next to the other
    const double angle = 1.5707963267948966 * (i % 3 == 0   ? u
                                               : i % 3 == 1 ? u * u * u * u
                                                            : 1 - u * u * u * u);
    v[i] = w * std::sin(angle);
    x[i] = std::fmax(w * std::cos(angle), 1e-300);
  }
  for (int f = 0; f < 4; ++f) {
    const bool second = f % 2 != 0, scaled = f >= 2;
    std::vector<halfulp::dd> reference(n);
    for (std::size_t i = 0; i < n; ++i)
      reference[i] = second ? halfulp::kernel::bessel_log_k(v[i], x[i], scaled).value
                            : halfulp::kernel::bessel_log_i(v[i], x[i], scaled).value;
    on_every_target([&] {
      halfulp::bessel(logarithms[f], v, x, value);
      double worst = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double size = std::fabs(reference[i].hi);
        if (size < 1e-10) continue;  // double-double alone is not enough
        const double error = std::fabs((value[i] - reference[i].hi) - reference[i].lo) /
                             (std::nextafter(size, inf) - size);
        if (!(error <= worst)) worst = error, at = i;
      }
      INFO("function " << f << ", worst at " << place({v[at], x[at]}));
      CHECK(worst <= limit("bessel_log_i"));
    });
  }
}

TEST_CASE("batches are within the budgets on every instruction set", "[bessel]") {
  const auto supported = hwy::SupportedTargets();
  // everything that is here, then one set after the other taken away from the top
  for (auto targets = supported; targets != 0; targets &= targets - 1) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    bessel_points::Random random(17);
    constexpr std::size_t n = 12000;
    std::vector<double> v(n), x(n), accurate(n), fast(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto p = sample(i % 64 == 0  ? Region::zeros_i
                            : i % 4 == 0 ? Region::seams
                            : i % 4 == 1 ? Region::transition
                                         : Region::small,
                            random);
      v[i] = p.v;
      x[i] = p.x;
    }
    using halfulp::BesselFunction;
    for (const auto f : {BesselFunction::log_i, BesselFunction::log_k, BesselFunction::log_i_scaled,
                         BesselFunction::log_k_scaled}) {
      halfulp::bessel(f, v, x, accurate);
      halfulp::bessel(f, v, x, fast, {.mode = BesselMode::fast});
      double worst = 0, worst_mixed = 0;
      for (std::size_t i = 0; i < n; ++i) {
        // the nearest double but for 0.01 ulp
        const double y = i % 8 < 4 ? halfulp::bessel(f, v[i], x[i]) : accurate[i];
        worst = std::fmax(
            worst, std::fabs(accurate[i] - y) / (std::nextafter(std::fabs(y), inf) - std::fabs(y)));
        worst_mixed =
            std::fmax(worst_mixed, std::fabs(fast[i] - y) / std::fmax(1, std::fabs(y)) * 0x1p53);
      }
      INFO("targets " << targets << ", function " << static_cast<int>(f));
      CHECK(worst <= 1);  // the neighbour: the error is below one, since the nearer is below half
      CHECK(worst_mixed <= limit("bessel_log_fast"));
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}
