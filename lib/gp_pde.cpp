#include "halfulp/gp_pde.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "detail/pde_bands.hpp"
#include "detail/pde_box.hpp"
#include "detail/pde_coefficients.hpp"
#include "detail/pde_discretisation.hpp"
#include "detail/pde_line.hpp"
#include "detail/pde_problem.hpp"
#include "detail/pde_quality.hpp"
#include "detail/pde_slabs.hpp"
#include "detail/pde_solution.hpp"
#include "detail/setup_cache.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/error.hpp"

namespace halfulp::gp_pde {

using namespace detail;

std::vector<double> Solution::on_grid(std::span<const std::vector<double>> points,
                                      std::span<const int> order) const {
  const Size d = impl->dimension();
  if (static_cast<Size>(points.size()) != d)
    throw ShapeError("gp_pde::Solution::on_grid", "points.size()", static_cast<Size>(points.size()),
                     d);
  if (static_cast<Size>(order.size()) != d)
    throw ShapeError("gp_pde::Solution::on_grid", "orders.size()", static_cast<Size>(order.size()),
                     d);
  for (Size k = 0; k < d; ++k)
    if (order[k] < 0 || order[k] > highest_order)
      throw DomainError("gp_pde::Solution::on_grid", "orders", order[k], "0, 1, 2, 3 or 4");
  if (impl->line) return impl->line->values(points[0], order[0]);
  std::vector<Points> exact;
  for (const auto& axis : points) exact.emplace_back(axis.begin(), axis.end());
  if (impl->box) return impl->box->values(exact, order);
  if (impl->slabs) return impl->slabs->on_grid(points, order);
  const la::DdMatrix v = impl->field.values(exact, order);
  std::vector<double> out(v.rows() * v.cols());
  for (Size i = 0; i < v.rows(); ++i)
    for (Size j = 0; j < v.cols(); ++j) out[i * v.cols() + j] = v(i, j).hi;
  return out;
}

namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();
constexpr double infinity = std::numeric_limits<double>::infinity();
/// What rounding leaves of a residual in double, relative.
constexpr double line_rounding = 32 * eps;
void report_progress(const Checked& c, double fraction, const char* phase) {
  if (c.options.progress && !c.options.progress(fraction, phase)) throw Cancelled("gp_pde::Solver");
}

}  // namespace

namespace detail {

// Derivatives along each axis that the equation and the conditions have.
std::array<int, 2> highest_orders(const Checked& c) {
  std::array<int, 2> highest{0, 0};
  for (Size k = 0; k < std::min<Size>(2, c.dimension()); ++k) {
    highest[k] = c.axis[k].order;
    if (c.newton)
      for (const auto& order : c.newton->orders) highest[k] = std::max(highest[k], order[k]);
    for (const auto& [order, value] : c.op.coefficients)
      highest[k] = std::max(highest[k], order[k]);
  }
  return highest;
}

// Points that the discretisation did not use (the samples, where the forcing is samples). In 2-D
// some eight thousand scattered ones tell the mean square; they are dense near the sides, where
// residuals are largest.
GridEvaluator residual_points(const Checked& c, const RightHandSide& rhs, const Field& field) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k) {
    const auto n = static_cast<Size>(field.basis[k]->nodes().size());
    grid.push_back(rhs.sampled ? rhs.axes[k]
                   : c.dimension() == 1
                       ? make_nodes(Nodes::uniform, c.end(k, 0), c.end(k, 1), n + 7)
                       : make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), 90));
  }
  return {field, std::move(grid), highest_orders(c)};
}

namespace {

// The equation less its forcing at the points of an evaluator; `largest_term` takes the root mean
// square of its largest term.
la::DdMatrix left_side(const Checked& c, const Field& field, const GridEvaluator& evaluator,
                       double& largest_term) {
  const std::vector<Points>& grid = evaluator.grid();
  la::DdMatrix sum;
  if (c.newton) {
    const PointwiseEquation equation(c, true);
    std::vector<la::DdMatrix> fields;
    for (const auto& order : equation.orders()) fields.push_back(evaluator.values(field, order));
    sum = equation.value(grid, fields, c.threads);
    const auto slope = equation.partial(grid, fields, c.threads);
    for (std::size_t k = 0; k < fields.size(); ++k) {  // terms of the equation's derivative
      for (std::size_t i = 0; i < slope[k].size(); ++i) fields[k].hi(0)[i] *= slope[k][i];
      largest_term = std::max(largest_term, rms(fields[k]));
    }
    return sum;
  }
  for (const auto& [order, value] : c.op.coefficients) {
    la::DdMatrix term = evaluator.values(field, order);
    if (value.is_constant()) {
      la::scale(term.rows() * term.cols(), value.constant(), term.hi(0), term.lo(0));
    } else {
      const la::DdMatrix v = sample(Program<dd>(value, c.names), grid, c.threads);
      for (Size j = 0; j < term.cols(); ++j)
        for (Size i = 0; i < term.rows(); ++i) term.set(i, j, term(i, j) * v(i, j));
    }
    largest_term = std::max(largest_term, rms(term));
    sum = sum.rows() == 0 ? std::move(term) : add_scaled(std::move(sum), 1.0, term);
  }
  return sum;
}

}  // namespace

