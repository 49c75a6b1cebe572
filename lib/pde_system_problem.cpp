#include <complex>
// LAPACK's interface with C++'s complex numbers instead of C's.
#define lapack_complex_float std::complex<float>
#define lapack_complex_double std::complex<double>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>

#include "detail/pde_system.hpp"
#include "halfulp/error.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde::detail {
namespace {

using Complex = std::complex<double>;

template <class Value>  // double or text
[[noreturn]] void refuse(std::string_view argument, const Value& value, std::string_view rule) {
  throw DomainError("gp_pde::SystemSolver", argument, value, rule);
}

std::string field_text(const CheckedSystem& c, Size i) {
  return "problem.fields." + c.problem.fields[i].name;
}

int total(const std::vector<int>& order) {
  int sum = 0;
  for (const int o : order) sum += o;
  return sum;
}

// Values of formulas in the axes on a uniform grid of the box, one vector a formula.
std::vector<std::vector<double>> survey(const CheckedSystem& c,
                                        const std::vector<Expression>& formulas) {
  const std::size_t points = c.dimension() == 1 ? 65 : 33;
  std::vector<std::vector<double>> grid;
  std::size_t size = 1;
  for (Size k = 0; k < c.dimension(); ++k) {
    std::vector<double> x;
    for (std::size_t i = 0; i < points; ++i)
      x.push_back(c.end(k, 0).hi +
                  c.length(k).hi * static_cast<double>(i) / static_cast<double>(points - 1));
    grid.push_back(std::move(x));
    size *= points;
  }
  std::vector<double> all(formulas.size() * size);
  Program<double>(formulas, c.names).on_grid(grid, all, 1);
  std::vector<std::vector<double>> values;
  for (std::size_t k = 0; k < formulas.size(); ++k)
    values.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(k * size),
                        all.begin() + static_cast<std::ptrdiff_t>((k + 1) * size));
  return values;
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

// ---- the symbol: a matrix of polynomials in y = L z ----

struct Symbol {
  Size n = 0;
  std::array<std::vector<Complex>, 3> power;  // row-major matrices, scaled so that rows are alike
  [[nodiscard]] Complex operator()(Size i, Size j, Complex y) const {
    const Size at = i * n + j;
    return power[0][at] + y * (power[1][at] + y * power[2][at]);
  }
};

// @param coefficient  of each term in each equation, [equation * terms + term]
Symbol symbol_of(const CheckedSystem& c, Size k, double w, std::span<const double> coefficient) {
  Symbol p;
  p.n = c.fields();
  for (auto& matrix : p.power) matrix.assign(p.n * p.n, 0.0);
  const double length = c.length(k).hi;
  const auto terms = static_cast<Size>(c.terms.size());
  for (Size i = 0; i < p.n; ++i) {
    double largest = 0;
    for (Size t = 0; t < terms; ++t) {
      const SystemTerm& term = c.terms[t];
      Complex value = coefficient[i * terms + t];
      for (Size o = 0; o < c.dimension(); ++o)
        for (int d = 0; d < term.order[o]; ++d)
          value *= o == k ? Complex(1 / length) : Complex(0, w);
      p.power[term.order[k]][i * p.n + term.field] += value;
      largest = std::max(largest, std::abs(value));
    }
    if (largest > 0)
      for (auto& matrix : p.power)
        for (Size j = 0; j < p.n; ++j) matrix[i * p.n + j] /= largest;
  }
  return p;
}

Complex determinant(const Symbol& p, Complex y, double& bound) {
  const Size n = p.n;
  std::vector<Complex> a(n * n);
  bound = 1;
  for (Size i = 0; i < n; ++i) {
    double row = 0;
    for (Size j = 0; j < n; ++j) {
      a[i * n + j] = p(i, j, y);
      row = std::hypot(row, std::abs(a[i * n + j]));
    }
    bound *= row;
  }
  Complex value = 1;
  for (Size j = 0; j < n; ++j) {
    Size pivot = j;
    for (Size i = j + 1; i < n; ++i)
      if (std::abs(a[i * n + j]) > std::abs(a[pivot * n + j])) pivot = i;
    if (a[pivot * n + j] == 0.0) return 0;
    if (pivot != j) {
      for (Size l = 0; l < n; ++l) std::swap(a[j * n + l], a[pivot * n + l]);
      value = -value;
    }
    value *= a[j * n + j];
    for (Size i = j + 1; i < n; ++i) {
      const Complex factor = a[i * n + j] / a[j * n + j];
      for (Size l = j; l < n; ++l) a[i * n + l] -= factor * a[j * n + l];
    }
  }
  return value;
}

// Degree of the determinant in y, from its values on a circle beyond most of its roots; nothing if
// it vanishes identically.
std::optional<Size> degree_of(const Symbol& p) {
  double radius = 1;
  for (Size i = 0; i < p.n; ++i) {
    double size[3] = {0, 0, 0};
    for (int o = 0; o < 3; ++o)
      for (Size j = 0; j < p.n; ++j) size[o] = std::max(size[o], std::abs(p.power[o][i * p.n + j]));
    for (int high = 1; high < 3; ++high)
      for (int low = 0; low < high; ++low)
        if (size[high] > 0)
          radius = std::max(radius, std::pow(size[low] / size[high], 1.0 / (high - low)));
  }
  radius = std::min(2 * radius, 1e12);
  constexpr Size count = 32;  // more than twice eight fields
  std::vector<Complex> value(count);
  double largest = 0, bound = 0;
  for (Size i = 0; i < count; ++i) {
    double here = 0;
    value[i] = determinant(
        p, std::polar(radius, 2 * std::numbers::pi * static_cast<double>(i) / count), here);
    largest = std::max(largest, std::abs(value[i]));
    bound = std::max(bound, here);
  }
  if (!(largest > 1e-11 * bound)) return std::nullopt;
  std::vector<double> size(count);
  double top = 0;
  for (Size n = 0; n < count; ++n) {
    Complex sum = 0;
    for (Size i = 0; i < count; ++i)
      sum += value[i] *
             std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(i * n % count) / count);
    size[n] = std::abs(sum);
    top = std::max(top, size[n]);
  }
  Size degree = count - 1;
  while (degree > 0 && !(size[degree] > 1e-9 * top)) --degree;
  return degree;
}

