#include "detail/pde_strong.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "halfulp/kernel/dd_math.hpp"

namespace halfulp::gp_pde::detail {
namespace {

la::DdMatrix identity(Size n) {
  la::DdMatrix one(n, n);
  for (Size i = 0; i < n; ++i) one.set(i, i, 1.0);
  return one;
}

// Orthonormal basis of the vectors that all rows of `a` annihilate, by Householder reflections of
// its transpose.
la::DdMatrix null_space(const la::DdMatrix& a) {
  const Size p = a.rows(), r = a.cols();
  la::DdMatrix v = la::transpose(a);
  std::vector<Points> reflectors;
  for (Size k = 0; k < p; ++k) {
    dd square = 0.0;
    for (Size i = k; i < r; ++i) square += v(i, k) * v(i, k);
    const dd norm = sqrt(square);
    Points w(r, dd(0.0));
    if (norm.hi > 0) {
      for (Size i = k; i < r; ++i) w[i] = v(i, k);
      w[k] += v(k, k).hi < 0 ? -norm : norm;
      dd size = 0.0;
      for (Size i = k; i < r; ++i) size += w[i] * w[i];
      const dd scale = sqrt(dd(2.0) / size);
      for (Size i = k; i < r; ++i) w[i] *= scale;
    }
    for (Size j = k; j < p; ++j) {
      dd product = 0.0;
      for (Size i = k; i < r; ++i) product += w[i] * v(i, j);
      for (Size i = k; i < r; ++i) v.set(i, j, v(i, j) - w[i] * product);
    }
    reflectors.push_back(std::move(w));
  }
  la::DdMatrix set(r, r - p);
  for (Size j = 0; j < r - p; ++j) {
    Points x(r, dd(0.0));
    x[p + j] = 1.0;
    for (Size k = p; k-- > 0;) {
      const Points& w = reflectors[k];
      dd product = 0.0;
      for (Size i = k; i < r; ++i) product += w[i] * x[i];
      for (Size i = k; i < r; ++i) x[i] -= w[i] * product;
    }
    for (Size i = 0; i < r; ++i) set.set(i, j, x[i]);
  }
  return set;
}

// X of A X = B for a small matrix A, by elimination with row pivoting.
la::DdMatrix solve_small(la::DdMatrix a, la::DdMatrix b) {
  const Size n = a.rows();
  for (Size k = 0; k < n; ++k) {
    Size pivot = k;
    for (Size i = k + 1; i < n; ++i)
      if (std::fabs(a(i, k).hi) > std::fabs(a(pivot, k).hi)) pivot = i;
    for (Size j = 0; j < n && pivot != k; ++j) {
      const dd t = a(k, j);
      a.set(k, j, a(pivot, j));
      a.set(pivot, j, t);
    }
    for (Size j = 0; j < b.cols() && pivot != k; ++j) {
      const dd t = b(k, j);
      b.set(k, j, b(pivot, j));
      b.set(pivot, j, t);
    }
    for (Size i = k + 1; i < n; ++i) {
      const dd factor = a(i, k) / a(k, k);
      for (Size j = k; j < n; ++j) a.set(i, j, a(i, j) - factor * a(k, j));
      for (Size j = 0; j < b.cols(); ++j) b.set(i, j, b(i, j) - factor * b(k, j));
    }
  }
  for (Size j = 0; j < b.cols(); ++j)
    for (Size i = n; i-- > 0;) {
      dd value = b(i, j);
      for (Size k = i + 1; k < n; ++k) value -= a(i, k) * b(k, j);
      b.set(i, j, value / a(i, i));
    }
  return b;
}

// Upper triangle R with R^T R = a, a symmetric and positive definite.
la::DdMatrix cholesky(const la::DdMatrix& a) {
  const Size n = a.rows();
  la::DdMatrix r(n, n);
  for (Size j = 0; j < n; ++j) {
    for (Size i = 0; i <= j; ++i) {
      const dd rest = a(i, j) - la::dot(i, r.hi(i), r.lo(i), r.hi(j), r.lo(j));
      r.set(i, j, i == j ? sqrt(rest) : rest / r(i, i));
    }
  }
  return r;
}

// Of all solutions of rows * X = 1 a smooth one: least in a norm that weighs a mode by its slope.
la::DdMatrix least_lifting(const la::DdMatrix& rows, const la::DdMatrix& slope, dd length) {
  const Size p = rows.rows(), r = rows.cols();
  la::DdMatrix weighted = la::transpose(rows);
  for (Size i = 0; i < r; ++i) {
    const double size =
        std::sqrt(la::dot(slope.rows(), slope.hi(i), slope.lo(i), slope.hi(i), slope.lo(i)).hi) *
        length.hi;
    const double weight = std::pow(1 + size * size, -static_cast<double>(p + 1));
    for (Size j = 0; j < p; ++j) weighted.set(i, j, weighted(i, j) * weight);
  }
  const la::DdMatrix gram = la::multiply(rows, weighted, 1);
  return la::multiply(weighted, solve_small(gram, identity(p)), 1);
}

// A lifting whose derivatives the modes have as well: polynomials of the lowest degrees, and for
// what the modes leave of them (1e-15 or so) the above.
la::DdMatrix smooth_lifting(const Checked& c, Size k, const la::FourierBasis& basis,
                            const std::vector<const Condition*>& conditions,
                            const la::DdMatrix& rows, const la::DdMatrix& slope) {
  const Size p = rows.rows(), degrees = p + 3;
  const dd centre = (c.end(k, 0) + c.end(k, 1)) * 0.5, radius = c.length(k) * 0.5;
  la::DdMatrix powers(static_cast<Size>(basis.nodes().size()), degrees), at_ends(p, degrees);
  for (Size i = 0; i < powers.rows(); ++i) {
    const dd s = (basis.nodes()[i] - centre) / radius;
    dd power = 1.0;
    for (Size j = 0; j < degrees; ++j, power *= s) powers.set(i, j, power);
  }
  for (Size i = 0; i < p; ++i) {
    const Condition& condition = *conditions[i];
    for (Size j = 0; j < degrees; ++j) {
      dd sum = 0.0, factor = 1.0;
      for (int order = 0; order <= std::min<Size>(condition.order(), j); ++order) {
        const bool negative = condition.side == 0 && (j - order) % 2 != 0;
        sum += factor * condition.coefficients[order] * (negative ? -1.0 : 1.0);
        factor *= static_cast<double>(j - order) / radius;
      }
      at_ends.set(i, j, sum);
    }
  }
  la::DdMatrix weighted = la::transpose(at_ends);
  double weight = 1;
  for (Size j = 0; j < degrees; ++j, weight *= 1e-2)
    for (Size i = 0; i < p; ++i) weighted.set(j, i, weighted(j, i) * weight);
  const la::DdMatrix coefficients =
      la::multiply(weighted, solve_small(la::multiply(at_ends, weighted, 1), identity(p)), 1);
  la::DdMatrix lifting = basis.project(la::multiply(powers, coefficients, 1));
  const la::DdMatrix rest = add_scaled(identity(p), -1.0, la::multiply(rows, lifting, 1));
  return add_scaled(std::move(lifting), 1.0,
                    la::multiply(least_lifting(rows, slope, c.length(k)), rest, 1));
}

}  // namespace

StrongAxis::StrongAxis(const Checked& c, Size k, const la::FourierBasis& basis,
                       std::span<const int> orders) {
  const AxisOperator& axis = c.axis[k];
  const Size r = basis.size();
  std::array<la::DdMatrix, highest_order + 1> strong;  // [j]: Q^T d^j Q
  const auto derivative = [&](int order) -> const la::DdMatrix& {
    la::DdMatrix& value = strong[order];
    if (value.rows() == 0)
      value = order == 0 ? identity(r) : basis.project(basis.evaluate(basis.nodes(), order));
    return value;
  };
  std::vector<const Condition*> here;
  for (const Condition& condition : c.conditions)
    if (condition.axis == k) here.push_back(&condition);
  whole = here.empty();
  operators[0] = identity(r);
  if (whole) {
    for (const int order : orders) operators[order] = tested[order] = derivative(order);
    return;
  }
  rows = la::DdMatrix(static_cast<Size>(here.size()), r);
  for (std::size_t i = 0; i < here.size(); ++i) {
    const Points end{c.end(k, here[i]->side)};
    for (int order = 0; order <= here[i]->order(); ++order) {
      const double factor = here[i]->coefficients[order];
      if (factor == 0) continue;
      const la::DdMatrix values = basis.evaluate(end, order);
      for (Size j = 0; j < r; ++j)
        rows.set(static_cast<Size>(i), j, rows(static_cast<Size>(i), j) + values(0, j) * factor);
    }
  }
  lifting = smooth_lifting(c, k, basis, here, rows, derivative(1));
  time = axis.evolution != 0;
  set = null_space(time ? basis.evaluate(Points{c.end(k, axis.evolution < 0 ? 0 : 1)}, 0) : rows);
  tests = la::transpose(set);
  Points weight;
  if (time) {
    constexpr double decay = 4;
    const dd start = c.end(k, axis.evolution < 0 ? 0 : 1);
    for (const dd& x : basis.nodes())
      weight.push_back(exp(-decay * abs((x - start) / c.length(k))));
    tests = la::multiply(tests, basis.project(scale_rows(basis.at_nodes(), weight)), c.threads);
    const la::DdMatrix root = cholesky(la::multiply(tests, set, c.threads));
    set = la::solve_right_upper(std::move(set), root, c.threads);
    tests = la::transpose(la::solve_right_upper(la::transpose(tests), root, c.threads));
  }
  for (const int order : orders) {
    if (order == 0)
      tested[0] = tests;
    else if (time)  // by quadrature with the weight, not by way of the derivative's modes
      tested[order] = la::multiply_transposed(
          set, basis.project(scale_rows(basis.evaluate(basis.nodes(), order), weight)), c.threads);
    else
      tested[order] = la::multiply(tests, derivative(order), c.threads);
  }
  operators[0] = identity(set.cols());
  for (const int order : orders)
    if (order == 1 || (order > 1 && !time))
      operators[order] = la::multiply(tested[order], set, c.threads);
  if (time) {
    const int highest = *std::max_element(orders.begin(), orders.end());
    for (int order = 2; order <= highest; ++order)
      operators[order] = la::multiply(operators[1], operators[order - 1], c.threads);
  }
}

la::DdMatrix StrongAxis::expand(const la::DdMatrix& y, int threads) const {
  return whole ? y : la::multiply(set, y, threads);
}

StrongPlane::StrongPlane(const Checked& c,
                         std::vector<std::shared_ptr<const la::FourierBasis>> basis)
    : basis_(std::move(basis)), threads_(c.threads) {
  std::array<la::DdMatrix, 2> matrix;
  for (Size k = 0; k < 2; ++k) {
    std::vector<int> orders{0, 1};
    const auto need = [&](int order) {
      if (std::find(orders.begin(), orders.end(), order) == orders.end()) orders.push_back(order);
    };
    for (const auto& [order, value] : c.op.coefficients) {
      if (order[1 - k] != 0) continue;
      need(order[k]);
      // The term without derivatives goes to the first axis.
      if (order[k] > 0 || k == 0) coefficients_[k][order[k]] = value.constant();
    }
    if (c.newton)
      for (const auto& order : c.newton->orders) need(order[k]);
    axes_[k] = StrongAxis(c, k, *basis_[k], orders);
    const Size q = axes_[k].size();
    matrix[k] = la::DdMatrix(q, q);
    for (int order = 0; order <= highest_order; ++order)
      if (coefficients_[k][order].hi != 0)
        matrix[k] =
            add_scaled(std::move(matrix[k]), coefficients_[k][order], axes_[k].operators[order]);
  }
  sylvester_ = std::make_shared<la::SylvesterSolver>(
      std::move(matrix[0]), std::move(matrix[1]), la::SylvesterSolver::Mixed{}, false, c.threads);
}

la::DdMatrix StrongPlane::lifted(const Checked& c) const {
  const Size r[2] = {basis_[0]->size(), basis_[1]->size()};
  // Data of the conditions of axis k in the basis of the other: conditions x modes.
  std::array<la::DdMatrix, 2> data;
  for (Size k = 0; k < 2; ++k) {
    data[k] = la::DdMatrix(axes_[k].whole ? 0 : axes_[k].rows.rows(), r[1 - k]);
    Size i = 0;
    for (const Condition& condition : c.conditions) {
      if (condition.axis != k) continue;
      const la::FourierBasis& other = *basis_[1 - k];
      const la::DdMatrix g = other.project(condition_values(c, condition, other.nodes()));
      for (Size j = 0; j < r[1 - k]; ++j) data[k].set(i, j, g(j, 0));
      ++i;
    }
  }
  if (axes_[0].whole && axes_[1].whole) return {r[0], r[1]};
  if (axes_[0].whole || axes_[1].whole) {
    const Size k = axes_[0].whole ? 1 : 0;
    la::DdMatrix lift = la::multiply(axes_[k].lifting, data[k], threads_);
    return k == 0 ? lift : la::transpose(lift);
  }
  // Conditions of axis p are fulfilled to the last digit, those of axis q but for what the modes of
  // p leave of their data at the ends of p. That is lifted by the narrowest functions there are, so
  // that it weighs nothing; in a time, whose modes must have the derivatives as well, it is not.
  const Size p = axes_[0].time ? 1 : 0, q = 1 - p;
  const la::DdMatrix& rows = axes_[p].rows;
  const la::DdMatrix corner = la::multiply(data[p], la::transpose(axes_[q].rows), threads_);
  const la::DdMatrix other = la::transpose(data[q]);  // modes of p x conditions of q
  const la::DdMatrix missing = add_scaled(la::multiply(rows, other, threads_), -1.0, corner);
  const la::DdMatrix narrow = la::multiply(
      la::transpose(rows), solve_small(la::multiply(rows, la::transpose(rows), 1), missing), 1);
  la::DdMatrix rest = add_scaled(other, -1.0, la::multiply(axes_[p].lifting, corner, threads_));
  rest = add_scaled(std::move(rest), -1.0, narrow);
  la::DdMatrix lift = add_scaled(la::multiply(axes_[p].lifting, data[p], threads_), 1.0,
                                 la::multiply(rest, la::transpose(axes_[q].lifting), threads_));
  return p == 0 ? lift : la::transpose(lift);
}

la::DdMatrix StrongPlane::load(const la::DdMatrix& projected, const la::DdMatrix& lift) const {
  la::DdMatrix rest = reduce(projected);
  // What the operator makes of the lifting, tested along one axis after the other.
  std::array<la::DdMatrix, 2> part;
  part[0] = la::transpose(axes_[1].reduce(la::transpose(lift), threads_));  // by the second
  part[1] = axes_[0].reduce(lift, threads_);
  for (int order = 0; order <= highest_order; ++order) {
    if (coefficients_[0][order].hi != 0)
      rest = add_scaled(std::move(rest), -coefficients_[0][order],
                        la::multiply(axes_[0].tested[order], part[0], threads_));
    if (coefficients_[1][order].hi != 0)
      rest = add_scaled(std::move(rest), -coefficients_[1][order],
                        la::multiply(part[1], la::transpose(axes_[1].tested[order]), threads_));
  }
  return rest;
}

la::DdMatrix StrongPlane::expand(const la::DdMatrix& y) const {
  return la::transpose(axes_[1].expand(la::transpose(axes_[0].expand(y, threads_)), threads_));
}

la::DdMatrix StrongPlane::reduce(const la::DdMatrix& x) const {
  return la::transpose(axes_[1].reduce(la::transpose(axes_[0].reduce(x, threads_)), threads_));
}

la::DdMatrix StrongPlane::at_nodes(Size k, int order) const {
  const StrongAxis& axis = axes_[k];
  const la::FourierBasis& basis = *basis_[k];
  // In time derivatives are powers of one matrix, at the nodes as well.
  if (axis.time)
    return la::multiply(basis.at_nodes(), axis.expand(axis.operators[order], threads_), threads_);
  const la::DdMatrix values = order == 0 ? basis.at_nodes() : basis.evaluate(basis.nodes(), order);
  return axis.whole ? values : la::multiply(values, axis.set, threads_);
}

la::DdMatrix StrongPlane::tests_at_nodes(Size k) const {
  const la::DdMatrix values = scale_rows(basis_[k]->at_nodes(), basis_[k]->weights());
  return axes_[k].whole ? values : la::multiply(values, la::transpose(axes_[k].tests), threads_);
}

}  // namespace halfulp::gp_pde::detail
