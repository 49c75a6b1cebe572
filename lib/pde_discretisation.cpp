#include "detail/pde_discretisation.hpp"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <limits>
#include <numeric>
#include <utility>

#include "detail/blas_threads.hpp"
#include "detail/gmres.hpp"
#include "detail/setup_cache.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde::detail {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

la::DdMatrix row(const la::FourierBasis& basis, dd point, int order) {
  const Points p{point};
  return basis.evaluate(p, order);
}

// C += factor * a^T b for 1 x r rows a and b.
void add_outer(la::DdMatrix& c, dd factor, const la::DdMatrix& a, const la::DdMatrix& b) {
  for (Size j = 0; j < c.cols(); ++j)
    for (Size i = 0; i < c.rows(); ++i) c.set(i, j, c(i, j) + factor * a(0, i) * b(0, j));
}

std::vector<std::complex<double>> characteristic_roots(const std::vector<dd>& a) {
  std::vector<std::complex<double>> rounded;
  rounded.reserve(a.size());
  for (const dd& v : a) rounded.emplace_back(v.hi);
  return polynomial_roots(std::move(rounded));
}

// Where an exponential is one: the end where it is largest, so that it nowhere overflows; or, with
// all conditions of an initial value problem at the other end, that one, where they see it.
dd exponential_origin(const Checked& c, dd rate) {
  constexpr double most = 500;
  const int evolution = c.axis[0].order > 1 ? c.axis[0].evolution : 0;
  if (evolution != 0 && std::fabs((rate * c.length(0)).hi) < most)
    return c.end(0, evolution < 0 ? 0 : 1);
  return c.end(0, rate.hi > 0 ? 1 : 0);
}

// A root of the characteristic polynomial to double-double, from one in double, by Newton's method;
// false if it does not converge to all digits: near a multiple root.
bool polish(const std::vector<dd>& a, dd& re, dd& im) {
  double size = 0;
  for (int round = 0; round < 6; ++round) {
    dd p_re = 0.0, p_im = 0.0, q_re = 0.0, q_im = 0.0;  // the polynomial and its derivative
    for (std::size_t j = a.size(); j-- > 0;) {
      const dd next = q_re * re - q_im * im + p_re;
      q_im = q_re * im + q_im * re + p_im;
      q_re = next;
      const dd value = p_re * re - p_im * im + a[j];
      p_im = p_re * im + p_im * re;
      p_re = value;
    }
    const dd denominator = q_re * q_re + q_im * q_im;
    if (!(denominator.hi > 0)) return false;
    const dd step_re = (p_re * q_re + p_im * q_im) / denominator;
    const dd step_im = (p_im * q_re - p_re * q_im) / denominator;
    re -= step_re;
    im -= step_im;
    size = std::hypot(step_re.hi, step_im.hi) / std::hypot(re.hi, im.hi);
  }
  return size < 1e-27;
}

// Solutions exp(z x) of a homogeneous equation that change by more than e^12 over the axis; slower
// ones lie in the low band.
std::vector<Exponential> fast_exponentials(const Checked& c) {
  constexpr double fast = 12;
  std::vector<Exponential> found;
  if (!c.constant || c.newton || c.axis[0].periodic) return found;
  if (c.axis[0].order > 2) {
    std::vector<dd> a(c.axis[0].order + 1, dd(0.0));
    for (const auto& [order, value] : c.op.coefficients) a[order[0]] = value.constant();
    const std::vector<std::complex<double>> roots = characteristic_roots(a);
    for (std::size_t k = 0; k < roots.size(); ++k) {
      const std::complex<double> z = roots[k];
      if (std::fabs(z.real() * c.length(0).hi) < fast || z.imag() < -1e-13 * std::abs(z)) continue;
      const bool alone = std::none_of(roots.begin(), roots.end(), [&](const auto& other) {
        return &other != &roots[k] && std::abs(other - z) < 1e-6 * std::abs(z);
      });
      dd re = z.real(), im = z.imag() > 1e-13 * std::abs(z) ? z.imag() : 0.0;
      if (!alone || !polish(a, re, im)) continue;
      found.push_back({re, im, exponential_origin(c, re), false});
      if (im.hi != 0) found.push_back({re, im, exponential_origin(c, re), true});
    }
    return found;
  }
  const dd a = c.axis[0].second, b = c.axis[0].first;
  const Expression reaction = coefficient(c.op, {0});
  const dd e = reaction.is_zero() ? dd(0.0) : reaction.constant();
  const auto add = [&](dd rate, dd frequency) {
    if (!isfinite(rate) || !isfinite(frequency) || std::fabs((rate * c.length(0)).hi) < fast)
      return;
    const dd origin = exponential_origin(c, rate);
    found.push_back({rate, frequency, origin, false});
    if (frequency.hi != 0) found.push_back({rate, frequency, origin, true});
  };
  if (a.hi == 0) {
    add(-e / b, 0.0);
    return found;
  }
  const dd discriminant = b * b - 4.0 * a * e;
  if (discriminant.hi < 0) {
    add(-b / (2.0 * a), sqrt(-discriminant) / (2.0 * a));
    return found;
  }
  // The root without cancellation first, the other from the product of the two.
  const dd q = -0.5 * (b.hi < 0 ? b - sqrt(discriminant) : b + sqrt(discriminant));
  if (q.hi == 0) return found;
  add(q / a, 0.0);
  if ((e / q - q / a).hi != 0) add(e / q, 0.0);
  return found;
}

