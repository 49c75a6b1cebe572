#pragma once

#include <array>
#include <complex>
#include <memory>
#include <string>
#include <vector>

#include "detail/pde_discretisation.hpp"
#include "detail/pde_newton.hpp"
#include "detail/pde_problem.hpp"
#include "halfulp/pde_system.hpp"

/// Systems of several fields: checked, and discretised for one choice of bands.
namespace halfulp::gp_pde::detail {

/// A derivative of a field that occurs in some equation.
struct SystemTerm {
  Size field = 0;
  std::vector<int> order;
  std::string name;
};

struct SystemCondition {
  Size field = 0, axis = 0;
  int end = 0;
  double a = 1, b = 0;
  Expression g;
};

/// An initial value problem's solution by Runge and Kutta's method: where Newton's method starts.
struct InitialPath {
  double lower = 0, step = 0;
  std::vector<std::vector<double>> values, slopes;  ///< [field][point]
  [[nodiscard]] bool empty() const { return values.empty(); }
  [[nodiscard]] double value(Size field, double x) const;  ///< cubic between the points
};

struct CheckedSystem {
  SystemProblem problem;
  Options options;
  std::vector<std::string> names;  ///< of the axes
  std::vector<SystemTerm> terms;
  std::vector<Expression> left;                    ///< [equation], source taken off
  std::vector<Expression> source;                  ///< [equation], in the axes: left = source
  std::vector<std::vector<Expression>> partial;    ///< [equation][term] d left / d term
  std::vector<std::vector<Expression>> reference;  ///< the same at the guess, in the axes
  std::vector<SystemCondition> conditions;
  std::vector<char> periodic;                      ///< [axis * fields + field]
  std::vector<std::array<bool, 2>> axis_periodic;  ///< [axis]: all fields, any field
  InitialPath path;  ///< of nonlinear initial value problems without a guess
  bool linear = true;
  int threads = 1;
  /// One a field: its own operator with constant coefficients (two dimensions), the source of its
  /// equation, its sides. What single equations have, so that their functions serve fields as well.
  std::vector<Checked> own;

  [[nodiscard]] Size fields() const { return static_cast<Size>(left.size()); }
  [[nodiscard]] Size dimension() const { return static_cast<Size>(names.size()); }
  [[nodiscard]] dd length(Size k) const { return problem.axes[k].upper - problem.axes[k].lower; }
  [[nodiscard]] dd end(Size k, int s) const {
    return s == 0 ? problem.axes[k].lower : problem.axes[k].upper;
  }
  [[nodiscard]] bool is_periodic(Size axis, Size field) const {
    return periodic[axis * fields() + field] != 0;
  }
};

/// @throws DomainError, ShapeError  what SystemSolver's docstring lists; DomainError::argument() is
///         "problem", "problem.axes...", "problem.fields.NAME...", "problem.sides.NAME..." or
///         "options..."
[[nodiscard]] CheckedSystem check(SystemProblem problem, Options options);

/// Finite roots z of det P(z) = 0, where exp(z s) v along axis k solves the homogeneous equations
/// linearised at the guess with their coefficients at one point; along the other axis the fields
/// vary as exp(i w).
[[nodiscard]] std::vector<std::complex<double>> symbol_roots(const CheckedSystem& c, Size k,
                                                             double w,
                                                             const std::vector<double>& point);

/// Equations, or parts of them, at points.
class PointwiseSystem {
 public:
  PointwiseSystem() = default;
  /// @param keep_constant  false: terms with constant coefficients are left out
  PointwiseSystem(const CheckedSystem& c, bool keep_constant);

  /// Indices into CheckedSystem::terms, whose values the functions below take in this order.
  [[nodiscard]] const std::vector<Size>& terms() const { return terms_; }
  [[nodiscard]] bool empty() const { return terms_.empty(); }
  /// Values of every equation on a grid, given those of the terms there.
  [[nodiscard]] std::vector<la::DdMatrix> value(std::span<const Points> grid,
                                                std::span<const la::DdMatrix> fields,
                                                int threads) const;
  /// [equation][term]: derivatives of the values; empty where it is zero everywhere.
  /// @param exact  in double-double, else in double
  [[nodiscard]] std::vector<std::vector<la::DdMatrix>> partial(std::span<const Points> grid,
                                                               std::span<const la::DdMatrix> fields,
                                                               bool exact, int threads) const;

 private:
  Size equations_ = 0;
  std::vector<Size> terms_;
  std::vector<Program<dd>> value_;
  std::vector<Program<dd>> exact_partial_;  // of those that are not zero
  std::vector<Program<double>> partial_;
  std::vector<std::pair<Size, Size>> nonzero_;  // equation and term of each
};

/// Basis, operator and factorisation of a system for one choice of bands.
class SystemDiscretisation {
 public:
  struct Choice {
    double margin = 12;
    Size most_modes = 640;
  };
  SystemDiscretisation() = default;
  SystemDiscretisation(const CheckedSystem& c, std::vector<std::vector<Band>> bands,
                       const Choice& choice, Timings& timings);

  /// One field each.
  [[nodiscard]] std::vector<Field> solve(const CheckedSystem& c, const std::vector<Field>* start,
                                         Timings& timings) const;

  std::vector<std::vector<Band>> bands;  ///< as used
  std::vector<std::shared_ptr<const la::FourierBasis>> basis;
  /// Equations are multiplied with theirs and fields with theirs, so that entries are alike.
  /// Field::smallest_eigenvalue is that of the operator so scaled.
  std::vector<double> equation_scale, field_scale;

 private:
  struct Line;   // one dimension
  struct Plane;  // two
  void set_up_line(const CheckedSystem& c);
  void set_up_plane(const CheckedSystem& c);
  [[nodiscard]] la::DdMatrix start_coefficients(const CheckedSystem& c,
                                                const std::vector<Field>* start) const;
  [[nodiscard]] la::DdMatrix solve_line(const CheckedSystem& c, const std::vector<Field>* start,
                                        Field& facts) const;
  [[nodiscard]] la::DdMatrix solve_plane(const CheckedSystem& c, const std::vector<Field>* start,
                                         Field& facts) const;
  std::shared_ptr<const Line> line_;
  std::shared_ptr<const Plane> plane_;
};

}  // namespace halfulp::gp_pde::detail
