#include "halfulp/gp_hm.hpp"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <numbers>
#include <optional>
#include <utility>

#include "detail/blas_threads.hpp"
#include "detail/checkpoint_file.hpp"
#include "detail/linear_operator.hpp"
#include "detail/require.hpp"
#include "detail/setup_cache.hpp"
#include "detail/toeplitz.hpp"
#include "halfulp/error.hpp"
#include "halfulp/info.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde {
namespace {

namespace la = halfulp::detail;
using la::Toeplitz;
using Size = std::ptrdiff_t;
using Vector = std::vector<double>;
constexpr double two_pi = 2 * std::numbers::pi;
constexpr double infinity = std::numeric_limits<double>::infinity();

double dot(const Vector& a, const Vector& b) {
  return cblas_ddot(static_cast<int>(a.size()), a.data(), 1, b.data(), 1);
}
double rms(const Vector& a) {
  return a.empty() ? 0 : std::sqrt(dot(a, a) / static_cast<double>(a.size()));
}

// ---- kernels ----------------------------------------------------------------------------------

bool is_matern(HmKernel kernel) {
  return kernel == HmKernel::student_t || kernel == HmKernel::matern;
}
bool is_mixture(HmKernel kernel) {
  return kernel == HmKernel::student_t || kernel == HmKernel::gaussian;
}

/// g and its derivatives in d >= 0, from e = the exponential in it.
struct Shape {
  double g[4];
};

struct Gaussian {
  explicit Gaussian(double s) : c(std::exp(s)) {}
  [[nodiscard]] double exponential(double d) const { return std::exp(-c * d * d); }
  [[nodiscard]] Shape operator()(double d, double e) const {
    const double a = 2 * c * d;  // g' = -a g
    return {{e, -a * e, (a * a - 2 * c) * e, (6 * c - a * a) * a * e}};
  }
  // g depends on sqrt(c) d: d/ds of the n-th derivative is half of (n g^(n) + d g^(n+1)).
  static constexpr double homogeneity = 0.5;
  double c;
};

struct Matern {
  explicit Matern(double s) : rate(std::sqrt(5.0) * std::exp(s)) {}
  [[nodiscard]] double exponential(double d) const { return std::exp(-rate * d); }
  [[nodiscard]] Shape operator()(double d, double e) const {
    const double a = rate * d, second = -rate * rate / 3 * e;
    return {{(1 + a + a * a / 3) * e, second * d * (1 + a), second * (1 + a - a * a),
             second * rate * a * (a - 3)}};
  }
  static constexpr double homogeneity = 1;
  double rate;
};

/// Components of one axis at the parameters' places: log w, s, mu.
struct Components {
  const double *log_weight, *scale, *frequency;
  Size count;
};

/// k and its first two derivatives at d, for any sign of it.
template <class Base>
std::array<double, 3> covariance(const Components& c, double d) {
  std::array<double, 3> k{};
  const double distance = std::fabs(d);
  for (Size q = 0; q < c.count; ++q) {
    const Base base(c.scale[q]);
    const double w = std::exp(c.log_weight[q]), theta = two_pi * c.frequency[q];
    const double cosine = std::cos(theta * distance), sine = std::sin(theta * distance);
    const Shape g = base(distance, base.exponential(distance));
    k[0] += w * g.g[0] * cosine;
    k[1] += w * (g.g[1] * cosine - theta * g.g[0] * sine);
    k[2] += w * (g.g[2] * cosine - 2 * theta * g.g[1] * sine - theta * theta * g.g[0] * cosine);
  }
  if (d < 0) k[1] = -k[1];
  return k;
}

/// The covariance at the lags 0, h, ..., (n-1) h of a uniform grid, with its gradient.
class Lags {
 public:
  std::array<Vector, 3> k;  ///< k and its derivatives

  void evaluate(HmKernel kernel, const Components& c, Size n, double h) {
    is_matern(kernel) ? evaluate<Matern>(c, n, h) : evaluate<Gaussian>(c, n, h);
  }
  /// Gradient of sum_l sum_o t[o][l] k[o][l] in log w, s, mu, added to `out` (3 count entries).
  void add_gradient(HmKernel kernel, const Components& c, double h, const std::array<Vector, 3>& t,
                    double* out) const {
    is_matern(kernel) ? add_gradient<Matern>(c, h, t, out) : add_gradient<Gaussian>(c, h, t, out);
  }

 private:
  template <class Base>
  void evaluate(const Components& c, Size n, double h) {
    for (Vector& v : k) v.assign(n, 0.0);
    exponential_.resize(c.count * n);
    cosine_.resize(c.count * n);
    sine_.resize(c.count * n);
    for (Size q = 0; q < c.count; ++q) {
      const Base base(c.scale[q]);
      const double w = std::exp(c.log_weight[q]), theta = two_pi * c.frequency[q];
      double* const e = exponential_.data() + q * n;
      double* const cs = cosine_.data() + q * n;
      double* const sn = sine_.data() + q * n;
      for (Size l = 0; l < n; ++l) e[l] = base.exponential(static_cast<double>(l) * h);
      rotations(theta * h, n, cs, sn);
      for (Size l = 0; l < n; ++l) {
        const Shape g = base(static_cast<double>(l) * h, e[l]);
        k[0][l] += w * g.g[0] * cs[l];
        k[1][l] += w * (g.g[1] * cs[l] - theta * g.g[0] * sn[l]);
        k[2][l] +=
            w * (g.g[2] * cs[l] - 2 * theta * g.g[1] * sn[l] - theta * theta * g.g[0] * cs[l]);
      }
    }
  }

  /// cos and sin of l angle, by the addition theorem from two short tables.
  static void rotations(double angle, Size n, double* cosine, double* sine) {
    constexpr Size width = 32;
    const Size first = std::min(width, n);
    for (Size l = 0; l < first; ++l) {
      cosine[l] = std::cos(static_cast<double>(l) * angle);
      sine[l] = std::sin(static_cast<double>(l) * angle);
    }
    for (Size begin = width; begin < n; begin += width) {
      const double c = std::cos(static_cast<double>(begin) * angle);
      const double s = std::sin(static_cast<double>(begin) * angle);
      const Size count = std::min(width, n - begin);
      for (Size l = 0; l < count; ++l) {
        cosine[begin + l] = c * cosine[l] - s * sine[l];
        sine[begin + l] = s * cosine[l] + c * sine[l];
      }
    }
  }

  template <class Base>
  void add_gradient(const Components& c, double h, const std::array<Vector, 3>& t,
                    double* out) const {
    const auto n = static_cast<Size>(k[0].size());
    for (Size q = 0; q < c.count; ++q) {
      const Base base(c.scale[q]);
      const double w = std::exp(c.log_weight[q]), theta = two_pi * c.frequency[q];
      const double* const e = exponential_.data() + q * n;
      const double* const cs = cosine_.data() + q * n;
      const double* const sn = sine_.data() + q * n;
      double by_weight = 0, by_scale = 0, by_theta = 0;
      for (Size l = 0; l < n; ++l) {
        const double d = static_cast<double>(l) * h, t0 = t[0][l], t1 = t[1][l], t2 = t[2][l];
        const double cosine = cs[l], sine = sn[l];
        const Shape g = base(d, e[l]);
        // The sum's term is w (p0 g + p1 g' + p2 g'').
        const double p0 = t0 * cosine - theta * (t1 * sine + theta * t2 * cosine);
        const double p1 = t1 * cosine - 2 * theta * t2 * sine, p2 = t2 * cosine;
        by_weight += p0 * g.g[0] + p1 * g.g[1] + p2 * g.g[2];
        by_scale += p0 * d * g.g[1] + p1 * (g.g[1] + d * g.g[2]) + p2 * (2 * g.g[2] + d * g.g[3]);
        const double p0_theta = -d * sine * t0 - (sine + theta * d * cosine) * t1 +
                                theta * (theta * d * sine - 2 * cosine) * t2;
        const double p1_theta = -d * sine * t1 - 2 * (sine + theta * d * cosine) * t2;
        by_theta += p0_theta * g.g[0] + p1_theta * g.g[1] - d * sine * t2 * g.g[2];
      }
      out[q] += w * by_weight;
      out[c.count + q] += w * Base::homogeneity * by_scale;
      out[2 * c.count + q] += w * two_pi * by_theta;
    }
  }

