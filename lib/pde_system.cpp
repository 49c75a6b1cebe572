#include "halfulp/pde_system.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "detail/pde_bands.hpp"
#include "detail/pde_coefficients.hpp"
#include "detail/pde_solution.hpp"
#include "detail/pde_system.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/error.hpp"

namespace halfulp::gp_pde {

using namespace detail;

namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();
constexpr double infinity = std::numeric_limits<double>::infinity();

double relative(double value, double scale) { return scale > 0 ? value / scale : value; }

/// Of equation i and field i.
struct Quality {
  std::vector<double> residual, boundary;  // relative
  std::vector<double> scale, largest;      // of the equation, of its source
  [[nodiscard]] double worst() const {
    double value = 0;
    for (const double x : residual) value = std::max(value, x);
    for (const double x : boundary) value = std::max(value, x);
    return value;
  }
};

// Left sides of all equations at the points of an evaluator; `scale` takes the root mean square of
// the largest term of each.
std::vector<la::DdMatrix> left_sides(const CheckedSystem& c, const PointwiseSystem& pointwise,
                                     const std::vector<Field>& fields,
                                     const GridEvaluator& evaluator, std::vector<double>& scale) {
  std::vector<la::DdMatrix> terms;
  for (const Size t : pointwise.terms())
    terms.push_back(evaluator.values(fields[c.terms[t].field], c.terms[t].order));
  const auto slope = pointwise.partial(evaluator.grid(), terms, false, c.threads);
  for (Size i = 0; i < c.fields(); ++i)
    for (std::size_t t = 0; t < terms.size(); ++t) {
      if (slope[i][t].rows() == 0) continue;
      la::DdMatrix part = slope[i][t];
      for (Size p = 0; p < part.rows() * part.cols(); ++p) part.hi(0)[p] *= terms[t].hi(0)[p];
      scale[i] = std::max(scale[i], rms(part));
    }
  return pointwise.value(evaluator.grid(), terms, c.threads);
}

// Points that the discretisation did not use.
GridEvaluator residual_points(const CheckedSystem& c, const std::vector<Field>& fields) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k) {
    const auto n = static_cast<Size>(fields[0].basis[k]->nodes().size());
    grid.push_back(c.dimension() == 1 ? make_nodes(Nodes::uniform, c.end(k, 0), c.end(k, 1), n + 7)
                                      : make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), 90));
  }
  return {fields[0], std::move(grid)};
}

// Root mean square of each field or, of one that vanishes next to the others, theirs.
std::vector<double> sizes_of(const std::vector<la::DdMatrix>& values,
                             const std::vector<double>& field_scale) {
  constexpr double vanishing = 1e-12;
  std::vector<double> size;
  double most = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    size.push_back(rms(values[i]));
    most = std::max(most, size[i] * field_scale[i]);
  }
  for (std::size_t i = 0; i < size.size(); ++i)
    if (size[i] * field_scale[i] < vanishing * most) size[i] = most / field_scale[i];
  return size;
}

