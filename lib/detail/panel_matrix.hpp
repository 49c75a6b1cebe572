#pragma once

#include <cstddef>

#include "detail/aligned.hpp"
#include "detail/dd_linalg.hpp"

namespace halfulp::detail {

/// A matrix in double for products with one vector, in the order in which they read it: panels of
/// 32 rows, column after column. Such a product takes as long as the matrix takes to come from the
/// cache, whatever the arithmetic.
class PanelMatrix {
 public:
  static constexpr std::ptrdiff_t height = 32;
  PanelMatrix() = default;
  explicit PanelMatrix(const DdMatrix& a);  ///< rounded

  [[nodiscard]] std::ptrdiff_t rows() const { return rows_; }
  [[nodiscard]] std::ptrdiff_t cols() const { return cols_; }
  /// Rows with those that fill the last panel.
  [[nodiscard]] std::ptrdiff_t padded() const { return (rows_ + height - 1) / height * height; }
  /// y = A x. Sums of eight terms are added up with their rounding errors: an entry is good to some
  /// four roundings of its largest terms, however many there are. The same bits always on one
  /// instruction set.
  /// @param  x  cols() values
  /// @param  y  room for padded() values
  void multiply(const double* x, double* y) const;

 private:
  std::ptrdiff_t rows_ = 0, cols_ = 0;
  AlignedArray<double> values_;
};

}  // namespace halfulp::detail