  Vector exponential_, cosine_, sine_;  // [q][l]
};

// ---- the equation -----------------------------------------------------------------------------

[[noreturn]] void refuse(std::string_view argument, std::string_view value, std::string_view rule) {
  throw DomainError("gp_pde::solve_gp_hm", argument, value, rule);
}

struct Derivative {
  std::string symbol;
  std::vector<int> orders;       ///< per axis
  bool linear = false;           ///< the equation is linear in it, with a constant coefficient
  double coefficient = 0;        ///< then
  Size input = -1, output = -1;  ///< else: which input of the program, which output is dF/d(it)
};

/// F = sum of coefficient * derivative over the linear ones + rest(axes, forcing, other ones).
struct Equation {
  std::vector<Derivative> derivatives;
  std::optional<Program<double>> rest;  ///< outputs: the rest, then its derivatives
  Size inputs = 0;
  bool rest_depends_on_u = false;
};

Equation take_apart(const Problem& problem) {
  Equation equation;
  std::vector<std::string> inputs;
  for (const Axis& axis : problem.axes) inputs.push_back(axis.name);
  inputs.push_back(problem.forcing_symbol);
  Expression rest = problem.equation;
  std::map<std::string, Expression> zero;
  std::vector<Expression> slopes;
  for (const std::string& symbol : problem.equation.symbols()) {
    if (std::find(inputs.begin(), inputs.end(), symbol) != inputs.end()) continue;
    const auto orders = detail::derivative_orders(problem.axes, symbol);
    if (!orders)
      refuse("problem.equation", symbol, "in the axes, the forcing, u and its derivatives");
    for (const int order : *orders)
      if (order > 2) refuse("problem.equation", symbol, "of order two at most along each axis");
    Derivative d{.symbol = symbol, .orders = *orders};
    const Expression slope = problem.equation.derivative(symbol);
    if (slope.is_zero()) continue;
    d.linear = slope.is_constant();
    if (d.linear) {
      d.coefficient = slope.constant().hi;
      la::require(std::isfinite(d.coefficient), "gp_pde::solve_gp_hm", "coefficient of " + symbol,
                  d.coefficient, "finite");
      zero.emplace(symbol, Expression());
    } else {
      d.output = 1 + static_cast<Size>(slopes.size());
      slopes.push_back(slope);
    }
    equation.derivatives.push_back(std::move(d));
  }
  if (equation.derivatives.empty()) refuse("problem.equation", "no u", "an equation for u");
  equation.rest_depends_on_u = !slopes.empty();
  for (Derivative& d : equation.derivatives)
    if (!d.linear) {
      d.input = static_cast<Size>(inputs.size());
      inputs.push_back(d.symbol);
    }
  slopes.insert(slopes.begin(), rest.substitute(zero));
  equation.inputs = static_cast<Size>(inputs.size());
  equation.rest.emplace(slopes, inputs);
  return equation;
}

/// Values of a formula in double-double on a tensor grid, rounded.
Vector sample(const Expression& formula, const std::vector<std::string>& names,
              const std::vector<std::vector<dd>>& axes, std::string_view what, int threads) {
  Size count = 1;
  for (const auto& axis : axes) count *= static_cast<Size>(axis.size());
  std::vector<dd> values(count);
  Program<dd>(formula, names).on_grid(axes, values, threads);
  Vector rounded(count);
  for (Size i = 0; i < count; ++i) {
    rounded[i] = values[i].hi;
    if (!std::isfinite(rounded[i]))
      la::require(false, "gp_pde::solve_gp_hm", what, rounded[i], "finite on the whole domain");
  }
  return rounded;
}

std::vector<dd> uniform(const Axis& axis, Size n, double shift) {
  std::vector<dd> nodes;
  for (Size i = 0; i < n; ++i)
    nodes.push_back(axis.lower + (axis.upper - axis.lower) * (static_cast<double>(i) + shift) /
                                     static_cast<double>(n - (shift == 0 ? 1 : 0)));
  return nodes;
}

/// a u + b du/dn = g at one end of an axis.
struct Condition {
  std::size_t axis;
  bool upper;
  double a, b;  ///< b times the sign of the outward normal
  Vector data;  ///< along the other axis
};

}  // namespace

// ---- the objective ----------------------------------------------------------------------------

struct HmSolution::Impl {
  HmKernel kernel;
  Size components;
  std::vector<Vector> parameters;  ///< per axis: log w, s, mu
  std::vector<Vector> nodes;
  Vector a;  ///< K_1^-1 U K_2^-1
  int threads;

  [[nodiscard]] Components of(std::size_t axis) const {
    const double* p = parameters[axis].data();
    return {p, p + components, p + 2 * components, components};
  }
  /// Derivative of the given order of k_axis at (point, node), row-major.
  [[nodiscard]] Vector cross(std::size_t axis, const Vector& points, int order) const {
    const auto n = static_cast<Size>(nodes[axis].size());
    Vector matrix(points.size() * nodes[axis].size());
    const Components c = of(axis);
    parallel_for(static_cast<Size>(points.size()), threads, [&](Size i) {
      for (Size j = 0; j < n; ++j) {
        const double d = points[i] - nodes[axis][j];
        matrix[i * n + j] =
            (is_matern(kernel) ? covariance<Matern>(c, d) : covariance<Gaussian>(c, d))[order];
      }
    });
    return matrix;
  }
};

struct HmObjective::Impl {
  Problem problem;
  HmOptions options;
  Equation equation;
  Size q = 0;
  int threads = 1;
  std::vector<Vector> nodes;
  std::array<Size, 2> n{1, 1};  ///< points per axis; 1 for the absent one
  std::array<double, 2> h{0, 0};
  Vector forcing, coordinates;  ///< at the nodes; coordinates interleaved
  Vector rest;                  ///< of the equation, where it has no u in it
  Vector source;                ///< F at u = 0
  std::vector<Condition> conditions;
  Size boundary_values = 0;
  double boundary_scale = 0;  ///< RMS of the conditions' data
  std::array<bool, 3> needs[2] = {{true, false, false}, {true, false, false}};

  // Working memory
  std::array<la::ToeplitzCholesky, 2> factor;
  std::array<Lags, 2> lags;
  std::array<std::array<Toeplitz, 3>, 2> matrix;
  std::array<std::array<Vector, 3>, 2> adjoint;  // of the lags
  bool mixed = false;                            // a derivative along both axes
  Vector alpha1, alpha2, a, u, beta1, beta2;     // K_1^-1 U, U K_2^-1, both (only where mixed)
  std::vector<Vector> value, slope;              // one a derivative: its values, tau_2 F dF/d(it)
  Vector f;                                      // F at the nodes
  double equation_gap = 0, boundary_gap = 0;

