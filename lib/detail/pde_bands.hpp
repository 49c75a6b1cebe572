#pragma once

#include <span>
#include <vector>

#include "detail/pde_problem.hpp"

namespace halfulp::gp_pde::detail {

/// What the data of a problem contain along one axis.
struct Spectrum {
  double bin = 0;                  ///< frequency of one entry of `amplitude`, 2 pi / L
  std::vector<double> amplitude;   ///< largest 1
  std::vector<Band> bands;         ///< without the low band, which is always added
  std::vector<Band> sample_bands;  ///< of a sampled forcing alone
  bool resolved = true;            ///< the spectrum ends below the sampling's limit
};

/// Amplitude spectrum along axis k: the largest over a few lines, of forcing and boundary data,
/// each relative to its own size.
[[nodiscard]] Spectrum infer_spectrum(const Checked& c, const RightHandSide& rhs, Size k);

/// Bands along axis k of values on n equally spaced points of it (rows) by some lines (columns),
/// each entry above `threshold`, absolute.
[[nodiscard]] std::vector<Band> bands_of_lines(const Checked& c, const la::DdMatrix& lines, Size k,
                                               double threshold);

/// Frequencies of solutions of the homogeneous equation along axis k: roots r = alpha + i nu of the
/// symbol for every frequency w of the other axis' bands. Decaying solutions need a band in
/// proportion to alpha.
[[nodiscard]] std::vector<Band> symbol_bands(const Checked& c, Size k,
                                             std::span<const Band> other_bands);

/// Frequencies at which solutions of the homogeneous equation oscillate, in one dimension (over the
/// whole axis where the coefficients vary).
[[nodiscard]] std::vector<Band> oscillation_bands(const Checked& c);

/// Modes that bands need on an axis of this length, roughly: two a bin, with what the falloff adds.
[[nodiscard]] double modes_of(std::vector<Band> bands, double length);

/// Leaves out frequencies that no arithmetic tells apart, and what is left if `most` modes do not
/// hold it becomes one band as far as they reach. False if anything was lost.
[[nodiscard]] bool fit_to_modes(std::vector<Band>& bands, double length, double most);

[[nodiscard]] bool same_bands(const std::vector<std::vector<Band>>& a,
                              const std::vector<std::vector<Band>>& b);

}  // namespace halfulp::gp_pde::detail
