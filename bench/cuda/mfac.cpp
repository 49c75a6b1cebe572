// Products with an inverse Fisher matrix on the device beside two passes over the gradients at the
// rate at which the device copies memory, as JSON on stdout. With each: the error said and, of
// products, the residual |H y - x|/|x| computed on the host.
#include "halfulp/cuda/mfac.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "benchmark.hpp"
#include "event_timer.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
using cuda::mfac::Accumulation;
using Size = std::ptrdiff_t;

namespace {

constexpr int most_vectors = 32;

std::vector<float> random_numbers(Size n) {
  SplitMix random;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = static_cast<float>(2 * random.uniform() - 1);
  return x;
}

/// Bytes a second, read and written.
double copy_rate(EventTimer& timer, const cuda::buffer<float>& from) {
  const auto bytes = static_cast<std::size_t>(from.size()) * sizeof(float);
  cuda::buffer<float> to(from.size());
  const double seconds = timer.median([&] {
    EventTimer::check(
        cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, nullptr));
  });
  return 2 * static_cast<double>(bytes) / seconds;
}

double residual(const std::vector<float>& g, Size m, double damping, const std::vector<float>& x,
                const std::vector<float>& y) {
  const std::size_t d = g.size() / static_cast<std::size_t>(m);
  std::vector<double> r(d);
  for (std::size_t j = 0; j < d; ++j) r[j] = damping * y[j] - x[j];
  for (Size i = 0; i < m; ++i) {
    const float* const row = g.data() + static_cast<std::size_t>(i) * d;
    double sum = 0;
    for (std::size_t j = 0; j < d; ++j) sum += static_cast<double>(row[j]) * y[j];
    for (std::size_t j = 0; j < d; ++j) r[j] += sum / static_cast<double>(m) * row[j];
  }
  double square = 0, whole = 0;
  for (std::size_t j = 0; j < d; ++j) {
    square += r[j] * r[j];
    whole += static_cast<double>(x[j]) * x[j];
  }
  return std::sqrt(square / whole);
}

void measure(Size m, Size d, bool first) {
  constexpr double damping = 1e-3;
  EventTimer timer;
  const std::vector<float> g = random_numbers(m * d), x = random_numbers(most_vectors * d);
  const cuda::buffer<float> dg{std::span<const float>(g)}, dx{std::span<const float>(x)};
  cuda::buffer<float> y(most_vectors * d);
  const cuda::span<float> one(y.data(), d);
  const double rate = copy_rate(timer, dg);
  cuda::synchronize();
  const double two_passes = 2 * static_cast<double>(g.size()) * sizeof(float) / rate;
  for (const auto accumulation : {Accumulation::float64, Accumulation::float32}) {
    const auto begin = std::chrono::steady_clock::now();
    cuda::mfac::Estimator fisher(dg, d, {.damping = damping, .products = accumulation});
    const std::chrono::duration<double> construction = std::chrono::steady_clock::now() - begin;
    const char* const sums = accumulation == Accumulation::float64 ? "double" : "float";
    double single = 0;
    for (const int k : {1, 8, most_vectors}) {
      const cuda::span<const float> in(dx.data(), k * d);
      const cuda::span<float> out(y.data(), k * d);
      const double seconds = timer.median([&] { fisher.inverse_product(in, out); });
      if (k == 1) single = seconds;
      std::vector<float> result(static_cast<std::size_t>(d));
      cuda::copy(cuda::span<const float>(one), result);
      const double said = fisher.last_product().error;
      std::printf(
          "%s    {\"m\": %td, \"d\": %td, \"sums\": \"%s\", \"vectors\": %d, "
          "\"milliseconds\": %.4f, \"of_two_passes\": %.3f, \"times_one\": %.3f, "
          "\"copy_gigabytes_per_second\": %.1f, \"construction_milliseconds\": %.1f, "
          "\"error_said\": %.3g, \"residual\": %.3g}",
          first ? "" : ",\n", m, d, sums, k, 1e3 * seconds, two_passes / seconds, seconds / single,
          1e-9 * rate, 1e3 * construction.count(), said, residual(g, m, damping, x, result));
      first = false;
    }
    const double seconds = timer.median([&] { fisher.inverse_row(m - 1, one); });
    std::printf(
        ",\n    {\"m\": %td, \"d\": %td, \"sums\": \"%s\", \"row\": %td, \"milliseconds\": %.4f, "
        "\"of_one_pass\": %.3f, \"error_said\": %.3g}",
        m, d, sums, m - 1, 1e3 * seconds, 0.5 * two_passes / seconds, fisher.last_product().error);
  }
}

}  // namespace

int main() {
  return run_benchmark("mfac", [] {
    std::printf("\n  \"results\": [\n");
    measure(1024, 270000, true);
    measure(256, 1000000, false);
    measure(32, 8000000, false);
    std::printf("\n  ]}\n");
  });
}