  Impl(const Problem& p, const HmOptions& o);
  [[nodiscard]] std::size_t dimension() const { return nodes.size(); }
  [[nodiscard]] Size total() const { return n[0] * n[1]; }
  [[nodiscard]] Size size() const { return total() + 2 + 3 * q * static_cast<Size>(dimension()); }
  [[nodiscard]] Components components(const double* p, std::size_t axis) const {
    const double* c = p + total() + 2 + 3 * q * static_cast<Size>(axis);
    return {c, c + q, c + 2 * q, q};
  }

  /// Covariances, their factors and K^-1 U; false where not positive definite.
  bool prepare(const double* p);
  void evaluate_derivatives();
  void evaluate_equation();
  double evaluate(const double* p, double* gradient);
  [[nodiscard]] HmSolution solution(const double* p);
  /// The values that a condition is about, taken from (or, as a gradient, added to) fields.
  template <class Visit>
  void visit(const Condition& c, Visit&& visit) const;
  [[nodiscard]] std::size_t find_derivative(const std::vector<int>& orders) const;
};

HmObjective::Impl::Impl(const Problem& p, const HmOptions& o) : problem(p), options(o) {
  constexpr std::string_view name = "gp_pde::solve_gp_hm";
  const auto d = problem.axes.size();
  la::require(d == 1 || d == 2, name, "problem.axes.size()", static_cast<Size>(d), "1 or 2");
  la::require_size(name, "problem.sides.size()", static_cast<Size>(problem.sides.size()),
                   static_cast<Size>(d));
  la::require(options.components >= 1 && options.components <= 10000, name, "options.components",
              options.components, "in 1 ... 10000");
  la::require(options.frequency_range >= 0 && std::isfinite(options.frequency_range), name,
              "options.frequency_range", options.frequency_range, ">= 0 and finite");
  la::require(options.jitter >= 0 && std::isfinite(options.jitter), name, "options.jitter",
              options.jitter, ">= 0 and finite");
  la::require(options.boundary_weight > 0 && std::isfinite(options.boundary_weight), name,
              "options.boundary_weight", options.boundary_weight, "> 0 and finite");
  la::require(options.learning_rate > 0 && std::isfinite(options.learning_rate), name,
              "options.learning_rate", options.learning_rate, "> 0 and finite");
  la::require(options.final_learning_rate >= 0 && std::isfinite(options.final_learning_rate), name,
              "options.final_learning_rate", options.final_learning_rate, ">= 0 and finite");
  la::require(options.iterations >= 0, name, "options.iterations", options.iterations, ">= 0");
  la::require(options.checkpoints >= 0, name, "options.checkpoints", options.checkpoints, ">= 0");
  la::require(options.history >= 1, name, "options.history", options.history, ">= 1");
  la::require(options.tolerance > 0, name, "options.tolerance", options.tolerance, "> 0");
  la::require(options.time_limit > 0, name, "options.time_limit", options.time_limit, "> 0");
  if (options.points.empty()) options.points.assign(d, d == 1 ? 400 : 200);
  la::require_size(name, "options.points.size()", static_cast<Size>(options.points.size()),
                   static_cast<Size>(d));
  threads = thread_count(options.threads);
  q = is_mixture(options.kernel) ? options.components : 1;

  std::vector<std::string> names;
  std::vector<std::vector<dd>> grid;
  for (std::size_t k = 0; k < d; ++k) {
    const Axis& axis = problem.axes[k];
    if (!isfinite(axis.lower) || !isfinite(axis.upper) || !(axis.lower < axis.upper))
      refuse("problem.axes." + axis.name,
             "[" + std::to_string(axis.lower.hi) + ", " + std::to_string(axis.upper.hi) + "]",
             "finite with lower < upper");
    la::require(options.points[k] >= 2 && options.points[k] <= 8192, name,
                "options.points[" + std::to_string(k) + "]", options.points[k], "in 2 ... 8192");
    n[k] = options.points[k];
    h[k] = ((axis.upper - axis.lower) / static_cast<double>(n[k] - 1)).hi;
    names.push_back(axis.name);
    grid.push_back(uniform(axis, n[k], 0));
    Vector rounded;
    for (const dd& x : grid.back()) rounded.push_back(x.hi);
    nodes.push_back(std::move(rounded));
  }
  equation = take_apart(problem);

  if (const auto* samples = std::get_if<GridSamples>(&problem.forcing)) {
    la::require_size(name, "forcing.axes.size()", static_cast<Size>(samples->axes.size()),
                     static_cast<Size>(d));
    for (std::size_t k = 0; k < d; ++k) {
      la::require_size(name, "forcing.axes." + names[k], static_cast<Size>(samples->axes[k].size()),
                       n[k]);
      for (Size i = 0; i < n[k]; ++i)
        if (!(std::fabs(samples->axes[k][i] - nodes[k][i]) <= 1e-9 * h[k]))
          la::require(false, name, "forcing.axes." + names[k] + "[" + std::to_string(i) + "]",
                      samples->axes[k][i], "the node " + std::to_string(nodes[k][i]));
    }
    la::require_size(name, "forcing.values", static_cast<Size>(samples->values.size()), total());
    la::require_finite(name, "forcing.values", std::span<const double>(samples->values));
    forcing = samples->values;
  } else if (problem.equation.depends_on(problem.forcing_symbol)) {
    forcing =
        sample(std::get<Expression>(problem.forcing), names, grid, "problem.forcing", threads);
  } else {
    forcing.assign(total(), 0.0);
  }
  for (Size i = 0; i < n[0]; ++i)
    for (Size j = 0; j < n[1]; ++j) {
      coordinates.push_back(nodes[0][i]);
      if (d == 2) coordinates.push_back(nodes[1][j]);
    }

  const auto add_derivative = [&](const std::vector<int>& orders) {
    for (const Derivative& known : equation.derivatives)
      if (known.orders == orders) return;
    equation.derivatives.push_back({.symbol = "", .orders = orders, .linear = true});
  };
  for (std::size_t k = 0; k < d; ++k)
    for (int s = 0; s < 2; ++s) {
      const Side& side = problem.sides[k][s];
      const std::string where = "problem.sides." + names[k] + (s == 0 ? "-" : "+");
      if (side.kind == SideKind::none) continue;
      if (side.kind == SideKind::periodic) refuse(where, "periodic", "another kind for gp-hm");
      if (side.kind == SideKind::derivative || side.kind == SideKind::linear || !side.also.empty())
        refuse(where, "several conditions, or one of another kind",
               "dirichlet, neumann or robin for gp-hm");
      Condition c{k, s == 1, side.a, side.b, {}};
      if (side.kind == SideKind::dirichlet) c.a = 1, c.b = 0;
      if (side.kind == SideKind::neumann) c.a = 0, c.b = 1;
      if (!std::isfinite(c.a) || !std::isfinite(c.b) || (c.a == 0 && c.b == 0))
        refuse(where, "a = " + std::to_string(c.a) + ", b = " + std::to_string(c.b),
               "finite and not both zero");
      if (s == 0) c.b = -c.b;
      if (c.b != 0) {
        std::vector<int> orders(d, 0);
        orders[k] = 1;
        add_derivative(orders);
      }
      const Expression g = side.g.substitute(
          names[k], Expression(s == 0 ? problem.axes[k].lower : problem.axes[k].upper));
      if (d == 1) {
        c.data = {g.constant().hi};
        la::require_finite(name, where + ".g", std::span<const double>(c.data));
      } else {
        c.data = sample(g, {names[1 - k]}, {grid[1 - k]}, where + ".g", threads);
      }
      boundary_values += static_cast<Size>(c.data.size());
      for (const double v : c.data) boundary_scale += v * v;
      conditions.push_back(std::move(c));
    }
  if (boundary_values > 0)
    boundary_scale = std::sqrt(boundary_scale / static_cast<double>(boundary_values));
  for (const Derivative& derivative : equation.derivatives)
    for (std::size_t k = 0; k < d; ++k) needs[k][derivative.orders[k]] = true;
  if (!options.start.empty()) {
    la::require_size(name, "options.start", std::ssize(options.start), size());
    la::require_finite(name, "options.start", std::span<const double>(options.start));
  }
  for (const Derivative& derivative : equation.derivatives)
    mixed = mixed || (d == 2 && derivative.orders[0] > 0 && derivative.orders[1] > 0);
  value.resize(equation.derivatives.size());
  slope.resize(equation.derivatives.size());

  // F at u = 0, for the scale of residuals; and once and for all where the rest has no u in it.
  u.assign(total(), 0.0);
  for (Vector& v : value) v.assign(total(), 0.0);
  evaluate_equation();
  source = f;
  if (!equation.rest_depends_on_u) rest = f;
  for (std::size_t i = 0; i < source.size(); ++i)
    if (!std::isfinite(source[i]))
      la::require(false, name, "problem.equation at u = 0, node " + std::to_string(i), source[i],
                  "finite");
}

