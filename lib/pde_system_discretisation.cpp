#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "detail/blas_threads.hpp"
#include "detail/gmres.hpp"
#include "detail/pde_system.hpp"
#include "detail/spectrum.hpp"

namespace halfulp::gp_pde::detail {

// ---- equations at points ----

PointwiseSystem::PointwiseSystem(const CheckedSystem& c, bool keep_constant)
    : equations_(c.fields()) {
  std::vector<Expression> left = c.left;
  std::vector<std::string> inputs = c.names;
  for (std::size_t t = 0; t < c.terms.size(); ++t) {
    const bool constant = std::all_of(c.partial.begin(), c.partial.end(),
                                      [t](const auto& row) { return row[t].is_constant(); });
    if (!keep_constant && constant) {
      // Affine in it everywhere: leaves the rest alone.
      for (Expression& e : left) e = e.substitute(c.terms[t].name, Expression(0.0));
      continue;
    }
    inputs.push_back(c.terms[t].name);
    terms_.push_back(static_cast<Size>(t));
  }
  if (terms_.empty()) return;
  value_.emplace_back(left, inputs);
  std::vector<Expression> partial;
  for (Size i = 0; i < equations_; ++i)
    for (std::size_t k = 0; k < terms_.size(); ++k)
      if (!c.partial[i][terms_[k]].is_zero()) {
        partial.push_back(c.partial[i][terms_[k]]);
        nonzero_.emplace_back(i, static_cast<Size>(k));
      }
  exact_partial_.emplace_back(partial, inputs);
  partial_.emplace_back(partial, inputs);
}

namespace {

// Calls use(i, j, outputs) for every point of the grid with what the program makes of it.
template <class T, class Use>
void at_points(const Program<T>& program, std::span<const Points> grid,
               std::span<const la::DdMatrix> fields, int threads, const Use& use) {
  const auto n = static_cast<Size>(grid[0].size());
  const Size m = grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1;
  const auto rounded = [](dd v) {
    if constexpr (std::is_same_v<T, dd>)
      return v;
    else
      return v.hi;
  };
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && n * m > 4096)
  for (Size j = 0; j < m; ++j) {
    std::vector<T> inputs(grid.size() + fields.size()), outputs(program.outputs());
    if (grid.size() > 1) inputs[1] = rounded(grid[1][j]);
    for (Size i = 0; i < n; ++i) {
      inputs[0] = rounded(grid[0][i]);
      for (std::size_t k = 0; k < fields.size(); ++k)
        inputs[grid.size() + k] = rounded(fields[k](i, j));
      program(inputs, outputs);
      use(i, j, outputs);
    }
  }
}

Size columns_of(std::span<const Points> grid) {
  return grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1;
}

}  // namespace

std::vector<la::DdMatrix> PointwiseSystem::value(std::span<const Points> grid,
                                                 std::span<const la::DdMatrix> fields,
                                                 int threads) const {
  const auto n = static_cast<Size>(grid[0].size());
  std::vector<la::DdMatrix> out(equations_, la::DdMatrix(n, columns_of(grid)));
  if (value_.empty()) return out;
  at_points(value_.front(), grid, fields, threads, [&](Size i, Size j, std::span<const dd> v) {
    for (Size e = 0; e < equations_; ++e) out[e].set(i, j, v[e]);
  });
  return out;
}

std::vector<std::vector<la::DdMatrix>> PointwiseSystem::partial(
    std::span<const Points> grid, std::span<const la::DdMatrix> fields, bool exact,
    int threads) const {
  std::vector<std::vector<la::DdMatrix>> out(equations_, std::vector<la::DdMatrix>(terms_.size()));
  if (terms_.empty()) return out;
  for (const auto& [e, t] : nonzero_)
    out[e][t] = la::DdMatrix(static_cast<Size>(grid[0].size()), columns_of(grid));
  const auto store = [&](Size i, Size j, const auto& v) {
    for (std::size_t k = 0; k < nonzero_.size(); ++k)
      out[nonzero_[k].first][nonzero_[k].second].set(i, j, v[k]);
  };
  if (exact)
    at_points(exact_partial_.front(), grid, fields, threads, store);
  else
    at_points(partial_.front(), grid, fields, threads, store);
  return out;
}

// ---- one dimension ----

struct SystemDiscretisation::Line {
  Points root_weight;                    // of the nodes
  std::array<la::DdMatrix, 3> at_nodes;  // [order]: nodes x modes
  PointwiseSystem pointwise;
  la::DdMatrix conditions;  // weighted, of the scaled unknowns
  Points data;              // theirs, weighted
};

// ---- two dimensions ----

