#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <memory>

#include "halfulp/bessel.hpp"
#ifdef HALFULP_WITH_CUDA
#include "halfulp/cuda/bessel.hpp"
#endif
#include "halfulp/kernel/bessel.hpp"
#include "halfulp/random.hpp"
#include "validation.hpp"
#ifdef HALFULP_PEER_BOOST
#include <boost/math/special_functions/bessel.hpp>
#endif
#ifdef HALFULP_PEER_GSL
#include <gsl/gsl_errno.h>
#include <gsl/gsl_sf_bessel.h>
#endif

namespace validation {
namespace {

using halfulp::BesselFunction;
using halfulp::BesselMode;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

struct Name {
  BesselFunction function;
  const char* table;
  const char* verb;
  /// The value at x = 0, there at v = 0, at x = inf and at v = inf; include/halfulp/bessel.hpp.
  double zero, zero_order_zero, x_inf, v_inf;
};
const Name names[] = {
    {BesselFunction::log_i, "log_i", "log-i", -inf, 0, inf, -inf},
    {BesselFunction::log_k, "log_k", "log-k", inf, inf, -inf, inf},
    {BesselFunction::log_i_scaled, "log_i_scaled", "log-i-scaled", -inf, 0, -inf, -inf},
    {BesselFunction::log_k_scaled, "log_k_scaled", "log-k-scaled", inf, inf, -inf, inf},
    {BesselFunction::i_ratio, "i_ratio", "ratio-i", 0, 0, 1, 0},
    {BesselFunction::i_ratio_complement, "i_ratio_complement", "ratio-i-complement", 1, 1, 0, 1},
    {BesselFunction::i_ratio_derivative, "i_ratio_derivative", "ratio-i-dx", no_number, 0.5, 0, 0},
    {BesselFunction::k_ratio, "k_ratio", "ratio-k", inf, inf, 1, inf},
    {BesselFunction::k_ratio_complement, "k_ratio_complement", "ratio-k-complement", inf, inf, 0,
     inf},
    {BesselFunction::k_ratio_derivative, "k_ratio_derivative", "ratio-k-dx", -inf, -inf, 0, -inf},
    {BesselFunction::log_i_dx, "log_i_dx", "log-i-dx", inf, 0, 1, inf},
    {BesselFunction::log_k_dx, "log_k_dx", "log-k-dx", -inf, -inf, -1, -inf},
    {BesselFunction::log_i_dv, "log_i_dv", "log-i-dv", -inf, -inf, 0, -inf},
    {BesselFunction::log_k_dv, "log_k_dv", "log-k-dv", inf, 0, 0, inf},
};

// ---- peers ------------------------------------------------------------------------------------

/// The logarithm of a peer's function, or of a ratio of two of its values; what it throws is NaN.
template <class F>
double tried(F f) {
  try {
    return f();
  } catch (const std::exception&) {
    return no_number;
  }
}

std::vector<Peer> peers_of(BesselFunction f) {
  using Bessel = double (*)(double, double);
  const auto value_of = [f](Bessel i, Bessel k) {
    return [=](double v, double x) {
      return tried([&] {
        switch (f) {
          case BesselFunction::log_i:
            return std::log(i(v, x));
          case BesselFunction::log_k:
            return std::log(k(v, x));
          case BesselFunction::i_ratio:
            return i(v + 1, x) / i(v, x);
          case BesselFunction::k_ratio:
            return k(v + 1, x) / k(v, x);
          default:
            return no_number;
        }
      });
    };
  };
  std::vector<Peer> peers;
  if (f != BesselFunction::log_i && f != BesselFunction::log_k && f != BesselFunction::i_ratio &&
      f != BesselFunction::k_ratio)
    return peers;
#ifdef HALFULP_PEER_BOOST
  peers.push_back(
      {"Boost.Math", value_of([](double v, double x) { return boost::math::cyl_bessel_i(v, x); },
                              [](double v, double x) { return boost::math::cyl_bessel_k(v, x); })});
#endif
  peers.push_back(
      {"libstdc++", value_of([](double v, double x) { return std::cyl_bessel_i(v, x); },
                             [](double v, double x) { return std::cyl_bessel_k(v, x); })});
#ifdef HALFULP_PEER_GSL
  if (f == BesselFunction::log_k) {
    gsl_set_error_handler_off();
    peers.push_back({"GSL lnKnu", gsl_sf_bessel_lnKnu});
  }
#endif
  return peers;
}

// ---- identities -------------------------------------------------------------------------------

/// Log-uniform points, the same for any number of threads.
void sample(std::ptrdiff_t n, std::uint64_t seed, Values& v, Values& x) {
  v.resize(static_cast<std::size_t>(n));
  x.resize(v.size());
  halfulp::RandomStream(seed, 0).fill_uniform(v);
  halfulp::RandomStream(seed, 1).fill_uniform(x);
  for (auto& value : v) value = std::exp(std::log(1e-6) + std::log(1e12) * value);
  for (auto& value : x) value = std::exp(std::log(1e-8) + std::log(1e15) * value);
}

Values batch(BesselFunction f, const Values& v, const Values& x, int threads) {
  Values out(v.size());
  halfulp::bessel(f, v, x, out, {.threads = threads});
  return out;
}

double one_ulp(double value) { return std::nextafter(std::fabs(value), inf) - std::fabs(value); }

/// Both values are within an ulp, so that a step back of two is a violation.
std::ptrdiff_t steps_back(const Values& before, const Values& after, int direction) {
  std::ptrdiff_t count = 0;
  for (std::size_t i = 0; i < before.size(); ++i)
    count += !(direction * (after[i] - before[i]) >= -one_ulp(before[i])) ? 1 : 0;
  return count;
}

/// Radii w = sqrt(v^2 + x^2) at which the number of terms or the method changes.
Values seam_radii() {
  Values radii = {36, 40};
  for (int row = 0; row < 22; ++row) radii.push_back(0.25 * std::cbrt(std::ldexp(1.0, row)));
  for (double w = 36; w < 2e4; w *= 1.01) {
    double low = w, high = w * 1.01;
    const auto terms = [](double r) { return halfulp::kernel::bessel_terms(r); };
    if (terms(low) == terms(high)) continue;
    while (std::nextafter(low, high) < high) {
      const double middle = low + (high - low) / 2;
      (terms(middle) == terms(w) ? low : high) = middle;
    }
    radii.push_back(high);
  }
  return radii;
}

/// 2001 neighbouring arguments about every seam, in sixteen directions.
Count monotone_across_seams(BesselFunction f, int direction, const Common& common) {
  constexpr int reach = 1000, angles = 16;
  Count count;
  const auto walk = [&](double v, double x) {
    Values vs(2 * reach + 1, v), xs(vs.size());
    xs[0] = x - reach * (std::nextafter(x, inf) - x);
    for (std::size_t i = 1; i < xs.size(); ++i) xs[i] = std::nextafter(xs[i - 1], inf);
    Values before = batch(f, vs, xs, common.threads);
    const Values after(before.begin() + 1, before.end());
    before.pop_back();
    count.violations += steps_back(before, after, direction);
    count.n += std::ssize(before);
  };
  for (const double w : seam_radii())
    for (int a = 0; a < angles; ++a) {
      const double angle = (a + 0.5) / angles * std::acos(0.0);
      walk(w * std::sin(angle), w * std::cos(angle));
    }
  // by the argument alone: Temme's series ends at 2; and the edges of the cells in angle
  for (int i = 0; i < angles; ++i) {
    walk(2.5 * i, 2);
    walk(2.5 * i, 17);
    for (int j = 1; j < 6; ++j) {
      const double t = j / 6.0, w = 1.3 * (i + 1);
      walk(t * w, std::sqrt((1 - t) * (1 + t)) * w);
      walk(std::sqrt((1 - t) * (1 + t)) * w, t * w);
    }
  }
  return count;
}

/// The worst of the four logarithms where batches use polynomials, in ulp; beside the scalar
/// double-double, which the tables measure.
double worst_in_cells(const Common& common) {
  Values u(100000), angle(u.size()), v(u.size()), x(u.size());
  halfulp::RandomStream(common.seed, 3).fill_uniform(u);
  halfulp::RandomStream(common.seed, 4).fill_uniform(angle);
  for (std::size_t i = 0; i < u.size(); ++i) {
    const double w = 0.25 * std::pow(168, u[i]);
    v[i] = w * std::sin(halfulp::kernel::half_pi().hi * angle[i]);
    x[i] = w * std::cos(halfulp::kernel::half_pi().hi * angle[i]);
  }
  double worst = 0;
  for (const bool scaled : {false, true})
    for (const bool second : {false, true}) {
      const Values value =
          batch(second   ? scaled ? BesselFunction::log_k_scaled : BesselFunction::log_k
                : scaled ? BesselFunction::log_i_scaled
                         : BesselFunction::log_i,
                v, x, common.threads);
      for (std::size_t i = 0; i < v.size(); ++i) {
        const halfulp::kernel::BesselLog exact =
            second ? halfulp::kernel::bessel_log_k(v[i], x[i], scaled)
                   : halfulp::kernel::bessel_log_i(v[i], x[i], scaled);
        const double size = std::fabs(exact.value.hi), ulp = std::nextafter(size, inf) - size;
        if (exact.error > 0x1p-10 * ulp) continue;  // next to a zero
        const double error = std::fabs((value[i] - exact.value.hi) - exact.value.lo) / ulp;
        if (!(error <= worst)) worst = error;
      }
    }
  return worst;
}

void add_identities(Registry& registry) {
  const auto monotone = [&](const char* name, BesselFunction f, bool in_v, int direction) {
    registry.identities.push_back(
        {"bessel", name, [=](std::ptrdiff_t n, const Common& common) {
           Values v, x;
           sample(n, common.seed, v, x);
           const Values before = batch(f, v, x, common.threads);
           const halfulp::RandomStream random(common.seed, 2);
           std::uint64_t index = 0;
           for (auto& value : in_v ? v : x) value *= 1 + std::exp(-36 * random.uniform(index++));
           return Count{n, steps_back(before, batch(f, v, x, common.threads), direction)};
         }});
  };
  monotone("log I falls in v", BesselFunction::log_i, true, -1);
  monotone("log I rises in x", BesselFunction::log_i, false, 1);
  monotone("log K rises in v", BesselFunction::log_k, true, 1);
  monotone("log K falls in x", BesselFunction::log_k, false, -1);
  registry.identities.push_back({"bessel", "log I rises across every seam, +-1000 doubles",
                                 [](std::ptrdiff_t, const Common& common) {
                                   return monotone_across_seams(BesselFunction::log_i, 1, common);
                                 }});
  registry.identities.push_back({"bessel", "log K falls across every seam, +-1000 doubles",
                                 [](std::ptrdiff_t, const Common& common) {
                                   return monotone_across_seams(BesselFunction::log_k, -1, common);
                                 }});
  registry.identities.push_back(
      {"bessel", "Wronskian: x I K (ratio K + ratio I) = 1",
       [](std::ptrdiff_t n, const Common& common) {
         Values v, x;
         sample(n, common.seed, v, x);
         const Values i = batch(BesselFunction::log_i, v, x, common.threads);
         const Values k = batch(BesselFunction::log_k, v, x, common.threads);
         const Values ri = batch(BesselFunction::i_ratio, v, x, common.threads);
         const Values rk = batch(BesselFunction::k_ratio, v, x, common.threads);
         Count count{n, 0};
         for (std::size_t j = 0; j < v.size(); ++j) {
           const double sum = std::log(x[j]) + std::log(ri[j] + rk[j]) + i[j] + k[j];
           const double size = 1 + std::fabs(i[j]) + std::fabs(std::log(x[j]));
           count.violations += !(std::fabs(sum) <= 8 * 0x1p-53 * size) ? 1 : 0;
         }
         return count;
       }});
  const auto recurrence = [&](const char* name, bool second) {
    registry.identities.push_back(
        {"bessel", name, [second](std::ptrdiff_t n, const Common& common) {
           Values v, x;
           sample(n, common.seed, v, x);
           for (auto& order : v) order = (1 + order) - 1;  // so that v + 1 is exact
           Values above = v;
           for (auto& order : above) order += 1;
           const auto f = second ? BesselFunction::k_ratio : BesselFunction::i_ratio;
           const Values at = batch(f, v, x, common.threads);
           const Values next = batch(f, above, x, common.threads);
           Count count{n, 0};
           for (std::size_t j = 0; j < v.size(); ++j) {
             const double step = 2 * above[j] / x[j];
             const double a = second ? next[j] : 1 / at[j];
             const double b = second ? step + 1 / at[j] : step + next[j];
             count.violations += !(std::fabs(a - b) <= 8 * 0x1p-53 * a) ? 1 : 0;
           }
           return count;
         }});
  };
  recurrence("I_v/I_{v+1} = 2 (v + 1)/x + I_{v+2}/I_{v+1}", false);
  recurrence("K_{v+2}/K_{v+1} = 2 (v + 1)/x + K_v/K_{v+1}", true);
}

// ---- special values ---------------------------------------------------------------------------

/// Size of a value to within a few per cent where it is large: one beyond the range of double is
/// infinite.
long double size_of(BesselFunction f, double v, double x) {
  const long double a = v, b = x, order = std::fmax(v, 1e-3);
  switch (f) {
    case BesselFunction::log_i:
    case BesselFunction::log_k:
    case BesselFunction::log_i_scaled:
    case BesselFunction::log_k_scaled:
      return b + a * std::fabs(std::log(2 * (a + 1) / b));
    case BesselFunction::k_ratio:
    case BesselFunction::k_ratio_complement:
      return 1 + 2 * order / b;
    case BesselFunction::log_i_dx:
      return 1 + a / b;
    case BesselFunction::log_k_dx:
      return 1 + order / b;
    case BesselFunction::k_ratio_derivative:
      return 1 + 2 * order / b / b;
    default:
      return 1 + std::fabs(std::log(b)) + std::log(a + 1);
  }
}

void add_special_values(Registry& registry) {
  const Values grid = {0,   5e-324, 0x1p-1022, 1e-300, 0.5,      1, std::nextafter(1, 2),
                       1e6, 1e15,   1e308,     inf,    no_number};
  for (const Name& name : names)
    registry.special_values.push_back(
        {"bessel", name.verb, grid, grid,
         [f = name.function](double v, double x) { return halfulp::bessel(f, v, x); },
         [name](double v, double x) -> std::optional<double> {
           const BesselFunction f = name.function;
           if (std::isnan(v) || std::isnan(x) || (v == inf && x == inf)) return no_number;
           if (v == inf) return name.v_inf;
           if (x == inf) return name.x_inf;
           if (x == 0) {
             if (v == 0) return name.zero_order_zero;
             if (f == BesselFunction::i_ratio_derivative) return 0.5 / (v + 1);
             return name.zero;
           }
           if (size_of(f, v, x) > static_cast<long double>(std::numeric_limits<double>::max()))
             return name.zero;
           return std::nullopt;
         }});
}

/// Every function by `bessel(f, v, x, out, mode, threads)`, which computes on `device`.
template <class Bessel>
void add_functions(Registry& registry, const std::string& device, Bessel bessel) {
  const bool cpu = device == "cpu";
  const std::string suffix = cpu ? "" : " --device " + device;
  for (const Name& name : names) {
    const std::string table = std::string("bessel_") + name.table;
    const std::string verb = std::string("bessel ") + name.verb;
    const bool logarithm = name.function <= BesselFunction::log_k_scaled;
    const auto in_double = [f = name.function, bessel](BesselMode mode) {
      return [f, bessel, mode](const Values& v, const Values& x, Values& out, int threads) {
        bessel(f, std::span<const double>(v), std::span<const double>(x), std::span<double>(out),
               mode, threads);
      };
    };
    registry.entries.push_back({.module = "bessel",
                                .verb = verb + suffix,
                                .device = device,
                                .table = table,
                                .budget = table,
                                // a device has no path in more digits than double-double
                                .least_share = logarithm && !cpu ? 0x1p-45 : 0,
                                .evaluate = in_double(BesselMode::accurate),
                                .peers = cpu ? peers_of(name.function) : std::vector<Peer>{}});
    if (logarithm)
      registry.entries.push_back({.module = "bessel",
                                  .verb = verb + " --mode fast" + suffix,
                                  .device = device,
                                  .table = table,
                                  .budget = "bessel_log_fast",
                                  .metric = Metric::mixed,
                                  .most_v = 1e6,
                                  .evaluate = in_double(BesselMode::fast),
                                  .peers = {}});
    registry.entries.push_back(
        {.module = "bessel",
         .verb = verb + " --float" + suffix,
         .type = "float",
         .device = device,
         .table = table,
         .budget = "bessel_float",
         .evaluate =
             [f = name.function, bessel](const Values& v, const Values& x, Values& out,
                                         int threads) {
               const std::vector<float> vf(v.begin(), v.end()), xf(x.begin(), x.end());
               std::vector<float> rounded(v.size());
               bessel(f, std::span<const float>(vf), std::span<const float>(xf),
                      std::span<float>(rounded), BesselMode::accurate, threads);
               std::copy(rounded.begin(), rounded.end(), out.begin());
             },
         .peers = {}});
  }
}

}  // namespace

void register_bessel(Registry& registry) {
  add_functions(registry, "cpu",
                [](BesselFunction f, auto v, auto x, auto out, BesselMode mode, int threads) {
                  halfulp::bessel(f, v, x, out, {.mode = mode, .threads = threads});
                });
#ifdef HALFULP_WITH_CUDA
  if (halfulp::cuda::device_count() > 0)
    add_functions(registry, "cuda",
                  [](BesselFunction f, auto v, auto x, auto out, BesselMode mode, int) {
                    halfulp::cuda::bessel(f, v, x, out, mode);
                  });
#endif
  registry.measurements.push_back({"bessel", "accurate batches beside double-double, w < 42",
                                   "bessel_log_i", "ulp", worst_in_cells});
  add_identities(registry);
  add_special_values(registry);
}

}  // namespace validation