std::size_t HmObjective::Impl::find_derivative(const std::vector<int>& orders) const {
  for (std::size_t i = 0; i < equation.derivatives.size(); ++i)
    if (equation.derivatives[i].orders == orders) return i;
  return equation.derivatives.size();
}

bool HmObjective::Impl::prepare(const double* p) {
  u.assign(p, p + total());
  for (std::size_t k = 0; k < dimension(); ++k) {
    lags[k].evaluate(options.kernel, components(p, k), n[k], h[k]);
    for (int order = 1; order < 3; ++order)
      if (needs[k][order]) matrix[k][order] = Toeplitz(lags[k].k[order], order == 1);
    Vector column = lags[k].k[0];
    column[0] += options.jitter;
    if (!factor[k].factor(column)) return false;
  }
  alpha1 = u;
  factor[0].solve_left(alpha1.data(), n[1], threads);
  if (dimension() == 2) {
    alpha2 = u;
    factor[1].solve_right(alpha2.data(), n[0], threads);
    if (mixed) {
      a = alpha2;
      factor[0].solve_left(a.data(), n[1], threads);
    }
  }
  return true;
}

void HmObjective::Impl::evaluate_derivatives() {
  for (std::size_t i = 0; i < equation.derivatives.size(); ++i) {
    const std::vector<int>& o = equation.derivatives[i].orders;
    Vector& v = value[i];
    v.resize(total());
    if (dimension() == 1 || o[1] == 0) {
      if (o[0] == 0)
        v = u;
      else
        matrix[0][o[0]].multiply_left(false, alpha1.data(), n[1], 0.0, v.data(), threads);
    } else if (o[0] == 0) {
      matrix[1][o[1]].multiply_right(true, alpha2.data(), n[0], 0.0, v.data(), threads);
    } else {
      Vector half(total());
      matrix[1][o[1]].multiply_right(true, a.data(), n[0], 0.0, half.data(), threads);
      matrix[0][o[0]].multiply_left(false, half.data(), n[1], 0.0, v.data(), threads);
    }
  }
}

/// f: F at the nodes; slope[i]: dF/d(derivative i), for those that are not linear.
void HmObjective::Impl::evaluate_equation() {
  const Size count = total(), d = static_cast<Size>(dimension());
  if (!rest.empty()) {
    f = rest;
  } else {
    f.resize(count);
    for (std::size_t i = 0; i < slope.size(); ++i)
      if (!equation.derivatives[i].linear) slope[i].resize(count);
    parallel_blocks(count, 4096, threads, [&](Size begin, Size end) {
      Vector in(equation.inputs), out(equation.rest->outputs());
      for (Size j = begin; j < end; ++j) {
        std::copy_n(coordinates.begin() + j * d, d, in.begin());
        in[d] = forcing[j];
        for (std::size_t i = 0; i < value.size(); ++i)
          if (equation.derivatives[i].input >= 0) in[equation.derivatives[i].input] = value[i][j];
        (*equation.rest)(std::span<const double>(in), std::span<double>(out));
        f[j] = out[0];
        for (std::size_t i = 0; i < slope.size(); ++i)
          if (equation.derivatives[i].output > 0) slope[i][j] = out[equation.derivatives[i].output];
      }
    });
  }
  for (std::size_t i = 0; i < value.size(); ++i)
    if (equation.derivatives[i].coefficient != 0)
      cblas_daxpy(static_cast<int>(count), equation.derivatives[i].coefficient, value[i].data(), 1,
                  f.data(), 1);
}

/// Calls visit(index of the node, entry of the data).
template <class Visit>
void HmObjective::Impl::visit(const Condition& c, Visit&& visit) const {
  const Size end = c.upper ? n[c.axis] - 1 : 0;
  for (Size i = 0; i < static_cast<Size>(c.data.size()); ++i)
    visit(c.axis == 0 ? end * n[1] + i : i * n[1] + end, i);
}

