#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "halfulp/expression.hpp"
#include "halfulp/gp_pde.hpp"
#include "halfulp/report.hpp"

/// Systems of PDEs in one and two dimensions: several fields, as many equations.
///
///     using namespace halfulp;
///     gp_pde::SystemProblem p;                       // u'' = -900 u as a system of first order
///     p.axes = {{"t", 0.0, 10.0}};
///     p.fields = {{.name = "u", .equation = parse_expression("u_t - v", {"u_t", "v"})},
///                 {.name = "v", .equation = parse_expression("v_t + 900*u", {"v_t", "u"})}};
///     p.sides = {{"u", "t-", {.kind = gp_pde::SideKind::dirichlet, .g = 1.0}},
///                {"v", "t-", {.kind = gp_pde::SideKind::dirichlet, .g = 0.0}}};
///     const gp_pde::SystemSolution s = gp_pde::solve(p);
///     s.fields[0].on_grid(...);                      // each field is a gp_pde::Solution
///
/// All fields share the modes of each axis, whose bands come from the data of all equations and
/// from the frequencies of the system's own homogeneous solutions. One dimension: all equations at
/// the nodes and all conditions as one weighted least-squares problem in double-double, so that the
/// conditions may stand on any field and any end as long as they are as many as the system's order.
/// Two dimensions: Galerkin; each field's own constant-coefficient operator with its sides is a
/// Sylvester equation, which preconditions GMRES for all fields together, inside Newton's method
/// with residuals in double-double. docs/pde_system.md derives both.
namespace halfulp::gp_pde {

/// One unknown of a system and the equation that goes with it. In two dimensions that equation with
/// the other fields taken as known must be solvable for this one under its sides.
struct SystemField {
  std::string name;     ///< also the first part of its derivatives' names: v, v_x, v_xy
  Expression equation;  ///< = 0; in the axes, all fields, their derivatives to order two, forcing
  std::optional<Expression> exact = {};  ///< errors are reported against it; never used to solve
  /// Where Newton's method starts, in the axes' names. Without one: where all conditions stand on
  /// one end of a first-order system, from its path by Runge and Kutta's method; else a constant
  /// or, in one dimension, a straight line that has the prescribed values.
  std::optional<Expression> guess = {};
};

/// a v + b dv/dn = g for one field on one side. periodic: the two sides of a field together.
struct SystemSide {
  std::string field;
  std::string side;  ///< axis and end: "x-" lower, "x+" upper
  Side condition;
};

/// Equations `= 0`, as many as fields, each any smooth formula. Linear or not, with coefficients
/// that vary. How many conditions are needed: in one dimension as many in all as the order of the
/// system, which is the degree in z of the determinant of its symbol under e^(zx); in two, for each
/// field and axis as many as its own equation's order in it, as for a single equation.
struct SystemProblem {
  std::string name = {};
  std::vector<Axis> axes = {};                     ///< one or two
  std::vector<SystemField> fields = {};            ///< one to eight
  std::map<std::string, Expression> forcing = {};  ///< what names in the equations stand for
  std::vector<SystemSide> sides = {};              ///< of those that have a condition
};

/// Solved fields, in the order of the problem.
struct SystemSolution {
  Report report;                 ///< as that of a Solution, the largest of all fields
  double residual = 0;           ///< largest of the equations'
  double boundary_residual = 0;  ///< largest of the conditions'
  double error_estimate = 0;     ///< largest of the fields', each relative to its own L2 norm
  double floor_estimate = 0;
  /// 1-D: largest entry over smallest singular value of the equilibrated system. 2-D: largest
  /// eigenvalue of the fields' own operators times the norm of the inverse of all, estimated.
  double condition = 0;
  int newton_steps = 0;
  /// fields[k]: on_grid, its residual (of equation k), boundary_residual and error_estimate.
  std::vector<Solution> fields;
  Timings timings;
  std::vector<std::string> warnings;
};

/// Plan for a system. The first solve() infers bands, builds bases and solves; later ones keep
/// them.
///
/// Of Options the following hold: kernel (but matern), bands, tolerance, max_modes, max_newton,
/// threads, memory_limit, progress.
///
/// @throws DomainError  a system outside of what SystemProblem's docstring admits, naming the part;
///                      conditions not as many as needed; options that are not for systems
/// @throws Cancelled    options.progress returned false
/// @accuracy            budgets `gp_pde_system_1d`, `gp_pde_system_2d` in validation/budgets.csv
/// @cost                1-D: O(n (k r)^2) in double-double for k fields of r modes; 2-D: k Schur or
///                      eigenvalue decompositions of order r an axis, and O(k n r^2) a GMRES step
/// @source              Deuflhard (2011), Newton Methods for Nonlinear Problems; Saad, Schultz
///                      (1986), SIAM J. Sci. Stat. Comput. 7
class SystemSolver {
 public:
  explicit SystemSolver(SystemProblem problem, Options options = {});
  [[nodiscard]] SystemSolution solve();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// SystemSolver(problem, options).solve()
[[nodiscard]] SystemSolution solve(SystemProblem problem, Options options = {});

}  // namespace halfulp::gp_pde
