#include "detail/pde_bands.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

#include "detail/pde_samples.hpp"
#include "detail/spectrum.hpp"

namespace halfulp::gp_pde::detail {

namespace {

// Values along axis k of a grid, one line for each point of the other axes.
std::vector<std::vector<double>> lines_along(const Program<dd>& program,
                                             std::span<const Points> grid, Size k, int threads) {
  Size before = 1, after = 1;
  const auto n = static_cast<Size>(grid[k].size());
  for (std::size_t i = 0; i < grid.size(); ++i) {
    if (static_cast<Size>(i) < k) before *= static_cast<Size>(grid[i].size());
    if (static_cast<Size>(i) > k) after *= static_cast<Size>(grid[i].size());
  }
  std::vector<dd> values(before * n * after);
  program.on_grid(grid, values, threads);
  std::vector<std::vector<double>> lines;
  for (Size b = 0; b < before; ++b)
    for (Size a = 0; a < after; ++a) {
      std::vector<double> line(n);
      for (Size i = 0; i < n; ++i) line[i] = values[(b * n + i) * after + a].hi;
      lines.push_back(std::move(line));
    }
  return lines;
}

}  // namespace

Spectrum infer_spectrum(const Checked& c, const RightHandSide& rhs, Size k) {
  constexpr double relative = 3e-15;  // what rounding the samples leaves visible
  const Size d = c.dimension();
  const Size lines = d == 3 ? 4 : 12;  // an axis
  Spectrum result;
  result.bin = two_pi / c.length(k).hi;
  const dd lower = c.end(k, 0), length = c.length(k);
  // Lines at golden-ratio positions never coincide with the nodal lines of a product of sines.
  std::vector<Points> across(d);
  for (Size o = 0; o < d; ++o)
    for (Size i = 0; i < lines && o != k; ++i) {
      const double t = 0.5 + 0.6180339887498949 * static_cast<double>(i + 1 + (o > k ? 0 : 7 * o));
      across[o].push_back(c.end(o, 0) + c.length(o) * (t - std::floor(t)));
    }
  const auto add = [&](std::span<const std::vector<double>> group, double scale) {
    for (const auto& line : group) {
      const std::vector<double> a = la::windowed_spectrum(line);
      if (result.amplitude.size() < a.size()) result.amplitude.resize(a.size(), 0.0);
      for (std::size_t i = 0; i < a.size(); ++i)
        result.amplitude[i] = std::max(result.amplitude[i], a[i] / scale);
    }
  };
  const auto largest = [](std::span<const std::vector<double>> group) {
    double value = 0;
    for (const auto& line : group)
      for (const double x : line) value = std::max(value, std::fabs(x));
    return value;
  };
  // Largest amplitude in every bin over all lines of data sampled at n points; returns that of the
  // highest quarter of the bins.
  double seen = 0;  // largest |f| of the last sampling
  const auto spectrum_of = [&](Size n) {
    result.amplitude.clear();
    Points along(n);
    for (Size i = 0; i < n; ++i)
      along[i] = lower + length * (dd(static_cast<double>(i)) / static_cast<double>(n));
    std::vector<Points> grid = across;
    grid[k] = along;
    std::vector<std::vector<double>> group = lines_along(rhs.formula, grid, k, c.threads);
    const double f_scale = rhs.negligible ? 0.0 : largest(group);
    seen = f_scale;
    if (f_scale > 0) add(group, f_scale);
    for (const Condition& condition : c.conditions) {
      const Size o = condition.axis;
      if (o == k) continue;
      std::vector<Points> face = grid;
      face.erase(face.begin() + o);
      std::vector<std::string> names = c.names;
      names.erase(names.begin() + o);
      if (c.start_data && o == c.start_axis && condition.side == 0) {
        group = {c.start_data(along).rounded()};
      } else {
        const Expression g =
            condition.g.substitute(c.names[o], Expression(c.end(o, condition.side)));
        group = lines_along(Program<dd>(g, names), face, k > o ? k - 1 : k, c.threads);
      }
      // Data that are zero up to rounding, such as sin(100*2*pi), carry no band.
      const double scale = largest(group);
      if (scale > 1e-25 * std::max(1.0, f_scale)) add(group, scale);
    }
    if (result.amplitude.empty()) result.amplitude.assign(2, 0.0);
    const auto size = result.amplitude.size();
    double tail = 0;
    for (std::size_t i = size - size / 4; i < size; ++i) tail = std::max(tail, result.amplitude[i]);
    return tail;
  };
  const auto same = [&](const std::vector<Band>& a, const std::vector<Band>& b) {
    const double slack = 3 * result.bin;
    return std::equal(
        a.begin(), a.end(), b.begin(), b.end(), [slack](const Band& p, const Band& q) {
          return std::fabs(p.lower - q.lower) <= slack && std::fabs(p.upper - q.upper) <= slack;
        });
  };
  // A frequency beyond the sampling's limit folds back and looks like a lower one; at another rate
  // it folds back elsewhere. So two rates must agree.
  constexpr Size most = Size{1} << 16;
  result.resolved = false;
  // Nor may a spike hide between the samples (in 2-D the residual's points are asked the same).
  const double there = d == 1 && !rhs.negligible ? largest_value(c, rhs) : 0;
  for (Size n = 1024; n <= most && !result.resolved; n *= 4) {
    if (!(spectrum_of(n + 2 * (n / 7)) <= relative)) continue;
    const auto other_rate = la::find_bands(result.amplitude, relative, result.bin);
    if (!(spectrum_of(n) <= relative)) continue;
    const auto bands = la::find_bands(result.amplitude, relative, result.bin);
    result.resolved = same(other_rate, bands) && seen >= 0.8 * there;
  }
  result.bands = la::find_bands(result.amplitude, relative, result.bin);

  if (rhs.sampled) {
    SampleSpectrum own = sample_spectrum(c, rhs, k);
    result.sample_bands = own.bands;
    result.resolved = result.resolved && own.resolved;
    result.bands.insert(result.bands.end(), own.bands.begin(), own.bands.end());
    if (result.amplitude.size() < own.amplitude.size()) {
      result.amplitude = std::move(own.amplitude);
      result.bin = own.bin;
    } else {
      for (std::size_t i = 0; i < own.amplitude.size(); ++i)
        result.amplitude[i] = std::max(result.amplitude[i], own.amplitude[i]);
    }
  }
  double top = 0;
  for (const double a : result.amplitude) top = std::max(top, a);
  if (top > 0)
    for (double& a : result.amplitude) a /= top;
  result.bands = la::merge_bands(result.bands, 2 * result.bin);
  return result;
}

std::vector<Band> bands_of_lines(const Checked& c, const la::DdMatrix& lines, Size k,
                                 double threshold) {
  const double bin = two_pi / c.length(k).hi;
  std::vector<Band> bands;
  for (Size l = 0; l < lines.cols(); ++l) {
    const std::span<const double> line(lines.hi(l), static_cast<std::size_t>(lines.rows()));
    const auto found = la::find_bands(la::windowed_spectrum(line), threshold, bin);
    bands.insert(bands.end(), found.begin(), found.end());
  }
  return la::merge_bands(std::move(bands), 2 * bin);
}

namespace {

// Coefficients of the equation in one dimension at n + 1 points, lowest order first.
std::vector<std::vector<double>> characteristic_coefficients(const Checked& c, int n) {
  std::vector<Expression> formulas;
  for (int order = 0; order <= highest_order; ++order)
    formulas.push_back(coefficient(c.op, {order}));
  const Program<double> program(formulas, c.names);
  std::vector<std::vector<double>> lines;
  for (int i = 0; i <= n; ++i) {
    const double x = c.end(0, 0).hi + c.length(0).hi * i / n;
    std::vector<double> values(formulas.size());
    program(std::span<const double>(&x, 1), values);
    if (std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); }))
      lines.push_back(std::move(values));
  }
  return lines;
}

}  // namespace