Quality measure(const CheckedSystem& c, const PointwiseSystem& pointwise,
                const std::vector<Field>& fields, const GridEvaluator& evaluator,
                const std::vector<double>& field_scale) {
  const Size n = c.fields(), d = c.dimension();
  const std::vector<int> zero(d, 0);
  const std::vector<Points>& grid = evaluator.grid();
  Quality q;
  q.scale.assign(n, 0.0);
  q.boundary.assign(n, 0.0);
  std::vector<la::DdMatrix> left = left_sides(c, pointwise, fields, evaluator, q.scale);
  std::vector<la::DdMatrix> values;
  for (Size i = 0; i < n; ++i) {
    const la::DdMatrix f = sample(Program<dd>(c.source[i], c.names), grid, c.threads);
    q.scale[i] = std::max(q.scale[i], rms(f));
    q.largest.push_back(0);
    for (const double v : f.rounded()) q.largest.back() = std::max(q.largest.back(), std::fabs(v));
    q.residual.push_back(relative(rms(add_scaled(std::move(left[i]), -1.0, f)), q.scale[i]));
    values.push_back(evaluator.values(fields[i], zero));
  }
  const std::vector<double> size = sizes_of(values, field_scale);
  const auto count = [&](Size i, double value) {
    if (!(value <= q.boundary[i])) q.boundary[i] = value;
  };
  const auto on_side = [&](Size i, Size k, int s, int derivative) {
    std::vector<Points> points = grid;
    points[k] = {c.end(k, s)};
    std::vector<int> order = zero;
    order[k] = derivative;
    return fields[i].values(points, order);
  };
  for (const SystemCondition& condition : c.conditions) {
    const Size i = condition.field, k = condition.axis;
    std::vector<Points> points = grid;
    points[k] = {c.end(k, condition.end)};
    const la::DdMatrix u = on_side(i, k, condition.end, 0), du = on_side(i, k, condition.end, 1);
    const la::DdMatrix g = sample(Program<dd>(condition.g, c.names), points, c.threads);
    la::DdMatrix defect = add_scaled(la::DdMatrix(u.rows(), u.cols()), condition.a, u);
    defect = add_scaled(std::move(defect), condition.end == 0 ? -condition.b : condition.b, du);
    defect = add_scaled(std::move(defect), -1.0, g);
    // Relative to the data or, where those vanish, to the field.
    count(i, relative(rms(defect), std::max({rms(g), std::fabs(condition.a) * size[i],
                                             std::fabs(condition.b) * rms(du),
                                             std::fabs(condition.b) * size[i] / c.length(k).hi})));
  }
  for (Size k = 0; k < d; ++k)
    for (Size i = 0; i < n && !c.axis_periodic[k][0]; ++i)
      if (c.is_periodic(k, i))
        count(i,
              relative(rms(add_scaled(on_side(i, k, 0, 0), -1.0, on_side(i, k, 1, 0))), size[i]));
  for (auto* values : {&q.residual, &q.boundary})
    for (double& v : *values)
      if (std::isnan(v)) v = infinity;
  return q;
}

// Gauss points to compare fields on: on equally spaced ones sin(100 x) may vanish altogether.
std::vector<Points> comparison_grid(const CheckedSystem& c) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k)
    grid.push_back(
        make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), c.dimension() == 1 ? 502 : 130));
  return grid;
}

std::vector<la::DdMatrix> compared(const CheckedSystem& c, const std::vector<Field>& fields) {
  const GridEvaluator evaluator(fields[0], comparison_grid(c));
  const std::vector<int> zero(c.dimension(), 0);
  std::vector<la::DdMatrix> values;
  values.reserve(fields.size());
  for (const Field& field : fields) values.push_back(evaluator.values(field, zero));
  return values;
}

// ||u - v|| / ||v|| for every field
std::vector<double> differences(const CheckedSystem& c, const std::vector<Field>& u,
                                const std::vector<Field>& v,
                                const std::vector<double>& field_scale) {
  const std::vector<la::DdMatrix> a = compared(c, u), b = compared(c, v);
  const std::vector<double> size = sizes_of(b, field_scale);
  std::vector<double> out;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double value = relative(rms(add_scaled(a[i], -1.0, b[i])), size[i]);
    out.push_back(std::isnan(value) ? infinity : value);
  }
  return out;
}

// Frequencies along axis k of solutions of the homogeneous system, linearised at the guess.
std::vector<Band> homogeneous_bands(const CheckedSystem& c, Size k,
                                    std::span<const Band> other_bands, bool decaying) {
  const double length = c.length(k).hi;
  std::vector<Band> bands;
  const auto add = [&](const std::vector<std::complex<double>>& roots, std::vector<Band>* by_rank) {
    std::vector<double> frequency;
    for (const auto& root : roots) {
      const double nu = std::fabs(root.imag()), alpha = std::fabs(root.real());
      if (decaying) {
        const double width = alpha * length > 12 ? 4 * alpha : 0;
        bands.push_back({std::max(0.0, nu - width), nu + width});
      } else if (nu > 1e-3 * alpha) {
        frequency.push_back(nu);
      }
    }
    if (!by_rank) return;
    std::sort(frequency.begin(), frequency.end());
    for (std::size_t i = 0; i < frequency.size(); ++i) {
      if (by_rank->size() <= i) by_rank->push_back({frequency[i], frequency[i]});
      Band& band = (*by_rank)[i];
      band = {std::min(band.lower, frequency[i]), std::max(band.upper, frequency[i])};
    }
  };
  if (c.dimension() == 1) {
    std::vector<Band> by_rank;
    for (int i = 0; i <= 32; ++i)
      add(symbol_roots(c, k, 0, {c.end(0, 0).hi + length * i / 32.0}), &by_rank);
    bands.insert(bands.end(), by_rank.begin(), by_rank.end());
    return bands;
  }
  const std::vector<double> middle{0.5 * (c.end(0, 0) + c.end(0, 1)).hi,
                                   0.5 * (c.end(1, 0) + c.end(1, 1)).hi};
  if (!decaying) {
    // A null function of a resonance has frequencies up to that of waves along the axis.
    double top = 0;
    for (const auto& root : symbol_roots(c, k, 0, middle))
      if (std::fabs(root.real()) <= 1e-6 * std::fabs(root.imag()))
        top = std::max(top, std::fabs(root.imag()));
    if (top > 0 && top * length < 250) bands.push_back({0, top});
    return bands;
  }
  for (const Band& band : other_bands)
    for (int i = 0; i <= 8; ++i)
      add(symbol_roots(c, k, band.lower + (band.upper - band.lower) * i / 8.0, middle), nullptr);
  return bands;
}

}  // namespace

