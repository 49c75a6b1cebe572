#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "detail/aligned.hpp"
#include "detail/vmf_numbers.hpp"
#include "halfulp/kernel/dd.hpp"
#include "halfulp/vmf.hpp"

/// The E step of mixtures of von Mises-Fisher distributions, iteration after iteration.
namespace halfulp::detail {

/// Rows with weights, checked, and their norms.
struct VmfRows {
  std::string_view function;  ///< whose argument they are
  VmfNumbers points;
  std::ptrdiff_t n = 0, p = 0;
  std::vector<double> inverse_norm;
  std::vector<double> weight;  ///< empty: all 1
  double total = 0;            ///< of the weights
  std::ptrdiff_t counted = 0;  ///< rows with weight
  int threads = 0;

  /// Row i: where it lies, or converted, in `buffer`.
  const double* row(std::ptrdiff_t i, std::vector<double>& buffer) const {
    return points.read(i * p, p, buffer);
  }
  /// Asks for a row that will be read next.
  void prefetch(std::ptrdiff_t i) const;
  [[nodiscard]] double weight_of(std::ptrdiff_t i) const {
    return weight.empty() ? 1 : weight[static_cast<std::size_t>(i)];
  }
  /// Rows `index`, divided by their norms, one after the other.
  void gather(std::span<const std::ptrdiff_t> index, double* to) const;
};

/// log pi_j f_j(x) = constant[j] + eta_j . x, eta_j = kappa_j mu_j.
struct VmfParameters {
  std::vector<double> eta;       ///< K rows of p numbers
  std::vector<double> constant;  ///< K
};

struct VmfSums {
  std::vector<double> direction;  ///< K rows of p: sum w r x
  std::vector<double> weight;     ///< K: sum w r
  double log_likelihood = 0;
};

/// Responsibilities of all rows and their sums, for one set of parameters after another.
///
/// A row belongs to one component alone if the others have less than 2^-60/K of its density, and
/// what is left out of a row is below that. Which rows need a look is found from bounds. With q
/// orthonormal rows Q that hold most of the data, and a = Q x, b_j = Q eta_j,
///
///     log pi_j f_j(x) = constant_j + a . b_j + r_j,
///
/// and a change of eta changes r_j by no more than |(I - Q^T Q) (eta' - eta)| |x - Q^T a|: both
/// factors are small, while a . b_j costs q products. So a row remembers bounds of r_j from when it
/// was last looked at. A first look is at a copy of the row in 16 bits, again with a bound of the
/// error, and most often rules the others out; what counts is computed in double from the points.
///
/// The sums of rows that belong to one component alone are kept in pairs of doubles and changed by
/// the rows that come and go; the others are summed anew.
class VmfExpectation {
 public:
  /// @param  prune  without: every row is looked at by all components, each time
  VmfExpectation(const VmfRows& rows, std::ptrdiff_t components, bool prune);

  /// The sums with new parameters.
  /// @param  hard  each row belongs to its likeliest component
  /// @param  all   every row is looked at by all components
  VmfSums evaluate(const VmfParameters& parameters, bool hard, bool all = false);

  /// Forgets all parameters.
  void restart();

  /// gap[i] = min(gap[i], 1 - mean . x_i), for a mean of norm 1; what is only rounding is 0.
  void lower_gaps(const double* mean, std::span<double> gap) const;

  /// Each row's best component.
  [[nodiscard]] int best(std::ptrdiff_t i) const;
  /// log f of each row, if the last evaluation looked at all.
  [[nodiscard]] double value(std::ptrdiff_t i) const { return value_[static_cast<std::size_t>(i)]; }

 private:
  struct Lane;
  struct Look;
  void make_coordinates();
  void copy_rows();
  void move(const VmfParameters& next);
  VmfSums add(bool all);
  void screen(Lane& lane, std::ptrdiff_t begin, std::ptrdiff_t end);
  void look(Lane& lane, std::ptrdiff_t r, std::ptrdiff_t i);
  void look_again(Lane& lane, const Look& look);
  void take_rows_at_once(Lane& lane);
  bool take_whole_row(std::ptrdiff_t i, double* part, Lane& lane);
  void log_densities(std::ptrdiff_t i, const double* row, std::ptrdiff_t count,
                     const std::int32_t* list, double* out) const;
  void rough_log_densities(std::ptrdiff_t i, std::ptrdiff_t count, const std::int32_t* list,
                           double* out, double* uncertain) const;
  void belongs_to(std::ptrdiff_t i, std::ptrdiff_t j, double low, float product);
  void exchange(std::span<const std::int32_t> before);
  [[nodiscard]] float* high(std::ptrdiff_t i, std::ptrdiff_t component);
  [[nodiscard]] double drift(std::ptrdiff_t i, std::ptrdiff_t component) const;
  [[nodiscard]] float limit_of(double low) const;
  void set_high(std::ptrdiff_t i, std::ptrdiff_t j, double value, float product);

  const VmfRows& rows_;
  std::ptrdiff_t k_, groups_ = 0, block_ = 0, lanes_ = 1;
  bool hard_, prune_;
  double needed_;                 ///< a row is alone if the others are lower by more
  AlignedArray<double> eta_;      ///< of the last parameters, zeros at first
  std::vector<double> constant_;  ///< zeros at first
  std::vector<double> size_;      ///< |eta|

  // ---- coordinates
  std::ptrdiff_t q_ = 0;
  std::vector<double> basis_;       ///< Q
  AlignedArray<float> coordinate_;  ///< a, by tiles
  AlignedArray<float> rest_;        ///< |x - Q^T a|, an upper bound
  AlignedArray<float> component_;   ///< b, by groups
  double reference_ = 0;            ///< taken off all constants
  /// Of each component: how far r may have drifted for a unit of `rest`, and besides.
  std::vector<double> drift_, creep_;
  std::vector<double> rounding_;  ///< of a . b
  std::vector<float> drift_single_, constant_single_;

  // ---- rows in 16 bits
  std::ptrdiff_t padded_ = 0;  ///< 0: none
  AlignedArray<std::int16_t> short_row_, short_component_;
  std::vector<double> row_unit_, row_lack_, component_unit_, component_lack_;

  // ---- what is known of each row
  /// The component that the row belongs to alone, or ~ the best one of several.
  std::vector<std::int32_t> best_;
  std::vector<double> low_;   ///< lower bound of r of that component, plus its drift
  AlignedArray<float> high_;  ///< upper bounds of r, less drift; -inf for the one of the row alone
  std::vector<double> value_;

  std::vector<double> sum_hi_, sum_lo_;  ///< of rows that belong to one component alone
  std::vector<dd> alone_weight_;
};

}  // namespace halfulp::detail
