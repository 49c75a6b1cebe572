#pragma once

#include <memory>
#include <vector>

#include "detail/fourier_basis.hpp"
#include "detail/pde_problem.hpp"

/// A forcing known by samples on a tensor grid of any spacing, as a function.
namespace halfulp::gp_pde::detail {

/// What samples contain along one axis.
struct SampleSpectrum {
  double bin = 0;  ///< frequency of one entry of `amplitude`, 2 pi / L
  std::vector<double> amplitude;
  std::vector<Band> bands;
  bool resolved = true;  ///< does not reach the limit of equally spaced samples
};

/// Amplitude spectrum of samples along axis k, the largest over a few lines. Equally spaced samples
/// are transformed as they are. Others are first fitted, in double, by the fewest Fourier features
/// [0, B] that leave no more than rounding over; the fit is then sampled and transformed.
[[nodiscard]] SampleSpectrum sample_spectrum(const Checked& c, const RightHandSide& rhs, Size k);

/// Least-squares fit of samples on given axes, in double-double: on every axis the Fourier features
/// of the samples' bands, with the widest falloff that the number of samples determines.
class SampleFit {
 public:
  SampleFit() = default;
  /// @param bands    of the samples, one list an axis
  /// @param stretch  scales the falloff: two fits of different stretch tell how well the samples
  ///                 determine what lies between them
  SampleFit(const Checked& c, const RightHandSide& rhs, const std::vector<std::vector<Band>>& bands,
            double stretch);

  [[nodiscard]] bool fits(const RightHandSide& rhs) const { return axes_ == rhs.axes; }
  /// Values on another grid of the function that the samples describe.
  [[nodiscard]] la::DdMatrix values(const RightHandSide& rhs, std::span<const Points> grid) const;
  /// How far the fit would miss a sample that it has not seen: the largest |sample - fit to all
  /// others| on the lines looked at, over the largest |sample|.
  [[nodiscard]] double rest() const { return rest_; }
  /// Functions of axis k: what the samples have to determine.
  [[nodiscard]] Size size(Size k) const { return basis_[k]->size(); }

 private:
  std::vector<Points> axes_;
  double rest_ = 0;
  int threads_ = 1;
  std::vector<std::shared_ptr<const la::FourierBasis>> basis_;
  std::vector<la::DdMatrix> projector_;  ///< samples -> coefficients of the features
};

/// Weighted least-squares projector of values at points onto the columns of a (points x functions):
/// what is determined no better than `tolerance` stays zero.
[[nodiscard]] la::DdMatrix least_squares_projector(const la::DdMatrix& a, const Points& points,
                                                   double tolerance, int threads);

}  // namespace halfulp::gp_pde::detail