struct SystemDiscretisation::Plane {
  // A term with a constant coefficient that no field's own operator has.
  struct Term {
    Size equation = 0, field = 0;
    std::array<int, 2> order{};
    dd factor = 0.0;
  };
  std::vector<la::SylvesterSolver> own;
  std::vector<Term> terms;
  PointwiseSystem pointwise;
  std::vector<std::vector<dd>> own_part;  // [equation][pointwise term]: what `own` has of it
  std::array<std::array<la::DdMatrix, 3>, 2> at_nodes;  // [axis][order]
  std::array<std::array<la::DdMatrix, 3>, 2> galerkin;  // [axis][order]: derivatives of modes
  la::DdMatrix load;
  double largest = 0;  // eigenvalue of the own operators, scaled
};

namespace {

la::DdMatrix block(const la::DdMatrix& x, Size first_column, Size columns) {
  la::DdMatrix out(x.rows(), columns);
  std::copy_n(x.hi(first_column), x.rows() * columns, out.hi(0));
  std::copy_n(x.lo(first_column), x.rows() * columns, out.lo(0));
  return out;
}

void put(la::DdMatrix& x, Size first_column, const la::DdMatrix& b) {
  std::copy_n(b.hi(0), b.rows() * b.cols(), x.hi(first_column));
  std::copy_n(b.lo(0), b.rows() * b.cols(), x.lo(first_column));
}

la::DdMatrix rows_of(const la::DdMatrix& x, Size first, Size rows) {
  la::DdMatrix out(rows, x.cols());
  for (Size j = 0; j < x.cols(); ++j) {
    std::copy_n(x.hi(j) + first, rows, out.hi(j));
    std::copy_n(x.lo(j) + first, rows, out.lo(j));
  }
  return out;
}

la::DdMatrix scaled(la::DdMatrix a, double factor) {
  la::scale(a.rows() * a.cols(), factor, a.hi(0), a.lo(0));
  return a;
}

std::vector<double> product(bool transpose_a, bool transpose_b, int rows, int columns, int inner,
                            const double* a, const double* b) {
  std::vector<double> out(static_cast<std::size_t>(rows) * columns);
  cblas_dgemm(CblasColMajor, transpose_a ? CblasTrans : CblasNoTrans,
              transpose_b ? CblasTrans : CblasNoTrans, rows, columns, inner, 1.0, a,
              transpose_a ? inner : rows, b, transpose_b ? columns : inner, 0.0, out.data(), rows);
  return out;
}

// A = Q R in double, the last rows of A, which are those of large weight, first (Powell and Reid):
// what Newton's method and refinement need where the condition is moderate.
class QuickQr {
 public:
  // False where the matrix is too badly conditioned.
  [[nodiscard]] bool factor(const la::DdMatrix& a, Size heavy, double scale) {
    rows_ = static_cast<int>(a.rows());
    columns_ = static_cast<int>(a.cols());
    light_ = a.rows() - heavy;
    if (rows_ < columns_) return false;
    a_.resize(static_cast<std::size_t>(rows_) * columns_);
    tau_.resize(columns_);
    for (Size j = 0; j < a.cols(); ++j) {
      std::copy_n(a.hi(j) + light_, heavy, a_.data() + j * rows_);
      std::copy_n(a.hi(j), light_, a_.data() + j * rows_ + heavy);
    }
    if (LAPACKE_dgeqrf(LAPACK_COL_MAJOR, rows_, columns_, a_.data(), rows_, tau_.data()) != 0)
      return false;
    // Smallest singular value by inverse iteration, within a few per cent from above.
    std::vector<double> x(columns_);
    for (int i = 0; i < columns_; ++i) {
      if (!(std::fabs(a_[i + static_cast<std::size_t>(i) * rows_]) > 0)) return false;
      x[i] = 1.0 + 0.5 * std::sin(static_cast<double>(i) * i + 1);
    }
    for (int it = 0; it < 8; ++it) {
      const double before = cblas_dnrm2(columns_, x.data(), 1);
      solve_triangle(CblasTrans, x);
      solve_triangle(CblasNoTrans, x);
      const double after = cblas_dnrm2(columns_, x.data(), 1);
      if (!std::isfinite(after) || !(after > 0)) return false;
      smallest = std::sqrt(before / after);
      cblas_dscal(columns_, 1 / after, x.data(), 1);
    }
    return smallest > 1e-8 * scale;
  }

  [[nodiscard]] la::DdMatrix solve(const la::DdMatrix& b) const {
    const Size heavy = rows_ - light_;
    std::vector<double> y(rows_);
    std::copy_n(b.hi(0) + light_, heavy, y.data());
    std::copy_n(b.hi(0), light_, y.data() + heavy);
    LAPACKE_dormqr(LAPACK_COL_MAJOR, 'L', 'T', rows_, 1, columns_, a_.data(), rows_, tau_.data(),
                   y.data(), rows_);
    y.resize(columns_);
    solve_triangle(CblasNoTrans, y);
    la::DdMatrix out(columns_, 1);
    std::copy(y.begin(), y.end(), out.hi(0));
    return out;
  }

