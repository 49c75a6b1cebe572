#include "detail/linear_operator.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "detail/expression_node.hpp"
#include "detail/require.hpp"
#include "halfulp/expression_program.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde::detail {
namespace {

/// Splits text into axis names, adding up how often each occurs; false if it cannot be split.
bool count_axes(const std::vector<Axis>& axes, std::string_view text, std::vector<int>& orders) {
  if (text.empty()) return true;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i].name.empty() || !text.starts_with(axes[i].name)) continue;
    ++orders[i];
    if (count_axes(axes, text.substr(axes[i].name.size()), orders)) return true;
    --orders[i];
  }
  return false;
}

}  // namespace

std::string derivative_name(const std::vector<Axis>& axes, const std::vector<int>& orders,
                            std::string_view field) {
  std::string suffix;
  for (std::size_t i = 0; i < axes.size(); ++i)
    for (int k = 0; k < orders[i]; ++k) suffix += axes[i].name;
  std::string name(field);
  return suffix.empty() ? name : name + '_' + suffix;
}

std::optional<std::vector<int>> derivative_orders(const std::vector<Axis>& axes,
                                                  std::string_view symbol, std::string_view field) {
  if (!symbol.starts_with(field)) return std::nullopt;
  symbol.remove_prefix(field.size());
  std::vector<int> orders(axes.size(), 0);
  if (symbol.empty()) return orders;
  // 64: far beyond any order that is solved, and a bound on the recursion.
  if (symbol.front() != '_' || symbol.size() < 2 || symbol.size() > 64) return std::nullopt;
  symbol.remove_prefix(1);
  if (!count_axes(axes, symbol, orders)) return std::nullopt;
  return orders;
}

bool is_affine(const Expression& formula, const std::vector<std::string>& symbols) {
  // Degree of each node in the symbols: 0 free of them, 1 affine, 2 anything else.
  using halfulp::detail::Node;
  using halfulp::detail::NodePtr;
  using halfulp::detail::Op;
  std::unordered_map<const Node*, int> degree;
  halfulp::detail::post_order(formula.node(), [&](const NodePtr& node) {
    const auto of = [&](int k) { return degree.at(node->args[static_cast<std::size_t>(k)].get()); };
    int result = 0;
    switch (node->op) {
      case Op::symbol:
        result = std::find(symbols.begin(), symbols.end(), node->name) != symbols.end() ? 1 : 0;
        break;
      case Op::add:
      case Op::subtract:
      case Op::negate:
        for (int k = 0; k < node->arity; ++k) result = std::max(result, of(k));
        break;
      case Op::multiply:
        result = std::min(2, of(0) + of(1));
        break;
      case Op::divide:
        result = of(1) == 0 ? of(0) : 2;
        break;
      case Op::select:
        result = of(0) == 0 ? std::max(of(1), of(2)) : 2;
        break;
      default:
        for (int k = 0; k < node->arity; ++k)
          if (of(k) != 0) result = 2;
    }
    degree[node.get()] = result;
  });
  return degree.at(formula.node().get()) < 2;
}

namespace {

std::vector<std::string> axis_names(const Problem& problem) {
  std::vector<std::string> names;
  for (const Axis& axis : problem.axes) names.push_back(axis.name);
  return names;
}

// Values of formulas in the axes' names on a uniform grid of the box, one vector a formula.
std::vector<std::vector<double>> survey(const Problem& problem,
                                        const std::vector<Expression>& formulas) {
  const std::size_t points = problem.axes.size() == 1 ? 65 : 33;
  std::vector<std::vector<double>> grid;
  std::size_t size = 1;
  for (const Axis& axis : problem.axes) {
    std::vector<double> x;
    for (std::size_t i = 0; i < points; ++i)
      x.push_back(axis.lower.hi + (axis.upper.hi - axis.lower.hi) * static_cast<double>(i) /
                                      static_cast<double>(points - 1));
    grid.push_back(std::move(x));
    size *= points;
  }
  std::vector<double> all(formulas.size() * size);
  Program<double>(formulas, axis_names(problem)).on_grid(grid, all);
  std::vector<std::vector<double>> values;
  for (std::size_t k = 0; k < formulas.size(); ++k)
    values.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(k * size),
                        all.begin() + static_cast<std::ptrdiff_t>((k + 1) * size));
  return values;
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

}  // namespace