double HmObjective::Impl::evaluate(const double* p, double* gradient) {
  const la::OneBlasThread one;
  const Size count = total();
  const std::size_t d = dimension();
  const double log_tau1 = p[count], log_tau2 = p[count + 1];
  const double tau1 = std::exp(log_tau1), tau2 = std::exp(log_tau2);
  if (!prepare(p)) return infinity;
  evaluate_derivatives();
  evaluate_equation();
  equation_gap = dot(f, f);
  const double weight = options.boundary_weight;

  double* const by_u = gradient;
  std::fill(by_u, by_u + count, 0.0);
  // The prior is <K_1^-1 U, U K_2^-1> / 2.
  const Vector& other = d == 2 ? alpha2 : u;
  double loss = 0.5 * dot(alpha1, other);
  for (std::size_t k = 0; k < d; ++k)
    loss += 0.5 * static_cast<double>(n[1 - k]) * factor[k].log_determinant();
  loss += 0.5 * (tau2 * equation_gap - static_cast<double>(count) * log_tau2);
  gradient[count + 1] = 0.5 * (tau2 * equation_gap - static_cast<double>(count));

  // slope: gradient in the values of the derivatives.
  for (std::size_t i = 0; i < slope.size(); ++i) {
    if (equation.derivatives[i].linear) {
      slope[i].resize(count);
      const double c = tau2 * equation.derivatives[i].coefficient;
      for (Size j = 0; j < count; ++j) slope[i][j] = c * f[j];
    } else {
      for (Size j = 0; j < count; ++j) slope[i][j] *= tau2 * f[j];
    }
  }
  boundary_gap = 0;
  for (const Condition& c : conditions) {
    std::size_t normal = slope.size();
    if (c.b != 0) {
      std::vector<int> orders(d, 0);
      orders[c.axis] = 1;
      normal = find_derivative(orders);
    }
    visit(c, [&](Size node, Size i) {
      const double r = c.a * u[node] + (c.b != 0 ? c.b * value[normal][node] : 0.0) - c.data[i];
      boundary_gap += r * r;
      by_u[node] += weight * tau1 * c.a * r;
      if (c.b != 0) slope[normal][node] += weight * tau1 * c.b * r;
    });
  }
  const auto nb = static_cast<double>(boundary_values);
  loss += weight * 0.5 * (tau1 * boundary_gap - nb * log_tau1);
  gradient[count] = weight * 0.5 * (tau1 * boundary_gap - nb);
  if (!std::isfinite(loss)) return loss;

  // Adjoints of the covariances at the lags, and beta_1 = K_1^-1 (adjoint of alpha_1), beta_2
  // alike; the prior gives half of its own to either: with A = K_1^-1 U K_2^-1, A / 2 = K_1^-1
  // alpha_2 / 2 = alpha_1 K_2^-1 / 2.
  for (std::size_t k = 0; k < d; ++k)
    for (Vector& t : adjoint[k]) t.assign(n[k], 0.0);
  beta1 = other;
  if (d == 2) beta2 = alpha1;
  for (Vector* b : {&beta1, &beta2})
    for (double& v : *b) v *= 0.5;
  Vector beta, half;  // of A, where there are mixed derivatives
  for (std::size_t i = 0; i < slope.size(); ++i) {
    const std::vector<int>& o = equation.derivatives[i].orders;
    const Vector& s = slope[i];
    if (d == 1 || o[1] == 0) {
      if (o[0] == 0) {
        for (Size j = 0; j < count; ++j) by_u[j] += s[j];
      } else {
        matrix[0][o[0]].multiply_left(true, s.data(), n[1], 1.0, beta1.data(), threads);
        la::add_diagonal_sums(false, o[0] == 1, n[0], n[1], s.data(), alpha1.data(), 1.0,
                              adjoint[0][o[0]], threads);
      }
    } else if (o[0] == 0) {
      matrix[1][o[1]].multiply_right(false, s.data(), n[0], 1.0, beta2.data(), threads);
      la::add_diagonal_sums(true, o[1] == 1, n[1], n[0], s.data(), alpha2.data(), 1.0,
                            adjoint[1][o[1]], threads);
    } else {
      half.resize(count);
      beta.resize(count);
      matrix[1][o[1]].multiply_right(true, a.data(), n[0], 0.0, half.data(), threads);
      la::add_diagonal_sums(false, o[0] == 1, n[0], n[1], s.data(), half.data(), 1.0,
                            adjoint[0][o[0]], threads);
      matrix[0][o[0]].multiply_left(true, s.data(), n[1], 0.0, half.data(), threads);
      la::add_diagonal_sums(true, o[1] == 1, n[1], n[0], half.data(), a.data(), 1.0,
                            adjoint[1][o[1]], threads);
      matrix[1][o[1]].multiply_right(false, half.data(), n[0], 1.0, beta.data(), threads);
    }
  }
  factor[0].solve_left(beta1.data(), n[1], threads);
  for (Size j = 0; j < count; ++j) by_u[j] += beta1[j];
  if (d == 1)
    for (Size j = 0; j < count; ++j) by_u[j] += 0.5 * alpha1[j];
  if (d == 2) {
    factor[1].solve_right(beta2.data(), n[0], threads);
    for (Size j = 0; j < count; ++j) by_u[j] += beta2[j];
  }
  if (!beta.empty()) {
    // A = K_1^-1 alpha2 = alpha1 K_2^-1.
    half = beta;
    factor[0].solve_left(half.data(), n[1], threads);
    factor[1].solve_right(beta.data(), n[0], threads);
    la::add_diagonal_sums(false, false, n[0], n[1], half.data(), a.data(), -1.0, adjoint[0][0],
                          threads);
    la::add_diagonal_sums(true, false, n[1], n[0], beta.data(), a.data(), -1.0, adjoint[1][0],
                          threads);
    factor[0].solve_left(beta.data(), n[1], threads);
    for (Size j = 0; j < count; ++j) by_u[j] += beta[j];
  }
  la::add_diagonal_sums(false, false, n[0], n[1], beta1.data(), alpha1.data(), -1.0, adjoint[0][0],
                        threads);
  if (d == 2) {
    la::add_diagonal_sums(true, false, n[1], n[0], beta2.data(), alpha2.data(), -1.0, adjoint[1][0],
                          threads);
  }
  for (std::size_t k = 0; k < d; ++k) {
    const Vector sums = factor[k].inverse_diagonal_sums();
    const auto others = static_cast<double>(n[1 - k]);
    for (Size l = 0; l < n[k]; ++l) adjoint[k][0][l] += (l == 0 ? 0.5 : 1.0) * others * sums[l];
    double* const out = gradient + count + 2 + 3 * q * static_cast<Size>(k);
    std::fill(out, out + 3 * q, 0.0);
    lags[k].add_gradient(options.kernel, components(p, k), h[k], adjoint[k], out);
    if (!is_mixture(options.kernel)) out[2 * q] = 0;
  }
  return loss;
}

HmSolution HmObjective::Impl::solution(const double* p) {
  const la::OneBlasThread one;
  const Size count = total();
  const std::size_t d = dimension();
  if (!prepare(p)) refuse("parameters", "a covariance", "numerically positive definite");
  evaluate_derivatives();
  evaluate_equation();
  HmSolution s;
  s.parameters.assign(p, p + size());
  s.points = options.points;
  auto impl = std::make_shared<HmSolution::Impl>();
  impl->kernel = options.kernel;
  impl->components = q;
  impl->nodes = nodes;
  impl->a = d == 2 ? alpha2 : alpha1;
  if (d == 2) factor[0].solve_left(impl->a.data(), n[1], threads);
  impl->threads = threads;
  for (std::size_t k = 0; k < d; ++k) {
    const Components c = components(p, k);
    impl->parameters.emplace_back(c.log_weight, c.log_weight + 3 * q);
    HmAxis axis;
    for (Size i = 0; i < q; ++i) {
      axis.weight.push_back(std::exp(c.log_weight[i]));
      axis.scale.push_back(c.scale[i]);
      axis.frequency.push_back(is_mixture(options.kernel) ? c.frequency[i] : 0.0);
    }
    s.axes.push_back(std::move(axis));
  }
  s.impl = std::move(impl);
  s.boundary_precision = std::exp(p[count]);
  s.equation_precision = std::exp(p[count + 1]);

  s.residual_scale = rms(source);
  for (std::size_t i = 0; i < value.size(); ++i) {
    const Derivative& derivative = equation.derivatives[i];
    Vector term = value[i];
    for (Size j = 0; j < count; ++j)
      term[j] *= derivative.linear ? derivative.coefficient : slope[i][j];
    s.residual_scale = std::max(s.residual_scale, rms(term));
  }
  const double scale = s.residual_scale > 0 ? s.residual_scale : 1;
  s.node_residual = rms(f) / scale;
  double gap = 0;
  for (const Condition& c : conditions) {
    std::vector<int> orders(d, 0);
    orders[c.axis] = 1;
    const std::size_t normal = find_derivative(orders);
    visit(c, [&](Size node, Size i) {
      const double r = c.a * u[node] + (c.b != 0 ? c.b * value[normal][node] : 0.0) - c.data[i];
      gap += r * r;
    });
  }
  const double size = std::max(boundary_scale, rms(u));
  if (boundary_values > 0)
    s.boundary_residual =
        std::sqrt(gap / static_cast<double>(boundary_values)) / (size > 0 ? size : 1);

  s.residual = s.node_residual;
  if (const auto* expression = std::get_if<Expression>(&problem.forcing)) {
    // Half-way between the nodes, where nothing was imposed.
    std::vector<std::string> names;
    std::vector<std::vector<dd>> grid;
    std::vector<Vector> points;
    for (std::size_t k = 0; k < d; ++k) {
      names.push_back(problem.axes[k].name);
      grid.push_back(uniform(problem.axes[k], n[k] - 1, 0.5));
      Vector rounded;
      for (const dd& x : grid.back()) rounded.push_back(x.hi);
      points.push_back(std::move(rounded));
    }
    Vector right;
    Size cells = n[0] - 1;
    if (d == 2) cells *= n[1] - 1;
    if (problem.equation.depends_on(problem.forcing_symbol))
      right = sample(*expression, names, grid, "problem.forcing", threads);
    else
      right.assign(cells, 0.0);
    std::vector<Vector> values;
    for (const Derivative& derivative : equation.derivatives)
      values.push_back(s.on_grid(points, derivative.orders));
    Vector in(equation.inputs), out(equation.rest->outputs()), r(cells);
    for (Size j = 0; j < cells; ++j) {
      in[0] = d == 1 ? points[0][j] : points[0][j / (n[1] - 1)];
      if (d == 2) in[1] = points[1][j % (n[1] - 1)];
      in[d] = right[j];
      for (std::size_t i = 0; i < values.size(); ++i)
        if (equation.derivatives[i].input >= 0) in[equation.derivatives[i].input] = values[i][j];
      (*equation.rest)(std::span<const double>(in), std::span<double>(out));
      r[j] = out[0];
      for (std::size_t i = 0; i < values.size(); ++i)
        r[j] += equation.derivatives[i].coefficient * values[i][j];
    }
    s.residual = rms(r) / scale;
  }
  s.report.residual = std::max(s.residual, s.boundary_residual);
  if (std::isnan(s.residual) || std::isnan(s.boundary_residual)) s.report.residual = s.residual;
  s.report.tolerance = options.tolerance;
  s.report.status =
      s.report.residual <= options.tolerance ? Status::converged : Status::max_iterations;
  return s;
}