  double smallest = 0;

 private:
  void solve_triangle(CBLAS_TRANSPOSE transpose, std::vector<double>& x) const {
    cblas_dtrsv(CblasColMajor, CblasUpper, transpose, CblasNonUnit, columns_, a_.data(), rows_,
                x.data(), 1);
  }
  int rows_ = 0, columns_ = 0;
  Size light_ = 0;
  std::vector<double> a_, tau_;
};

}  // namespace

SystemDiscretisation::SystemDiscretisation(const CheckedSystem& c,
                                           std::vector<std::vector<Band>> wanted,
                                           const Choice& choice, Timings& timings) {
  Stopwatch watch(timings);
  const Size d = c.dimension();
  for (Size k = 0; k < d; ++k) {
    la::BasisOptions o;
    o.kernel = c.options.kernel;
    o.margin = choice.margin;
    o.max_modes = choice.most_modes;
    o.periodic = c.axis_periodic[k][0];
    o.scattered = d == 1;  // no integrals are needed
    o.threads = c.threads;
    wanted[k].push_back({0, 0});
    wanted[k] = la::merge_bands(std::move(wanted[k]), 2 * o.margin * two_pi / c.length(k).hi);
    const bool twin = k == 1 && c.end(0, 0) == c.end(1, 0) && c.end(0, 1) == c.end(1, 1) &&
                      c.axis_periodic[0][0] == c.axis_periodic[1][0] &&
                      std::equal(wanted[0].begin(), wanted[0].end(), wanted[1].begin(),
                                 wanted[1].end(), [](const Band& p, const Band& q) {
                                   return p.lower == q.lower && p.upper == q.upper;
                                 });
    basis.push_back(
        twin ? basis[0]
             : std::make_shared<la::FourierBasis>(c.end(k, 0), c.end(k, 1), wanted[k], o));
  }
  bands = std::move(wanted);
  watch.lap("basis");

  // Equations and fields are scaled so that the largest entry of each is about one.
  std::vector<Expression> all;
  for (const auto& row : c.reference) all.insert(all.end(), row.begin(), row.end());
  const Size n = c.fields();
  const auto terms = static_cast<Size>(c.terms.size());
  std::vector<double> largest(n * n, 0.0), value(all.size());
  const Program<double> code(all, c.names);
  for (int p = 0; p < 9; ++p) {
    std::vector<double> point;
    for (Size k = 0; k < d; ++k)
      point.push_back(c.end(k, 0).hi + c.length(k).hi * (k == 0 ? p % 3 : p / 3) / 2.0);
    code(point, value);
    for (Size i = 0; i < n; ++i)
      for (Size t = 0; t < terms; ++t) {
        double size = std::fabs(value[i * terms + t]);
        for (Size k = 0; k < d; ++k)
          for (int o = 0; o < c.terms[t].order[k]; ++o)
            size *= std::max(basis[k]->largest_frequency(), two_pi / c.length(k).hi);
        double& entry = largest[i * n + c.terms[t].field];
        entry = std::max(entry, size);
      }
  }
  equation_scale.assign(n, 1.0);
  field_scale.assign(n, 1.0);
  for (Size i = 0; i < n; ++i) {
    const double most = *std::max_element(largest.begin() + i * n, largest.begin() + (i + 1) * n);
    if (most > 0) equation_scale[i] = 1 / most;
  }
  for (Size j = 0; j < n; ++j) {
    double most = 0;
    for (Size i = 0; i < n; ++i) most = std::max(most, equation_scale[i] * largest[i * n + j]);
    if (most > 0) field_scale[j] = most;
  }
  if (d == 1)
    set_up_line(c);
  else
    set_up_plane(c);
  watch.lap("operator");
}

