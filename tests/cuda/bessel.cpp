// Device results of every Bessel function against the same kernels on the host, whose error
// tests/bessel.cpp measures with Arb. No test framework: machines with a GPU may have none.
#include "halfulp/cuda/bessel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "budget.hpp"
#include "device_check.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/bessel_function.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
using halfulp::BesselFunction, halfulp::BesselMode;

namespace {

template <class T>
std::vector<T> on_device(BesselFunction f, const std::vector<T>& v, const std::vector<T>& x,
                         BesselMode mode = BesselMode::accurate) {
  const cuda::buffer<T> dv{std::span<const T>(v)}, dx{std::span<const T>(x)};
  cuda::buffer<T> out(dx.size());
  cuda::bessel(f, dv, dx, out, mode);
  std::vector<T> result(x.size());
  cuda::copy(out, result);
  cuda::synchronize();
  return result;
}

struct Points {
  std::vector<double> v, x;
  void add(double order, double argument) {
    v.push_back(order);
    x.push_back(argument);
  }
};

/// Every formula: the box of the domain, the cells, both sides of where the series begins, next to
/// the zeros of large orders, and far out.
Points points_everywhere(int count) {
  SplitMix random;
  Points p;
  for (int i = 0; i < count; ++i) {
    const double angle = 1.57 * random.uniform();
    if (i % 6 == 5) {  // v small beside x, which is not a power of two
      const double v = random.log_uniform(1, 1e6);
      p.add(v, v * random.log_uniform(0x1p8, 0x1p24));
    } else if (i % 6 == 0)
      p.add(random.log_uniform(1e-6, 1e6), random.log_uniform(1e-8, 1e7));
    else if (i % 6 == 1)
      p.add(38 * random.uniform(), 38 * (1 - random.uniform()));
    else if (i % 6 == 2)
      p.add((38 + 4 * random.uniform()) * std::sin(angle), 40 * std::cos(angle));
    else if (i % 6 == 3)
      p.add(1e3 * random.uniform(), 1e3 * (1 - random.uniform()));
    else {
      const double v = random.log_uniform(40, 1e6);
      p.add(v, 0.6627434 * v * (1 + 0.02 * (random.uniform() - 0.5)));
    }
  }
  return p;
}

template <BesselFunction F>
void check_function(const char* row, int count) {
  const double limit = budget(HALFULP_BUDGETS, row, "double", "cuda");
  const auto [v, x] = points_everywhere(count);
  const auto device = on_device(F, v, x);
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double host = halfulp::kernel::bessel_value<F>(v[i], x[i]);
    if (F <= BesselFunction::log_k_scaled && std::fabs(host) < 1e-6 * std::fmin(1, v[i])) continue;
    const double ulp = std::nextafter(std::fabs(host), HUGE_VAL) - std::fabs(host);
    const double error = std::fabs(device[i] - host) / ulp;
    if (!(error <= worst)) worst = error, at = i;
  }
  char line[200];
  std::snprintf(line, sizeof line, "%-28s %.3g ulp from the host, at v = %a, x = %a", row, worst,
                v[at], x[at]);
  std::printf("%s\n", line);
  check(worst <= 2 * limit, line);  // each is within the limit of the exact value
  // special values are the host's to the bit
  const double grid[] = {0, 0x1p-1074, 0x1p-1022, 0.5, 3, 1e6, 1e308, HUGE_VAL, std::nan(""), -1};
  std::vector<double> gv, gx;
  for (const double a : grid)
    for (const double b : grid) {
      gv.push_back(a);
      gx.push_back(b);
    }
  const auto special = on_device(F, gv, gx);
  for (std::size_t i = 0; i < gv.size(); ++i) {
    const double host = halfulp::kernel::bessel_value<F>(gv[i], gx[i]);
    const bool same = std::isnan(host) ? std::isnan(special[i])
                      : std::isinf(host)
                          ? special[i] == host
                          : std::fabs(special[i] - host) <= 1e-14 * std::fabs(host) + 0x1p-1070;
    std::snprintf(line, sizeof line, "%s(%g, %g): host %g, device %g", row, gv[i], gx[i], host,
                  special[i]);
    check(same, line);
  }
}