struct SystemSolver::Impl {
  CheckedSystem checked;
  PointwiseSystem pointwise;
  std::vector<Spectrum> spectra;  // of the axes
  SystemDiscretisation disc;
  GridEvaluator evaluator;
  bool planned = false;
  bool data_seen = true;
  bool equation_seen = true;  // no spike of a coefficient hides between the points of the residual
  std::vector<double> error_estimate;  // distance of two discretisations, of each field

  struct Candidate {
    SystemDiscretisation disc;
    std::vector<Field> fields;
    Quality quality;
    GridEvaluator evaluator;
  };

  void report_progress(double fraction, const char* phase) const {
    const auto& progress = checked.options.progress;
    if (progress && !progress(fraction, phase)) throw Cancelled("gp_pde::SystemSolver");
  }

  [[nodiscard]] double tolerance() const {
    return checked.options.tolerance > 0 ? checked.options.tolerance : 1e-10;
  }

  [[nodiscard]] double distance() const {
    return *std::max_element(error_estimate.begin(), error_estimate.end());
  }

  [[nodiscard]] bool good(const Quality& quality) const {
    return quality.worst() <= tolerance() && distance() <= tolerance();
  }

  // As coefficients_seen of a single equation.
  [[nodiscard]] bool equations_seen(const Candidate& of) const {
    const CheckedSystem& c = checked;
    const auto any_varies = [&c](const auto& row) {
      return std::any_of(row.begin(), row.end(),
                         [&c](const Expression& e) { return varies(e, c.names); });
    };
    if (std::none_of(c.partial.begin(), c.partial.end(), any_varies)) return true;
    std::vector<double> sizes;
    for (const Size t : pointwise.terms())
      sizes.push_back(rms(of.evaluator.values(of.fields[c.terms[t].field], c.terms[t].order)));
    const auto slopes = [&](const std::vector<Points>& grid) {
      return pointwise.partial(grid, constant_fields(sizes, grid), false, c.threads);
    };
    const auto there = slopes(of.evaluator.grid()), all = slopes(fine_grid(c.problem.axes));
    for (std::size_t i = 0; i < all.size(); ++i)
      for (std::size_t t = 0; t < all[i].size(); ++t)
        if (!(largest_of(there[i][t].rounded()) >= 0.5 * largest_of(all[i][t].rounded())))
          return false;
    return true;
  }

  [[nodiscard]] bool data_resolved() const {
    return data_seen &&
           std::all_of(spectra.begin(), spectra.end(), [](const auto& s) { return s.resolved; });
  }

  [[nodiscard]] Candidate attempt(const std::vector<std::vector<Band>>& bands, double margin,
                                  Size most, const std::vector<Field>* start,
                                  Timings& timings) const {
    Candidate candidate{SystemDiscretisation(checked, bands, {margin, most}, timings), {}, {}, {}};
    candidate.fields = candidate.disc.solve(checked, start, timings);
    return candidate;
  }

  void measure_candidate(Candidate& candidate, Timings& timings) const {
    Stopwatch watch(timings);
    candidate.evaluator = residual_points(checked, candidate.fields);
    candidate.quality = measure(checked, pointwise, candidate.fields, candidate.evaluator,
                                candidate.disc.field_scale);
    watch.lap("residual");
  }

