#include "halfulp/vmf.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "detail/require.hpp"
#include "detail/vmf.hpp"
#include "halfulp/kernel/vmf.hpp"

namespace halfulp {

void detail::require_distribution(std::string_view function, std::string_view argument,
                                  const vmf::Distribution& distribution) {
  const std::string name(argument);
  const auto& mu = distribution.mu;
  require(mu.size() >= 2, function, name + ".mu.size()", mu.size(), ">= 2");
  require_finite(function, name + ".mu", mu);
  double square = 0;
  for (const double m : mu) square += m * m;
  require(std::fabs(std::sqrt(square) - 1) <= direction_tolerance, function, "|" + name + ".mu|",
          std::sqrt(square), "1");
  require(distribution.kappa >= 0 && distribution.kappa <= kernel::largest, function,
          name + ".kappa", distribution.kappa, ">= 0 and finite");
}

}  // namespace halfulp

namespace halfulp::vmf {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// sum of (1 - t) f(t) over [0, 1] by Gauss's rule, for a smooth positive f.
template <class F>
double integrate_falling(F f) {
  // 10 nodes and weights of [-1, 1], positive half
  constexpr double node[] = {0x1.30e507891e27ap-3, 0x1.bbcc009016adcp-2, 0x1.5bdb9228de198p-1,
                             0x1.bae995e9cb2f3p-1, 0x1.f2a3e062af2d8p-1};
  constexpr double weight[] = {0x1.2e9de7014d6efp-2, 0x1.13baa7a559bfep-2, 0x1.c0b059d00bc31p-3,
                               0x1.32138c878efe5p-3, 0x1.1115f8b62dc1fp-4};
  double sum = 0;
  for (int i = 0; i < 5; ++i) {
    const double a = 0.5 * (1 - node[i]), b = 0.5 * (1 + node[i]);
    sum += 0.5 * weight[i] * (b * f(a) + a * f(b));
  }
  return sum;
}

bool valid(double p, double kappa) { return p >= 2 && kappa >= 0 && p <= kernel::largest; }

}  // namespace

double log_normaliser(double p, double kappa) {
  if (!valid(p, kappa)) return nan;
  if (kappa > kernel::largest) return -infinity;
  return kernel::vmf_log_normaliser(0.5 * p - 1, kappa, false).hi;
}

double log_normaliser_scaled(double p, double kappa) {
  if (!valid(p, kappa)) return nan;
  if (kappa > kernel::largest) return infinity;
  return kernel::vmf_log_normaliser(0.5 * p - 1, kappa, true).hi;
}

BesselRatio mean_length(double p, double kappa) {
  if (!valid(p, kappa)) return {nan, nan, nan};
  return bessel_i_ratio(0.5 * p - 1, kappa);
}

double entropy(double p, double kappa) {
  if (!valid(p, kappa)) return nan;
  if (kappa > kernel::largest) return -infinity;
  return kernel::vmf_entropy(0.5 * p - 1, kappa).hi;
}

double kl(const Distribution& a, const Distribution& b) {
  detail::require_distribution("vmf::kl", "a", a);
  detail::require_distribution("vmf::kl", "b", b);
  detail::require_size("vmf::kl", "b.mu", std::ssize(b.mu), std::ssize(a.mu));
  const auto p = static_cast<double>(a.mu.size());
  const double v = 0.5 * p - 1;
  // 2 (1 - cosine) = (|mu_a - mu_b|^2 - (|mu_a| - |mu_b|)^2)/(|mu_a| |mu_b|): norms are 1 only
  // nearly
  dd squares, norms, square_a, square_b;
  for (std::size_t i = 0; i < a.mu.size(); ++i) {
    const double d = a.mu[i] - b.mu[i];
    squares = squares + kernel::two_prod(d, d);
    norms = norms + kernel::two_prod(d, a.mu[i] + b.mu[i]);
    square_a = square_a + kernel::two_prod(a.mu[i], a.mu[i]);
    square_b = square_b + kernel::two_prod(b.mu[i], b.mu[i]);
  }
  const double norm_a = std::sqrt(square_a.hi), norm_b = std::sqrt(square_b.hi);
  const double difference_of_norms = norms.hi / (norm_a + norm_b);
  const double chord =
      std::fmax(0, squares.hi - difference_of_norms * difference_of_norms) / (norm_a * norm_b);
  const BesselRatio length = bessel_i_ratio(v, a.kappa);
  // log C(a) - log C(b) + (kappa_a - kappa_b) A(a), the integral of (kappa_b - k) A'(k)
  const double step = b.kappa - a.kappa;
  double radial = 0;
  if (std::fabs(step) <= 0.375 * std::fmax(a.kappa, 0.5 * p)) {
    radial = step * step * integrate_falling([&](double t) {
               return bessel_i_ratio(v, a.kappa + t * step).derivative;
             });
  } else {
    const dd difference =
        kernel::vmf_log_normaliser(v, a.kappa, true) - kernel::vmf_log_normaliser(v, b.kappa, true);
    radial = (difference + kernel::two_sum(b.kappa, -a.kappa) * length.complement).hi;
  }
  return radial + b.kappa * length.value * (0.5 * chord);
}

}  // namespace halfulp::vmf
