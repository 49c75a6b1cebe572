#include <algorithm>
#include <cmath>

#include "detail/require.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::gp_pde {
namespace {

constexpr std::string_view name = "gp_pde::sample_function";
constexpr double rounding = 1e-12;  // of what a program computes from rounded arguments
using Function = std::function<double(std::span<const double>)>;

std::vector<double> equally_spaced(const Axis& axis, std::ptrdiff_t n) {
  std::vector<double> points;
  for (std::ptrdiff_t i = 0; i < n; ++i)
    points.push_back((axis.lower + (axis.upper - axis.lower) * static_cast<double>(i) /
                                       static_cast<double>(n - 1))
                         .hi);
  return points;
}

double value_at(const Function& function, std::span<const double> point) {
  const double value = function(point);
  if (!std::isfinite(value)) {
    std::string where;
    for (const double x : point) where += (where.empty() ? "" : ", ") + number_text(x);
    throw DomainError(name, "function(" + where + ")", value, "finite");
  }
  return value;
}

/// Points that spread equally for any number of them (Roberts' additive recurrence).
void scatter(std::span<const Axis> axes, int i, std::vector<double>& point) {
  constexpr double steps[2][2] = {{0.6180339887498949, 0}, {0.7548776662466927, 0.569840290998053}};
  for (std::size_t k = 0; k < axes.size(); ++k) {
    const double t = 0.5 + steps[axes.size() - 1][k] * (i + 1);
    point[k] = axes[k].lower.hi + (axes[k].upper - axes[k].lower).hi * (t - std::floor(t));
  }
}

/// Spectrum of n samples along an axis, the largest over a few lines.
struct Sampling {
  double largest = 0;  ///< |value|
  double tail = 0;     ///< of the highest quarter of the spectrum
  double top = 0;      ///< highest frequency, in bins
};

Sampling sample_lines(const Function& function, std::span<const Axis> axes, std::size_t k,
                      std::ptrdiff_t n) {
  const std::vector<double> along = equally_spaced(axes[k], n);
  Sampling s;
  std::vector<double> point(axes.size()), values(along.size()), amplitude;
  for (int l = 0; l < (axes.size() > 1 ? 4 : 1); ++l) {
    scatter(axes, l, point);  // on no nodal line
    for (std::size_t i = 0; i < along.size(); ++i) {
      point[k] = along[i];
      values[i] = value_at(function, point);
      s.largest = std::max(s.largest, std::fabs(values[i]));
    }
    const std::vector<double> spectrum = detail::windowed_spectrum(values);
    amplitude.resize(spectrum.size(), 0.0);
    for (std::size_t i = 0; i < spectrum.size(); ++i)
      amplitude[i] = std::max(amplitude[i], spectrum[i]);
  }
  for (std::size_t i = amplitude.size() - amplitude.size() / 4; i < amplitude.size(); ++i)
    s.tail = std::max(s.tail, amplitude[i]);
  for (const Band& b : detail::find_bands(amplitude, rounding * s.largest, 1.0))
    s.top = std::max(s.top, b.upper);
  return s;
}

/// Whether n samples along an axis leave nothing near their limit. A frequency beyond it folds back
/// and looks like a lower one; at another rate it folds back elsewhere: so two rates must agree.
bool resolved(const Function& function, std::span<const Axis> axes, std::size_t k,
              std::ptrdiff_t n) {
  const Sampling one = sample_lines(function, axes, k, n);
  if (!(one.tail <= rounding * one.largest)) return false;
  const Sampling other = sample_lines(function, axes, k, n + 2 * (n / 7));
  return other.tail <= rounding * other.largest && std::fabs(one.top - other.top) <= 3 &&
         one.largest >= 0.8 * other.largest;
}

}  // namespace

GridSamples sample_function(std::span<const Axis> axes, const Function& function,
                            std::ptrdiff_t most) {
  detail::require(axes.size() == 1 || axes.size() == 2, name, "axes.size()",
                  static_cast<std::ptrdiff_t>(axes.size()), "1 or 2");
  if (most == 0) most = axes.size() == 1 ? 6401 : 1601;
  detail::require(most >= 201, name, "most", most, "0 or >= 201");
  if (!function) throw DomainError(name, "function", "empty", "a function");
  GridSamples samples;
  for (std::size_t k = 0; k < axes.size(); ++k) {
    if (!isfinite(axes[k].lower) || !isfinite(axes[k].upper) || !(axes[k].lower < axes[k].upper))
      throw DomainError(
          name, "axes." + axes[k].name,
          "[" + number_text(axes[k].lower.hi) + ", " + number_text(axes[k].upper.hi) + "]",
          "finite with lower < upper");
    std::ptrdiff_t n = 201;
    while (n < most && !resolved(function, axes, k, n)) n = std::min(most, 2 * n - 1);
    samples.axes.push_back(equally_spaced(axes[k], n));
  }
  std::vector<double> point(axes.size());
  for (const double x : samples.axes[0]) {
    point[0] = x;
    if (axes.size() == 1) {
      samples.values.push_back(value_at(function, point));
      continue;
    }
    for (const double y : samples.axes[1]) {
      point[1] = y;
      samples.values.push_back(value_at(function, point));
    }
  }
  // Nor may a spike hide between the samples.
  double sampled = 0;
  for (const double v : samples.values) sampled = std::max(sampled, std::fabs(v));
  for (int i = 0; i < 16384; ++i) {
    scatter(axes, i, point);
    const double value = std::fabs(value_at(function, point));
    detail::require(value <= 2 * sampled, name, "function", value,
                    "no more than twice its largest sample, " + number_text(sampled) +
                        ": a spike hides between the samples");
  }
  return samples;
}

}  // namespace halfulp::gp_pde
