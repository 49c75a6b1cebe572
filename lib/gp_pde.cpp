#include "halfulp/gp_pde.hpp"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <limits>
#include <utility>

#include "detail/dd_linalg.hpp"
#include "detail/fourier_basis.hpp"
#include "detail/linear_operator.hpp"
#include "detail/spectrum.hpp"
#include "detail/sylvester.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/dd_math.hpp"

namespace halfulp::gp_pde {

namespace la = halfulp::detail;
using detail::LinearOperator;
using la::BasisOptions;
using la::DdMatrix;
using la::FourierBasis;

namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();
constexpr double two_pi = 6.283185307179586;
using Size = std::ptrdiff_t;
using Points = std::vector<dd>;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// ---- sampling ---------------------------------------------------------------------------------

// Values on the tensor grid as a matrix: rows run along the first axis (one column in 1-D).
DdMatrix sample(const Program<dd>& program, std::span<const Points> axes, int threads) {
  const auto n = static_cast<Size>(axes[0].size());
  const Size m = axes.size() > 1 ? static_cast<Size>(axes[1].size()) : 1;
  std::vector<dd> values(n * m);
  program.on_grid(axes, values, threads);
  DdMatrix out(n, m);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < m; ++j) out.set(i, j, values[i * m + j]);
  return out;
}

DdMatrix add_scaled(DdMatrix a, dd factor, const DdMatrix& b) {
  const Size n = a.rows() * a.cols();
  for (Size k = 0; k < n; ++k) {
    const dd v = dd(a.hi(0)[k], a.lo(0)[k]) + factor * dd(b.hi(0)[k], b.lo(0)[k]);
    a.hi(0)[k] = v.hi;
    a.lo(0)[k] = v.lo;
  }
  return a;
}

double rms(const DdMatrix& a) {
  const std::vector<double>& v = a.rounded();
  double largest = 0;
  for (const double x : v) {
    if (!std::isfinite(x)) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, std::fabs(x));
  }
  if (!(largest > 0)) return 0;
  double sum = 0;
  for (const double x : v) sum += (x / largest) * (x / largest);
  return largest * std::sqrt(sum / static_cast<double>(v.size()));
}

// Rows of `a` times w_i.
DdMatrix scale_rows(DdMatrix a, const Points& w) {
  for (Size j = 0; j < a.cols(); ++j)
    for (Size i = 0; i < a.rows(); ++i) a.set(i, j, a(i, j) * w[i]);
  return a;
}

Points uniform_points(dd lower, dd upper, Size n) {
  Points p(n);
  for (Size i = 0; i < n; ++i)
    p[i] = n == 1 ? lower
                  : lower +
                        (upper - lower) * (dd(static_cast<double>(i)) / static_cast<double>(n - 1));
  return p;
}

Points chebyshev_points(dd lower, dd upper, Size n) {
  Points p(n);
  const dd centre = (lower + upper) * 0.5, radius = (upper - lower) * 0.5;
  for (Size i = 0; i < n; ++i)
    p[i] = centre - radius * cos(kernel::pi() * (dd(static_cast<double>(i)) /
                                                 static_cast<double>(std::max<Size>(1, n - 1))));
  return p;
}

// Trapezoidal weights on increasing points.
Points trapezoid(const Points& p) {
  const auto n = static_cast<Size>(p.size());
  Points w(n, dd(1.0));
  for (Size i = 0; n > 1 && i < n; ++i)
    w[i] = (p[std::min(i + 1, n - 1)] - p[std::max<Size>(i - 1, 0)]) * 0.5;
  return w;
}

// ---- the problem, checked and in normal form --------------------------------------------------

struct AxisOperator {
  dd second = 0.0, first = 0.0;  // constant coefficients of u_xx and u_x (2-D)
  bool has_second = false, has_first = false;
  bool periodic = false;
  std::array<bool, 2> inflow{};  // sides where convection enters and u is prescribed
};

struct Checked {
  Problem problem;
  Options options;
  LinearOperator op;
  std::vector<std::string> names;
  std::vector<AxisOperator> axis;
  dd reaction = 0.0, mixed = 0.0;  // 2-D
  bool constant = true;            // coefficients
  bool singular = false;           // constants solve the homogeneous problem
  int threads = 1;

  [[nodiscard]] Size dimension() const { return static_cast<Size>(names.size()); }
  [[nodiscard]] dd length(Size k) const { return problem.axes[k].upper - problem.axes[k].lower; }
  [[nodiscard]] dd end(Size k, int s) const {
    return s == 0 ? problem.axes[k].lower : problem.axes[k].upper;
  }
};

std::vector<int> orders(Size dimension, Size axis, int order) {
  std::vector<int> o(dimension, 0);
  o[axis] = order;
  return o;
}

Expression coefficient(const LinearOperator& op, const std::vector<int>& order) {
  const auto it = op.coefficients.find(order);
  return it == op.coefficients.end() ? Expression() : it->second;
}

[[noreturn]] void refuse(std::string_view argument, std::string_view value, std::string_view rule) {
  throw DomainError("gp_pde::Solver", argument, value, rule);
}