/// The fast mode and single precision, against the accurate kernels on the host.
template <BesselFunction F>
void check_logarithm(const char* row, int count) {
  const auto [v, x] = points_everywhere(count);
  const auto fast = on_device(F, v, x, BesselMode::fast);
  const std::vector<float> single_v(v.begin(), v.end()), single_x(x.begin(), x.end());
  const auto single = on_device(F, single_v, single_x);
  double worst = 0, worst_single = 0;
  std::size_t at = 0, single_at = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double host = halfulp::kernel::bessel_value<F>(v[i], x[i]);
    const double error = std::fabs(fast[i] - host) / std::fmax(1, std::fabs(host)) * 0x1p53;
    if (!(error <= worst)) worst = error, at = i;
    const double value = halfulp::kernel::bessel_value<F>(static_cast<double>(single_v[i]),
                                                          static_cast<double>(single_x[i]));
    int exponent = 0;
    std::frexp(value, &exponent);
    const double off = std::fabs(static_cast<double>(single[i]) - value);
    const double ulps = std::ldexp(off, -std::max(exponent - 24, -149));
    if (!(ulps <= worst_single)) worst_single = ulps, single_at = i;
  }
  char line[200];
  std::snprintf(line, sizeof line, "%-28s fast: %.3g u max(1, |log|), at v = %a, x = %a", row,
                worst, v[at], x[at]);
  std::printf("%s\n", line);
  check(worst <= budget(HALFULP_BUDGETS, "bessel_log_fast", "double", "cuda"), line);
  std::snprintf(line, sizeof line, "%-28s float: %.6g ulp, at v = %a, x = %a", row, worst_single,
                v[single_at], x[single_at]);
  std::printf("%s\n", line);
  check(worst_single <= budget(HALFULP_BUDGETS, "bessel_float", "float", "cuda"), line);
}

