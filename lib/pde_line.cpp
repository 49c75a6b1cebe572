#include "detail/pde_line.hpp"

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "detail/blas_threads.hpp"
#include "detail/pde_quality.hpp"
#include "detail/setup_cache.hpp"
#include "halfulp/random.hpp"

namespace halfulp::gp_pde::detail {
namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();

/// Points with a significand of some 26 bits more than the axis needs, one at random in each of n
/// equal parts of the axis or, with `towards_ends`, of the angle about its centre: no frequency has
/// an alias among the others. Those beyond the ends and those that coincide are left out.
std::vector<double> short_points(const Checked& c, Size n, bool towards_ends, std::uint64_t seed) {
  const double lower = c.end(0, 0).hi, upper = c.end(0, 1).hi, length = upper - lower;
  const double far = std::max(std::fabs(lower), std::fabs(upper));
  const double step = std::max(std::exp2(std::floor(std::log2(length)) - 25),
                               std::exp2(std::floor(std::log2(far)) - 50));
  const RandomStream random(seed);
  std::vector<double> x;
  for (Size i = 0; i < n; ++i) {
    const double t = (static_cast<double>(i) + random.uniform(static_cast<std::uint64_t>(i))) /
                     static_cast<double>(n);
    const double s = towards_ends ? 0.5 - 0.5 * std::cos(two_pi / 2 * t) : t;
    const double at = std::round((lower + length * s) / step) * step;
    if (at >= lower && at <= upper && (x.empty() || at > x.back())) x.push_back(at);
  }
  return x;
}

/// Columns in the order in which QR with pivoting takes them, the first `count`; `q` replaces `a`
/// (column-major) if asked for. Returns the rank.
Size pivoted(std::vector<double>& a, Size rows, Size columns, std::vector<Size>& order,
             bool want_q) {
  const Size most = std::min(rows, columns);
  std::vector<lapack_int> pivot(columns, 0);
  std::vector<double> tau(std::max<Size>(1, most));
  const auto m = static_cast<lapack_int>(rows), n = static_cast<lapack_int>(columns);
  if (LAPACKE_dgeqp3(LAPACK_COL_MAJOR, m, n, a.data(), m, pivot.data(), tau.data()) != 0) return 0;
  order.assign(pivot.begin(), pivot.end());
  for (Size& p : order) --p;
  Size rank = 0;
  while (rank < most && std::fabs(a[rank * rows + rank]) > 1e-12 * std::fabs(a[0])) ++rank;
  if (want_q && rank > 0) {
    const auto r = static_cast<lapack_int>(rank);
    if (LAPACKE_dorgqr(LAPACK_COL_MAJOR, m, r, r, a.data(), m, tau.data()) != 0) return 0;
  }
  return rank;
}

double root_mean_square(const double* v, Size n) {
  double sum = 0;
  for (Size i = 0; i < n; ++i) sum += v[i] * v[i];
  return std::sqrt(sum / static_cast<double>(n));
}

}  // namespace

LineOperator::LineOperator(const Checked& c, std::shared_ptr<const la::FourierBasis> basis,
                           std::vector<Exponential> exponentials)
    : basis_(std::move(basis)), exponentials_(std::move(exponentials)), length_(c.length(0).hi) {
  squares_.assign(basis_->size(), 1.0);
  for (const Exponential& e : exponentials_)
    squares_.push_back(std::min(length_, 0.5 / std::fabs(e.rate.hi)));
  choose_points(c);
  if (nodes_ > 0) set_up_solution(c);
  if (determined_) set_up_residual(c);
}

la::DdMatrix LineOperator::term(const Checked& c, int order, const Points& at) const {
  const auto m = static_cast<Size>(at.size());
  const std::vector<Points> grid{at};
  const la::DdMatrix v = sample(Program<dd>(coefficient(c.op, {order}), c.names), grid, c.threads);
  const la::DdMatrix modes = basis_->evaluate(at, order);
  la::DdMatrix rows(m, unknowns());
  for (Size j = 0; j < unknowns(); ++j)
    for (Size i = 0; i < m; ++i)
      rows.set(i, j,
               v(i, 0) * (j < modes.cols() ? modes(i, j)
                                           : exponentials_[j - modes.cols()](at[i], order)));
  return rows;
}

