// log I and log K one by one and in a batch, and the concentration of a mean resultant length.
#include <cstdio>
#include <halfulp/bessel.hpp>
#include <vector>

int main() {
  // I_1023.5(800) itself is 2.9e88; at v = 1e6 it would be far out of range.
  std::printf("log I = %.17g\n", halfulp::log_bessel_i(1023.5, 800.0));
  std::printf("log K = %.17g\n", halfulp::log_bessel_k(1e6, 3e5));

  // A million values at once: one order for all, the faster of the two accuracies.
  const std::vector<double> v = {1023.5};
  std::vector<double> x(1000000), y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1e-3 * static_cast<double>(i + 1);
  halfulp::bessel(halfulp::BesselFunction::log_i, v, x, y, {.mode = halfulp::BesselMode::fast});
  std::printf("log I at 1000: %.17g\n", y.back());

  // Directions in 2048 dimensions with a mean of length 0.3: the von Mises-Fisher concentration.
  const double order = 2048.0 / 2 - 1;
  const double kappa = halfulp::bessel_i_ratio_inverse(order, 0.3);
  std::printf("kappa = %.17g, back: %.17g\n", kappa, halfulp::bessel_i_ratio(order, kappa).value);
  return halfulp::bessel_i_ratio(order, kappa).value > 0.2999 ? 0 : 1;
}
