#include <algorithm>
#include <cmath>

#include "detail/require.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::gp_pde {
namespace {

constexpr std::string_view name = "gp_pde::sample_function";
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

/// Whether n samples along an axis leave nothing near their limit, on a few lines.
bool resolved(const Function& function, std::span<const Axis> axes, std::size_t k,
              std::ptrdiff_t n) {
  constexpr int lines = 4;
  constexpr double rounding = 1e-12;  // of what a program computes from rounded arguments
  const std::vector<double> along = equally_spaced(axes[k], n);
  double largest = 0, tail = 0;
  std::vector<double> point(axes.size()), values(along.size());
  for (int l = 0; l < (axes.size() > 1 ? lines : 1); ++l) {
    for (std::size_t o = 0; o < axes.size(); ++o) {
      const double t = 0.5 + 0.6180339887498949 * (l + 1);  // on no nodal line
      point[o] = axes[o].lower.hi + (axes[o].upper - axes[o].lower).hi * (t - std::floor(t));
    }
    for (std::size_t i = 0; i < along.size(); ++i) {
      point[k] = along[i];
      values[i] = value_at(function, point);
      largest = std::max(largest, std::fabs(values[i]));
    }
    const std::vector<double> spectrum = detail::windowed_spectrum(values);
    for (std::size_t i = spectrum.size() - spectrum.size() / 4; i < spectrum.size(); ++i)
      tail = std::max(tail, spectrum[i]);
  }
  return tail <= rounding * largest;
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
  return samples;
}

}  // namespace halfulp::gp_pde