la::DdMatrix LineOperator::all_terms(const Checked& c, const Points& at) const {
  la::DdMatrix sum(static_cast<Size>(at.size()), unknowns());
  for (const auto& [order, value] : c.op.coefficients)
    sum = add_scaled(std::move(sum), 1.0, term(c, order[0], at));
  // Exponentials solve the homogeneous equation.
  for (Size j = basis_->size(); j < unknowns(); ++j)
    for (Size i = 0; i < sum.rows(); ++i) sum.set(i, j, 0.0);
  return sum;
}

void LineOperator::choose_points(const Checked& c) {
  const la::OneBlasThread one;
  const Size r = basis_->size();
  const std::vector<double> all = short_points(c, 4 * r + 64, true, 20261126);
  const auto n = static_cast<Size>(all.size());
  if (n < 2 * r) return;
  const la::DdMatrix rows = all_terms(c, {all.begin(), all.end()});
  // The functions L q_j, orthonormal in the points' sum.
  std::vector<double> a(n * r);
  for (Size j = 0; j < r; ++j)
    for (Size i = 0; i < n; ++i) {
      const double s = (2 * all[i] - c.end(0, 0).hi - c.end(0, 1).hi) / length_;
      a[j * n + i] = rows(i, j).hi * std::pow(std::max(1 - s * s, 1e-6), 0.25);
    }
  std::vector<Size> order;
  const Size rank = pivoted(a, n, r, order, true);
  if (rank == 0) return;
  // Points by pivoting of the rows; then as many again of the rest as a quarter of them, which
  // lessens what rounding of the data does.
  std::vector<char> taken(n, 0);
  Size wanted = rank;
  for (int round = 0; round < 2; ++round) {
    std::vector<Size> left;
    for (Size i = 0; i < n; ++i)
      if (!taken[i]) left.push_back(i);
    std::vector<double> t(rank * left.size());
    for (std::size_t i = 0; i < left.size(); ++i)
      for (Size j = 0; j < rank; ++j) t[i * rank + j] = a[j * n + left[i]];
    (void)pivoted(t, rank, static_cast<Size>(left.size()), order, false);
    for (Size i = 0; i < std::min(wanted, static_cast<Size>(left.size())); ++i)
      taken[left[order[i]]] = 1;
    wanted = rank / 4 + 8;
  }
  std::vector<double> points;
  for (Size i = 0; i < n; ++i)
    if (taken[i]) points.push_back(all[i]);
  nodes_ = static_cast<Size>(points.size());
  const std::vector<double> others = short_points(c, 64 + r / 2, false, 20261127);
  points.insert(points.end(), others.begin(), others.end());
  points_ = {std::move(points)};
}