Checked check(Problem problem, Options options) {
  Checked c;
  if (problem.axes.empty() || problem.axes.size() > 2)
    refuse("problem.axes.size()", std::to_string(problem.axes.size()), "1 or 2");
  if (problem.sides.size() != problem.axes.size())
    throw ShapeError("gp_pde::Solver", "problem.sides.size()",
                     static_cast<Size>(problem.sides.size()),
                     static_cast<Size>(problem.axes.size()));
  for (const Axis& axis : problem.axes) {
    c.names.push_back(axis.name);
    if (!isfinite(axis.lower) || !isfinite(axis.upper) || !(axis.lower < axis.upper))
      refuse("problem.axes." + axis.name,
             "[" + std::to_string(axis.lower.hi) + ", " + std::to_string(axis.upper.hi) + "]",
             "finite with lower < upper");
  }
  const Size d = c.dimension();
  c.op = detail::extract_linear_operator(problem);
  c.axis.resize(d);
  bool any_second = false;
  for (const auto& [order, value] : c.op.coefficients) {
    int total = 0;
    for (const int o : order) total += o;
    if (total > 2)
      refuse("problem.equation", "a derivative of order " + std::to_string(total),
             "of order two at most");
    if (!value.is_constant()) c.constant = false;
  }
  if (!c.constant && d > 1)
    refuse("problem.equation", "a variable coefficient", "constant in two dimensions");
  bool undetermined = coefficient(c.op, std::vector<int>(d, 0)).is_zero();
  for (Size k = 0; k < d; ++k) {
    AxisOperator& axis = c.axis[k];
    const Expression second = coefficient(c.op, orders(d, k, 2));
    const Expression first = coefficient(c.op, orders(d, k, 1));
    axis.has_second = !second.is_zero();
    axis.has_first = !first.is_zero();
    any_second = any_second || axis.has_second;
    if (c.constant) {
      axis.second = second.constant();
      axis.first = first.constant();
    }
    auto& sides = problem.sides[k];
    axis.periodic = sides[0].kind == SideKind::periodic;
    if (axis.periodic != (sides[1].kind == SideKind::periodic))
      refuse("problem.sides." + c.names[k], "one periodic side", "periodic on both sides");
    int conditions = 0;
    for (int s = 0; s < 2; ++s) {
      Side& side = sides[s];
      const std::string name = "problem.sides." + c.names[k] + (s == 0 ? "-" : "+");
      if (side.kind == SideKind::dirichlet) side.a = 1, side.b = 0;
      if (side.kind == SideKind::neumann) side.a = 0, side.b = 1;
      if (!std::isfinite(side.a) || !std::isfinite(side.b) ||
          (side.kind != SideKind::none && side.kind != SideKind::periodic && side.a == 0 &&
           side.b == 0))
        refuse(name, "a = " + std::to_string(side.a) + ", b = " + std::to_string(side.b),
               "finite and not both zero");
      if (side.kind == SideKind::none || side.kind == SideKind::periodic) continue;
      ++conditions;
      if (side.a != 0) undetermined = false;
    }
    const int needed = axis.periodic ? 0 : axis.has_second ? 2 : axis.has_first ? 1 : 0;
    if (conditions != needed)
      refuse("problem.sides." + c.names[k], std::to_string(conditions) + " conditions",
             "as many as the order of the equation in " + c.names[k] + ", which is " +
                 std::to_string(needed));
  }
  if (d == 2) {
    c.reaction = coefficient(c.op, {0, 0}).constant();
    c.mixed = coefficient(c.op, {1, 1}).constant();
    // The sign that makes the operator positive: minus the second derivatives, or, without any,
    // the one for which the prescribed sides are those where the flow enters.
    double sign = 0;
    for (const AxisOperator& axis : c.axis) {
      if (!axis.has_second) continue;
      const double s = axis.second.hi > 0 ? -1 : 1;
      if (sign != 0 && s != sign)
        refuse(
            "problem.equation", "second derivatives of opposite signs",
            "elliptic or parabolic: a hyperbolic equation needs two conditions on one side, which "
            "is not solved yet");
      sign = s;
    }
    for (Size k = 0; k < d; ++k) {
      AxisOperator& axis = c.axis[k];
      for (int s = 0; s < 2; ++s) {
        const Side& side = problem.sides[k][s];
        if (!axis.has_first || side.kind == SideKind::none || side.kind == SideKind::periodic)
          continue;
        const double normal = s == 0 ? -1 : 1;
        const bool pure = !axis.has_second;
        if (pure && side.b != 0)
          refuse("problem.sides." + c.names[k], "a condition on du/dn",
                 "a condition on u: the equation is of first order in " + c.names[k]);
        if (pure && sign == 0) sign = axis.first.hi * normal < 0 ? 1 : -1;
        const bool enters = sign * axis.first.hi * normal < 0;
        if (pure && !enters)
          refuse("problem.sides." + c.names[k] + (s == 0 ? "-" : "+"), "a condition",
                 "on the side where the flow enters (the problem is ill-posed)");
        axis.inflow[s] = enters && side.b == 0;
      }
    }
  }
  if (!any_second && d == 2 && c.mixed.hi != 0)
    refuse("problem.equation", "a mixed derivative alone", "with second derivatives");
  c.singular = undetermined;
  if (d == 1 && !c.axis[0].has_second && !c.axis[0].has_first)
    refuse("problem.equation", "no derivative of u", "a differential equation");
  if (options.setup_precision != Precision::dd)
    refuse("options.setup_precision", "double", "dd (the only set-up precision yet)");
  if (!(options.tolerance >= 0))
    refuse("options.tolerance", std::to_string(options.tolerance), ">= 0");
  if (options.max_modes < 8) refuse("options.max_modes", std::to_string(options.max_modes), ">= 8");
  if (!options.bands.empty() && static_cast<Size>(options.bands.size()) != d)
    throw ShapeError("gp_pde::Solver", "options.bands.size()",
                     static_cast<Size>(options.bands.size()), d);
  if (!options.nodes_per_axis.empty() && static_cast<Size>(options.nodes_per_axis.size()) != d)
    throw ShapeError("gp_pde::Solver", "options.nodes_per_axis.size()",
                     static_cast<Size>(options.nodes_per_axis.size()), d);
  c.threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  c.problem = std::move(problem);
  c.options = std::move(options);
  return c;
}

// ---- right-hand side --------------------------------------------------------------------------

// What the operator applied to u must equal: a formula, or samples plus a formula.
struct RightHandSide {
  Program<dd> formula;  // everything that is a formula
  bool sampled = false;
  std::vector<Points> axes;  // of the samples
  DdMatrix samples;          // forcing_factor * values

  RightHandSide(const Checked& c, const std::variant<Expression, GridSamples>& forcing)
      : formula(c.op.source, c.names) {
    if (const auto* expression = std::get_if<Expression>(&forcing)) {
      formula = Program<dd>(c.op.source + Expression(c.op.forcing_factor) * *expression, c.names);
      return;
    }
    if (c.op.forcing_factor == 0) return;
    const auto& grid = std::get<GridSamples>(forcing);
    const Size d = c.dimension();
    if (static_cast<Size>(grid.axes.size()) != d)
      throw ShapeError("gp_pde::Solver", "forcing.axes.size()", static_cast<Size>(grid.axes.size()),
                       d);
    Size total = 1;
    for (Size k = 0; k < d; ++k) {
      const auto& p = grid.axes[k];
      total *= static_cast<Size>(p.size());
      if (p.size() < 4)
        refuse("forcing.axes." + c.names[k] + ".size()", std::to_string(p.size()), ">= 4");
      for (std::size_t i = 0; i < p.size(); ++i)
        if (!std::isfinite(p[i]) || (i > 0 && !(p[i] > p[i - 1])))
          refuse("forcing.axes." + c.names[k] + "[" + std::to_string(i) + "]", std::to_string(p[i]),
                 "finite and increasing");
      // One rounding of slack: 2*pi as a double may lie outside the exact end.
      const double slack = 4 * eps * (std::fabs(c.end(k, 0).hi) + std::fabs(c.end(k, 1).hi));
      if (p.front() < c.end(k, 0).hi - slack || p.back() > c.end(k, 1).hi + slack)
        refuse("forcing.axes." + c.names[k], "points outside the domain", "inside the domain");
      axes.emplace_back(p.begin(), p.end());
    }
    if (static_cast<Size>(grid.values.size()) != total)
      throw ShapeError("gp_pde::Solver", "forcing.values.size()",
                       static_cast<Size>(grid.values.size()), total);
    sampled = true;
    const dd factor = c.op.forcing_factor;
    const Size n = static_cast<Size>(axes[0].size()), m = total / n;
    samples = DdMatrix(n, m);
    for (Size i = 0; i < n; ++i)
      for (Size j = 0; j < m; ++j) {
        const double v = grid.values[i * m + j];
        if (!std::isfinite(v))
          refuse("forcing.values[" + std::to_string(i * m + j) + "]", std::to_string(v), "finite");
        samples.set(i, j, factor * v);
      }
  }

