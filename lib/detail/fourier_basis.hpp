#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "detail/dd_linalg.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::detail {

class ByteReader;
class ByteWriter;

/// How a spectral density is turned into a basis.
struct BasisOptions {
  gp_pde::KernelType kernel = gp_pde::KernelType::gaussian;
  /// T: frequencies are multiples of 2 pi / (T L), so that nothing forces L-periodicity.
  double extension = 2.0;
  /// Where the density has fallen to zero outside a band, in units of 2 pi / L.
  double margin = 12.0;
  /// Of the rank-revealing factorisation. Derivatives of the last modes have lost its inverse of
  /// the 32 digits: 1e-16 where matrices are made of them (Galerkin), 1e-17 where rows are
  /// (collocation).
  double tolerance = 1e-17;
  std::ptrdiff_t max_modes = 640;
  /// Where quadrature needs many more nodes than there are functions, take scattered points that
  /// determine the functions: orthonormal in their sum, then, and not in the integral.
  bool scattered = false;
  bool periodic = false;  ///< T = 1: the harmonics of the axis themselves
  int threads = 1;
};

/// Square root of a spectral-mixture prior on one axis: weighted Fourier features
/// sqrt(S(w_j)) cos(w_j s) and sqrt(S(w_j)) sin(w_j s), s = x - centre, of which a rank-revealing
/// factorisation in double-double selects and orthonormalises, in L2(lower, upper), as many as
/// carry weight above the tolerance. Cosines are even and sines odd about the centre: the two
/// halves are orthogonal and are factored apart, on half of the nodes.
/// @source  Adcock, Huybrechs (2019), Frames and numerical approximation, SIAM Review 61, 443-473
class FourierBasis {
 public:
  FourierBasis(dd lower, dd upper, std::span<const gp_pde::Band> bands,
               const BasisOptions& options);

  /// As bytes, and back from them: the same bits.
  void put(ByteWriter& out) const;
  FourierBasis(ByteReader& in, int threads);

  [[nodiscard]] std::ptrdiff_t size() const { return even_.rank + odd_.rank; }
  /// How many of the functions, the first ones, are even about the centre; the others are odd.
  [[nodiscard]] std::ptrdiff_t even() const { return even_.rank; }
  [[nodiscard]] double largest_frequency() const { return largest_frequency_; }
  [[nodiscard]] std::ptrdiff_t features() const { return features_; }
  [[nodiscard]] double smallest_pivot() const { return smallest_pivot_; }
  /// Gauss-Legendre nodes on [lower, upper] (increasing) and their weights: enough for products of
  /// two modes (or scattered points).
  [[nodiscard]] const std::vector<dd>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<dd>& weights() const { return weights_; }
  /// Basis functions at the nodes, nodes x size().
  [[nodiscard]] const DdMatrix& at_nodes() const { return at_nodes_; }

  /// Inner products with the basis functions of functions known at the nodes: nodes x k values to
  /// size() x k coefficients. Half the work of a product with at_nodes(), by symmetry.
  [[nodiscard]] DdMatrix project(const DdMatrix& values) const;

  /// points x size(): derivative of the given order of the selected features (not orthonormal).
  [[nodiscard]] DdMatrix features_at(std::span<const dd> points, int order) const;
  /// Features -> basis: multiplies by R^-1 from the right.
  [[nodiscard]] DdMatrix orthonormalise(DdMatrix features) const;
  /// points x size(): derivative of the given order of the basis functions.
  [[nodiscard]] DdMatrix evaluate(std::span<const dd> points, int order) const {
    return orthonormalise(features_at(points, order));
  }
  /// Coefficients in the basis -> coefficients of the features, column by column: R^-1 c.
  /// Evaluating a field then needs no triangular solve a point.
  [[nodiscard]] DdMatrix to_features(const DdMatrix& coefficients) const;

 private:
  struct Half {
    std::vector<std::ptrdiff_t> index;  ///< of the frequencies, multiples of step_
    std::vector<double> weight;
    DdMatrix r;
    DdMatrix projector;  ///< rank x half of the nodes: weight times function, transposed
    std::ptrdiff_t rank = 0;
  };
  void fill(std::span<const dd> shifted, const Half& half, bool odd, int order, DdMatrix& out,
            std::ptrdiff_t first_column) const;
  void set_projectors();
  dd centre_, step_;
  int threads_;
  Half even_, odd_;
  std::ptrdiff_t features_ = 0;
  double smallest_pivot_ = 1;
  double largest_frequency_ = 0;
  std::vector<dd> nodes_, weights_;
  DdMatrix at_nodes_;
};

}  // namespace halfulp::detail
