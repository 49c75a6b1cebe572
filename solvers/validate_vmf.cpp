#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>

#include "halfulp/bessel.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"
#include "halfulp/vmf.hpp"
#include "validation.hpp"
#ifdef HALFULP_PEER_BOOST
#include <boost/math/special_functions/bessel.hpp>
#endif

namespace validation {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr double largest = std::numeric_limits<double>::max();
constexpr double u = 0x1p-53;
const double log_two_pi = std::log(2 * std::acos(-1.0));

using Function = double (*)(double, double);

/// out[i] = f(p[i], x[i]).
void evaluate(Function f, const Values& p, const Values& x, Values& out, int threads) {
  halfulp::parallel_blocks(
      std::ssize(p), 256, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
          out[i] = f(p[i], x[i]);
      });
}

double kappa_of_length(double p, double length) { return halfulp::vmf::kappa(p, length); }
double kappa_of_complement(double p, double complement) {
  return halfulp::vmf::kappa_complement(p, complement);
}

// ---- peers ------------------------------------------------------------------------------------

/// What it throws is NaN.
template <class F>
double tried(F f) {
  try {
    return f();
  } catch (const std::exception&) {
    return no_number;
  }
}

/// R (p - R^2)/(1 - R^2).
/// @source  Banerjee, Dhillon, Ghosh, Sra (2005), JMLR 6, eq. 4.4
double banerjee(double p, double length) {
  return length * (p - length * length) / (1 - length * length);
}

/// Newton's steps for A_p(kappa) = length with A' = 1 - A^2 - (p - 1) A/kappa, as every package has
/// them.
/// @source  Sra (2012), Computational Statistics 27, eq. 2.5
template <class Ratio>
double newton(double p, double length, int steps, Ratio ratio) {
  double kappa = banerjee(p, length);
  for (int i = 0; i < steps; ++i) {
    const double a = ratio(p / 2 - 1, kappa);
    const double step = (a - length) / (1 - a * a - (p - 1) / kappa * a);
    kappa -= step;
    if (!(std::fabs(step) > u * kappa)) break;
  }
  return kappa;
}

/// I_{v+1}/I_v from its continued fraction (DLMF 10.33.1), backwards from where a term is one part
/// in 1e16.
double ratio_by_fraction(double v, double x) {
  const double terms = 20 + x + 8 * std::sqrt(x);
  if (!(terms < 1e5)) return no_number;
  double ratio = 0;
  for (double k = std::floor(terms); k >= 1; --k) ratio = 1 / (2 * (v + k) / x + ratio);
  return ratio;
}

/// e^-x I_v(x) to the last place, to the smallest number: better than any package has it.
double scaled_bessel(double v, double x) { return std::exp(halfulp::log_bessel_i_scaled(v, x)); }

/// SciPy's fit: a root of I_{p/2}/I_{p/2-1} - R, quotient of scaled functions, in [1e-8, 1e9] to
/// 2e-12
/// + 9e-16 kappa. By bisection, which ends at the same place as Brent's method. 0/0 counts as too
/// small, as its sign bit does there.
double bracketed(double p, double length) {
  double low = 1e-8, high = 1e9;
  const auto defect = [&](double kappa) {
    return scaled_bessel(p / 2, kappa) / scaled_bessel(p / 2 - 1, kappa) - length;
  };
  if (!(defect(high) > 0) || defect(low) >= 0) return no_number;
  while (high - low > 2e-12 + 9e-16 * low) {
    const double middle = low + (high - low) / 2;
    (defect(middle) >= 0 ? high : low) = middle;
  }
  return low;
}

std::vector<Peer> kappa_peers(bool complement) {
  const auto peer = [&](const char* name, auto f) {
    return Peer{name,
                [=](double p, double given) {
                  return tried([&] { return f(p, complement ? 1 - given : given); });
                },
                2e4, inf};
  };
  std::vector<Peer> peers = {
      peer("Sra: two Newton steps on a continued fraction",
           [](double p, double r) { return newton(p, r, 2, ratio_by_fraction); }),
      peer("SciPy's bracketing, with an exact I_v", bracketed)};
#ifdef HALFULP_PEER_BOOST
  peers.push_back(peer("Newton on Boost's I_v", [](double p, double r) {
    return newton(p, r, 30, [](double v, double x) {
      return boost::math::cyl_bessel_i(v + 1, x) / boost::math::cyl_bessel_i(v, x);
    });
  }));
#endif
  return peers;
}

enum class Normaliser { plain, scaled, entropy };