  // On a grid of the caller's (formula only), or on the samples' own grid.
  [[nodiscard]] DdMatrix on(std::span<const Points> grid, int threads) const {
    return sample(formula, grid, threads);
  }
  [[nodiscard]] DdMatrix on_samples(int threads) const {
    return add_scaled(sample(formula, axes, threads), 1.0, samples);
  }
};

// Boundary data g of a side, as a formula in the other axis (a constant in 1-D).
Expression side_data(const Checked& c, Size k, int s) {
  return c.problem.sides[k][s].g.substitute(c.names[k], Expression(c.end(k, s)));
}

// g of a side at points of the other axis.
DdMatrix side_values(const Checked& c, Size k, int s, const Points& points, int threads) {
  const Expression g = side_data(c, k, s);
  if (c.dimension() == 1) {
    DdMatrix v(1, 1);
    v.set(0, 0, g.constant());
    return v;
  }
  const Program<dd> program(g, {c.names[1 - k]});
  const std::vector<Points> axes{points};
  return sample(program, axes, threads);
}

bool has_data(const Side& side) {
  return side.kind != SideKind::none && side.kind != SideKind::periodic;
}

// ---- bands ------------------------------------------------------------------------------------

struct Spectrum {
  double bin = 0;
  std::vector<double> amplitude;  // largest 1
  std::vector<Band> bands;        // without the low band
  bool resolved = true;           // the spectrum ends below the sampling's limit
};

bool equally_spaced(const Points& p) {
  const double step = ((p.back() - p.front()) / static_cast<double>(p.size() - 1)).hi;
  for (std::size_t i = 1; i < p.size(); ++i)
    if (std::fabs((p[i] - p[i - 1]).hi - step) > 1e-9 * step) return false;
  return true;
}

