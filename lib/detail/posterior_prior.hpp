#pragma once

#include <span>
#include <vector>

#include "detail/evidence.hpp"
#include "halfulp/gp_posterior.hpp"

/// The spectral mixture on a finite set of Fourier features.
namespace halfulp::gp_pde::detail {

/// cos(j step t), sin(j step t) on one axis, t the distance from its centre: first the cosines,
/// then the sines of those with j > 0.
struct AxisFeatures {
  double centre = 0, step = 0;
  std::vector<std::ptrdiff_t> index;  ///< j, increasing
  [[nodiscard]] std::ptrdiff_t size() const {
    return 2 * std::ssize(index) - (!index.empty() && index[0] == 0 ? 1 : 0);
  }
  /// Position in `index` of feature a.
  [[nodiscard]] std::ptrdiff_t frequency_of(std::ptrdiff_t a) const {
    const auto n = std::ssize(index);
    return a < n ? a : a - n + (index[0] == 0 ? 1 : 0);
  }
  /// points x size(), derivative of the given order.
  [[nodiscard]] halfulp::detail::Columns at(std::span<const double> points, int order) const;
};

/// Products of one feature an axis that carry weight under given components.
struct FeatureSet {
  std::vector<AxisFeatures> axes;
  std::vector<std::vector<std::ptrdiff_t>> feature;  ///< [axis][f]: which of that axis
  [[nodiscard]] std::ptrdiff_t size() const { return std::ssize(feature[0]); }
};

struct PriorAxis {
  double lower = 0, length = 1;
  bool periodic = false;
};

/// @param cutoff  of a component's density relative to its peak
[[nodiscard]] FeatureSet features_of(std::span<const PriorAxis> axes,
                                     std::span<const Component> prior, KernelType kernel,
                                     double cutoff);

/// log s_f, and what its derivatives need: a component's variance is the sum of its features'
/// (counting cosine and sine of a frequency once).
class FeatureVariances {
 public:
  FeatureVariances(const FeatureSet& set, std::span<const Component> prior, KernelType kernel);
  [[nodiscard]] const std::vector<double>& log_variance() const { return log_variance_; }
  /// Chain rule: from d / d log s_f to d / d log v_c, d / d mu, d / d log rho ([component][axis]).
  void slopes(const FeatureSet& set, std::span<const double> slope, std::vector<double>& variance,
              std::vector<std::vector<double>>& centre,
              std::vector<std::vector<double>>& width) const;
  /// Part of feature f's variance that component c has.
  [[nodiscard]] double share(std::ptrdiff_t c, std::ptrdiff_t f) const {
    return share_[c * std::ssize(log_variance_) + f];
  }

 private:
  struct Line {  // of one component along one axis, by frequency
    std::vector<double> density, slope_centre, slope_width;  // normalised; of the logarithm
  };
  std::vector<std::vector<Line>> lines_;  // [component][axis]
  std::vector<double> log_variance_, share_;
};

}  // namespace halfulp::gp_pde::detail
