#include "detail/linear_operator.hpp"

#include <algorithm>
#include <unordered_map>

#include "detail/expression_node.hpp"
#include "detail/require.hpp"
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

LinearOperator extract_linear_operator(const Problem& problem) {
  constexpr std::string_view function = "gp_pde::solve";
  const std::string text = escape_text(problem.equation.brief_text(200));
  std::vector<std::string> fields;  // u and the derivatives that occur
  std::vector<std::vector<int>> orders;
  for (const std::string& name : problem.equation.symbols()) {
    if (name == problem.forcing_symbol ||
        std::any_of(problem.axes.begin(), problem.axes.end(),
                    [&](const Axis& axis) { return axis.name == name; }))
      continue;
    const auto order = derivative_orders(problem.axes, name);
    halfulp::detail::require(order.has_value(), function, "symbol in equation", name,
                             "an axis, u, a derivative of u, or the forcing");
    fields.push_back(name);
    orders.push_back(*order);
  }
  halfulp::detail::require(!fields.empty(), function, "equation", text, "an equation for u");
  halfulp::detail::require(is_affine(problem.equation, fields), function, "equation", text,
                           "linear in u and its derivatives");

  LinearOperator result;
  Expression rest = problem.equation;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Expression coefficient = problem.equation.derivative(fields[i]);
    halfulp::detail::require(!coefficient.depends_on(problem.forcing_symbol), function, "equation",
                             text, "free of products of u and the forcing");
    if (!coefficient.is_zero()) {
      const auto [entry, fresh] = result.coefficients.try_emplace(orders[i], coefficient);
      if (!fresh) entry->second = entry->second + coefficient;  // u_yx beside u_xy
    }
    rest = rest.substitute(fields[i], Expression(0.0));
  }
  std::erase_if(result.coefficients, [](const auto& entry) { return entry.second.is_zero(); });
  halfulp::detail::require(!result.coefficients.empty(), function, "equation", text,
                           "an equation for u: its terms cancel");
  if (rest.depends_on(problem.forcing_symbol)) {
    const Expression factor = rest.derivative(problem.forcing_symbol);
    halfulp::detail::require(factor.is_constant() && is_affine(rest, {problem.forcing_symbol}),
                             function, "equation", text,
                             "linear in the forcing, with a constant factor");
    result.forcing_factor = -static_cast<double>(factor.constant());
    rest = rest.substitute(problem.forcing_symbol, Expression(0.0));
  }
  result.source = -rest;
  return result;
}

}  // namespace halfulp::gp_pde::detail
