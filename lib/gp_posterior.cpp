#include "halfulp/gp_posterior.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>

#include "detail/blas_threads.hpp"
#include "detail/linear_operator.hpp"
#include "detail/pde_problem.hpp"
#include "detail/posterior_prior.hpp"
#include "detail/posterior_spectrum.hpp"
#include "detail/require.hpp"
#include "halfulp/random.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde {

using namespace detail;
using halfulp::detail::Columns;
using halfulp::detail::DataGroup;
using halfulp::detail::OneBlasThread;
using halfulp::detail::Regression;
using halfulp::detail::RowCollector;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

template <class Value>
[[noreturn]] void refuse(std::string_view argument, const Value& value, std::string_view rule) {
  throw DomainError("gp_pde::infer", argument, value, rule);
}

double rms(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return values.empty() ? 0 : std::sqrt(sum / static_cast<double>(values.size()));
}

class Clock {
 public:
  explicit Clock(Timings& timings) : timings_(timings) {}
  void lap(const char* phase) {
    const auto now = std::chrono::steady_clock::now();
    timings_.emplace_back(phase, std::chrono::duration<double>(now - last_).count());
    last_ = now;
  }

 private:
  Timings& timings_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

struct Term {
  std::vector<int> orders;
  Expression coefficient;
};

/// Everything known, checked: the operator, the data, where they stand.
struct Setting {
  std::vector<PriorAxis> axes;
  std::vector<std::string> names;
  std::vector<Term> terms;
  bool constant = true;
  std::vector<std::vector<double>> grid;  ///< of the forcing
  std::vector<double> forcing;            ///< what L u equals there, C order
  double noise_factor = 1;  ///< |factor| of the forcing in the equation: its noise times this
  std::optional<Noise> forcing_noise;
  std::optional<Observations> observations;
  std::vector<std::array<Side, 2>> sides;
  int threads = 1;
  bool formula = false;  ///< the forcing is one
  [[nodiscard]] Size dimension() const { return std::ssize(axes); }
};

void check_noise(const char* name, const Noise& noise) {
  if (noise.learn ? !(noise.level >= 0 && std::isfinite(noise.level))
                  : !(noise.level > 0 && std::isfinite(noise.level)))
    refuse(std::string(name) + ".level", noise.level, noise.learn ? ">= 0" : "> 0");
}

double slack_of(const PriorAxis& axis) {
  return 4 * std::numeric_limits<double>::epsilon() *
         (std::fabs(axis.lower) + std::fabs(axis.lower + axis.length));
}

void check_observations(const Setting& s, const Observations& o) {
  const Size d = s.dimension();
  if (std::ssize(o.points) != d)
    throw ShapeError("gp_pde::infer", "observations.points.size()", std::ssize(o.points), d);
  const Size n = std::ssize(o.values);
  if (n < 1) refuse("observations.values.size()", std::to_string(n), ">= 1");
  for (Size k = 0; k < d; ++k) {
    if (std::ssize(o.points[k]) != n)
      throw ShapeError("gp_pde::infer", "observations.points." + s.names[k] + ".size()",
                       std::to_string(o.points[k].size()), std::to_string(n));
    const double slack = slack_of(s.axes[k]);
    for (Size i = 0; i < n; ++i)
      if (!(o.points[k][i] >= s.axes[k].lower - slack &&
            o.points[k][i] <= s.axes[k].lower + s.axes[k].length + slack))
        refuse("observations.points." + s.names[k] + "[" + std::to_string(i) + "]", o.points[k][i],
               "in the domain");
  }
  for (Size i = 0; i < n; ++i)
    if (!std::isfinite(o.values[i]))
      refuse("observations.values[" + std::to_string(i) + "]", o.values[i], "finite");
  if (o.deviations.empty()) {
    check_noise("observations.noise", o.noise);
    return;
  }
  if (std::ssize(o.deviations) != n)
    throw ShapeError("gp_pde::infer", "observations.deviations.size()", std::ssize(o.deviations),
                     n);
  for (Size i = 0; i < n; ++i)
    if (!(o.deviations[i] > 0 && std::isfinite(o.deviations[i])))
      refuse("observations.deviations[" + std::to_string(i) + "]", o.deviations[i], "> 0");
}

Setting check(const Problem& problem, const Measurements& measurements,
              const InferenceOptions& options) {
  const Size d = std::ssize(problem.axes);
  if (d < 1 || d > 2)
    refuse("problem.axes.size()", std::to_string(d), "1 or 2: three are not solved with noise yet");
  if (std::ssize(problem.sides) != d)
    throw ShapeError("gp_pde::infer", "problem.sides.size()", std::ssize(problem.sides), d);
  if (!measurements.forcing && !measurements.observations)
    refuse("measurements", "empty", "a noisy forcing or observations; without noise use Solver");
  Setting s;
  s.threads = thread_count(options.threads);
  for (Size k = 0; k < d; ++k) {
    const Axis& axis = problem.axes[k];
    const double length = (axis.upper - axis.lower).hi;
    if (!(length > 0) || !std::isfinite(length) || !std::isfinite(axis.lower.hi))
      refuse("problem.axes." + axis.name, length, "finite with lower < upper");
    const bool periodic = problem.sides[k][0].kind == SideKind::periodic;
    if (periodic != (problem.sides[k][1].kind == SideKind::periodic))
      refuse("problem.sides." + axis.name, "one periodic side", "periodic on both sides");
    s.axes.push_back({axis.lower.hi, length, periodic});
    s.names.push_back(axis.name);
  }
  s.sides = problem.sides;
  for (Size k = 0; k < d; ++k)
    for (Side& side : s.sides[k]) {
      if (side.kind == SideKind::derivative || side.kind == SideKind::linear || !side.also.empty())
        refuse("problem.sides." + s.names[k],
               "several conditions on a side, or one of another kind",
               "dirichlet, neumann or robin");
      if (side.kind == SideKind::derivative || side.kind == SideKind::linear || !side.also.empty())
        refuse("problem.sides." + s.names[k], "several conditions, or one on a higher derivative",
               "one condition on u and du/dn: others are not solved with noise yet");
      if (side.kind == SideKind::dirichlet) side.a = 1, side.b = 0;
      if (side.kind == SideKind::neumann) side.a = 0, side.b = 1;
      if (has_data(side) &&
          !(std::isfinite(side.a) && std::isfinite(side.b) && (side.a != 0 || side.b != 0)))
        refuse("problem.sides." + s.names[k], side.a, "with a and b finite and not both zero");
    }
  const Equation equation = extract_equation(problem);
  if (!equation.linear)
    refuse("problem.equation", "a nonlinear equation",
           "linear: others are not solved with noise yet");
  for (std::size_t i = 0; i < equation.orders.size(); ++i) {
    int total = 0;
    for (const int order : equation.orders[i]) total += order;
    if (total > 2)
      refuse("problem.equation", "a derivative of order " + std::to_string(total),
             "of order two at most");
    s.terms.push_back({equation.orders[i], equation.partial[i]});
    s.constant = s.constant && equation.partial[i].is_constant();
  }
  s.forcing_noise = measurements.forcing;
  if (s.forcing_noise) check_noise("measurements.forcing", *s.forcing_noise);
  if (s.forcing_noise && equation.forcing_factor == 0)
    refuse("measurements.forcing", "given", "left out: the equation has no forcing");
  s.noise_factor = equation.forcing_factor == 0 ? 1 : std::fabs(equation.forcing_factor);
  if (measurements.observations) {
    check_observations(s, *measurements.observations);
    s.observations = measurements.observations;
  }
  // What L u is, on the forcing's grid. Nodes for a formula are chosen when the bands are known.
  s.formula = !std::holds_alternative<GridSamples>(problem.forcing) || equation.forcing_factor == 0;
  if (!s.formula) {
    const auto& samples = std::get<GridSamples>(problem.forcing);
    if (std::ssize(samples.axes) != d)
      throw ShapeError("gp_pde::infer", "forcing.axes.size()", std::ssize(samples.axes), d);
    Size total = 1;
    for (Size k = 0; k < d; ++k) {
      const auto& p = samples.axes[k];
      total *= std::ssize(p);
      if (p.size() < 4)
        refuse("forcing.axes." + s.names[k] + ".size()", std::to_string(p.size()), ">= 4");
      const double slack = slack_of(s.axes[k]);
      for (std::size_t i = 0; i < p.size(); ++i)
        if (!(p[i] >= s.axes[k].lower - slack &&
              p[i] <= s.axes[k].lower + s.axes[k].length + slack) ||
            (i > 0 && !(p[i] > p[i - 1])))
          refuse("forcing.axes." + s.names[k] + "[" + std::to_string(i) + "]", p[i],
                 "increasing and in the domain");
    }
    if (std::ssize(samples.values) != total)
      throw ShapeError("gp_pde::infer", "forcing.values.size()", std::ssize(samples.values), total);
    halfulp::detail::require_finite("gp_pde::infer", "forcing.values", samples.values);
    s.grid = samples.axes;
    s.forcing.resize(total);
    Program<double>(equation.source, s.names).on_grid(s.grid, s.forcing, s.threads);
    for (Size i = 0; i < total; ++i) s.forcing[i] += equation.forcing_factor * samples.values[i];
  }
  return s;
}

std::vector<double> nodes_of(const Problem& problem, Size k, Nodes kind, Size n) {
  std::vector<double> out;
  for (const dd& x : make_nodes(kind, problem.axes[k].lower, problem.axes[k].upper, n))
    out.push_back(x.hi);
  return out;
}

/// The right-hand side of L u where the forcing is a formula.
Expression right_side(const Problem& problem) {
  const Equation equation = extract_equation(problem);
  if (equation.forcing_factor == 0) return equation.source;
  return equation.source +
         Expression(equation.forcing_factor) * std::get<Expression>(problem.forcing);
}

/// Rows of a linear functional at scattered points: sum over terms of factor_i times the product
/// of the axes' features.
void add_term(Columns& rows, const FeatureSet& set, const std::vector<std::vector<double>>& points,
              std::span<const int> orders, std::span<const double> factor) {
  const Size n = rows.rows;
  std::vector<Columns> value;
  for (std::size_t k = 0; k < set.axes.size(); ++k)
    value.push_back(set.axes[k].at(points[k], orders[k]));
  for (Size f = 0; f < set.size(); ++f) {
    double* to = rows.column(f);
    const double* first = value[0].column(set.feature[0][f]);
    if (set.axes.size() == 1) {
      for (Size i = 0; i < n; ++i) to[i] += factor[i] * first[i];
    } else {
      const double* second = value[1].column(set.feature[1][f]);
      for (Size i = 0; i < n; ++i) to[i] += factor[i] * first[i] * second[i];
    }
  }
}

enum class Kind { forcing, observations, sides };
constexpr std::array<const char*, 3> kind_names = {"forcing", "observations", "sides"};

struct Data {
  Kind kind;
  DataGroup group;
  double log_noise = 0;
  bool learn = false;
  double least = 0;  ///< of log_noise, where it is learnt
};

/// Scales that turn "exact" into a number: how small a noise no other data can tell from none.
struct Exactness {
  double tight = 1e-6;   ///< relative
  double size = 1;       ///< of u
  double frequency = 1;  ///< that dominates
};

class Assembly {
 public:
  Assembly(const Problem& problem, const InferenceOptions& options, Setting setting)
      : problem_(problem), options_(options), setting_(std::move(setting)) {}