std::vector<Peer> normaliser_peers(Normaliser wanted) {
  // SciPy: v log kappa - (p/2) log(2 pi) - log(e^-kappa I_v) - kappa
  const auto from = [=](double log_scaled, double ratio, double p, double kappa) {
    const double log_c = (p / 2 - 1) * std::log(kappa) - p / 2 * log_two_pi - log_scaled - kappa;
    if (wanted == Normaliser::plain) return log_c;
    return wanted == Normaliser::scaled ? log_c + kappa : -log_c - kappa * ratio;
  };
  std::vector<Peer> peers = {{"SciPy's formula, with an exact I_v", [=](double p, double kappa) {
                                const double at = scaled_bessel(p / 2 - 1, kappa);
                                return from(std::log(at), scaled_bessel(p / 2, kappa) / at, p,
                                            kappa);
                              }}};
#ifdef HALFULP_PEER_BOOST
  peers.push_back({"Boost's I_v", [=](double p, double kappa) {
                     return tried([&] {
                       const double at = boost::math::cyl_bessel_i(p / 2 - 1, kappa);
                       const double above = wanted == Normaliser::entropy
                                                ? boost::math::cyl_bessel_i(p / 2, kappa)
                                                : 0;
                       return from(std::log(at) - kappa, above / at, p, kappa);
                     });
                   }});
#endif
  return peers;
}

// ---- identities -------------------------------------------------------------------------------

/// p log-uniform in [2, 1e6], half of them integers.
Values dimensions(std::ptrdiff_t n, std::uint64_t seed) {
  Values p(static_cast<std::size_t>(n));
  halfulp::RandomStream(seed, 10).fill_uniform(p);
  for (std::size_t i = 0; i < p.size(); ++i) {
    p[i] = 2 * std::exp(std::log(5e5) * p[i]);
    if (i % 2 == 0) p[i] = std::floor(p[i]);
  }
  return p;
}

/// By turns R log-uniform from 1e-8, 1 - R log-uniform from 1e-12, and uniform.
Values lengths(std::ptrdiff_t n, std::uint64_t seed) {
  Values r(static_cast<std::size_t>(n));
  halfulp::RandomStream(seed, 11).fill_uniform(r);
  for (std::size_t i = 0; i < r.size(); ++i) {
    if (i % 3 == 0) r[i] = std::exp(std::log(1e-8) * r[i]);
    if (i % 3 == 1) r[i] = 1 - std::exp(std::log(1e-12) * r[i]);
    r[i] = std::fmin(r[i], 1 - u);
  }
  return r;
}

/// Log-uniform in [1e-8, 1e9].
Values concentrations(std::ptrdiff_t n, std::uint64_t seed) {
  Values kappa(static_cast<std::size_t>(n));
  halfulp::RandomStream(seed, 12).fill_uniform(kappa);
  for (double& k : kappa) k = 1e-8 * std::exp(std::log(1e17) * k);
  return kappa;
}

/// How often `good` is false.
template <class F>
Count count(std::ptrdiff_t n, int threads, F good) {
  Values bad(static_cast<std::size_t>(n));
  halfulp::parallel_blocks(n, 256, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      bad[i] = good(i) ? 0 : 1;
  });
  return {n, static_cast<std::ptrdiff_t>(halfulp::tree_sum(bad))};
}

/// kappa's error of 4 u (1 + condition) in A(kappa) or 1 - A(kappa), and two ulps of that function.
bool returns(double given, double back, double kappa, double derivative) {
  return std::fabs(back - given) <= u * (4 * (given + kappa * derivative) + 4 * given);
}

/// Neighbouring doubles, of which both values are within two ulps, times their condition.
bool rises(double before, double after, double condition) {
  return after >= before - 2 * (1 + condition) * u * before;
}

/// Sums the density over the sphere: trapezoidal rule in s, the cosine t = tanh s.
double total_probability(double p, double kappa) {
  const double log_surface =
      std::log(2) + 0.5 * (p - 1) * std::log(std::acos(-1.0)) - std::lgamma(0.5 * (p - 1));
  const double log_c = halfulp::vmf::log_normaliser_scaled(p, kappa);
  constexpr double h = 1.0 / 64;
  double sum = 0;
  for (int j = -64 * 40; j <= 64 * 40; ++j) {
    const double s = j * h, e = std::exp(-2 * std::fabs(s));
    const double rest = (s >= 0 ? 2 * e : 2) / (1 + e);  // 1 - t
    sum += std::exp(log_surface + log_c - kappa * rest -
                    (p - 1) * (std::fabs(s) + std::log1p(e) - std::log(2)));
  }
  return sum * h;
}

