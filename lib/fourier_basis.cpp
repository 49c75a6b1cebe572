#include "detail/fourier_basis.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "halfulp/kernel/dd_math.hpp"

namespace halfulp::detail {
namespace {

// Square root of the spectral density at frequency w, 1 inside a band.
double root_density(double w, std::span<const gp_pde::Band> bands, double falloff,
                    gp_pde::KernelType kernel) {
  double best = 0;
  for (const auto& band : bands) {
    const double distance = std::max({0.0, band.lower - w, w - band.upper});
    const double z = distance / falloff;  // 1 at the edge of the support
    double value = 0;
    switch (kernel) {
      case gp_pde::KernelType::student_t:
      case gp_pde::KernelType::matern:
        // Student-t with nu = 5, the spectrum of Matern-5/2: S ~ (1 + z^2 / (5 s^2))^-3
        value = z <= 1 ? std::pow(1 + 125 * z * z, -1.5) : 0;
        break;
      default:
        value = z <= 1 ? std::exp(-6.25 * z * z) : 0;  // the edge lies at five deviations
    }
    best = std::max(best, value);
  }
  return best;
}

}  // namespace

FourierBasis::FourierBasis(dd lower, dd upper, std::span<const gp_pde::Band> bands,
                           const BasisOptions& options)
    : lower_(lower), upper_(upper), centre_((lower + upper) * 0.5), threads_(options.threads) {
  const dd length = upper - lower;
  const dd two_pi = kernel::pi() * 2.0;
  const dd h = options.periodic ? two_pi / length : two_pi / (length * options.extension);
  const double falloff = options.margin * 2 * 3.141592653589793 / length.hi;
  double top = 0;
  for (const auto& band : bands) top = std::max(top, band.upper);
  top += falloff;

  std::vector<dd> frequency;
  std::vector<double> weight;
  const auto count = static_cast<std::ptrdiff_t>(top / h.hi) + 1;
  for (std::ptrdiff_t j = 0; j <= count; ++j) {
    const dd w = h * static_cast<double>(j);
    const double s = root_density(w.hi, bands, falloff, options.kernel);
    if (s > 0) {
      frequency.push_back(w);
      weight.push_back(s);
      largest_frequency_ = w.hi;
    }
  }
  const auto n = static_cast<std::ptrdiff_t>(frequency.size());
  features_ = 2 * n - (frequency.front().hi == 0 ? 1 : 0);

  // Products of two modes have frequencies to 2 w_max: the rule is exact to rounding from
  // w_max L / 2 nodes on, plus a constant number for the last digits.
  std::ptrdiff_t m = options.nodes;
  if (m == 0) m = static_cast<std::ptrdiff_t>(0.55 * largest_frequency_ * length.hi) + 80;
  m += m % 2;
  std::vector<dd> half_nodes, half_weights;
  gauss_legendre_half(m, half_nodes, half_weights, threads_);
  const std::ptrdiff_t half = m / 2;
  const dd radius = length * 0.5;
  std::vector<dd> shifted(half), root_weight(half);
  nodes_.resize(m);
  weights_.resize(m);
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    shifted[i] = half_nodes[i] * radius;
    const dd w = half_weights[i] * radius;
    root_weight[i] = sqrt(w * 2.0);  // both halves of the axis
    nodes_[half + i] = centre_ + shifted[i];
    nodes_[half - 1 - i] = centre_ - shifted[i];
    weights_[half + i] = weights_[half - 1 - i] = w;
  }

  for (const bool odd : {false, true}) {
    Half all;
    all.frequency = frequency;
    all.weight = weight;
    if (odd && frequency.front().hi == 0) {
      all.frequency.erase(all.frequency.begin());
      all.weight.erase(all.weight.begin());
    }
    DdMatrix a = features_at(shifted, all, odd, 0);
    for (std::ptrdiff_t j = 0; j < a.cols(); ++j)
      for (std::ptrdiff_t i = 0; i < half; ++i) a.set(i, j, a(i, j) * root_weight[i]);
    const PivotedQr f = pivoted_qr(std::move(a), options.tolerance, options.max_modes / 2,
                                   DdMatrix(half, 0), threads_);
    Half& kept = odd ? odd_ : even_;
    kept.rank = f.rank;
    kept.r = f.r;
    for (const std::ptrdiff_t p : f.pivots) {
      kept.frequency.push_back(all.frequency[p]);
      kept.weight.push_back(all.weight[p]);
    }
    smallest_pivot_ = std::min(smallest_pivot_, f.smallest_pivot);
  }
}

DdMatrix FourierBasis::features_at(std::span<const dd> shifted, const Half& half, bool odd,
                                   int order) const {
  const auto m = static_cast<std::ptrdiff_t>(shifted.size());
  const auto n = static_cast<std::ptrdiff_t>(half.frequency.size());
  DdMatrix a(m, n);
  // d^k cos = cos, -sin, -cos, sin; d^k sin = sin, cos, -sin, -cos, times w^k.
  const bool sine = odd != (order % 2 != 0);
  const int sign = odd ? (order % 4 < 2 ? 1 : -1) : (order % 4 == 0 || order % 4 == 3 ? 1 : -1);
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1 && m * n > 50'000)
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    dd factor = half.weight[j] * sign;
    for (int k = 0; k < order; ++k) factor *= half.frequency[j];
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      const dd angle = half.frequency[j] * shifted[i];
      a.set(i, j, factor * (sine ? sin(angle) : cos(angle)));
    }
  }
  return a;
}

DdMatrix FourierBasis::evaluate(std::span<const dd> points, int order) const {
  std::vector<dd> shifted(points.size());
  for (std::size_t i = 0; i < points.size(); ++i) shifted[i] = points[i] - centre_;
  const auto m = static_cast<std::ptrdiff_t>(points.size());
  DdMatrix all(m, size());
  std::ptrdiff_t column = 0;
  for (const bool odd : {false, true}) {
    const Half& half = odd ? odd_ : even_;
    if (half.rank == 0) continue;
    const DdMatrix q = solve_right_upper(features_at(shifted, half, odd, order), half.r, threads_);
    std::copy_n(q.hi(0), m * half.rank, all.hi(column));
    std::copy_n(q.lo(0), m * half.rank, all.lo(column));
    column += half.rank;
  }
  return all;
}

}  // namespace halfulp::detail