Equation extract_equation(const Problem& problem) {
  constexpr std::string_view function = "gp_pde::solve";
  using halfulp::detail::require;
  const std::string text = escape_text(problem.equation.brief_text(200));
  Equation result;
  result.left = problem.equation;
  for (const std::string& name : problem.equation.symbols()) {
    if (name == problem.forcing_symbol ||
        std::any_of(problem.axes.begin(), problem.axes.end(),
                    [&](const Axis& axis) { return axis.name == name; }))
      continue;
    const auto order = derivative_orders(problem.axes, name);
    require(order.has_value(), function, "symbol in equation", name,
            "an axis, u, a derivative of u, or the forcing");
    const std::string usual = derivative_name(problem.axes, *order);  // u_yx is u_xy
    if (usual != name) result.left = result.left.substitute(name, Expression::symbol(usual));
    if (std::find(result.names.begin(), result.names.end(), usual) != result.names.end()) continue;
    result.names.push_back(usual);
    result.orders.push_back(*order);
  }
  require(!result.names.empty(), function, "equation", text, "an equation for u");
  if (result.left.depends_on(problem.forcing_symbol)) {
    const Expression factor = result.left.derivative(problem.forcing_symbol);
    require(factor.is_constant() && is_affine(result.left, {problem.forcing_symbol}), function,
            "equation", text,
            "linear in the forcing, with a constant factor (free of products of u and the "
            "forcing)");
    result.forcing_factor = -static_cast<double>(factor.constant());
    result.left = result.left.substitute(problem.forcing_symbol, Expression(0.0));
  }
  result.linear = is_affine(result.left, result.names);
  Expression rest = result.left;
  for (const std::string& name : result.names) rest = rest.substitute(name, Expression(0.0));
  if (result.linear || all_finite(survey(problem, {rest}).front())) {
    result.source = -rest;
    result.left = result.left - rest;
  }
  for (std::size_t k = 0; k < result.names.size();) {
    const Expression partial = result.left.derivative(result.names[k]);
    if (partial.is_zero()) {  // its terms cancel
      require(is_affine(result.left, {result.names[k]}), function, "equation", text,
              "differentiable in " + result.names[k] + ", not piecewise constant");
      result.left = result.left.substitute(result.names[k], Expression(0.0));
      result.names.erase(result.names.begin() + static_cast<std::ptrdiff_t>(k));
      result.orders.erase(result.orders.begin() + static_cast<std::ptrdiff_t>(k));
      continue;
    }
    result.partial.push_back(partial);
    ++k;
  }
  require(!result.names.empty(), function, "equation", text, "an equation for u: its terms cancel");
  return result;
}

LinearOperator reference_operator(const Problem& problem, const Equation& equation,
                                  const Expression& guess) {
  LinearOperator result;
  result.source = equation.source;
  result.forcing_factor = equation.forcing_factor;
  std::map<std::string, Expression> state;
  for (std::size_t k = 0; k < equation.names.size(); ++k) {
    Expression value = guess;
    for (std::size_t i = 0; i < problem.axes.size(); ++i)
      for (int n = 0; n < equation.orders[k][i]; ++n)
        value = value.derivative(problem.axes[i].name);
    state.emplace(equation.names[k], value);
  }
  std::vector<Expression> coefficients;
  for (const Expression& partial : equation.partial)
    coefficients.push_back(equation.linear ? partial : partial.substitute(state));
  const bool constant = std::all_of(coefficients.begin(), coefficients.end(),
                                    [](const Expression& e) { return e.is_constant(); });
  if (!equation.linear || (!constant && problem.axes.size() > 1)) {
    const auto values = survey(problem, coefficients);
    for (std::size_t k = 0; k < coefficients.size(); ++k) {
      if (coefficients[k].is_constant() && equation.linear) continue;
      halfulp::detail::require(
          all_finite(values[k]), "gp_pde::solve", "coefficient of " + equation.names[k],
          "not finite",
          equation.linear ? "finite on the whole domain" : "finite at the guess (options.guess)");
      if (problem.axes.size() == 1 || coefficients[k].is_constant()) continue;
      const auto [low, high] = std::minmax_element(values[k].begin(), values[k].end());
      int order = 0;
      for (const int o : equation.orders[k]) order += o;
      const bool mixed = order == 2 && *std::max_element(equation.orders[k].begin(),
                                                         equation.orders[k].end()) == 1;
      halfulp::detail::require(order < 2 || mixed || *low * *high >= 0, "gp_pde::solve",
                               "coefficient of " + equation.names[k], "changing its sign",
                               "of one sign on the whole domain");
      coefficients[k] = Expression(0.5 * (*low + *high));
    }
  }
  for (std::size_t k = 0; k < coefficients.size(); ++k)
    if (!coefficients[k].is_zero())
      result.coefficients.emplace(equation.orders[k], coefficients[k]);
  return result;
}

}  // namespace halfulp::gp_pde::detail
