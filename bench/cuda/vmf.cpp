// Concentrations per second on the device, and E steps, as JSON on stdout.
#include "halfulp/cuda/vmf.hpp"

#include <cmath>
#include <cstdio>
#include <vector>

#include "benchmark.hpp"
#include "event_timer.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;

namespace {

void measure_kappa(const char* name, double p0, double p1, bool first) {
  constexpr int elements = 1 << 24, compared = 1 << 14;
  SplitMix random;
  std::vector<double> p(elements), length(elements);
  for (std::size_t i = 0; i < elements; ++i) {
    p[i] = std::floor(random.log_uniform(p0, p1));
    length[i] = random.uniform();
  }
  const cuda::buffer<double> dp{std::span<const double>(p)}, dr{std::span<const double>(length)};
  cuda::buffer<double> out(dp.size());
  EventTimer timer;
  const double seconds = timer.median([&] { cuda::vmf::kappa(dp, dr, out); });
  std::vector<double> values(elements);
  cuda::copy(out, values);
  cuda::synchronize();
  double worst = 0;
  for (std::size_t i = 0; i < compared; ++i) {
    const double host = halfulp::kernel::vmf_kappa(p[i], length[i], 1 - length[i]);
    worst = std::fmax(worst, std::fabs(values[i] - host) / (0x1p-53 * host));
  }
  std::printf(
      "%s    {\"function\": \"kappa\", \"p\": \"%s\", \"giga_per_second\": %.4f, "
      "\"difference_in_u\": %.3f}",
      first ? "" : ",\n", name, elements / seconds * 1e-9, worst);
}

void measure_e_step(std::ptrdiff_t n, std::ptrdiff_t components, std::ptrdiff_t p) {
  const auto directions = [p](std::ptrdiff_t count) {
    SplitMix random;
    std::vector<double> rows(static_cast<std::size_t>(count * p));
    for (double& entry : rows) entry = (random.uniform() - 0.5) * std::sqrt(12.0 / p);
    return rows;
  };
  const std::vector<double> mu = directions(components), points = directions(n);
  const std::vector<double> kappa(static_cast<std::size_t>(components), 500.0);
  const std::vector<double> log_weights(static_cast<std::size_t>(components), -2.0);
  const cuda::buffer<double> dmu{std::span<const double>(mu)}, dk{std::span<const double>(kappa)},
      dx{std::span<const double>(points)}, dw{std::span<const double>(log_weights)};
  cuda::buffer<double> scaled(components), joint(n * components), log_likelihood(n);
  EventTimer timer;
  const double seconds = timer.median([&] {
    cuda::vmf::log_normaliser_scaled(static_cast<double>(p), dk, scaled);
    cuda::vmf::log_density(dmu, dk, scaled, dx, joint);
    cuda::vmf::posterior(dw, joint, log_likelihood);
  });
  std::printf(
      ",\n    {\"function\": \"e_step\", \"n\": %td, \"components\": %td, \"p\": %td, "
      "\"milliseconds\": %.4f}",
      n, components, p, 1e3 * seconds);
}

}  // namespace

int main() {
  return run_benchmark("vmf", [] {
    std::printf("\n  \"results\": [\n");
    measure_kappa("2 to 1e6", 2, 1e6, true);
    measure_kappa("3", 3, 3.5, false);
    measure_kappa("784", 784, 784.5, false);
    for (const std::ptrdiff_t components : {10, 100}) measure_e_step(70000, components, 784);
    std::printf("\n  ]}\n");
  });
}