// Amplitude spectrum along axis k: the largest over a few lines, of forcing and boundary data, each
// relative to its own size.
Spectrum infer_spectrum(const Checked& c, const RightHandSide& rhs, Size k) {
  constexpr Size lines = 12;
  constexpr double relative = 3e-15;  // what rounding the samples leaves visible
  const Size d = c.dimension(), other = 1 - k;
  Spectrum result;
  result.bin = two_pi / c.length(k).hi;
  const dd lower = c.end(k, 0), length = c.length(k);
  // Lines at golden-ratio positions never coincide with the nodal lines of a product of sines.
  Points across;
  if (d == 2) {
    for (Size i = 0; i < lines; ++i) {
      const double t = 0.5 + 0.6180339887498949 * static_cast<double>(i + 1);
      across.push_back(c.end(other, 0) + c.length(other) * (t - std::floor(t)));
    }
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
  const auto spectrum_of = [&](Size n) {
    result.amplitude.clear();
    Points along(n);
    for (Size i = 0; i < n; ++i)
      along[i] = lower + length * (dd(static_cast<double>(i)) / static_cast<double>(n));
    std::vector<std::vector<double>> group;
    std::vector<Points> grid(d);
    grid[k] = along;
    if (d == 2) grid[other] = across;
    const DdMatrix f = rhs.on(grid, c.threads);
    const Size count = d == 2 ? lines : 1;
    for (Size l = 0; l < count; ++l) {
      std::vector<double> line(n);
      for (Size i = 0; i < n; ++i) line[i] = k == 0 ? f(i, l).hi : f(l, i).hi;
      group.push_back(std::move(line));
    }
    const double f_scale = largest(group);
    if (f_scale > 0) add(group, f_scale);
    if (d == 2)
      for (int s = 0; s < 2; ++s) {
        if (!has_data(c.problem.sides[other][s])) continue;
        const DdMatrix g = side_values(c, other, s, along, c.threads);
        group.assign(1, std::vector<double>(n));
        for (Size i = 0; i < n; ++i) group[0][i] = g(i, 0).hi;
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
  const auto top_of = [](const std::vector<Band>& bands) {
    return bands.empty() ? 0.0 : bands.back().upper;
  };
  // A frequency beyond the sampling's limit folds back and looks like a lower one; at another rate
  // it folds back elsewhere. So two rates must agree.
  constexpr Size most = Size{1} << 16;
  result.resolved = false;
  for (Size n = 1024; n <= most && !result.resolved; n *= 4) {
    if (!(spectrum_of(n + 2 * (n / 7)) <= relative)) continue;
    const auto other_rate = la::find_bands(result.amplitude, relative, result.bin);
    if (!(spectrum_of(n) <= relative)) continue;
    const auto bands = la::find_bands(result.amplitude, relative, result.bin);
    result.resolved = other_rate.size() == bands.size() &&
                      std::fabs(top_of(other_rate) - top_of(bands)) <= 3 * result.bin;
  }
  result.bands = la::find_bands(result.amplitude, relative, result.bin);

  if (rhs.sampled) {
    const Points& p = rhs.axes[k];
    const auto n = static_cast<Size>(p.size());
    const double span = (p.back() - p.front()).hi;
    const double nyquist = two_pi / 2 * static_cast<double>(n - 1) / span;
    // Full coverage is needed to read a spectrum off the samples.
    const bool whole =
        span > 0.98 * length.hi * static_cast<double>(n - 1) / static_cast<double>(n);
    if (equally_spaced(p) && whole) {
      const double bin = two_pi / (span * static_cast<double>(n) / static_cast<double>(n - 1));
      const Size count = d == 2 ? rhs.samples.cols() * (k == 0) + rhs.samples.rows() * (k == 1) : 1;
      std::vector<std::vector<double>> group;
      const Size stride = std::max<Size>(1, count / 24);
      for (Size l = 0; l < count; l += stride) {
        std::vector<double> line(n);
        for (Size i = 0; i < n; ++i) line[i] = k == 0 ? rhs.samples(i, l).hi : rhs.samples(l, i).hi;
        group.push_back(std::move(line));
      }
      double scale = largest(group);
      if (scale > 0) {
        Spectrum own;
        for (const auto& line : group) {
          const std::vector<double> a = la::windowed_spectrum(line);
          own.amplitude.resize(a.size(), 0.0);
          for (std::size_t i = 0; i < a.size(); ++i)
            own.amplitude[i] = std::max(own.amplitude[i], a[i] / scale);
        }
        // Data of double precision, perhaps computed with rounded arguments.
        const auto bands = la::find_bands(own.amplitude, 1e-13, bin);
        result.bands.insert(result.bands.end(), bands.begin(), bands.end());
        double tail = 0;
        const auto size = own.amplitude.size();
        for (std::size_t i = size - size / 16 - 1; i < size; ++i)
          tail = std::max(tail, own.amplitude[i]);
        if (tail > 1e-9) result.resolved = false;
        if (result.amplitude.size() < own.amplitude.size()) {
          result.amplitude = own.amplitude;
          result.bin = bin;
        } else {
          for (std::size_t i = 0; i < own.amplitude.size(); ++i)
            result.amplitude[i] = std::max(result.amplitude[i], own.amplitude[i]);
        }
      }
    } else {
      result.bands.push_back({0, 0.5 * nyquist});
    }
  }
  double top = 0;
  for (const double a : result.amplitude) top = std::max(top, a);
  if (top > 0)
    for (double& a : result.amplitude) a /= top;
  result.bands = la::merge_bands(result.bands, 2 * result.bin);
  return result;
}

// Frequencies of solutions of the homogeneous equation along axis k: roots r = alpha + i nu of the
// symbol for every frequency w of the other axis' bands. Decaying solutions need a band in
// proportion to alpha.
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

// ---- discretisation ---------------------------------------------------------------------------

// Basis, operator and factorisation for one choice of bands.
struct Discretisation {
  std::vector<std::vector<Band>> bands;
  std::vector<std::shared_ptr<const FourierBasis>> basis;
  double condition = 1, smallest_eigenvalue = 0;
  // 1-D: rows of the weighted equation and of the conditions.
  Points rows, row_weight;
  la::PivotedQr system;
  dd side_weight = 1.0;
  std::vector<int> system_sides;
  // 2-D
  std::vector<DdMatrix> projector;            // (W Q)^T: values at quadrature nodes -> coefficients
  std::vector<std::array<DdMatrix, 2>> load;  // [axis][side]: r x 1, multiplies the side's data
  std::shared_ptr<const la::SylvesterSolver> sylvester;
};

DdMatrix row(const FourierBasis& basis, dd point, int order) {
  const Points p{point};
  return basis.evaluate(p, order);
}

// C += factor * a^T b for 1 x r rows a and b.
void add_outer(DdMatrix& c, dd factor, const DdMatrix& a, const DdMatrix& b) {
  for (Size j = 0; j < c.cols(); ++j)
    for (Size i = 0; i < c.rows(); ++i) c.set(i, j, c(i, j) + factor * a(0, i) * b(0, j));
}

// Galerkin matrix of one axis, a u'' + c u', with its sides in weak form: Nitsche (1971) for
// prescribed u, natural conditions for the others, upwind for convection.
DdMatrix axis_matrix(const Checked& c, Size k, const FourierBasis& basis,
                     std::array<DdMatrix, 2>& load) {
  const AxisOperator& axis = c.axis[k];
  const Size r = basis.size();
  const DdMatrix q = basis.evaluate(basis.nodes(), 0), dq = basis.evaluate(basis.nodes(), 1);
  const DdMatrix w_dq = scale_rows(dq, basis.weights());
  DdMatrix a(r, r);
  if (axis.has_second)
    a = add_scaled(std::move(a), -axis.second, la::multiply_transposed(dq, w_dq, c.threads));
  // Symmetric to the last bit, so that the factorisation sees it.
  for (Size j = 0; j < r; ++j)
    for (Size i = 0; i < j; ++i) a.set(i, j, a(j, i));
  for (int s = 0; s < 2; ++s) {
    const Side& side = c.problem.sides[k][s];
    load[s] = DdMatrix(r, 1);
    if (!has_data(side)) continue;
    const double n = s == 0 ? -1 : 1;
    const DdMatrix b = row(basis, c.end(k, s), 0);
    DdMatrix db = row(basis, c.end(k, s), 1);
    la::scale(r, n, db.hi(0), db.lo(0));  // outward derivative
    if (axis.has_second) {
      if (side.b == 0) {
        // Larger than the inverse trace constant, which sum_i q_i(end)^2 bounds on this space.
        const dd tau =
            8.0 * la::dot(r, DdMatrix(la::transpose(b)).hi(0), DdMatrix(la::transpose(b)).lo(0),
                          DdMatrix(la::transpose(b)).hi(0), DdMatrix(la::transpose(b)).lo(0));
        for (Size j = 0; j < r; ++j)
          for (Size i = 0; i <= j; ++i) {
            const dd value = b(0, i) * db(0, j) + db(0, i) * b(0, j) - tau * (b(0, i) * b(0, j));
            a.set(i, j, a(i, j) + axis.second * value);
            if (i != j) a.set(j, i, a(i, j));
          }
        for (Size i = 0; i < r; ++i)
          load[s].set(i, 0, axis.second * (db(0, i) - tau * b(0, i)) / side.a);
      } else {
        const dd robin = dd(side.a) / side.b;
        for (Size j = 0; j < r; ++j)
          for (Size i = 0; i <= j; ++i) {
            a.set(i, j, a(i, j) - axis.second * robin * (b(0, i) * b(0, j)));
            if (i != j) a.set(j, i, a(i, j));
          }
        for (Size i = 0; i < r; ++i) load[s].set(i, 0, -(axis.second / side.b) * b(0, i));
      }
    }
    if (axis.has_first && axis.inflow[s]) {
      add_outer(a, -axis.first * n, b, b);
      for (Size i = 0; i < r; ++i)
        load[s].set(i, 0, load[s](i, 0) - axis.first * n * b(0, i) / side.a);
    }
  }
  if (axis.has_first)
    a = add_scaled(std::move(a), axis.first, la::multiply_transposed(q, w_dq, c.threads));
  return a;
}

void report_progress(const Checked& c, double fraction, const char* phase) {
  if (c.options.progress && !c.options.progress(fraction, phase)) throw Cancelled("gp_pde::Solver");
}

struct Attempt {
  double margin = 12;
  Size most_modes = 0;
};

std::vector<double> operator_condition(const la::PivotedQr& f) {
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (Size i = 0; i < f.rank; ++i) {
    const double v = std::fabs(f.r(i, i).hi);
    smallest = std::min(smallest, v);
    largest = std::max(largest, v);
  }
  return {smallest, largest};
}

Discretisation discretise(const Checked& c, std::vector<std::vector<Band>> bands,
                          const RightHandSide& rhs, const Attempt& attempt, Timings& timings) {
  Discretisation disc;
  const Size d = c.dimension();
  double start = seconds();
  const auto lap = [&](const char* phase) {
    const double now = seconds();
    for (auto& [name, value] : timings)
      if (name == phase) {
        value += now - start;
        start = now;
        return;
      }
    timings.emplace_back(phase, now - start);
    start = now;
  };
  for (Size k = 0; k < d; ++k) {
    BasisOptions o;
    o.kernel = c.options.kernel;
    o.margin = attempt.margin;
    o.max_modes = attempt.most_modes;
    // Samples determine no more modes than there are samples, with some to spare.
    if (rhs.sampled)
      o.max_modes = std::min<Size>(o.max_modes, static_cast<Size>(rhs.axes[k].size()) * 9 / 10);
    o.periodic = c.axis[k].periodic;
    o.threads = c.threads;
    o.tolerance = 1e-17;
    bands[k].push_back({0, 0});
    bands[k] = la::merge_bands(bands[k], 2 * o.margin * two_pi / c.length(k).hi);
    disc.basis.push_back(std::make_shared<FourierBasis>(c.end(k, 0), c.end(k, 1), bands[k], o));
  }
  disc.bands = std::move(bands);
  lap("basis");
  if (d == 1) {
    const FourierBasis& basis = *disc.basis[0];
    const Size r = basis.size();
    const Options& o = c.options;
    if (rhs.sampled) {
      disc.rows = rhs.axes[0];
      disc.row_weight = trapezoid(disc.rows);
    } else if (!o.nodes_per_axis.empty() && o.nodes == Nodes::uniform) {
      disc.rows = uniform_points(c.end(0, 0), c.end(0, 1), o.nodes_per_axis[0]);
      disc.row_weight = trapezoid(disc.rows);
    } else if (!o.nodes_per_axis.empty() && o.nodes == Nodes::chebyshev) {
      disc.rows = chebyshev_points(c.end(0, 0), c.end(0, 1), o.nodes_per_axis[0]);
      disc.row_weight = trapezoid(disc.rows);
    } else if (!o.nodes_per_axis.empty()) {
      Points x, w;
      const Size n = std::max<Size>(2, o.nodes_per_axis[0] + o.nodes_per_axis[0] % 2);
      la::gauss_legendre_half(n, x, w, c.threads);
      const dd centre = (c.end(0, 0) + c.end(0, 1)) * 0.5, radius = c.length(0) * 0.5;
      disc.rows.resize(n);
      disc.row_weight.resize(n);
      for (Size i = 0; i < n / 2; ++i) {
        disc.rows[n / 2 + i] = centre + x[i] * radius;
        disc.rows[n / 2 - 1 - i] = centre - x[i] * radius;
        disc.row_weight[n / 2 + i] = disc.row_weight[n / 2 - 1 - i] = w[i] * radius;
      }
    } else {
      disc.rows = basis.nodes();
      disc.row_weight = basis.weights();
    }
    for (dd& w : disc.row_weight) w = sqrt(w);
    const auto m = static_cast<Size>(disc.rows.size());
    DdMatrix a(m, r);
    double scale = 0;
    for (int order = 0; order <= 2; ++order) {
      const Expression value = coefficient(c.op, {order});
      if (value.is_zero()) continue;
      const std::vector<Points> grid{disc.rows};
      const DdMatrix v = sample(Program<dd>(value, c.names), grid, c.threads);
      const DdMatrix q = basis.evaluate(disc.rows, order);
      for (Size j = 0; j < r; ++j)
        for (Size i = 0; i < m; ++i) a.set(i, j, a(i, j) + v(i, 0) * q(i, j));
    }
    a = scale_rows(std::move(a), disc.row_weight);
    for (const double x : a.rounded()) scale = std::max(scale, std::fabs(x));
    // The conditions are equations of a weight so large that they hold to all digits of a double;
    // double-double has as many again for the rest.
    disc.side_weight = 1e8 * std::max(scale, 1e-300);
    std::vector<DdMatrix> side_rows;
    for (int s = 0; s < 2; ++s) {
      const Side& side = c.problem.sides[0][s];
      if (!has_data(side)) continue;
      const double n = s == 0 ? -1 : 1;
      DdMatrix b = row(basis, c.end(0, s), 0);
      const DdMatrix db = row(basis, c.end(0, s), 1);
      for (Size j = 0; j < r; ++j) b.set(0, j, (b(0, j) * side.a + db(0, j) * (side.b * n)));
      double size = 0;
      for (Size j = 0; j < r; ++j) size = std::max(size, std::fabs(b(0, j).hi));
      const dd weight = disc.side_weight / std::max(size, 1e-300);
      for (Size j = 0; j < r; ++j) b.set(0, j, b(0, j) * weight);
      side_rows.push_back(std::move(b));
      disc.system_sides.push_back(s);
      disc.row_weight.push_back(weight);
    }
    DdMatrix all(m + static_cast<Size>(side_rows.size()), r);
    for (Size j = 0; j < r; ++j) {
      std::copy_n(a.hi(j), m, all.hi(j));
      std::copy_n(a.lo(j), m, all.lo(j));
      for (std::size_t s = 0; s < side_rows.size(); ++s)
        all.set(m + static_cast<Size>(s), j, side_rows[s](0, j));
    }
    lap("operator");
    disc.system = la::pivoted_qr(std::move(all), 1e-29, r,
                                 DdMatrix(m + static_cast<Size>(side_rows.size()), 0), c.threads);
    const auto extremes = operator_condition(disc.system);
    disc.smallest_eigenvalue = extremes[0];
    disc.condition = std::max(scale, extremes[0]) / extremes[0];
    lap("factorisation");
    return disc;
  }
  disc.load.resize(2);
  std::vector<DdMatrix> matrix(2);
  for (Size k = 0; k < 2; ++k) {
    const FourierBasis& basis = *disc.basis[k];
    matrix[k] = axis_matrix(c, k, basis, disc.load[k]);
    disc.projector.push_back(
        la::transpose(scale_rows(basis.evaluate(basis.nodes(), 0), basis.weights())));
  }
  for (Size i = 0; i < matrix[0].rows(); ++i) matrix[0].set(i, i, matrix[0](i, i) + c.reaction);
  la::SylvesterSolver::Mixed mixed;
  if (c.mixed.hi != 0) {
    mixed.factor = c.mixed;
    const auto first = [&](Size k) {
      return la::multiply(disc.projector[k], disc.basis[k]->evaluate(disc.basis[k]->nodes(), 1),
                          c.threads);
    };
    mixed.d = first(0);
    mixed.e = first(1);
  }
  lap("operator");
  disc.sylvester = std::make_shared<la::SylvesterSolver>(std::move(matrix[0]), std::move(matrix[1]),
                                                         std::move(mixed), c.singular, c.threads);
  disc.condition = disc.sylvester->condition();
  disc.smallest_eigenvalue = disc.sylvester->smallest_eigenvalue();
  lap("factorisation");
  return disc;
}

// Least-squares projector of values at `points` onto the basis: R^-1 Q^T.
DdMatrix sample_projector(const FourierBasis& basis, const Points& points, int threads) {
  Points weight = trapezoid(points);
  for (dd& w : weight) w = sqrt(w);
  const DdMatrix a = scale_rows(basis.evaluate(points, 0), weight);
  const la::PivotedQr f = la::pivoted_qr(a, 1e-13, a.cols(), DdMatrix(a.rows(), 0), threads);
  const DdMatrix y = la::solve_upper(f.r, la::transpose(f.q));
  DdMatrix p(basis.size(), static_cast<Size>(points.size()));
  for (Size i = 0; i < f.rank; ++i)
    for (Size j = 0; j < p.cols(); ++j) p.set(f.pivots[i], j, y(i, j) * weight[j]);
  return p;
}

// Coefficients of the solution in the basis.
DdMatrix solve_coefficients(const Checked& c, const Discretisation& disc, const RightHandSide& rhs,
                            Timings& timings) {
  double start = seconds();
  const auto lap = [&](const char* phase) {
    const double now = seconds();
    bool found = false;
    for (auto& [name, value] : timings)
      if (name == phase) value += now - start, found = true;
    if (!found) timings.emplace_back(phase, now - start);
    start = now;
  };
  if (c.dimension() == 1) {
    const std::vector<Points> grid{disc.rows};
    const DdMatrix f = rhs.sampled ? rhs.on_samples(c.threads) : rhs.on(grid, c.threads);
    const auto m = static_cast<Size>(disc.rows.size());
    DdMatrix b(static_cast<Size>(disc.row_weight.size()), 1);
    for (Size i = 0; i < m; ++i) b.set(i, 0, f(i, 0) * disc.row_weight[i]);
    for (std::size_t s = 0; s < disc.system_sides.size(); ++s)
      b.set(m + static_cast<Size>(s), 0,
            side_values(c, 0, disc.system_sides[s], {}, 1)(0, 0) *
                disc.row_weight[m + static_cast<Size>(s)]);
    lap("sampling");
    const DdMatrix y =
        la::solve_upper(disc.system.r, la::multiply_transposed(disc.system.q, b, c.threads));
    DdMatrix x(disc.basis[0]->size(), 1);
    for (Size i = 0; i < disc.system.rank; ++i) x.set(disc.system.pivots[i], 0, y(i, 0));
    lap("solve");
    return x;
  }
  const Options& o = c.options;
  DdMatrix r;
  if (rhs.sampled || !o.nodes_per_axis.empty()) {
    std::vector<Points> grid = rhs.axes;
    DdMatrix f;
    if (rhs.sampled) {
      f = rhs.on_samples(c.threads);
    } else {
      grid.resize(2);
      for (Size k = 0; k < 2; ++k) {
        const Size n = o.nodes_per_axis[k];
        if (o.nodes == Nodes::gauss) {
          Points x, w;
          const Size even = std::max<Size>(2, n + n % 2);
          la::gauss_legendre_half(even, x, w, c.threads);
          const dd centre = (c.end(k, 0) + c.end(k, 1)) * 0.5, radius = c.length(k) * 0.5;
          for (Size i = even / 2 - 1; i >= 0; --i) grid[k].push_back(centre - x[i] * radius);
          for (Size i = 0; i < even / 2; ++i) grid[k].push_back(centre + x[i] * radius);
        } else {
          grid[k] = o.nodes == Nodes::uniform ? uniform_points(c.end(k, 0), c.end(k, 1), n)
                                              : chebyshev_points(c.end(k, 0), c.end(k, 1), n);
        }
      }
      f = rhs.on(grid, c.threads);
    }
    lap("sampling");
    const DdMatrix px = sample_projector(*disc.basis[0], grid[0], c.threads);
    const DdMatrix py = sample_projector(*disc.basis[1], grid[1], c.threads);
    r = la::multiply(la::multiply(px, f, c.threads), la::transpose(py), c.threads);
  } else {
    const std::vector<Points> grid{disc.basis[0]->nodes(), disc.basis[1]->nodes()};
    const DdMatrix f = rhs.on(grid, c.threads);
    lap("sampling");
    r = la::multiply(la::multiply(disc.projector[0], f, c.threads),
                     la::transpose(disc.projector[1]), c.threads);
  }
  for (Size k = 0; k < 2; ++k)
    for (int s = 0; s < 2; ++s) {
      if (!has_data(c.problem.sides[k][s])) continue;
      const Size other = 1 - k;
      const DdMatrix g =
          la::multiply(disc.projector[other],
                       side_values(c, k, s, disc.basis[other]->nodes(), c.threads), c.threads);
      const DdMatrix& load = disc.load[k][s];
      for (Size j = 0; j < r.cols(); ++j)
        for (Size i = 0; i < r.rows(); ++i)
          r.set(i, j, r(i, j) + (k == 0 ? load(i, 0) * g(j, 0) : g(i, 0) * load(j, 0)));
    }
  lap("projection");
  DdMatrix x = disc.sylvester->solve(r).x;
  lap("solve");
  return x;
}

}  // namespace

// ---- solution ---------------------------------------------------------------------------------

struct Solution::Impl {
  std::vector<std::shared_ptr<const FourierBasis>> basis;
  DdMatrix coefficients;
  dd shift = 0.0;  // added to u itself: the free constant of a pure Neumann or periodic problem
  int threads = 1;

  [[nodiscard]] DdMatrix values(std::span<const Points> points, std::span<const int> order) const {
    DdMatrix v = la::multiply(basis[0]->evaluate(points[0], order[0]), coefficients, threads);
    int total = order[0];
    if (basis.size() > 1) {
      v = la::multiply(v, la::transpose(basis[1]->evaluate(points[1], order[1])), threads);
      total += order[1];
    }
    if (total == 0 && (shift.hi != 0 || shift.lo != 0)) {
      for (Size j = 0; j < v.cols(); ++j)
        for (Size i = 0; i < v.rows(); ++i) v.set(i, j, v(i, j) + shift);
    }
    return v;
  }
};

std::vector<double> Solution::on_grid(std::span<const std::vector<double>> points,
                                      std::span<const int> order) const {
  const auto d = static_cast<Size>(impl->basis.size());
  if (static_cast<Size>(points.size()) != d)
    throw ShapeError("gp_pde::Solution::on_grid", "points.size()", static_cast<Size>(points.size()),
                     d);
  if (static_cast<Size>(order.size()) != d)
    throw ShapeError("gp_pde::Solution::on_grid", "orders.size()", static_cast<Size>(order.size()),
                     d);
  std::vector<Points> exact;
  for (Size k = 0; k < d; ++k) {
    if (order[k] < 0 || order[k] > 2)
      throw DomainError("gp_pde::Solution::on_grid", "orders", order[k], "0, 1 or 2");
    exact.emplace_back(points[k].begin(), points[k].end());
  }
  const DdMatrix v = impl->values(exact, order);
  std::vector<double> out(v.rows() * v.cols());
  for (Size i = 0; i < v.rows(); ++i)
    for (Size j = 0; j < v.cols(); ++j) out[i * v.cols() + j] = v(i, j).hi;
  return out;
}

// ---- solver -----------------------------------------------------------------------------------

namespace {

struct Quality {
  double residual = std::numeric_limits<double>::infinity();
  double scale = 0, boundary = std::numeric_limits<double>::infinity();
  [[nodiscard]] double worst() const { return std::max(residual, boundary); }
};

// Residuals on points that the discretisation did not use (on the samples where there are only
// those).
Quality measure(const Checked& c, const Discretisation& disc, const RightHandSide& rhs,
                const Solution::Impl& solution) {
  const Size d = c.dimension();
  std::vector<Points> grid(d);
  for (Size k = 0; k < d; ++k) {
    const auto n = static_cast<Size>(disc.basis[k]->nodes().size());
    grid[k] = rhs.sampled ? rhs.axes[k] : uniform_points(c.end(k, 0), c.end(k, 1), n + 7);
  }
  const DdMatrix f = rhs.sampled ? rhs.on_samples(c.threads) : rhs.on(grid, c.threads);
  DdMatrix residual = add_scaled(DdMatrix(f.rows(), f.cols()), -1.0, f);
  Quality q;
  q.scale = rms(f);
  for (const auto& [order, value] : c.op.coefficients) {
    if (value.is_zero()) continue;
    DdMatrix term = solution.values(grid, order);
    if (value.is_constant()) {
      const dd factor = value.constant();
      la::scale(term.rows() * term.cols(), factor, term.hi(0), term.lo(0));
    } else {
      const DdMatrix v = sample(Program<dd>(value, c.names), grid, c.threads);
      for (Size j = 0; j < term.cols(); ++j)
        for (Size i = 0; i < term.rows(); ++i) term.set(i, j, term(i, j) * v(i, j));
    }
    q.scale = std::max(q.scale, rms(term));
    residual = add_scaled(std::move(residual), 1.0, term);
  }
  const double size = rms(residual);
  q.residual = q.scale > 0 ? size / q.scale : size;
  q.boundary = 0;
  for (Size k = 0; k < d; ++k)
    for (int s = 0; s < 2; ++s) {
      const Side& side = c.problem.sides[k][s];
      if (!has_data(side)) continue;
      std::vector<Points> points(d);
      points[k] = {c.end(k, s)};
      std::vector<int> order(d, 0);
      if (d == 2) points[1 - k] = grid[1 - k];
      DdMatrix u = solution.values(points, order);
      order[k] = 1;
      DdMatrix du = solution.values(points, order);
      DdMatrix g =
          d == 1 ? side_values(c, k, s, {}, 1) : side_values(c, k, s, grid[1 - k], c.threads);
      if (k == 1) g = la::transpose(g);
      const double n = s == 0 ? -1 : 1;
      DdMatrix defect = add_scaled(DdMatrix(u.rows(), u.cols()), side.a, u);
      defect = add_scaled(std::move(defect), side.b * n, du);
      defect = add_scaled(std::move(defect), -1.0, g);
      // Relative to the data or, where they vanish, to the field itself.
      std::vector<int> zero(d, 0);
      double reference =
          std::max({rms(g), std::fabs(side.a) * rms(u), std::fabs(side.b) * rms(du)});
      reference = std::max(reference, std::fabs(side.a) * rms(solution.values(grid, zero)));
      if (side.a == 0) {
        zero[k] = 1;
        reference = std::max(reference, std::fabs(side.b) * rms(solution.values(grid, zero)));
      }
      const double value = rms(defect);
      const double relative = reference > 0 ? value / reference : value;
      q.boundary = relative > q.boundary || std::isnan(relative) ? relative : q.boundary;
    }
  if (std::isnan(q.residual) || std::isnan(q.boundary))
    q.residual = q.boundary = std::numeric_limits<double>::infinity();
  return q;
}

// ||u - v|| / ||v|| on a uniform grid.
double difference(const Checked& c, const Solution::Impl& u, const Solution::Impl& v) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k)
    grid.push_back(uniform_points(c.end(k, 0), c.end(k, 1), c.dimension() == 1 ? 501 : 151));
  const std::vector<int> zero(c.dimension(), 0);
  const DdMatrix a = u.values(grid, zero), b = v.values(grid, zero);
  const double size = rms(b), error = rms(add_scaled(a, -1.0, b));
  return size > 0 ? error / size : error;
}

// Gives a solution that is free up to a constant its mean: that of the exact solution where known,
// else zero.
void fix_mean(const Checked& c, Solution::Impl& u) {
  if (!c.singular) return;
  std::vector<Points> grid;
  for (const auto& basis : u.basis) grid.push_back(basis->nodes());
  const auto mean = [&](const DdMatrix& v) {
    dd sum = 0.0, area = 0.0;
    for (Size j = 0; j < v.cols(); ++j)
      for (Size i = 0; i < v.rows(); ++i) {
        dd w = u.basis[0]->weights()[i];
        if (u.basis.size() > 1) w *= u.basis[1]->weights()[j];
        sum += w * v(i, j);
        area += w;
      }
    return sum / area;
  };
  u.shift = 0.0;
  const std::vector<int> zero(c.dimension(), 0);
  dd target = 0.0;
  if (c.problem.exact)
    target = mean(sample(Program<dd>(*c.problem.exact, c.names), grid, c.threads));
  u.shift = target - mean(u.values(grid, zero));
}

}  // namespace

