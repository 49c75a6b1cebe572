// Von Mises-Fisher functions on the device against the same kernels on the host, whose error
// tests/vmf.cpp measures, and against plain sums.
#include "halfulp/cuda/vmf.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "device_check.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
namespace kernel = halfulp::kernel;

namespace {

std::vector<double> to_host(const cuda::buffer<double>& memory) {
  std::vector<double> result(static_cast<std::size_t>(memory.size()));
  cuda::copy(memory, result);
  cuda::synchronize();
  return result;
}

void check_kappa(bool complement, int count) {
  SplitMix random;
  std::vector<double> p, given;
  for (int i = 0; i < count; ++i) {
    p.push_back(i % 2 == 0 ? 2 + 60 * random.uniform() : random.log_uniform(2, 1e6));
    given.push_back(i % 3 == 0                   ? random.uniform()
                    : (i % 3 == 1) == complement ? random.log_uniform(1e-300, 1)
                                                 : 1 - random.log_uniform(1e-15, 1));
  }
  for (const double special : {0.0, 1.0, -0.5, 2.0, std::nan(""), 0x1p-1074}) {
    p.push_back(7);
    given.push_back(special);
  }
  const cuda::buffer<double> dp{std::span<const double>(p)}, dg{std::span<const double>(given)};
  cuda::buffer<double> out(dp.size());
  (complement ? cuda::vmf::kappa_complement : cuda::vmf::kappa)(dp, dg, out, nullptr);
  const std::vector<double> device = to_host(out);
  double worst = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double other = 1 - given[i];
    const double host =
        kernel::vmf_kappa(p[i], complement ? other : given[i], complement ? given[i] : other);
    if (std::isnan(host) ? std::isnan(device[i]) : host == device[i]) continue;
    const double error = std::fabs(device[i] - host) / std::fabs(host);
    if (!(error <= worst)) worst = error;
  }
  char line[120];
  std::snprintf(line, sizeof line, "kappa%s: %.3g u from the host", complement ? "_complement" : "",
                worst * 0x1p53);
  std::printf("%s\n", line);
  // each within 4 u (1 + condition), which the points keep below 3: fused operations round
  // otherwise
  check(worst <= 32 * 0x1p-53, line);
}

void check_e_step(std::ptrdiff_t n, std::ptrdiff_t components, std::ptrdiff_t p) {
  SplitMix random;
  const auto directions = [&](std::ptrdiff_t count) {
    std::vector<double> rows(static_cast<std::size_t>(count * p));
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      double square = 0;
      for (std::ptrdiff_t j = 0; j < p; ++j) {
        double& entry = rows[static_cast<std::size_t>(i * p + j)];
        entry = random.uniform() - 0.5;
        square += entry * entry;
      }
      for (std::ptrdiff_t j = 0; j < p; ++j)
        rows[static_cast<std::size_t>(i * p + j)] /= std::sqrt(square);
    }
    return rows;
  };
  const std::vector<double> mu = directions(components), points = directions(n);
  std::vector<double> kappa, log_weights;
  for (std::ptrdiff_t k = 0; k < components; ++k) {
    kappa.push_back(random.log_uniform(1, 1e4));
    log_weights.push_back(-std::log(static_cast<double>(components)));
  }
  const cuda::buffer<double> dmu{std::span<const double>(mu)}, dk{std::span<const double>(kappa)},
      dx{std::span<const double>(points)}, dw{std::span<const double>(log_weights)};
  cuda::buffer<double> scaled(components), joint(n * components), log_likelihood(n);
  cuda::vmf::log_normaliser_scaled(static_cast<double>(p), dk, scaled);
  cuda::vmf::log_density(dmu, dk, scaled, dx, joint);
  const std::vector<double> logs = to_host(joint);
  cuda::vmf::posterior(dw, joint, log_likelihood);
  const std::vector<double> r = to_host(joint), total = to_host(log_likelihood);
  const double v = 0.5 * static_cast<double>(p) - 1;
  double worst = 0, worst_r = 0;
  const auto widen = [](double& most, double error) {
    if (!(error <= most)) most = error;  // not fmax, which passes over NaN
  };
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    std::vector<double> host;
    double sum = 0;
    for (std::ptrdiff_t k = 0; k < components; ++k) {
      double square = 0;
      for (std::ptrdiff_t j = 0; j < p; ++j) {
        const double d =
            points[static_cast<std::size_t>(i * p + j)] - mu[static_cast<std::size_t>(k * p + j)];
        square += d * d;
      }
      const double concentration = kappa[static_cast<std::size_t>(k)];
      host.push_back(kernel::vmf_log_normaliser(v, concentration, true).hi -
                     concentration * (0.5 * square));
      widen(worst, std::fabs(host.back() - logs[static_cast<std::size_t>(i * components + k)]) /
                       std::fmax(1, concentration));
    }
    const double most = *std::max_element(host.begin(), host.end());
    for (const double h : host) sum += std::exp(h - most);
    for (std::ptrdiff_t k = 0; k < components; ++k)
      widen(worst_r, std::fabs(std::exp(host[static_cast<std::size_t>(k)] - most) / sum -
                               r[static_cast<std::size_t>(i * components + k)]));
    const double reference = most + std::log(sum) - std::log(static_cast<double>(components));
    widen(worst, std::fabs(total[static_cast<std::size_t>(i)] - reference) /
                     std::fmax(1e4, std::fabs(reference)));
  }
  char line[160];
  std::snprintf(line, sizeof line, "E step, n = %td, K = %td, p = %td: %.3g, responsibilities %.3g",
                n, components, p, worst, worst_r);
  std::printf("%s\n", line);
  check(worst < 1e-13 && worst_r < 1e-9, line);
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  try {
    if (cuda::device_count() == 0) {
      std::printf("SKIPPED: no CUDA device, von Mises-Fisher on the device was not tested\n");
      return 77;
    }
    for (const bool complement : {false, true}) check_kappa(complement, quick ? 300 : 100003);
    check_e_step(1, 1, 2);
    check_e_step(33, 17, 31);
    check_e_step(quick ? 64 : 1000, 10, quick ? 33 : 784);
    check_e_step(5, 100, 16);
    cuda::buffer<double> three(3), two(2);
    try {
      cuda::vmf::kappa(two, three, three);
      check(false, "dimensions of another size");
    } catch (const halfulp::ShapeError&) {
    }
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