// Order of a one-dimensional system: the largest degree over a few points and states of the fields.
std::optional<Size> order_of(const CheckedSystem& c) {
  std::vector<std::string> inputs = c.names;
  for (const SystemTerm& term : c.terms) inputs.push_back(term.name);
  std::vector<Expression> all;
  for (const auto& row : c.partial) all.insert(all.end(), row.begin(), row.end());
  const Program<double> code(all, inputs);
  std::optional<Size> degree;
  std::vector<double> in(inputs.size()), out(all.size());
  for (int i = 0; i < 7; ++i) {
    in[0] = c.end(0, 0).hi + c.length(0).hi * (0.07 + 0.135 * i);
    for (std::size_t t = 1; t < in.size(); ++t)
      in[t] = 0.5 + std::fmod(0.6180339887498949 * static_cast<double>(t + 3 * i), 1.0);
    code(in, out);
    if (!all_finite(out)) continue;
    if (const auto here = degree_of(symbol_of(c, 0, 0, out)))
      degree = std::max(degree.value_or(0), *here);
  }
  return degree;
}

// ---- parts of check() ----

void read_equations(CheckedSystem& c) {
  const auto& axes = c.problem.axes;
  const auto& fields = c.problem.fields;
  const Size n = static_cast<Size>(fields.size());
  for (Size i = 0; i < n; ++i) {
    const std::string& name = fields[i].name;
    (void)Expression::symbol(name);
    for (const Axis& axis : axes)
      if (axis.name == name)
        refuse("problem.fields." + name, "the name of an axis", "another name");
    for (Size j = 0; j < n; ++j)
      if (j != i && derivative_orders(axes, fields[j].name, name))
        refuse("problem.fields." + fields[j].name,
               i == 0 || fields[j].name == name ? "given twice, or the name of a derivative"
                                                : "the name of a derivative of " + name,
               "another name");
  }
  for (const auto& [name, value] : c.problem.forcing) {
    for (const SystemField& field : fields)
      if (derivative_orders(axes, name, field.name))
        refuse("problem.forcing." + name, "the name of a field", "another name");
    for (const std::string& symbol : value.symbols())
      if (std::find(c.names.begin(), c.names.end(), symbol) == c.names.end())
        refuse("problem.forcing." + name, symbol, "a formula in the axes");
  }
  struct Found {
    Size field;
    std::vector<int> order;
  };
  std::map<std::string, Found> found;
  for (Size i = 0; i < n; ++i) {
    const std::string where = field_text(c, i) + ".equation";
    Expression left = fields[i].equation.substitute(c.problem.forcing);
    for (const std::string& symbol : left.symbols()) {
      if (std::find(c.names.begin(), c.names.end(), symbol) != c.names.end()) continue;
      bool known = false;
      for (Size j = 0; j < n && !known; ++j) {
        const auto order = derivative_orders(axes, symbol, fields[j].name);
        if (!order) continue;
        known = true;
        if (total(*order) > 2)
          refuse(where, symbol,
                 "of order two at most (a further field may stand for a derivative)");
        const std::string usual = derivative_name(axes, *order, fields[j].name);
        if (usual != symbol) left = left.substitute(symbol, Expression::symbol(usual));
        found.emplace(usual, Found{j, *order});
      }
      if (!known) refuse(where, symbol, "an axis, a field, a derivative of one, or a forcing");
    }
    c.left.push_back(left);
  }
  for (const auto& [name, term] : found) c.terms.push_back({term.field, term.order, name});
  std::stable_sort(c.terms.begin(), c.terms.end(),
                   [](const auto& a, const auto& b) { return a.field < b.field; });
}