struct Solver::Impl {
  Checked checked;
  std::vector<Spectrum> spectra;
  Discretisation disc;
  bool planned = false;
  Timings timings;
  std::vector<std::string> warnings;
  double error_estimate = std::numeric_limits<double>::quiet_NaN();

  struct Candidate {
    Discretisation disc;
    Solution::Impl u;
    Quality quality;
  };

  [[nodiscard]] Solution::Impl solve_on(const Discretisation& d, const RightHandSide& rhs,
                                        Timings& times) const {
    Solution::Impl u;
    u.basis = d.basis;
    u.threads = checked.threads;
    u.coefficients = solve_coefficients(checked, d, rhs, times);
    fix_mean(checked, u);
    return u;
  }

  Candidate attempt(const std::vector<std::vector<Band>>& bands, const RightHandSide& rhs,
                    const Attempt& how) {
    Candidate candidate;
    candidate.disc = discretise(checked, bands, rhs, how, timings);
    candidate.u = solve_on(candidate.disc, rhs, timings);
    const double start = seconds();
    candidate.quality = measure(checked, candidate.disc, rhs, candidate.u);
    bool found = false;
    for (auto& [name, value] : timings)
      if (name == "residual") value += seconds() - start, found = true;
    if (!found) timings.emplace_back("residual", seconds() - start);
    return candidate;
  }

