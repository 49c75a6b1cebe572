#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "detail/dd_linalg.hpp"
#include "detail/mfac_rows.hpp"

/// The sums of mfac_rows.hpp in double-double, some twenty times slower, for what double loses.
/// Vectors are of the columns [begin, end) alone; vectors of pairs are matrices of one column. Same
/// bits for any number of threads.
namespace halfulp::mfac::detail {

using halfulp::detail::DdMatrix;

/// Rows [first, last) over columns [begin, end) as doubles: row i begins at out[(i - first)
/// stride].
void load(const Gradients& gradients, std::ptrdiff_t first, std::ptrdiff_t last,
          std::ptrdiff_t begin, std::ptrdiff_t end, double* out, std::ptrdiff_t stride);
/// Column j of G as doubles.
void load_column(const Gradients& gradients, std::ptrdiff_t j, double* out);

/// G G^T over the columns, m x m; if `by_columns` G^T G instead.
[[nodiscard]] DdMatrix gram_extended(const Gradients& gradients, Columns columns, bool by_columns,
                                     int threads);
/// G x.
[[nodiscard]] DdMatrix project_extended(const Gradients& gradients, Columns columns,
                                        std::span<const double> x, int threads);
/// Calls use(j, (G^T b)_j) for each j of 0 ... end - begin, on several threads.
void combine_extended(const Gradients& gradients, Columns columns, const DdMatrix& b, int threads,
                      const std::function<void(std::ptrdiff_t, dd)>& use);

/// A + shift I = R^T R, upper triangular. A pivot that is not above shift/2 is set to shift, what
/// is beside it, all rounding then, to 0, and the first such reported, over shift.
struct ExtendedCholesky {
  DdMatrix r;
  std::ptrdiff_t lost = -1;
  double lost_value = 0;
};
[[nodiscard]] ExtendedCholesky cholesky_extended(DdMatrix a, dd shift, int threads);

}  // namespace halfulp::mfac::detail