  [[nodiscard]] const Setting& setting() const { return setting_; }

  /// A formula's nodes, from the features that they have to determine.
  void choose_nodes(const FeatureSet& set) {
    Setting& s = setting_;
    if (!s.formula) return;
    if (!options_.nodes_per_axis.empty() && !s.grid.empty()) return;
    const Size d = s.dimension();
    s.grid.clear();
    Size total = 1;
    for (Size k = 0; k < d; ++k) {
      Size n = 0;
      if (!options_.nodes_per_axis.empty()) {
        n = options_.nodes_per_axis[k];
      } else {
        // Enough for the highest frequency, and for as many functions as there are.
        const AxisFeatures& axis = set.axes[k];
        const double top = axis.step * static_cast<double>(axis.index.back());
        n = std::max<Size>(static_cast<Size>(0.55 * top * s.axes[k].length), axis.size() / 2) + 24;
      }
      s.grid.push_back(nodes_of(problem_, k, options_.nodes, n));
      total *= std::ssize(s.grid[k]);
    }
    s.forcing.resize(total);
    Program<double>(right_side(problem_), s.names).on_grid(s.grid, s.forcing, s.threads);
    for (Size i = 0; i < total; ++i)
      if (!std::isfinite(s.forcing[i])) refuse("forcing", s.forcing[i], "finite in the domain");
  }

  [[nodiscard]] std::vector<Data> assemble(const FeatureSet& set, const Exactness& exact) const {
    std::vector<Data> all;
    all.push_back(forcing(set, exact));
    if (setting_.observations) all.push_back(observations(set));
    if (auto conditions = sides(set, exact)) all.push_back(std::move(*conditions));
    return all;
  }

 private:
  void require_memory(double bytes, const char* what) const {
    if (!(bytes <= static_cast<double>(options_.memory_limit)))
      refuse(what, std::to_string(static_cast<long long>(bytes / (1 << 20))) + " MiB",
             "within options.memory_limit");
  }

  [[nodiscard]] Data forcing(const FeatureSet& set, const Exactness& exact) const {
    const Setting& s = setting_;
    const Size d = s.dimension(), p = set.size();
    Data out{Kind::forcing, {}, 0, false, 0};
    if (d == 2 && s.constant) {
      out.group = tensor_rows(set);
    } else {
      RowCollector collector(p);
      const Size n = std::ssize(s.forcing);
      const Size block = std::max<Size>(64, p);
      std::vector<Expression> formulas;
      for (const Term& term : s.terms) formulas.push_back(term.coefficient);
      const Program<double> coefficients(formulas, s.names);
      for (Size first = 0; first < n; first += block) {
        const Size m = std::min(block, n - first);
        std::vector<std::vector<double>> points(d, std::vector<double>(m));
        std::vector<std::vector<double>> factor(formulas.size(), std::vector<double>(m));
        std::vector<double> at(d), value(formulas.size());
        Columns rows(m, p + 1);
        for (Size i = 0; i < m; ++i) {
          Size rest = first + i;
          for (Size k = d; k-- > 0;) {
            at[k] = points[k][i] = s.grid[k][rest % std::ssize(s.grid[k])];
            rest /= std::ssize(s.grid[k]);
          }
          coefficients(at, value);
          for (std::size_t t = 0; t < value.size(); ++t) {
            if (!std::isfinite(value[t]))
              refuse("coefficient in problem.equation", value[t], "finite in the domain");
            factor[t][i] = value[t];
          }
          rows(i, p) = s.forcing[first + i];
        }
        for (std::size_t t = 0; t < s.terms.size(); ++t)
          add_term(rows, set, points, s.terms[t].orders, factor[t]);
        collector.add(rows);
      }
      out.group = collector.finish();
    }
    if (s.forcing_noise) {
      out.learn = s.forcing_noise->learn;
      out.log_noise = std::log(std::max(s.forcing_noise->level * s.noise_factor, 1e-300));
      out.least = out.log_noise - 30;
    } else {
      // Exact: what the features cannot do is told by a noise learnt, which ends at `tight` where
      // they can. Where it is zero there is no size to learn one from.
      const double scale = rms(s.forcing);
      out.learn = scale > 0;
      out.least = std::log(out.learn ? exact.tight * scale
                                     : (d == 1 ? 1e-5 : 1e-3) * exact.size * exact.frequency *
                                           exact.frequency);
      out.log_noise = out.learn ? std::log(1e-2 * scale) : out.least;
    }
    return out;
  }