  [[nodiscard]] double tolerance() const {
    return checked.options.tolerance > 0 ? checked.options.tolerance : 1e-10;
  }

  // Bands from the data first; when the residual says that they do not suffice, those of the
  // homogeneous solutions, then wider and wider ones.
  Solution::Impl plan(const RightHandSide& rhs, Quality& quality) {
    const Checked& c = checked;
    const Size d = c.dimension();
    const bool given = !c.options.bands.empty();
    report_progress(c, 0.05, "inferring bands");
    double start = seconds();
    for (Size k = 0; k < d; ++k) spectra.push_back(infer_spectrum(c, rhs, k));
    timings.emplace_back("spectrum", seconds() - start);
    std::vector<std::vector<Band>> bands(d);
    bool resolved = true;
    for (Size k = 0; k < d; ++k) {
      bands[k] = given ? c.options.bands[k] : spectra[k].bands;
      resolved = resolved && spectra[k].resolved;
    }
    const Size most = std::min<Size>(c.options.max_modes, d == 1 ? 640 : 400);
    report_progress(c, 0.2, "solving");
    Candidate best = attempt(bands, rhs, {12, most});
    // The second discretisation: it decides whether the first was good enough, and its distance is
    // the error estimate.
    Candidate check = attempt(bands, rhs, {15, most});
    error_estimate = difference(c, best.u, check.u);
    if (!(best.quality.worst() <= check.quality.worst())) std::swap(best, check);
    const auto good = [&] {
      return best.quality.worst() <= tolerance() && error_estimate <= tolerance();
    };
    if (!good() && !given) {
      std::vector<std::vector<Band>> wider(d);
      double factor = 1;
      for (int round = 0; round < 5 && !good(); ++round) {
        report_progress(c, 0.3 + 0.1 * round, "widening bands");
        if (round == 0) {
          for (Size k = 0; k < d; ++k) {
            wider[k] = bands[k];
            std::vector<Band> across = d == 2 ? bands[1 - k] : std::vector<Band>{};
            across.push_back({0, 0});
            const auto more = symbol_bands(c, k, across);
            wider[k].insert(wider[k].end(), more.begin(), more.end());
          }
        } else {
          for (Size k = 0; k < d; ++k) {
            double top = 0;
            for (const Band& b : wider[k]) top = std::max(top, b.upper);
            wider[k] = {{0, std::max(top * factor, two_pi / c.length(k).hi * 10 * factor)}};
          }
          factor = 1.6;
        }
        bool possible = true;
        for (Size k = 0; k < d; ++k) {
          double width = 0;
          auto merged = wider[k];
          merged.push_back({0, 0});
          merged = la::merge_bands(merged, 30 * two_pi / c.length(k).hi);
          for (const Band& b : merged) width += b.upper - b.lower + 20 * two_pi / c.length(k).hi;
          possible =
              possible && width * c.length(k).hi / (two_pi / 2) < static_cast<double>(most) * 1.25;
        }
        if (!possible) break;
        Candidate next = attempt(wider, rhs, {14.0 + 2 * round, most});
        error_estimate = difference(c, best.u, next.u);
        const bool better = next.quality.worst() < best.quality.worst();
        if (better) best = std::move(next);
      }
    }
    if (!resolved)
      warnings.push_back(
          "the forcing or boundary data are not resolved by their sampling: a jump, a kink, or "
          "samples too coarse for their highest frequency");
    disc = std::move(best.disc);
    quality = best.quality;
    planned = true;
    return std::move(best.u);
  }

