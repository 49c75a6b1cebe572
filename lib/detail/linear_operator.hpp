#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halfulp/gp_pde.hpp"

/// An equation taken apart: what depends on u, and its right-hand side.
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

/// left(x, u, u_x, ...) = source + forcing_factor * forcing, linear or not.
struct Equation {
  std::vector<std::vector<int>> orders;  ///< derivatives in `left`, each once
  std::vector<std::string> names;        ///< theirs
  Expression left;                       ///< 0 where u = 0, if the equation is finite there
  std::vector<Expression> partial;       ///< d left / d names[k]; none is zero
  Expression source;                     ///< in the axes' names
  double forcing_factor = 0;             ///< 0: the equation has no forcing symbol
  bool linear = true;                    ///< `partial` is free of u
};

/// Takes problem.equation apart.
/// @throws DomainError  the equation has no u, contains a symbol that is none of the problem's, or
///                      multiplies the forcing by something that is not a constant
[[nodiscard]] Equation extract_equation(const Problem& problem);

/// A linear equation's operator as it is. Of any other the one that its derivative at `guess` is:
/// in one dimension with coefficients that vary, in two with constants in the middle of their
/// ranges, which is what a nonlinear or variable equation is preconditioned by.
/// @throws DomainError  the derivative is not finite at the guess; in two dimensions, the
///                      coefficient of a second derivative changes its sign
[[nodiscard]] LinearOperator reference_operator(const Problem& problem, const Equation& equation,
                                                const Expression& guess);

/// True if `formula` is linear (affine) in each of `symbols` and in all of them together.
[[nodiscard]] bool is_affine(const Expression& formula, const std::vector<std::string>& symbols);

}  // namespace halfulp::gp_pde::detail
