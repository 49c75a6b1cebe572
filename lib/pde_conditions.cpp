#include "detail/pde_conditions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace halfulp::gp_pde::detail {
namespace {

using Complex = std::complex<double>;
using Size = std::ptrdiff_t;

constexpr double two_pi = 6.283185307179586;

// The operator's symbol: coefficient of (d/dx0)^i (d/dx1)^j.
using Symbol = std::map<std::pair<int, int>, double>;

Symbol symbol_of(const LinearOperator& op) {
  Symbol symbol;
  for (const auto& [orders, value] : op.coefficients)
    if (value.is_constant()) symbol[{orders[0], orders[1]}] = value.constant().hi;
  return symbol;
}

// As a polynomial in the derivative along `axis`, that along the other one being `other`.
std::vector<Complex> polynomial_along(const Symbol& symbol, Size axis, Complex other) {
  std::vector<Complex> a(highest_order + 1);
  for (const auto& [orders, value] : symbol) {
    const int along = axis == 0 ? orders.first : orders.second;
    const int across = axis == 0 ? orders.second : orders.first;
    a[along] += value * std::pow(other, across);
  }
  return a;
}

double length_of(const Problem& problem, Size axis) {
  const Axis& a = problem.axes[axis];
  return (a.upper - a.lower).hi;
}

double pure(const Symbol& symbol, Size axis, int order) {
  const auto found = symbol.find(axis == 0 ? std::pair{order, 0} : std::pair{0, order});
  return found == symbol.end() ? 0.0 : found->second;
}

// Determinant of a small matrix whose rows have been scaled to a largest entry of one.
Complex determinant(std::vector<std::vector<Complex>> m) {
  const std::size_t n = m.size();
  for (auto& row : m) {
    double largest = 0;
    for (const Complex& v : row) largest = std::max(largest, std::abs(v));
    if (!(largest > 0)) return 0;
    for (Complex& v : row) v /= largest;
  }
  Complex product = 1;
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(m[i][k]) > std::abs(m[pivot][k])) pivot = i;
    std::swap(m[k], m[pivot]);
    if (std::abs(m[k][k]) == 0) return 0;
    product *= m[k][k];
    for (std::size_t i = k + 1; i < n; ++i) {
      const Complex factor = m[i][k] / m[k][k];
      for (std::size_t j = k; j < n; ++j) m[i][j] -= factor * m[k][j];
    }
  }
  return product;
}

std::string end_name(const Problem& problem, Size axis, int side) {
  return problem.axes[axis].name + (side == 0 ? "-" : "+");
}

std::string counted(std::size_t n) {
  return std::to_string(n) + (n == 1 ? " condition" : " conditions");
}

bool is_periodic(const Problem& problem, Size axis) {
  return problem.sides[axis][0].kind == SideKind::periodic;
}

// Conditions on each end of an axis against the solutions that decay from it, for one value of the
// derivative along the other axis.
std::optional<Objection> count_decaying(const Problem& problem, const Symbol& symbol, Size axis,
                                        int order, Complex other) {
  std::vector<Complex> roots = polynomial_roots(polynomial_along(symbol, axis, other));
  if (static_cast<int>(roots.size()) != order) return std::nullopt;  // lower order: nothing to say
  std::vector<Complex> decaying[2];
  for (const Complex& z : roots) {
    if (std::abs(z.real()) < 1e-7 * std::abs(z))
      return Objection{axis, -1, "a hyperbolic equation with conditions on both sides",
                       "u and its derivatives on one side: waves run along " +
                           problem.axes[axis].name +
                           ", and with conditions on both sides they have no solution or many"};
    decaying[z.real() < 0 ? 0 : 1].push_back(z);
  }
  const std::vector<Condition> all = conditions_of(problem, axis);
  for (int s = 0; s < 2; ++s) {
    std::vector<const Condition*> here;
    for (const Condition& c : all)
      if (c.side == s) here.push_back(&c);
    if (here.size() != decaying[s].size())
      return Objection{axis, s, counted(here.size()),
                       std::to_string(decaying[0].size()) + " on " + end_name(problem, axis, 0) +
                           " and " + std::to_string(decaying[1].size()) + " on " +
                           end_name(problem, axis, 1) + ": from each side as many solutions decay"};
    for (std::size_t i = 0; i < decaying[s].size(); ++i)  // apart, where they are multiple
      decaying[s][i] *= 1 + 1e-3 * static_cast<double>(i);
    std::vector<std::vector<Complex>> m;
    for (const Condition* c : here) {
      std::vector<Complex> row;
      for (const Complex& z : decaying[s]) {
        Complex value = 0;
        for (int j = c->order(); j >= 0; --j) value = value * z + c->coefficients[j];
        row.push_back(value);
      }
      m.push_back(std::move(row));
    }
    // Relative to the determinant of 1, z, z^2, ..., which vanishes where roots coincide.
    std::vector<std::vector<Complex>> powers(decaying[s].size());
    for (std::size_t i = 0; i < powers.size(); ++i)
      for (const Complex& z : decaying[s])
        powers[i].push_back(std::pow(z / std::abs(decaying[s][0]), static_cast<int>(i)));
    if (!m.empty() && !(std::abs(determinant(m)) > 1e-6 * std::abs(determinant(powers))))
      return Objection{axis, s, "conditions that leave a solution undetermined",
                       "independent of each other"};
  }
  return std::nullopt;
}

}  // namespace