  // Constant coefficients on a tensor grid: the axes' features are factored apart, Phi_k = Q_k R_k,
  // and the data enter as Q_1^T F Q_2.
  [[nodiscard]] DataGroup tensor_rows(const FeatureSet& set) const {
    const Setting& s = setting_;
    const Size p = set.size();
    std::array<Columns, 2> q;
    for (Size k = 0; k < 2; ++k) {
      const Size n = std::ssize(s.grid[k]);
      // Used axis features only, in all orders: derivatives stay in their span.
      q[k] = set.axes[k].at(s.grid[k], 0);
      const Size m = q[k].cols;
      if (n > m) {
        const OneBlasThread one;
        std::vector<double> tau(m);
        LAPACKE_dgeqrf(LAPACK_COL_MAJOR, static_cast<lapack_int>(n), static_cast<lapack_int>(m),
                       q[k].values.data(), static_cast<lapack_int>(n), tau.data());
        LAPACKE_dorgqr(LAPACK_COL_MAJOR, static_cast<lapack_int>(n), static_cast<lapack_int>(m),
                       static_cast<lapack_int>(m), q[k].values.data(), static_cast<lapack_int>(n),
                       tau.data());
      } else {
        q[k] = Columns(n, n);
        for (Size i = 0; i < n; ++i) q[k](i, i) = 1;
      }
    }
    const Size r0 = q[0].cols, r1 = q[1].cols;
    require_memory(8.0 * static_cast<double>(r0 * r1) * static_cast<double>(p + 1) * 2.2,
                   "rows of the forcing");
    const auto product = [](const Columns& a, const Columns& b) {  // a^T b
      Columns c(a.cols, b.cols);
      const OneBlasThread one;
      cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, static_cast<int>(a.cols),
                  static_cast<int>(b.cols), static_cast<int>(a.rows), 1.0, a.values.data(),
                  static_cast<int>(a.rows), b.values.data(), static_cast<int>(b.rows), 0.0,
                  c.values.data(), static_cast<int>(a.cols));
      return c;
    };
    Columns rows(r0 * r1, p + 1);
    for (const Term& term : s.terms) {
      const double coefficient = term.coefficient.constant().hi;
      const Columns a = product(q[0], set.axes[0].at(s.grid[0], term.orders[0]));
      const Columns b = product(q[1], set.axes[1].at(s.grid[1], term.orders[1]));
      for (Size f = 0; f < p; ++f) {
        double* to = rows.column(f);
        const double* first = a.column(set.feature[0][f]);
        const double* second = b.column(set.feature[1][f]);
        for (Size j = 0; j < r1; ++j)
          for (Size i = 0; i < r0; ++i) to[i + j * r0] += coefficient * first[i] * second[j];
      }
    }
    // F^T is s.forcing by columns.
    const Size n0 = std::ssize(s.grid[0]), n1 = std::ssize(s.grid[1]);
    Columns data(n0, n1);
    for (Size i = 0; i < n0; ++i)
      for (Size j = 0; j < n1; ++j) data(i, j) = s.forcing[i * n1 + j];
    const Columns half = product(q[0], data);  // r0 x n1
    Columns half_transposed(n1, r0);
    for (Size i = 0; i < r0; ++i)
      for (Size j = 0; j < n1; ++j) half_transposed(j, i) = half(i, j);
    const Columns inner = product(q[1], half_transposed);  // r1 x r0
    for (Size j = 0; j < r1; ++j)
      for (Size i = 0; i < r0; ++i) rows(i + j * r0, p) = inner(j, i);
    // What lies outside, from the residual: a difference of squares would lose it.
    double rest = 0;
    std::vector<double> line(n1);
    for (Size i = 0; i < n0; ++i) {
      for (Size j = 0; j < n1; ++j) {
        double v = data(i, j);
        line[j] = v;
      }
      for (Size a = 0; a < r0; ++a) {
        const double qa = q[0](i, a);
        for (Size b = 0; b < r1; ++b) {
          const double c = qa * inner(b, a);
          const double* qb = q[1].column(b);
          for (Size j = 0; j < n1; ++j) line[j] -= c * qb[j];
        }
      }
      for (const double v : line) rest += v * v;
    }
    RowCollector collector(p);
    collector.add(rows);
    DataGroup group = collector.finish();
    group.rest += rest;
    group.count = n0 * n1;
    return group;
  }

  [[nodiscard]] Data observations(const FeatureSet& set) const {
    const Observations& o = *setting_.observations;
    const Size n = std::ssize(o.values), p = set.size();
    RowCollector collector(p);
    const std::vector<int> zero(setting_.dimension(), 0);
    const Size block = std::max<Size>(64, p);
    for (Size first = 0; first < n; first += block) {
      const Size m = std::min(block, n - first);
      std::vector<std::vector<double>> points;
      for (const auto& along : o.points)
        points.emplace_back(along.begin() + first, along.begin() + first + m);
      Columns rows(m, p + 1);
      std::vector<double> factor(m, 1.0);
      for (Size i = 0; i < m; ++i) {
        if (!o.deviations.empty()) factor[i] = 1 / o.deviations[first + i];
        rows(i, p) = o.values[first + i] * factor[i];
      }
      add_term(rows, set, points, zero, factor);
      collector.add(rows);
    }
    Data out{Kind::observations, collector.finish(), 0, false, 0};
    if (o.deviations.empty()) {
      out.learn = o.noise.learn;
      out.log_noise = std::log(std::max(o.noise.level, 1e-300));
      out.least = out.log_noise - 30;
    }
    return out;
  }

