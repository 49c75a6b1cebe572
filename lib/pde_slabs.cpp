#include "detail/pde_slabs.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <utility>

#include "detail/checkpoint_file.hpp"
#include "detail/linear_operator.hpp"
#include "detail/pde_coefficients.hpp"
#include "detail/setup_cache.hpp"
#include "halfulp/error.hpp"
#include "halfulp/info.hpp"
#include "halfulp/progress.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde::detail {
namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double periods_a_slab = 24;  // about as many modes as the falloff beside them costs
constexpr Size most_slabs = 100000;
constexpr std::array<double, 2> margins = {12, 15};  // of the two chains

[[noreturn]] void refuse(std::string_view argument, std::string_view value, std::string_view rule) {
  throw DomainError("gp_pde::Solver", argument, value, rule);
}

/// Of first order, with a condition on the lower side only. One called t goes before others.
std::optional<Size> time_axis(const Checked& c) {
  std::optional<Size> found;
  for (Size k = 0; k < c.dimension(); ++k) {
    const auto& sides = c.problem.sides[k];
    const AxisOperator& axis = c.axis[k];
    if (axis.order != 1 || !has_data(sides[0]) || has_data(sides[1]) || axis.periodic ||
        !sides[0].also.empty())
      continue;
    if (!found || c.names[*found] != "t") found = k;
  }
  return found;
}

/// Whether the operator is another one at another time.
bool varies_in_time(const Checked& c, const std::string& time) {
  for (const auto& [order, value] : c.op.coefficients)
    if (value.depends_on(time)) return true;
  return c.newton && (c.newton->left.depends_on(time) ||
                      (c.options.guess && c.options.guess->depends_on(time)));
}

/// The problem on one slab, in local time.
class Slabs {
 public:
  Slabs(const Checked& whole, Expression forcing, Size axis, Size count)
      : whole_(whole),
        forcing_(std::move(forcing)),
        axis_(axis),
        count_(count),
        width_(whole.length(axis) / static_cast<double>(count)) {}

  [[nodiscard]] Size count() const { return count_; }
  [[nodiscard]] dd width() const { return width_; }
  [[nodiscard]] dd begin(Size j) const {
    return whole_.end(axis_, 0) + width_ * static_cast<double>(j);
  }
  [[nodiscard]] Expression forcing(Size j) const { return shifted(forcing_, j); }

  [[nodiscard]] Checked problem(Size j) const {
    Problem p = whole_.problem;
    p.axes[axis_].lower = 0.0;
    p.axes[axis_].upper = width_;
    p.equation = shifted(p.equation, j);
    p.forcing = forcing(j);
    if (p.exact) p.exact = shifted(*p.exact, j);
    for (auto& sides : p.sides)
      for (Side& side : sides) {
        side.g = shifted(side.g, j);
        for (Side& more : side.also) more.g = shifted(more.g, j);
      }
    Options o = whole_.options;
    o.slabs = 1;
    o.checkpoint = {};
    if (o.guess) o.guess = shifted(*o.guess, j);
    const auto n = static_cast<double>(count_), first = static_cast<double>(j);
    o.progress = part_of(o.progress, first / n, (first + 1) / n);
    Checked own = check(std::move(p), std::move(o));
    own.cache = whole_.cache;
    return own;
  }

 private:
  [[nodiscard]] Expression shifted(const Expression& e, Size j) const {
    const std::string& time = whole_.names[axis_];
    return e.substitute(time, Expression::symbol(time) + Expression(begin(j)));
  }
  const Checked& whole_;
  Expression forcing_;
  Size axis_, count_;
  dd width_;
};

/// The end of a slab's field, a column.
la::DdMatrix end_of(const Field& field, Size axis, dd end, const Points& across) {
  std::vector<Points> points(field.basis.size());
  points[axis] = {end};
  if (points.size() == 2) points[1 - axis] = across;
  la::DdMatrix v = field.values(points, std::vector<int>(points.size(), 0));
  return axis == 0 && points.size() == 2 ? la::transpose(v) : v;
}