std::vector<Band> symbol_bands(const Checked& c, Size k, std::span<const Band> other_bands) {
  std::vector<Band> bands;
  const double length = c.length(k).hi;
  const auto add = [&](std::complex<double> root) {
    if (!std::isfinite(root.real()) || !std::isfinite(root.imag())) return;
    const double nu = std::fabs(root.imag()), alpha = std::fabs(root.real());
    const double width = alpha * length > 12 ? 4 * alpha : 0;
    bands.push_back({std::max(0.0, nu - width), nu + width});
  };
  const auto roots = [&](std::complex<double> a, std::complex<double> b, std::complex<double> e) {
    if (std::abs(a) == 0) {
      if (std::abs(b) > 0) add(-e / b);
      return;
    }
    const auto s = std::sqrt(b * b - 4.0 * a * e);
    add((-b + s) / (2.0 * a));
    add((-b - s) / (2.0 * a));
  };
  const bool higher = c.strong || c.axis[0].order > 2;
  if (higher && c.dimension() == 1) {
    for (const auto& line : characteristic_coefficients(c, 16))
      for (const auto& root : polynomial_roots({line.begin(), line.end()})) add(root);
    return bands;
  }
  if (higher) {
    for (const Band& band : other_bands)
      for (int i = 0; i <= 16; ++i) {
        const std::complex<double> iw(0, band.lower + (band.upper - band.lower) * i / 16.0);
        std::vector<std::complex<double>> a(highest_order + 1);
        for (const auto& [order, value] : c.op.coefficients)
          a[order[k]] += value.constant().hi * std::pow(iw, order[1 - k]);
        for (const auto& root : polynomial_roots(std::move(a))) add(root);
      }
    return bands;
  }
  if (c.dimension() == 1) {
    const Program<double> coefficients(
        std::vector<Expression>{coefficient(c.op, {2}), coefficient(c.op, {1}),
                                coefficient(c.op, {0})},
        c.names);
    for (int i = 0; i <= 16; ++i) {
      const double x = c.end(0, 0).hi + length * i / 16.0;
      double v[3];
      coefficients(std::span<const double>(&x, 1), std::span<double>(v, 3));
      roots(v[0], v[1], v[2]);
    }
  } else {
    const Size other = 1 - k;
    using namespace std::complex_literals;
    for (const Band& band : other_bands)
      for (int i = 0; i <= 16; ++i) {
        const double w = band.lower + (band.upper - band.lower) * i / 16.0;
        const std::complex<double> iw = 1i * w;
        roots(c.axis[k].second.hi, c.axis[k].first.hi + c.mixed.hi * iw,
              c.axis[other].second.hi * iw * iw + c.axis[other].first.hi * iw + c.reaction.hi);
      }
  }
  return bands;
}