/// Gauss's rule of ten nodes for the integral of A over [a, b].
double integral_of_length(double p, double a, double b) {
  constexpr double node[] = {0x1.30e507891e27ap-3, 0x1.bbcc009016adcp-2, 0x1.5bdb9228de198p-1,
                             0x1.bae995e9cb2f3p-1, 0x1.f2a3e062af2d8p-1};
  constexpr double weight[] = {0x1.2e9de7014d6efp-2, 0x1.13baa7a559bfep-2, 0x1.c0b059d00bc31p-3,
                               0x1.32138c878efe5p-3, 0x1.1115f8b62dc1fp-4};
  double sum = 0;
  for (int i = 0; i < 5; ++i)
    for (const double x : {-node[i], node[i]})
      sum += weight[i] * halfulp::vmf::mean_length(p, 0.5 * (a + b) + 0.5 * (b - a) * x).value;
  return 0.5 * (b - a) * sum;
}

void add_identities(Registry& registry) {
  const auto add = [&](const char* name,
                       std::function<Count(std::ptrdiff_t, const Common&)> check) {
    registry.identities.push_back({"vmf", name, std::move(check)});
  };
  add("A(kappa(R)) = R", [](std::ptrdiff_t n, const Common& common) {
    const Values p = dimensions(n, common.seed), r = lengths(n, common.seed);
    return count(n, common.threads, [&](std::size_t i) {
      const double kappa = halfulp::vmf::kappa(p[i], r[i]);
      const auto back = halfulp::vmf::mean_length(p[i], kappa);
      return returns(r[i], back.value, kappa, back.derivative);
    });
  });
  add("1 - A(kappa) = 1 - R", [](std::ptrdiff_t n, const Common& common) {
    const Values p = dimensions(n, common.seed + 1);
    Values c = lengths(n, common.seed + 1);
    for (double& value : c) value = std::fmax(1 - value, 1e-300);
    return count(n, common.threads, [&](std::size_t i) {
      const double kappa = halfulp::vmf::kappa_complement(p[i], c[i]);
      const auto back = halfulp::vmf::mean_length(p[i], kappa);
      return returns(c[i], back.complement, kappa, back.derivative);
    });
  });
  add("kappa from R and from 1 - R agree", [](std::ptrdiff_t n, const Common& common) {
    const Values p = dimensions(n, common.seed + 2);
    Values r = lengths(n, common.seed + 2);
    return count(n, common.threads, [&](std::size_t i) {
      const double length = r[i] < 0.5 ? 1 - r[i] : r[i];  // 1 - length is exact
      const double kappa = halfulp::vmf::kappa(p[i], length);
      const double other = halfulp::vmf::kappa_complement(p[i], 1 - length);
      const double slope = kappa * halfulp::vmf::mean_length(p[i], kappa).derivative;
      return std::fabs(kappa - other) <= 4 * u * kappa * (2 + 1 / slope);
    });
  });
  const auto monotone = [&](const char* name, Function f, bool complement) {
    add(name, [=](std::ptrdiff_t n, const Common& common) {
      n = std::max<std::ptrdiff_t>(1000, n / 10);
      const Values p = dimensions(n, common.seed + 3);
      const Values r = lengths(n, common.seed + 3);
      return count(n, common.threads, [&](std::size_t i) {
        double low = r[i], high = std::nextafter(low, 1);
        if (complement) high = 1 - r[i], low = std::nextafter(high, 1);  // kappa falls
        const double before = f(p[i], low), after = f(p[i], high);
        const double slope = before * halfulp::vmf::mean_length(p[i], before).derivative;
        return high == 1 || rises(before, after, low / slope);
      });
    });
  };
  monotone("kappa rises in R, neighbouring doubles", kappa_of_length, false);
  monotone("kappa falls in 1 - R, neighbouring doubles", kappa_of_complement, true);
  // W = T/m, m = (p - 1)/2, T = (1 - R^2)/(1 + R^2): the seams in W; and that of A at distance 36
  add("kappa rises across seams, +-1000 doubles", [](std::ptrdiff_t, const Common& common) {
    constexpr int reach = 1000, lines = 64;
    return count(2 * lines * reach * 2, common.threads, [&](std::size_t i) {
      const auto line = static_cast<int>(i / (2 * reach));
      const double share = (line % lines + 0.5) / lines;
      double p = 0, r = 0;
      if (line < lines) {  // edges of rows of cells, the last of them where the series begins
        const double w = 2 * std::cbrt(std::ldexp(1.0, -1 - line % 17));
        const double t = w / 2 + share * (1 - w / 2);
        p = 2 * t / w + 1, r = std::sqrt((1 - t) / (1 + t));
      } else {
        const double v = 36 * share;
        p = 2 * v + 2, r = halfulp::vmf::mean_length(p, std::sqrt((36 - v) * (36 + v))).value;
      }
      const double ulp = std::nextafter(r, 1) - r;
      r += (static_cast<int>(i % (2 * reach)) - reach) * ulp;
      const double before = halfulp::vmf::kappa(p, r), after = halfulp::vmf::kappa(p, r + ulp);
      const double slope = before * halfulp::vmf::mean_length(p, before).derivative;
      return rises(before, after, r / slope);
    });
  });
  add("log C(a) - log C(b) = integral of A", [](std::ptrdiff_t n, const Common& common) {
    n = std::max<std::ptrdiff_t>(1000, n / 10);
    const Values p = dimensions(n, common.seed + 4), a = concentrations(n, common.seed + 4);
    return count(n, common.threads, [&](std::size_t i) {
      const double b = 1.5 * a[i];
      const double at_a = halfulp::vmf::log_normaliser(p[i], a[i]);
      const double at_b = halfulp::vmf::log_normaliser(p[i], b);
      const double integral = integral_of_length(p[i], a[i], b);
      return std::fabs(at_a - at_b - integral) <=
             8 * u * (2 + std::fabs(at_a) + std::fabs(at_b) + integral);
    });
  });
  add("H = kappa (1 - A) - log C - kappa", [](std::ptrdiff_t n, const Common& common) {
    const Values p = dimensions(n, common.seed + 5), kappa = concentrations(n, common.seed + 5);
    return count(n, common.threads, [&](std::size_t i) {
      const double h = halfulp::vmf::entropy(p[i], kappa[i]);
      const double top = halfulp::vmf::log_normaliser_scaled(p[i], kappa[i]);
      const double lack = kappa[i] * halfulp::vmf::mean_length(p[i], kappa[i]).complement;
      return std::fabs(h - (lack - top)) <= 8 * u * (2 + std::fabs(h) + std::fabs(top) + lack);
    });
  });
  add("the entropy at 0 is log of the surface", [](std::ptrdiff_t n, const Common& common) {
    n = std::max<std::ptrdiff_t>(1000, n / 10);
    const Values p = dimensions(n, common.seed + 6);
    return count(n, 1, [&](std::size_t i) {  // lgamma writes signgam
      const double a = 0.5 * p[i] * std::log(std::acos(-1.0)), b = std::lgamma(0.5 * p[i]);
      const double h = halfulp::vmf::entropy(p[i], 0);
      return std::fabs(h - (std::log(2) + a - b)) <= 8 * u * (1 + a + std::fabs(b)) &&
             h == -halfulp::vmf::log_normaliser(p[i], 0);
    });
  });
  add("the density sums to 1, p <= 100", [](std::ptrdiff_t n, const Common& common) {
    n = std::max<std::ptrdiff_t>(1000, n / 1000);
    const Values p = dimensions(n, common.seed + 7), kappa = concentrations(n, common.seed + 7);
    return count(n, 1, [&](std::size_t i) {
      const double dimension = std::fmin(p[i], 2 + std::fmod(p[i], 98));
      const double k = std::fmin(kappa[i], 1e4 * std::fmod(kappa[i], 1));
      const double size =
          dimension * 4 + std::fabs(halfulp::vmf::log_normaliser_scaled(dimension, k));
      return std::fabs(total_probability(dimension, k) - 1) <= 16 * u * (1 + size);
    });
  });
}

