// Every positive finite float x at 16 orders: log I_v(x) and log K_v(x) in single precision against
// a reference of its own. On each quarter of a binade Arb gives the values at Chebyshev's nodes and
// the interpolant, in double precision, the reference; next to a zero of the logarithm, where that
// has no relative accuracy, Arb gives each value itself. Arb alone would take years.
//
//     exhaustive_bessel_float [--stride N] [--orders N] [--scaled]
//
// --stride N looks at each Nth x, --orders N at the first N orders. Prints a line for each order
// and kind and the machine; exit code 1 if an error is above one unit in the last place.
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "../oracle/bessel_arb.hpp"
#include "halfulp/bessel.hpp"

namespace {

using bessel_arb::Ball;
using halfulp::BesselFunction;

// integers, half-integers, small, large, and between; as floats
constexpr float orders[] = {0,     1,    0.5F,  2.75F, 10,       31.5F,  100.3F, 1e-6F,
                            0.25F, 5.1F, 19.9F, 40.6F, 63.0625F, 500.5F, 1e4F,   1e6F};
constexpr int nodes = 14;
constexpr std::uint32_t quarter = 1U << 21;  // floats in a quarter of a binade

/// The polynomial through the values at Chebyshev's nodes of the first kind on [low, high].
struct Interpolant {
  double middle, per_half;
  double c[nodes];
  double largest = 0;  // of the values
  double last = 0;     // of the two last coefficients, relative to that

  Interpolant(bessel_arb::Function f, double v, double low, double high)
      : middle(0.5 * (low + high)), per_half(2 / (high - low)) {
    double value[nodes];
    for (int k = 0; k < nodes; ++k) {
      const double x = middle + std::cos(M_PI * (2 * k + 1) / (2 * nodes)) / per_half;
      Ball y;
      if (!bessel_arb::evaluate(y.v, f, v, x)) {
        std::fprintf(stderr, "no reference for v = %g, x = %g\n", v, x);
        std::exit(2);
      }
      value[k] = arf_get_d(arb_midref(y.v), ARF_RND_NEAR);
      largest = std::fmax(largest, std::fabs(value[k]));
    }
    for (int m = 0; m < nodes; ++m) {
      c[m] = 0;
      for (int k = 0; k < nodes; ++k)
        c[m] += value[k] * std::cos(M_PI * ((m * (2 * k + 1)) % (4 * nodes)) / (2 * nodes));
      c[m] *= (m == 0 ? 1.0 : 2.0) / nodes;
    }
    last = std::fmax(std::fabs(c[nodes - 1]), std::fabs(c[nodes - 2])) / largest;
  }

  /// Clenshaw's sum.
  double operator()(double x) const {
    const double s = (x - middle) * per_half, s2 = 2 * s;
    double b1 = 0, b2 = 0;
    for (int m = nodes - 1; m >= 1; --m) {
      const double b = s2 * b1 - b2 + c[m];
      b2 = b1;
      b1 = b;
    }
    return s * b1 - b2 + c[0];
  }
};

double ulp_of_float(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct Outcome {
  double worst = 0;
  float worst_x = 0;
  double last = 0;
  std::int64_t n = 0, by_arb = 0, above = 0;
  void see(float x, double error) {
    ++n;
    above += !(error <= 1);
    if (error <= worst) return;
    worst = error;
    worst_x = x;
  }
};

Outcome examine(BesselFunction f, bessel_arb::Function reference_f, float v, std::uint32_t stride) {
  Outcome outcome;
  std::vector<float> xs, values(quarter);
  const std::uint32_t end = std::bit_cast<std::uint32_t>(FLT_MAX) + 1;
  for (std::uint32_t begin = 1; begin < end;) {
    // up to the next quarter of a binade; the first ones have fewer floats
    std::uint32_t next = (begin / quarter + 1) * quarter;
    if (begin < 4 * quarter) next = std::max(2 * begin, 2U);
    next = std::min(next, end);
    const double low = std::bit_cast<float>(begin), high = std::bit_cast<float>(next - 1);
    xs.clear();
    for (std::uint32_t bits = begin + stride / 2 % (next - begin); bits < next; bits += stride)
      xs.push_back(std::bit_cast<float>(bits));
    halfulp::bessel(f, std::span<const float>(&v, 1), xs, std::span<float>(values).first(xs.size()),
                    {.threads = 1});
    const bool single = next - begin < 16;
    const Interpolant reference(reference_f, v, low, single ? 2 * low : high);
    outcome.last = std::fmax(outcome.last, reference.last);
    for (std::size_t i = 0; i < xs.size(); ++i) {
      double r = reference(xs[i]);
      if (std::fabs(r) < 0x1p-12 * reference.largest) {
        Ball y;
        bessel_arb::evaluate(y.v, reference_f, v, xs[i]);
        r = arf_get_d(arb_midref(y.v), ARF_RND_NEAR);
        ++outcome.by_arb;
      }
      if (std::fabs(r) > FLT_MAX) {  // rounds to infinity or the largest
        outcome.see(xs[i], std::fabs(values[i]) >= FLT_MAX && (values[i] > 0) == (r > 0) ? 0 : 2);
        continue;
      }
      outcome.see(xs[i], std::fabs(static_cast<double>(values[i]) - r) / ulp_of_float(r));
    }
    begin = next;
  }
  return outcome;
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  return "unknown processor";
}

}  // namespace

int main(int argc, char** argv) {
  std::uint32_t stride = 1;
  int count = std::size(orders);
  bool scaled = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--stride" && i + 1 < argc) {
      stride = static_cast<std::uint32_t>(std::max(1, std::atoi(argv[++i])));
    } else if (option == "--orders" && i + 1 < argc) {
      count = std::min(count, std::atoi(argv[++i]));
    } else if (option == "--scaled") {
      scaled = true;
    } else {
      std::fprintf(stderr, "exhaustive_bessel_float [--stride N] [--orders N] [--scaled]\n");
      return 2;
    }
  }
  std::printf("%s; of every %u. float x\n%-6s %12s %14s %12s %9s %9s  %s\n", processor().c_str(),
              stride, "", "v", "x looked at", "worst ulp", "above 1", "by Arb", "worst x");
  bool passed = true;
#pragma omp parallel for schedule(dynamic)
  for (int task = 0; task < 2 * count; ++task) {
    const bool second = task % 2 == 1;
    const float v = orders[task / 2];
    const auto f = second ? (scaled ? BesselFunction::log_k_scaled : BesselFunction::log_k)
                          : (scaled ? BesselFunction::log_i_scaled : BesselFunction::log_i);
    using Reference = bessel_arb::Function;
    const auto reference = second ? (scaled ? Reference::log_k_scaled : Reference::log_k)
                                  : (scaled ? Reference::log_i_scaled : Reference::log_i);
    const Outcome outcome = examine(f, reference, v, stride);
#pragma omp critical
    {
      std::printf("%-6s %12.9g %14lld %12.6f %9lld %9lld  %a\n", second ? "log K" : "log I", v,
                  static_cast<long long>(outcome.n), outcome.worst,
                  static_cast<long long>(outcome.above), static_cast<long long>(outcome.by_arb),
                  outcome.worst_x);
      if (outcome.last > 0x1p-39) {  // an eighth of an ulp where the most is lost to cancellation
        std::printf("  the reference has not converged: %g\n", outcome.last);
        passed = false;
      }
      std::fflush(stdout);
      passed = passed && outcome.above == 0;
    }
    flint_cleanup();
  }
  return passed ? 0 : 1;
}
