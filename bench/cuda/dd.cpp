// Time per element of every double-double operation on the device (CUDA events, median of 9) and on
// one host thread, with the largest difference between the two, as JSON on stdout.
#include "halfulp/cuda/dd.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "benchmark.hpp"
#include "dd_cases.hpp"
#include "event_timer.hpp"
#include "halfulp/error.hpp"

namespace cuda = halfulp::cuda;
using halfulp::dd;
using halfulp::DdFunction;

namespace {

constexpr int repetitions = 9, device_count = 1 << 22, host_count = 1 << 12;

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

void measure(const dd_cases::Case& c, bool last) {
  const auto few = dd_cases::draw(c, host_count, 1);
  std::vector<dd> x, y;  // the host's sample, over and over
  for (int i = 0; i < device_count / host_count; ++i) {
    x.insert(x.end(), few.x.begin(), few.x.end());
    y.insert(y.end(), few.y.begin(), few.y.end());
  }
  const cuda::buffer<dd> dx{std::span<const dd>(x)}, dy{std::span<const dd>(y)};
  cuda::buffer<dd> out(dx.size());
  EventTimer timer;
  const double device_ns =
      1e9 / device_count * timer.median([&] { cuda::dd_apply(c.f, dx, dy, out); });
  cuda::copy(out, x);
  cuda::synchronize();

  std::vector<dd> host(few.x.size());
  std::vector<double> host_ns;
  for (int r = 0; r < repetitions; ++r) {
    const auto start = std::chrono::steady_clock::now();
    halfulp::kernel::dispatch(c.f, [&]<DdFunction F>() {
      for (std::size_t i = 0; i < host.size(); ++i)
        host[i] = halfulp::kernel::apply<F>(few.x[i], few.y.empty() ? dd(0) : few.y[i]);
    });
    const std::chrono::duration<double, std::nano> t = std::chrono::steady_clock::now() - start;
    host_ns.push_back(t.count() / host_count);
  }
  double difference = 0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    const double d = std::fabs((x[i] - host[i]).hi);
    const double size = std::fabs(host[i].hi);
    if (d > 0 && size > 0x1p-900 && size < 0x1p995)
      difference = std::fmax(
          difference,
          d / dd_cases::scale(c.f, host[i].hi, few.x[i], few.y.empty() ? dd(0) : few.y[i]) /
              0x1p-104);
  }
  std::printf(
      "    {\"function\": \"%s\", \"x\": [%g, %g], \"device_ns\": %.5f, \"host_ns\": %.3f, "
      "\"ratio\": %.1f, \"difference_in_2^-104\": %.3f}%s\n",
      name(c.f), c.x.a, c.x.b, device_ns, median(host_ns), median(host_ns) / device_ns, difference,
      last ? "" : ",");
}

}  // namespace

int main() {
  return run_benchmark("dd", [] {
    int driver = 0, runtime = 0;
    EventTimer::check(cudaDriverGetVersion(&driver));
    EventTimer::check(cudaRuntimeGetVersion(&runtime));
    std::printf("\"cuda_driver\": %d, \"cuda_runtime\": %d, \"elements\": %d,\n  \"results\": [\n",
                driver, runtime, device_count);
    const auto& all = dd_cases::cases();
    for (std::size_t i = 0; i < all.size(); ++i) measure(all[i], i + 1 == all.size());
    std::printf("  ]}\n");
  });
}