// ---- special values ---------------------------------------------------------------------------

const Values special_dimensions = {
    no_number, -inf,  0,  std::nextafter(2, 0), 2, std::nextafter(2, 3), 2.5, 3, 18.7, 1024, 1e6,
    1e15,      1e200, inf};

void add_special_values(Registry& registry) {
  const Values lengths = {no_number, -inf, -0.5,  -5e-324, 0,         5e-324, 0x1p-1022,
                          1e-300,    0.5,  1 - u, 1,       1 + 2 * u, 2,      inf};
  const auto concentration = [&](const char* name, Function f, bool complement) {
    registry.special_values.push_back(
        {"vmf",
         name,
         special_dimensions,
         lengths,
         f,
         [complement](double p, double given) -> std::optional<double> {
           if (!(p >= 2 && p <= largest) || !(given >= 0 && given <= 1)) return no_number;
           if (given == (complement ? 1 : 0)) return 0;
           if (given == (complement ? 0 : 1)) return inf;
           // (p - 1)/(2 (1 - R)) where R is next to 1
           const long double lack = complement ? given : 1 - static_cast<long double>(given);
           const long double size = (static_cast<long double>(p) - lack) / 2 / lack;
           if (size > static_cast<long double>(largest) && lack < 1e-9L) return inf;
           return std::nullopt;
         },
         {"p", complement ? "complement" : "R"}});
  };
  concentration("vmf kappa", kappa_of_length, false);
  concentration("vmf kappa of 1 - R", kappa_of_complement, true);
  const Values concentrations = {no_number, -inf, -5e-324, 0,    5e-324, 0x1p-1022, 1e-300,
                                 0.5,       36,   1e6,     1e18, 1e300,  1e308,     inf};
  const auto function = [&](const char* name, Function f, double at_infinity) {
    registry.special_values.push_back({"vmf",
                                       name,
                                       special_dimensions,
                                       concentrations,
                                       f,
                                       [=](double p, double kappa) -> std::optional<double> {
                                         if (!(p >= 2 && p <= largest) || !(kappa >= 0))
                                           return no_number;
                                         if (kappa == inf) return at_infinity;
                                         return std::nullopt;
                                       },
                                       {"p", "kappa"}});
  };
  using namespace halfulp::vmf;
  function("vmf log-normaliser", log_normaliser, -inf);
  function("vmf log-normaliser --scaled", log_normaliser_scaled, inf);
  function("vmf entropy", entropy, -inf);
  registry.special_values.push_back(
      {"vmf",
       "vmf mean length",
       special_dimensions,
       concentrations,
       [](double p, double kappa) { return mean_length(p, kappa).value; },
       [](double p, double kappa) -> std::optional<double> {
         if (!(p >= 2 && p <= largest) || !(kappa >= 0)) return no_number;
         if (kappa == 0 || kappa == inf) return kappa == 0 ? 0 : 1;
         return std::nullopt;
       },
       {"p", "kappa"}});
}

