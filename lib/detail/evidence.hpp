#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

/// Bayesian linear regression in weight space, by orthogonal factorisations only.
///
/// y = A w + e, w_j ~ N(0, s_j), e ~ N(0, noise^2) with one noise for each group of data. In scaled
/// weights z = w / sqrt(s) and whitened rows M = A sqrt(s) / noise the posterior is the
/// least-squares problem min |M z - b|^2 + |z|^2, whose triangle R, from the QR factorisation of
/// [M b; I 0], has everything: z, the posterior covariance (R^T R)^-1 and the determinant of the
/// data's covariance. No Gram matrix is formed: the condition is that of M, not its square.
namespace halfulp::detail {

/// Column-major.
struct Columns {
  std::ptrdiff_t rows = 0, cols = 0;
  std::vector<double> values;
  Columns() = default;
  Columns(std::ptrdiff_t m, std::ptrdiff_t n) : rows(m), cols(n), values(m * n) {}
  [[nodiscard]] double& operator()(std::ptrdiff_t i, std::ptrdiff_t j) {
    return values[i + j * rows];
  }
  [[nodiscard]] double operator()(std::ptrdiff_t i, std::ptrdiff_t j) const {
    return values[i + j * rows];
  }
  [[nodiscard]] double* column(std::ptrdiff_t j) { return values.data() + j * rows; }
  [[nodiscard]] const double* column(std::ptrdiff_t j) const { return values.data() + j * rows; }
};

/// Data of one noise, possibly compressed: `rows` and `data` are Q^T A and Q^T y for orthonormal Q
/// whose range holds that of A; `rest` is the square of what y has outside of it.
struct DataGroup {
  Columns rows;
  std::vector<double> data;
  double rest = 0;
  std::ptrdiff_t count = 0;  ///< data before the compression
};

/// Adds rows to a group of p columns; as soon as there are many more of them than columns they are
/// compressed by a QR factorisation.
class RowCollector {
 public:
  explicit RowCollector(std::ptrdiff_t columns) : columns_(columns) {}
  /// @param rows  with the data as an extra, last column
  void add(const Columns& rows);
  [[nodiscard]] DataGroup finish();

 private:
  void compress();
  std::ptrdiff_t columns_;
  std::vector<Columns> blocks_;
  std::ptrdiff_t held_ = 0;
  std::ptrdiff_t count_ = 0;
  double rest_ = 0;
};

struct Regression {
  double log_evidence = 0;            ///< log density of the data
  std::vector<double> weights;        ///< z, posterior mean
  Columns r;                          ///< upper triangular, R^T R = I + M^T M
  std::vector<double> misfit;         ///< by group: |M z - b|^2
  std::vector<double> slope_weights;  ///< d log_evidence / d log s_j
  std::vector<double> slope_noise;    ///< d log_evidence / d log noise, by group
  std::vector<double> explained;      ///< by group: degrees of freedom spent, tr(M (R^T R)^-1 M^T)
};

/// @param log_variance  log s_j
/// @param log_noise     one a group
/// @param slopes        whether slope_* and explained are wanted
/// @cost                (10/3) p^3 for p weights, 1.7 times that with slopes
[[nodiscard]] Regression regress(std::span<const DataGroup> groups,
                                 std::span<const double> log_variance,
                                 std::span<const double> log_noise, bool slopes);

/// Bytes that regress takes for so many rows and weights.
[[nodiscard]] double regression_bytes(std::ptrdiff_t rows, std::ptrdiff_t weights);

/// Minimum of a smooth function on a box by BFGS with projected steps.
struct BoxMinimum {
  std::vector<double> x;
  double value = 0;
  double slope = 0;  ///< largest component of the projected gradient
  int iterations = 0;
  bool converged = false;
};
/// @param f          value and gradient at a point of the box; a value that is not finite is a
///                   step too far
/// @param tolerance  of the projected gradient's largest component
/// @param negligible  converged as well after three steps in a row that gained less
/// @param step       largest change of a component in one iteration
/// @source           Bertsekas (1982), SIAM J. Control Optim. 20, 221-246; Nocedal, Wright (2006),
///                   Numerical Optimization, 6.1
[[nodiscard]] BoxMinimum minimise_on_box(
    const std::function<double(std::span<const double> x, std::span<double> gradient)>& f,
    std::vector<double> x, std::span<const double> lower, std::span<const double> upper,
    double tolerance, double negligible, double step, int most_iterations);

}  // namespace halfulp::detail
