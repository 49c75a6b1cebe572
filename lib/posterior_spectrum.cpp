#include "detail/posterior_spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "detail/pde_problem.hpp"
#include "detail/spectrum.hpp"

namespace halfulp::gp_pde::detail {
namespace {

using Complex = std::complex<double>;

constexpr double pi = std::numbers::pi;

double rms(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

// Amplitudes of lines known at points of any spacing, mean square over the lines, at multiples of
// `bin`: the transform of the lines times a Kaiser window and the points' share of the axis.
struct Transform {
  double bin = 0;
  std::vector<double> power;   // mean |amplitude|^2 over the lines; a sine of amplitude A gives A^2
  double noise_power = 0;      // what white noise of variance 1 gives
  double lobe = 1;             // half width of a line, in bins
  std::vector<double> weight;  // of the points, sums to one
};

Transform transform(const PriorAxis& axis, const std::vector<double>& points,
                    const std::vector<std::vector<double>>& lines, double beta) {
  Transform t;
  const auto n = std::ssize(points);
  t.bin = 2 * pi / axis.length;
  t.lobe = std::sqrt(1 + (beta / pi) * (beta / pi));
  const double i0 = std::cyl_bessel_i(0.0, beta);
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double s = 2 * (points[i] - axis.lower) / axis.length - 1;
    const double share =
        (points[std::min(i + 1, n - 1)] - points[std::max<std::ptrdiff_t>(i - 1, 0)]) / 2;
    t.weight.push_back(share * std::cyl_bessel_i(0.0, beta * std::sqrt(std::max(0.0, 1 - s * s))) /
                       i0);
    sum += t.weight.back();
  }
  double squares = 0;
  for (double& w : t.weight) {
    w /= sum;
    squares += w * w;
  }
  t.noise_power = 4 * squares;
  const std::ptrdiff_t count = std::min<std::ptrdiff_t>(n / 2, 8192);
  t.power.assign(count, 0);
  std::vector<Complex> unit(n), now(n);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    unit[i] = std::polar(1.0, -t.bin * (points[i] - axis.lower));
    now[i] = t.weight[i];
  }
  for (std::ptrdiff_t k = 0; k < count; ++k) {
    for (const auto& line : lines) {
      Complex a = 0;
      for (std::ptrdiff_t i = 0; i < n; ++i) a += now[i] * line[i];
      t.power[k] += (k == 0 ? 1 : 4) * std::norm(a) / static_cast<double>(lines.size());
    }
    for (std::ptrdiff_t i = 0; i < n; ++i) now[i] *= unit[i];
  }
  return t;
}

// White noise's power from the upper part of a spectrum that signals leave free.
double floor_power(const Transform& t) {
  std::vector<double> tail(t.power.begin() + std::min<std::ptrdiff_t>(8, std::ssize(t.power) / 2),
                           t.power.end());
  if (tail.empty()) return 0;
  const auto quarter = tail.begin() + std::ssize(tail) / 3;
  std::nth_element(tail.begin(), quarter, tail.end());
  return *quarter / std::log(1.5);  // a third of exponentially distributed powers lie below
}

struct AxisBand {
  double centre = 0, width = 0, power = 0;
};

// Runs of bins above a threshold, a main lobe taken off on both sides.
std::vector<std::pair<double, double>> runs(const std::vector<double>& power, double threshold,
                                            double lobe) {
  std::vector<std::pair<double, double>> found;
  const auto n = std::ssize(power);
  for (std::ptrdiff_t k = 0; k < n; ++k) {
    if (!(power[k] > threshold)) continue;
    std::ptrdiff_t last = k, gap = 0;
    for (std::ptrdiff_t j = k + 1; j < n && gap <= 2; ++j) {
      gap = power[j] > threshold ? 0 : gap + 1;
      if (gap == 0) last = j;
    }
    const auto peak = static_cast<double>(
        std::max_element(power.begin() + k, power.begin() + last + 1) - power.begin());
    double lower = static_cast<double>(k) + lobe, upper = static_cast<double>(last) - lobe;
    if (k == 0) lower = 0;
    if (lower > peak) lower = peak;
    if (upper < peak) upper = peak;
    found.emplace_back(lower, upper);
    k = last;
  }
  return found;
}

// |symbol of L| at frequency w along axis k, of typical size elsewhere.
class Symbol {
 public:
  explicit Symbol(const SpectrumInput& input) {
    std::vector<Expression> formulas;
    for (const auto& [orders, coefficient] : input.terms) formulas.push_back(coefficient);
    const Program<double> program(formulas, input.names);
    std::vector<double> at, value(formulas.size());
    for (const PriorAxis& axis : input.axes) at.push_back(axis.lower + 0.4637 * axis.length);
    program(at, value);
    for (std::size_t i = 0; i < value.size(); ++i)
      terms_.emplace_back(input.terms[i].first, value[i]);
  }
  [[nodiscard]] double operator()(std::span<const double> w, double least) const {
    Complex sum = 0;
    double largest = 0;
    for (const auto& [orders, value] : terms_) {
      Complex term = value;
      for (std::size_t k = 0; k < orders.size(); ++k)
        for (int i = 0; i < orders[k]; ++i) term *= Complex(0, std::max(w[k], least));
      sum += term;
      largest = std::max(largest, std::abs(term));
    }
    // Near a resonance the symbol vanishes, which says nothing about u's size.
    return std::max(std::abs(sum), 0.1 * largest);
  }
  // One axis: frequencies of homogeneous solutions that oscillate; 0 if none does.
  [[nodiscard]] double oscillation() const {
    double c[3] = {0, 0, 0};
    for (const auto& [orders, value] : terms_)
      if (orders.size() == 1 && orders[0] <= 2) c[orders[0]] += value;
    const double discriminant = c[1] * c[1] - 4 * c[0] * c[2];
    if (!(discriminant < 0) || c[2] == 0) return 0;
    return std::sqrt(-discriminant) / std::fabs(2 * c[2]);
  }