  [[nodiscard]] std::optional<Data> sides(const FeatureSet& set, const Exactness& exact) const {
    const Setting& s = setting_;
    const Size d = s.dimension(), p = set.size();
    RowCollector collector(p);
    bool any = false;
    for (Size k = 0; k < d; ++k)
      for (int e = 0; e < 2; ++e) {
        const Side& side = s.sides[k][e];
        if (!has_data(side)) continue;
        any = true;
        const double end = s.axes[k].lower + (e == 0 ? 0 : s.axes[k].length);
        std::vector<double> along{0.0};
        if (d == 2) {
          const AxisFeatures& other = set.axes[1 - k];
          const double top = other.step * static_cast<double>(other.index.back());
          const Size n = std::max<Size>(static_cast<Size>(0.55 * top * s.axes[1 - k].length),
                                        other.size() / 2) +
                         16;
          along = nodes_of(problem_, 1 - k, Nodes::gauss, n);
        }
        const Size n = std::ssize(along);
        std::vector<std::vector<double>> points(d, along);
        points[k].assign(n, end);
        const double noise = exact.tight * exact.size *
                             (std::fabs(side.a) +
                              std::fabs(side.b) * std::max(exact.frequency, 1 / s.axes[k].length));
        Columns rows(n, p + 1);
        const Expression g = side.g.substitute(s.names[k], Expression(end_of(k, e)));
        const Program<double> program(g, s.names);
        std::vector<double> at(d);
        for (Size i = 0; i < n; ++i) {
          for (Size j = 0; j < d; ++j) at[j] = points[j][i];
          const double value = program(at);
          if (!std::isfinite(value))
            refuse("problem.sides." + s.names[k] + ".g", value, "finite on its side");
          rows(i, p) = value / noise;
        }
        std::vector<int> orders(d, 0);
        if (side.a != 0)
          add_term(rows, set, points, orders, std::vector<double>(n, side.a / noise));
        orders[k] = 1;
        if (side.b != 0)
          add_term(rows, set, points, orders,
                   std::vector<double>(n, (e == 0 ? -1 : 1) * side.b / noise));
        collector.add(rows);
      }
    if (!any) return std::nullopt;
    return Data{Kind::sides, collector.finish(), 0, false, 0};
  }

  [[nodiscard]] dd end_of(Size k, int e) const {
    return e == 0 ? problem_.axes[k].lower : problem_.axes[k].upper;
  }

  const Problem& problem_;
  const InferenceOptions& options_;
  Setting setting_;
};

std::vector<DataGroup> groups_of(std::vector<Data>& data) {
  std::vector<DataGroup> groups;
  groups.reserve(data.size());
  for (Data& d : data) groups.push_back(std::move(d.group));
  return groups;
}

}  // namespace

struct Posterior::Impl {
  FeatureSet set;
  Regression fit;
  std::vector<double> root;  ///< sqrt(s_f)

  void check(const char* function, std::span<const std::vector<double>> axes,
             std::span<const int> orders) const {
    const Size d = std::ssize(set.axes);
    if (std::ssize(axes) != d) throw ShapeError(function, "axes.size()", std::ssize(axes), d);
    if (std::ssize(orders) != d) throw ShapeError(function, "orders.size()", std::ssize(orders), d);
    for (const int order : orders)
      if (order < 0 || order > 2) throw DomainError(function, "orders", order, "0, 1 or 2");
  }

  /// Fields of weights (p x fields), one after the other in C order. BLAS is given `at_once` of
  /// them at a time, with zeros behind the last: how it rounds one depends on how many there are.
  [[nodiscard]] std::vector<double> fields(const Columns& weights, Size at_once,
                                           std::span<const std::vector<double>> axes,
                                           std::span<const int> orders) const {
    const OneBlasThread one;
    const Size count = weights.cols, p = set.size();
    const Columns first = set.axes[0].at(axes[0], orders[0]);
    if (set.axes.size() == 1) {
      const Size padded = (count + at_once - 1) / at_once * at_once;
      Columns w(p, padded), out(first.rows, padded);
      for (Size k = 0; k < count; ++k)
        for (Size f = 0; f < p; ++f) w(f, k) = weights(f, k) * root[f];
      for (Size k = 0; first.rows > 0 && k < count; k += at_once)
        cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(first.rows),
                    static_cast<int>(at_once), static_cast<int>(p), 1.0, first.values.data(),
                    static_cast<int>(first.rows), w.column(k), static_cast<int>(p), 0.0,
                    out.column(k), static_cast<int>(first.rows));
      out.values.resize(static_cast<std::size_t>(first.rows * count));
      return out.values;
    }
    const Columns second = set.axes[1].at(axes[1], orders[1]);
    const Size n0 = first.rows, n1 = second.rows, m0 = first.cols, m1 = second.cols;
    std::vector<double> out(n0 * n1 * count);
    if (n0 == 0 || n1 == 0) return out;
    for (Size k = 0; k < count; ++k) {
      Columns c(m1, m0);
      for (Size f = 0; f < p; ++f)
        c(set.feature[1][f], set.feature[0][f]) = weights(f, k) * root[f];
      Columns half(n1, m0);
      cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(n1),
                  static_cast<int>(m0), static_cast<int>(m1), 1.0, second.values.data(),
                  static_cast<int>(n1), c.values.data(), static_cast<int>(m1), 0.0,
                  half.values.data(), static_cast<int>(n1));
      // n1 x n0 by columns is n0 x n1 in C order.
      cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, static_cast<int>(n1),
                  static_cast<int>(n0), static_cast<int>(m0), 1.0, half.values.data(),
                  static_cast<int>(n1), first.values.data(), static_cast<int>(n0), 0.0,
                  out.data() + k * n0 * n1, static_cast<int>(n1));
    }
    return out;
  }
};

std::vector<double> Posterior::mean(std::span<const std::vector<double>> axes,
                                    std::span<const int> orders) const {
  impl->check("gp_pde::Posterior::mean", axes, orders);
  Columns weights(impl->set.size(), 1);
  weights.values = impl->fit.weights;
  return impl->fields(weights, 1, axes, orders);
}

std::vector<double> Posterior::deviation(std::span<const std::vector<double>> axes,
                                         std::span<const int> orders) const {
  impl->check("gp_pde::Posterior::deviation", axes, orders);
  const FeatureSet& set = impl->set;
  const Size p = set.size(), d = std::ssize(set.axes);
  std::vector<Columns> value;
  Size total = 1;
  for (Size k = 0; k < d; ++k) {
    value.push_back(set.axes[k].at(axes[k], orders[k]));
    total *= value[k].rows;
  }
  const Size inner = d == 2 ? value[1].rows : 1;
  std::vector<double> out(total);
  const OneBlasThread one;
  constexpr Size block = 256;
  for (Size first = 0; first < total; first += block) {
    const Size m = std::min(block, total - first);
    Columns x(m, p);
    for (Size f = 0; f < p; ++f) {
      const double* a = value[0].column(set.feature[0][f]);
      const double* b = d == 2 ? value[1].column(set.feature[1][f]) : nullptr;
      double* to = x.column(f);
      for (Size i = 0; i < m; ++i)
        to[i] = impl->root[f] * a[(first + i) / inner] * (b ? b[(first + i) % inner] : 1.0);
    }
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit,
                static_cast<int>(m), static_cast<int>(p), 1.0, impl->fit.r.values.data(),
                static_cast<int>(p), x.values.data(), static_cast<int>(m));
    for (Size f = 0; f < p; ++f)
      for (Size i = 0; i < m; ++i) out[first + i] += x(i, f) * x(i, f);
  }
  for (double& v : out) v = std::sqrt(v);
  return out;
}

std::vector<double> Posterior::samples(std::span<const std::vector<double>> axes,
                                       std::span<const int> orders, std::ptrdiff_t count,
                                       std::uint64_t seed) const {
  constexpr const char* function = "gp_pde::Posterior::samples";
  impl->check(function, axes, orders);
  halfulp::detail::require(count >= 0, function, "count", count, ">= 0");
  const Size p = impl->set.size();
  constexpr Size at_once = 32;
  Columns weights(p, (count + at_once - 1) / at_once * at_once);
  for (Size k = 0; k < count; ++k)
    RandomStream(seed, static_cast<std::uint32_t>(k))
        .fill_normal(std::span<double>(weights.column(k), static_cast<std::size_t>(p)), 0, 1);
  {
    const OneBlasThread one;
    for (Size k = 0; k < count; k += at_once)
      cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit,
                  static_cast<int>(p), static_cast<int>(at_once), 1.0, impl->fit.r.values.data(),
                  static_cast<int>(p), weights.column(k), static_cast<int>(p));
  }
  weights.cols = count;
  weights.values.resize(static_cast<std::size_t>(p * count));
  for (Size k = 0; k < count; ++k)
    for (Size f = 0; f < p; ++f) weights(f, k) += impl->fit.weights[f];
  return impl->fields(weights, at_once, axes, orders);
}