std::vector<double> condition_coefficients(const Side& side, int s) {
  std::vector<double> c;
  switch (side.kind) {
    case SideKind::dirichlet:
      c = {1};
      break;
    case SideKind::neumann:
      c = {0, s == 0 ? -1.0 : 1.0};
      break;
    case SideKind::robin:
      c = {side.a, s == 0 ? -side.b : side.b};
      break;
    case SideKind::derivative:
      if (side.order >= 0 && side.order <= highest_order) {
        c.assign(side.order + 1, 0.0);
        c.back() = 1;
      }
      break;
    case SideKind::linear:
      c = side.coefficients;
      break;
    default:
      break;
  }
  while (!c.empty() && c.back() == 0) c.pop_back();
  return c;
}

std::vector<Condition> conditions_of(const Problem& problem, std::ptrdiff_t axis) {
  std::vector<Condition> all;
  for (int s = 0; s < 2; ++s) {
    const Side& side = problem.sides[axis][s];
    const auto add = [&](const Side& one) {
      if (one.kind != SideKind::none && one.kind != SideKind::periodic)
        all.push_back({axis, s, condition_coefficients(one, s), one.g});
    };
    add(side);
    for (const Side& more : side.also) add(more);
  }
  return all;
}

std::vector<std::complex<double>> polynomial_roots(std::vector<std::complex<double>> a) {
  while (!a.empty() && std::abs(a.back()) == 0) a.pop_back();
  std::vector<Complex> roots;
  std::size_t zeros = 0;
  while (zeros < a.size() && std::abs(a[zeros]) == 0) ++zeros;
  a.erase(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(zeros));
  roots.assign(a.empty() ? 0 : zeros, Complex(0));
  if (a.size() < 2) return roots;
  const std::size_t n = a.size() - 1;
  // In units of a radius that all roots lie within twice of.
  double radius = 0;
  for (std::size_t j = 0; j < n; ++j)
    radius = std::max(radius, std::pow(std::abs(a[j] / a[n]), 1.0 / static_cast<double>(n - j)));
  if (!std::isfinite(radius) || !(radius > 0)) return {};
  double power = 1;
  const Complex lead = a[n];
  for (std::size_t j = n + 1; j-- > 0; power /= radius) a[j] = a[j] / lead * power;
  std::vector<Complex> z(n);
  for (std::size_t k = 0; k < n; ++k)
    z[k] = std::polar(1.0, two_pi * (static_cast<double>(k) + 0.3) / static_cast<double>(n));
  for (int round = 0; round < 200; ++round) {
    double change = 0;
    for (std::size_t k = 0; k < n; ++k) {
      Complex p = a[n], dp = 0;
      for (std::size_t j = n; j-- > 0;) {
        dp = dp * z[k] + p;
        p = p * z[k] + a[j];
      }
      if (std::abs(p) == 0) continue;
      Complex sum = 0;
      for (std::size_t i = 0; i < n; ++i)
        if (i != k && z[i] != z[k]) sum += 1.0 / (z[k] - z[i]);
      const Complex step = p / (dp - p * sum);
      if (!std::isfinite(std::abs(step))) continue;
      z[k] -= step;
      change = std::max(change, std::abs(step) / std::max(std::abs(z[k]), 1e-300));
    }
    if (change < 1e-15) break;
  }
  for (const Complex& one : z) roots.push_back(one * radius);
  return roots;
}

int axis_order(const std::vector<std::vector<int>>& orders, std::ptrdiff_t axis) {
  int highest = 0;
  for (const auto& order : orders) {
    int total = 0;
    for (const int o : order) total += o;
    if (total == order[axis]) highest = std::max(highest, total);
  }
  return highest;
}

int evolution_side(const Problem& problem, std::ptrdiff_t axis, int order) {
  if (order == 0 || is_periodic(problem, axis)) return 0;
  int count[2] = {0, 0};
  for (const Condition& c : conditions_of(problem, axis)) ++count[c.side];
  if (count[0] == order && count[1] == 0) return -1;
  if (count[1] == order && count[0] == 0) return 1;
  return 0;
}

bool needs_strong_conditions(const Problem& problem, const std::vector<std::vector<int>>& orders,
                             const LinearOperator& op) {
  if (problem.axes.size() != 2) return false;
  for (Size k = 0; k < 2; ++k) {
    if (axis_order(orders, k) > 2) return true;
    for (const Side& side : problem.sides[k])
      if (!side.also.empty() || side.kind == SideKind::derivative || side.kind == SideKind::linear)
        return true;
  }
  for (const auto& order : orders)
    if (order[0] + order[1] > 2) return true;
  const Symbol symbol = symbol_of(op);
  const auto mixed = symbol.find({1, 1});
  const double m = mixed == symbol.end() ? 0.0 : mixed->second;
  return m * m > 4 * pure(symbol, 0, 2) * pure(symbol, 1, 2);
}

