// Concentrations from mean resultant lengths: nanoseconds each and largest error in units of
// u (1 + condition number), on one thread, beside the two ways in use, one value at a time: Newton
// from Sra's start until it stops or for two steps, on a ratio of Boost's Bessel functions. Inputs
// on which a peer fails are counted, and are in its time. Prints one JSON object.
//
//   bench_vmf [--points N]   N lengths for each dimension, 1000000 unless said; errors are of the
//                            first 20000 of them, peers take the first 2000 at most
//   bench_vmf --fit X.npy    the best of 20 fits of X instead, warmed up: {"seconds", "kappa",
//                            "length"}
#include "halfulp/vmf.hpp"

#include <algorithm>
#include <boost/math/special_functions/bessel.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "halfulp/info.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/random.hpp"

namespace {

using halfulp::dd;
using nlohmann::json;
using Values = std::vector<double>;

/// The ratio to about 2^-62: the digits of the leading term, and of what is added to it enough.
dd length(double v, double kappa) {
  namespace kernel = halfulp::kernel;
  if (!kernel::bessel_is_wide(v, kappa)) return kernel::bessel_i_ratio_over_x(v, kappa) * kappa;
  const kernel::BesselFrame f = kernel::bessel_frame_without_slope(v, kappa);
  const double w = f.w.hi, t = v / w;
  const auto sums = kernel::bessel_sums(kernel::bessel_slope_terms(w), t * t, 1 / w);
  const double e = -(sums.ks + 2 * t * t * sums.ds);
  return kappa / (f.w + v) + kernel::two_sum(e, -0.5) * (kappa / f.w / f.w);
}

/// Error of a concentration by one step of Newton from it.
double error(double p, double r, double kappa) {
  const double v = 0.5 * p - 1;
  const double slope = halfulp::bessel_i_ratio(v, kappa).derivative;
  const double miss = (length(v, kappa) - r).hi;
  const double condition = r / (kappa * slope);
  return std::fabs(miss) / slope / (kappa * (1 + condition)) * 0x1p53;
}

double boost_newton(double p, double r, int most) {
  const double v = 0.5 * p - 1;
  double kappa = r * (p - r * r) / ((1 - r) * (1 + r));
  for (int i = 0; i < most; ++i) {
    const double a = boost::math::cyl_bessel_i(v + 1, kappa) / boost::math::cyl_bessel_i(v, kappa);
    const double step = (a - r) / (1 - a * a - (p - 1) / kappa * a);
    kappa -= step;
    if (!(std::fabs(step) > 1e-15 * kappa)) break;
  }
  return kappa;
}

json measure(const Values& p, const Values& r, std::size_t errors, double seconds,
             const std::function<double(std::size_t)>& value) {
  double worst = 0;
  std::size_t lost = 0;
  for (std::size_t i = 0; i < errors; ++i) {
    const double kappa = value(i);
    if (std::isfinite(kappa) && kappa > 0)
      worst = std::fmax(worst, error(p[p.size() == 1 ? 0 : i], r[i], kappa));
    else
      ++lost;
  }
  return {{"ns", 1e9 * seconds},
          {"max_u", worst},
          {"not_finite_percent", 100.0 * static_cast<double>(lost) / static_cast<double>(errors)}};
}

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int time_fit(const std::string& file) {
  const auto points = halfulp::read_npy<double>(file);
  const halfulp::vmf::FitOptions options{.data = {.threads = 1}};
  halfulp::vmf::Fit fit;
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double start = clock_seconds();
    fit = halfulp::vmf::fit(points.values, points.shape.at(1), options);
    best = std::min(best, clock_seconds() - start);
  }
  std::cout << json{{"seconds", best},
                    {"kappa", fit.distribution.kappa},
                    {"length", fit.resultant.length}}
                   .dump()
            << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--fit") return time_fit(argv[2]);
  std::size_t n = 1000000;
  if (argc == 3 && std::string(argv[1]) == "--points")
    n = static_cast<std::size_t>(std::max(1, std::atoi(argv[2])));
  const std::size_t few = std::min<std::size_t>(n, 2000), errors = std::min<std::size_t>(n, 20000);
  json rows = json::array();
  for (const double dimension : {2.0, 3.0, 10.0, 100.0, 784.0, 2048.0, 32768.0, 1e6, 0.0}) {
    Values p(1, dimension), r(n), out(n);
    halfulp::RandomStream(1).fill_uniform(r);
    if (dimension == 0) {  // log-uniform
      p.resize(n);
      halfulp::RandomStream(2).fill_uniform(p);
      for (double& each : p) each = std::floor(2 * std::pow(5e5, each));
    }
    double best = std::numeric_limits<double>::infinity();
    for (int repeat = 0; repeat < 9; ++repeat) {
      const double start = clock_seconds();
      halfulp::vmf::kappa(p, r, out, 1);
      best = std::min(best, clock_seconds() - start);
    }
    json row = {{"p", dimension == 0 ? json("2 to 1e6") : json(dimension)},
                {"halfulp", measure(p, r, errors, best / static_cast<double>(n),
                                    [&](std::size_t i) { return out[i]; })}};
    const auto peer = [&](int steps) {
      Values values(few);
      const double start = clock_seconds();
      for (std::size_t i = 0; i < few; ++i) {
        try {
          values[i] = boost_newton(p[p.size() == 1 ? 0 : i], r[i], steps);
        } catch (const std::exception&) {
          values[i] = std::numeric_limits<double>::quiet_NaN();
        }
      }
      const double time = (clock_seconds() - start) / static_cast<double>(few);
      return measure(p, r, few, time, [&](std::size_t i) { return values[i]; });
    };
    row["Newton, Boost.Math"] = peer(50);
    row["two steps, Boost.Math"] = peer(2);
    rows.push_back(row);
  }
  std::cout << json{{"schema", 1},
                    {"compiler", halfulp::info().compiler},
                    {"instruction_sets", halfulp::info().instruction_sets},
                    {"points", n},
                    {"rows", rows}}
                   .dump(1)
            << '\n';
}