std::vector<Band> oscillation_bands(const Checked& c) {
  if (c.axis[0].order > 2) {
    std::vector<Band> bands;
    for (const auto& line : characteristic_coefficients(c, 64))
      for (const auto& root : polynomial_roots({line.begin(), line.end()}))
        if (root.imag() > 1e-9 * std::abs(root)) bands.push_back({root.imag(), root.imag()});
    // One band between those of neighbouring points.
    return la::merge_bands(std::move(bands), 24 * two_pi / c.length(0).hi);
  }
  const Program<double> coefficients(
      std::vector<Expression>{coefficient(c.op, {2}), coefficient(c.op, {1}),
                              coefficient(c.op, {0})},
      c.names);
  double lowest = std::numeric_limits<double>::infinity(), highest = 0;
  for (int i = 0; i <= 64; ++i) {
    const double x = c.end(0, 0).hi + c.length(0).hi * i / 64.0;
    double v[3];
    coefficients(std::span<const double>(&x, 1), std::span<double>(v, 3));
    const double discriminant = v[1] * v[1] - 4 * v[0] * v[2];
    if (!(discriminant < 0) || v[0] == 0) continue;
    const double frequency = std::sqrt(-discriminant) / std::fabs(2 * v[0]);
    if (!std::isfinite(frequency)) continue;
    lowest = std::min(lowest, frequency);
    highest = std::max(highest, frequency);
  }
  if (!(lowest <= highest)) return {};
  return {{lowest, highest}};
}

double modes_of(std::vector<Band> bands, double length) {
  const double bin = two_pi / length;
  bands.push_back({0, 0});
  double sum = 0;
  for (const Band& b : la::merge_bands(std::move(bands), 24 * bin))
    sum += (b.upper - b.lower) / bin + (b.lower > 0 ? 28 : 20);
  return 2 * sum;
}

bool fit_to_modes(std::vector<Band>& bands, double length, double most) {
  bool whole = std::erase_if(bands, [&](const Band& b) { return !(b.upper * length < 1e12); }) == 0;
  if (modes_of(bands, length) > most) {
    bands = {{0, (most / 2 - 20) * two_pi / length}};
    whole = false;
  }
  return whole;
}

bool same_bands(const std::vector<std::vector<Band>>& a, const std::vector<std::vector<Band>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), [](const auto& p, const auto& q) {
    return std::equal(p.begin(), p.end(), q.begin(), q.end(), [](const Band& x, const Band& y) {
      return x.lower == y.lower && x.upper == y.upper;
    });
  });
}

}  // namespace halfulp::gp_pde::detail