std::optional<Objection> objection_to(const Problem& problem,
                                      const std::vector<std::vector<int>>& orders,
                                      const LinearOperator& op) {
  const Symbol symbol = symbol_of(op);
  const int order[2] = {axis_order(orders, 0), axis_order(orders, 1)};
  for (Size k = 0; k < 2; ++k)
    if (order[k] > 0 && pure(symbol, k, order[k]) == 0)
      return Objection{-1, -1,
                       "no derivative of order " + std::to_string(order[k]) + " in " +
                           problem.axes[k].name + " at the guess",
                       "of the same order there (options.guess)"};
  for (const auto& mixed : orders) {
    if (mixed[0] == 0 || mixed[1] == 0) continue;
    // i / p + j / q <= 1: no stronger than the pure derivatives of the highest orders.
    if (order[0] * order[1] == 0 || mixed[0] * order[1] + mixed[1] * order[0] > order[0] * order[1])
      return Objection{-1, -1, "the mixed derivative " + derivative_name(problem.axes, mixed),
                       "dominated by the derivatives of the highest order along each axis"};
  }
  int evolution[2];
  for (Size k = 0; k < 2; ++k) {
    evolution[k] = evolution_side(problem, k, order[k]);
    const std::vector<Condition> all = conditions_of(problem, k);
    if (static_cast<int>(all.size()) != (is_periodic(problem, k) ? 0 : order[k]))
      return Objection{k, -1, counted(all.size()),
                       "as many as the order of the equation in " + problem.axes[k].name +
                           ", which is " + std::to_string(order[k]) + ", or periodic sides"};
    for (const Condition& c : all)
      if (c.order() >= order[k])
        return Objection{k, c.side, "a condition of order " + std::to_string(c.order()),
                         "of a lower order than the equation in " + problem.axes[k].name};
  }
  Size time = -1;
  for (Size k = 0; k < 2; ++k)
    if (evolution[k] != 0 && (time < 0 || order[k] < order[time])) time = k;
  if (evolution[0] != 0 && evolution[1] != 0 && order[0] != 1 && order[1] != 1)
    return Objection{0, -1, "all conditions on one side, of " + problem.axes[1].name + " as well",
                     "an initial value problem along one axis only"};
  const auto frequency = [&](Size k) { return 1e4 * two_pi / length_of(problem, k); };
  if (time >= 0) {
    const Size space = 1 - time;
    const int s = evolution[time] < 0 ? 0 : 1;
    const double forward = evolution[time] < 0 ? 1 : -1;
    std::vector<std::vector<Complex>> jets;
    for (const Condition& c : conditions_of(problem, time)) {
      std::vector<Complex> row(order[time]);
      std::copy(c.coefficients.begin(), c.coefficients.end(), row.begin());
      jets.push_back(std::move(row));
    }
    if (!(std::abs(determinant(jets)) > 1e-12))
      return Objection{time, s, "conditions that do not give u and its derivatives",
                       "u and its first " + std::to_string(order[time] - 1) + " derivatives"};
    if (order[space] > 0) {
      // Growth along time at two frequencies: bounded, or not.
      for (const double sign : {1.0, -1.0}) {
        double growth[2], size[2];
        for (int i = 0; i < 2; ++i) {
          const Complex other(0, sign * frequency(space) * (i == 0 ? 1 : 4));
          growth[i] = -std::numeric_limits<double>::infinity();
          size[i] = 0;
          for (const Complex& z : polynomial_roots(polynomial_along(symbol, time, other))) {
            growth[i] = std::max(growth[i], forward * z.real());
            size[i] = std::max(size[i], std::abs(z));
          }
        }
        if (growth[1] > 1e-8 * size[1] && growth[1] > 1.5 * growth[0])
          return Objection{
              time, s, "the conditions",
              "on the other side or of another kind: from here solutions grow without bound, the "
              "faster the higher their frequency in " +
                  problem.axes[space].name};
      }
      if (!is_periodic(problem, space)) {
        // So far from zero that the highest derivatives decide.
        const double top =
            std::abs(pure(symbol, space, order[space]) * std::pow(frequency(space), order[space]) /
                     pure(symbol, time, order[time]));
        const double z = forward * std::pow(top, 1.0 / order[time]);
        if (auto objection = count_decaying(problem, symbol, space, order[space], z))
          return objection;
      }
    }
    return std::nullopt;
  }
  for (Size k = 0; k < 2; ++k) {
    if (is_periodic(problem, k) || order[k] == 0) continue;
    for (const double sign : {1.0, -1.0}) {
      const Complex other(0, order[1 - k] == 0 ? 0.0 : sign * frequency(1 - k));
      if (auto objection = count_decaying(problem, symbol, k, order[k], other)) return objection;
    }
  }
  return std::nullopt;
}

}  // namespace halfulp::gp_pde::detail