/// Highest angular frequency to be expected along the time axis: of the data, and of what the
/// equation, frozen at the initial state, makes of the frequencies of the other axis.
double highest_frequency(const Checked& c, Size axis, const Expression& forcing) {
  const RightHandSide rhs(c, forcing);
  double top = 0;
  const auto take = [&top](const std::vector<Band>& bands) {
    for (const Band& b : bands)
      if (std::isfinite(b.upper)) top = std::max(top, b.upper);
  };
  take(infer_spectrum(c, rhs, axis).bands);
  const Equation equation = extract_equation(c.problem);
  const std::string& time = c.names[axis];
  Expression state = c.problem.sides[axis][0].g.substitute(time, Expression(c.end(axis, 0)));
  std::map<std::string, Expression> frozen;
  std::vector<std::vector<int>> orders;
  std::vector<Expression> partial;
  for (std::size_t i = 0; i < equation.orders.size(); ++i) {
    const auto& order = equation.orders[i];
    Expression value = order[axis] > 0 ? Expression(0.0) : state;
    for (std::size_t k = 0; k < order.size(); ++k)
      for (int n = 0; static_cast<Size>(k) != axis && n < order[k]; ++n)
        value = value.derivative(c.names[k]);
    frozen.emplace(equation.names[i], value);
  }
  for (const Expression& e : equation.partial)
    partial.push_back(e.substitute(frozen).substitute(time, Expression(c.end(axis, 0))));
  std::vector<Band> across{{0, 0}};
  Size other = -1;
  if (c.dimension() == 2) {
    other = 1 - axis;
    for (const Band& b : infer_spectrum(c, rhs, other).bands) across.push_back(b);
  }
  const Program<double> program(
      partial, other >= 0 ? std::vector<std::string>{c.names[other]} : std::vector<std::string>{});
  const double length = c.length(axis).hi;
  std::vector<double> values(partial.size());
  for (int i = 0; i <= 32; ++i) {
    const double x = other < 0 ? 0 : c.end(other, 0).hi + c.length(other).hi * (i + 0.5) / 33;
    program(std::span<const double>(&x, other < 0 ? 0 : 1), std::span<double>(values));
    for (const Band& b : across)
      for (const double w : {b.lower, b.upper}) {
        std::complex<double> in_time = 0, rest = 0;
        for (std::size_t k = 0; k < values.size(); ++k) {
          std::complex<double> term = values[k];
          for (int n = 0; other >= 0 && n < equation.orders[k][other]; ++n)
            term *= std::complex<double>(0, w);
          (equation.orders[k][axis] > 0 ? in_time : rest) += term;
        }
        const std::complex<double> root = rest / in_time;
        const double alpha = std::fabs(root.real());
        const double frequency = std::fabs(root.imag()) + (alpha * length > 12 ? alpha : 0);
        if (std::isfinite(frequency)) top = std::max(top, frequency);
      }
  }
  return top;
}

void put_dd(la::ByteWriter& out, const Points& v) {
  for (const dd& x : v) {
    out.put(x.hi);
    out.put(x.lo);
  }
}

/// What the chains need of a plan, and their discretisations.
struct Plan {
  Size slab = 0;  ///< it was made for
  SlabPlan found;
  std::array<Discretisation, 2> disc;

  void build(const Checked& c, Timings& timings) {
    const Size affordable =
        found.resolved ? (c.dimension() == 1 ? 640 : 400) : (c.dimension() == 1 ? 320 : 200);
    const Size most = std::min<Size>(c.options.max_modes, affordable);
    for (int i = 0; i < 2; ++i)
      disc[i] = Discretisation(c, found.bands, {margins[i], most, nullptr, disc[i].basis}, timings);
  }
};