namespace {

/// Where the components and noises are in the optimiser's vector.
class Parameters {
 public:
  Parameters(std::span<const PriorAxis> axes, const std::vector<Component>& prior,
             const std::vector<Data>& data, bool variances, bool shapes, KernelType kernel)
      : start_(prior) {
    double largest = 0;
    for (const Component& c : prior) largest = std::max(largest, c.variance);
    for (std::size_t c = 0; c < prior.size(); ++c) {
      if (variances)
        add(std::log(std::max(prior[c].variance, 1e-12 * largest)), std::log(largest) - 46,
            std::log(largest) + 46, Role::variance, c, 0);
      for (std::size_t k = 0; k < axes.size() && shapes; ++k) {
        const double bin = 2 * std::numbers::pi / axes[k].length;
        const double width = std::log(prior[c].width[k]);
        add(width, std::max(std::log(smallest_width * bin), width - 0.7), width + 0.7, Role::width,
            c, k);
        if (prior[c].centre[k] > 0 && kernel != KernelType::matern)
          add(prior[c].centre[k] / bin,
              std::max(0.0, (prior[c].centre[k] - 1.5 * prior[c].width[k]) / bin),
              (prior[c].centre[k] + 1.5 * prior[c].width[k]) / bin, Role::centre, c, k);
      }
    }
    for (std::size_t g = 0; g < data.size(); ++g)
      if (data[g].learn)
        add(data[g].log_noise, data[g].least, std::max(data[g].log_noise, data[g].least) + 40,
            Role::noise, g, 0);
    for (const PriorAxis& axis : axes) bin_.push_back(2 * std::numbers::pi / axis.length);
  }

  static constexpr double smallest_width =
      0.75;  ///< in bins: a band no narrower than the axis tells

  [[nodiscard]] bool empty() const { return x.empty(); }

  void unpack(std::span<const double> at, std::vector<Component>& prior,
              std::vector<double>& log_noise) const {
    prior = start_;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& e = entries_[i];
      switch (e.role) {
        case Role::variance:
          prior[e.item].variance = std::exp(at[i]);
          break;
        case Role::width:
          prior[e.item].width[e.axis] = std::exp(at[i]);
          break;
        case Role::centre:
          prior[e.item].centre[e.axis] = at[i] * bin_[e.axis];
          break;
        case Role::noise:
          log_noise[e.item] = at[i];
          break;
      }
    }
  }

  void gradient(std::span<const double> variance, const std::vector<std::vector<double>>& centre,
                const std::vector<std::vector<double>>& width, std::span<const double> noise,
                std::span<double> out) const {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& e = entries_[i];
      switch (e.role) {
        case Role::variance:
          out[i] = variance[e.item];
          break;
        case Role::width:
          out[i] = width[e.item][e.axis];
          break;
        case Role::centre:
          out[i] = centre[e.item][e.axis] * bin_[e.axis];
          break;
        case Role::noise:
          out[i] = noise[e.item];
          break;
      }
    }
  }

  std::vector<double> x, lower, upper;

 private:
  enum class Role { variance, width, centre, noise };
  struct Entry {
    Role role;
    std::size_t item, axis;
  };
  void add(double value, double least, double most, Role role, std::size_t item, std::size_t axis) {
    entries_.push_back({role, item, axis});
    x.push_back(value);
    lower.push_back(least);
    upper.push_back(most);
  }
  std::vector<Component> start_;
  std::vector<Entry> entries_;
  std::vector<double> bin_;
};

void check_options(const Setting& s, const InferenceOptions& options) {
  const Size d = s.dimension();
  if (options.kernel == KernelType::periodic)
    for (const PriorAxis& axis : s.axes)
      if (!axis.periodic) refuse("options.kernel", "periodic", "with periodic sides on every axis");
  if (!options.bands.empty() && std::ssize(options.bands) != d)
    throw ShapeError("gp_pde::infer", "options.bands.size()", std::ssize(options.bands), d);
  for (const auto& bands : options.bands)
    for (const Band& b : bands)
      if (!(b.lower >= 0 && b.lower <= b.upper && std::isfinite(b.upper)))
        refuse("options.bands", b.lower, "finite with 0 <= lower <= upper");
  if (!options.nodes_per_axis.empty() && std::ssize(options.nodes_per_axis) != d)
    throw ShapeError("gp_pde::infer", "options.nodes_per_axis.size()",
                     std::ssize(options.nodes_per_axis), d);
  for (const Size n : options.nodes_per_axis)
    if (n < 4) refuse("options.nodes_per_axis", std::to_string(n), ">= 4");
  for (const Component& c : options.prior) {
    if (std::ssize(c.centre) != d || std::ssize(c.width) != d)
      throw ShapeError("gp_pde::infer", "options.prior.centre.size()", std::ssize(c.centre), d);
    if (!(c.variance > 0 && std::isfinite(c.variance)))
      refuse("options.prior.variance", c.variance, "> 0");
    for (Size k = 0; k < d; ++k) {
      if (!(c.centre[k] >= 0 && std::isfinite(c.centre[k])))
        refuse("options.prior.centre", c.centre[k], ">= 0");
      if (!(c.width[k] > 0 && std::isfinite(c.width[k])))
        refuse("options.prior.width", c.width[k], "> 0");
    }
  }
  if (options.max_features < 8)
    refuse("options.max_features", std::to_string(options.max_features), ">= 8");
  if (options.max_iterations < 0)
    refuse("options.max_iterations", std::to_string(options.max_iterations), ">= 0");
}

/// Bytes and count of what a feature set costs; refused before anything is allocated.
void check_size(const FeatureSet& set, const InferenceOptions& options) {
  const Size p = set.size();
  const double bytes = 2 * halfulp::detail::regression_bytes(3 * p, p);
  const std::string need = std::to_string(p) + " Fourier features, which need " +
                           number_text(std::ceil(bytes / (1 << 20))) + " MiB";
  if (p > options.max_features)
    refuse("features of the prior", need,
           "at most options.max_features = " + std::to_string(options.max_features));
  if (!(bytes <= static_cast<double>(options.memory_limit)))
    refuse("features of the prior", need, "within options.memory_limit");
}

/// How exact "exact" has to be, from the noise of the other data; the cutoff of the features.
double relative_noise(const Setting& s, double start_forcing, double& count) {
  double least = infinity;
  count = 0;
  if (s.forcing_noise) {
    const double scale = rms(s.forcing);
    if (scale > 0) least = std::min(least, start_forcing / scale);
    count += static_cast<double>(s.forcing.size());
  }
  if (s.observations) {
    const Observations& o = *s.observations;
    const double scale = rms(o.values);
    double level = o.noise.level;
    if (!o.deviations.empty()) level = *std::min_element(o.deviations.begin(), o.deviations.end());
    if (o.deviations.empty() && o.noise.learn && !(level > 0)) level = 0.01 * scale;
    if (scale > 0) least = std::min(least, level / scale);
    count += static_cast<double>(o.values.size());
  }
  return std::isfinite(least) ? least : 1e-2;
}