void take_apart(CheckedSystem& c) {
  std::vector<std::string> names;
  std::map<std::string, Expression> zero;
  for (const SystemTerm& term : c.terms) {
    names.push_back(term.name);
    zero.emplace(term.name, Expression(0.0));
  }
  for (Size i = 0; i < c.fields(); ++i) {
    const std::string where = field_text(c, i) + ".equation";
    Expression& left = c.left[i];
    const bool linear = is_affine(left, names);
    c.linear = c.linear && linear;
    const Expression rest = left.substitute(zero);
    const bool finite = all_finite(survey(c, {rest}).front());
    if (linear && !finite) refuse(where, "not finite without the fields", "finite on the domain");
    c.source.emplace_back();
    if (finite) {
      c.source.back() = -rest;
      left = left - rest;
    }
    std::vector<Expression> row;
    bool any = false;
    for (const std::string& name : names) {
      Expression partial = left.derivative(name);
      if (partial.is_zero() && left.depends_on(name)) {
        if (!is_affine(left, {name}))
          refuse(where, escape_text(left.brief_text(200)),
                 "differentiable in " + name + ", not piecewise constant");
        left = left.substitute(name, Expression(0.0));
      }
      any = any || !partial.is_zero();
      row.push_back(std::move(partial));
    }
    if (!any) refuse(where, escape_text(left.brief_text(200)), "an equation for the fields");
    c.partial.push_back(std::move(row));
  }
  for (std::size_t t = 0; t < c.terms.size();) {
    const bool used = std::any_of(c.partial.begin(), c.partial.end(),
                                  [t](const auto& row) { return !row[t].is_zero(); });
    if (used) {
      ++t;
      continue;
    }
    c.terms.erase(c.terms.begin() + static_cast<std::ptrdiff_t>(t));
    for (auto& row : c.partial) row.erase(row.begin() + static_cast<std::ptrdiff_t>(t));
  }
  for (Size j = 0; j < c.fields(); ++j)
    if (std::none_of(c.terms.begin(), c.terms.end(), [j](const auto& t) { return t.field == j; }))
      refuse(field_text(c, j), "in no equation", "in one");
}

// Where nothing is said of where Newton's method starts: a constant, or in one dimension a straight
// line, that has the prescribed values.
void default_guess(CheckedSystem& c) {
  for (Size f = 0; f < c.fields(); ++f) {
    auto& guess = c.problem.fields[f].guess;
    if (guess) continue;
    std::array<std::optional<double>, 2> ends;
    double sum = 0;
    int count = 0;
    for (const SystemCondition& q : c.conditions) {
      if (q.field != f || q.b != 0) continue;
      double mean = 0;
      constexpr int points = 5;
      const Program<double> g(q.g, c.names);
      for (int i = 0; i < points; ++i) {
        std::vector<double> x;
        for (Size k = 0; k < c.dimension(); ++k)
          x.push_back(c.end(k, 0).hi + c.length(k).hi * (i + 0.5) / points);
        mean += g(std::span<const double>(x)) / (q.a * points);
      }
      if (!std::isfinite(mean)) continue;
      ends[q.end] = mean;
      sum += mean;
      ++count;
    }
    if (count == 0) continue;
    if (c.dimension() == 1 && ends[0] && ends[1])
      guess = Expression(*ends[0]) + Expression((*ends[1] - *ends[0]) / c.length(0).hi) *
                                         (Expression::symbol(c.names[0]) - Expression(c.end(0, 0)));
    else
      guess = Expression(sum / count);
  }
}