/// The state after some slabs.
struct Chains {
  std::vector<Plan> plans;
  std::vector<Size> plan_of;  ///< by slab
  std::vector<Field> first;   ///< by slab
  Field second;               ///< of the last slab
  Size second_plan = 0;
  std::vector<SlabInfo> info;
  double squared_distance = 0, squared_size = 0;
  double unexplained = 0;  ///< errors that residuals stand for
  double scale = 0, residual = 0, boundary = 0;
  double condition = 1;
  int newton_steps = 0;
  bool good = true, resolved = true, converged = true, singular = false, seen = true;

  void put_field(la::ByteWriter& out, const Field& f) const {
    const Size rows = f.features.rows(), columns = f.features.cols();
    out.put(static_cast<std::int64_t>(rows));
    out.put(static_cast<std::int64_t>(columns));
    for (Size j = 0; j < columns; ++j)
      for (Size i = 0; i < rows; ++i) {
        out.put(f.features(i, j).hi);
        out.put(f.features(i, j).lo);
      }
    out.put(static_cast<std::uint64_t>(f.exponential_coefficients.size()));
    put_dd(out, f.exponential_coefficients);
    put_dd(out, {f.shift});
  }

  static dd get_dd(la::ByteReader& in) {
    const auto hi = in.get<double>();
    return {hi, in.get<double>()};
  }

  static Field get_field(la::ByteReader& in, const Checked& c, const Discretisation& disc) {
    Field f;
    f.basis = disc.basis;
    f.threads = c.threads;
    const auto rows = static_cast<Size>(in.get<std::int64_t>());
    const auto columns = static_cast<Size>(in.get<std::int64_t>());
    f.features = la::DdMatrix(rows, columns);
    for (Size j = 0; j < columns; ++j)
      for (Size i = 0; i < rows; ++i) f.features.set(i, j, get_dd(in));
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < count; ++i) f.exponential_coefficients.push_back(get_dd(in));
    f.exponentials = disc.exponentials();
    f.shift = get_dd(in);
    return f;
  }

  [[nodiscard]] std::string bytes(Size count) const {
    la::ByteWriter out;
    out.put_text(la::build_key());
    out.put(static_cast<std::int64_t>(count));
    out.put(static_cast<std::uint64_t>(plans.size()));
    for (const Plan& plan : plans) {
      out.put(static_cast<std::int64_t>(plan.slab));
      out.put(plan.found.resolved);
      out.put(plan.found.good);
      for (const auto& bands : plan.found.bands) out.put_array(bands);
      for (const Spectrum& s : plan.found.spectra) {
        out.put(s.bin);
        out.put_array(s.amplitude);
      }
    }
    out.put_array(info);
    out.put_array(plan_of);
    for (const Field& f : first) put_field(out, f);
    out.put(static_cast<std::int64_t>(second_plan));
    put_field(out, second);
    for (const double v :
         {squared_distance, squared_size, unexplained, scale, residual, boundary, condition})
      out.put(v);
    out.put(newton_steps);
    for (const bool v : {good, resolved, converged, singular, seen}) out.put(v);
    return out.bytes();
  }
};