void SystemDiscretisation::set_up_line(const CheckedSystem& c) {
  auto line = std::make_shared<Line>();
  const la::FourierBasis& b = *basis[0];
  const Size r = b.size(), n = c.fields();
  for (const dd& w : b.weights()) line->root_weight.push_back(sqrt(w));
  line->at_nodes[0] = b.at_nodes();
  for (const SystemTerm& term : c.terms) {
    la::DdMatrix& values = line->at_nodes[term.order[0]];
    if (values.rows() == 0) values = b.evaluate(b.nodes(), term.order[0]);
  }
  line->pointwise = PointwiseSystem(c, true);
  // Conditions: those given, and those of a periodic field among others that are not.
  std::vector<Points> rows;
  const auto add = [&](Points row, dd g) {
    double size = std::numeric_limits<double>::min();
    for (const dd& x : row) size = std::max(size, std::fabs(x.hi));
    // A weight so large that the condition holds to all digits of a double; double-double has as
    // many again for the rest. The equations' rows are of size one.
    const dd weight = 1e8 / dd(size);
    for (dd& x : row) x *= weight;
    rows.push_back(std::move(row));
    line->data.push_back(g * weight);
  };
  const auto end_row = [&](int s, int order) {
    const Points p{c.end(0, s)};
    return b.evaluate(p, order);
  };
  for (const SystemCondition& q : c.conditions) {
    const la::DdMatrix u = end_row(q.end, 0), du = end_row(q.end, 1);
    Points row(n * r);
    for (Size j = 0; j < r; ++j)
      row[q.field * r + j] =
          (u(0, j) * q.a + du(0, j) * (q.end == 0 ? -q.b : q.b)) / field_scale[q.field];
    add(std::move(row), q.g.constant());
  }
  for (Size f = 0; f < n && !c.axis_periodic[0][0]; ++f) {
    if (!c.is_periodic(0, f)) continue;
    int highest = 0;
    for (const SystemTerm& term : c.terms)
      if (term.field == f) highest = std::max(highest, term.order[0]);
    for (int order = 0; order < highest; ++order) {
      const la::DdMatrix low = end_row(0, order), high = end_row(1, order);
      Points row(n * r);
      for (Size j = 0; j < r; ++j) row[f * r + j] = (high(0, j) - low(0, j)) / field_scale[f];
      add(std::move(row), 0.0);
    }
  }
  line->conditions = la::DdMatrix(static_cast<Size>(rows.size()), n * r);
  for (Size i = 0; i < line->conditions.rows(); ++i)
    for (Size j = 0; j < n * r; ++j) line->conditions.set(i, j, rows[i][j]);
  line_ = std::move(line);
}

la::DdMatrix SystemDiscretisation::start_coefficients(const CheckedSystem& c,
                                                      const std::vector<Field>* start) const {
  std::vector<Points> grid;
  for (const auto& b : basis) grid.push_back(b->nodes());
  const Size n = c.fields(), r = basis[0]->size();
  const Size q = basis.size() > 1 ? basis[1]->size() : 1;
  la::DdMatrix x = basis.size() > 1 ? la::DdMatrix(r, n * q) : la::DdMatrix(n * r, 1);
  for (Size f = 0; f < n; ++f) {
    const auto& guess = c.problem.fields[f].guess;
    if (!start && !guess) continue;
    la::DdMatrix values;
    if (start) {
      values = (*start)[f].values(grid, std::vector<int>(grid.size(), 0));
    } else if (!c.path.empty()) {
      values = la::DdMatrix(static_cast<Size>(grid[0].size()), 1);
      for (Size i = 0; i < values.rows(); ++i) values.set(i, 0, c.path.value(f, grid[0][i].hi));
    } else {
      values = sample(Program<dd>(*guess, c.names), grid, c.threads);
    }
    la::DdMatrix part = basis[0]->project(values);
    if (basis.size() > 1) part = la::transpose(basis[1]->project(la::transpose(part)));
    part = scaled(std::move(part), field_scale[f]);
    if (basis.size() > 1)
      put(x, f * q, part);
    else
      for (Size i = 0; i < r; ++i) x.set(f * r + i, 0, part(i, 0));
  }
  return x;
}

