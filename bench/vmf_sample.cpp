// Samples of the von Mises-Fisher distribution a second on one thread, and their largest error of
// the norm. Prints one JSON object; bench/peers/vmf_sample.py is the NumPy peer.
//
//   bench_vmf_sample [--numbers N]    N numbers a call, 8000000 unless said
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "halfulp/info.hpp"
#include "halfulp/vmf.hpp"

namespace {

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t numbers = 8000000;
  if (argc == 3 && std::string(argv[1]) == "--numbers")
    numbers = static_cast<std::size_t>(std::max(1L, std::atol(argv[2])));
  using nlohmann::json;
  json rows = json::array();
  for (const std::size_t p : {3, 10, 100, 784, 4096, 32768})
    for (const double share : {0.0, 1.0, 1000.0}) {
      const double kappa = share * static_cast<double>(p);
      halfulp::vmf::Distribution d{std::vector<double>(p), kappa};
      double square = 0;
      for (std::size_t i = 0; i < p; ++i) {
        d.mu[i] = std::sin(static_cast<double>(i + 1));
        square += d.mu[i] * d.mu[i];
      }
      for (double& m : d.mu) m /= std::sqrt(square);
      const std::size_t n = std::max<std::size_t>(1, numbers / p);
      std::vector<double> out(n * p);
      // the least of many: other work on the machine comes and goes
      double best = HUGE_VAL;
      for (int k = 0; k < 9; ++k) {
        const double began = seconds();
        halfulp::vmf::sample(d, 42, out, 0, 1);
        best = std::fmin(best, seconds() - began);
      }
      long double worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        long double s = 0;
        for (std::size_t j = 0; j < p; ++j)
          s += static_cast<long double>(out[i * p + j]) * out[i * p + j];
        worst = std::max(worst, std::abs(std::sqrt(s) - 1));
      }
      rows.push_back({{"p", p},
                      {"kappa", kappa},
                      {"samples", n},
                      {"samples_per_second", static_cast<double>(n) / best},
                      {"ns_per_number", best / static_cast<double>(n * p) * 1e9},
                      {"norm_error_u", static_cast<double>(worst * 0x1p53L)}});
    }
  const halfulp::Info info = halfulp::info();
  std::cout << json{{"schema", 1},
                    {"numbers", numbers},
                    {"compiler", info.compiler},
                    {"instruction_sets", info.instruction_sets},
                    {"rows", rows}}
                   .dump(1)
            << '\n';
}