  // Largest over the equations' sources and the data of the fields' sides.
  [[nodiscard]] Spectrum spectrum_along(Size k) const {
    Spectrum all;
    for (const Checked& own : checked.own) {
      const Spectrum s = infer_spectrum(own, RightHandSide(own, Expression(0.0)), k);
      all.bin = s.bin;
      all.resolved = all.resolved && s.resolved;
      if (all.amplitude.size() < s.amplitude.size()) all.amplitude.resize(s.amplitude.size(), 0.0);
      for (std::size_t i = 0; i < s.amplitude.size(); ++i)
        all.amplitude[i] = std::max(all.amplitude[i], s.amplitude[i]);
      all.bands.insert(all.bands.end(), s.bands.begin(), s.bands.end());
    }
    all.bands = la::merge_bands(std::move(all.bands), 2 * all.bin);
    return all;
  }

  // Frequencies of the path that the first guess is.
  [[nodiscard]] std::vector<Band> path_bands() const {
    const CheckedSystem& c = checked;
    constexpr Size count = 4096;
    std::vector<Band> bands;
    for (Size f = 0; f < c.fields(); ++f) {
      std::vector<double> line;
      double largest = 0;
      for (Size i = 0; i < count; ++i) {
        const dd x = c.end(0, 0) + c.length(0) * (dd(static_cast<double>(i)) / count);
        line.push_back(c.path.value(f, x.hi));
        largest = std::max(largest, std::fabs(line.back()));
      }
      const auto found =
          la::find_bands(la::windowed_spectrum(line), 1e-6 * largest, two_pi / c.length(0).hi);
      bands.insert(bands.end(), found.begin(), found.end());
    }
    return bands;
  }

  // What the equations make of the fields' frequencies and the modes do not have.
  [[nodiscard]] std::vector<Band> residual_bands(const Candidate& of, Size k) const {
    const CheckedSystem& c = checked;
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
    std::vector<double> scale = of.quality.scale;
    std::vector<la::DdMatrix> left =
        left_sides(c, pointwise, of.fields, GridEvaluator(of.fields[0], grid), scale);
    std::vector<Band> bands;
    for (Size i = 0; i < c.fields(); ++i) {
      la::DdMatrix lines = add_scaled(std::move(left[i]), -1.0,
                                      sample(Program<dd>(c.source[i], c.names), grid, c.threads));
      if (k == 1) lines = la::transpose(lines);
      const auto found = bands_of_lines(c.own[i], lines, k, 1e-14 * scale[i]);
      bands.insert(bands.end(), found.begin(), found.end());
    }
    return bands;
  }