struct Start {
  std::vector<Component> prior;
  Exactness exact;
  double cutoff = 1e-12;
  double forcing_noise = 0;
  StartSpectrum spectrum;
};

Start start_of(const Problem& problem, const Setting& s, const InferenceOptions& options) {
  Start start;
  SpectrumInput input;
  input.axes = s.axes;
  input.names = s.names;
  input.kernel = options.kernel;
  for (const Term& term : s.terms) input.terms.emplace_back(term.orders, term.coefficient);
  if (s.formula)
    input.formula = right_side(problem);
  else
    input.grid = s.grid, input.values = s.forcing;
  if (s.forcing_noise) {
    input.noisy = true;
    input.noise = s.forcing_noise->level * s.noise_factor;
  }
  if (s.observations) {
    input.points = s.observations->points;
    input.observed = s.observations->values;
  }
  input.sides = s.sides;
  input.bands = options.bands;
  start.spectrum = start_spectrum(input);
  start.forcing_noise = start.spectrum.noise;
  start.prior = options.prior.empty() ? start.spectrum.prior : options.prior;

  double variance = 0, frequency = 0;
  for (const Component& c : start.prior) {
    double square = 0;
    for (const double mu : c.centre) square += mu * mu;
    variance += c.variance;
    frequency += c.variance * std::sqrt(square);
  }
  start.exact.size = options.prior.empty() ? start.spectrum.size : std::sqrt(variance);
  double shortest = s.axes[0].length;
  for (const PriorAxis& axis : s.axes) shortest = std::min(shortest, axis.length);
  start.exact.frequency = std::max(variance > 0 ? frequency / variance : 0.0, 1 / shortest);
  double count = 0;
  const double level = relative_noise(s,
                                      s.forcing_noise && s.forcing_noise->level > 0
                                          ? s.forcing_noise->level * s.noise_factor
                                          : start.forcing_noise,
                                      count);
  const double wanted = 0.01 * level / std::sqrt(std::max(count, 1.0));
  start.exact.tight = std::clamp(wanted, 1e-9, 1e-6);
  start.cutoff = std::clamp(9 * wanted * wanted, 1e-20, s.dimension() == 1 ? 1e-12 : 1e-9);
  return start;
}

void set_start_noise(std::vector<Data>& data, const Setting& s, const Start& start) {
  for (Data& d : data) {
    if (d.kind == Kind::forcing && s.forcing_noise && s.forcing_noise->learn &&
        !(s.forcing_noise->level > 0)) {
      const double level = std::max(start.forcing_noise, 1e-9 * rms(s.forcing));
      d.log_noise = std::log(std::max(level, 1e-300));
      d.least = std::log(std::max(1e-10 * rms(s.forcing), 1e-300));
    }
    if (d.kind == Kind::observations && d.learn && !(s.observations->noise.level > 0)) {
      const double scale = rms(s.observations->values);
      d.log_noise = std::log(std::max(0.05 * scale, 1e-300));
      d.least = std::log(std::max(1e-10 * scale, 1e-300));
    }
  }
}

}  // namespace

Evidence evidence(const Problem& problem, const Measurements& measurements,
                  const std::vector<Component>& prior, const InferenceOptions& options) {
  InferenceOptions own = options;
  own.prior = prior;
  const Setting setting = check(problem, measurements, own);
  if (prior.empty()) refuse("prior", "empty", "one component at least");
  check_options(setting, own);
  const Start start = start_of(problem, setting, own);
  const FeatureSet set = features_of(setting.axes, prior, own.kernel, start.cutoff);
  check_size(set, own);
  Assembly assembly(problem, own, setting);
  assembly.choose_nodes(set);
  std::vector<Data> data = assembly.assemble(set, start.exact);
  set_start_noise(data, setting, start);
  std::vector<double> log_noise;
  Evidence out;
  for (const Data& d : data) {
    log_noise.push_back(d.log_noise);
    out.names.emplace_back(kind_names[static_cast<std::size_t>(d.kind)]);
  }
  const std::vector<DataGroup> groups = groups_of(data);
  const FeatureVariances variances(set, prior, own.kernel);
  const Regression fit =
      halfulp::detail::regress(groups, variances.log_variance(), log_noise, true);
  out.value = fit.log_evidence;
  variances.slopes(set, fit.slope_weights, out.variance, out.centre, out.width);
  out.noise = fit.slope_noise;
  return out;
}