HmObjective::HmObjective(const Problem& problem, const HmOptions& options)
    : impl_(std::make_unique<Impl>(problem, options)) {}
HmObjective::~HmObjective() = default;
std::ptrdiff_t HmObjective::size() const { return impl_->size(); }
const std::vector<std::vector<double>>& HmObjective::nodes() const { return impl_->nodes; }

std::vector<double> HmObjective::start() const {
  if (!impl_->options.start.empty()) return impl_->options.start;
  const Size q = impl_->q;
  Vector p(impl_->size());
  double* c = p.data() + impl_->total() + 2;
  for (std::size_t k = 0; k < impl_->dimension(); ++k, c += 3 * q)
    for (Size i = 0; i < q; ++i) {
      c[i] = -std::log(static_cast<double>(q));
      if (is_mixture(impl_->options.kernel) && q > 1)
        c[2 * q + i] =
            impl_->options.frequency_range * static_cast<double>(i) / static_cast<double>(q - 1);
    }
  return p;
}

double HmObjective::operator()(std::span<const double> parameters, std::span<double> gradient) {
  la::require_size("gp_pde::HmObjective", "parameters", std::ssize(parameters), size());
  la::require_size("gp_pde::HmObjective", "gradient", std::ssize(gradient), size());
  return impl_->evaluate(parameters.data(), gradient.data());
}

std::string HmObjective::identity() const {
  const Impl& o = *impl_;
  const HmOptions& options = o.options;
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += std::string(name) + ": " + value + '\n';
  };
  const auto content = [](const Vector& values) {
    return la::digest_of(std::span<const double>(values)).hex();
  };
  line("program", info().version);
  std::string names, shape;
  for (std::size_t k = 0; k < o.dimension(); ++k) {
    names += (k ? " " : "") + o.problem.axes[k].name + " in [" +
             number_text(o.problem.axes[k].lower.hi) + ", " +
             number_text(o.problem.axes[k].upper.hi) + "]";
    shape += (k ? " " : "") + std::to_string(o.n[k]);
  }
  line("domain", names);
  line("equation", o.problem.equation.brief_text(1 << 20));
  line("points", shape);
  for (const Vector& nodes : o.nodes) line("nodes", content(nodes));
  line("forcing", content(o.forcing));
  line("equation at u = 0", content(o.source));
  for (const Condition& c : o.conditions)
    line("condition on " + o.problem.axes[c.axis].name + (c.upper ? "+" : "-"),
         number_text(c.a) + "*u + " + number_text(c.b) + "*du = " + content(c.data));
  constexpr std::array<const char*, 4> kernels = {"student-t", "gaussian", "matern", "se"};
  line("kernel", kernels[static_cast<std::size_t>(options.kernel)]);
  line("components", std::to_string(o.q));
  line("frequency range", number_text(options.frequency_range));
  line("optimiser", options.optimiser == HmOptimiser::adam ? "adam" : "lbfgs");
  line("iterations", std::to_string(options.iterations));
  line("learning rate", number_text(options.learning_rate));
  line("final learning rate", number_text(options.final_learning_rate));
  line("history", std::to_string(options.history));
  line("boundary weight", number_text(options.boundary_weight));
  line("jitter", number_text(options.jitter));
  line("checkpoints", std::to_string(options.checkpoints));
  line("start", content(options.start));
  return text;
}

HmSolution HmObjective::solution(std::span<const double> parameters) {
  la::require_size("gp_pde::HmObjective::solution", "parameters", std::ssize(parameters), size());
  return impl_->solution(parameters.data());
}

// ---- solutions --------------------------------------------------------------------------------

std::vector<double> HmSolution::on_grid(std::span<const std::vector<double>> points,
                                        std::span<const int> orders) const {
  const std::size_t d = impl->nodes.size();
  la::require_size("gp_pde::HmSolution::on_grid", "axes", std::ssize(points), static_cast<Size>(d));
  la::require_size("gp_pde::HmSolution::on_grid", "orders", std::ssize(orders),
                   static_cast<Size>(d));
  for (const int order : orders)
    la::require(order >= 0 && order <= 2, "gp_pde::HmSolution::on_grid", "orders", order,
                "0, 1 or 2");
  const la::OneBlasThread one;
  const auto n0 = static_cast<Size>(impl->nodes[0].size());
  const auto n1 = d == 2 ? static_cast<Size>(impl->nodes[1].size()) : Size{1};
  const auto m0 = static_cast<Size>(points[0].size());
  Vector first(m0 * n1);
  if (m0 > 0)
    la::multiply_into(false, false, m0, n1, n0, impl->cross(0, points[0], orders[0]).data(),
                      impl->a.data(), 0.0, first.data(), impl->threads);
  if (d == 1) return first;
  const auto m1 = static_cast<Size>(points[1].size());
  Vector out(m0 * m1);
  if (!out.empty())
    la::multiply_into(false, true, m0, m1, n1, first.data(),
                      impl->cross(1, points[1], orders[1]).data(), 0.0, out.data(), impl->threads);
  return out;
}

std::vector<double> HmSolution::spectrum(std::ptrdiff_t axis,
                                         std::span<const double> frequencies) const {
  la::require(axis >= 0 && axis < std::ssize(axes), "gp_pde::HmSolution::spectrum", "axis", axis,
              "an axis of the problem");
  const HmAxis& a = axes[axis];
  Vector density;
  for (const double w : frequencies) {
    double sum = 0;
    for (std::size_t q = 0; q < a.weight.size(); ++q)
      for (const double sign : {-1.0, 1.0}) {
        const double distance = w - sign * two_pi * a.frequency[q];
        if (is_matern(impl->kernel)) {
          const double rate = std::sqrt(5.0) * std::exp(a.scale[q]);
          const double t = distance / rate;
          sum += a.weight[q] * 8 / (3 * std::numbers::pi * rate * std::pow(1 + t * t, 3));
        } else {
          const double variance = 2 * std::exp(a.scale[q]);
          sum += a.weight[q] * std::exp(-0.5 * distance * distance / variance) /
                 std::sqrt(two_pi * variance);
        }
      }
    density.push_back(sum);
  }
  return density;
}