Quality measure(const Checked& c, const RightHandSide& rhs, const Field& field,
                const GridEvaluator& evaluator) {
  const Size d = c.dimension();
  const std::vector<int> zero(d, 0);
  const std::vector<Points>& grid = evaluator.grid();
  Quality q;
  const la::DdMatrix f = rhs.sampled ? rhs.on_samples() : rhs.on(grid);
  q.scale = rms(f);
  for (const double value : f.rounded()) q.largest = std::max(q.largest, std::fabs(value));
  const double u_size = rms(evaluator.values(field, zero));
  const la::DdMatrix residual = add_scaled(left_side(c, field, evaluator, q.scale), -1.0, f);
  q.residual = relative(rms(residual), q.scale);
  q.boundary = 0;
  for (const Condition& condition : c.conditions) {
    const Size k = condition.axis;
    std::vector<Points> points = grid;
    points[k] = {c.end(k, condition.side)};
    std::vector<int> order = zero;
    la::DdMatrix g = condition_values(c, condition, points[d - 1 - k]);
    if (k == 1) g = la::transpose(g);
    la::DdMatrix defect(g.rows(), g.cols());
    // Relative to the data or, where those vanish, to the field.
    double scale = rms(g), length = 1;
    for (int j = 0; j <= condition.order(); ++j, length *= c.length(k).hi) {
      const double factor = condition.coefficients[j];
      if (factor == 0) continue;
      order[k] = j;
      const la::DdMatrix u = field.values(points, order);
      defect = add_scaled(std::move(defect), factor, u);
      scale = std::max(scale, std::fabs(factor) * u_size / length);
      if (j > 0) scale = std::max(scale, std::fabs(factor) * rms(u));
    }
    defect = add_scaled(std::move(defect), -1.0, g);
    const double value = relative(rms(defect), scale);
    if (!(value <= q.boundary)) q.boundary = value;
  }
  if (std::isnan(q.residual) || std::isnan(q.boundary)) q.residual = q.boundary = infinity;
  return q;
}

std::vector<Points> comparison_grid(const Checked& c) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k)
    grid.push_back(
        make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), c.dimension() == 1 ? 502 : 130));
  return grid;
}

}  // namespace detail

