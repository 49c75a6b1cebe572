// Evaluations per second of the logarithms on the device, region by region, with the largest
// difference from the host's kernels, as JSON on stdout.
#include "halfulp/cuda/bessel.hpp"

#include <cmath>
#include <cstdio>
#include <vector>

#include "benchmark.hpp"
#include "event_timer.hpp"
#include "halfulp/kernel/bessel_function.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
using halfulp::BesselFunction, halfulp::BesselMode;

namespace {

constexpr int elements = 1 << 24, compared = 1 << 14;

struct Region {
  const char* name;
  double v0, v1, x0, x1;
};

template <BesselFunction F, class T>
void measure(const char* name, const Region& region, BesselMode mode, bool first) {
  SplitMix random;
  std::vector<T> v(elements), x(elements);
  for (int i = 0; i < elements; ++i) {
    v[static_cast<std::size_t>(i)] =
        static_cast<T>(region.v0 + (region.v1 - region.v0) * random.uniform());
    x[static_cast<std::size_t>(i)] =
        static_cast<T>(region.x0 + (region.x1 - region.x0) * random.uniform());
  }
  const cuda::buffer<T> dv{std::span<const T>(v)}, dx{std::span<const T>(x)};
  cuda::buffer<T> out(dx.size());
  EventTimer timer;
  const double seconds = timer.median([&] { cuda::bessel(F, dv, dx, out, mode); });
  std::vector<T> values(elements);
  cuda::copy(out, values);
  cuda::synchronize();
  double worst = 0;  // in units of u max(1, |log|)
  for (std::size_t i = 0; i < compared; ++i) {
    const double host =
        halfulp::kernel::bessel_value<F>(static_cast<double>(v[i]), static_cast<double>(x[i]));
    const double unit = sizeof(T) == 8 ? 0x1p-53 : 0x1p-24;
    worst = std::fmax(worst, std::fabs(static_cast<double>(values[i]) - host) /
                                 (unit * std::fmax(1, std::fabs(host))));
  }
  std::printf(
      "%s    {\"function\": \"%s\", \"type\": \"%s\", \"mode\": \"%s\", \"region\": \"%s\", "
      "\"giga_per_second\": "
      "%.4f, \"difference_in_u\": %.3f}",
      first ? "" : ",\n", name, sizeof(T) == 8 ? "double" : "float",
      mode == BesselMode::fast ? "fast" : "accurate", region.name, elements / seconds * 1e-9,
      worst);
}

}  // namespace

int main() {
  return run_benchmark("bessel", [] {
    std::printf("\"elements\": %d,\n  \"results\": [\n", elements);
    const Region regions[] = {{"v > 150", 150, 1e4, 1e-3, 1e4},
                              {"v > 57", 57, 1e3, 1e-3, 1e3},
                              {"[0,150]^2", 0, 150, 1e-6, 150},
                              {"v < 13, x < 30", 0, 13, 1e-6, 30}};
    bool first = true;
    for (const Region& region : regions) {
      for (const auto mode : {BesselMode::fast, BesselMode::accurate}) {
        measure<BesselFunction::log_i, double>("log_i", region, mode, first);
        first = false;
        measure<BesselFunction::log_k, double>("log_k", region, mode, first);
      }
      measure<BesselFunction::log_i, float>("log_i", region, BesselMode::accurate, first);
      measure<BesselFunction::log_k, float>("log_k", region, BesselMode::accurate, first);
    }
    std::printf("\n  ]}\n");
  });
}