double HmSolution::spectral_width(std::ptrdiff_t axis, std::size_t component) const {
  la::require(axis >= 0 && axis < std::ssize(axes), "gp_pde::HmSolution::spectral_width", "axis",
              axis, "an axis of the problem");
  const Vector& scale = axes[axis].scale;
  la::require(component < scale.size(), "gp_pde::HmSolution::spectral_width", "component",
              component, "a component of the axis");
  // -g''(0): of exp(-e^s d^2), and of Matern-5/2 with rate sqrt(5) e^s.
  return is_matern(impl->kernel) ? std::sqrt(5.0 / 3) * std::exp(scale[component])
                                 : std::sqrt(2 * std::exp(scale[component]));
}

// ---- optimisers -------------------------------------------------------------------------------

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The objective with what happens between its steps: loss curve, progress, time limit, state.
struct Run {
  HmObjective& objective;
  const HmOptions& options;
  la::CheckpointFile& file;
  HmSolution& notes;  // warnings, and where this run began
  Clock::time_point start = Clock::now();
  double last_report = -1;
  double before = 0;  // seconds, until the state that was gone on from
  std::vector<HmLoss> losses = {};

  [[nodiscard]] double seconds() const { return before + seconds_since(start); }

  /// The optimiser's state goes to the file: `put` writes what is its own.
  template <class Put>
  void save(Size i, const Vector& p, Put&& put) {
    if (!file.active()) return;
    la::ByteWriter out;
    out.put_text(la::build_key());
    out.put(static_cast<std::int64_t>(i));
    out.put(seconds());
    out.put(static_cast<std::uint64_t>(losses.size()));
    for (const HmLoss& entry : losses) {
      out.put(static_cast<std::int64_t>(entry.iteration));
      out.put(entry.loss);
    }
    out.put_array(p);
    put(out);
    file.save(out.bytes());
  }

  /// Likewise; a full disk does not end the computation.
  template <class Put>
  void try_save(Size i, const Vector& p, Put&& put) {
    try {
      save(i, p, put);
    } catch (const IoError& error) {
      if (std::find(notes.warnings.begin(), notes.warnings.end(), error.what()) ==
          notes.warnings.end())
        notes.warnings.emplace_back(error.what());
    }
  }

  /// What the file has, or nothing: the iteration, with `p` and the optimiser's own by `get`.
  template <class Get>
  Size restore(Vector& p, Get&& get) {
    const std::optional<std::string> state = file.take_state();
    notes.warnings = file.warnings();
    if (!state) return 0;
    la::ByteReader in(*state);
    if (in.get_text() != la::build_key())
      notes.warnings.emplace_back(
          "the checkpoint was written by another build or on another kind of processor: the bits "
          "may differ from those of an uninterrupted run");
    const auto i = static_cast<Size>(in.get<std::int64_t>());
    before = in.get<double>();
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t k = 0; k < count; ++k) {
      const auto iteration = static_cast<Size>(in.get<std::int64_t>());
      losses.push_back({iteration, in.get<double>()});
    }
    p = in.get_array<double>();
    get(in);
    in.finish();
    notes.resumed_at = i;
    return i;
  }

  /// Before step i, with the loss of the iterate; false: the time is up.
  template <class Put>
  bool step(Size i, double loss, const Vector& p, Put&& put) {
    const double now = seconds_since(start);
    if (now - last_report > 0.1) {
      last_report = now;
      try {
        report_progress(options.progress,
                        static_cast<double>(i) / static_cast<double>(options.iterations),
                        "learning", "gp_pde::solve_gp_hm");
      } catch (...) {
        save(i, p, put);
        throw;
      }
    }
    const bool more = now < options.time_limit;
    // The loss of this iterate is not in the state: going on adds it.
    if (!more || file.due()) try_save(i, p, put);
    const Size every =
        options.checkpoints > 0 ? std::max<Size>(1, options.iterations / options.checkpoints) : 0;
    if (every > 0 && i % every == 0) {
      losses.push_back({i, loss});
      if (options.observe) {
        HmSolution s = objective.solution(p);
        s.iteration = i;
        s.loss = loss;
        s.losses = losses;
        options.observe(s);
      }
    }
    return more;
  }
};

/// Where an optimiser ended: the last iterate that could be evaluated.
struct End {
  Vector p;
  Size iterations = 0;
  double loss = 0;
  Status status = Status::max_iterations;
};

Status failure(double loss) {
  return loss == infinity ? Status::not_positive_definite : Status::not_finite;
}

bool all_finite(const Vector& v) {
  return std::all_of(v.begin(), v.end(), [](double x) { return std::isfinite(x); });
}

End adam(HmObjective& objective, const HmOptions& options, Run& run) {
  constexpr double decay1 = 0.9, decay2 = 0.999, small = 1e-8;
  End end{.p = objective.start()};
  const auto size = end.p.size();
  Vector p = end.p, gradient(size), first(size), second(size);
  double power1 = 1, power2 = 1;
  // The state before step i is the iterate, whose gradient is evaluated anew, and the moments.
  const auto put = [&](la::ByteWriter& out) {
    out.put_array(first);
    out.put_array(second);
    out.put(power1);
    out.put(power2);
  };
  const Size begin = run.restore(p, [&](la::ByteReader& in) {
    first = in.get_array<double>();
    second = in.get_array<double>();
    power1 = in.get<double>();
    power2 = in.get<double>();
  });
  for (Size i = begin;; ++i) {
    const double loss = objective(p, gradient);
    if (!std::isfinite(loss) || !all_finite(gradient)) {
      end.status = std::isfinite(loss) ? Status::not_finite : failure(loss);
      return end;
    }
    std::swap(end.p, p);
    end.iterations = i;
    end.loss = loss;
    if (i == options.iterations) run.try_save(i, end.p, put);
    if (i == options.iterations || !run.step(i, loss, end.p, put)) return end;
    power1 *= decay1;
    power2 *= decay2;
    const double scale1 = 1 / (1 - power1), scale2 = 1 / (1 - power2);
    double rate = options.learning_rate;
    if (options.final_learning_rate > 0) {
      const double second_half =
          2 * static_cast<double>(i) / static_cast<double>(options.iterations) - 1;
      rate *= std::pow(options.final_learning_rate / rate, std::max(0.0, second_half));
    }
    for (std::size_t j = 0; j < size; ++j) {
      const double g = gradient[j];
      first[j] = decay1 * first[j] + (1 - decay1) * g;
      second[j] = decay2 * second[j] + (1 - decay2) * g * g;
      p[j] = end.p[j] - rate * (first[j] * scale1) / (std::sqrt(second[j] * scale2) + small);
    }
  }
}

/// A point on the line p + t direction: value and slope of the objective there.
struct Trial {
  double t = 0, loss = 0, slope = 0;
  Vector p, gradient;
};

/// Strong Wolfe conditions by bracketing and zooming with safeguarded cubic interpolation.
class LineSearch {
 public:
  LineSearch(HmObjective& objective, const Vector& direction)
      : objective_(objective), direction_(direction) {}

