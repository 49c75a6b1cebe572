#include "detail/pde_samples.hpp"

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "detail/blas_threads.hpp"
#include "detail/setup_cache.hpp"
#include "detail/spectrum.hpp"

namespace halfulp::gp_pde::detail {
namespace {

constexpr Size most_lines = 24;

bool equally_spaced(const Points& p) {
  const double step = ((p.back() - p.front()) / static_cast<double>(p.size() - 1)).hi;
  for (std::size_t i = 1; i < p.size(); ++i)
    if (std::fabs((p[i] - p[i - 1]).hi - step) > 1e-9 * step) return false;
  return true;
}

// Samples along axis k, one column a line, at most `most_lines` of them.
la::DdMatrix lines_along(const la::DdMatrix& samples, Size k) {
  const Size n = k == 0 ? samples.rows() : samples.cols();
  const Size count = k == 0 ? samples.cols() : samples.rows();
  const Size stride = (count + most_lines - 1) / most_lines;
  la::DdMatrix out(n, (count + stride - 1) / stride);
  for (Size l = 0; l < out.cols(); ++l)
    for (Size i = 0; i < n; ++i)
      out.set(i, l, k == 0 ? samples(i, l * stride) : samples(l * stride, i));
  return out;
}

double largest(const la::DdMatrix& a) {
  double value = 0;
  for (const double x : a.rounded()) value = std::max(value, std::fabs(x));
  return value;
}

// Features cos(w_j s), sin(w_j s), w_j = j step, of points s: points x (2 count - 1).
std::vector<double> flat_features(const std::vector<double>& s, double step, Size count) {
  const auto n = static_cast<Size>(s.size());
  std::vector<double> a(n * (2 * count - 1));
  for (Size j = 0; j < count; ++j)
    for (Size i = 0; i < n; ++i) {
      const double angle = step * static_cast<double>(j) * s[i];
      a[i + j * n] = std::cos(angle);
      if (j > 0) a[i + (count + j - 1) * n] = std::sin(angle);
    }
  return a;
}

struct FlatFit {
  Size bins = 0;                     // B in units of 2 pi / L
  double step = 0;                   // of the frequencies
  Size count = 0;                    // frequencies
  double rest = 0;                   // largest |sample - fit| over the largest |sample|
  std::vector<double> coefficients;  // features x lines
  [[nodiscard]] std::vector<double> values(const std::vector<double>& s, Size lines) const {
    const auto n = static_cast<Size>(s.size());
    const Size features = 2 * count - 1;
    const std::vector<double> a = flat_features(s, step, count);
    std::vector<double> v(n * lines);
    for (Size l = 0; l < lines; ++l)
      for (Size j = 0; j < features; ++j) {
        const double x = coefficients[j + l * features];
        for (Size i = 0; i < n; ++i) v[i + l * n] += x * a[i + j * n];
      }
    return v;
  }
};

// Minimum-norm least squares by a complete orthogonal factorisation; a stride of the samples is
// enough to determine the fit, all of them tell what it leaves over.
FlatFit flat_fit(const std::vector<double>& s, const la::DdMatrix& lines, double scale,
                 double length, Size bins) {
  constexpr double extension = 2;
  FlatFit fit;
  fit.bins = bins;
  fit.step = two_pi / (extension * length);
  fit.count = static_cast<Size>(extension * static_cast<double>(bins)) + 1;
  const Size features = 2 * fit.count - 1, columns = lines.cols();
  const auto n = static_cast<Size>(s.size());
  const Size m = std::min(n, 3 * features + 60);
  std::vector<double> used(m);
  const Size tall = std::max(m, features);
  std::vector<double> b(tall * columns);
  for (Size i = 0; i < m; ++i) {
    const Size from = m > 1 ? i * (n - 1) / (m - 1) : 0;
    used[i] = s[from];
    for (Size l = 0; l < columns; ++l) b[i + l * tall] = lines(from, l).hi;
  }
  std::vector<double> a = flat_features(used, fit.step, fit.count);
  std::vector<lapack_int> pivots(features);
  lapack_int rank = 0;
  {
    const la::OneBlasThread one;
    LAPACKE_dgelsy(LAPACK_COL_MAJOR, static_cast<lapack_int>(m), static_cast<lapack_int>(features),
                   static_cast<lapack_int>(columns), a.data(), static_cast<lapack_int>(m), b.data(),
                   static_cast<lapack_int>(tall), pivots.data(), 1e-14, &rank);
  }
  fit.coefficients.resize(features * columns);
  for (Size l = 0; l < columns; ++l)
    std::copy_n(b.begin() + l * tall, features, fit.coefficients.begin() + l * features);
  const std::vector<double> v = fit.values(s, columns);
  for (Size l = 0; l < columns; ++l)
    for (Size i = 0; i < n; ++i) {
      const double rest = std::fabs(v[i + l * n] - lines(i, l).hi) / scale;
      if (!(rest <= fit.rest)) fit.rest = rest;
    }
  return fit;
}

SampleSpectrum transform(std::span<const double> values, Size lines, double scale, double bin,
                         double threshold) {
  SampleSpectrum s;
  s.bin = bin;
  const auto n = static_cast<Size>(values.size()) / lines;
  for (Size l = 0; l < lines; ++l) {
    const std::vector<double> a = la::windowed_spectrum(values.subspan(l * n, n));
    s.amplitude.resize(a.size(), 0.0);
    for (std::size_t i = 0; i < a.size(); ++i)
      s.amplitude[i] = std::max(s.amplitude[i], a[i] / scale);
  }
  s.bands = la::find_bands(s.amplitude, threshold, bin);
  return s;
}

}  // namespace

SampleSpectrum sample_spectrum(const Checked& c, const RightHandSide& rhs, Size k) {
  const Points& p = rhs.axes[k];
  const auto n = static_cast<Size>(p.size());
  const double length = c.length(k).hi, span = (p.back() - p.front()).hi;
  const la::DdMatrix lines = lines_along(rhs.samples, k);
  const double scale = largest(lines);
  SampleSpectrum s;
  s.bin = two_pi / length;
  if (!(scale > 0)) return s;

  // Data of double precision, perhaps computed with rounded arguments.
  constexpr double rounding = 1e-13;
  const bool whole = span > 0.98 * length * static_cast<double>(n - 1) / static_cast<double>(n);
  if (n >= 200 && equally_spaced(p) && whole) {
    const double bin = two_pi / (span * static_cast<double>(n) / static_cast<double>(n - 1));
    s = transform(lines.rounded(), lines.cols(), scale, bin, rounding);
    // The end of the spectrum is noise, if it is small, and noise is everywhere.
    double tail = 0;
    const auto size = s.amplitude.size();
    for (std::size_t i = size - size / 16 - 1; i < size; ++i) tail = std::max(tail, s.amplitude[i]);
    s.resolved = tail <= 1e-9;
    s.bands = la::find_bands(s.amplitude, std::max(rounding, 6 * tail), bin);
    return s;
  }

  const dd centre = (c.end(k, 0) + c.end(k, 1)) * 0.5;
  std::vector<double> from_centre(n);
  for (Size i = 0; i < n; ++i) from_centre[i] = (p[i] - centre).hi;
  FlatFit best;
  best.rest = std::numeric_limits<double>::infinity();
  // Features of [0, B] span about 2 B + 20 functions; as many as there are samples fit anything.
  const auto functions = [](Size bins) { return std::min(4 * bins + 1, 2 * bins + 20); };
  for (Size bins = 2; bins == 2 || (functions(bins) <= n * 9 / 10 && bins <= 700);
       bins += std::max<Size>(1, bins / 3)) {
    FlatFit fit = flat_fit(from_centre, lines, scale, length, bins);
    if (fit.rest < 0.2 * best.rest) best = std::move(fit);
    if (best.rest <= 2e-14) break;
  }
  if (!(best.rest <= 1e-6)) {
    s.amplitude = {1};
    s.bands = {{0, s.bin * static_cast<double>(best.bins)}};
    return s;
  }
  Size points = 256;
  while (points < 4 * best.bins) points *= 2;
  std::vector<double> uniform(points);
  for (Size i = 0; i < points; ++i)
    uniform[i] = length * (static_cast<double>(i) / static_cast<double>(points) - 0.5);
  return transform(best.values(uniform, lines.cols()), lines.cols(), scale, s.bin,
                   std::max(rounding, 30 * best.rest));
}

la::DdMatrix least_squares_projector(const la::DdMatrix& a, const Points& points, double tolerance,
                                     int threads) {
  Points weight = trapezoid(points);
  for (dd& w : weight) w = sqrt(w);
  const la::PivotedQr f = la::pivoted_qr(scale_rows(a, weight), tolerance, a.cols(), threads);
  const la::DdMatrix y = la::solve_upper(f.r, la::transpose(f.q));
  la::DdMatrix p(a.cols(), a.rows());
  for (Size i = 0; i < f.rank; ++i)
    for (Size j = 0; j < p.cols(); ++j) p.set(f.pivots[i], j, y(i, j) * weight[j]);
  return p;
}

namespace {

// Largest error at a sample of the fit to all the others, which is the residual over one minus the
// diagonal of the hat matrix H = A P. What lies between the samples shows in it, where the residual
// itself vanishes as soon as there are as many functions as samples. Without the two at the ends,
// beyond which nothing is asked of the fit.
// @source  Allen (1974), Technometrics 16, 125-127
double left_out(const la::DdMatrix& a, const la::DdMatrix& projector, const la::DdMatrix& lines,
                int threads) {
  const la::DdMatrix fitted = la::multiply(a, la::multiply(projector, lines, threads), threads);
  const la::DdMatrix rows = la::transpose(a);
  double value = 0;
  for (Size i = 1; i + 1 < lines.rows(); ++i) {
    const dd leverage =
        la::dot(rows.rows(), rows.hi(i), rows.lo(i), projector.hi(i), projector.lo(i));
    const double freedom = std::max((1.0 - leverage).hi, 1e-20);
    for (Size l = 0; l < lines.cols(); ++l) {
      const double error = std::fabs((fitted(i, l) - lines(i, l)).hi) / freedom;
      if (!(error <= value)) value = error;
    }
  }
  return value;
}

}  // namespace

SampleFit::SampleFit(const Checked& c, const RightHandSide& rhs,
                     const std::vector<std::vector<Band>>& bands, double stretch)
    : axes_(rhs.axes), threads_(c.threads) {
  for (Size k = 0; k < c.dimension(); ++k) {
    const auto n = static_cast<Size>(axes_[k].size());
    const la::DdMatrix lines = lines_along(rhs.samples, k);
    const double scale = largest(lines);
    double smallest = std::numeric_limits<double>::infinity();
    basis_.emplace_back();
    projector_.emplace_back();
    const auto attempt = [&](double margin, double tolerance, Size most) {
      la::BasisOptions o;
      o.kernel = KernelType::gaussian;
      o.margin = margin * stretch;
      o.periodic = c.axis[k].periodic;
      o.threads = c.threads;
      o.max_modes = n;
      std::vector<Band> wanted = bands[k];
      wanted.push_back({0, 0});
      wanted = la::merge_bands(std::move(wanted), 2 * o.margin * two_pi / c.length(k).hi);
      const auto basis = la::make_basis(c.end(k, 0), c.end(k, 1), wanted, o, c.cache.get());
      if (basis->size() > most) return false;
      const la::DdMatrix a = basis->features_at(axes_[k], 0);
      la::DdMatrix projector = least_squares_projector(a, axes_[k], tolerance, c.threads);
      const double rest = scale > 0 ? left_out(a, projector, lines, c.threads) / scale : 0;
      if (!basis_[k] || rest < smallest) {
        smallest = rest;
        basis_[k] = basis;
        projector_[k] = std::move(projector);
      }
      return rest <= 1e-12 && basis->size() <= n / 2;
    };
    for (const double margin : {12.0, 9.0, 6.5, 5.0, 4.0, 3.0, 2.0, 1.0})
      if (attempt(margin, 1e-15, n * 17 / 20)) break;
    // Samples that no smooth function joins: a fit that stays tame between them.
    for (const double tolerance : {1e-6, 1e-3, 1e-1})
      if (!basis_[k] || smallest > 1e-9) attempt(2, tolerance, 2 * n + 16);
    rest_ = std::max(rest_, smallest);
  }
}

la::DdMatrix SampleFit::values(const RightHandSide& rhs, std::span<const Points> grid) const {
  la::DdMatrix x = la::multiply(projector_[0], rhs.samples, threads_);
  if (basis_.size() > 1) x = la::multiply(x, la::transpose(projector_[1]), threads_);
  la::DdMatrix v = la::multiply(basis_[0]->features_at(grid[0], 0), x, threads_);
  if (basis_.size() > 1)
    v = la::multiply(v, la::transpose(basis_[1]->features_at(grid[1], 0)), threads_);
  return v;
}

}  // namespace halfulp::gp_pde::detail
