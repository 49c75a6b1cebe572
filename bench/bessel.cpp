// Nanoseconds a value and largest mixed error, |error|/(u max(1, |log|)), of log I and log K in
// regions of (v, x): halfulp's batches on one thread, and peers one value at a time. Inputs on
// which a peer fails are counted, not timed away: all of them are in its time. Prints one JSON
// object.
//
//   bench_bessel [--points N]      N points of each region, 1000000 unless said; errors are of the
//                                  first 20000 of them, peers take the first 1000 at most
#include "halfulp/bessel.hpp"

#include <time.h>

#include <algorithm>
#include <boost/math/special_functions/bessel.hpp>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "halfulp/info.hpp"
#ifdef HALFULP_BENCH_GSL
#include <gsl/gsl_errno.h>
#include <gsl/gsl_sf_bessel.h>
#endif

namespace {

using halfulp::BesselFunction;
using halfulp::BesselMode;
using nlohmann::json;
using Values = std::vector<double>;

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// ---- the branches of Plesner, Sorensen, Hauberg (2024), scalar
// ------------------------------------

double paper_hankel(double v, double x, int terms, bool second) {
  const double mu = 4 * v * v;
  double term = 1, sum = 1;
  for (int k = 1; k <= terms; ++k) {
    const double odd = 2 * k - 1;
    term *= (second ? 1 : -1) * (mu - odd * odd) / (k * 8 * x);
    sum += term;
  }
  const double pi = std::acos(-1.0);
  return second ? -x + 0.5 * std::log(pi / (2 * x)) + std::log(sum)
                : x - 0.5 * std::log(2 * pi * x) + std::log(sum);
}

double paper_uniform(double v, double x, int terms, bool second) {
  // U_k in powers of p, by the recurrence of DLMF 10.41.9, once
  static const auto polynomials = [] {
    std::vector<std::vector<double>> u = {{1}};
    for (int k = 0; k < 13; ++k) {
      std::vector<double> next(static_cast<std::size_t>(k) + 2);
      for (int j = 0; j <= k; ++j) {
        const double power = k + 2 * j;
        next[j] += u[k][j] * (power / 2 + 1 / (8 * (power + 1)));
        next[j + 1] -= u[k][j] * (power / 2 + 5 / (8 * (power + 3)));
      }
      u.push_back(next);
    }
    return u;
  }();
  const double z = x / v, root = std::sqrt(1 + z * z), p = 1 / root;
  const double eta = root + std::log(z / (1 + root));
  double sum = 1, power = 1;
  for (int k = 1; k <= terms; ++k) {
    power *= (second ? -1 : 1) * p / v;
    double value = 0;
    for (int j = k; j >= 0; --j) value = value * p * p + polynomials[k][j];
    sum += power * value;
  }
  const double pi = std::acos(-1.0);
  return second ? 0.5 * std::log(pi / (2 * v)) - v * eta - 0.5 * std::log(root) + std::log(sum)
                : -0.5 * std::log(2 * pi * v) + v * eta - 0.5 * std::log(root) + std::log(sum);
}

double paper_series(double v, double x) {
  const double log_half = std::log(x / 2);
  double largest = -std::numeric_limits<double>::infinity();
  double terms[128];
  int count = 0;
  for (int k = 0; k < 128; ++k) {
    terms[k] = (2 * k + v) * log_half - std::lgamma(k + 1.0) - std::lgamma(k + v + 1);
    largest = std::fmax(largest, terms[k]);
    count = k + 1;
    if (terms[k] < largest - 40) break;
  }
  double sum = 0;
  for (int k = 0; k < count; ++k) sum += std::exp(terms[k] - largest);
  return largest + std::log(sum);
}

double paper_integral(double v, double x) {
  // Simpson's rule for the integral of exp(-x cosh t + v t) in the log domain
  const double peak = std::asinh(v / x), top = v * peak - x * std::cosh(peak);
  const double end = peak + std::acosh(1 + 80 / std::fmax(x, 1e-3)) + 1;
  constexpr int n = 600;
  double sum = 0;
  for (int k = 0; k <= n; ++k) {
    const double t = end * k / n, weight = k == 0 || k == n ? 1 : k % 2 == 1 ? 4 : 2;
    sum += weight * std::exp(-x * std::cosh(t) - top) * std::cosh(v * t);
  }
  return top + std::log(sum * end / n / 3);
}

double paper(double v, double x, bool second) {
  const double log_v = std::log(v), log_x = std::log(x);
  if ((x > 1400 && v < 3.05) || (log_v < 0.6229 * log_x - 3.2318 && v > 3.1))
    return paper_hankel(v, x, 3, second);
  if ((x > 30 && v < 15.3919) || (log_v < 0.5113 * log_x + 0.7939 && x > 59.6925))
    return paper_hankel(v, x, 20, second);
  if ((x > 274.2377 && v > 0.3) || v > 163.6993) return paper_uniform(v, x, 4, second);
  if ((x > 84.4153 && v > 0.46) || v > 56.9971) return paper_uniform(v, x, 6, second);
  if ((x > 35.9074 && v > 0.6) || v > 20.1534) return paper_uniform(v, x, 9, second);
  if ((x > 19.6931 && v > 0.7) || v > 12.6964) return paper_uniform(v, x, 13, second);
  return second ? paper_integral(v, x) : paper_series(v, x);
}

// ---- measuring
// ------------------------------------------------------------------------------------

struct Region {
  const char* name;
  bool logarithmic;  // else uniform
  double v0, v1, x0, x1;
};
constexpr Region regions[] = {{"v in [150, 1e4], log-uniform", true, 150, 1e4, 1e-3, 1e6},
                              {"[150, 1e4]^2", false, 150, 1e4, 150, 1e4},
                              {"v in [57, 1e4], log-uniform", true, 57, 1e4, 1e-3, 1e6},
                              {"v in [57, 150], x < 150", false, 57, 150, 0, 150},
                              {"[0, 150]^2", false, 0, 150, 0, 150},
                              {"v < 28, x < 28", false, 0, 28, 0, 28},
                              {"v < 13, x < 30", false, 0, 13, 0, 30},
                              {"v, x < 0.17, log-uniform", true, 1e-6, 0.17, 1e-8, 0.17}};

json compare(const Values& value, const Values& reference, double time, std::size_t n) {
  double worst = 0;
  std::ptrdiff_t lost = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(value[i]))
      ++lost;
    else
      worst = std::fmax(worst,
                        std::fabs(value[i] - reference[i]) / std::fmax(1, std::fabs(reference[i])));
  }
  return {{"ns", time / static_cast<double>(n) * 1e9},
          {"max_mixed_u", worst * 0x1p53},
          {"not_finite_percent", 100.0 * static_cast<double>(lost) / static_cast<double>(n)}};
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t n = 1000000;
  if (argc == 3 && std::string(argv[1]) == "--points")
    n = static_cast<std::size_t>(std::atol(argv[2]));
  if (n < 20) n = 20;