// The path of an initial value problem of first order, from the end that has all conditions.
void follow_path(CheckedSystem& c) {
  const Size n = c.fields();
  if (c.dimension() != 1 || static_cast<Size>(c.conditions.size()) != n) return;
  const int end = c.conditions[0].end;
  std::vector<double> u(n);
  std::vector<char> seen(n, 0);
  for (const SystemCondition& q : c.conditions) {
    if (q.end != end || q.b != 0 || seen[q.field]) return;
    seen[q.field] = 1;
    u[q.field] = (q.g.constant() / q.a).hi;
  }
  std::vector<std::string> inputs = c.names;
  std::vector<std::string> slopes;
  for (const SystemTerm& term : c.terms) {
    if (term.order[0] > 1) return;
    inputs.push_back(term.name);
    if (term.order[0] == 1) slopes.push_back(term.name);
  }
  std::vector<Expression> all;
  for (Size i = 0; i < n; ++i) {
    if (!is_affine(c.left[i], slopes)) return;
    all.push_back(c.source[i] - c.left[i]);
    all.insert(all.end(), c.partial[i].begin(), c.partial[i].end());
  }
  const Program<double> code(all, inputs);
  const auto terms = static_cast<Size>(c.terms.size());
  std::vector<double> in(inputs.size()), out(all.size());
  // u' from M u' = source - left without u'; false where M is singular.
  const auto slope = [&](double x, const std::vector<double>& at, std::vector<double>& to) {
    in[0] = x;
    for (Size t = 0; t < terms; ++t)
      in[t + 1] = c.terms[t].order[0] == 0 ? at[c.terms[t].field] : 0.0;
    code(in, out);
    std::vector<double> m(n * n, 0.0);
    for (Size i = 0; i < n; ++i) {
      to[i] = out[i * (terms + 1)];
      for (Size t = 0; t < terms; ++t)
        if (c.terms[t].order[0] == 1) m[i * n + c.terms[t].field] += out[i * (terms + 1) + 1 + t];
    }
    for (Size j = 0; j < n; ++j) {
      Size pivot = j;
      for (Size i = j + 1; i < n; ++i)
        if (std::fabs(m[i * n + j]) > std::fabs(m[pivot * n + j])) pivot = i;
      if (!(std::fabs(m[pivot * n + j]) > 0)) return false;
      for (Size l = 0; l < n && pivot != j; ++l) std::swap(m[j * n + l], m[pivot * n + l]);
      std::swap(to[j], to[pivot]);
      for (Size i = j + 1; i < n; ++i) {
        const double factor = m[i * n + j] / m[j * n + j];
        for (Size l = j; l < n; ++l) m[i * n + l] -= factor * m[j * n + l];
        to[i] -= factor * to[j];
      }
    }
    for (Size i = n - 1; i >= 0; --i) {
      for (Size l = i + 1; l < n; ++l) to[i] -= m[i * n + l] * to[l];
      to[i] /= m[i * n + i];
    }
    return all_finite(to);
  };
  constexpr Size steps = 1 << 14;
  InitialPath path;
  path.lower = c.end(0, 0).hi;
  path.step = c.length(0).hi / static_cast<double>(steps);
  path.values.assign(n, std::vector<double>(steps + 1));
  path.slopes = path.values;
  const double h = end == 0 ? path.step : -path.step;
  std::vector<double> k1(n), k2(n), k3(n), k4(n), v(n);
  for (Size s = 0; s <= steps; ++s) {
    const Size at = end == 0 ? s : steps - s;
    const double x = path.lower + path.step * static_cast<double>(at);
    if (!slope(x, u, k1)) return;
    for (Size i = 0; i < n; ++i) {
      path.values[i][at] = u[i];
      path.slopes[i][at] = k1[i];
    }
    if (s == steps) break;
    const auto stage = [&](double part, const std::vector<double>& k, std::vector<double>& to) {
      for (Size i = 0; i < n; ++i) v[i] = u[i] + part * h * k[i];
      return slope(x + part * h, v, to);
    };
    if (!stage(0.5, k1, k2) || !stage(0.5, k2, k3) || !stage(1, k3, k4)) return;
    for (Size i = 0; i < n; ++i) u[i] += h / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
    if (!all_finite(u)) return;
  }
  c.path = std::move(path);
}

