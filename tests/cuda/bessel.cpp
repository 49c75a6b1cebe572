// Device results of every Bessel function against the same kernels on the host, whose error
// tests/bessel.cpp measures with Arb. No test framework: machines with a GPU may have none.
#include "halfulp/cuda/bessel.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "budget.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/bessel_function.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
using halfulp::BesselFunction;

namespace {

int failures = 0;

void check(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

std::vector<double> on_device(BesselFunction f, const std::vector<double>& v,
                              const std::vector<double>& x) {
  const cuda::buffer<double> dv{std::span<const double>(v)}, dx{std::span<const double>(x)};
  cuda::buffer<double> out(dx.size());
  cuda::bessel(f, dv, dx, out);
  std::vector<double> result(x.size());
  cuda::copy(out, result);
  cuda::synchronize();
  return result;
}

template <BesselFunction F>
void check_function(const char* row, int count) {
  const double limit = budget(HALFULP_BUDGETS, row, "double", "cuda");
  SplitMix random;
  std::vector<double> v, x;
  for (int i = 0; i < count; ++i) {
    const bool box = i % 2 == 0;
    v.push_back(box ? random.log_uniform(1e-6, 1e6) : 38 * random.uniform());
    x.push_back(box ? random.log_uniform(1e-8, 1e7) : 38 * (1 - random.uniform()));
  }
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

void check_sizes(bool quick) {
  for (const int n : {0, 1, 31, 32, 33, 1000, 100003}) {
    if (quick && n > 1000) continue;
    const std::vector<double> x(static_cast<std::size_t>(n), 2.0);
    const auto r = on_device(BesselFunction::log_i, {1.5}, x);
    const double host = halfulp::kernel::bessel_value<BesselFunction::log_i>(1.5, 2.0);
    bool good = true;
    for (const double value : r) good = good && value == r[0] && std::fabs(value - host) < 1e-14;
    check(good, "one order for " + std::to_string(n) + " arguments");
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
    check_sizes(quick);
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