 private:
  std::vector<std::pair<std::vector<int>, double>> terms_;
};

// Values of a formula along axis k for a few positions of the other.
std::vector<std::vector<double>> formula_lines(const SpectrumInput& input,
                                               const Expression& formula, std::size_t k,
                                               std::ptrdiff_t n, std::vector<double>& points) {
  const PriorAxis& axis = input.axes[k];
  points.resize(n);
  for (std::ptrdiff_t i = 0; i < n; ++i)
    points[i] = axis.lower + axis.length * static_cast<double>(i) / static_cast<double>(n);
  std::vector<std::vector<double>> grid(input.axes.size());
  grid[k] = points;
  std::ptrdiff_t lines = 1;
  if (input.axes.size() == 2) {
    const PriorAxis& other = input.axes[1 - k];
    lines = 12;
    for (std::ptrdiff_t i = 0; i < lines; ++i) {
      const double t = 0.5 + 0.6180339887498949 * static_cast<double>(i + 1);
      grid[1 - k].push_back(other.lower + other.length * (t - std::floor(t)));
    }
  }
  std::vector<double> values(n * lines);
  Program<double>(formula, input.names).on_grid(grid, values, 1);
  std::vector<std::vector<double>> out(lines, std::vector<double>(n));
  for (std::ptrdiff_t l = 0; l < lines; ++l)
    for (std::ptrdiff_t i = 0; i < n; ++i)
      out[l][i] = k == 0 ? values[i * lines + l] : values[l * n + i];
  return out;
}

// Rows (k = 0: columns) of samples on the grid.
std::vector<std::vector<double>> sample_lines(const SpectrumInput& input, std::size_t k) {
  const auto n = std::ssize(input.grid[k]);
  if (input.grid.size() == 1) return {input.values};
  const auto other = std::ssize(input.grid[1 - k]);
  const std::ptrdiff_t stride = (other + 63) / 64;
  std::vector<std::vector<double>> lines;
  for (std::ptrdiff_t l = 0; l < other; l += stride) {
    std::vector<double> line(n);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      line[i] = k == 0 ? input.values[i * other + l] : input.values[l * n + i];
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

StartSpectrum start_spectrum(const SpectrumInput& input) {
  const std::size_t d = input.axes.size();
  StartSpectrum result;
  result.noise = input.noise;
  result.frequency.resize(d);
  result.amplitude.resize(d);
  const Symbol symbol(input);
  std::vector<std::vector<AxisBand>> bands(d);
  // Where products of bands are looked for in two dimensions.
  std::vector<std::vector<double>> grid = input.grid;
  std::vector<double> values = input.values;
  if (input.formula && d == 2) {
    grid.resize(2);
    for (std::size_t k = 0; k < 2; ++k) {
      constexpr int n = 512;
      grid[k].resize(n);
      for (int i = 0; i < n; ++i)
        grid[k][i] = input.axes[k].lower + input.axes[k].length * (i + 0.5) / n;
    }
    values.resize(grid[0].size() * grid[1].size());
    Program<double>(*input.formula, input.names).on_grid(grid, values, 1);
  }
  const double scale = rms(input.formula && d == 1 ? std::span<const double>() : values);

  std::vector<std::vector<double>> weight(d);
  double pair_noise = 1;  // of white noise in a product of bands
  for (std::size_t k = 0; k < d; ++k) {
    const PriorAxis& axis = input.axes[k];
    const double bin = 2 * pi / axis.length;
    std::vector<double> points;
    std::vector<std::vector<double>> lines;
    if (input.formula) {
      lines = formula_lines(input, *input.formula, k, 4096, points);
    } else {
      points = input.grid[k];
      lines = sample_lines(input, k);
    }
    // A window whose side lobes stay below the noise, and no wider than that.
    double beta = 12;
    if (input.formula) {
      beta = 30;
    } else if (input.noise > 0 && scale > 0) {
      const double decibels =
          20 * std::log10(scale / input.noise * std::sqrt(static_cast<double>(points.size()))) + 10;
      beta = std::clamp(0.1102 * (decibels - 8.7) + 2, 5.0, 38.0);
    }
    Transform t = transform(axis, points, lines, beta);
    if (!input.formula && input.noise == 0) {
      // Unknown noise: look at it through a narrow window first.
      const double first = std::sqrt(floor_power(t) / t.noise_power);
      if (first > 0 && scale > 0) {
        const double decibels =
            20 * std::log10(scale / first * std::sqrt(static_cast<double>(points.size()))) + 10;
        beta = std::clamp(0.1102 * (decibels - 8.7) + 2, 5.0, 38.0);
        t = transform(axis, points, lines, beta);
      }
      const double level = std::sqrt(floor_power(t) / t.noise_power);
      result.noise = k == 0 ? level : std::min(result.noise, level);
    }
    double largest = 0;
    for (const double p : t.power) largest = std::max(largest, p);
    for (std::size_t i = 0; i < t.power.size(); ++i) {
      result.frequency[k].push_back(t.bin * static_cast<double>(i));
      result.amplitude[k].push_back(largest > 0 ? std::sqrt(t.power[i] / largest) : 0);
    }
    const double count = static_cast<double>(t.power.size());
    double threshold = 1e-12 * largest;
    if (!input.formula) {
      const double level = result.noise > 0 ? result.noise : 1e-13 * scale;
      // The mean of powers over lines scatters less than one power.
      const double excess = (std::log(count) + 5) / std::sqrt(static_cast<double>(lines.size()));
      threshold = std::max(1e-25 * largest, t.noise_power * level * level * (1 + excess));
    }
    if (input.kernel != KernelType::matern && largest > 0)
      for (const auto& [first, last] : runs(t.power, threshold, t.lobe)) {
        // Moments of u's power in the run: f's over the symbol squared.
        double sum = 0, mean = 0, spread = 0, peak = 0;
        const auto from = static_cast<std::ptrdiff_t>(std::floor(std::max(0.0, first)));
        const auto to = std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(std::ceil(last)),
                                                 std::ssize(t.power) - 1);
        for (std::ptrdiff_t i = from; i <= to; ++i) {
          std::vector<double> w(d, 0.0);
          w[k] = bin * static_cast<double>(i);
          const double size = symbol(w, bin / 2);
          const double u = t.power[i] / (size * size);
          sum += u;
          mean += u * w[k];
          peak = std::max(peak, u);
        }
        mean /= sum;
        for (std::ptrdiff_t i = from; i <= to; ++i) {
          std::vector<double> w(d, 0.0);
          w[k] = bin * static_cast<double>(i);
          const double size = symbol(w, bin / 2);
          spread += t.power[i] / (size * size) * (w[k] - mean) * (w[k] - mean);
        }
        const double width = std::max(bin, std::sqrt(spread / sum));
        // What reaches zero is the low band's.
        if (mean < 1.5 * width || mean < 2 * bin) continue;
        bands[k].push_back({mean, width, peak});
      }
    weight[k] = t.weight;
    double squares = 0;
    for (const double w : t.weight) squares += w * w;
    pair_noise *= squares;

    // Data of the sides along this axis, exact.
    if (d == 2 && input.kernel != KernelType::matern)
      for (const Side& side : input.sides[1 - k]) {
        if (!has_data(side) || side.g.is_zero()) continue;
        const Expression g = side.g.substitute(
            input.names[1 - k],
            Expression(input.axes[1 - k].lower +
                       (&side == &input.sides[1 - k][0] ? 0 : input.axes[1 - k].length)));
        std::vector<double> along;
        const auto one = formula_lines(input, g, k, 2048, along);
        const Transform side_transform = transform(axis, along, {one[0]}, 20);
        const double top =
            *std::max_element(side_transform.power.begin(), side_transform.power.end());
        // Zero up to rounding, such as sin(100*2*pi), has no band.
        if (!(std::sqrt(top) > 1e-12 * std::max(scale, 1e-280))) continue;
        for (const auto& [first, last] :
             runs(side_transform.power, 1e-8 * top, side_transform.lobe)) {
          const double centre = bin * (first + last) / 2;
          const double width = std::max(bin, bin * (last - first) / 4);
          if (centre < 1.5 * width || centre < 2 * bin) continue;
          bands[k].push_back({centre, width, 0});
        }
      }
    // Observations on a line.
    if (d == 1 && input.kernel != KernelType::matern && input.observed.size() >= 16) {
      std::vector<std::pair<double, double>> sorted;
      for (std::size_t i = 0; i < input.observed.size(); ++i)
        sorted.emplace_back(input.points[0][i], input.observed[i]);
      std::sort(sorted.begin(), sorted.end());
      std::vector<double> x, y;
      for (const auto& [at, value] : sorted) {
        x.push_back(at);
        y.push_back(value);
      }
      const Transform seen = transform(axis, x, {y}, 6);
      const double level =
          floor_power(seen) * (std::log(static_cast<double>(seen.power.size())) + 6);
      for (const auto& [first, last] : runs(seen.power, level, seen.lobe)) {
        const double centre = bin * (first + last) / 2;
        const double width = std::max(bin, bin * (last - first) / 4);
        if (centre < 1.5 * width || centre < 2 * bin) continue;
        bands[k].push_back({centre, width, 0});
      }
    }
    if (d == 1) {
      const double own = symbol.oscillation();
      if (own > 2 * bin && input.kernel != KernelType::matern && own * axis.length < 1e5)
        bands[k].push_back({own, bin, 0});
    }
    if (!input.bands.empty()) {
      bands[k].clear();
      for (const Band& b : input.bands[k]) {
        const double centre = (b.lower + b.upper) / 2;
        const double width = std::max(bin, (b.upper - b.lower) / 4);
        if (centre < 1.5 * width || centre < 2 * bin) continue;
        bands[k].push_back({centre, width, 0});
      }
    }
    // Near ones are one.
    std::sort(bands[k].begin(), bands[k].end(),
              [](const AxisBand& a, const AxisBand& b) { return a.centre < b.centre; });
    std::vector<AxisBand> merged;
    for (const AxisBand& b : bands[k]) {
      if (!merged.empty() && b.centre - merged.back().centre <
                                 0.8 * std::max(b.width, merged.back().width) + bin / 2) {
        AxisBand& last = merged.back();
        if (b.power > last.power) last.centre = b.centre;
        last.width = std::max(last.width, b.width);
        last.power = std::max(last.power, b.power);
      } else {
        merged.push_back(b);
      }
    }
    std::stable_sort(merged.begin(), merged.end(),
                     [](const AxisBand& a, const AxisBand& b) { return a.power > b.power; });
    const std::size_t most = d == 1 ? 24 : 8;
    if (merged.size() > most) merged.resize(most);
    // The low band: polynomials, and what the conditions add.
    const double top = input.kernel == KernelType::matern ? 4 * bin : 1.5 * bin;
    merged.insert(merged.begin(), AxisBand{0, top, 0});
    bands[k] = std::move(merged);
  }

  // Variances to start from.
  const double least = [&] {
    double shortest = input.axes[0].length;
    for (const PriorAxis& axis : input.axes) shortest = std::min(shortest, axis.length);
    return 2 * pi / shortest;
  }();
  double f_scale = scale;
  if (input.formula && d == 1) {
    std::vector<double> points;
    f_scale = rms(formula_lines(input, *input.formula, 0, 4096, points)[0]);
  }
  double size = rms(input.observed);  // of u
  for (const auto& sides : input.sides)
    for (const Side& side : sides)
      if (has_data(side) && side.a != 0) {
        std::vector<double> points;
        for (std::size_t k = 0; k < d; ++k)
          size = std::max(size,
                          rms(formula_lines(input, side.g, k, 64, points)[0]) / std::fabs(side.a));
      }
  if (d == 1) {
    double seen = size * size;
    for (const AxisBand& b : bands[0]) seen += b.power / 2;
    const double low =
        seen > 0 ? std::sqrt(seen) : f_scale / symbol(std::vector<double>{2 * least}, least);
    result.size = low > 0 ? low : 1;
    for (const AxisBand& b : bands[0]) {
      double variance = b.power > 0 ? b.power / 2 : 0.1 * low * low;
      if (b.centre == 0) variance = low > 0 ? low * low : 1;
      result.prior.push_back({variance, {b.centre}, {b.width}});
    }
    // Where observations stand for conditions, solutions of the homogeneous equation have a size of
    // their own, which the forcing says nothing of.
    const bool free = std::any_of(input.sides[0].begin(), input.sides[0].end(),
                                  [](const Side& side) { return side.kind == SideKind::none; });
    if (free && !input.observed.empty() && input.kernel != KernelType::matern)
      result.prior.push_back({std::max(size * size, low * low), {0.0}, {0.75 * least}});
    return result;
  }
  // Products that the data have: their amplitude at the bands' centres and on both sides of them.
  const auto n0 = std::ssize(grid[0]), n1 = std::ssize(grid[1]);
  if (input.formula)
    for (std::size_t k = 0; k < 2; ++k) {
      std::vector<std::vector<double>> none{std::vector<double>(grid[k].size())};
      weight[k] = transform(input.axes[k], grid[k], none, 14).weight;
    }
  const auto project = [&](double wx, double wy) {
    std::vector<Complex> ex(n0), ey(n1);
    for (std::ptrdiff_t i = 0; i < n0; ++i)
      ex[i] = std::polar(weight[0][i], -wx * (grid[0][i] - input.axes[0].lower));
    for (std::ptrdiff_t j = 0; j < n1; ++j)
      ey[j] = std::polar(weight[1][j], -wy * (grid[1][j] - input.axes[1].lower));
    Complex plus = 0, minus = 0;
    for (std::ptrdiff_t i = 0; i < n0; ++i) {
      Complex a = 0, b = 0;
      for (std::ptrdiff_t j = 0; j < n1; ++j) {
        a += ey[j] * values[i * n1 + j];
        b += std::conj(ey[j]) * values[i * n1 + j];
      }
      plus += ex[i] * a;
      minus += ex[i] * b;
    }
    return 8 * (std::norm(plus) + std::norm(minus));
  };
  std::vector<Component> products;
  std::vector<double> power;
  double strongest = 0;
  for (const AxisBand& a : bands[0])
    for (const AxisBand& b : bands[1]) {
      double best = 0;
      if (scale > 0)
        for (const double s : {-0.7, 0.0, 0.7})
          for (const double t : {-0.7, 0.0, 0.7})
            best = std::max(best, project(std::max(0.0, a.centre + s * a.width),
                                          std::max(0.0, b.centre + t * b.width)));
      products.push_back({0, {a.centre, b.centre}, {a.width, b.width}});
      power.push_back(best);
      if (a.centre > 0 || b.centre > 0) strongest = std::max(strongest, best);
    }
  const double noise = result.noise > 0 && !input.formula ? result.noise : 0;
  const bool boundary =
      std::any_of(bands[0].begin(), bands[0].end(),
                  [](const AxisBand& b) { return b.centre > 0 && b.power == 0; }) ||
      std::any_of(bands[1].begin(), bands[1].end(),
                  [](const AxisBand& b) { return b.centre > 0 && b.power == 0; });
  double low = size;
  for (std::size_t c = 0; c < products.size(); ++c) {
    Component& product = products[c];
    const double value = symbol(product.centre, least);
    const bool lowest = product.centre[0] == 0 && product.centre[1] == 0;
    const bool seen = power[c] > std::max(1e-6 * strongest, 16 * pair_noise * noise * noise * 14);
    // A band of a side's data alone goes with the low band of the other axis.
    const bool from_sides =
        boundary && (product.centre[0] == 0 || product.centre[1] == 0) && !lowest;
    if (!lowest && !seen && !from_sides && input.bands.empty()) continue;
    product.variance = std::max(power[c] / 4 / (value * value), 0.01 * size * size);
    if (lowest) product.variance = std::max(product.variance, size * size);
    low = std::max(low, std::sqrt(product.variance));
    result.prior.push_back(product);
  }
  double seen = size * size;
  for (const Component& c : result.prior)
    if (c.centre[0] > 0 || c.centre[1] > 0) seen += c.variance;
  result.size = seen > 0 ? std::sqrt(seen) : low > 0 ? low : 1;
  for (Component& c : result.prior)
    if (!(c.variance > 1e-8 * low * low)) c.variance = low > 0 ? 1e-4 * low * low : 1;
  return result;
}

}  // namespace halfulp::gp_pde::detail