void linearise_at_guess(CheckedSystem& c) {
  std::map<std::string, Expression> state;
  for (const SystemTerm& term : c.terms) {
    Expression value = c.problem.fields[term.field].guess.value_or(Expression(0.0));
    for (Size k = 0; k < c.dimension(); ++k)
      for (int d = 0; d < term.order[k]; ++d) value = value.derivative(c.names[k]);
    state.emplace(term.name, value);
  }
  std::vector<Expression> all;
  for (const auto& row : c.partial) {
    std::vector<Expression> at;
    at.reserve(row.size());
    for (const Expression& e : row) at.push_back(e.substitute(state));
    all.insert(all.end(), at.begin(), at.end());
    c.reference.push_back(std::move(at));
  }
  const auto values = survey(c, all);
  for (std::size_t k = 0; k < all.size(); ++k)
    if (!all_finite(values[k])) {
      const Size i = static_cast<Size>(k / c.terms.size());
      refuse(field_text(c, i) + ".equation",
             "a coefficient of " + c.terms[k % c.terms.size()].name + " that is not finite",
             c.linear ? "finite on the whole domain" : "finite at the guess (fields[i].guess)");
    }
}

void read_sides(CheckedSystem& c) {
  const Size n = c.fields(), d = c.dimension();
  c.periodic.assign(d * n, 0);
  std::vector<std::array<char, 2>> periodic_ends(d * n, std::array<char, 2>{});
  for (const SystemSide& given : c.problem.sides) {
    const auto& fields = c.problem.fields;
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&](const auto& f) { return f.name == given.field; });
    const std::string where = "problem.sides." + given.field;
    if (field == fields.end()) refuse("problem.sides", given.field, "the name of a field");
    SystemCondition condition;
    condition.field = field - fields.begin();
    condition.axis = -1;
    for (Size k = 0; k < d; ++k)
      for (int s = 0; s < 2; ++s)
        if (given.side == c.names[k] + (s == 0 ? '-' : '+')) {
          condition.axis = k;
          condition.end = s;
        }
    if (condition.axis < 0) refuse(where, given.side, "an axis and its end, such as x- or x+");
    const Side& side = given.condition;
    if (side.kind == SideKind::derivative || side.kind == SideKind::linear)
      refuse(
          where + "." + given.side, "a condition on derivatives",
          "one on the field and its normal derivative: a further field may stand for a derivative");
    if (!side.also.empty())
      refuse(where + "." + given.side, "further conditions in Side::also",
             "an entry of problem.sides each");
    if (side.kind == SideKind::none) continue;
    if (side.kind == SideKind::periodic) {
      periodic_ends[condition.axis * n + condition.field][condition.end] = 1;
      continue;
    }
    condition.a = side.kind == SideKind::dirichlet ? 1
                  : side.kind == SideKind::neumann ? 0
                                                   : side.a;
    condition.b = side.kind == SideKind::dirichlet ? 0
                  : side.kind == SideKind::neumann ? 1
                                                   : side.b;
    if (!std::isfinite(condition.a) || !std::isfinite(condition.b) ||
        (condition.a == 0 && condition.b == 0))
      refuse(where + "." + given.side,
             "a = " + std::to_string(side.a) + ", b = " + std::to_string(side.b),
             "finite and not both zero");
    condition.g = side.g.substitute(c.names[condition.axis],
                                    Expression(c.end(condition.axis, condition.end)));
    for (const std::string& symbol : condition.g.symbols())
      if (std::find(c.names.begin(), c.names.end(), symbol) == c.names.end())
        refuse(where + "." + given.side, symbol, "a formula in the axes");
    c.conditions.push_back(std::move(condition));
  }
  for (Size k = 0; k < d; ++k) {
    std::array<bool, 2> periodic{true, false};
    for (Size j = 0; j < n; ++j) {
      const auto& ends = periodic_ends[k * n + j];
      const std::string where = "problem.sides." + c.problem.fields[j].name;
      if (ends[0] != ends[1])
        refuse(where, "one periodic side in " + c.names[k], "periodic on both sides");
      c.periodic[k * n + j] = ends[0];
      periodic[0] = periodic[0] && ends[0] != 0;
      periodic[1] = periodic[1] || ends[0] != 0;
      if (ends[0] != 0 && std::any_of(c.conditions.begin(), c.conditions.end(),
                                      [&](const auto& q) { return q.axis == k && q.field == j; }))
        refuse(where, "periodic in " + c.names[k] + " and another condition there",
               "one of the two");
    }
    c.axis_periodic.push_back(periodic);
  }
}