bool same_values(const la::DdMatrix& a, const la::DdMatrix& b) {
  const auto equal = [&](const double* x, const double* y) {
    return std::equal(x, x + a.rows() * a.cols(), y);
  };
  return a.rows() == b.rows() && a.cols() == b.cols() && equal(a.hi(0), b.hi(0)) &&
         equal(a.lo(0), b.lo(0));
}

// Smallest singular value of an upper triangle by inverse iteration: within a few per cent, always
// above the truth. Zero where the triangle has a zero on its diagonal.
double smallest_singular_value(const la::DdMatrix& r) {
  const Size n = r.rows();
  la::DdMatrix x(n, 1);
  for (Size i = 0; i < n; ++i) {
    if (r(i, i).hi == 0) return 0;
    x.set(i, 0, 1.0 + 0.5 * std::sin(static_cast<double>(i * i + 1)));  // orthogonal to nothing
  }
  double value = 0;
  for (int it = 0; it < 8; ++it) {
    const double before = std::sqrt(la::dot(n, x.hi(0), x.lo(0), x.hi(0), x.lo(0)).hi);
    x = la::solve_upper(r, la::solve_upper_transposed(r, std::move(x)));
    const double after = std::sqrt(la::dot(n, x.hi(0), x.lo(0), x.hi(0), x.lo(0)).hi);
    if (!std::isfinite(after)) return 0;
    value = std::sqrt(before / after);
    la::scale(n, 1.0 / after, x.hi(0), x.lo(0));
  }
  return value;
}

}  // namespace

