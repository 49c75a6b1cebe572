#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace halfulp::cuda::detail {

/// K^-1 of K = shift I + S, n x n, and the spectrum of S, on the host and without any package: the
/// device library is built where there is none.
struct MfacInverse {
  std::vector<double> inverse;  ///< symmetric, all n^2
  double largest = 0;           ///< eigenvalue of S, an estimate from above
  double smallest = 0;          ///< of K, from below
  /// The first row of K whose pivot was not above shift/2: it became shift, the column below 0.
  std::ptrdiff_t lost = -1;
  double lost_value = 0;  ///< that pivot over shift
};

/// @param  gram  S, symmetric, all n^2, finite
/// @cost   n^3 flops on one thread, 16 n^2 bytes
[[nodiscard]] MfacInverse mfac_inverse(std::span<const double> gram, std::ptrdiff_t n,
                                       double shift);

}  // namespace halfulp::cuda::detail
