#include "detail/posterior_prior.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

namespace halfulp::gp_pde::detail {

using halfulp::detail::Columns;
using Size = std::ptrdiff_t;

namespace {

constexpr double extension = 2, extension_2d = 1.6;  // of the axis, so that nothing is periodic

bool has_student_tails(KernelType kernel) {
  return kernel == KernelType::student_t || kernel == KernelType::matern;
}

// Shape of a band, 1 at its centre, and its logarithm's slope, at z widths from it.
double shape(double z, bool student) {
  return student ? std::pow(1 + z * z / 5, -3.0) : std::exp(-0.5 * z * z);
}
double log_slope(double z, bool student) { return student ? -1.2 * z / (1 + z * z / 5) : -z; }

// How many widths away the shape has fallen to `cutoff`. A Student-t never falls far: what lies
// beyond 25 widths is a 10^-6 of it, beyond 8 a 10^-4, and is left out.
double reach(double cutoff, bool student, Size dimension) {
  return student ? std::min(dimension == 1 ? 25.0 : 8.0, std::sqrt(5 * (std::cbrt(1 / cutoff) - 1)))
                 : std::sqrt(-2 * std::log(cutoff));
}

}  // namespace

Columns AxisFeatures::at(std::span<const double> points, int order) const {
  const auto n = std::ssize(points), m = std::ssize(index);
  const bool constant = !index.empty() && index[0] == 0;
  Columns out(n, size());
  for (Size k = 0; k < m; ++k) {
    const double w = step * static_cast<double>(index[k]);
    const double factor = std::pow(w, order);
    for (Size i = 0; i < n; ++i) {
      const double angle = w * (points[i] - centre);
      const double c = std::cos(angle), s = std::sin(angle);
      // Derivatives go round: cos, -sin, -cos, sin; sin, cos, -sin, -cos.
      const double cosine[4] = {c, -s, -c, s}, sine[4] = {s, c, -s, -c};
      out(i, k) = (order == 0 ? 1.0 : factor) * cosine[order % 4];
      if (index[k] > 0) out(i, m + k - (constant ? 1 : 0)) = factor * sine[order % 4];
    }
  }
  return out;
}

FeatureSet features_of(std::span<const PriorAxis> axes, std::span<const Component> prior,
                       KernelType kernel, double cutoff) {
  const auto d = std::ssize(axes);
  const bool student = has_student_tails(kernel);
  const double far = reach(cutoff, student, d);
  FeatureSet set;
  for (Size k = 0; k < d; ++k) {
    AxisFeatures axis;
    axis.centre = axes[k].lower + axes[k].length / 2;
    const double stretch = axes[k].periodic ? 1.0 : d == 1 ? extension : extension_2d;
    axis.step = 2 * std::numbers::pi / (axes[k].length * stretch);
    std::set<Size> found;
    for (const Component& c : prior) {
      const double lower = std::max(0.0, c.centre[k] - far * c.width[k]);
      const double upper = c.centre[k] + far * c.width[k];
      const auto first = static_cast<Size>(std::ceil(lower / axis.step));
      const auto last = std::max(first, static_cast<Size>(upper / axis.step));
      for (Size j = first; j <= last; ++j) found.insert(j);
    }
    axis.index.assign(found.begin(), found.end());
    set.axes.push_back(std::move(axis));
  }
  set.feature.resize(d);
  if (d == 1) {
    for (Size a = 0; a < set.axes[0].size(); ++a) set.feature[0].push_back(a);
    return set;
  }
  // Pairs within an ellipse about some component.
  const Size n0 = std::ssize(set.axes[0].index), n1 = std::ssize(set.axes[1].index);
  std::vector<char> wanted(n0 * n1, 0);
  for (const Component& c : prior) {
    const auto relative = [&](Size k, Size j) {
      const double w = set.axes[k].step * static_cast<double>(set.axes[k].index[j]);
      return shape((w - c.centre[k]) / c.width[k], student);
    };
    double best = 0;
    for (Size i = 0; i < n0; ++i)
      for (Size j = 0; j < n1; ++j) best = std::max(best, relative(0, i) * relative(1, j));
    for (Size i = 0; i < n0; ++i)
      for (Size j = 0; j < n1; ++j)
        if (relative(0, i) * relative(1, j) >= cutoff * best) wanted[i * n1 + j] = 1;
  }
  for (Size a = 0; a < set.axes[0].size(); ++a)
    for (Size b = 0; b < set.axes[1].size(); ++b)
      if (wanted[set.axes[0].frequency_of(a) * n1 + set.axes[1].frequency_of(b)]) {
        set.feature[0].push_back(a);
        set.feature[1].push_back(b);
      }
  return set;
}

FeatureVariances::FeatureVariances(const FeatureSet& set, std::span<const Component> prior,
                                   KernelType kernel) {
  const auto d = std::ssize(set.axes);
  const bool student = has_student_tails(kernel);
  for (const Component& c : prior) {
    std::vector<Line> lines(d);
    for (Size k = 0; k < d; ++k) {
      Line& line = lines[k];
      double sum = 0, sum_centre = 0, sum_width = 0;
      for (const Size j : set.axes[k].index) {
        const double w = set.axes[k].step * static_cast<double>(j);
        const double left = (w - c.centre[k]) / c.width[k], right = (w + c.centre[k]) / c.width[k];
        // Both ends of the two-sided spectrum; at zero frequency they are one line.
        const double a = shape(left, student), b = shape(right, student);
        const double total = a + b;
        double by_centre = 0, by_width = 0;
        if (total > 0) {
          by_centre = (-a * log_slope(left, student) + b * log_slope(right, student)) /
                      (c.width[k] * total);
          by_width =
              -(a * left * log_slope(left, student) + b * right * log_slope(right, student)) /
              total;
        }
        const double density = j == 0 ? total / 2 : total;
        line.density.push_back(density);
        line.slope_centre.push_back(by_centre);
        line.slope_width.push_back(by_width);
        sum += density;
        sum_centre += density * by_centre;
        sum_width += density * by_width;
      }
      for (std::size_t j = 0; j < line.density.size(); ++j) {
        if (sum > 0) {
          line.density[j] /= sum;
          line.slope_centre[j] -= sum_centre / sum;
          line.slope_width[j] -= sum_width / sum;
        }
      }
    }
    lines_.push_back(std::move(lines));
  }
  const Size p = set.size(), count = std::ssize(prior);
  log_variance_.assign(p, 0);
  share_.assign(count * p, 0);
  for (Size f = 0; f < p; ++f) {
    double total = 0;
    for (Size c = 0; c < count; ++c) {
      double v = prior[c].variance;
      for (Size k = 0; k < d; ++k)
        v *= lines_[c][k].density[set.axes[k].frequency_of(set.feature[k][f])];
      share_[c * p + f] = v;
      total += v;
    }
    for (Size c = 0; c < count; ++c) share_[c * p + f] = total > 0 ? share_[c * p + f] / total : 0;
    log_variance_[f] = std::log(std::max(total, 1e-300));
  }
}

void FeatureVariances::slopes(const FeatureSet& set, std::span<const double> slope,
                              std::vector<double>& variance,
                              std::vector<std::vector<double>>& centre,
                              std::vector<std::vector<double>>& width) const {
  const auto d = std::ssize(set.axes), count = std::ssize(lines_), p = set.size();
  variance.assign(count, 0);
  centre.assign(count, std::vector<double>(d, 0.0));
  width.assign(count, std::vector<double>(d, 0.0));
  for (Size c = 0; c < count; ++c)
    for (Size f = 0; f < p; ++f) {
      const double part = share_[c * p + f] * slope[f];
      variance[c] += part;
      for (Size k = 0; k < d; ++k) {
        const Size j = set.axes[k].frequency_of(set.feature[k][f]);
        centre[c][k] += part * lines_[c][k].slope_centre[j];
        width[c][k] += part * lines_[c][k].slope_width[j];
      }
    }
}

}  // namespace halfulp::gp_pde::detail
