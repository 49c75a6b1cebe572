#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halfulp/gp_pde.hpp"

/// A linear equation taken apart: its coefficients and its right-hand side.
namespace halfulp::gp_pde::detail {

/// sum over orders of coefficients[orders] * (derivative of u)  =  source + forcing_factor *
/// forcing
struct LinearOperator {
  std::map<std::vector<int>, Expression>
      coefficients;           ///< derivative orders per axis; none is zero
  Expression source;          ///< in the axes' names
  double forcing_factor = 0;  ///< 0: the equation has no forcing symbol
};

/// Name of a derivative in the axes' order, as Problem::equation has it: {2, 0} -> u_xx, {0, 0} ->
/// u.
[[nodiscard]] std::string derivative_name(const std::vector<Axis>& axes,
                                          const std::vector<int>& orders,
                                          std::string_view field = "u");

/// Inverse of derivative_name, with the axes in any order (u_yx = u_xy); nothing if `symbol` is not
/// `field` or one of its derivatives. Axis names must not be concatenations of each other.
[[nodiscard]] std::optional<std::vector<int>> derivative_orders(const std::vector<Axis>& axes,
                                                                std::string_view symbol,
                                                                std::string_view field = "u");

/// Takes problem.equation apart.
/// @throws DomainError  the equation is not linear in u and its derivatives, has no u, contains a
///                      symbol that is none of the problem's, or multiplies the forcing by
///                      something that is not a constant
[[nodiscard]] LinearOperator extract_linear_operator(const Problem& problem);

/// True if `formula` is linear (affine) in each of `symbols` and in all of them together.
[[nodiscard]] bool is_affine(const Expression& formula, const std::vector<std::string>& symbols);

}  // namespace halfulp::gp_pde::detail