void LineOperator::set_up_solution(const Checked& c) {
  const Size r = basis_->size(), columns = unknowns(), n = nodes_;
  const Points nodes(points_[0].begin(), points_[0].begin() + n);
  la::DdMatrix equations = all_terms(c, nodes);
  // Weights that make the rows equally long among functions orthonormal on the axis: where points
  // are dense each counts less.
  const la::DdMatrix modes = basis_->evaluate(nodes, 0);
  Points weight;
  double scale = std::numeric_limits<double>::min();
  for (Size i = 0; i < n; ++i) {
    double square = 0;
    for (Size j = 0; j < r; ++j) square += modes(i, j).hi * modes(i, j).hi;
    weight.emplace_back(std::sqrt(static_cast<double>(r) / (square * static_cast<double>(n))));
  }
  equations = scale_rows(std::move(equations), weight);
  for (const double x : equations.rounded()) scale = std::max(scale, std::fabs(x));

  std::vector<Points> conditions;
  Points data;
  for (const Condition& condition : c.conditions) {
    const dd end = c.end(0, condition.side);
    Points row(columns, dd(0.0));
    for (int order = 0; order <= condition.order(); ++order) {
      const double factor = condition.coefficients[order];
      if (factor == 0) continue;
      const la::DdMatrix values = basis_->evaluate(Points{end}, order);
      for (Size j = 0; j < columns; ++j)
        row[j] += (j < r ? values(0, j) : exponentials_[j - r](end, order)) * factor;
    }
    conditions.push_back(std::move(row));
    data.push_back(condition_values(c, condition, {})(0, 0));
  }
  if (c.singular) {  // the mean of the solution, or of the exact one
    const Points &x = basis_->nodes(), &w = basis_->weights();
    Points row(columns, dd(0.0));
    dd mean = 0.0;
    const std::vector<Points> grid{x};
    const la::DdMatrix exact =
        sample(Program<dd>(c.problem.exact.value_or(Expression(0.0)), c.names), grid, c.threads);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto k = static_cast<Size>(i);
      mean += w[i] * exact(k, 0) / c.length(0);
      for (Size j = 0; j < columns; ++j)
        row[j] +=
            w[i] * (j < r ? basis_->at_nodes()(k, j) : exponentials_[j - r](x[i], 0)) / c.length(0);
    }
    conditions.push_back(std::move(row));
    data.push_back(mean);
  }
  const auto k = static_cast<Size>(conditions.size());
  if (n + k < columns) return;
  la::DdMatrix all(n + k, columns);
  for (Size j = 0; j < columns; ++j)
    for (Size i = 0; i < n; ++i) all.set(i, j, equations(i, j));
  for (Size s = 0; s < k; ++s) {
    double size = std::numeric_limits<double>::min();
    for (const dd& x : conditions[s]) size = std::max(size, std::fabs(x.hi));
    // As in the least-squares problem in double-double: the condition holds to all digits.
    weight.emplace_back(1e8 * scale / size);
    for (Size j = 0; j < columns; ++j) all.set(n + s, j, conditions[s][j] * weight.back());
  }

  // The rows' pseudo-inverse; empty where the rows do not determine the unknowns.
  const auto make = [&] {
    const LineSystem line = factor_rows(all, scale, c.threads);
    if (line.singular || line.system.q.cols() > 0) return la::DdMatrix();
    return la::solve_upper(line.system.r, la::transpose(line.rows_to_modes));
  };
  const la::DdMatrix inverse =
      !c.cache ? make()
               : la::cached(
                     c.cache.get(), "line",
                     "build: " + la::build_key() + "\nrows: " + la::matrix_text(all) + '\n', make,
                     [](la::ByteWriter& out, const la::DdMatrix& m) { la::put_matrix(out, m); },
                     [](la::ByteReader& in) { return la::get_matrix(in); });
  if (inverse.rows() != columns) return;
  determined_ = true;
  la::DdMatrix solution(columns, n);
  gain_.assign(n, 0.0);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < columns; ++j) {
      const dd value = inverse(j, i) * weight[i];
      solution.set(j, i, value);
      gain_[i] += squares_[j] * value.hi * value.hi;
    }
  la::DdMatrix constant(columns, 1);
  for (Size j = 0; j < columns; ++j) {
    dd sum = 0.0;
    for (Size s = 0; s < k; ++s) sum += inverse(j, n + s) * weight[n + s] * data[s];
    constant.set(j, 0, sum);
  }
  split(solution, constant);
}

