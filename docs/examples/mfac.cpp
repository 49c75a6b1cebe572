// A damped Fisher matrix of 200 gradients in 50,000 dimensions: products with its inverse, their
// errors, its diagonal, and weights that may be pruned.
#include <algorithm>
#include <cstdio>
#include <halfulp/mfac.hpp>
#include <halfulp/random.hpp>
#include <numeric>
#include <vector>

int main() {
  namespace mfac = halfulp::mfac;
  constexpr std::ptrdiff_t m = 200, d = 50000;
  std::vector<double> rows(m * d);
  halfulp::RandomStream(1).fill_normal(rows);

  mfac::Options options;
  options.damping = 1e-4;
  const mfac::Estimator fisher(mfac::Gradients(rows, d, mfac::Storage::float32), options);
  std::printf("cond(H) = %.2g, %s\n", fisher.diagnosis().condition,
              to_string(fisher.diagnosis().status).data());

  // The direction of an optimiser, the newest gradient: where x - G^T K^-1 G x would cancel.
  std::vector<double> x(d), y(d), back(d);
  fisher.gradients().row(m - 1, x);
  const mfac::Diagnosis check = fisher.inverse_product(std::span<const double>(x), y);
  fisher.product(y, back);
  double difference = 0;
  for (std::size_t j = 0; j < x.size(); ++j)
    difference = std::max(difference, std::abs(back[j] - x[j]));
  std::printf("error of H^-1 x, estimated: %.1e; largest |H y - x|: %.1e\n", check.error,
              difference);

  // Optimal brain surgeon: what the loss gains by setting weight j to 0.
  std::vector<double> weights(d), diagonal(d), saliency(d);
  halfulp::RandomStream(2).fill_normal(weights);
  fisher.inverse_diagonal(diagonal);
  for (std::size_t j = 0; j < weights.size(); ++j)
    saliency[j] = weights[j] * weights[j] / (2 * diagonal[j]);
  std::vector<std::ptrdiff_t> order(d);
  std::iota(order.begin(), order.end(), std::ptrdiff_t{0});
  std::nth_element(order.begin(), order.begin() + 3, order.end(),
                   [&](auto a, auto b) { return saliency[a] < saliency[b]; });
  std::vector<double> block(9);
  fisher.inverse_block(std::span(order).first(3), block);
  std::printf("three weights to prune first: %td %td %td; their block of H^-1 begins %.4g %.4g\n",
              order[0], order[1], order[2], block[0], block[1]);
  return check.error < 1e-12 && difference < 1e-9 ? 0 : 1;
}