/// Lines `name: value` of all that the slabs depend on.
std::string identity(const Checked& c, const Expression& forcing, double tolerance) {
  constexpr std::size_t longest = 1 << 20;
  std::string text;
  const auto line = [&text](const std::string& name, const std::string& value) {
    text += name + ": " + value + '\n';
  };
  const auto exact = [](dd x) { return hex_text(x.hi) + " + " + hex_text(x.lo); };
  const Options& o = c.options;
  line("program", info().version);
  for (Size k = 0; k < c.dimension(); ++k)
    line("domain", c.names[k] + " in [" + exact(c.end(k, 0)) + ", " + exact(c.end(k, 1)) + "]");
  line("equation", c.problem.equation.brief_text(longest));
  line("forcing", forcing.brief_text(longest));
  if (c.problem.exact) line("exact", c.problem.exact->brief_text(longest));
  for (Size k = 0; k < c.dimension(); ++k)
    for (int s = 0; s < 2; ++s) {
      std::vector<Side> all{c.problem.sides[k][s]};
      const std::vector<Side> also = all[0].also;
      all.insert(all.end(), also.begin(), also.end());
      for (const Side& side : all) {
        std::string left = std::to_string(static_cast<int>(side.kind)) + ", order " +
                           std::to_string(side.order) + ", " + number_text(side.a) + "*u + " +
                           number_text(side.b) + "*du";
        for (const double factor : side.coefficients) left += ", " + number_text(factor);
        line("side " + c.names[k] + (s == 0 ? "-" : "+"),
             left + " = " + side.g.brief_text(longest));
      }
      for (const Condition& q : c.conditions) {
        if (q.axis != k || q.side != s) continue;
        std::string text;
        for (const double v : q.coefficients) text += number_text(v) + " ";
        line("condition", text + "= " + q.g.brief_text(longest));
      }
    }
  line("kernel", std::to_string(static_cast<int>(o.kernel)));
  std::string bands = o.bands.empty() ? "auto" : "";
  for (const auto& axis : o.bands) {
    for (const Band& b : axis) bands += number_text(b.lower) + " " + number_text(b.upper) + ", ";
    bands += "; ";
  }
  line("bands", bands);
  std::string nodes = std::to_string(static_cast<int>(o.nodes));
  for (const Size n : o.nodes_per_axis) nodes += ' ' + std::to_string(n);
  line("nodes", nodes);
  line("tolerance", number_text(tolerance));
  line("most modes", std::to_string(o.max_modes));
  line("guess", o.guess ? o.guess->brief_text(longest) : "none");
  line("newton", std::to_string(o.max_newton));
  line("slabs", std::to_string(o.slabs));
  return text;
}

}  // namespace

std::vector<double> SlabField::on_grid(std::span<const std::vector<double>> points,
                                       std::span<const int> orders) const {
  const std::vector<double>& times = points[axis];
  const auto total = static_cast<Size>(times.size());
  const Size across = points.size() == 2 ? static_cast<Size>(points[1 - axis].size()) : 1;
  std::vector<double> out(total * across);
  std::vector<Points> grid;
  for (const auto& p : points) grid.emplace_back(p.begin(), p.end());
  std::vector<std::vector<Size>> members(slab.size());
  const auto last = static_cast<Size>(slab.size()) - 1;
  std::vector<Size> where(total);
  for (Size i = 0; i < total; ++i) {
    const double j = std::floor(((dd(times[i]) - lower) / width).hi);
    where[i] =
        std::clamp(j >= 0 ? (j < static_cast<double>(last) ? static_cast<Size>(j) : last) : Size{0},
                   Size{0}, last);
    members[where[i]].push_back(i);
  }
  for (std::size_t j = 0; j < slab.size(); ++j) {
    if (members[j].empty()) continue;
    grid[axis].clear();
    for (const Size i : members[j])
      grid[axis].push_back(dd(times[i]) - (lower + width * static_cast<double>(j)));
    const la::DdMatrix v = slab[j].values(grid, orders);
    for (std::size_t m = 0; m < members[j].size(); ++m)
      for (Size a = 0; a < across; ++a) {
        const auto row = static_cast<Size>(m);
        const double value = axis == 0 ? v(row, a).hi : v(a, row).hi;
        out[axis == 0 ? members[j][m] * across + a : a * total + members[j][m]] = value;
      }
  }
  return out;
}