void LineOperator::split(const la::DdMatrix& solution, const la::DdMatrix& constant) {
  const la::OneBlasThread one;
  const Size m = solution.rows(), n = solution.cols();
  const Size most = std::min(m, n);
  Size kept = std::min(most / 2, la::PanelMatrix::height);
  std::vector<double> a = solution.rounded(), s(most), u(m * most), vt(most * n);
  const auto rows = static_cast<lapack_int>(m), columns = static_cast<lapack_int>(n);
  if (LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', rows, columns, a.data(), rows, s.data(), u.data(), rows,
                     vt.data(), static_cast<lapack_int>(most)) != 0)
    kept = 0;  // as accurate, but rounding shows in the residual
  // Whatever the rows of v, the sum of the parts is the whole.
  la::DdMatrix v(kept, n);
  for (Size k = 0; k < kept; ++k)
    for (Size i = 0; i < n; ++i) v.set(k, i, vt[i * most + k]);
  const la::DdMatrix along = la::multiply(solution, la::transpose(v), 1);
  const la::DdMatrix rest = add_scaled(solution, -1.0, la::multiply(along, v, 1));
  la::DdMatrix all(m, n + kept);
  for (Size j = 0; j < m; ++j) {
    for (Size i = 0; i < n; ++i) all.set(j, i, rest(j, i));
    for (Size k = 0; k < kept; ++k) all.set(j, n + k, along(j, k));
  }
  la::DdMatrix along_constant(kept, 1);
  for (Size k = 0; k < kept; ++k) {
    dd sum = 0.0;
    for (Size j = 0; j < m; ++j) sum += constant(j, 0) * u[k * m + j];
    along_constant.set(k, 0, (sum / s[k]).hi);
    strong_constant_.push_back(along_constant(k, 0).hi);
  }
  constant_ = add_scaled(constant, -1.0, la::multiply(along, along_constant, 1)).rounded();
  strong_ = la::PanelMatrix(v);
  solution_ = la::PanelMatrix(all);
}

std::vector<double> LineOperator::respond(const std::vector<double>& f, bool conditions) const {
  std::vector<double> data(nodes_ + strong_.padded()), x(solution_.padded());
  std::copy_n(f.begin(), nodes_, data.begin());
  strong_.multiply(f.data(), data.data() + nodes_);
  for (std::size_t k = 0; conditions && k < strong_constant_.size(); ++k)
    data[nodes_ + static_cast<Size>(k)] += strong_constant_[k];
  solution_.multiply(data.data(), x.data());
  x.resize(unknowns());
  for (std::size_t j = 0; conditions && j < x.size(); ++j) x[j] += constant_[j];
  return x;
}

void LineOperator::set_up_residual(const Checked& c) {
  const Points others(points_[0].begin() + nodes_, points_[0].end());
  const auto m = static_cast<Size>(others.size());
  std::vector<la::DdMatrix> parts;
  Size rows = 0;
  const auto add = [&](la::DdMatrix part) {
    rows += part.rows();
    parts.push_back(std::move(part));
  };
  for (const auto& [order, value] : c.op.coefficients) add(term(c, order[0], others));
  terms_ = rows / std::max<Size>(m, 1);
  for (const Condition& condition : c.conditions) {
    ConditionRows of{condition_values(c, condition, {})(0, 0).hi, {}, {}};
    const dd end = c.end(0, condition.side);
    for (int order = 0; order <= condition.order(); ++order) {
      if (condition.coefficients[order] == 0) continue;
      const la::DdMatrix modes = basis_->evaluate(Points{end}, order);
      la::DdMatrix row(1, unknowns());
      for (Size j = 0; j < unknowns(); ++j)
        row.set(0, j, j < modes.cols() ? modes(0, j) : exponentials_[j - modes.cols()](end, order));
      add(std::move(row));
      of.factor.push_back(condition.coefficients[order]);
      of.length.push_back(std::pow(length_, order));
    }
    conditions_.push_back(std::move(of));
  }
  la::DdMatrix all(rows, unknowns());
  Size first = 0;
  for (const la::DdMatrix& part : parts) {
    for (Size j = 0; j < all.cols(); ++j)
      for (Size i = 0; i < part.rows(); ++i) all.set(first + i, j, part(i, j));
    first += part.rows();
  }
  observed_ = la::PanelMatrix(all);
}

double LineOperator::formula_error(const RightHandSide& rhs) const {
  const std::vector<Points> grid{Points(points_[0].begin(), points_[0].begin() + nodes_)};
  const la::DdMatrix exact = rhs.on(grid);
  std::vector<double> f(points_[0].size());
  rhs.formula_double.on_grid(points_, f, 1);
  for (Size i = 0; i < nodes_; ++i) f[i] = (dd(f[i]) - exact(i, 0)).hi;
  const std::vector<double> change = respond(f, false);
  double square = 0;
  for (Size j = 0; j < unknowns(); ++j) square += squares_[j] * change[j] * change[j];
  return std::sqrt(square);
}

