#include "detail/spectrum.hpp"

#include <algorithm>
#include <cmath>

#include "detail/fft.hpp"

namespace halfulp::detail {

namespace {

// Kaiser's window on n points; the last one is kept, for the next line of as many.
const std::vector<double>& kaiser_window(std::size_t n) {
  constexpr double beta = 38;
  thread_local std::vector<double> window;
  if (window.size() == n) return window;
  window.resize(n);
  const double i0_beta = std::cyl_bessel_i(0.0, beta);
  for (std::size_t i = 0; i < n; ++i) {
    const double t = 2.0 * static_cast<double>(i) / static_cast<double>(n) - 1.0;
    window[i] = std::cyl_bessel_i(0.0, beta * std::sqrt(std::max(0.0, 1.0 - t * t))) / i0_beta;
  }
  return window;
}

}  // namespace

std::vector<double> windowed_spectrum(std::span<const double> samples) {
  const std::size_t n = samples.size();
  const std::vector<double>& window = kaiser_window(n);
  std::vector<double> windowed(n);
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    windowed[i] = window[i] * samples[i];
    sum += window[i];
  }
  const auto transform = real_fft(windowed);
  std::vector<double> amplitude(transform.size());
  for (std::size_t k = 0; k < amplitude.size(); ++k)
    amplitude[k] = (k == 0 ? 1.0 : 2.0) * std::abs(transform[k]) / sum;
  return amplitude;
}

std::vector<gp_pde::Band> find_bands(std::span<const double> amplitude, double threshold,
                                     double bin) {
  std::vector<gp_pde::Band> bands;
  const auto n = static_cast<std::ptrdiff_t>(amplitude.size());
  for (std::ptrdiff_t k = 0; k < n; ++k) {
    if (!(amplitude[k] > threshold)) continue;
    std::ptrdiff_t last = k;
    while (last + 1 < n && amplitude[last + 1] > threshold) ++last;
    double lower = static_cast<double>(k) + main_lobe_bins;
    double upper = static_cast<double>(last) - main_lobe_bins;
    if (k == 0) lower = 0;
    if (last == n - 1)
      upper = static_cast<double>(last);  // cut off by the sampling: keep all of it
    if (lower > upper) {
      // Narrower than a main lobe: a tone. At zero frequency the lobe is cut in half.
      const auto peak = std::max_element(amplitude.begin() + k, amplitude.begin() + last + 1);
      lower = upper = static_cast<double>(peak - amplitude.begin());
    }
    bands.push_back({lower * bin, upper * bin});
    k = last;
  }
  return bands;
}

std::vector<gp_pde::Band> merge_bands(std::vector<gp_pde::Band> bands, double gap) {
  std::sort(bands.begin(), bands.end(), [](const auto& a, const auto& b) {
    return a.lower < b.lower || (a.lower == b.lower && a.upper < b.upper);
  });
  std::vector<gp_pde::Band> merged;
  for (const auto& band : bands) {
    if (!merged.empty() && band.lower <= merged.back().upper + gap)
      merged.back().upper = std::max(merged.back().upper, band.upper);
    else
      merged.push_back(band);
  }
  return merged;
}

}  // namespace halfulp::detail