  /// False where no decrease was found; else `from` has moved.
  bool operator()(Trial& from, double t) {
    Trial low = from, next;
    for (int i = 0; i < 20; ++i) {
      next = at(from, t);
      if (!(next.loss <= from.loss + 1e-4 * t * from.slope) || (i > 0 && next.loss >= low.loss))
        return zoom(from, low, next);
      if (std::fabs(next.slope) <= -0.9 * from.slope) return accept(from, next);
      if (next.slope >= 0) return zoom(from, next, low);
      low = next;
      t *= 2;
    }
    return accept(from, next);
  }

 private:
  Trial at(const Trial& from, double t) {
    Trial trial{.t = t, .p = from.p, .gradient = Vector(from.p.size())};
    cblas_daxpy(static_cast<int>(from.p.size()), t, direction_.data(), 1, trial.p.data(), 1);
    trial.loss = objective_(trial.p, trial.gradient);
    if (std::isfinite(trial.loss) && all_finite(trial.gradient))
      trial.slope = dot(trial.gradient, direction_);
    else
      trial.loss = infinity;
    return trial;
  }
  bool accept(Trial& from, Trial& to) {
    from = std::move(to);
    from.t = 0;
    return true;
  }
  bool zoom(Trial& from, Trial low, Trial high) {
    for (int i = 0; i < 30; ++i) {
      double t = 0.5 * (low.t + high.t);
      if (std::isfinite(high.loss)) {
        // The minimum of the cubic through both values and slopes, kept off the ends.
        const double d1 = low.slope + high.slope - 3 * (low.loss - high.loss) / (low.t - high.t);
        const double d2 = d1 * d1 - low.slope * high.slope;
        if (d2 >= 0) {
          const double root = std::copysign(std::sqrt(d2), high.t - low.t);
          const double cubic = high.t - (high.t - low.t) * (high.slope + root - d1) /
                                            (high.slope - low.slope + 2 * root);
          const double margin = 0.1 * std::fabs(high.t - low.t);
          if (cubic > std::min(low.t, high.t) + margin && cubic < std::max(low.t, high.t) - margin)
            t = cubic;
        }
      }
      Trial next = at(from, t);
      if (!(next.loss <= from.loss + 1e-4 * t * from.slope) || next.loss >= low.loss) {
        high = std::move(next);
      } else {
        if (std::fabs(next.slope) <= -0.9 * from.slope) return accept(from, next);
        if (next.slope * (high.t - low.t) >= 0) high = low;
        low = std::move(next);
      }
      if (std::fabs(high.t - low.t) <= 1e-14 * std::max(low.t, high.t)) break;
    }
    return low.loss < from.loss && accept(from, low);
  }

  HmObjective& objective_;
  const Vector& direction_;
};

End lbfgs(HmObjective& objective, const HmOptions& options, Run& run) {
  End end{.p = objective.start()};
  const auto size = end.p.size();
  struct Pair {
    Vector s, y;
    double rho;
  };
  std::deque<Pair> pairs;
  // The state before step i is the iterate, whose loss and gradient are evaluated anew, and the
  // pairs.
  const auto put = [&](la::ByteWriter& out) {
    out.put(static_cast<std::uint64_t>(pairs.size()));
    for (const Pair& pair : pairs) {
      out.put_array(pair.s);
      out.put_array(pair.y);
      out.put(pair.rho);
    }
  };
  Trial now{.p = end.p, .gradient = Vector(size)};
  const Size begin = run.restore(now.p, [&](la::ByteReader& in) {
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t k = 0; k < count; ++k) {
      Pair pair{in.get_array<double>(), in.get_array<double>(), 0};
      pair.rho = in.get<double>();
      pairs.push_back(std::move(pair));
    }
  });
  now.loss = objective(now.p, now.gradient);
  if (!std::isfinite(now.loss)) {
    end.status = failure(now.loss);
    return end;
  }
  for (Size i = begin;; ++i) {
    end.p = now.p;
    end.iterations = i;
    end.loss = now.loss;
    if (i == options.iterations) run.try_save(i, end.p, put);
    if (i == options.iterations || !run.step(i, now.loss, end.p, put)) return end;
    Vector direction = now.gradient, coefficient(pairs.size());
    for (std::size_t j = pairs.size(); j-- > 0;) {
      coefficient[j] = pairs[j].rho * dot(pairs[j].s, direction);
      cblas_daxpy(static_cast<int>(size), -coefficient[j], pairs[j].y.data(), 1, direction.data(),
                  1);
    }
    double first = 1;
    if (pairs.empty()) {
      first = std::min(1.0, options.learning_rate / std::sqrt(dot(direction, direction)));
    } else {
      const Pair& last = pairs.back();
      cblas_dscal(static_cast<int>(size), 1 / (last.rho * dot(last.y, last.y)), direction.data(),
                  1);
    }
    for (std::size_t j = 0; j < pairs.size(); ++j)
      cblas_daxpy(static_cast<int>(size),
                  coefficient[j] - pairs[j].rho * dot(pairs[j].y, direction), pairs[j].s.data(), 1,
                  direction.data(), 1);
    for (double& v : direction) v = -v;
    now.slope = dot(now.gradient, direction);
    Trial before = now;
    const bool moved = now.slope < 0 && LineSearch(objective, direction)(now, first);
    if (!moved) {
      if (pairs.empty()) {  // not even along the gradient: rounding decides from here
        end.status = Status::stagnated;
        return end;
      }
      pairs.clear();
      continue;
    }
    Pair pair{now.p, now.gradient, 0};
    cblas_daxpy(static_cast<int>(size), -1, before.p.data(), 1, pair.s.data(), 1);
    cblas_daxpy(static_cast<int>(size), -1, before.gradient.data(), 1, pair.y.data(), 1);
    const double curvature = dot(pair.s, pair.y);
    if (curvature > 0) {
      pair.rho = 1 / curvature;
      pairs.push_back(std::move(pair));
      if (static_cast<int>(pairs.size()) > options.history) pairs.pop_front();
    }
  }
}

}  // namespace

HmSolution solve_gp_hm(const Problem& problem, const HmOptions& options) {
  HmObjective objective(problem, options);
  const bool saved = !options.checkpoint.path.empty() || options.checkpoint.store ||
                     !options.checkpoint.state.empty();
  la::CheckpointFile file(options.checkpoint, {"gp-hm", 1, saved ? objective.identity() : ""},
                          "gp_pde::solve_gp_hm");
  const la::OneBlasThread one;
  HmSolution notes;
  Run run{objective, options, file, notes};
  const End end = options.optimiser == HmOptimiser::adam ? adam(objective, options, run)
                                                         : lbfgs(objective, options, run);
  const double learning = run.seconds();
  const auto begin = Clock::now();
  HmSolution s = objective.solution(end.p);
  s.iteration = end.iterations;
  s.loss = end.loss;
  s.losses = std::move(run.losses);
  s.resumed_at = notes.resumed_at;
  s.warnings = std::move(notes.warnings);
  if (s.losses.empty() || s.losses.back().iteration != s.iteration)
    s.losses.push_back({s.iteration, s.loss});
  s.report.iterations = static_cast<int>(end.iterations);
  if (s.report.status == Status::max_iterations) s.report.status = end.status;
  if (end.status == Status::not_finite || end.status == Status::not_positive_definite)
    s.report.status = end.status;
  s.timings = {{"learning", learning}, {"residual", seconds_since(begin)}};
  return s;
}

}  // namespace halfulp::gp_pde