LineField LineOperator::solve(const RightHandSide& rhs, double formula_error, LineQuality& quality,
                              Timings& timings) const {
  Stopwatch watch(timings);
  LineField field;
  std::vector<double> f(points_[0].size());
  rhs.formula_double.on_grid(points_, f, 1);
  watch.lap("sampling");
  field.coefficients = respond(f, true);
  double square = 0, noise = 0;
  for (Size j = 0; j < unknowns(); ++j) {
    square += squares_[j] * field.coefficients[j] * field.coefficients[j];
  }
  for (Size i = 0; i < nodes_; ++i) noise += gain_[i] * f[i] * f[i];
  field.rms = std::sqrt(square / length_);
  // Rounding to nearest has the mean square eps^2 / 22 of a number with any leading digits; the
  // matrix is rounded once and sums of k = 1, ..., 8 terms after each, 1 + 4.5 in the mean. What
  // was rounded together in evaluating the solution is of the solution's own size.
  const double rounding = eps * std::sqrt(5.5 / 22);
  field.floor = eps / 2 + rounding +
                relative(std::hypot(formula_error, rounding * std::sqrt(noise)), std::sqrt(square));
  watch.lap("solve");

  const Size m = static_cast<Size>(points_[0].size()) - nodes_;
  std::vector<double> seen(observed_.padded()), residual(m);
  observed_.multiply(field.coefficients.data(), seen.data());
  const double* data = f.data() + nodes_;
  quality.scale = root_mean_square(data, m);
  quality.largest = 0;
  for (Size i = 0; i < m; ++i) {
    residual[i] = -data[i];
    quality.largest = std::max(quality.largest, std::fabs(data[i]));
  }
  const double* row = seen.data();
  for (Size t = 0; t < terms_; ++t, row += m) {
    quality.scale = std::max(quality.scale, root_mean_square(row, m));
    for (Size i = 0; i < m; ++i) residual[i] += row[i];
  }
  quality.residual = relative(root_mean_square(residual.data(), m), quality.scale);
  quality.boundary = 0;
  for (const ConditionRows& condition : conditions_) {
    double defect = -condition.data, scale = std::fabs(condition.data);
    for (std::size_t j = 0; j < condition.factor.size(); ++j, ++row) {
      const double factor = condition.factor[j];
      defect += factor * *row;
      scale = std::max({scale, std::fabs(factor) * field.rms / condition.length[j],
                        condition.length[j] != 1 ? std::fabs(factor * *row) : 0.0});
    }
    const double value = relative(std::fabs(defect), scale);
    if (!(value <= quality.boundary)) quality.boundary = value;
  }
  if (std::isnan(quality.residual) || std::isnan(quality.boundary))
    quality.residual = quality.boundary = std::numeric_limits<double>::infinity();
  watch.lap("residual");
  return field;
}

std::shared_ptr<const la::PanelMatrix> LineOperator::evaluation(const std::vector<double>& points,
                                                                int order) const {
  constexpr std::size_t kept = 6;
  const std::lock_guard lock(mutex_);
  for (const Evaluated& e : evaluated_)
    if (e.order == order && e.points == points) return e.values;
  const Points exact(points.begin(), points.end());
  const la::DdMatrix modes = basis_->evaluate(exact, order);
  la::DdMatrix rows(modes.rows(), unknowns());
  for (Size j = 0; j < unknowns(); ++j)
    for (Size i = 0; i < rows.rows(); ++i)
      rows.set(i, j,
               j < modes.cols() ? modes(i, j) : exponentials_[j - modes.cols()](exact[i], order));
  auto values = std::make_shared<const la::PanelMatrix>(rows);
  evaluated_.push_back({points, order, values});
  if (evaluated_.size() > kept) evaluated_.pop_front();
  return values;
}

std::vector<double> LineField::values(const std::vector<double>& points, int order) const {
  const auto matrix = line->evaluation(points, order);
  std::vector<double> out(matrix->padded());
  matrix->multiply(coefficients.data(), out.data());
  out.resize(points.size());
  return out;
}

}  // namespace halfulp::gp_pde::detail