namespace {

// ||u - v|| / ||v||
double difference(const Checked& c, const Field& u, const Field& v) {
  const std::vector<Points> grid = comparison_grid(c);
  const std::vector<int> zero(c.dimension(), 0);
  const la::DdMatrix a = u.values(grid, zero), b = v.values(grid, zero);
  const double value = relative(rms(add_scaled(a, -1.0, b)), rms(b));
  return std::isnan(value) ? infinity : value;
}

// Gives a solution that is free up to a constant its mean: that of the exact solution where known,
// else zero.
void fix_mean(const Checked& c, Field& u) {
  if (!c.singular) return;
  std::vector<Points> grid;
  for (const auto& basis : u.basis) grid.push_back(basis->nodes());
  const auto mean = [&](const la::DdMatrix& v) {
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
  GridEvaluator evaluator;                   // residuals of repeated solves
  std::optional<BoxSolver> box;              // solves in double
  std::shared_ptr<const LineOperator> line;  // likewise, in one dimension
  double line_distance = 0;                  // from the solution in double-double, relative L2
  /// The forcing that `line` was last asked for, compiled.
  struct Prepared {
    Expression forcing;
    RightHandSide rhs;
    double error = 0;  // LineOperator::formula_error
  };
  std::optional<Prepared> prepared;
  bool planned = false;
  double sample_error = 0;    // of the fit between the samples of the forcing, relative
  bool data_seen = true;      // no spike of the forcing hides between the points of the residual
  bool equation_seen = true;  // and none of its coefficients
  double error_estimate = infinity;

  struct Candidate {
    Discretisation disc;
    Field field;
    Quality quality;
    GridEvaluator evaluator;
  };

  [[nodiscard]] Field solve_on(const Discretisation& d, const RightHandSide& rhs,
                               const Field* start, Timings& timings) const {
    Field field = d.solve(checked, rhs, start, timings);
    fix_mean(checked, field);
    return field;
  }

  void measure_candidate(Candidate& candidate, const RightHandSide& rhs, Timings& timings) const {
    Stopwatch watch(timings);
    candidate.evaluator = residual_points(checked, rhs, candidate.field);
    candidate.quality = measure(checked, rhs, candidate.field, candidate.evaluator);
    watch.lap("residual");
  }

  [[nodiscard]] Candidate attempt(const std::vector<std::vector<Band>>& bands,
                                  const RightHandSide& rhs, const Discretisation::Choice& choice,
                                  const Field* start, Timings& timings) const {
    return solved(Discretisation(checked, bands, choice, timings), rhs, start, timings);
  }

  [[nodiscard]] Candidate solved(Discretisation disc, const RightHandSide& rhs, const Field* start,
                                 Timings& timings) const {
    Candidate candidate{std::move(disc), {}, {}, {}};
    candidate.field = solve_on(candidate.disc, rhs, start, timings);
    return candidate;
  }

  [[nodiscard]] double tolerance() const {
    return checked.options.tolerance > 0 ? checked.options.tolerance : 1e-10;
  }

  [[nodiscard]] bool data_resolved() const {
    return data_seen && sample_error <= 1e-9 &&
           std::all_of(spectra.begin(), spectra.end(), [](const auto& s) { return s.resolved; });
  }

  // Bands of the residual: what the equation makes of the solution's frequencies (sums of them,
  // where it is nonlinear) and the modes do not have.
  [[nodiscard]] std::vector<Band> residual_bands(const RightHandSide& rhs, const Candidate& of,
                                                 Size k) const {
    const Checked& c = checked;
    const Size d = c.dimension();
    double top = 0;
    for (const Band& b : of.disc.bands[k]) top = std::max(top, b.upper);
    Size n = 512;  // three times the highest frequency and the falloff
    while (static_cast<double>(n) < 6 * (top * c.length(k).hi / two_pi + 15) && n < 65536) n *= 2;
    std::vector<Points> grid(d);
    for (Size i = 0; i < n; ++i)
      grid[k].push_back(c.end(k, 0) +
                        c.length(k) * (dd(static_cast<double>(i)) / static_cast<double>(n)));
    for (Size i = 0; d == 2 && i < 8; ++i) {
      const double t = 0.5 + 0.6180339887498949 * static_cast<double>(i + 1);
      grid[1 - k].push_back(c.end(1 - k, 0) + c.length(1 - k) * (t - std::floor(t)));
    }
    double scale = of.quality.scale;
    la::DdMatrix lines =
        left_side(c, of.field, GridEvaluator(of.field, grid, highest_orders(c)), scale);
    lines = add_scaled(std::move(lines), -1.0, of.disc.data_on(rhs, grid));
    if (k == 1) lines = la::transpose(lines);
    return bands_of_lines(c, lines, k, 1e-14 * scale);
  }

  // What to try next when the residual says that the bands do not suffice: first those of solutions
  // of the homogeneous equation, then everything up to the highest frequency, then further.
  [[nodiscard]] std::vector<std::vector<Band>> wider(const std::vector<std::vector<Band>>& bands,
                                                     int round) const {
    const Size d = checked.dimension();
    std::vector<std::vector<Band>> next = bands;
    for (Size k = 0; k < d; ++k) {
      if (round == 0) {
        std::vector<Band> across = d == 2 ? bands[1 - k] : std::vector<Band>{};
        across.push_back({0, 0});
        const auto more = symbol_bands(checked, k, across);
        next[k].insert(next[k].end(), more.begin(), more.end());
      } else {
        double top = 0;
        for (const Band& b : bands[k]) top = std::max(top, b.upper);
        const double bin = two_pi / checked.length(k).hi;
        next[k] = {{0, round == 1 ? std::max(top, 16 * bin) : 1.7 * top}};
      }
    }
    return next;
  }

  Field plan(const RightHandSide& rhs, Quality& quality, Timings& timings) {
    const Checked& c = checked;
    const Size d = c.dimension();
    // A Matern prior is one band about zero: it knows no other frequency, and is not widened.
    const bool given = !c.options.bands.empty() || c.options.kernel == KernelType::matern;
    report_progress(c, 0.05, "inferring bands");
    Stopwatch watch(timings);
    std::vector<std::vector<Band>> bands(d);
    for (Size k = 0; k < d; ++k) {
      spectra.push_back(infer_spectrum(c, rhs, k));
      if (!c.options.bands.empty())
        bands[k] = c.options.bands[k];
      else if (!given)
        // What a nonlinear equation makes of the solution's frequencies is in its forcing as well,
        // and need not be in the solution: begin with what stands out, the residual tells the rest.
        bands[k] = c.newton && !c.newton->linear
                       ? la::find_bands(spectra[k].amplitude, 1e-3, spectra[k].bin)
                       : spectra[k].bands;
    }
    watch.lap("spectrum");
    // Two fits of the samples, one a discretisation: their distance counts as an error too.
    std::shared_ptr<const SampleFit> samples[2];
    if (rhs.sampled) {
      std::vector<std::vector<Band>> own;
      for (const Spectrum& s : spectra) own.push_back(s.sample_bands);
      for (int i = 0; i < 2; ++i)
        samples[i] = std::make_shared<const SampleFit>(c, rhs, own, i == 0 ? 1.0 : 1.25);
      sample_error = samples[0]->rest();
      watch.lap("samples");
    }
    // Data that no sampling resolves converge algebraically: more modes than this buy no digit.
    const Size affordable = data_resolved() ? (d == 1 ? 640 : 400) : (d == 1 ? 320 : 200);
    const Size most = std::min<Size>(c.options.max_modes, affordable);
    bool reachable = data_resolved();  // within the modes
    for (Size k = 0; k < d; ++k) {
      if (given) continue;
      // With the homogeneous solutions' own frequencies among the modes a resonance shows.
      if (d == 1) {
        const auto own = oscillation_bands(c);
        bands[k].insert(bands[k].end(), own.begin(), own.end());
      }
      if (!fit_to_modes(bands[k], c.length(k).hi, static_cast<double>(most))) reachable = false;
    }
    // What enters at a time or an end goes on at the frequencies that the equation gives it.
    if (c.strong && !given && reachable) {
      constexpr double few = 200;
      const auto data = bands;
      for (Size k = 0; k < d; ++k) {
        std::vector<Band> across = data[1 - k];
        across.push_back({0, 0});
        std::vector<Band> more = symbol_bands(c, k, across);
        more.insert(more.end(), bands[k].begin(), bands[k].end());
        if (modes_of(more, c.length(k).hi) <= few) bands[k] = std::move(more);
      }
    }
    report_progress(c, 0.2, "solving");
    // A second discretisation: its distance is the error estimate.
    const std::array<Discretisation::Choice, 2> choices{
        {{12, most, samples[0]}, {15, most, samples[1]}}};
    // Where the modes do not suffice, a narrower band tells how far they are; fewer modes of the
    // same band are no basis of it.
    auto second = bands;
    for (Size k = 0; k < d && !reachable; ++k)
      std::ignore = fit_to_modes(second[k], c.length(k).hi, 0.75 * static_cast<double>(most));
    std::array<Discretisation, 2> pair;
    two_at_once(c.threads, timings, [&](int i, Timings& t) {
      pair[i] = Discretisation(c, i == 0 ? bands : second, choices[i], t);
    });
    Candidate best = solved(std::move(pair[0]), rhs, nullptr, timings);
    measure_candidate(best, rhs, timings);
    report_progress(c, 0.5, "estimating the error");
    {
      Candidate check =
          solved(std::move(pair[1]), rhs, best.field.converged ? &best.field : nullptr, timings);
      error_estimate = difference(c, best.field, check.field);
      if (!good(best.quality)) {
        measure_candidate(check, rhs, timings);
        if (check.quality.worst() < best.quality.worst()) best = std::move(check);
      }
    }
    // Wider bands help neither unresolved data, nor what the user has fixed, nor what the modes
    // cannot reach.
    for (int round = 0; round < 4 && !good(best.quality) && !given && reachable; ++round) {
      report_progress(c, 0.6 + 0.1 * round, "widening the bands");
      const auto last = bands;
      if (c.newton && round < 3) {
        for (Size k = 0; k < d; ++k) {
          const auto more = residual_bands(rhs, best, k);
          bands[k].insert(bands[k].end(), more.begin(), more.end());
          bands[k] = la::merge_bands(std::move(bands[k]), 2 * two_pi / c.length(k).hi);
        }
      } else {
        bands = wider(bands, round);
      }
      // What is cut off shows in the residual.
      for (Size k = 0; k < d; ++k)
        std::ignore = fit_to_modes(bands[k], c.length(k).hi, static_cast<double>(most));
      if (same_bands(last, bands)) continue;
      Candidate next = attempt(bands, rhs, {15, most, samples[1]},
                               best.field.converged ? &best.field : nullptr, timings);
      measure_candidate(next, rhs, timings);
      error_estimate = difference(c, best.field, next.field);
      if (next.quality.worst() < best.quality.worst()) best = std::move(next);
    }
    data_seen =
        rhs.sampled || rhs.negligible || best.quality.largest >= 0.5 * largest_value(c, rhs);
    equation_seen = coefficients_seen(c, best.field, best.evaluator);
    disc = std::move(best.disc);
    evaluator = std::move(best.evaluator);
    quality = best.quality;
    planned = true;
    report_progress(c, 1, "solved");
    return std::move(best.field);
  }

  [[nodiscard]] bool in_double() const {
    return checked.dimension() == 3 ||
           (checked.dimension() == 2 && !checked.strong &&
            checked.options.precision == Precision::double_ && diagonalisable(checked));
  }

  // One dimension in double, once the plan in double-double is good: the fewest modes that give the
  // plan's solution back to rounding. Nothing where no choice does, or where double does not apply.
  std::optional<LineField> plan_line(const RightHandSide& rhs, const Field& reference,
                                     Quality& quality, Timings& timings) {
    const Checked& c = checked;
    if (c.dimension() != 1 || c.options.precision != Precision::double_ || c.newton ||
        rhs.sampled || c.start_data || !c.options.nodes_per_axis.empty() || reference.singular ||
        !good(quality) || !data_resolved() || !equation_seen)
      return std::nullopt;
    std::vector<Points> grid = comparison_grid(c);
    std::vector<double> x;
    for (dd& p : grid[0]) x.push_back((p = p.hi).hi);
    const int zero[] = {0};
    const la::DdMatrix there = reference.values(grid, zero);
    // Frames on an axis eight times as long take the fewest functions for the digits of a double:
    // n frequencies a side of a tone leave cot^(2n)(pi / (4 T)), 1e-16 for T = 8 and n = 8
    // (Adcock, Huybrechs 2019, section 4). What they gain they lose in breadth: the band must be
    // known within a bin.
    struct Choice {
      double extension, margin;
    };
    for (const Choice choice : {Choice{8, 1}, Choice{8, 2}, Choice{2, 12}}) {
      Stopwatch watch(timings);
      const bool own = choice.extension > 2 && !c.axis[0].periodic;
      if (choice.extension > 2 && !own) continue;
      std::shared_ptr<const la::FourierBasis> basis = disc.basis[0];
      if (own) {
        la::BasisOptions o = line_basis_options(c);
        o.extension = choice.extension;
        o.margin = choice.margin;
        o.max_modes = c.options.max_modes;
        basis = la::make_basis(c.end(0, 0), c.end(0, 1), disc.bands[0], o, c.cache.get());
      }
      auto candidate = std::make_shared<const LineOperator>(c, basis, disc.exponentials());
      watch.lap("operator");
      if (!candidate->determined()) continue;
      LineQuality seen;
      LineField field = candidate->solve(rhs, candidate->formula_error(rhs), seen, timings);
      field.line = candidate;
      const Quality found{seen.residual, seen.scale, seen.boundary, seen.largest};
      const std::vector<double> values = field.values(x, 0);
      la::DdMatrix change(there.rows(), 1);
      for (Size i = 0; i < change.rows(); ++i) change.set(i, 0, there(i, 0) - values[i]);
      const double distance = relative(rms(change), rms(there));
      const bool to_rounding = distance <= 3 * field.floor && found.residual <= line_rounding;
      if (!(found.worst() <= tolerance() && distance <= tolerance()) || (own && !to_rounding))
        continue;
      line = std::move(candidate);
      line_distance = distance;
      quality = found;
      return field;
    }
    return std::nullopt;
  }

  // A plan's first solution has the spectra; later ones infer nothing and are not to copy them.
  [[nodiscard]] Solution first(Solution s) {
    for (Spectrum& spectrum : spectra) spectrum.amplitude.clear();
    return s;
  }

  void prepare(const Expression& forcing, RightHandSide rhs) {
    const double error = line->formula_error(rhs);
    prepared.emplace(Prepared{forcing, std::move(rhs), error});
  }

  [[nodiscard]] Solution::Impl lined(LineField solved) const {
    Field facts;
    facts.condition = disc.condition;
    facts.smallest_eigenvalue = disc.smallest_eigenvalue;
    facts.singular = disc.singular;
    return {std::move(facts), {}, {}, std::move(solved)};
  }

  // Samples on other axes than the plan's, or after a plan for formulas: a fit of their own.
  void prepare_samples(const RightHandSide& rhs, Timings& timings) {
    Stopwatch watch(timings);
    const Checked& c = checked;
    if (!disc.ready())
      disc = Discretisation(c, disc.bands, {12, c.options.max_modes, nullptr}, timings);
    if (disc.fits(rhs)) {
      sample_error = disc.samples().rest();
      return;
    }
    std::vector<std::vector<Band>> own;
    bool resolved = true;
    for (Size k = 0; k < c.dimension(); ++k) {
      const SampleSpectrum s = sample_spectrum(c, rhs, k);
      own.push_back(s.bands);
      resolved = resolved && s.resolved;
    }
    auto fit = std::make_shared<const SampleFit>(c, rhs, own, 1.0);
    sample_error = resolved ? fit->rest() : 1.0;
    disc.take(std::move(fit));
    watch.lap("samples");
  }

  [[nodiscard]] Quality measure_box(const RightHandSide& rhs, const BoxField& field,
                                    Timings& timings) const {
    Stopwatch watch(timings);
    const BoxQuality q = box->measure(checked, rhs, field);
    watch.lap("residual");
    return {q.residual, q.scale, q.boundary, q.largest};
  }

  [[nodiscard]] Solution::Impl boxed(BoxField solved) const {
    Field field;
    field.condition = box->condition;
    field.smallest_eigenvalue = box->smallest_eigenvalue;
    field.singular = !(box->condition < 1e15);  // eigenvalues are known to rounding of the largest
    return {std::move(field), std::move(solved), {}};
  }

  BoxField plan_in_double(const RightHandSide& rhs, Quality& quality, Timings& timings) {
    BoxPlan plan = plan_box(checked, rhs, tolerance(), timings);
    spectra = std::move(plan.spectra);
    disc.basis = std::move(plan.basis);
    disc.bands = std::move(plan.bands);
    const BoxQuality& q = plan.quality;
    quality = {q.residual, q.scale, q.boundary, q.largest};
    error_estimate = plan.error_estimate;
    data_seen = plan.data_seen;
    box = std::move(plan.solver);
    planned = true;
    return std::move(plan.field);
  }

  [[nodiscard]] bool good(const Quality& quality) const {
    return quality.worst() <= tolerance() && error_estimate <= tolerance();
  }

  // Root mean square of a solution.
  [[nodiscard]] double size_of(const Solution::Impl& solution) const {
    if (solution.line) return solution.line->rms;
    const std::vector<int> zero(checked.dimension(), 0);
    if (!solution.box) return rms(solution.field.values(comparison_grid(checked), zero));
    return solution.box->rms();
  }

  void report_cache(Solution& s) const {
    if (!checked.cache) return;
    s.cache_hits = checked.cache->hits();
    s.cache_misses = checked.cache->misses();
    if (const std::string problem = checked.cache->problem(); !problem.empty())
      s.warnings.push_back(problem);
  }

  [[nodiscard]] Solution finish(Solution::Impl solution, const Quality& quality,
                                const RightHandSide& rhs, Timings timings) const {
    const Checked& c = checked;
    const Field& field = solution.field;
    const Size d = c.dimension();
    Solution s;
    s.residual = quality.residual;
    s.residual_scale = quality.scale;
    s.boundary_residual = quality.boundary;
    s.condition = field.condition;
    s.timings = std::move(timings);

    // Rounding of the result and, for samples, their noise: what the fit leaves over, through the
    // smallest eigenvalue. Rounding errors of a sampled formula repeat along an axis where the
    // formula does, so that they average over one axis at most; the factor 3 covers what is left of
    // their correlation.
    s.floor_estimate = eps / 2;
    // Galerkin matrices have the rounding of the last modes' derivatives.
    for (Size k = 0; k < d && d > 1; ++k)
      s.floor_estimate =
          std::max(s.floor_estimate, eps / 2 + eps * eps / 4 / disc.basis[k]->smallest_pivot());
    if (rhs.sampled) {
      double count = infinity, freedom = 1;
      for (Size k = 0; k < d; ++k) {
        const auto n = static_cast<double>(rhs.axes[k].size());
        count = std::min(count, n);
        freedom *= 1 - static_cast<double>(disc.samples().size(k)) / n;
      }
      const double noise =
          quality.scale * std::max(eps / 4, quality.residual / std::sqrt(std::max(0.05, freedom)));
      const double response = field.smallest_eigenvalue * size_of(solution);
      if (response > 0) s.floor_estimate += 3 * noise / (response * std::sqrt(count));
    }
    // In double the forcing is rounded as samples are, and so are the products.
    if (solution.box) {
      double count = infinity;
      for (const auto& axis : solution.box->axes)
        count = std::min(count, static_cast<double>(axis->nodes.size()));
      const double response = field.smallest_eigenvalue * size_of(solution);
      if (response > 0) s.floor_estimate += eps * quality.scale / (response * std::sqrt(count));
    }
    double distance = error_estimate;
    if (solution.line) {
      // Estimated for this forcing; measured, against double-double, for the plan's.
      s.floor_estimate = std::max(solution.line->floor, line_distance);
      distance = std::max(distance, line_distance);
    }
    // The second discretisation has an error as well, a fraction of the first's: factor 4.
    s.error_estimate = 4 * error_estimate + (solution.line ? 3 : 1) * s.floor_estimate;
    // Both discretisations fulfil u_t = g at a start up to what the modes leave of it.
    if (c.strong) s.error_estimate = std::max(s.error_estimate, quality.boundary);
    // Two discretisations that both miss the same thing agree. Where the residual is not small, it
    // counts as well, through the smallest eigenvalue.
    if (!good(quality) || !data_resolved() || !equation_seen || field.singular ||
        !field.converged) {
      const double size = size_of(solution);
      const double response =
          relative(std::max(quality.residual * quality.scale, sample_error * quality.largest),
                   field.smallest_eigenvalue * size);
      s.error_estimate = std::max({s.error_estimate, quality.boundary, response});
      if (field.singular || !field.converged || !data_seen || !equation_seen ||
          !(s.error_estimate <= 1))
        s.error_estimate = std::max(1.0, s.error_estimate);
    }
    s.newton_steps = field.newton_steps;
    s.report.iterations = std::max(1, field.newton_steps);
    s.report.tolerance = tolerance();
    s.report.residual = std::max(quality.worst(), distance);
    s.report.status = !std::isfinite(s.report.residual) ? Status::not_finite
                      : !good(quality) || !data_resolved() || field.singular || !field.converged ||
                              !(s.error_estimate <= 1e4 * tolerance())
                          ? Status::stagnated
                          : Status::converged;
    if (!data_resolved())
      s.warnings.push_back(
          rhs.sampled
              ? "the forcing is not resolved by its samples: they are noisy (noise = \"learn\" "
                "takes them so), or too coarse for their highest frequency, or have a jump or kink"
              : "the forcing or boundary data are not resolved by their sampling: a jump or a "
                "kink");
    if (!equation_seen) s.warnings.emplace_back(coefficient_unseen);
    if (s.report.status != Status::converged && data_resolved() && equation_seen &&
        field.converged && !field.singular)
      s.warnings.push_back(
          unexplained(quality.residual, quality.boundary, error_estimate, tolerance()));
    if (!field.converged)
      s.warnings.push_back("Newton's method did not converge: start it nearer, by a guess");
    if (field.singular)
      s.warnings.push_back(
          "the operator is singular to working precision (a resonance, or conditions that do not "
          "determine u)");
    else if (field.condition > 1e12)
      s.warnings.push_back("the operator is nearly singular: errors of the data are much enlarged");
    if (c.singular)
      s.warnings.push_back(
          c.problem.exact ? "u is free up to a constant: its mean is that of the exact solution"
                          : "u is free up to a constant: its mean is set to zero");
    for (Size k = 0; k < d; ++k) {
      AxisInfo info;
      info.bands = disc.bands[k];
      const la::FourierBasis& basis = solution.line ? solution.line->line->basis() : *disc.basis[k];
      info.features = basis.features();
      info.modes = basis.size();
      info.nodes = rhs.sampled                         ? static_cast<Size>(rhs.axes[k].size())
                   : !c.options.nodes_per_axis.empty() ? c.options.nodes_per_axis[k]
                   : solution.line                     ? solution.line->line->nodes()
                                   : static_cast<Size>(disc.basis[k]->nodes().size());
      info.smallest_pivot = basis.smallest_pivot();
      info.spectrum = spectra[k].amplitude;
      for (std::size_t i = 0; i < info.spectrum.size(); ++i)
        info.spectrum_frequency.push_back(spectra[k].bin * static_cast<double>(i));
      s.axes.push_back(std::move(info));
    }
    report_cache(s);
    s.impl = std::make_shared<Solution::Impl>(std::move(solution));
    return s;
  }
};

Solver::Solver(Problem problem, Options options) : impl_(std::make_shared<Impl>()) {
  impl_->checked = check(std::move(problem), remembering(std::move(options)));
  const Options& o = impl_->checked.options;
  if (!o.cache.empty())
    impl_->checked.cache = std::make_shared<la::SetupCache>(o.cache, o.cache_limit);
}

Solution Solver::solve() { return solve(impl_->checked.problem.forcing); }

Solution Solver::solve(const std::variant<Expression, GridSamples>& forcing) {
  if (const auto* formula = std::get_if<Expression>(&forcing); formula && impl_->line) {
    auto& ready = impl_->prepared;
    // A node that is held is the only one at its address.
    if (!ready || ready->forcing.node() != formula->node())
      impl_->prepare(*formula, RightHandSide(impl_->checked, forcing));
    LineQuality seen;
    Timings timings;
    impl_->sample_error = 0;
    LineField solved = impl_->line->solve(ready->rhs, ready->error, seen, timings);
    solved.line = impl_->line;
    const Quality quality{seen.residual, seen.scale, seen.boundary, seen.largest};
    // What these few modes lack for another forcing, the plan's in double-double may have.
    if (quality.residual <= line_rounding && quality.boundary <= impl_->tolerance())
      return impl_->finish(impl_->lined(std::move(solved)), quality, ready->rhs,
                           std::move(timings));
  }
  if (impl_->checked.options.slabs != 1) {
    const auto* formula = std::get_if<Expression>(&forcing);
    if (!formula && impl_->checked.options.slabs != 0)
      throw DomainError("gp_pde::Solver", "forcing", "samples", "a formula, with options.slabs");
    const auto planner = [](const Checked& c, const RightHandSide& rhs, Timings& timings) {
      Impl one;
      one.checked = c;
      Quality quality;
      (void)one.plan(rhs, quality, timings);
      return SlabPlan{one.disc.bands, one.spectra, one.data_resolved(), one.good(quality)};
    };
    std::optional<SlabResult> slabs;
    if (formula) slabs = solve_in_slabs(impl_->checked, *formula, impl_->tolerance(), planner);
    if (slabs) {
      Solution s = std::move(slabs->solution);
      impl_->report_cache(s);
      s.impl = std::make_shared<Solution::Impl>(Solution::Impl{{}, {}, std::move(slabs->field)});
      return s;
    }
  }
  const RightHandSide rhs(impl_->checked, forcing);
  Quality quality;
  Timings timings;
  Field field;
  if (!impl_->planned) {
    if (impl_->in_double()) {
      Solution::Impl solved = impl_->boxed(impl_->plan_in_double(rhs, quality, timings));
      return impl_->first(impl_->finish(std::move(solved), quality, rhs, std::move(timings)));
    }
    field = impl_->plan(rhs, quality, timings);
    if (auto line = impl_->plan_line(rhs, field, quality, timings)) {
      Solution s = impl_->finish(impl_->lined(std::move(*line)), quality, rhs, std::move(timings));
      impl_->prepare(std::get<Expression>(forcing), rhs);
      return impl_->first(std::move(s));
    }
    return impl_->first(impl_->finish({std::move(field), {}}, quality, rhs, std::move(timings)));
  }
  impl_->sample_error = 0;
  if (impl_->box && !rhs.sampled) {
    BoxField solved = impl_->box->solve(impl_->checked, rhs, timings);
    quality = impl_->measure_box(rhs, solved, timings);
    return impl_->finish(impl_->boxed(std::move(solved)), quality, rhs, std::move(timings));
  }
  if (rhs.sampled) impl_->prepare_samples(rhs, timings);
  field = impl_->solve_on(impl_->disc, rhs, nullptr, timings);
  Stopwatch watch(timings);
  if (rhs.sampled)
    quality = measure(impl_->checked, rhs, field, residual_points(impl_->checked, rhs, field));
  else
    quality = measure(impl_->checked, rhs, field, impl_->evaluator);
  watch.lap("residual");
  return impl_->finish({std::move(field), {}}, quality, rhs, std::move(timings));
}

Solution solve(Problem problem, Options options) {
  return Solver(std::move(problem), std::move(options)).solve();
}

}  // namespace halfulp::gp_pde