la::DdMatrix SystemDiscretisation::solve_line(const CheckedSystem& c,
                                              const std::vector<Field>* start, Field& facts) const {
  const Line& line = *line_;
  const la::FourierBasis& b = *basis[0];
  const Size m = static_cast<Size>(b.nodes().size()), r = b.size(), n = c.fields();
  const Size extra = line.conditions.rows();
  const std::vector<Points> grid{b.nodes()};
  la::DdMatrix data(n * m + extra, 1);
  for (Size i = 0; i < n; ++i) {
    const la::DdMatrix f = sample(Program<dd>(c.source[i], c.names), grid, c.threads);
    for (Size p = 0; p < m; ++p)
      data.set(i * m + p, 0, f(p, 0) * line.root_weight[p] * equation_scale[i]);
  }
  for (Size s = 0; s < extra; ++s) data.set(n * m + s, 0, line.data[s]);
  const auto terms_of = [&](const la::DdMatrix& x) {
    std::vector<la::DdMatrix> values;
    values.reserve(line.pointwise.terms().size());
    for (const Size t : line.pointwise.terms()) {
      const SystemTerm& term = c.terms[t];
      const la::DdMatrix part = scaled(rows_of(x, term.field * r, r), 1 / field_scale[term.field]);
      values.push_back(la::multiply(line.at_nodes[term.order[0]], part, c.threads));
    }
    return values;
  };
  const la::OneBlasThread one;
  QuickQr quick;
  bool is_quick = false;
  LineSystem factored;
  NewtonSystem system;
  system.go_on = [&c] { ask_to_go_on(c.options); };
  system.equations = n * m;
  system.residual = [&](const la::DdMatrix& x) {
    la::DdMatrix rest = data;
    const auto value = line.pointwise.value(grid, terms_of(x), c.threads);
    for (Size i = 0; i < n; ++i)
      for (Size p = 0; p < m; ++p)
        rest.set(i * m + p, 0,
                 rest(i * m + p, 0) - value[i](p, 0) * line.root_weight[p] * equation_scale[i]);
    const la::DdMatrix sides = la::multiply(line.conditions, x, 1);
    for (Size s = 0; s < extra; ++s) rest.set(n * m + s, 0, rest(n * m + s, 0) - sides(s, 0));
    return rest;
  };
  system.linearise = [&](const la::DdMatrix& x) {
    const auto partial = line.pointwise.partial(grid, terms_of(x), true, c.threads);
    la::DdMatrix all(n * m + extra, n * r);
    for (Size i = 0; i < n; ++i)
      for (std::size_t k = 0; k < line.pointwise.terms().size(); ++k) {
        const la::DdMatrix& slope = partial[i][k];
        if (slope.rows() == 0) continue;
        const SystemTerm& term = c.terms[line.pointwise.terms()[k]];
        const la::DdMatrix& values = line.at_nodes[term.order[0]];
        Points factor(m);
        for (Size p = 0; p < m; ++p)
          factor[p] =
              slope(p, 0) * line.root_weight[p] * (equation_scale[i] / field_scale[term.field]);
        for (Size j = 0; j < r; ++j) {
          const Size column = term.field * r + j;
          for (Size p = 0; p < m; ++p)
            all.set(i * m + p, column, all(i * m + p, column) + values(p, j) * factor[p]);
        }
      }
    double scale = std::numeric_limits<double>::min();
    for (const double v : all.rounded()) scale = std::max(scale, std::fabs(v));
    for (Size j = 0; j < n * r; ++j)
      for (Size s = 0; s < extra; ++s) all.set(n * m + s, j, line.conditions(s, j));
    is_quick = quick.factor(all, extra, scale);
    if (is_quick) {
      factored = {};
      factored.smallest_eigenvalue = quick.smallest;
      factored.condition = std::max(1.0, scale / quick.smallest);
    } else {
      factored = factor_rows(std::move(all), scale, c.threads);
    }
  };
  system.correct = [&](const la::DdMatrix& rest) {
    return is_quick ? quick.solve(rest) : factored.solve(rest);
  };
  NewtonResult result;
  if (c.linear)
    result = newton(system, la::DdMatrix(n * r, 1), 3);  // refinement: the derivative stays
  else
    result = newton_or_continuation(system, start_coefficients(c, start),
                                    start_coefficients(c, nullptr), c.options.max_newton);
  facts.newton_steps = result.derivatives;
  facts.converged = result.converged;
  facts.condition = factored.condition;
  facts.smallest_eigenvalue = factored.smallest_eigenvalue;
  facts.singular = factored.singular;
  return result.x;
}

