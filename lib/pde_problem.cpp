#include "detail/pde_problem.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "halfulp/error.hpp"
#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde::detail {

la::DdMatrix sample(const Program<dd>& program, std::span<const Points> axes, int threads) {
  const auto n = static_cast<Size>(axes[0].size());
  const Size m = axes.size() > 1 ? static_cast<Size>(axes[1].size()) : 1;
  std::vector<dd> values(n * m);
  program.on_grid(axes, values, threads);
  la::DdMatrix out(n, m);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < m; ++j) out.set(i, j, values[i * m + j]);
  return out;
}

la::DdMatrix add_scaled(la::DdMatrix a, dd factor, const la::DdMatrix& b) {
  const Size n = a.rows() * a.cols();
  for (Size k = 0; k < n; ++k) {
    const dd v = dd(a.hi(0)[k], a.lo(0)[k]) + factor * dd(b.hi(0)[k], b.lo(0)[k]);
    a.hi(0)[k] = v.hi;
    a.lo(0)[k] = v.lo;
  }
  return a;
}

double rms(const la::DdMatrix& a) {
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

la::DdMatrix scale_rows(la::DdMatrix a, const Points& w) {
  for (Size j = 0; j < a.cols(); ++j)
    for (Size i = 0; i < a.rows(); ++i) a.set(i, j, a(i, j) * w[i]);
  return a;
}

Points make_nodes(Nodes kind, dd lower, dd upper, Size n) {
  Points p;
  const dd centre = (lower + upper) * 0.5, radius = (upper - lower) * 0.5;
  if (kind == Nodes::gauss) {
    Points x, w;
    la::gauss_legendre_half(n + n % 2, x, w);
    for (auto it = x.rbegin(); it != x.rend(); ++it) p.push_back(centre - *it * radius);
    for (const dd& node : x) p.push_back(centre + node * radius);
    return p;
  }
  for (Size i = 0; i < n; ++i) {
    const dd t = dd(static_cast<double>(i)) / static_cast<double>(n > 1 ? n - 1 : 1);
    p.push_back(kind == Nodes::uniform ? lower + (upper - lower) * t
                                       : centre - radius * cos(kernel::pi() * t));
  }
  return p;
}

Points trapezoid(const Points& p) {
  const auto n = static_cast<Size>(p.size());
  Points w(n, dd(1.0));
  for (Size i = 0; n > 1 && i < n; ++i)
    w[i] = (p[std::min(i + 1, n - 1)] - p[std::max<Size>(i - 1, 0)]) * 0.5;
  return w;
}

double band_bytes(const Band& band, double length, Size max_modes) {
  return 16 * static_cast<double>(std::min<Size>(max_modes, 640)) * 0.55 * band.upper * length;
}

namespace {

std::vector<int> orders(Size dimension, Size axis, int order) {
  std::vector<int> o(dimension, 0);
  o[axis] = order;
  return o;
}

template <class Value>  // double or text
[[noreturn]] void refuse(std::string_view argument, const Value& value, std::string_view rule) {
  throw DomainError("gp_pde::Solver", argument, value, rule);
}

}  // namespace

Expression coefficient(const LinearOperator& op, const std::vector<int>& order) {
  const auto it = op.coefficients.find(order);
  return it == op.coefficients.end() ? Expression() : it->second;
}

namespace {

// Each condition on its own: whether it is one.
void check_conditions(const Problem& problem) {
  for (std::size_t k = 0; k < problem.axes.size(); ++k) {
    for (int s = 0; s < 2; ++s) {
      const std::string name = "problem.sides." + problem.axes[k].name + (s == 0 ? "-" : "+");
      const auto one = [&](const Side& side) {
        if (side.kind == SideKind::none || side.kind == SideKind::periodic) return;
        if (side.kind == SideKind::derivative && !(side.order >= 0 && side.order < highest_order))
          refuse(name + ".order", std::to_string(side.order), "in 0 ... 3");
        if (side.kind == SideKind::robin &&
            !(std::isfinite(side.a) && std::isfinite(side.b) && (side.a != 0 || side.b != 0)))
          refuse(name, "a = " + std::to_string(side.a) + ", b = " + std::to_string(side.b),
                 "finite and not both zero");
        const std::vector<double> c = condition_coefficients(side, s);
        for (const double value : c)
          if (!std::isfinite(value))
            refuse(name + ".coefficients", std::to_string(value), "finite");
        if (c.empty() || static_cast<int>(c.size()) > highest_order)
          refuse(name + ".coefficients",
                 c.empty() ? "all zero" : std::to_string(c.size()) + " given",
                 "one to four, not all zero");
      };
      const Side& side = problem.sides[k][s];
      one(side);
      if (!side.also.empty() && !has_data(side))
        refuse(name + ".also", "given on a side without a condition", "empty there");
      for (const Side& more : side.also) {
        one(more);
        if (!has_data(more) || !more.also.empty())
          refuse(name + ".also", "periodic, none or nested", "conditions on the same side");
      }
    }
  }
}

}  // namespace

void ask_to_go_on(const Options& options) {
  constexpr double unchanged = std::numeric_limits<double>::quiet_NaN();
  if (options.progress && !options.progress(unchanged, "")) throw Cancelled("gp_pde::Solver");
}

Options remembering(Options options) {
  if (!options.progress) return options;
  struct Last {
    double fraction = 0;
    std::string phase = "beginning";
  };
  options.progress = [user = std::move(options.progress), last = std::make_shared<Last>()](
                         double fraction, const char* phase) {
    if (!std::isnan(fraction)) *last = {fraction, phase};
    return user(last->fraction, last->phase.c_str());
  };
  return options;
}

Checked check(Problem problem, Options options) {
  Checked c;
  if (problem.axes.empty() || problem.axes.size() > 3)
    refuse("problem.axes.size()", std::to_string(problem.axes.size()), "1, 2 or 3");
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
  Equation equation = extract_equation(problem);
  c.op = reference_operator(problem, equation, options.guess.value_or(Expression(0.0)));
  const bool varies = std::any_of(equation.partial.begin(), equation.partial.end(),
                                  [](const Expression& e) { return !e.is_constant(); });
  const auto occurs = [all = equation.orders](const std::vector<int>& order) {
    return std::find(all.begin(), all.end(), order) != all.end();
  };
  c.axis.resize(d);
  for (const auto& order : equation.orders) {
    int total = 0;
    for (const int o : order) total += o;
    if (total > (d == 3 ? 2 : highest_order))
      refuse("problem.equation", "a derivative of order " + std::to_string(total),
             d == 3 ? "of order two at most in three dimensions" : "of order four at most");
  }
  c.constant = std::all_of(c.op.coefficients.begin(), c.op.coefficients.end(),
                           [](const auto& entry) { return entry.second.is_constant(); });
  check_conditions(problem);
  c.strong = needs_strong_conditions(problem, equation.orders, c.op);
  if (c.strong) {
    if (const auto wrong = objection_to(problem, equation.orders, c.op))
      refuse(wrong->axis < 0 ? "problem.equation"
                             : "problem.sides." + c.names[wrong->axis] +
                                   (wrong->side < 0    ? ""
                                    : wrong->side == 0 ? "-"
                                                       : "+"),
             wrong->found, wrong->rule);
  }
  const bool mixes =
      std::any_of(equation.orders.begin(), equation.orders.end(),
                  [d](const auto& order) { return d == 2 && order[0] > 0 && order[1] > 0; });
  const std::vector<std::vector<int>> all_orders = equation.orders;
  // With strong conditions mixed derivatives are left to the pointwise part.
  if (!equation.linear || (varies && d > 1) || (c.strong && mixes)) c.newton = std::move(equation);
  bool undetermined = !occurs(std::vector<int>(d, 0));
  for (Size k = 0; k < d; ++k) {
    AxisOperator& axis = c.axis[k];
    const Expression second = coefficient(c.op, orders(d, k, 2));
    const Expression first = coefficient(c.op, orders(d, k, 1));
    axis.has_second = occurs(orders(d, k, 2));
    axis.has_first = occurs(orders(d, k, 1));
    axis.order = axis_order(all_orders, k);
    axis.evolution = evolution_side(problem, k, axis.order);
    if (d == 2 && !c.strong && axis.has_second && second.is_zero())
      refuse("problem.equation", "no second derivative in " + c.names[k] + " at the guess",
             "elliptic or parabolic there (options.guess)");
    if (c.constant) {
      axis.second = second.constant();
      axis.first = first.constant();
    }
    auto& sides = problem.sides[k];
    axis.periodic = sides[0].kind == SideKind::periodic;
    if (axis.periodic != (sides[1].kind == SideKind::periodic))
      refuse("problem.sides." + c.names[k], "one periodic side", "periodic on both sides");
    for (Side& side : sides) {
      if (side.kind == SideKind::dirichlet) side.a = 1, side.b = 0;
      if (side.kind == SideKind::neumann) side.a = 0, side.b = 1;
    }
    const std::vector<Condition> conditions = conditions_of(problem, k);
    for (const Condition& condition : conditions)
      if (condition.coefficients[0] != 0) undetermined = false;
    const int needed = axis.periodic ? 0 : axis.order;
    if (static_cast<int>(conditions.size()) != needed)
      refuse("problem.sides." + c.names[k], std::to_string(conditions.size()) + " conditions",
             "as many as the order of the equation in " + c.names[k] + ", which is " +
                 std::to_string(needed));
    if (d == 3)
      for (const Condition& condition : conditions)
        if (!has_data(sides[condition.side]) || !sides[condition.side].also.empty() ||
            sides[condition.side].kind == SideKind::derivative ||
            sides[condition.side].kind == SideKind::linear)
          refuse("problem.sides." + c.names[k] + (condition.side == 0 ? "-" : "+"),
                 "a condition of another kind",
                 "one condition, dirichlet, neumann or robin, in three dimensions");
    c.conditions.insert(c.conditions.end(), conditions.begin(), conditions.end());
  }
  if (options.max_newton < 1)
    refuse("options.max_newton", std::to_string(options.max_newton), ">= 1");
  if (d == 3) {
    if (c.newton)
      refuse("problem.equation", "a nonlinear equation, or a variable coefficient",
             "linear with constant coefficients in three dimensions");
    c.reaction = coefficient(c.op, {0, 0, 0}).constant();
    for (Size k = 0; k < d; ++k) {
      if (!c.axis[k].has_second || c.axis[k].second.hi * c.axis[0].second.hi < 0)
        refuse("problem.equation", "no second derivative, or one of another sign, in " + c.names[k],
               "elliptic in three dimensions");
      if (c.axis[k].has_first)
        refuse("problem.equation", "a first derivative in " + c.names[k],
               "without first derivatives in three dimensions");
      for (Size j = 0; j < k; ++j) {
        std::vector<int> order = orders(d, k, 1);
        order[j] = 1;
        if (!coefficient(c.op, order).is_zero())
          refuse("problem.equation", "a mixed derivative",
                 "without mixed derivatives in three dimensions");
      }
    }
    if (std::holds_alternative<GridSamples>(problem.forcing) && c.op.forcing_factor != 0)
      refuse("problem.forcing", "samples", "a formula in three dimensions");
    if (!options.nodes_per_axis.empty())
      refuse("options.nodes_per_axis", "given", "left to the solver in three dimensions");
  }
  if (d == 2) c.reaction = coefficient(c.op, {0, 0}).constant();
  if (d == 2 && !c.strong) {
    c.mixed = coefficient(c.op, {1, 1}).constant();
    // The sign that makes the operator positive: minus the second derivatives, or, without any,
    // the one for which the prescribed sides are those where the flow enters.
    double sign = 0;
    for (const AxisOperator& axis : c.axis) {
      if (!axis.has_second) continue;
      sign = axis.second.hi > 0 ? -1 : 1;
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
  c.singular = undetermined;
  if (c.strong && c.singular)
    refuse("problem.sides", "no condition on u",
           "one on some side, for an equation of this kind (constants solve it)");
  if (c.newton && d == 2) {
    if (c.singular)
      refuse("problem.sides", "no condition on u",
             "one on some side, where the equation is nonlinear or its coefficients vary");
    if (!options.nodes_per_axis.empty())
      refuse("options.nodes_per_axis", "given",
             "empty: nonlinear equations and variable coefficients use the nodes of the basis");
    c.mixed = 0.0;  // left to the pointwise part
  }
  if (d == 1 && c.axis[0].order == 0)
    refuse("problem.equation", "no derivative of u", "a differential equation");
  if (options.method == (d == 1 ? Method::galerkin : Method::collocation))
    refuse("options.method", d == 1 ? "galerkin" : "collocation",
           d == 1 ? "automatic or collocation in one dimension"
                  : "automatic or galerkin in two and three dimensions");
  if (options.kernel == KernelType::periodic &&
      !std::all_of(c.axis.begin(), c.axis.end(), [](const auto& axis) { return axis.periodic; }))
    refuse("options.kernel", "periodic", "with periodic sides on every axis");
  if (options.setup_precision != Precision::dd)
    refuse("options.setup_precision", "double", "dd (the only set-up precision yet)");
  if (!(options.tolerance >= 0)) refuse("options.tolerance", options.tolerance, ">= 0");
  if (options.max_modes < 8) refuse("options.max_modes", std::to_string(options.max_modes), ">= 8");
  if (!options.bands.empty() && static_cast<Size>(options.bands.size()) != d)
    throw ShapeError("gp_pde::Solver", "options.bands.size()",
                     static_cast<Size>(options.bands.size()), d);
  if (!options.nodes_per_axis.empty() && static_cast<Size>(options.nodes_per_axis.size()) != d)
    throw ShapeError("gp_pde::Solver", "options.nodes_per_axis.size()",
                     static_cast<Size>(options.nodes_per_axis.size()), d);
  double points = 1;
  for (std::size_t k = 0; k < options.nodes_per_axis.size(); ++k) {
    const Size n = options.nodes_per_axis[k];
    if (n < 4)
      refuse("options.nodes_per_axis[" + std::to_string(k) + "]", std::to_string(n), ">= 4");
    points *= static_cast<double>(n);
  }
  // Samples of the forcing and their residual in double-double, with the formula's registers.
  const double bytes = 16.0 * 6 * points;
  if (bytes > static_cast<double>(options.memory_limit))
    refuse("options.nodes_per_axis",
           "nodes that need " + std::to_string(static_cast<long long>(bytes / (1 << 20))) + " MiB",
           "within options.memory_limit");
  for (std::size_t k = 0; k < options.bands.size(); ++k)
    for (const Band& band : options.bands[k]) {
      const std::string text = "[" + number_text(band.lower) + ", " + number_text(band.upper) + "]";
      if (!(band.lower >= 0 && band.lower <= band.upper && std::isfinite(band.upper)))
        refuse("options.bands[" + std::to_string(k) + "]", text, "finite with 0 <= lower <= upper");
      if (!(band_bytes(band, (problem.axes[k].upper - problem.axes[k].lower).hi,
                       options.max_modes) <= static_cast<double>(options.memory_limit)))
        refuse("options.bands[" + std::to_string(k) + "]", text,
               "of frequencies whose modes fit into options.memory_limit");
    }
  if (options.slabs < 0 || options.slabs > 1000000)
    refuse("options.slabs", std::to_string(options.slabs), "in 0 ... 1000000");
  if (options.threads < 0 || options.threads > 1024)
    refuse("options.threads", std::to_string(options.threads), "in 0 ... 1024");
  c.threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  c.problem = std::move(problem);
  c.options = std::move(options);
  return c;
}

la::DdMatrix condition_values(const Checked& c, const Condition& condition, const Points& points) {
  const Size k = condition.axis;
  if (c.start_data && k == c.start_axis && condition.side == 0) return c.start_data(points);
  const Expression g = condition.g.substitute(c.names[k], Expression(c.end(k, condition.side)));
  if (c.dimension() == 1) {
    la::DdMatrix v(1, 1);
    v.set(0, 0, g.constant());
    return v;
  }
  const Program<dd> program(g, {c.names[1 - k]});
  const std::vector<Points> axes{points};
  return sample(program, axes, c.threads);
}

la::DdMatrix side_values(const Checked& c, Size k, int s, const Points& points) {
  return condition_values(c, {k, s, {}, c.problem.sides[k][s].g}, points);
}

RightHandSide::RightHandSide(const Checked& c, const std::variant<Expression, GridSamples>& forcing)
    : expression(c.op.source),
      formula(c.op.source, c.names),
      formula_double(c.op.source, c.names),
      threads(c.threads) {
  if (const auto* given = std::get_if<Expression>(&forcing)) {
    if (c.op.forcing_factor == 0) return;
    expression = c.op.source + Expression(c.op.forcing_factor) * *given;
    formula = Program<dd>(expression, c.names);
    formula_double = Program<double>(expression, c.names);
    // Rounding in double is larger than in double-double; a value that is there is not.
    double rounded = 0, value = 0;
    for (int i = 1; i <= 64; ++i) {
      std::vector<dd> x;
      std::vector<double> x_double;
      for (Size k = 0; k < c.dimension(); ++k) {
        const double t = std::fmod(0.6180339887498949 * (i + 17.3 * static_cast<double>(k) * i), 1);
        x.push_back(c.end(k, 0) + c.length(k) * t);
        x_double.push_back(x.back().hi);
      }
      value = std::max(value, std::fabs(formula(std::span<const dd>(x)).hi));
      rounded = std::max(rounded, std::fabs(formula_double(std::span<const double>(x_double))));
    }
    negligible = value < 1e-9 * rounded;
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
        refuse("forcing.axes." + c.names[k] + "[" + std::to_string(i) + "]", p[i],
               "finite and increasing");
    // One rounding of slack: 2*pi as a double may lie outside the exact end.
    const double slack = 4 * std::numeric_limits<double>::epsilon() *
                         (std::fabs(c.end(k, 0).hi) + std::fabs(c.end(k, 1).hi));
    if (p.front() < c.end(k, 0).hi - slack || p.back() > c.end(k, 1).hi + slack)
      refuse("forcing.axes." + c.names[k], "points outside the domain", "inside the domain");
    // What lies beyond the samples would be extrapolated.
    const double gap = 4 * (p.back() - p.front()) / static_cast<double>(p.size() - 1) + slack;
    if (p.front() - c.end(k, 0).hi > gap || c.end(k, 1).hi - p.back() > gap)
      refuse("forcing.axes." + c.names[k], "samples on a part of the domain",
             "from one end of the domain to the other");
    axes.emplace_back(p.begin(), p.end());
  }
  if (static_cast<Size>(grid.values.size()) != total)
    throw ShapeError("gp_pde::Solver", "forcing.values.size()",
                     static_cast<Size>(grid.values.size()), total);
  sampled = true;
  const dd factor = c.op.forcing_factor;
  const Size n = static_cast<Size>(axes[0].size()), m = total / n;
  samples = la::DdMatrix(n, m);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < m; ++j) {
      const double v = grid.values[i * m + j];
      if (!std::isfinite(v))
        refuse("forcing.values[" + std::to_string(i * m + j) + "]", v, "finite");
      samples.set(i, j, factor * v);
    }
}

double largest_value(const Checked& c, const RightHandSide& rhs) {
  // Points of Roberts' additive recurrence: equally spread for any number of them.
  constexpr int count = 1 << 16;
  const Size d = c.dimension();
  std::vector<double> ends;
  for (Size k = 0; k < d; ++k) ends.insert(ends.end(), {c.end(k, 0).hi, c.length(k).hi});
  if (rhs.largest && rhs.largest->ends == ends) return rhs.largest->value;
  constexpr double steps[3][3] = {{0.6180339887498949, 0, 0},
                                  {0.7548776662466927, 0.5698402909980532, 0},
                                  {0.8191725133961645, 0.6710436067037893, 0.5497004779019703}};
  const double* step = steps[d - 1];
  double largest = 0;
#pragma omp parallel for schedule(static) num_threads(c.threads) reduction(max : largest)
  for (int i = 0; i < count; ++i) {
    double x[3];
    for (Size k = 0; k < d; ++k) {
      const double t = 0.5 + step[k] * i;
      x[k] = c.end(k, 0).hi + c.length(k).hi * (t - std::floor(t));
    }
    largest = std::max(largest, std::fabs(rhs.formula_double(std::span<const double>(x, d))));
  }
  rhs.largest = {std::move(ends), largest};
  return largest;
}

}  // namespace halfulp::gp_pde::detail
