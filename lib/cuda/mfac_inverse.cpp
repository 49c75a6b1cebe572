#include "detail/mfac_inverse.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace halfulp::cuda::detail {
namespace {

using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

/// In eight sums, which a compiler makes vectors of without changing their order.
double dot(const double* x, const double* y, Size n) {
  double lanes[8] = {};
  Size i = 0;
  for (; i + 8 <= n; i += 8)
    for (Size l = 0; l < 8; ++l) lanes[l] += x[i + l] * y[i + l];
  for (; i < n; ++i) lanes[0] += x[i] * y[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/// The largest eigenvalue of the tridiagonal matrix with this diagonal and, beside it, off-diagonal
/// > 0, by bisection: theta I - T has a pivot that is not positive for theta below it. The last
/// entry of its vector of norm 1 is what the pivots leave of the first.
struct Largest {
  double value, last;
};
Largest largest_of_tridiagonal(const Numbers& diagonal, const Numbers& beside) {
  const std::size_t n = diagonal.size();
  Numbers pivots(n);
  const auto above = [&](double theta) {
    for (std::size_t k = 0; k < n; ++k) {
      pivots[k] = theta - diagonal[k];
      if (k > 0) pivots[k] -= beside[k - 1] * (beside[k - 1] / pivots[k - 1]);
      if (!(pivots[k] > 0)) return false;
    }
    return true;
  };
  double low = diagonal[0], high = 0;
  for (std::size_t k = 0; k < n; ++k)
    high = std::max(
        high, std::fabs(diagonal[k]) + (k > 0 ? beside[k - 1] : 0) + (k + 1 < n ? beside[k] : 0));
  high *= 1 + 0x1p-40;
  for (;;) {
    const double middle = low + 0.5 * (high - low);
    if (!(middle > low && middle < high && high - low > 0x1p-48 * high)) break;
    (above(middle) ? high : low) = middle;
  }
  above(high);
  double square = 1, entry = 1;
  for (std::size_t k = 0; k + 1 < n; ++k) {
    entry *= pivots[k] / beside[k];
    square += entry * entry;
  }
  return {high, entry / std::sqrt(square)};
}

/// The largest eigenvalue of a symmetric positive semidefinite matrix by the method of Lanczos with
/// full orthogonalisation: the Ritz value plus the residual, within which there is an eigenvalue.
/// From above, unless the start has none of the vector.
double largest_eigenvalue(const double* matrix, Size n) {
  const Size steps = std::min<Size>(n, 24);
  std::vector<Numbers> basis(1, Numbers(static_cast<std::size_t>(n)));
  double golden = 0;
  for (double& value : basis[0]) {
    golden += 0.6180339887498949;
    value = golden - std::floor(golden) - 0.45;
  }
  Numbers diagonal, beside;
  double norm = std::sqrt(dot(basis[0].data(), basis[0].data(), n));
  for (Size k = 0; k < steps; ++k) {
    for (double& value : basis.back()) value /= norm;
    Numbers next(static_cast<std::size_t>(n));
    for (Size i = 0; i < n; ++i)
      next[static_cast<std::size_t>(i)] = dot(matrix + i * n, basis.back().data(), n);
    diagonal.push_back(dot(next.data(), basis.back().data(), n));
    for (int round = 0; round < 2; ++round)
      for (const Numbers& v : basis) {
        const double along = dot(next.data(), v.data(), n);
        for (std::size_t i = 0; i < v.size(); ++i) next[i] -= along * v[i];
      }
    norm = std::sqrt(dot(next.data(), next.data(), n));
    if (!(norm > 0x1p-40 * std::fabs(diagonal[0]))) break;
    if (k + 1 == steps) break;
    beside.push_back(norm);
    basis.push_back(std::move(next));
  }
  const Largest ritz = largest_of_tridiagonal(diagonal, beside);
  return ritz.value + norm * ritz.last;
}

}  // namespace

MfacInverse mfac_inverse(std::span<const double> gram, Size n, double shift) {
  constexpr double rounding = 0x1p-51;  // of K, relative to the trace of S
  MfacInverse result;
  const auto all = static_cast<std::size_t>(n * n);
  // L by rows: all sums are over numbers that lie side by side
  Numbers lower(all);
  std::vector<char> lost(static_cast<std::size_t>(n));
  double trace = 0;
  for (Size i = 0; i < n; ++i) {
    double* const row = lower.data() + i * n;
    const double* const given = gram.data() + i * n;
    for (Size j = 0; j < i; ++j)
      row[j] = lost[static_cast<std::size_t>(j)] != 0
                   ? 0
                   : (given[j] - dot(row, lower.data() + j * n, j)) /
                         lower[static_cast<std::size_t>(j * n + j)];
    const double pivot = given[i] + shift - dot(row, row, i);
    trace += given[i];
    if (pivot > 0.5 * shift) {
      row[i] = std::sqrt(pivot);
      continue;
    }
    row[i] = std::sqrt(shift);
    lost[static_cast<std::size_t>(i)] = 1;
    if (result.lost < 0) result.lost = i, result.lost_value = pivot / shift;
  }
  // U = L^-T by rows, row j of it being column j of L^-1, and K^-1 = U U^T
  Numbers upper(all);
  for (Size j = 0; j < n; ++j) {
    double* const row = upper.data() + j * n;
    row[j] = 1 / lower[static_cast<std::size_t>(j * n + j)];
    for (Size i = j + 1; i < n; ++i)
      row[i] = -dot(lower.data() + i * n + j, row + j, i - j) /
               lower[static_cast<std::size_t>(i * n + i)];
  }
  result.inverse = std::move(lower);
  for (Size i = 0; i < n; ++i)
    for (Size j = 0; j <= i; ++j) {
      const double value = dot(upper.data() + i * n + i, upper.data() + j * n + i, n - i);
      result.inverse[static_cast<std::size_t>(i * n + j)] = value;
      result.inverse[static_cast<std::size_t>(j * n + i)] = value;
    }
  result.largest = std::min(trace, largest_eigenvalue(gram.data(), n)) + rounding * trace;
  result.smallest =
      std::max(shift, 1 / largest_eigenvalue(result.inverse.data(), n) - rounding * trace);
  return result;
}

}  // namespace halfulp::cuda::detail