void check_line(const CheckedSystem& c) {
  const auto order = order_of(c);
  const Size n = c.fields();
  if (!order)
    refuse("problem.fields", "equations that depend on each other",
           "independent: the determinant of the system's symbol vanishes");
  if (*order == 0)
    refuse("problem.fields", "equations whose fields follow from each other without derivatives",
           "a system of differential equations");
  Size given = static_cast<Size>(c.conditions.size());
  if (c.axis_periodic[0][0]) return;
  for (Size j = 0; j < n; ++j) {
    if (!c.is_periodic(0, j)) continue;
    int highest = 0;
    for (const SystemTerm& term : c.terms)
      if (term.field == j) highest = std::max(highest, term.order[0]);
    given += highest;
  }
  if (given != *order)
    refuse("problem.sides", std::to_string(given) + (given == 1 ? " condition" : " conditions"),
           "as many in all as the order of the system, which is " + std::to_string(*order));
}

// Two dimensions: field i's own operator with constant coefficients, and whether its sides fit.
void check_plane(CheckedSystem& c) {
  const Size n = c.fields(), d = 2;
  for (Size k = 0; k < d; ++k)
    if (c.axis_periodic[k][0] != c.axis_periodic[k][1])
      refuse("problem.sides", "periodic in " + c.names[k] + " for some fields only",
             "periodic for all fields or for none in two dimensions");
  for (Size i = 0; i < n; ++i) {
    const std::string& name = c.problem.fields[i].name;
    const std::string where = field_text(c, i) + ".equation";
    Checked& own = c.own[i];
    const auto middle = [&](const std::vector<int>& order, bool& occurs) {
      occurs = false;
      for (std::size_t t = 0; t < c.terms.size(); ++t) {
        if (c.terms[t].field != i || c.terms[t].order != order || c.partial[i][t].is_zero())
          continue;
        occurs = true;
        const Expression& e = c.reference[i][t];
        if (e.is_constant()) return e.constant();
        const std::vector<double> values = survey(c, {e}).front();
        const auto [low, high] = std::minmax_element(values.begin(), values.end());
        if (total(order) == 2 && *std::max_element(order.begin(), order.end()) == 2 &&
            *low * *high < 0)
          refuse(where, "a coefficient of " + c.terms[t].name + " that changes its sign",
                 "of one sign on the whole domain");
        return dd(0.5 * (*low + *high));
      }
      return dd(0.0);
    };
    bool occurs = false, any = false;
    double sign = 0;
    own.axis.assign(d, {});
    for (Size k = 0; k < d; ++k) {
      std::vector<int> order(d, 0);
      AxisOperator& axis = own.axis[k];
      axis.periodic = c.axis_periodic[k][0];
      order[k] = 2;
      axis.second = middle(order, axis.has_second);
      order[k] = 1;
      axis.first = middle(order, axis.has_first);
      any = any || axis.has_second || axis.has_first;
      if (axis.has_second && axis.second.hi == 0)
        refuse(where, "no second derivative of " + name + " in " + c.names[k] + " at the guess",
               "elliptic or parabolic in " + name + " there");
      if (axis.has_second) sign = axis.second.hi > 0 ? -1 : 1;
    }
    own.reaction = middle({0, 0}, occurs);
    any = any || occurs;
    if (!any)
      refuse(where, "without " + name + " itself",
             "solvable for " + name +
                 " where the other fields are known (saddle points such as Stokes' equations are "
                 "not solved yet in two dimensions)");
    const dd mixed = middle({1, 1}, occurs);
    if (mixed.hi * mixed.hi > 4 * (own.axis[0].second * own.axis[1].second).hi)
      refuse(where, "hyperbolic of second order in " + name,
             "elliptic or parabolic in " + name +
                 ": a hyperbolic one needs two conditions on one side, which is not solved yet");
    for (Size k = 0; k < d; ++k) {
      AxisOperator& axis = own.axis[k];
      int given = 0;
      for (int s = 0; s < 2; ++s) given += has_data(own.problem.sides[k][s]) ? 1 : 0;
      const int needed = axis.periodic ? 0 : axis.has_second ? 2 : axis.has_first ? 1 : 0;
      if (given != needed)
        refuse("problem.sides." + name,
               std::to_string(given) + (given == 1 ? " condition" : " conditions") +
                   " on the sides of " + c.names[k],
               "as many as the order in " + c.names[k] + " of the equation of " + name + " in " +
                   name + " itself, which is " + std::to_string(needed) +
                   (needed == 0 && given > 0
                        ? " (first-order systems whose equations exchange derivatives are not "
                          "solved yet in two dimensions)"
                        : ""));
      for (int s = 0; s < 2; ++s) {
        const Side& side = own.problem.sides[k][s];
        if (!axis.has_first || !has_data(side)) continue;
        const double normal = s == 0 ? -1 : 1;
        const bool pure = !axis.has_second;
        const std::string at = "problem.sides." + name + "." + c.names[k] + (s == 0 ? "-" : "+");
        if (pure && side.b != 0)
          refuse(at, "a condition on d" + name + "/dn",
                 "one on " + name + ": its equation is of first order in " + c.names[k]);
        if (pure && sign == 0) sign = axis.first.hi * normal < 0 ? 1 : -1;
        const bool enters = sign * axis.first.hi * normal < 0;
        if (pure && !enters)
          refuse(at, "a condition", "on the side where the flow enters (the problem is ill-posed)");
        axis.inflow[s] = enters && side.b == 0;
      }
    }
  }
}

}  // namespace