  [[nodiscard]] std::vector<std::vector<Band>> wider(const std::vector<std::vector<Band>>& bands,
                                                     int round) const {
    const Size d = checked.dimension();
    std::vector<std::vector<Band>> next = bands;
    for (Size k = 0; k < d; ++k) {
      if (round == 0) {
        std::vector<Band> across = d == 2 ? bands[1 - k] : std::vector<Band>{};
        across.push_back({0, 0});
        const auto more = homogeneous_bands(checked, k, across, true);
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

  std::vector<Field> plan(Quality& quality, Timings& timings) {
    const CheckedSystem& c = checked;
    const Size d = c.dimension(), n = c.fields();
    const bool given = !c.options.bands.empty();
    const bool constant = std::all_of(c.partial.begin(), c.partial.end(), [](const auto& row) {
      return std::all_of(row.begin(), row.end(),
                         [](const Expression& e) { return e.is_constant(); });
    });
    report_progress(0.05, "inferring bands");
    Stopwatch watch(timings);
    std::vector<std::vector<Band>> bands(d);
    for (Size k = 0; k < d; ++k) {
      spectra.push_back(spectrum_along(k));
      // What nonlinear equations make of the fields' frequencies is in their sources as well, and
      // need not be in the fields: begin with what stands out, the residual tells the rest.
      bands[k] = given      ? c.options.bands[k]
                 : c.linear ? spectra[k].bands
                            : la::find_bands(spectra[k].amplitude, 1e-3, spectra[k].bin);
    }
    if (!given && !c.path.empty()) {
      const auto more = path_bands();
      bands[0].insert(bands[0].end(), more.begin(), more.end());
    }
    watch.lap("spectrum");
    // All fields have the same modes: in one dimension the matrix grows with their number.
    const Size affordable =
        d == 1
            ? (data_resolved() ? 960 : 480) / std::max<Size>(n, 2) + 160
            : static_cast<Size>((data_resolved() ? 400 : 200) / std::sqrt(static_cast<double>(n)));
    const Size most = std::min<Size>(c.options.max_modes, affordable);
    bool reachable = data_resolved();
    for (Size k = 0; k < d && !given; ++k) {
      // With the homogeneous solutions' own frequencies among the modes a resonance shows.
      const auto own = homogeneous_bands(c, k, {}, false);
      bands[k].insert(bands[k].end(), own.begin(), own.end());
      if (!fit_to_modes(bands[k], c.length(k).hi, static_cast<double>(most))) reachable = false;
    }
    report_progress(0.2, "solving");
    Candidate best = attempt(bands, 12, most, nullptr, timings);
    measure_candidate(best, timings);
    const auto start = [&] {
      return !c.linear && best.fields[0].converged ? &best.fields : nullptr;
    };
    // A second discretisation: its distance is the error estimate.
    report_progress(0.5, "estimating the error");
    const bool hopeless = d == 2 && !best.fields[0].converged;
    if (hopeless) {  // no choice of modes makes the iteration converge
      error_estimate.assign(n, 1.0);
    } else {
      // Where the modes do not suffice, a narrower band tells how far they are; fewer modes of the
      // same band are no basis of it.
      auto second = bands;
      for (Size k = 0; k < d && !reachable; ++k)
        std::ignore = fit_to_modes(second[k], c.length(k).hi, 0.75 * static_cast<double>(most));
      Candidate check = attempt(second, 15, most, start(), timings);
      error_estimate = differences(c, best.fields, check.fields, best.disc.field_scale);
      if (!good(best.quality)) {
        measure_candidate(check, timings);
        if (check.quality.worst() < best.quality.worst()) best = std::move(check);
      }
    }
    for (int round = 0; round < 4 && !good(best.quality) && !given && reachable && !hopeless;
         ++round) {
      report_progress(0.6 + 0.1 * round, "widening the bands");
      const auto last = bands;
      if ((!c.linear || !constant) && round < 3) {
        for (Size k = 0; k < d; ++k) {
          const auto more = residual_bands(best, k);
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
      Candidate next = attempt(bands, 15, most, start(), timings);
      measure_candidate(next, timings);
      error_estimate = differences(c, best.fields, next.fields, next.disc.field_scale);
      if (next.quality.worst() < best.quality.worst()) best = std::move(next);
    }
    for (Size i = 0; i < n; ++i)
      data_seen =
          data_seen && best.quality.largest[i] >=
                           0.5 * largest_value(c.own[i], RightHandSide(c.own[i], Expression(0.0)));
    equation_seen = equations_seen(best);
    disc = std::move(best.disc);
    evaluator = std::move(best.evaluator);
    quality = best.quality;
    planned = true;
    report_progress(1, "solved");
    return std::move(best.fields);
  }

  [[nodiscard]] SystemSolution finish(std::vector<Field> fields, const Quality& quality,
                                      Timings timings) const {
    const CheckedSystem& c = checked;
    const Size n = c.fields();
    const Field& facts = fields[0];
    const std::vector<double> size = sizes_of(compared(c, fields), disc.field_scale);
    SystemSolution s;
    s.timings = std::move(timings);
    s.condition = facts.condition;
    s.newton_steps = c.linear ? 0 : facts.newton_steps;
    s.floor_estimate = eps / 2;
    const bool trusted =
        good(quality) && data_resolved() && equation_seen && !facts.singular && facts.converged;
    double response = 0;  // of all fields, scaled, to what the equations miss
    for (Size i = 0; i < n; ++i)
      response = std::max(response,
                          relative(quality.residual[i] * quality.scale[i] * disc.equation_scale[i],
                                   facts.smallest_eigenvalue));
    for (Size i = 0; i < n; ++i) {
      Solution field;
      field.residual = quality.residual[i];
      field.residual_scale = quality.scale[i];
      field.boundary_residual = quality.boundary[i];
      field.floor_estimate = s.floor_estimate;
      // The second discretisation has an error as well, a fraction of the first's: factor 4.
      field.error_estimate = 4 * error_estimate[i] + field.floor_estimate;
      if (!trusted) {
        field.error_estimate = std::max({field.error_estimate, quality.worst(),
                                         relative(response, disc.field_scale[i] * size[i])});
        if (facts.singular || !facts.converged || !data_seen || !equation_seen ||
            !(field.error_estimate <= 1))
          field.error_estimate = std::max(1.0, field.error_estimate);
      }
      if (std::isnan(field.error_estimate)) field.error_estimate = infinity;
      s.residual = std::max(s.residual, field.residual);
      s.boundary_residual = std::max(s.boundary_residual, field.boundary_residual);
      s.error_estimate = std::max(s.error_estimate, field.error_estimate);
      s.fields.push_back(std::move(field));
    }
    s.report.iterations = std::max(1, s.newton_steps);
    s.report.tolerance = tolerance();
    s.report.residual = std::max(quality.worst(), distance());
    s.report.status = !std::isfinite(s.report.residual)                      ? Status::not_finite
                      : !trusted || !(s.error_estimate <= 1e4 * tolerance()) ? Status::stagnated
                                                                             : Status::converged;
    if (!data_resolved())
      s.warnings.emplace_back(
          "the forcing or boundary data are not resolved by their sampling: a jump or a kink");
    if (!equation_seen) s.warnings.emplace_back(coefficient_unseen);
    if (s.report.status != Status::converged && data_resolved() && equation_seen &&
        !facts.singular && facts.converged)
      s.warnings.push_back(unexplained(s.residual, s.boundary_residual, distance(), tolerance()));
    if (facts.singular)
      s.warnings.emplace_back(
          "the system is singular to working precision (a resonance, or conditions that do not "
          "determine the fields)");
    else if (facts.condition > 1e12)
      s.warnings.emplace_back(
          "the system is nearly singular: errors of the data are much enlarged");
    if (!facts.converged)
      s.warnings.emplace_back(
          c.linear ? "the iteration did not converge: the coupling of the fields is too strong, or "
                     "the system is singular"
                   : "Newton's method did not converge: start it nearer, by a guess");
    for (Size i = 0; i < n; ++i) {
      Solution& field = s.fields[i];
      field.report = s.report;
      field.condition = s.condition;
      field.newton_steps = s.newton_steps;
      for (Size k = 0; k < c.dimension(); ++k) {
        AxisInfo info;
        info.bands = disc.bands[k];
        info.features = disc.basis[k]->features();
        info.modes = disc.basis[k]->size();
        info.nodes = static_cast<Size>(disc.basis[k]->nodes().size());
        info.smallest_pivot = disc.basis[k]->smallest_pivot();
        info.spectrum = spectra[k].amplitude;
        for (std::size_t l = 0; l < info.spectrum.size(); ++l)
          info.spectrum_frequency.push_back(spectra[k].bin * static_cast<double>(l));
        field.axes.push_back(std::move(info));
      }
      field.impl = std::make_shared<Solution::Impl>(Solution::Impl{std::move(fields[i]), {}});
    }
    return s;
  }
};

SystemSolver::SystemSolver(SystemProblem problem, Options options)
    : impl_(std::make_shared<Impl>()) {
  impl_->checked = check(std::move(problem), remembering(std::move(options)));
  impl_->pointwise = PointwiseSystem(impl_->checked, true);
}

SystemSolution SystemSolver::solve() {
  Quality quality;
  Timings timings;
  std::vector<Field> fields;
  if (!impl_->planned) {
    fields = impl_->plan(quality, timings);
  } else {
    fields = impl_->disc.solve(impl_->checked, nullptr, timings);
    Stopwatch watch(timings);
    quality = measure(impl_->checked, impl_->pointwise, fields, impl_->evaluator,
                      impl_->disc.field_scale);
    watch.lap("residual");
  }
  return impl_->finish(std::move(fields), quality, std::move(timings));
}

SystemSolution solve(SystemProblem problem, Options options) {
  return SystemSolver(std::move(problem), std::move(options)).solve();
}

}  // namespace halfulp::gp_pde