  Solution finish(Solution::Impl u, const Quality& quality, const RightHandSide& rhs) {
    const Checked& c = checked;
    const Size d = c.dimension();
    Solution s;
    s.residual = quality.residual;
    s.residual_scale = quality.scale;
    s.boundary_residual = quality.boundary;
    s.error_estimate = error_estimate;
    s.condition = disc.condition;
    s.report.tolerance = tolerance();
    s.report.residual = std::max(quality.worst(), error_estimate);
    s.report.iterations = 1;
    bool resolved = true;
    for (const Spectrum& spectrum : spectra) resolved = resolved && spectrum.resolved;
    s.report.status = !std::isfinite(s.report.residual)                     ? Status::not_finite
                      : s.report.residual <= s.report.tolerance && resolved ? Status::converged
                                                                            : Status::stagnated;
    s.warnings = warnings;
    if (c.singular)
      s.warnings.push_back(
          c.problem.exact ? "the solution is free up to a constant: its mean is that of [exact]"
                          : "the solution is free up to a constant: its mean is set to zero");
    // Rounding of the result, and of the data where they are doubles.
    s.floor_estimate = eps / 2;
    if (rhs.sampled && disc.smallest_eigenvalue > 0) {
      std::vector<Points> grid;
      for (Size k = 0; k < d; ++k) grid.push_back(uniform_points(c.end(k, 0), c.end(k, 1), 101));
      const std::vector<int> zero(d, 0);
      const double size = rms(u.values(grid, zero));
      double count = 1;
      for (const auto& p : rhs.axes) count *= static_cast<double>(p.size());
      if (size > 0)
        s.floor_estimate +=
            eps * quality.scale / (disc.smallest_eigenvalue * size * std::sqrt(count));
    }
    for (Size k = 0; k < d; ++k) {
      AxisInfo info;
      info.bands = disc.bands[k];
      info.features = disc.basis[k]->features();
      info.modes = disc.basis[k]->size();
      info.nodes =
          d == 1 ? static_cast<Size>(disc.rows.size())
                 : static_cast<Size>(rhs.sampled ? rhs.axes[k].size()
                                     : !c.options.nodes_per_axis.empty()
                                         ? static_cast<std::size_t>(c.options.nodes_per_axis[k])
                                         : disc.basis[k]->nodes().size());
      info.smallest_pivot = disc.basis[k]->smallest_pivot();
      info.spectrum = spectra[k].amplitude;
      info.spectrum_frequency.resize(info.spectrum.size());
      for (std::size_t i = 0; i < info.spectrum.size(); ++i)
        info.spectrum_frequency[i] = spectra[k].bin * static_cast<double>(i);
      s.axes.push_back(std::move(info));
    }
    s.timings = timings;
    s.impl = std::make_shared<Solution::Impl>(std::move(u));
    return s;
  }
};

Solver::Solver(Problem problem, Options options) : impl_(std::make_shared<Impl>()) {
  impl_->checked = check(std::move(problem), std::move(options));
}

Solution Solver::solve() { return solve(impl_->checked.problem.forcing); }

Solution Solver::solve(const std::variant<Expression, GridSamples>& forcing) {
  const RightHandSide rhs(impl_->checked, forcing);
  Quality quality;
  if (!impl_->planned) {
    Solution::Impl u = impl_->plan(rhs, quality);
    return impl_->finish(std::move(u), quality, rhs);
  }
  impl_->timings.clear();
  Solution::Impl u = impl_->solve_on(impl_->disc, rhs, impl_->timings);
  quality = measure(impl_->checked, impl_->disc, rhs, u);
  return impl_->finish(std::move(u), quality, rhs);
}

Solution solve(Problem problem, Options options) {
  return Solver(std::move(problem), std::move(options)).solve();
}

}  // namespace halfulp::gp_pde