#ifdef HALFULP_BENCH_GSL
  gsl_set_error_handler_off();
#endif
  const auto boost = [](double v, double x, bool second) {
    try {
      return std::log(second ? boost::math::cyl_bessel_k(v, x) : boost::math::cyl_bessel_i(v, x));
    } catch (const std::exception&) {
      return std::numeric_limits<double>::quiet_NaN();
    }
  };
  const auto standard = [](double v, double x, bool second) {
    try {
      return std::log(second ? std::cyl_bessel_k(v, x) : std::cyl_bessel_i(v, x));
    } catch (const std::exception&) {
      return std::numeric_limits<double>::quiet_NaN();
    }
  };
  std::vector<std::pair<std::string, std::function<double(double, double, bool)>>> peers = {
      {"paper's branches", paper}, {"Boost.Math", boost}, {"libstdc++", standard}};
#ifdef HALFULP_BENCH_GSL
  peers.emplace_back("GSL lnKnu", [](double v, double x, bool second) {
    gsl_sf_result r;
    if (!second || gsl_sf_bessel_lnKnu_e(v, x, &r) != GSL_SUCCESS)
      return std::numeric_limits<double>::quiet_NaN();
    return r.val;
  });
#endif
  json rows = json::array();
  for (const Region& region : regions)
    for (const bool second : {false, true}) {
      const auto f = second ? BesselFunction::log_k : BesselFunction::log_i;
      std::mt19937_64 random(1);
      const auto uniform = [&] { return static_cast<double>((random() >> 11) + 1) * 0x1p-53; };
      const auto sample = [&](double low, double high) {
        return region.logarithmic ? low * std::pow(high / low, uniform())
                                  : low + (high - low) * uniform();
      };
      const std::size_t checked = std::min<std::size_t>(n, 20000);
      const std::size_t few = std::min<std::size_t>(n / 20, 1000);
      Values v(n), x(n), value(n), reference(checked);
      for (std::size_t i = 0; i < n; ++i) {
        v[i] = sample(region.v0, region.v1);
        x[i] = sample(region.x0, region.x1);
      }
      for (std::size_t i = 0; i < checked; ++i) reference[i] = halfulp::bessel(f, v[i], x[i]);
      json row = {{"region", region.name},
                  {"function", second ? "log K" : "log I"},
                  {"v", {region.v0, region.v1}},
                  {"x", {region.x0, region.x1}},
                  {"logarithmic", region.logarithmic}};
      // the least of many, the modes in turn: other work on the machine comes and goes
      double best[2] = {HUGE_VAL, HUGE_VAL};
      const double start = seconds();
      for (int k = 0; k < 30 && (k < 3 || seconds() - start < 5); ++k)
        for (const auto mode : {BesselMode::fast, BesselMode::accurate}) {
          const double began = seconds();
          halfulp::bessel(f, v, x, value, {.mode = mode, .threads = 1});
          double& time = best[mode == BesselMode::fast ? 0 : 1];
          time = std::fmin(time, seconds() - began);
        }
      for (const auto mode : {BesselMode::fast, BesselMode::accurate}) {
        halfulp::bessel(f, v, x, value, {.mode = mode, .threads = 1});
        const bool fast = mode == BesselMode::fast;
        const double time =
            best[fast ? 0 : 1] * static_cast<double>(checked) / static_cast<double>(n);
        row[fast ? "halfulp fast" : "halfulp accurate"] = compare(value, reference, time, checked);
      }
      for (const auto& [name, function] : peers) {
        if (name == "GSL lnKnu" && !second) continue;
        double least = HUGE_VAL;
        for (int k = 0; k < 3; ++k) {
          const double began = seconds();
          for (std::size_t i = 0; i < few; ++i) value[i] = function(v[i], x[i], second);
          least = std::fmin(least, seconds() - began);
        }
        row[name] = compare(value, reference, least, few);
      }
      rows.push_back(row);
    }
  const halfulp::Info info = halfulp::info();
  std::cout << json{{"schema", 1},
                    {"points", n},
                    {"compiler", info.compiler},
                    {"instruction_sets", info.instruction_sets},
                    {"rows", rows}}
                   .dump(1)
            << '\n';
}
