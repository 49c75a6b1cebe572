#pragma once

#include <span>
#include <vector>

#include "halfulp/gp_pde.hpp"

namespace halfulp::detail {

/// Amplitude spectrum of samples f(lower + L i / N), i = 0 .. N-1, seen through a Kaiser window
/// with beta = 38: sidelobes below 1e-16, so that tones 15 orders apart are told from each other,
/// at the price of a main lobe of +-12 bins (one bin is 2 pi / L).
/// @source  Harris (1978), Proc. IEEE 66, 51-83, section V.H
[[nodiscard]] std::vector<double> windowed_spectrum(std::span<const double> samples);
inline constexpr double main_lobe_bins = 12;

/// Bands where the amplitude exceeds `threshold` (absolute), main lobe taken off on both sides; a
/// tone gives lower = upper. `bin`: frequency of one bin.
[[nodiscard]] std::vector<gp_pde::Band> find_bands(std::span<const double> amplitude,
                                                   double threshold, double bin);

/// Sorted, with bands closer than `gap` joined.
[[nodiscard]] std::vector<gp_pde::Band> merge_bands(std::vector<gp_pde::Band> bands, double gap);

}  // namespace halfulp::detail