CheckedSystem check(SystemProblem problem, Options options) {
  CheckedSystem c;
  if (problem.axes.empty() || problem.axes.size() > 2)
    refuse("problem.axes.size()", std::to_string(problem.axes.size()),
           "1 or 2 (systems in three dimensions are not solved yet)");
  if (problem.fields.empty() || problem.fields.size() > 8)
    refuse("problem.fields.size()", std::to_string(problem.fields.size()), "1 to 8");
  if (options.guess)
    refuse("options.guess", "given", "left out: each field of a system has its own");
  if (!options.nodes_per_axis.empty())
    refuse("options.nodes_per_axis", "given", "left to the solver for systems");
  if (options.slabs != 1)
    refuse("options.slabs", std::to_string(options.slabs),
           "1: systems are not solved in slabs yet");
  if (options.kernel == KernelType::matern)
    refuse("options.kernel", "matern", "another one for systems");
  if (options.slabs > 1) refuse("options.slabs", std::to_string(options.slabs), "1 for systems");
  for (const Axis& axis : problem.axes) c.names.push_back(axis.name);
  c.problem = std::move(problem);
  {
    // Axes and options are checked as those of a single equation are.
    Problem plain;
    plain.axes = c.problem.axes;
    plain.forcing = Expression(0.0);
    for (const Axis& axis : plain.axes) {
      plain.equation = plain.equation + Expression::symbol("u_" + axis.name + axis.name);
      std::array<Side, 2> sides;
      for (int s = 0; s < 2; ++s) {
        const std::string name = axis.name + (s == 0 ? '-' : '+');
        const bool periodic =
            std::any_of(c.problem.sides.begin(), c.problem.sides.end(), [&](const auto& side) {
              return side.side == name && side.condition.kind == SideKind::periodic;
            });
        sides[s].kind = periodic ? SideKind::periodic : SideKind::dirichlet;
      }
      if (sides[0].kind != sides[1].kind) sides[0].kind = sides[1].kind = SideKind::dirichlet;
      plain.sides.push_back(sides);
    }
    c.threads = check(std::move(plain), options).threads;
  }
  c.options = std::move(options);
  read_equations(c);
  take_apart(c);
  read_sides(c);
  if (!c.linear) {
    const bool guessed = std::any_of(c.problem.fields.begin(), c.problem.fields.end(),
                                     [](const SystemField& f) { return f.guess.has_value(); });
    if (!guessed) follow_path(c);
    default_guess(c);
  }
  linearise_at_guess(c);
  const Size n = c.fields(), d = c.dimension();
  c.own.resize(n);
  for (Size i = 0; i < n; ++i) {
    Checked& own = c.own[i];
    own.names = c.names;
    own.problem.axes = c.problem.axes;
    own.problem.sides.resize(d);
    own.op.source = c.source[i];
    own.options = c.options;
    own.threads = c.threads;
    own.axis.assign(d, {});
    for (Size k = 0; k < d; ++k)
      if (c.is_periodic(k, i))
        for (Side& side : own.problem.sides[k]) side.kind = SideKind::periodic;
  }
  for (const SystemCondition& q : c.conditions) {
    Side& side = c.own[q.field].problem.sides[q.axis][q.end];
    if (d == 2 && side.kind != SideKind::none)
      refuse("problem.sides." + c.problem.fields[q.field].name,
             "two conditions on " + c.names[q.axis] + (q.end == 0 ? "-" : "+"),
             "one on each side in two dimensions");
    side = {q.b == 0 ? SideKind::dirichlet : SideKind::robin, q.a, q.b, q.g};
  }
  for (Checked& own : c.own)
    for (Size k = 0; k < d; ++k)
      for (Condition& q : conditions_of(own.problem, k)) own.conditions.push_back(std::move(q));
  if (d == 1)
    check_line(c);
  else
    check_plane(c);
  return c;
}

