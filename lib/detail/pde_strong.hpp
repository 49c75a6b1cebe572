#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "detail/fourier_basis.hpp"
#include "detail/pde_problem.hpp"
#include "detail/sylvester.hpp"

/// Two dimensions with conditions of any order and number: fulfilled by the basis itself.
namespace halfulp::gp_pde::detail {

/// One axis of a problem whose conditions are fulfilled by the basis.
///
/// The modes of the axis are split into those that fulfil the homogeneous conditions, an
/// orthonormal set, and a lifting that takes up the data. The equation is tested with the former
/// (Galerkin).
///
/// Where the axis is a time, all conditions on one side, only u = 0 there is asked of the set, and
/// inner products have the weight exp(-4 s / T), s the time since the start. With G the Galerkin
/// matrix of d/dt in an orthonormal set, d^j/dt^j is G^j. By parts, G has its field of values where
/// the real part exceeds 2 / T, so that (G - i w)^-1 is bounded by T / 2 for every frequency w: no
/// factor of a polynomial in d/dt comes near a resonance that the equation has not. Without the
/// weight, functions that the modes do not resolve have eigenvalues on the imaginary axis.
struct StrongAxis {
  StrongAxis() = default;
  StrongAxis(const Checked& c, Size k, const la::FourierBasis& basis, std::span<const int> orders);

  [[nodiscard]] Size size() const { return operators[0].rows(); }
  /// Coefficients in the reduced set -> in the basis, and inner products the other way round.
  [[nodiscard]] la::DdMatrix expand(const la::DdMatrix& y, int threads) const;
  [[nodiscard]] la::DdMatrix reduce(const la::DdMatrix& x, int threads) const {
    return whole ? x : la::multiply(tests, x, threads);
  }

  bool time = false;   ///< all conditions on one side
  bool whole = false;  ///< no conditions: the set is the basis
  la::DdMatrix set;    ///< basis size x size(): the functions
  la::DdMatrix tests;  ///< size() x basis size: inner products of the set with the basis
  std::array<la::DdMatrix, highest_order + 1> operators;  ///< [j]: d^j on the set, where needed
  std::array<la::DdMatrix, highest_order + 1> tested;     ///< [j]: d^j of the basis, tested
  la::DdMatrix rows;                                      ///< the conditions on the basis
  la::DdMatrix lifting;  ///< basis size x conditions: rows * lifting = 1
};

/// The linear part with constant coefficients, sum_j a_j d^j/dx^j + sum_j b_j d^j/dy^j.
class StrongPlane {
 public:
  StrongPlane(const Checked& c, std::vector<std::shared_ptr<const la::FourierBasis>> basis);

  /// A field in the basis that fulfils all conditions (where they agree in the corners).
  [[nodiscard]] la::DdMatrix lifted(const Checked& c) const;
  /// What the reduced unknowns must fulfil: data given by inner products with the basis.
  [[nodiscard]] la::DdMatrix load(const la::DdMatrix& projected, const la::DdMatrix& lift) const;
  /// Coefficients in the basis of reduced unknowns.
  [[nodiscard]] la::DdMatrix expand(const la::DdMatrix& y) const;
  [[nodiscard]] la::DdMatrix reduce(const la::DdMatrix& x) const;
  /// Values at the nodes of axis k of d^j of the reduced set.
  [[nodiscard]] la::DdMatrix at_nodes(Size k, int order) const;
  /// Its transpose takes values at the nodes of axis k to inner products with the reduced set.
  [[nodiscard]] la::DdMatrix tests_at_nodes(Size k) const;

  [[nodiscard]] std::shared_ptr<const la::SylvesterSolver> sylvester() const { return sylvester_; }

 private:
  std::vector<std::shared_ptr<const la::FourierBasis>> basis_;
  std::array<StrongAxis, 2> axes_;
  std::array<std::array<dd, highest_order + 1>, 2> coefficients_{};
  std::shared_ptr<const la::SylvesterSolver> sylvester_;
  int threads_ = 1;
};

}  // namespace halfulp::gp_pde::detail
