#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "detail/fourier_basis.hpp"
#include "detail/panel_matrix.hpp"
#include "detail/pde_discretisation.hpp"
#include "detail/pde_problem.hpp"

/// Linear problems in one dimension, solved in double by matrices made in double-double.
///
/// The solution of the least-squares problem depends linearly on the values of the forcing and on
/// the conditions' data. That map is formed at set-up and rounded once; a solve is a product with
/// the forcing's values, another product tells the residual at points that the first did not use,
/// and a third evaluates. No factor is left that a condition number could multiply: what stays is
/// the rounding of the data and of the products, which the operator's inverse enlarges, and which
/// is known beforehand column by column.
///
/// Band-limited functions do not need Gauss nodes by the hundred: so many points as there are
/// modes and a quarter more, chosen by pivoting, determine them. They have short significands, so
/// that a formula's k x is exact for short k: rounding x by u is an error k x u in sin(k x).
namespace halfulp::gp_pde::detail {

class LineOperator;

/// A solution in modes and exponentials.
struct LineField {
  std::shared_ptr<const LineOperator> line;
  std::vector<double> coefficients;
  double rms = 0;    ///< of the solution over the axis
  double floor = 0;  ///< relative L2 error that rounding in double causes, of data and of products
  [[nodiscard]] std::vector<double> values(const std::vector<double>& points, int order) const;
};

struct LineQuality {
  double residual = 0, scale = 0, boundary = 0, largest = 0;
};

class LineOperator {
 public:
  /// @param basis  of modes that hold the solution; `exponentials` beside them
  LineOperator(const Checked& c, std::shared_ptr<const la::FourierBasis> basis,
               std::vector<Exponential> exponentials);

  /// Whether conditions and equation determine the solution at the points chosen. Otherwise
  /// nothing below may be called.
  [[nodiscard]] bool determined() const { return determined_; }
  /// L2 norm of what evaluating this formula in double instead of double-double does to the
  /// solution: exactly, since its error at each node is known.
  [[nodiscard]] double formula_error(const RightHandSide& rhs) const;
  /// @param quality  residual and conditions, at points that were not used to solve
  [[nodiscard]] LineField solve(const RightHandSide& rhs, double formula_error,
                                LineQuality& quality, Timings& timings) const;

  [[nodiscard]] const la::FourierBasis& basis() const { return *basis_; }
  [[nodiscard]] Size nodes() const { return nodes_; }

 private:
  friend struct LineField;
  void choose_points(const Checked& c);
  void set_up_solution(const Checked& c);
  /// @param constant  what the conditions' data alone give
  void split(const la::DdMatrix& solution, const la::DdMatrix& constant);
  /// Unknowns that values of the forcing at the nodes cause, with the conditions' data or with
  /// homogeneous ones.
  [[nodiscard]] std::vector<double> respond(const std::vector<double>& f, bool conditions) const;
  void set_up_residual(const Checked& c);
  /// Rows of the equation's terms, or their sum, at points; columns are the unknowns.
  [[nodiscard]] la::DdMatrix term(const Checked& c, int order, const Points& at) const;
  [[nodiscard]] la::DdMatrix all_terms(const Checked& c, const Points& at) const;
  [[nodiscard]] Size unknowns() const {
    return basis_->size() + static_cast<Size>(exponentials_.size());
  }
  /// Values of a derivative at the points evaluated last; the last few are kept.
  [[nodiscard]] std::shared_ptr<const la::PanelMatrix> evaluation(const std::vector<double>& points,
                                                                  int order) const;

  std::shared_ptr<const la::FourierBasis> basis_;
  std::vector<Exponential> exponentials_;
  bool determined_ = false;
  double length_ = 0;
  Size nodes_ = 0;
  std::vector<std::vector<double>> points_;  ///< one axis: nodes, then those of the residual
  /// Forcing at the nodes -> unknowns is a smooth function of x where the operator's inverse is
  /// large. Its largest singular directions go apart, so that rounding along them is a change of
  /// the solution in their own direction, which the equation hardly sees, and not one of every mode
  /// by itself: solution_ * (f, strong_ * f + strong_constant_) + constant_, where the constants
  /// are what the conditions' data give, which may cancel along those directions.
  la::PanelMatrix strong_, solution_;
  std::vector<double> gain_;  ///< of each node: square of the L2 norm of what a unit there causes
  std::vector<double> squares_;  ///< of the unknowns' functions: their L2 norms squared
  std::vector<double> strong_constant_, constant_;
  /// Unknowns -> each term at the points of the residual, then for each condition each of its
  /// derivatives at its end.
  la::PanelMatrix observed_;
  struct ConditionRows {
    double data = 0;
    std::vector<double> length;  ///< of each row: length of the axis to the derivative's power
    std::vector<double> factor;
  };
  std::vector<ConditionRows> conditions_;
  Size terms_ = 0;

  struct Evaluated {
    std::vector<double> points;
    int order = 0;
    std::shared_ptr<const la::PanelMatrix> values;
  };
  mutable std::mutex mutex_;
  mutable std::deque<Evaluated> evaluated_;  ///< the latest last
};

}  // namespace halfulp::gp_pde::detail