std::optional<SlabResult> solve_in_slabs(const Checked& c, const Expression& forcing,
                                         double tolerance, const Planner& planner) {
  const bool automatic = c.options.slabs == 0;
  if (c.dimension() == 3) {
    if (automatic) return {};
    refuse("options.slabs", std::to_string(c.options.slabs), "1 in three dimensions");
  }
  const std::optional<Size> found = time_axis(c);
  if (!found) {
    if (automatic) return {};
    refuse("options.slabs", std::to_string(c.options.slabs),
           "1: no axis is of first order with a condition on its lower side only");
  }
  const Size axis = *found;
  const std::string& time = c.names[axis];
  Timings timings;
  Size count = c.options.slabs;
  if (automatic) {
    Stopwatch watch(timings);
    const double periods = highest_frequency(c, axis, forcing) * c.length(axis).hi / two_pi;
    count = periods <= 1.5 * periods_a_slab
                ? 1
                : static_cast<Size>(std::min(std::ceil(periods / periods_a_slab),
                                             static_cast<double>(most_slabs)));
    watch.lap("slabs");
    if (count == 1) return {};
  }
  la::CheckpointFile file(c.options.checkpoint, {"slabs", 1, identity(c, forcing, tolerance)},
                          "gp_pde::Solver");
  std::vector<std::string> warnings = file.warnings();
  const std::optional<std::string> state = file.take_state();

  Chains chains;
  std::optional<Slabs> slabs;
  const auto build = [&](Plan& plan, const Checked& own) {
    for (Discretisation& d : plan.disc) {
      const auto basis = std::move(d.basis);
      d = Discretisation();
      d.basis = basis;
    }
    plan.build(own, timings);
  };
  const bool varies = varies_in_time(c, time);
  if (state) {
    la::ByteReader in(*state);
    if (in.get_text() != la::build_key())
      warnings.emplace_back(
          "the checkpoint was written by another build or on another kind of processor: the bits "
          "may differ from those of an uninterrupted run");
    slabs.emplace(c, forcing, axis, static_cast<Size>(in.get<std::int64_t>()));
    const auto plans = in.get<std::uint64_t>();
    for (std::uint64_t p = 0; p < plans; ++p) {
      Plan plan;
      plan.slab = static_cast<Size>(in.get<std::int64_t>());
      plan.found.resolved = in.get<bool>();
      plan.found.good = in.get<bool>();
      for (Size k = 0; k < c.dimension(); ++k) plan.found.bands.push_back(in.get_array<Band>());
      for (Size k = 0; k < c.dimension(); ++k) {
        Spectrum s;
        s.bin = in.get<double>();
        s.amplitude = in.get_array<double>();
        plan.found.spectra.push_back(std::move(s));
      }
      build(plan, slabs->problem(plan.slab));
      chains.plans.push_back(std::move(plan));
    }
    chains.info = in.get_array<SlabInfo>();
    chains.plan_of = in.get_array<Size>();
    for (const Size p : chains.plan_of)
      chains.first.push_back(Chains::get_field(in, c, chains.plans[p].disc[0]));
    chains.second_plan = static_cast<Size>(in.get<std::int64_t>());
    chains.second = Chains::get_field(in, c, chains.plans[chains.second_plan].disc[1]);
    for (double* v : {&chains.squared_distance, &chains.squared_size, &chains.unexplained,
                      &chains.scale, &chains.residual, &chains.boundary, &chains.condition})
      *v = in.get<double>();
    chains.newton_steps = in.get<int>();
    for (bool* v :
         {&chains.good, &chains.resolved, &chains.converged, &chains.singular, &chains.seen})
      *v = in.get<bool>();
    in.finish();
  } else {
    // As many slabs as were asked for, or twice as many as long as the first one is not solved.
    for (int doubling = 0;; ++doubling) {
      slabs.emplace(c, forcing, axis, count);
      const Checked own = slabs->problem(0);
      Plan plan;
      plan.found = planner(own, RightHandSide(own, slabs->forcing(0)), timings);
      if (!plan.found.good && automatic && doubling < 5 && count < most_slabs) {
        count *= 2;
        continue;
      }
      build(plan, own);
      chains.plans.push_back(std::move(plan));
      break;
    }
  }

  const std::vector<int> zero(c.dimension(), 0);
  const dd width = slabs->width();
  const auto good = [&](const Quality& q) { return q.worst() <= tolerance; };
  const auto starting_from = [&](Checked own, const Field& before) {
    own.start_axis = axis;
    own.start_data = [&before, axis, width](const Points& across) {
      return end_of(before, axis, width, across);
    };
    return own;
  };
  GridEvaluator evaluator;
  int refused_plans = 0;
  Size evaluated = -1;  // plan of the evaluator
  const auto save = [&] {
    if (file.active() && !chains.first.empty()) file.save(chains.bytes(slabs->count()));
  };
  try {
    for (Size j = static_cast<Size>(chains.first.size()); j < slabs->count(); ++j) {
      report_progress(c.options.progress,
                      static_cast<double>(j) / static_cast<double>(slabs->count()), "slabs",
                      "gp_pde::Solver");
      const Checked own = slabs->problem(j);
      const RightHandSide rhs(own, slabs->forcing(j));
      const Checked first = j > 0 ? starting_from(own, chains.first.back()) : own;
      auto current = static_cast<Size>(chains.plans.size()) - 1;
      if (varies && chains.plans[current].slab != j && j > 0) build(chains.plans[current], own);
      const auto solve_first = [&](Quality& quality) {
        const Plan& plan = chains.plans[current];
        Field field = plan.disc[0].solve(first, rhs, nullptr, timings);
        Stopwatch watch(timings);
        if (evaluated != current) {
          evaluator = residual_points(first, rhs, field);
          evaluated = current;
        }
        quality = measure(first, rhs, field, evaluator);
        watch.lap("residual");
        return field;
      };
      Quality quality;
      Field field = solve_first(quality);
      if (!(good(quality) && field.converged) && chains.plans[current].slab != j &&
          refused_plans < 3) {
        // Other frequencies than those of the slabs before: a plan of its own.
        Plan plan;
        plan.slab = j;
        plan.found = planner(first, rhs, timings);
        build(plan, own);
        chains.plans.push_back(std::move(plan));
        ++current;
        Quality anew;
        Field again = solve_first(anew);
        if (anew.worst() < quality.worst() || (again.converged && !field.converged)) {
          field = std::move(again);
          quality = anew;
        } else {
          chains.plans.pop_back();
          --current;
          ++refused_plans;
          evaluated = -1;
        }
      }
      const Plan& plan = chains.plans[current];
      const Checked other = j > 0 ? starting_from(own, chains.second) : own;
      Field second = plan.disc[1].solve(other, rhs, field.converged ? &field : nullptr, timings);

      const std::vector<Points> grid = comparison_grid(own);
      const la::DdMatrix a = field.values(grid, zero), b = second.values(grid, zero);
      const double size = rms(a), distance = rms(add_scaled(a, -1.0, b));
      SlabInfo slab;
      slab.begin = slabs->begin(j).hi;
      slab.end = slabs->begin(j + 1).hi;
      slab.residual = quality.residual;
      slab.boundary_residual = quality.boundary;
      slab.error_estimate = 4 * relative(distance, size) + eps / 2;
      slab.newton_steps = field.newton_steps;
      chains.squared_size += size * size;
      chains.squared_distance += distance * distance;
      const bool ok = good(quality) && plan.found.resolved && field.converged && !field.singular;
      if (!ok) {
        chains.good = false;
        const double response =
            relative(quality.residual * quality.scale, field.smallest_eigenvalue * size);
        slab.error_estimate = std::max({slab.error_estimate, quality.boundary, response});
        chains.unexplained += std::max(quality.boundary, response);
      }
      if (!(slab.error_estimate >= 0)) slab.error_estimate = infinity;
      chains.resolved = chains.resolved && plan.found.resolved;
      chains.converged = chains.converged && field.converged && second.converged;
      chains.singular = chains.singular || field.singular;
      chains.seen = chains.seen && quality.largest >= 0.5 * largest_value(own, rhs) &&
                    coefficients_seen(own, field, evaluator);
      chains.scale = std::max(chains.scale, quality.scale);
      chains.residual = std::max(chains.residual, quality.residual);
      if (!(quality.boundary <= chains.boundary)) chains.boundary = quality.boundary;
      chains.condition = std::max(chains.condition, field.condition);
      chains.newton_steps += field.newton_steps;
      chains.info.push_back(slab);
      chains.plan_of.push_back(current);
      chains.first.push_back(std::move(field));
      chains.second = std::move(second);
      chains.second_plan = current;
      if (j + 1 == slabs->count() || file.due()) {
        try {
          save();
        } catch (const IoError& error) {  // a full disk does not end the computation
          if (std::find(warnings.begin(), warnings.end(), error.what()) == warnings.end())
            warnings.emplace_back(error.what());
        }
      }
    }
  } catch (const Cancelled&) {
    save();
    throw;
  }

  SlabResult result;
  result.field = {axis, c.end(axis, 0), width, std::move(chains.first)};
  Solution& s = result.solution;
  s.residual = chains.residual;
  s.residual_scale = chains.scale;
  s.boundary_residual = chains.boundary;
  s.condition = chains.condition;
  s.newton_steps = chains.newton_steps;
  s.slabs = std::move(chains.info);
  s.timings = std::move(timings);
  s.warnings = std::move(warnings);
  s.floor_estimate = eps / 2;
  const double distance =
      relative(std::sqrt(chains.squared_distance), std::sqrt(chains.squared_size));
  // Where a solution grows, both chains enlarge the rounding of the first slabs: it says less of
  // the error than the distance of discretisations does, and stands for it with a larger factor.
  s.error_estimate = (distance > 10 * eps ? 16 : 4) * distance + s.floor_estimate;
  if (!chains.good) s.error_estimate = std::max(s.error_estimate, chains.unexplained);
  if (chains.singular || !chains.converged || !chains.seen || !(s.error_estimate <= 1))
    s.error_estimate = std::max(1.0, s.error_estimate);
  if (std::isnan(s.error_estimate)) s.error_estimate = infinity;
  s.report.iterations = std::max(1, s.newton_steps);
  s.report.tolerance = tolerance;
  s.report.residual = std::max({s.residual, s.boundary_residual, distance});
  const bool fine = chains.good && chains.converged && chains.seen &&
                    s.report.residual <= tolerance && s.error_estimate <= 1e4 * tolerance;
  s.report.status = !std::isfinite(s.report.residual) ? Status::not_finite
                    : fine                            ? Status::converged
                                                      : Status::stagnated;
  if (!chains.resolved)
    s.warnings.emplace_back(
        "the forcing or boundary data are not resolved by their sampling: a jump, a kink, or "
        "samples that are noisy or too coarse for their highest frequency");
  if (!fine && chains.resolved && chains.converged && !chains.singular)
    s.warnings.push_back(chains.seen
                             ? unexplained(s.residual, s.boundary_residual, distance, tolerance)
                             : "a spike of the forcing or of a coefficient is not resolved");
  if (!chains.converged)
    s.warnings.emplace_back("Newton's method did not converge: start it nearer, by a guess");
  if (chains.singular)
    s.warnings.emplace_back(
        "the operator is singular to working precision (a resonance, or conditions that do not "
        "determine u)");
  const Plan& plan = chains.plans.front();
  for (Size k = 0; k < c.dimension(); ++k) {
    const la::FourierBasis& basis = *plan.disc[0].basis[k];
    AxisInfo axis_info;
    axis_info.bands = plan.disc[0].bands[k];
    axis_info.features = basis.features();
    axis_info.modes = basis.size();
    axis_info.nodes = c.options.nodes_per_axis.empty() ? static_cast<Size>(basis.nodes().size())
                                                       : c.options.nodes_per_axis[k];
    axis_info.smallest_pivot = basis.smallest_pivot();
    axis_info.spectrum = plan.found.spectra[k].amplitude;
    for (std::size_t i = 0; i < axis_info.spectrum.size(); ++i)
      axis_info.spectrum_frequency.push_back(plan.found.spectra[k].bin * static_cast<double>(i));
    s.axes.push_back(std::move(axis_info));
  }
  return result;
}

}  // namespace halfulp::gp_pde::detail
