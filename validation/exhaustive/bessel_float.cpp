// Every positive finite float x at 16 orders: log I_v(x) and log K_v(x) in single precision against
// a reference of its own. On each quarter of a binade Arb gives the values at Chebyshev's nodes and
// the interpolant, in double precision, the reference; next to a zero of the logarithm, where that
// has no relative accuracy, Arb gives each value itself. Arb alone would take years.
//
//     exhaustive_bessel_float [--stride N] [--orders N] [--scaled] [--tasks A:B] [--csv FILE]
//
// --stride N looks at each Nth x, --orders N at the first N orders. A task is an order and a kind,
// 2 k and 2 k + 1 are log I and log K at order k; --tasks A:B does those from A to before B. With
// --csv FILE a row is added to FILE as each is done, and what FILE has is not done again: a run can
// be cut and gone on (validation/exhaustive/table.py writes the table of docs/bessel.md from it).
// Prints a line for each task, to standard error how far each is, and the machine; exit code 1 if
// an error is above one unit in the last place.
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "../oracle/bessel_arb.hpp"
#include "halfulp/bessel.hpp"
#include "halfulp/info.hpp"

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

  /// r[i] = Clenshaw's sum at x[i], several at a time for the compiler's vectors.
  static constexpr int together = 8;
  void operator()(const float* x, double* r) const {
    double s[together], twice[together], b1[together] = {}, b2[together] = {};
    for (int i = 0; i < together; ++i) {
      s[i] = (static_cast<double>(x[i]) - middle) * per_half;
      twice[i] = 2 * s[i];
    }
    for (int m = nodes - 1; m >= 1; --m)
      for (int i = 0; i < together; ++i) {
        const double b = twice[i] * b1[i] - b2[i] + c[m];
        b2[i] = b1[i];
        b1[i] = b;
      }
    for (int i = 0; i < together; ++i) r[i] = s[i] * b1[i] - b2[i] + c[0];
  }
};

/// One unit in the last place of a float at |value| <= FLT_MAX.
double ulp_of_float(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value) & 0x7ff0000000000000ULL;
  return std::max(std::bit_cast<double>(bits) * 0x1p-23, 0x1p-149);
}

struct Outcome {
  double worst = 0;
  float worst_x = 0;
  double last = 0, seconds = 0;
  std::int64_t n = 0, by_arb = 0, above = 0;
  void see(float x, double error) {
    above += !(error <= 1);
    if (error <= worst) return;
    worst = error;
    worst_x = x;
  }
};

struct Task {
  const char* name;
  BesselFunction f;
  bessel_arb::Function reference;
  float v;
};

Task task_of(int number, bool scaled) {
  using Reference = bessel_arb::Function;
  const float v = orders[number / 2];
  if (number % 2 == 0)
    return scaled ? Task{"log-i-scaled", BesselFunction::log_i_scaled, Reference::log_i_scaled, v}
                  : Task{"log-i", BesselFunction::log_i, Reference::log_i, v};
  return scaled ? Task{"log-k-scaled", BesselFunction::log_k_scaled, Reference::log_k_scaled, v}
                : Task{"log-k", BesselFunction::log_k, Reference::log_k, v};
}

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// The errors of n values at x, n a multiple of the interpolant's vectors.
void compare(const Task& task, const Interpolant& reference, const float* x, const float* values,
             int n, Outcome& outcome) {
  constexpr int together = Interpolant::together;
  const double smallest = 0x1p-12 * reference.largest;
  for (int begin = 0; begin < n; begin += together) {
    double r[together], error[together];
    reference(x + begin, r);
    int unusual = 0;
    for (int i = 0; i < together; ++i) {
      const double size = std::fabs(r[i]);
      error[i] = std::fabs(static_cast<double>(values[begin + i]) - r[i]) / ulp_of_float(r[i]);
      unusual |= !(size >= smallest) | !(size <= FLT_MAX) | !(error[i] <= outcome.worst);
    }
    if (unusual == 0) continue;
    for (int i = begin; i < begin + together; ++i) {
      double y = r[i - begin];
      if (std::fabs(y) < smallest) {
        Ball ball;
        bessel_arb::evaluate(ball.v, task.reference, task.v, x[i]);
        y = arf_get_d(arb_midref(ball.v), ARF_RND_NEAR);
        ++outcome.by_arb;
      }
      if (std::fabs(y) > FLT_MAX)  // rounds to infinity or the largest
        outcome.see(x[i], std::fabs(values[i]) >= FLT_MAX && (values[i] > 0) == (y > 0) ? 0 : 2);
      else
        outcome.see(x[i], std::fabs(static_cast<double>(values[i]) - y) / ulp_of_float(y));
    }
  }
}