void SystemDiscretisation::set_up_plane(const CheckedSystem& c) {
  auto plane = std::make_shared<Plane>();
  const Size n = c.fields(), r = basis[0]->size(), q = basis[1]->size();
  const std::vector<Points> grid{basis[0]->nodes(), basis[1]->nodes()};
  plane->load = la::DdMatrix(r, n * q);
  for (Size i = 0; i < n; ++i) {
    const Checked& own = c.own[i];
    std::array<std::array<la::DdMatrix, 2>, 2> side_load;
    la::DdMatrix a = axis_matrix(own, 0, *basis[0], side_load[0]);
    la::DdMatrix b = axis_matrix(own, 1, *basis[1], side_load[1]);
    for (Size j = 0; j < r; ++j) a.set(j, j, a(j, j) + own.reaction);
    la::SylvesterSolver solver(a, b, {}, false, c.threads);
    // Where the field's own operator is singular (a pure Neumann problem, say), a multiple of the
    // field is moved into it from the rest.
    if (!(solver.condition() < 1e11)) {
      double shift = 0;
      for (Size k = 0; k < 2; ++k) {
        const double w = two_pi / c.length(k).hi;
        shift += std::fabs(own.axis[k].second.hi) * w * w + std::fabs(own.axis[k].first.hi) * w;
      }
      if (own.axis[0].second.hi > 0 || own.axis[1].second.hi > 0) shift = -shift;
      for (Size j = 0; j < r; ++j) a.set(j, j, a(j, j) + shift);
      solver = la::SylvesterSolver(a, b, {}, false, c.threads);
      plane->terms.push_back({i, i, {0, 0}, -shift});
    }
    plane->largest = std::max(plane->largest, solver.condition() * solver.smallest_eigenvalue() *
                                                  equation_scale[i] / field_scale[i]);
    plane->own.push_back(std::move(solver));
    const la::DdMatrix f = sample(Program<dd>(c.source[i], c.names), grid, c.threads);
    la::DdMatrix load = la::transpose(basis[1]->project(la::transpose(basis[0]->project(f))));
    for (Size k = 0; k < 2; ++k)
      for (int s = 0; s < 2; ++s) {
        if (!has_data(own.problem.sides[k][s])) continue;
        const Size other = 1 - k;
        const la::DdMatrix g = basis[other]->project(side_values(own, k, s, basis[other]->nodes()));
        const la::DdMatrix& l = side_load[k][s];
        for (Size j = 0; j < q; ++j)
          for (Size p = 0; p < r; ++p)
            load.set(p, j, load(p, j) + (k == 0 ? l(p, 0) * g(j, 0) : g(p, 0) * l(j, 0)));
      }
    put(plane->load, i * q, load);
  }
  // What the own operators do not have: with constant coefficients among coefficients, the rest at
  // the nodes.
  const auto own_coefficient = [&](Size i, const SystemTerm& term) {
    if (term.field != i) return dd(0.0);
    const Checked& own = c.own[i];
    if (term.order == std::vector<int>{0, 0}) return own.reaction;
    for (Size k = 0; k < 2; ++k) {
      if (term.order[1 - k] != 0) continue;
      if (term.order[k] == 1) return own.axis[k].first;
      if (term.order[k] == 2) return own.axis[k].second;
    }
    return dd(0.0);
  };
  plane->pointwise = PointwiseSystem(c, false);
  const auto& varying = plane->pointwise.terms();
  for (std::size_t t = 0; t < c.terms.size(); ++t) {
    if (std::find(varying.begin(), varying.end(), static_cast<Size>(t)) != varying.end()) continue;
    for (Size i = 0; i < n; ++i) {
      const dd rest = c.partial[i][t].constant() - own_coefficient(i, c.terms[t]);
      if (rest.hi != 0)
        plane->terms.push_back(
            {i, c.terms[t].field, {c.terms[t].order[0], c.terms[t].order[1]}, rest});
    }
  }
  for (Size i = 0; i < n; ++i) {
    std::vector<dd> row;
    row.reserve(varying.size());
    for (const Size t : varying) row.push_back(own_coefficient(i, c.terms[t]));
    plane->own_part.push_back(std::move(row));
  }
  const auto need = [&](Size k, int order) {
    la::DdMatrix& values = plane->at_nodes[k][order];
    if (values.rows() == 0)
      values = order == 0 ? basis[k]->at_nodes() : basis[k]->evaluate(basis[k]->nodes(), order);
  };
  for (const Plane::Term& term : plane->terms)
    for (Size k = 0; k < 2; ++k) {
      if (term.order[k] == 0 || plane->galerkin[k][term.order[k]].rows() > 0) continue;
      need(k, term.order[k]);
      plane->galerkin[k][term.order[k]] = basis[k]->project(plane->at_nodes[k][term.order[k]]);
    }
  for (const Size t : varying)
    for (Size k = 0; k < 2; ++k) need(k, c.terms[t].order[k]);
  plane_ = std::move(plane);
}