double log10_dimension(double p, double) { return std::log10(p); }

}  // namespace

void register_vmf(Registry& registry) {
  const Axis across = {"p", 0, 7, log10_dimension};
  const auto function = [&](const char* verb, const char* table, Function f, Normaliser kind) {
    registry.entries.push_back(
        {.module = "vmf",
         .verb = verb,
         .table = table,
         .arguments = {"p", "kappa"},
         .budget = table,
         .metric = Metric::mixed,
         .evaluate = [f](const Values& p, const Values& kappa, Values& out,
                         int threads) { evaluate(f, p, kappa, out, threads); },
         .peers = normaliser_peers(kind),
         .across = across,
         .up = {"kappa", -12, 20,
                [](double, double kappa) { return std::log10(std::fmax(kappa, 1e-300)); }},
         .along = {"√((p/2 - 1)² + kappa²)", -0.5, 4.5, [](double p, double kappa) {
                     return std::log10(std::hypot(0.5 * p - 1, kappa));
                   }}});
  };
  using namespace halfulp::vmf;
  function("vmf log-normaliser", "vmf_log_normaliser", log_normaliser, Normaliser::plain);
  function("vmf log-normaliser --scaled", "vmf_log_normaliser_scaled", log_normaliser_scaled,
           Normaliser::scaled);
  function("vmf entropy", "vmf_entropy", entropy, Normaliser::entropy);
  const auto concentration = [&](const char* verb, const char* table, bool complement) {
    registry.entries.push_back(
        {.module = "vmf",
         .verb = verb,
         .table = table,
         .arguments = {"p", complement ? "complement" : "R"},
         .budget = "vmf_kappa",
         .metric = Metric::conditioned,
         .evaluate =
             [complement](const Values& p, const Values& given, Values& out, int threads) {
               if (complement)
                 halfulp::vmf::kappa_complement(p, given, out, threads);
               else
                 halfulp::vmf::kappa(p, given, out, threads);
             },
         .peers = kappa_peers(complement),
         .across = across,
         .up = {"R/(1 - R)", -16, 16,
                [complement](double, double given) {
                  const double odds = std::log10(given / (1 - given));
                  return complement ? -odds : odds;
                }},
         .along = {"T/m, m = (p - 1)/2, T = (1 - R²)/(1 + R²)", -2, 0.5,
                   [complement](double p, double given) {
                     const double lack = complement ? given : 1 - given;  // 1 - R
                     const double square = (1 - lack) * (1 - lack);
                     return std::log10(2 * lack * (2 - lack) / (1 + square) / (p - 1));
                   }}});
  };
  concentration("vmf kappa", "vmf_kappa", false);
  concentration("vmf kappa --complement", "vmf_kappa_complement", true);
  add_identities(registry);
  add_special_values(registry);
}

}  // namespace validation