Outcome examine(const Task& task, std::uint32_t stride) {
  constexpr int chunk = 1 << 15;
  constexpr int padding = Interpolant::together;
  Outcome outcome;
  const double start = seconds();
  std::vector<float> x(chunk + padding), values(chunk + padding);
  const std::uint32_t end = std::bit_cast<std::uint32_t>(FLT_MAX) + 1;
  std::uint32_t tenth = 1;
  for (std::uint32_t begin = 1; begin < end;) {
    // up to the next quarter of a binade; the first ones have fewer floats
    std::uint32_t next = (begin / quarter + 1) * quarter;
    if (begin < 4 * quarter) next = std::max(2 * begin, 2U);
    next = std::min(next, end);
    const double low = std::bit_cast<float>(begin), high = std::bit_cast<float>(next - 1);
    const bool single = next - begin < 16;
    const Interpolant reference(task.reference, task.v, low, single ? 2 * low : high);
    outcome.last = std::fmax(outcome.last, reference.last);
    for (std::uint32_t bits = begin + stride / 2 % (next - begin); bits < next;) {
      const auto left = static_cast<int>((next - bits + stride - 1) / stride);
      const int n = std::min(left, chunk);
      for (int i = 0; i < n; ++i)
        x[i] = std::bit_cast<float>(bits + static_cast<std::uint32_t>(i) * stride);
      const int padded = (n + padding - 1) / padding * padding;
      std::fill(x.begin() + n, x.begin() + padded, x[n - 1]);
      const auto size = static_cast<std::size_t>(padded);
      halfulp::bessel(task.f, std::span<const float>(&task.v, 1),
                      std::span<const float>(x).first(size), std::span<float>(values).first(size),
                      {.threads = 1});
      compare(task, reference, x.data(), values.data(), padded, outcome);
      outcome.n += n;
      if (n == left) break;
      bits += static_cast<std::uint32_t>(n) * stride;
    }
    begin = next;
    if (begin / (end / 10) < tenth) continue;
    tenth = begin / (end / 10) + 1;
    std::fprintf(stderr, "%s, v = %g: %d %%, %.0f s\n", task.name, task.v,
                 static_cast<int>(100.0 * begin / end), seconds() - start);
  }
  outcome.seconds = seconds() - start;
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
  int first = 0, last = 2 * std::size(orders);
  bool scaled = false;
  std::string csv;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--stride" && i + 1 < argc) {
      stride = static_cast<std::uint32_t>(std::max(1, std::atoi(argv[++i])));
    } else if (option == "--orders" && i + 1 < argc) {
      last = std::min(last, 2 * std::atoi(argv[++i]));
    } else if (option == "--tasks" && i + 1 < argc &&
               std::sscanf(argv[i + 1], "%d:%d", &first, &last) == 2 && first >= 0 &&
               last <= 2 * static_cast<int>(std::size(orders))) {
      ++i;
    } else if (option == "--csv" && i + 1 < argc) {
      csv = argv[++i];
    } else if (option == "--scaled") {
      scaled = true;
    } else {
      std::fprintf(stderr,
                   "exhaustive_bessel_float [--stride N] [--orders N] [--scaled] [--tasks A:B] "
                   "[--csv FILE]\n");
      return 2;
    }
  }
  // a row begins with what its task is
  const auto key = [stride](const Task& task) {
    char text[80];
    std::snprintf(text, sizeof text, "%s,%.9g,%u,", task.name, task.v, stride);
    return std::string(text);
  };
  std::set<std::string> done;
  bool empty = true;
  if (std::ifstream file(csv); file)
    for (std::string line; std::getline(file, line); empty = false)
      for (int task = first; task < last; ++task)
        if (line.starts_with(key(task_of(task, scaled)))) done.insert(key(task_of(task, scaled)));
  if (!csv.empty() && empty)
    std::ofstream(csv) << "function,v,stride,x,worst_ulp,worst_x,above_1,by_arb,cpu_seconds,"
                          "compiler,instruction_set,processor\n";
  const halfulp::Info info = halfulp::info();
  std::printf("%s; of every %u. float x\n%-12s %12s %14s %12s %9s %9s %8s  %s\n",
              processor().c_str(), stride, "", "v", "x looked at", "worst ulp", "above 1", "by Arb",
              "seconds", "worst x");
  bool passed = true;
#pragma omp parallel for schedule(dynamic)
  for (int number = first; number < last; ++number) {
    const Task task = task_of(number, scaled);
    if (done.contains(key(task))) continue;
    const Outcome outcome = examine(task, stride);
    const bool converged =
        outcome.last <= 0x1p-39;  // an eighth of an ulp where the most is lost to cancellation
#pragma omp critical
    {
      std::printf("%-12s %12.9g %14lld %12.6f %9lld %9lld %8.0f  %a\n", task.name, task.v,
                  static_cast<long long>(outcome.n), outcome.worst,
                  static_cast<long long>(outcome.above), static_cast<long long>(outcome.by_arb),
                  outcome.seconds, outcome.worst_x);
      if (!converged) std::printf("  the reference has not converged: %g\n", outcome.last);
      std::fflush(stdout);
      if (!csv.empty() && converged) {
        char text[200];
        std::snprintf(text, sizeof text, "%lld,%.6f,%a,%lld,%lld,%.1f,",
                      static_cast<long long>(outcome.n), outcome.worst, outcome.worst_x,
                      static_cast<long long>(outcome.above), static_cast<long long>(outcome.by_arb),
                      outcome.seconds);
        std::ofstream(csv, std::ios::app)
            << key(task) << text << info.compiler << ',' << info.instruction_sets.front() << ','
            << processor() << '\n';
      }
      passed = passed && converged && outcome.above == 0;
    }
    flint_cleanup();
  }
  return passed ? 0 : 1;
}