la::DdMatrix SystemDiscretisation::solve_plane(const CheckedSystem& c,
                                               const std::vector<Field>* start,
                                               Field& facts) const {
  const la::OneBlasThread one;
  const Plane& plane = *plane_;
  const Size n = c.fields(), r = basis[0]->size(), q = basis[1]->size();
  const std::vector<Points> grid{basis[0]->nodes(), basis[1]->nodes()};
  const auto& varying = plane.pointwise.terms();
  const auto values_of = [&](const la::DdMatrix& x) {
    std::vector<la::DdMatrix> values;
    values.reserve(varying.size());
    for (const Size t : varying) {
      const SystemTerm& term = c.terms[t];
      const la::DdMatrix part = scaled(block(x, term.field * q, q), 1 / field_scale[term.field]);
      values.push_back(la::multiply(la::multiply(plane.at_nodes[0][term.order[0]], part, c.threads),
                                    la::transpose(plane.at_nodes[1][term.order[1]]), c.threads));
    }
    return values;
  };
  NewtonSystem system;
  system.go_on = [&c] { ask_to_go_on(c.options); };
  system.residual = [&](const la::DdMatrix& x) {
    std::vector<la::DdMatrix> field, rest;
    for (Size i = 0; i < n; ++i) {
      field.push_back(scaled(block(x, i * q, q), 1 / field_scale[i]));
      rest.push_back(plane.own[i].residual(field[i], block(plane.load, i * q, q)));
    }
    for (const Plane::Term& term : plane.terms) {
      la::DdMatrix v = field[term.field];
      if (term.order[0] > 0) v = la::multiply(plane.galerkin[0][term.order[0]], v, c.threads);
      if (term.order[1] > 0)
        v = la::multiply(v, la::transpose(plane.galerkin[1][term.order[1]]), c.threads);
      rest[term.equation] = add_scaled(std::move(rest[term.equation]), -term.factor, v);
    }
    if (!plane.pointwise.empty()) {
      const std::vector<la::DdMatrix> values = values_of(x);
      std::vector<la::DdMatrix> left = plane.pointwise.value(grid, values, c.threads);
      for (Size i = 0; i < n; ++i) {
        for (std::size_t t = 0; t < varying.size(); ++t)
          if (plane.own_part[i][t].hi != 0)
            left[i] = add_scaled(std::move(left[i]), -plane.own_part[i][t], values[t]);
        rest[i] =
            add_scaled(std::move(rest[i]), -1.0,
                       la::transpose(basis[1]->project(la::transpose(basis[0]->project(left[i])))));
      }
    }
    la::DdMatrix out(r, n * q);
    for (Size i = 0; i < n; ++i) put(out, i * q, scaled(std::move(rest[i]), equation_scale[i]));
    return out;
  };
  // Products with the derivative are in double: they only correct.
  const auto m0 = static_cast<int>(grid[0].size()), m1 = static_cast<int>(grid[1].size());
  const auto r0 = static_cast<int>(r), r1 = static_cast<int>(q);
  std::array<std::vector<double>, 2> projector;  // onto the basis, transposed
  for (Size k = 0; k < 2 && !plane.pointwise.empty(); ++k)
    projector[k] = scale_rows(basis[k]->at_nodes(), basis[k]->weights()).rounded();
  std::vector<std::vector<la::DdMatrix>> slope;
  system.linearise = [&](const la::DdMatrix& x) {
    if (plane.pointwise.empty()) return;
    slope = plane.pointwise.partial(grid, values_of(x), false, c.threads);
    for (Size i = 0; i < n; ++i)
      for (std::size_t t = 0; t < varying.size(); ++t) {
        if (plane.own_part[i][t].hi == 0) continue;
        if (slope[i][t].rows() == 0) slope[i][t] = la::DdMatrix(m0, m1);
        for (Size p = 0; p < static_cast<Size>(m0) * m1; ++p)
          slope[i][t].hi(0)[p] -= plane.own_part[i][t].hi;
      }
  };
  const std::size_t size = static_cast<std::size_t>(r) * q;
  const auto precondition = [&](const std::vector<double>& y) {
    std::vector<double> out;
    out.reserve(y.size());
    for (Size i = 0; i < n; ++i) {
      std::vector<double> part(y.begin() + static_cast<std::ptrdiff_t>(i * size),
                               y.begin() + static_cast<std::ptrdiff_t>((i + 1) * size));
      for (double& v : part) v /= equation_scale[i];
      part = plane.own[i].precondition(part);
      for (double& v : part) v *= field_scale[i];
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  };
  const auto apply = [&](const std::vector<double>& y) {
    const std::vector<double> z = precondition(y);
    std::vector<double> out = y;
    for (const Plane::Term& term : plane.terms) {
      const double* field = z.data() + term.field * size;
      std::vector<double> v(field, field + size);
      if (term.order[0] > 0)
        v = product(false, false, r0, r1, r0, plane.galerkin[0][term.order[0]].hi(0), v.data());
      if (term.order[1] > 0)
        v = product(false, true, r0, r1, r1, v.data(), plane.galerkin[1][term.order[1]].hi(0));
      const double factor =
          term.factor.hi * equation_scale[term.equation] / field_scale[term.field];
      double* to = out.data() + term.equation * size;
      for (std::size_t p = 0; p < size; ++p) to[p] += factor * v[p];
    }
    if (plane.pointwise.empty()) return out;
    std::vector<std::vector<double>> sum(n);
    for (std::size_t t = 0; t < varying.size(); ++t) {
      const SystemTerm& term = c.terms[varying[t]];
      const std::vector<double> first =
          product(false, false, m0, r1, r0, plane.at_nodes[0][term.order[0]].hi(0),
                  z.data() + term.field * size);
      const std::vector<double> value =
          product(false, true, m0, m1, r1, first.data(), plane.at_nodes[1][term.order[1]].hi(0));
      for (Size i = 0; i < n; ++i) {
        if (slope[i][t].rows() == 0) continue;
        if (sum[i].empty()) sum[i].resize(value.size());
        const double factor = equation_scale[i] / field_scale[term.field];
        const double* s = slope[i][t].hi(0);
        for (std::size_t p = 0; p < value.size(); ++p) sum[i][p] += factor * s[p] * value[p];
      }
    }
    for (Size i = 0; i < n; ++i) {
      if (sum[i].empty()) continue;
      const std::vector<double> part =
          product(false, false, r0, r1, m1,
                  product(true, false, r0, m1, m0, projector[0].data(), sum[i].data()).data(),
                  projector[1].data());
      double* to = out.data() + i * size;
      for (std::size_t p = 0; p < size; ++p) to[p] += part[p];
    }
    return out;
  };
  const auto norm = [](const std::vector<double>& v) {
    return cblas_dnrm2(static_cast<int>(v.size()), v.data(), 1);
  };
  constexpr int most_products = 250;
  double reduction = 0;  // of the last solve by GMRES
  const auto correct = [&](const std::vector<double>& rest) {
    const std::vector<double> y = la::gmres(rest, apply, 1e-6, most_products);
    std::vector<double> left = apply(y);
    for (std::size_t p = 0; p < left.size(); ++p) left[p] = rest[p] - left[p];
    const double before = norm(rest);
    reduction = before > 0 ? norm(left) / before : 0;
    return precondition(y);
  };
  system.correct = [&](const la::DdMatrix& rest) {
    const std::vector<double> step = correct(rest.rounded());
    la::DdMatrix out(r, n * q);
    // Where the preconditioner does not help, steps that lead nowhere are not worth their time.
    if (reduction <= (c.linear ? 1e-3 : 0.1))
      std::copy(step.begin(), step.end(), out.hi(0));
    else
      out.set(0, 0, std::numeric_limits<double>::quiet_NaN());
    return out;
  };
  NewtonResult result;
  if (c.linear) {
    result = newton(system, la::DdMatrix(r, n * q), 3);  // refinement: the derivative stays
  } else {
    const la::DdMatrix origin = start_coefficients(c, nullptr);
    la::DdMatrix first = origin;
    if (start) {
      first = start_coefficients(c, start);
    } else {
      system.linearise(origin);
      const la::DdMatrix step = system.correct(system.residual(origin));
      if (std::isfinite(rms(step))) first = add_scaled(std::move(first), 1.0, step);
    }
    result = newton_or_continuation(system, std::move(first), origin,
                                    std::min(16, c.options.max_newton));
  }
  facts.newton_steps = result.derivatives;
  facts.converged = result.converged;
  // The norm of the inverse, from below, by a few steps of the power method.
  system.linearise(result.x);
  std::vector<double> v(n * size);
  for (std::size_t p = 0; p < v.size(); ++p)
    v[p] = std::sin(static_cast<double>(p * p % 1000003) + 1.0);
  double growth = 0;
  bool solved = reduction <= 1e-3 || !c.linear;
  for (int it = 0; it < 3 && solved; ++it) {
    const double before = norm(v);
    for (double& x : v) x /= before;
    v = correct(v);
    solved = reduction <= 1e-3 && std::isfinite(norm(v));
    growth = std::max(growth, norm(v));
  }
  facts.smallest_eigenvalue = solved && growth > 0 ? 1 / growth : 0;
  facts.condition = solved ? plane.largest * growth : std::numeric_limits<double>::infinity();
  facts.singular = !(facts.condition < 1e13);
  return result.x;
}

std::vector<Field> SystemDiscretisation::solve(const CheckedSystem& c,
                                               const std::vector<Field>* start,
                                               Timings& timings) const {
  Stopwatch watch(timings);
  Field facts;
  facts.basis = basis;
  facts.threads = c.threads;
  const bool line = c.dimension() == 1;
  const la::DdMatrix x = line ? solve_line(c, start, facts) : solve_plane(c, start, facts);
  const Size r = basis[0]->size();
  std::vector<Field> fields;
  for (Size f = 0; f < c.fields(); ++f) {
    Field field = facts;
    if (line) {
      field.features = basis[0]->to_features(scaled(rows_of(x, f * r, r), 1 / field_scale[f]));
    } else {
      const Size q = basis[1]->size();
      const la::DdMatrix part = scaled(block(x, f * q, q), 1 / field_scale[f]);
      field.features =
          la::transpose(basis[1]->to_features(la::transpose(basis[0]->to_features(part))));
    }
    fields.push_back(std::move(field));
  }
  watch.lap("solve");
  return fields;
}

}  // namespace halfulp::gp_pde::detail
