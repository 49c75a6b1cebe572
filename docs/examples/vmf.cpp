// Directions in three dimensions: a fit with its errors, an interval, a test, densities.
#include <cstdio>
#include <halfulp/vmf.hpp>
#include <vector>

int main() {
  // Seven vectors of any length: only where they point matters.
  const std::vector<double> points = {0.9, 0.1, 0.4, 1.7, 0.5, 0.6,  0.8, -0.1, 0.5, 2.4, 0.3,
                                      1.5, 0.7, 0.2, 0.1, 1.0, -0.2, 0.3, 0.5,  0.1, 0.3};
  const halfulp::vmf::Fit fit =
      halfulp::vmf::fit(points, 3, {{.normalise = true}, halfulp::vmf::BiasCorrection::marginal});
  const auto& mu = fit.distribution.mu;
  std::printf("mu = (%.3f, %.3f, %.3f) +- %.3f rad\n", mu[0], mu[1], mu[2], fit.direction_error);
  std::printf("kappa = %.2f +- %.2f", fit.distribution.kappa, fit.kappa_error);
  const auto [lower, upper] = halfulp::vmf::kappa_interval(fit.resultant, 3);
  std::printf(", with 95%% in [%.2f, %.2f]\n", lower, upper);
  std::printf("p-value of uniformity: %.2g\n", halfulp::vmf::uniformity(fit.resultant, 3).p_value);

  std::vector<double> density(points.size() / 3);
  halfulp::vmf::log_density(fit.distribution, points, density, {.normalise = true});
  std::printf("log-density of the first: %.4f\n", density[0]);
  return lower < fit.distribution.kappa && fit.distribution.kappa < upper ? 0 : 1;
}
