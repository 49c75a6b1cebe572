#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "detail/dd_linalg.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::detail {

/// How a spectral density is turned into features.
struct BasisOptions {
  gp_pde::KernelType kernel = gp_pde::KernelType::gaussian;
  double extension = 2.0;    ///< T: frequencies are multiples of 2 pi / (T L)
  double margin = 14.0;      ///< falloff outside a band, in units of 2 pi / L
  double tolerance = 1e-16;  ///< of the rank-revealing factorisation
  double shrink = 1.0;
  std::ptrdiff_t max_modes = 1200;
  std::ptrdiff_t nodes = 0;  ///< quadrature nodes; 0: enough for products of two modes
  bool periodic = false;
  int threads = 1;
};

/// Square root of a spectral-mixture prior on one axis: weighted Fourier features
/// sqrt(S(w_j)) cos(w_j s), sqrt(S(w_j)) sin(w_j s), s = x - centre, orthonormalised in L2(lower,
/// upper) by a rank-revealing factorisation in double-double. Cosines are even and sines odd about
/// the centre, so the two halves are orthogonal and are factored apart on half the nodes.
class FourierBasis {
 public:
  FourierBasis(dd lower, dd upper, std::span<const gp_pde::Band> bands,
               const BasisOptions& options);

  [[nodiscard]] std::ptrdiff_t size() const { return even_.rank + odd_.rank; }
  [[nodiscard]] std::ptrdiff_t features() const { return features_; }
  [[nodiscard]] double smallest_pivot() const { return smallest_pivot_; }
  [[nodiscard]] double largest_frequency() const { return largest_frequency_; }
  /// Gauss-Legendre nodes on [lower, upper] (increasing) and their weights.
  [[nodiscard]] const std::vector<dd>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<dd>& weights() const { return weights_; }
  /// points x size(): derivative of the given order of every basis function.
  [[nodiscard]] DdMatrix evaluate(std::span<const dd> points, int order) const;

 private:
  struct Half {
    std::vector<dd> frequency;  ///< of the pivots
    std::vector<double> weight;
    DdMatrix r;
    std::ptrdiff_t rank = 0;
  };
  [[nodiscard]] DdMatrix features_at(std::span<const dd> shifted, const Half& half, bool odd,
                                     int order) const;
  dd lower_, upper_, centre_;
  int threads_;
  Half even_, odd_;
  std::ptrdiff_t features_ = 0;
  double smallest_pivot_ = 1, largest_frequency_ = 0;
  std::vector<dd> nodes_, weights_;
};

}  // namespace halfulp::detail