Posterior infer(const Problem& problem, const Measurements& measurements,
                const InferenceOptions& options) {
  const auto progress = [&](double fraction, const char* phase) {
    if (options.progress && !options.progress(fraction, phase)) throw Cancelled("gp_pde::infer");
  };
  Posterior result;
  Clock clock(result.timings);
  const Setting setting = check(problem, measurements, options);
  check_options(setting, options);
  progress(0.05, "inferring bands");
  Start start = start_of(problem, setting, options);
  clock.lap("spectrum");

  Assembly assembly(problem, options, setting);
  std::vector<Component> prior = start.prior, pruned;
  const bool learn_prior = options.prior.empty();
  // That L u is exactly zero would be explained best by u = 0: such an equation is a condition on
  // u, not data, and the density of the data is that given it.
  const bool homogeneous =
      !setting.forcing_noise &&
      (setting.formula ? right_side(problem).is_zero() : !(rms(setting.forcing) > 0));
  FeatureSet set;
  std::vector<Data> data;
  std::vector<DataGroup> groups;
  std::vector<double> log_noise;
  bool optimised = true;
  int iterations = 0;
  // In two dimensions fewer features do for learning.
  const double coarse =
      setting.dimension() == 2 && !homogeneous ? std::sqrt(start.cutoff) : start.cutoff;
  const auto rebuild = [&](double cutoff) {
    set = features_of(setting.axes, prior, options.kernel, cutoff);
    check_size(set, options);
    assembly.choose_nodes(set);
    data = assembly.assemble(set, start.exact);
    if (log_noise.empty()) {
      set_start_noise(data, setting, start);
      for (const Data& d : data) log_noise.push_back(d.log_noise);
    } else {
      set_start_noise(data, setting, start);
      for (std::size_t g = 0; g < data.size(); ++g) data[g].log_noise = log_noise[g];
    }
    groups = groups_of(data);
  };
  constexpr int rounds = 5;
  constexpr double drop = 2;  // of the log density, excludes a variance: 95 %
  for (int round = 0; round < rounds; ++round) {
    rebuild(coarse);
    clock.lap("rows");
    const Parameters parameters(setting.axes, prior, data, learn_prior,
                                learn_prior && options.refine, options.kernel);
    if (parameters.empty()) break;
    const std::vector<double> last_noise = log_noise;
    const auto objective = [&](std::span<const double> x, std::span<double> gradient) {
      progress(0.1 + 0.8 * std::min(1.0, iterations / 60.0), "learning the kernel");
      ++iterations;
      std::vector<Component> trial;
      std::vector<double> noise = last_noise;
      parameters.unpack(x, trial, noise);
      const FeatureVariances variances(set, trial, options.kernel);
      Regression fit = halfulp::detail::regress(groups, variances.log_variance(), noise, true);
      if (homogeneous) {
        const Regression own = halfulp::detail::regress(std::span(groups).first(1),
                                                        variances.log_variance(), noise, true);
        fit.log_evidence -= own.log_evidence;
        fit.slope_noise[0] -= own.slope_noise[0];
        for (std::size_t f = 0; f < fit.slope_weights.size(); ++f)
          fit.slope_weights[f] -= own.slope_weights[f];
      }
      std::vector<double> by_variance;
      std::vector<std::vector<double>> by_centre, by_width;
      variances.slopes(set, fit.slope_weights, by_variance, by_centre, by_width);
      parameters.gradient(by_variance, by_centre, by_width, fit.slope_noise, gradient);
      for (double& g : gradient) g = -g;
      return -fit.log_evidence;
    };
    const auto best =
        halfulp::detail::minimise_on_box(objective, parameters.x, parameters.lower,
                                         parameters.upper, 1e-3, 2e-3, 3, options.max_iterations);
    const std::vector<Component> before = prior;
    parameters.unpack(best.x, prior, log_noise);
    optimised = best.converged;
    clock.lap("learning");
    if (!learn_prior) break;
    // Bands that explain nothing are taken out; those that have moved need other features.
    const FeatureVariances variances(set, prior, options.kernel);
    double total = 0;
    for (const Component& c : prior) total += c.variance;
    std::vector<Component> kept;
    double moved = 0;
    for (std::size_t c = 0; c < prior.size(); ++c) {
      if (prior[c].variance < 1e-16 * total && kept.size() + prior.size() - c > 1) {
        pruned.push_back(prior[c]);
        continue;
      }
      for (std::size_t k = 0; k < setting.axes.size(); ++k)
        moved =
            std::max({moved, std::fabs(std::log(prior[c].width[k] / before[c].width[k])),
                      std::fabs(prior[c].centre[k] - before[c].centre[k]) / before[c].width[k]});
      kept.push_back(prior[c]);
    }
    const bool fewer = kept.size() < prior.size();
    prior = std::move(kept);
    if (moved < 0.25 && !fewer) break;
  }
  double hidden = 0;  // variance of a low part of u that the noise may hide; 0: none of any size
  bool hidden_counted = false;
  if (learn_prior) {
    // What hides below the noise is nowhere as large in u as at low frequencies, where the
    // likelihood is flat towards large variances. So a low band that is there (that has spent more
    // than one degree of freedom) gets the largest variance that the data leave possible, a drop of
    // the log density by `drop`. One that is not seen may still be there: it gets the largest
    // variance that the data do not exclude (the same drop) where that is not small
    // beside the other bands, of which it is a part `counted` at least. Smaller ones are left out,
    // since most u at high frequencies alone have none; from the part `told` on there is a warning.
    constexpr double counted = 0.1, told = 0.01;
    const auto is_low = [](const Component& c) {
      return std::all_of(c.centre.begin(), c.centre.end(), [](double mu) { return mu == 0; });
    };
    double others = 0;
    for (const Component& c : prior)
      if (!is_low(c)) others += c.variance;
    auto low = std::find_if(prior.begin(), prior.end(), is_low);
    const auto lost = std::find_if(pruned.begin(), pruned.end(), is_low);
    const bool was_pruned = low == prior.end() && lost != pruned.end();
    if (was_pruned) low = prior.insert(prior.end(), *lost);
    rebuild(coarse);
    const auto index = low - prior.begin();
    double spent = 0;
    if (low != prior.end()) {
      const FeatureVariances variances(set, prior, options.kernel);
      const Regression fit =
          halfulp::detail::regress(groups, variances.log_variance(), log_noise, true);
      for (Size f = 0; f < set.size(); ++f)
        spent += variances.share(index, f) *
                 (fit.weights[f] * fit.weights[f] - 2 * fit.slope_weights[f]);
    }
    const bool seen = spent > 1;
    // A band that is broader than a line (of 3/4 of a bin) and near zero has learnt from the data
    // how much there is towards zero.
    bool reaching = false;
    for (const Component& c : prior) {
      bool all = c.variance > 0.01 * others && !is_low(c);
      for (std::size_t k = 0; k < c.centre.size() && all; ++k)
        all = c.centre[k] < 6 * c.width[k] &&
              c.width[k] > 1.2 * 2 * std::numbers::pi / setting.axes[k].length;
      reaching = reaching || all;
    }
    if (low != prior.end() && (seen || (setting.forcing_noise && others > 0 && !reaching))) {
      const auto value = [&](double log_variance) {
        prior[index].variance = std::exp(log_variance);
        const FeatureVariances variances(set, prior, options.kernel);
        return halfulp::detail::regress(groups, variances.log_variance(), log_noise, false)
            .log_evidence;
      };
      const double at = std::log(prior[index].variance);
      const double least = value(at) - drop;
      double reached = at;
      bool raise = seen;
      if (!seen && value(std::log(counted * others)) > least) {
        reached = std::max(at, std::log(counted * others));
        raise = hidden_counted = true;
      }
      double step = 2;
      for (int i = 0; i < 60 && step > 0.1 && raise; ++i) {
        if (value(reached + step) > least) {
          reached += step;
        } else {
          step /= 2;
        }
      }
      prior[index].variance = std::exp(reached);
      if (hidden_counted) {
        hidden = prior[index].variance;
      } else if (!seen && value(std::log(told * others)) > least) {
        hidden = told * others;
      }
      prior[index].variance = std::exp(reached);
      clock.lap("low band");
    }
    if (was_pruned && hidden_counted) pruned.erase(lost);
    if (was_pruned && !hidden_counted) prior.pop_back();
  }
  rebuild(start.cutoff);
  progress(0.92, "posterior");

  auto impl = std::make_shared<Posterior::Impl>();
  const FeatureVariances variances(set, prior, options.kernel);
  impl->fit = halfulp::detail::regress(groups, variances.log_variance(), log_noise, true);
  // With all features the noises are no longer those of the few that the prior was learnt with:
  // what these could not do was counted as noise. MacKay's fixed point, at which each misfit is as
  // large as its degrees of freedom.
  for (int round = 0; round < 20; ++round) {
    double change = 0;
    for (std::size_t g = 0; g < data.size(); ++g) {
      double free = static_cast<double>(groups[g].count) - impl->fit.explained[g];
      const bool condition = data[g].kind == Kind::sides;
      if (!(data[g].learn || condition) || !(free > 0.5) || !(impl->fit.misfit[g] > 0)) continue;
      // What the bands miss of the conditions is no noise that a mean over points makes smaller, so
      // that the deviation there has to be as large as the misfit.
      if (condition) free = std::min(free, impl->fit.explained[g]);
      const double next =
          std::max(log_noise[g] + 0.5 * std::log(impl->fit.misfit[g] / free), data[g].least);
      change = std::max(change, std::fabs(next - log_noise[g]));
      log_noise[g] = next;
    }
    if (!(change > 0.01)) break;
    progress(0.93, "posterior");
    impl->fit = halfulp::detail::regress(groups, variances.log_variance(), log_noise, true);
  }
  for (const double v : variances.log_variance()) impl->root.push_back(std::exp(v / 2));
  impl->set = set;
  const Regression& fit = impl->fit;
  result.log_evidence = fit.log_evidence;
  // A noise learnt from few data is uncertain itself: with it integrated out, errors are those of
  // Student's t with as many degrees of freedom as are left, of variance nu / (nu - 2).
  double freedom = infinity;
  for (std::size_t g = 0; g < data.size(); ++g) {
    const bool exact = data[g].kind == Kind::forcing && !setting.forcing_noise;
    if (data[g].learn && !exact)
      freedom = std::min(freedom, static_cast<double>(groups[g].count) - fit.explained[g]);
  }
  if (std::isfinite(freedom)) {
    const double nu = std::max(freedom, 3.0);
    for (double& v : impl->fit.r.values) v *= std::sqrt((nu - 2) / nu);
  }
  result.features = set.size();
  {
    double largest = 0, smallest = infinity;
    for (Size j = 0; j < set.size(); ++j) {
      const double r = std::fabs(fit.r(j, j));
      largest = std::max(largest, r);
      smallest = std::min(smallest, r);
    }
    result.condition = largest / smallest;
  }
  const Setting& s = assembly.setting();
  const Size d = s.dimension();
  bool contradicted = false;
  for (std::size_t g = 0; g < data.size(); ++g) {
    DataSummary summary;
    summary.name = kind_names[static_cast<std::size_t>(data[g].kind)];
    summary.count = groups[g].count;
    const bool exact =
        data[g].kind == Kind::sides || (data[g].kind == Kind::forcing && !s.forcing_noise);
    summary.noise = std::exp(log_noise[g]);
    if (data[g].kind == Kind::forcing) summary.noise /= s.noise_factor;
    if (data[g].kind == Kind::sides) summary.noise *= start.exact.tight * start.exact.size;
    summary.learnt = data[g].learn && !exact;
    summary.freedom = static_cast<double>(summary.count) - fit.explained[g];
    summary.chi2 = summary.freedom > 0.5 ? fit.misfit[g] / summary.freedom : 0;
    if (exact && data[g].kind == Kind::forcing && log_noise[g] > data[g].least + 0.1)
      result.warnings.push_back(
          "the prior's bands do not hold the exact forcing: what they miss, " +
          number_text(summary.noise) + " RMS, counts as its noise");
    const double allowed = 1.05 + 5 * std::sqrt(2 / std::max(summary.freedom, 1.0));
    const auto count = static_cast<double>(summary.count);
    if (!exact && ((summary.freedom > 2 && !(summary.chi2 <= allowed)) ||
                   !(fit.misfit[g] <= 1.05 * count + 5 * std::sqrt(2 * count)))) {
      contradicted = true;
      result.warnings.push_back(summary.name + ": the misfits contradict the noise: chi^2 is " +
                                number_text(std::round(summary.chi2 * 100) / 100) +
                                " for each; it may be too small" +
                                (summary.learnt ? "" : " (noise = \"learn\" finds it)"));
    }
    if (!exact && !summary.learnt && summary.freedom > 20 && summary.chi2 < 1 / (1.2 * allowed))
      result.warnings.push_back("the noise given for the " + summary.name +
                                " is larger than what their misfits show");
    result.data.push_back(summary);
  }

  // Sizes on Gauss points, off the nodes of sines.
  std::vector<std::vector<double>> points;
  for (Size k = 0; k < d; ++k)
    points.push_back(nodes_of(problem, k, Nodes::gauss, d == 1 ? 240 : 24));
  result.impl = impl;
  const std::vector<int> zero(d, 0);
  const double size = rms(result.mean(points, zero));
  const double deviation = rms(result.deviation(points, zero));
  result.error_estimate = size > 0 ? deviation / size : infinity;
  for (const DataSummary& summary : result.data)
    if (summary.name == kind_names[static_cast<std::size_t>(Kind::sides)] &&
        summary.noise > std::max(0.1 * deviation, 10 * start.exact.tight * start.exact.size))
      result.warnings.push_back(
          "the prior's bands do not hold the conditions on the sides: what they miss, " +
          number_text(summary.noise) + " RMS, counts as their error");

  // L mean - f where f is known.
  {
    std::vector<double> left(s.forcing.size());
    double largest = rms(s.forcing);
    for (const Term& term : s.terms) {
      const std::vector<double> field = result.mean(s.grid, term.orders);
      std::vector<double> factor(field.size());
      Program<double>(term.coefficient, s.names).on_grid(s.grid, factor, s.threads);
      for (std::size_t i = 0; i < field.size(); ++i) factor[i] *= field[i];
      if (!(rms(s.forcing) > 0)) largest = std::max(largest, rms(factor));
      for (std::size_t i = 0; i < field.size(); ++i) left[i] += factor[i];
    }
    for (std::size_t i = 0; i < left.size(); ++i) left[i] -= s.forcing[i];
    result.residual_scale = largest;
    result.residual = largest > 0 ? rms(left) / largest : rms(left);
  }
  for (std::size_t g = 0; g < data.size(); ++g)
    if (data[g].kind == Kind::sides && size > 0)
      result.boundary_residual = std::sqrt(fit.misfit[g] / static_cast<double>(groups[g].count)) *
                                 std::exp(log_noise[g]) * start.exact.tight * start.exact.size /
                                 size;

  // Report, strongest first.
  double total = 0;
  for (const Component& c : prior) total += c.variance;
  for (Size k = 0; k < d; ++k) {
    AxisInfo info;
    for (const Component& c : prior) {
      if (c.variance < 1e-10 * total) continue;
      info.bands.push_back({std::max(0.0, c.centre[k] - c.width[k]), c.centre[k] + c.width[k]});
    }
    std::sort(info.bands.begin(), info.bands.end(),
              [](const Band& a, const Band& b) { return a.lower < b.lower; });
    info.features = info.modes = set.axes[k].size();
    info.nodes = std::ssize(s.grid[k]);
    info.spectrum_frequency = start.spectrum.frequency[k];
    info.spectrum = start.spectrum.amplitude[k];
    result.axes.push_back(std::move(info));
  }
  prior.insert(prior.end(), pruned.begin(), pruned.end());
  std::stable_sort(prior.begin(), prior.end(),
                   [](const Component& a, const Component& b) { return a.variance > b.variance; });
  result.prior = std::move(prior);

  // Fewer observations than what they stand for: the prior decides, and no data tell its size.
  bool undetermined = false;
  for (Size k = 0; k < d && !undetermined; ++k) {
    int order = 0;
    for (const Term& term : s.terms) order = std::max(order, term.orders[k]);
    int missing = s.axes[k].periodic ? 0 : order;
    for (const Side& side : s.sides[k]) missing -= has_data(side) ? 1 : 0;
    const Size needed = missing <= 0 ? 0 : d == 1 ? 2 * missing : 8 * missing;
    undetermined = (s.observations ? std::ssize(s.observations->values) : 0) < needed;
  }
  if (undetermined)
    result.warnings.emplace_back(
        "there are hardly more observations than conditions that they stand for: between them the "
        "prior decides, whose size they do not tell");
  if (hidden > 0)
    result.warnings.push_back("the forcing's noise may hide low frequencies of u: up to " +
                              number_text(std::sqrt(hidden)) +
                              (hidden_counted
                                   ? " RMS, which the deviation counts"
                                   : " RMS or more, which the deviation does not count") +
                              "; observations of u would tell");
  if (!optimised)
    result.warnings.emplace_back("the marginal likelihood was not maximised within max_iterations");
  if (!(result.error_estimate < 1))
    result.warnings.emplace_back("the data do not determine u: its deviation exceeds its mean");
  result.report.iterations = std::max(1, iterations);
  result.report.residual = result.error_estimate;
  result.report.tolerance = 1;
  result.report.status = !std::isfinite(result.error_estimate) ? Status::not_finite
                         : !optimised                          ? Status::max_iterations
                         : contradicted || undetermined || !(result.error_estimate < 1)
                             ? Status::stagnated
                             : Status::converged;
  clock.lap("posterior");
  progress(1, "solved");
  return result;
}

}  // namespace halfulp::gp_pde