/// A value does not depend on its neighbours, nor on where in the array it stands.
void check_order(int count) {
  const auto [v, x] = points_everywhere(count);
  std::vector<std::size_t> places(v.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  SplitMix random;
  for (std::size_t i = places.size() - 1; i > 0; --i)
    std::swap(places[i], places[static_cast<std::size_t>(random.uniform() * (i + 1.0))]);
  std::vector<double> other_v, other_x;
  for (const std::size_t i : places) {
    other_v.push_back(v[i]);
    other_x.push_back(x[i]);
  }
  using enum BesselFunction;
  for (const auto f : {log_i, log_k, i_ratio, log_k_dv})
    for (const auto mode : {BesselMode::accurate, BesselMode::fast}) {
      const auto here = on_device(f, v, x, mode), there = on_device(f, other_v, other_x, mode);
      bool same = true;
      for (std::size_t k = 0; k < places.size(); ++k) same = same && there[k] == here[places[k]];
      check(same, "the same bits in another order");
    }
}

/// Into the arrays of the arguments, and from arrays of the host.
void check_places() {
  const auto [v, x] = points_everywhere(5000);
  const auto expected = on_device(BesselFunction::log_k, v, x, BesselMode::fast);
  for (const bool into_v : {false, true}) {
    cuda::buffer<double> dv{std::span<const double>(v)}, dx{std::span<const double>(x)};
    cuda::buffer<double>& out = into_v ? dv : dx;
    cuda::bessel(BesselFunction::log_k, dv, dx, out, BesselMode::fast);
    std::vector<double> result(x.size());
    cuda::copy(out, result);
    cuda::synchronize();
    check(result == expected, into_v ? "out is v" : "out is x");
  }
  std::vector<double> result(x.size());
  cuda::bessel(BesselFunction::log_k, v, x, result, BesselMode::fast);
  check(result == expected, "from arrays of the host");
  std::vector<float> singles(3), orders{1.5F}, arguments{1, 20, 300};
  cuda::bessel(BesselFunction::log_i, std::span<const float>(orders),
               std::span<const float>(arguments), std::span<float>(singles));
  check(singles == on_device(BesselFunction::log_i, orders, arguments), "floats of the host");
  try {
    cuda::bessel(BesselFunction::log_k, v, x, std::span(result).first(7));
    check(false, "a result of another size");
  } catch (const halfulp::ShapeError&) {
  }
  std::vector<double> none;
  cuda::bessel(BesselFunction::log_k, std::vector<double>{1.0}, none, none);
}

void check_sizes(bool quick) {
  constexpr double arguments[] = {2, 50};  // of a cell and of the series
  double host[2];
  for (int k = 0; k < 2; ++k)
    host[k] = halfulp::kernel::bessel_value<BesselFunction::log_i>(1.5, arguments[k]);
  const auto good = [&](int n, BesselMode mode, auto formula) {
    std::vector<double> x(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = arguments[formula(i)];
    const auto r = on_device(BesselFunction::log_i, std::vector<double>{1.5}, x, mode);
    for (std::size_t i = 0; i < x.size(); ++i)
      if (!(std::fabs(r[i] - host[formula(i)]) < 1e-14)) return false;
    return true;
  };
  for (const int n : {0, 1, 31, 32, 33, 255, 256, 257, 1000, 100003, 1 << 20}) {
    if (quick && n > 1000) continue;
    if (n < 1 << 20)
      check(good(n, BesselMode::accurate, [](std::size_t) { return 0; }),
            "one order for " + std::to_string(n) + " arguments");
    // tiles of one formula, of the other and of both
    check(good(n, BesselMode::fast,
               [](std::size_t i) { return i / 3000 % 3 == 0   ? 1
                                          : i / 3000 % 3 == 1 ? 0
                                                              : i % 2; }),
          std::to_string(n) + " arguments of two formulas");
  }
  cuda::buffer<double> three(3), two(2);
  try {
    cuda::bessel(BesselFunction::log_i, two, three, three);
    check(false, "orders of another size");
  } catch (const halfulp::ShapeError&) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  const int count = quick ? 200 : 20000;
  try {
    if (cuda::device_count() == 0) {
      std::printf("SKIPPED: no CUDA device, Bessel functions on the device were not tested\n");
      return 77;
    }
    using enum BesselFunction;
    check_function<log_i>("bessel_log_i", count);
    check_function<log_k>("bessel_log_k", count);
    check_function<log_i_scaled>("bessel_log_i_scaled", count);
    check_function<log_k_scaled>("bessel_log_k_scaled", count);
    check_function<i_ratio>("bessel_i_ratio", count);
    check_function<i_ratio_complement>("bessel_i_ratio_complement", count);
    check_function<i_ratio_derivative>("bessel_i_ratio_derivative", count);
    check_function<k_ratio>("bessel_k_ratio", count);
    check_function<k_ratio_complement>("bessel_k_ratio_complement", count);
    check_function<k_ratio_derivative>("bessel_k_ratio_derivative", count);
    check_function<log_i_dx>("bessel_log_i_dx", count);
    check_function<log_k_dx>("bessel_log_k_dx", count);
    check_function<log_i_dv>("bessel_log_i_dv", count);
    check_function<log_k_dv>("bessel_log_k_dv", count);
    check_logarithm<log_i>("bessel_log_i", count);
    check_logarithm<log_k>("bessel_log_k", count);
    check_logarithm<log_i_scaled>("bessel_log_i_scaled", count);
    check_logarithm<log_k_scaled>("bessel_log_k_scaled", count);
    check_order(quick ? 1000 : 20000);
    check_places();
    check_sizes(quick);
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