double InitialPath::value(Size field, double x) const {
  const auto last = static_cast<Size>(values[field].size()) - 2;
  const double s = (x - lower) / step;
  const Size i = std::clamp<Size>(static_cast<Size>(s), 0, last);
  const double t = s - static_cast<double>(i);
  const double a = values[field][i], b = values[field][i + 1];
  const double p = step * slopes[field][i], q = step * slopes[field][i + 1];
  return a + t * (p + t * (3 * (b - a) - 2 * p - q + t * (2 * (a - b) + p + q)));
}

std::vector<Complex> symbol_roots(const CheckedSystem& c, Size k, double w,
                                  const std::vector<double>& point) {
  std::vector<Expression> all;
  for (const auto& row : c.reference) all.insert(all.end(), row.begin(), row.end());
  std::vector<double> value(all.size());
  Program<double>(all, c.names)(point, value);
  if (!all_finite(value)) return {};
  const Symbol p = symbol_of(c, k, w, value);
  const auto degree = degree_of(p);
  if (!degree || *degree == 0) return {};
  const Size n = p.n;
  const auto zero = [](Complex x) { return x == 0.0; };
  const bool second = !std::all_of(p.power[2].begin(), p.power[2].end(), zero);
  // (A0 + y A1 + y^2 A2) v = 0 as a pencil in (v, y v).
  const auto size = static_cast<lapack_int>(second ? 2 * n : n);
  std::vector<Complex> a(size * size), b(size * size), alpha(size), beta(size);
  const auto at = [size](Size i, Size j) { return i + j * size; };
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j < n; ++j) {
      const Size from = i * n + j;
      if (second) {
        a[at(n + i, j)] = -p.power[0][from];
        a[at(n + i, n + j)] = -p.power[1][from];
        b[at(n + i, n + j)] = p.power[2][from];
        a[at(i, n + j)] = b[at(i, j)] = i == j ? 1.0 : 0.0;
      } else {
        a[at(i, j)] = -p.power[0][from];
        b[at(i, j)] = p.power[1][from];
      }
    }
  if (LAPACKE_zggev(LAPACK_COL_MAJOR, 'N', 'N', size, a.data(), size, b.data(), size, alpha.data(),
                    beta.data(), nullptr, size, nullptr, size) != 0)
    return {};
  std::vector<Complex> roots;
  for (lapack_int i = 0; i < size; ++i)
    if (std::abs(beta[i]) > 1e-14 * std::abs(alpha[i]))
      roots.push_back(alpha[i] / beta[i] / c.length(k).hi);
  // Infinite ones may have come out as large ones.
  std::sort(roots.begin(), roots.end(),
            [](const Complex& x, const Complex& y) { return std::abs(x) < std::abs(y); });
  if (static_cast<Size>(roots.size()) > *degree) roots.resize(*degree);
  return roots;
}

}  // namespace halfulp::gp_pde::detail