la::DdMatrix axis_matrix(const Checked& c, Size k, const la::FourierBasis& basis,
                         std::array<la::DdMatrix, 2>& load) {
  const AxisOperator& axis = c.axis[k];
  const Size r = basis.size();
  const la::DdMatrix dq = basis.evaluate(basis.nodes(), 1);
  const la::DdMatrix w_dq = scale_rows(dq, basis.weights());
  la::DdMatrix a(r, r);
  if (axis.has_second)
    a = add_scaled(std::move(a), -axis.second, la::multiply_transposed(dq, w_dq, c.threads));
  // Symmetric to the last bit, so that the factorisation sees it.
  for (Size j = 0; j < r; ++j)
    for (Size i = 0; i < j; ++i) a.set(i, j, a(j, i));
  for (int s = 0; s < 2; ++s) {
    const Side& side = c.problem.sides[k][s];
    load[s] = la::DdMatrix(r, 1);
    if (!has_data(side)) continue;
    const double n = s == 0 ? -1 : 1;
    const la::DdMatrix b = row(basis, c.end(k, s), 0);
    la::DdMatrix db = row(basis, c.end(k, s), 1);
    la::scale(r, n, db.hi(0), db.lo(0));  // outward derivative
    if (axis.has_second) {
      if (side.b == 0) {
        // Larger than the inverse trace constant, which sum_i q_i(end)^2 bounds on this space.
        const la::DdMatrix column = la::transpose(b);
        const dd tau = 8.0 * la::dot(r, column.hi(0), column.lo(0), column.hi(0), column.lo(0));
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
  if (axis.has_first) a = add_scaled(std::move(a), axis.first, basis.project(dq));
  return a;
}

namespace {

void add_time(Timings& timings, const std::string& phase, double spent) {
  const auto it = std::find_if(timings.begin(), timings.end(),
                               [&phase](const auto& entry) { return entry.first == phase; });
  if (it == timings.end())
    timings.emplace_back(phase, spent);
  else
    it->second += spent;
}

}  // namespace

Stopwatch::Stopwatch(Timings& timings) : timings_(timings), start_(seconds()) {}

void Stopwatch::lap(const char* phase) {
  const double now = seconds();
  add_time(timings_, phase, now - start_);
  start_ = now;
}

void two_at_once(int threads, Timings& timings,
                 const std::function<void(int i, Timings& timings)>& make) {
  const bool side_by_side = threads == 2 || threads == 3;
  std::array<Timings, 2> spent;
  parallel_for(2, side_by_side ? 2 : 1, [&](Size i) { make(static_cast<int>(i), spent[i]); });
  for (const Timings& part : spent)
    for (const auto& [phase, seconds] : part)
      add_time(timings, phase, seconds / (side_by_side ? 2 : 1));
}

dd Exponential::operator()(dd x, int order) const {
  const dd s = x - origin, size = exp(rate * s);
  dd sine, cosine;
  sincos(frequency * s, sine, cosine);
  dd re = size * cosine, im = size * sine;
  for (int k = 0; k < order; ++k) {
    const dd next = rate * re - frequency * im;
    im = rate * im + frequency * re;
    re = next;
  }
  return imaginary ? im : re;
}

namespace {

// What is not in the features: exponentials and the free constant.
void add_rest(const Field& field, const Points& x, std::span<const int> orders, la::DdMatrix& v) {
  for (std::size_t e = 0; e < field.exponentials.size(); ++e)
    for (Size i = 0; i < v.rows(); ++i)
      v.set(i, 0,
            v(i, 0) + field.exponential_coefficients[e] * field.exponentials[e](x[i], orders[0]));
  const bool differentiated =
      std::any_of(orders.begin(), orders.end(), [](int o) { return o > 0; });
  if (differentiated || field.shift.hi == 0) return;
  for (Size j = 0; j < v.cols(); ++j)
    for (Size i = 0; i < v.rows(); ++i) v.set(i, j, v(i, j) + field.shift);
}

}  // namespace

la::DdMatrix Field::values(std::span<const Points> points, std::span<const int> orders) const {
  la::DdMatrix v = la::multiply(basis[0]->features_at(points[0], orders[0]), features, threads);
  if (basis.size() > 1)
    v = la::multiply(v, la::transpose(basis[1]->features_at(points[1], orders[1])), threads);
  add_rest(*this, points[0], orders, v);
  return v;
}

GridEvaluator::GridEvaluator(const Field& field, std::vector<Points> grid,
                             std::array<int, 2> highest)
    : grid_(std::move(grid)) {
  for (std::size_t k = 0; k < grid_.size(); ++k)
    for (int order = 0; order <= std::max(2, highest[k]); ++order) {
      la::DdMatrix f = field.basis[k]->features_at(grid_[k], order);
      features_[k][order] = k == 0 ? std::move(f) : la::transpose(f);
    }
}

la::DdMatrix GridEvaluator::values(const Field& field, std::span<const int> orders) const {
  la::DdMatrix v = la::multiply(features_[0][orders[0]], field.features, field.threads);
  if (grid_.size() > 1) v = la::multiply(v, features_[1][orders[1]], field.threads);
  add_rest(field, grid_[0], orders, v);
  return v;
}

la::BasisOptions line_basis_options(const Checked& c) {
  la::BasisOptions o;
  o.kernel = c.options.kernel;
  o.periodic = c.axis[0].periodic;
  o.scattered = !c.singular;  // no integrals are needed
  o.threads = c.threads;
  return o;
}

Discretisation::Discretisation(const Checked& c, std::vector<std::vector<Band>> wanted,
                               const Choice& choice, Timings& timings)
    : samples_(choice.samples) {
  Stopwatch watch(timings);
  for (Size k = 0; k < c.dimension(); ++k) {
    la::BasisOptions o;
    o.kernel = c.options.kernel;
    o.margin = choice.margin;
    o.max_modes = choice.most_modes;
    o.tolerance = c.dimension() == 1 ? 1e-17 : 6e-17;
    o.periodic = c.axis[k].periodic;
    // What the modes leave counts by its derivatives.
    if (c.strong && (!c.newton || c.axis[k].order > 2)) o.tolerance = 1e-20;
    o.scattered = c.dimension() == 1 && !c.singular;  // no integrals are needed
    o.threads = c.threads;
    wanted[k].push_back({0, 0});
    wanted[k] = la::merge_bands(std::move(wanted[k]), 2 * o.margin * two_pi / c.length(k).hi);
    const auto same = [](const Band& p, const Band& q) {
      return p.lower == q.lower && p.upper == q.upper;
    };
    const bool twin =
        k == 1 && c.end(0, 0) == c.end(1, 0) && c.end(0, 1) == c.end(1, 1) &&
        c.axis[0].periodic == c.axis[1].periodic &&
        std::equal(wanted[0].begin(), wanted[0].end(), wanted[1].begin(), wanted[1].end(), same);
    if (!choice.basis.empty())
      basis.push_back(choice.basis[k]);
    else
      basis.push_back(twin ? basis[0]
                           : la::make_basis(c.end(k, 0), c.end(k, 1), wanted[k], o, c.cache.get()));
  }
  bands = std::move(wanted);
  watch.lap("basis");
  if (c.dimension() == 1)
    set_up_line(c);
  else
    set_up_plane(c);
  if (c.newton) set_up_newton(c);
  watch.lap("operator");
}

void Discretisation::set_up_line(const Checked& c) {
  const la::FourierBasis& b = *basis[0];
  const Options& o = c.options;
  if (!o.nodes_per_axis.empty()) {
    rows_ = make_nodes(o.nodes, c.end(0, 0), c.end(0, 1), o.nodes_per_axis[0]);
    row_weight_ = trapezoid(rows_);
  } else {
    rows_ = b.nodes();
    row_weight_ = b.weights();
  }
  for (dd& w : row_weight_) w = sqrt(w);
  exponentials_ = fast_exponentials(c);

  const auto m = static_cast<Size>(rows_.size()), r = b.size();
  const auto extra = static_cast<Size>(exponentials_.size());
  la::DdMatrix a(m, r);
  for (int order = 0; order <= c.axis[0].order; ++order) {
    const Expression value = coefficient(c.op, {order});
    if (value.is_zero()) continue;
    const std::vector<Points> grid{rows_};
    const la::DdMatrix v = sample(Program<dd>(value, c.names), grid, c.threads);
    const la::DdMatrix features = b.features_at(rows_, order);
    for (Size j = 0; j < r; ++j)
      for (Size i = 0; i < m; ++i) a.set(i, j, a(i, j) + v(i, 0) * features(i, j));
  }
  // Derivatives of even order with constant coefficients map each feature to a multiple of itself:
  // the operator stays within the modes, and so does the least-squares problem.
  in_modes_ = c.constant && !c.newton && !c.axis[0].has_first && c.axis[0].order == 2 &&
              o.nodes_per_axis.empty();
  if (in_modes_) {
    a = b.project(b.orthonormalise(std::move(a)));
    row_weight_.assign(r, 1.0);
  } else {
    a = b.orthonormalise(scale_rows(std::move(a), row_weight_));
  }
  double scale = std::numeric_limits<double>::min();
  for (const double x : a.rounded()) scale = std::max(scale, std::fabs(x));

  std::vector<Points> conditions;  // exponentials solve the equation: their columns are zero there
  for (const Condition& given : c.conditions) {
    const dd end = c.end(0, given.side);
    Points condition(r + extra, dd(0.0));
    for (int order = 0; order <= given.order(); ++order) {
      const double factor = given.coefficients[order];
      if (factor == 0) continue;
      const la::DdMatrix values = row(b, end, order);
      for (Size j = 0; j < r; ++j) condition[j] += values(0, j) * factor;
      for (Size j = 0; j < extra; ++j) condition[r + j] += exponentials_[j](end, order) * factor;
    }
    double size = std::numeric_limits<double>::min();
    for (const dd& x : condition) size = std::max(size, std::fabs(x.hi));
    // A weight so large that the condition holds to all digits of a double; double-double has as
    // many again for the rest.
    const dd weight = 1e8 * scale / size;
    for (dd& x : condition) x *= weight;
    conditions.push_back(std::move(condition));
    row_weight_.push_back(weight);
  }
  conditions_ = la::DdMatrix(static_cast<Size>(conditions.size()), r + extra);
  for (Size k = 0; k < conditions_.rows(); ++k)
    for (Size j = 0; j < r + extra; ++j) conditions_.set(k, j, conditions[k][j]);
  if (c.newton) return;  // factored as often as it forms a derivative
  line_ = factor_line(c, a);
  condition = line_.condition;
  smallest_eigenvalue = line_.smallest_eigenvalue;
  singular = line_.singular;
}

LineSystem factor_rows(la::DdMatrix all, double scale, int threads) {
  const Size columns = all.cols();
  LineSystem line;
  line.columns = columns;
  if (all.rows() < columns) {  // fewer equations than unknowns: some solution of few modes
    line.system = la::pivoted_qr(std::move(all), 1e-12, columns, 1);
    line.rows_to_modes = std::move(line.system.q);
    line.system.q = {};
    line.undetermined = columns - line.system.rank;
    line.singular = true;
    line.smallest_eigenvalue =
        std::fabs(line.system.r(line.system.rank - 1, line.system.rank - 1).hi);
    line.condition = std::numeric_limits<double>::infinity();
    return line;
  }
  la::BlockQr compressed = la::block_qr(all, threads);
  line.rows_to_modes = std::move(compressed.q);
  la::PivotedQr& system = line.system;
  // The usual case: every direction is determined, and the triangle needs no pivoting.
  line.smallest_eigenvalue = smallest_singular_value(compressed.r);
  if (line.smallest_eigenvalue > 1e-12 * scale) {
    system.rank = columns;
    system.r = std::move(compressed.r);
    system.pivots.resize(columns);
    std::iota(system.pivots.begin(), system.pivots.end(), 0);
    line.condition = std::max(1.0, scale / line.smallest_eigenvalue);
    return line;
  }
  system = la::pivoted_qr(std::move(compressed.r), 1e-29, columns, 1);
  // Directions that the equation and the conditions do not determine show as pivots of rounding
  // size.
  constexpr double rounding = 1e-15;
  line.undetermined = columns - system.rank;
  line.smallest_eigenvalue = std::numeric_limits<double>::infinity();
  for (Size i = 0; i < system.rank; ++i) {
    const double pivot = std::fabs(system.r(i, i).hi);
    if (pivot <= rounding * scale)
      ++line.undetermined;
    else
      line.smallest_eigenvalue = std::min(line.smallest_eigenvalue, pivot);
  }
  line.singular = line.undetermined > 0;
  line.condition = std::max(1.0, scale / line.smallest_eigenvalue);
  return line;
}

LineSystem Discretisation::factor_line(const Checked& c, const la::DdMatrix& a) const {
  const la::FourierBasis& b = *basis[0];
  const Size m = a.rows(), r = a.cols(), k = conditions_.rows(), columns = conditions_.cols();
  double scale = std::numeric_limits<double>::min();
  for (const double x : a.rounded()) scale = std::max(scale, std::fabs(x));
  la::DdMatrix all(m + k, columns);  // exponentials solve the equation: their columns are zero
  for (Size j = 0; j < columns; ++j) {
    if (j < r) {
      std::copy_n(a.hi(j), m, all.hi(j));
      std::copy_n(a.lo(j), m, all.lo(j));
    }
    for (Size s = 0; s < k; ++s) all.set(m + s, j, conditions_(s, j));
  }
  LineSystem line = factor_rows(std::move(all), scale, c.threads);
  if (line.undetermined == 0 || !std::isfinite(line.condition)) return line;
  // An exponential that the modes represent as well makes one that says nothing about the operator,
  // and so does a free constant.
  Size harmless = c.singular ? 1 : 0;
  for (const Exponential& e : exponentials_) {
    const Points& x = b.nodes();
    la::DdMatrix values(static_cast<Size>(x.size()), 1);
    for (Size i = 0; i < values.rows(); ++i) values.set(i, 0, e(x[i], 0));
    const la::DdMatrix rest =
        add_scaled(values, -1.0, la::multiply(b.at_nodes(), b.project(values), c.threads));
    if (!(rms(rest) > 1e-9 * rms(values))) ++harmless;
  }
  line.singular = line.undetermined > harmless;
  return line;
}

la::DdMatrix LineSystem::solve(const la::DdMatrix& b) const {
  // Q^T b by columns: one right-hand side is not worth a transposed copy.
  const auto inner_products = [](const la::DdMatrix& q, const la::DdMatrix& v) {
    la::DdMatrix out(q.cols(), 1);
    for (Size i = 0; i < q.cols(); ++i)
      out.set(i, 0, la::dot(q.rows(), q.hi(i), q.lo(i), v.hi(0), v.lo(0)));
    return out;
  };
  la::DdMatrix y = inner_products(rows_to_modes, b);
  if (system.q.cols() > 0) y = inner_products(system.q, y);
  y = la::solve_upper(system.r, std::move(y));
  la::DdMatrix x(columns, 1);
  for (Size i = 0; i < system.rank; ++i) x.set(system.pivots[i], 0, y(i, 0));
  return x;
}

void Discretisation::set_up_plane(const Checked& c) {
  const auto take = [this] {
    condition = sylvester_->condition();
    // The eigenvalues are known to rounding of the largest.
    singular = !(condition < 1e15);
    smallest_eigenvalue = sylvester_->smallest_eigenvalue();
  };
  if (c.strong) {
    strong_ = std::make_shared<StrongPlane>(c, basis);
    sylvester_ = strong_->sylvester();
    take();
    return;
  }
  load_.resize(2);
  std::vector<la::DdMatrix> matrix(2);
  const auto same_axis = [&] {
    const AxisOperator &x = c.axis[0], &y = c.axis[1];
    for (int i = 0; i < 2; ++i) {
      const Side &p = c.problem.sides[0][i], &q = c.problem.sides[1][i];
      if (p.kind != q.kind || p.a != q.a || p.b != q.b || x.inflow[i] != y.inflow[i]) return false;
    }
    return basis[0] == basis[1] && x.second == y.second && x.first == y.first &&
           x.has_second == y.has_second && x.has_first == y.has_first;
  };
  matrix[0] = axis_matrix(c, 0, *basis[0], load_[0]);
  if (same_axis()) {
    matrix[1] = matrix[0];
    load_[1] = load_[0];
  } else {
    matrix[1] = axis_matrix(c, 1, *basis[1], load_[1]);
  }
  for (Size i = 0; i < matrix[0].rows(); ++i) matrix[0].set(i, i, matrix[0](i, i) + c.reaction);
  la::SylvesterSolver::Mixed mixed;
  if (c.mixed.hi != 0) {
    const auto first_derivative = [&](Size k) {
      return basis[k]->project(basis[k]->evaluate(basis[k]->nodes(), 1));
    };
    mixed = {c.mixed, first_derivative(0), first_derivative(1)};
  }
  sylvester_ = std::make_shared<la::SylvesterSolver>(std::move(matrix[0]), std::move(matrix[1]),
                                                     std::move(mixed), c.singular, c.threads);
  take();
}

Field Discretisation::solve(const Checked& c, const RightHandSide& rhs, const Field* start,
                            Timings& timings) const {
  Field field;
  field.basis = basis;
  field.threads = c.threads;
  field.condition = condition;
  field.smallest_eigenvalue = smallest_eigenvalue;
  field.singular = singular;
  const auto take = [&field](NewtonResult result) {
    field.newton_steps = result.derivatives;
    field.converged = result.converged;
    return std::move(result.x);
  };
  if (c.dimension() == 2) {
    const la::DdMatrix lift = strong_ ? strong_->lifted(c) : la::DdMatrix();
    const la::DdMatrix load = load_plane(c, rhs, lift, timings);
    Stopwatch watch(timings);
    la::DdMatrix x;
    if (c.newton) {
      x = take(newton_plane(c, load, lift,
                            start || c.options.guess || c.start_data
                                ? start_coefficients(c, start, lift)
                                : sylvester_->solve(load).x));
    } else {
      la::SylvesterSolver::Result result = sylvester_->solve(load);
      // Powers of a derivative may be worse conditioned than their eigenvalues tell.
      if (c.strong && !(result.next_correction <= 1e-12)) field.singular = true;
      x = std::move(result.x);
    }
    if (c.strong) x = add_scaled(strong_->expand(x), 1.0, lift);
    field.features = la::transpose(basis[1]->to_features(la::transpose(basis[0]->to_features(x))));
    watch.lap("solve");
    return field;
  }
  Stopwatch watch(timings);
  la::DdMatrix b(static_cast<Size>(row_weight_.size()), 1);
  const std::vector<Points> grid{rows_};
  la::DdMatrix f = data_on(rhs, grid);
  if (in_modes_) f = basis[0]->project(f);
  const Size m = f.rows();
  for (Size i = 0; i < m; ++i) b.set(i, 0, f(i, 0) * row_weight_[i]);
  for (std::size_t s = 0; s < c.conditions.size(); ++s) {
    const auto i = m + static_cast<Size>(s);
    b.set(i, 0, condition_values(c, c.conditions[s], {})(0, 0) * row_weight_[i]);
  }
  watch.lap("sampling");
  const Size r = basis[0]->size();
  la::DdMatrix all;
  if (c.newton) {
    std::shared_ptr<const LineSystem> last;
    all = take(newton_line(c, b, start_coefficients(c, start, {}), last));
    if (last) {
      field.condition = last->condition;
      field.smallest_eigenvalue = last->smallest_eigenvalue;
      field.singular = last->singular;
    }
  } else {
    all = line_.solve(b);
  }
  la::DdMatrix x(r, 1);
  for (Size i = 0; i < r; ++i) x.set(i, 0, all(i, 0));
  field.exponentials = exponentials_;
  for (Size i = r; i < all.rows(); ++i) field.exponential_coefficients.push_back(all(i, 0));
  field.features = basis[0]->to_features(x);
  watch.lap("solve");
  return field;
}

void Discretisation::set_up_newton(const Checked& c) {
  pointwise_ = PointwiseEquation(c, c.dimension() == 1);
  if (c.strong) {
    for (const auto& order : pointwise_.orders())
      for (Size k = 0; k < 2; ++k) {
        if (at_nodes_[k][order[k]].rows() > 0) continue;
        lift_at_nodes_[k][order[k]] = basis[k]->evaluate(basis[k]->nodes(), order[k]);
        at_nodes_[k][order[k]] = strong_->at_nodes(k, order[k]);
      }
    return;
  }
  for (const auto& order : pointwise_.orders())
    for (Size k = 0; k < c.dimension(); ++k) {
      la::DdMatrix& values = at_nodes_[k][order[k]];
      if (values.rows() == 0)
        values = basis[k]->evaluate(c.dimension() == 1 ? rows_ : basis[k]->nodes(), order[k]);
    }
}

la::DdMatrix Discretisation::start_coefficients(const Checked& c, const Field* start,
                                                const la::DdMatrix& lift) const {
  std::vector<Points> grid;
  for (const auto& b : basis) grid.push_back(b->nodes());
  la::DdMatrix values(static_cast<Size>(grid[0].size()),
                      grid.size() > 1 ? static_cast<Size>(grid[1].size()) : 1);
  if (start)
    values = start->values(grid, std::vector<int>(grid.size(), 0));
  else if (c.options.guess)
    values = sample(Program<dd>(*c.options.guess, c.names), grid, c.threads);
  else if (c.start_data) {  // the initial state, at all times
    const la::DdMatrix state = c.start_data(c.dimension() == 2 ? grid[1 - c.start_axis] : Points{});
    for (Size j = 0; j < values.cols(); ++j)
      for (Size i = 0; i < values.rows(); ++i)
        values.set(i, j, state(c.dimension() == 1 ? 0 : c.start_axis == 0 ? j : i, 0));
  }
  la::DdMatrix x = basis[0]->project(values);
  if (basis.size() > 1) x = la::transpose(basis[1]->project(la::transpose(x)));
  return strong_ ? strong_->reduce(add_scaled(std::move(x), -1.0, lift)) : x;
}

NewtonResult Discretisation::newton_line(const Checked& c, const la::DdMatrix& data, la::DdMatrix x,
                                         std::shared_ptr<const LineSystem>& line) const {
  const auto m = static_cast<Size>(rows_.size());
  const std::vector<Points> grid{rows_};
  const auto& orders = pointwise_.orders();
  // The residual and the derivative are asked for at the same state.
  std::vector<la::DdMatrix> fields;
  la::DdMatrix fields_at;
  const auto fields_of = [&](const la::DdMatrix& state) -> const std::vector<la::DdMatrix>& {
    if (!fields.empty() && same_values(fields_at, state)) return fields;
    fields.clear();
    for (const auto& order : orders)
      fields.push_back(la::multiply(at_nodes_[0][order[0]], state, c.threads));
    fields_at = state;
    return fields;
  };
  NewtonSystem system;
  system.go_on = [&c] { ask_to_go_on(c.options); };
  system.equations = m;
  system.residual = [&](const la::DdMatrix& state) {
    la::DdMatrix rest = data;
    const la::DdMatrix value = pointwise_.value(grid, fields_of(state), c.threads);
    for (Size i = 0; i < m; ++i) rest.set(i, 0, rest(i, 0) - value(i, 0) * row_weight_[i]);
    const la::DdMatrix sides = la::multiply(conditions_, state, 1);
    for (Size k = 0; k < sides.rows(); ++k) rest.set(m + k, 0, rest(m + k, 0) - sides(k, 0));
    return rest;
  };
  system.linearise = [&](const la::DdMatrix& state) {
    if (first_derivative_ && same_values(first_derivative_->at, state)) {
      line = first_derivative_->line;
      return;
    }
    const auto partial = pointwise_.partial(grid, fields_of(state), c.threads);
    la::DdMatrix a(m, state.rows());
    for (std::size_t k = 0; k < orders.size(); ++k) {
      const la::DdMatrix& values = at_nodes_[0][orders[k][0]];
      for (Size j = 0; j < a.cols(); ++j)
        for (Size i = 0; i < m; ++i) a.set(i, j, a(i, j) + values(i, j) * partial[k][i]);
    }
    line = std::make_shared<const LineSystem>(
        factor_line(c, scale_rows(std::move(a), {row_weight_.begin(), row_weight_.begin() + m})));
    if (!first_derivative_) first_derivative_ = {state, line};
  };
  system.correct = [&](const la::DdMatrix& rest) { return line->solve(rest); };
  const la::DdMatrix origin = start_coefficients(c, nullptr, {});
  return newton_or_continuation(system, std::move(x), origin, c.options.max_newton);
}

NewtonResult Discretisation::newton_plane(const Checked& c, const la::DdMatrix& load,
                                          const la::DdMatrix& lift, la::DdMatrix x) const {
  const la::OneBlasThread one;
  const std::vector<Points> grid{basis[0]->nodes(), basis[1]->nodes()};
  const auto& orders = pointwise_.orders();
  const Size rows = x.rows(), columns = x.cols();
  // What the reference operator has instead of the pointwise terms.
  Points reference;
  reference.reserve(orders.size());
  for (const auto& order : orders) {
    const bool mixed = order[0] > 0 && order[1] > 0;
    const Expression e = coefficient(c.op, order);
    reference.push_back(mixed || e.is_zero() ? dd(0.0) : e.constant());
  }
  std::vector<la::DdMatrix> lifted;
  if (strong_)
    for (const auto& order : orders)
      lifted.push_back(la::multiply(la::multiply(lift_at_nodes_[0][order[0]], lift, c.threads),
                                    la::transpose(lift_at_nodes_[1][order[1]]), c.threads));
  const auto fields_of = [&](const la::DdMatrix& state) {
    std::vector<la::DdMatrix> fields;
    fields.reserve(orders.size());
    for (const auto& order : orders)
      fields.push_back(la::multiply(la::multiply(at_nodes_[0][order[0]], state, c.threads),
                                    la::transpose(at_nodes_[1][order[1]]), c.threads));
    for (std::size_t k = 0; k < lifted.size(); ++k)
      fields[k] = add_scaled(std::move(fields[k]), 1.0, lifted[k]);
    return fields;
  };
  NewtonSystem system;
  system.go_on = [&c] { ask_to_go_on(c.options); };
  system.residual = [&](const la::DdMatrix& state) {
    const std::vector<la::DdMatrix> fields = fields_of(state);
    la::DdMatrix value = pointwise_.value(grid, fields, c.threads);
    for (std::size_t k = 0; k < orders.size(); ++k)
      if (reference[k].hi != 0) value = add_scaled(std::move(value), -reference[k], fields[k]);
    la::DdMatrix projected =
        la::transpose(basis[1]->project(la::transpose(basis[0]->project(value))));
    if (strong_) projected = strong_->reduce(projected);
    return add_scaled(sylvester_->residual(state, load), -1.0, projected);
  };
  // Products with the derivative are in double: they only correct.
  std::array<std::array<std::vector<double>, highest_order + 1>, 2> values;
  for (Size k = 0; k < 2; ++k)
    for (int order = 0; order <= highest_order; ++order)
      values[k][order] = at_nodes_[k][order].rounded();
  std::array<std::vector<double>, 2> weighted;  // projection onto the basis, transposed
  for (Size k = 0; k < 2; ++k)
    weighted[k] = (strong_ ? strong_->tests_at_nodes(k)
                           : scale_rows(basis[k]->at_nodes(), basis[k]->weights()))
                      .rounded();
  const auto n = static_cast<int>(grid[0].size()), m = static_cast<int>(grid[1].size());
  const auto r = static_cast<int>(rows), q = static_cast<int>(columns);
  std::vector<std::vector<double>> slope;
  system.linearise = [&](const la::DdMatrix& state) {
    slope = pointwise_.partial(grid, fields_of(state), c.threads);
    for (std::size_t k = 0; k < slope.size(); ++k)
      for (double& v : slope[k]) v -= reference[k].hi;
  };
  const auto product = [](bool transpose_a, bool transpose_b, int rows_c, int columns_c, int inner,
                          const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> out(static_cast<std::size_t>(rows_c) * columns_c);
    cblas_dgemm(CblasColMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, rows_c, columns_c, inner, 1.0, a.data(),
                transpose_a ? inner : rows_c, b.data(), transpose_b ? columns_c : inner, 0.0,
                out.data(), rows_c);
    return out;
  };
  // The derivative less the reference operator.
  const auto pointwise = [&](const std::vector<double>& z) {
    std::array<std::vector<double>, highest_order + 1>
        along;  // by the derivative of the first axis
    std::vector<double> sum(static_cast<std::size_t>(n) * m);
    for (std::size_t k = 0; k < orders.size(); ++k) {
      std::vector<double>& first = along[orders[k][0]];
      if (first.empty()) first = product(false, false, n, q, r, values[0][orders[k][0]], z);
      const std::vector<double> field =
          product(false, true, n, m, q, first, values[1][orders[k][1]]);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += slope[k][i] * field[i];
    }
    return product(false, false, r, q, m, product(true, false, r, m, n, weighted[0], sum),
                   weighted[1]);
  };
  const auto add = [](std::vector<double> a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  };
  const auto from_right = [&](const std::vector<double>& y) {
    system.go_on();
    return add(pointwise(sylvester_->precondition(y)), y);
  };
  // With derivatives above the second the norm of a residual says little about the solution: the
  // preconditioner comes from the left.
  const auto from_left = [&](const std::vector<double>& y) {
    system.go_on();
    return add(sylvester_->precondition(pointwise(y)), y);
  };
  // Where the preconditioner does not help, steps that lead nowhere are not worth their time.
  constexpr double helpless = 0.3;
  constexpr int most_products = 200, most_helpless = 3;
  int helpless_steps = 0;
  system.correct = [&](const la::DdMatrix& rest) {
    double reduction = 0;
    const std::vector<double> step =
        strong_ ? la::gmres(sylvester_->precondition(rest.rounded()), from_left, 1e-8,
                            most_products, &reduction)
                : sylvester_->precondition(
                      la::gmres(rest.rounded(), from_right, 1e-6, most_products, &reduction));
    helpless_steps = reduction > helpless ? helpless_steps + 1 : 0;
    if (helpless_steps >= most_helpless) {
      la::DdMatrix none(rows, columns);
      none.set(0, 0, std::numeric_limits<double>::quiet_NaN());
      return none;
    }
    la::DdMatrix out(rows, columns);
    std::copy(step.begin(), step.end(), out.hi(0));
    return out;
  };
  const la::DdMatrix origin = start_coefficients(c, nullptr, lift);
  return newton_or_continuation(system, std::move(x), origin, c.options.max_newton);
}

la::DdMatrix Discretisation::data_on(const RightHandSide& rhs, std::span<const Points> grid) const {
  la::DdMatrix f = rhs.on(grid);
  if (!rhs.sampled) return f;
  return add_scaled(std::move(f), 1.0, samples_->values(rhs, grid));
}

la::DdMatrix Discretisation::load_plane(const Checked& c, const RightHandSide& rhs,
                                        const la::DdMatrix& lift, Timings& timings) const {
  Stopwatch watch(timings);
  const Options& o = c.options;
  // The data on a grid, projected along the first axis: by panels of columns, so that no array has
  // the size of the grid.
  const auto along_first = [&](std::vector<Points> grid, const auto& project) {
    constexpr Size width = 256;
    const Points across = std::move(grid[1]);
    const auto n = static_cast<Size>(across.size());
    la::DdMatrix out(basis[0]->size(), n);
    for (Size first = 0; first < n; first += width) {
      const Size count = std::min(width, n - first);
      grid[1].assign(across.begin() + first, across.begin() + first + count);
      const la::DdMatrix f = data_on(rhs, grid);
      watch.lap("sampling");
      const la::DdMatrix part = project(f);
      std::copy_n(part.hi(0), part.rows() * count, out.hi(first));
      std::copy_n(part.lo(0), part.rows() * count, out.lo(first));
      watch.lap("projection");
    }
    return out;
  };
  la::DdMatrix r;
  if (!o.nodes_per_axis.empty()) {
    // Values at points that are not the basis' own: projected by least squares.
    std::vector<Points> grid;
    std::vector<la::DdMatrix> projector;
    for (Size k = 0; k < 2; ++k) {
      grid.push_back(make_nodes(o.nodes, c.end(k, 0), c.end(k, 1), o.nodes_per_axis[k]));
      projector.push_back(
          least_squares_projector(basis[k]->evaluate(grid[k], 0), grid[k], 1e-13, c.threads));
    }
    watch.lap("projection");
    const la::DdMatrix along = along_first(
        grid, [&](const la::DdMatrix& f) { return la::multiply(projector[0], f, c.threads); });
    r = la::multiply(along, la::transpose(projector[1]), c.threads);
  } else {
    const std::vector<Points> grid{basis[0]->nodes(), basis[1]->nodes()};
    const la::DdMatrix along =
        along_first(grid, [&](const la::DdMatrix& f) { return basis[0]->project(f); });
    r = la::transpose(basis[1]->project(la::transpose(along)));
  }
  if (c.strong) r = strong_->load(r, lift);
  for (Size k = 0; k < 2 && !c.strong; ++k)
    for (int s = 0; s < 2; ++s) {
      if (!has_data(c.problem.sides[k][s])) continue;
      const Size other = 1 - k;
      const la::DdMatrix g = basis[other]->project(side_values(c, k, s, basis[other]->nodes()));
      const la::DdMatrix& load = load_[k][s];
      for (Size j = 0; j < r.cols(); ++j)
        for (Size i = 0; i < r.rows(); ++i)
          r.set(i, j, r(i, j) + (k == 0 ? load(i, 0) * g(j, 0) : g(i, 0) * load(j, 0)));
    }
  watch.lap("projection");
  return r;
}

}  // namespace halfulp::gp_pde::detail
