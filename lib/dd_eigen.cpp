#include "detail/dd_eigen.hpp"

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "detail/blas_threads.hpp"
#include "halfulp/error.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;

// Eigenvectors of a symmetric matrix in double (column-major, overwritten), values increasing.
void eigen_double(std::vector<double>& a, Size n, std::vector<double>& values) {
  values.resize(n);
  const int m = static_cast<int>(n);
  if (LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', m, a.data(), m, values.data()) != 0)
    throw Error("halfulp: the eigenvalue iteration of LAPACK did not converge");
}

DdMatrix from_double(const double* a, Size n) {
  DdMatrix out(n, n);
  std::copy_n(a, n * n, out.hi(0));
  return out;
}

// Orthonormal to double in, to double-double out: Q (3 - Q^T Q) / 2, which squares the defect.
DdMatrix orthonormal(DdMatrix q, int threads) {
  for (int round = 0; round < 2; ++round) {
    DdMatrix g = multiply_transposed(q, q, threads);
    for (Size j = 0; j < g.cols(); ++j)
      for (Size i = 0; i < g.rows(); ++i) g.set(i, j, ((i == j ? 3.0 : 0.0) - g(i, j)) * 0.5);
    q = multiply(q, g, threads);
  }
  return q;
}

DdMatrix columns(const DdMatrix& a, Size first, Size count) {
  DdMatrix out(a.rows(), count);
  std::copy_n(a.hi(first), a.rows() * count, out.hi(0));
  std::copy_n(a.lo(first), a.rows() * count, out.lo(0));
  return out;
}

}  // namespace

SymmetricEigen symmetric_eigen(const DdMatrix& a, int threads) {
  const OneBlasThread one;
  const Size n = a.rows();
  SymmetricEigen e;
  e.values.resize(n);
  if (n == 0) return e;
  double size = 0;  // largest row sum: bounds the spectral norm
  for (Size j = 0; j < n; ++j) {
    double sum = 0;
    for (Size i = 0; i < n; ++i) sum += std::fabs(a(i, j).hi);
    if (!std::isfinite(sum)) throw Error("halfulp: an operator's matrix is not finite");
    size = std::max(size, sum);
  }
  std::vector<double> start = a.rounded(), values;
  eigen_double(start, n, values);
  e.vectors = from_double(start.data(), n);

  constexpr int most_rounds = 8;
  // What the products round: below, neither values nor clusters can be told apart.
  const double noise = 4.0 * static_cast<double>(n) * 0x1p-106 * size;
  double last = std::numeric_limits<double>::infinity();
  for (e.rounds = 1; e.rounds <= most_rounds; ++e.rounds) {
    DdMatrix& x = e.vectors;
    const DdMatrix gram = multiply_transposed(x, x, threads);
    DdMatrix s = multiply_transposed(x, multiply(a, x, threads), threads);
    // Symmetric to the last bit: what rounds differently would, over a small gap, cost
    // orthogonality.
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < j; ++i) s.set(j, i, s(i, j));
    // r = I - X^T X
    const auto r = [&](Size i, Size j) { return i == j ? 1.0 - gram(i, j) : -gram(i, j); };
    double off_s = 0, off_r = 0;  // Frobenius norms bound the spectral ones
    for (Size i = 0; i < n; ++i) e.values[i] = s(i, i) / gram(i, i);
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < n; ++i) {
        off_r += r(i, j).hi * r(i, j).hi;
        if (i != j) off_s += s(i, j).hi * s(i, j).hi;
      }
    const double threshold = 2 * (std::sqrt(off_s) + size * std::sqrt(off_r));
    const auto close = [&](Size i, Size j) {
      return std::fabs((e.values[i] - e.values[j]).hi) <= threshold;
    };
    DdMatrix change(n, n);
    e.last_change = 0;
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < n; ++i) {
        const dd rij = r(i, j);
        const dd value = i == j || close(i, j)
                             ? rij * 0.5
                             : (s(i, j) + e.values[j] * rij) / (e.values[j] - e.values[i]);
        change.set(i, j, value);
        e.last_change = std::max(e.last_change, std::fabs(value.hi));
      }
    const DdMatrix step = multiply(x, change, threads);
    for (Size k = 0; k < n * n; ++k) {
      const dd v = dd(x.hi(0)[k], x.lo(0)[k]) + dd(step.hi(0)[k], step.lo(0)[k]);
      x.hi(0)[k] = v.hi;
      x.lo(0)[k] = v.lo;
    }
    // Clusters: neighbours in order that rounding could not tell apart.
    std::vector<Size> order(n);
    std::iota(order.begin(), order.end(), Size{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Size i, Size j) { return e.values[i] < e.values[j]; });
    bool rotated = false;
    for (Size first = 0; first < n;) {
      Size last = first + 1;
      while (last < n && close(order[last - 1], order[last])) ++last;
      const Size count = last - first;
      if (count > 1) {
        DdMatrix part(n, count);
        for (Size j = 0; j < count; ++j) {
          std::copy_n(x.hi(order[first + j]), n, part.hi(j));
          std::copy_n(x.lo(order[first + j]), n, part.lo(j));
        }
        const DdMatrix t = multiply_transposed(part, multiply(a, part, threads), threads);
        dd mean = 0.0;
        for (Size j = 0; j < count; ++j) mean += t(j, j);
        mean = mean / static_cast<double>(count);
        std::vector<double> inner(count * count);
        double off = 0;
        for (Size j = 0; j < count; ++j)
          for (Size i = 0; i < count; ++i) {
            inner[i + j * count] = (i == j ? t(i, j) - mean : (t(i, j) + t(j, i)) * 0.5).hi;
            if (i != j) off = std::max(off, std::fabs(inner[i + j * count]));
          }
        if (off > noise) {  // else the vectors are as good as any of their span
          eigen_double(inner, count, values);
          const DdMatrix turned =
              multiply(part, orthonormal(from_double(inner.data(), count), threads), threads);
          for (Size j = 0; j < count; ++j) {
            std::copy_n(turned.hi(j), n, x.hi(order[first + j]));
            std::copy_n(turned.lo(j), n, x.lo(order[first + j]));
          }
          rotated = true;
        }
      }
      first = last;
    }
    // The next change is about n times the square of this one.
    if (!rotated && (e.last_change < 1e-17 || e.last_change > 0.5 * last)) break;
    last = rotated ? std::numeric_limits<double>::infinity() : e.last_change;
  }
  // Between eigenvalues so close that the products' rounding turns their vectors, changes stay:
  // what they leave of orthogonality is their square.
  e.vectors = orthonormal(std::move(e.vectors), threads);
  // Values by Rayleigh quotients of the final vectors.
  const DdMatrix ax = multiply(a, e.vectors, threads);
  for (Size j = 0; j < n; ++j) {
    const double *h = e.vectors.hi(j), *l = e.vectors.lo(j);
    e.values[j] = dot(n, h, l, ax.hi(j), ax.lo(j)) / dot(n, h, l, h, l);
  }
  std::vector<Size> order(n);
  std::iota(order.begin(), order.end(), Size{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Size i, Size j) { return e.values[i] < e.values[j]; });
  DdMatrix sorted(n, n);
  std::vector<dd> sorted_values(n);
  for (Size j = 0; j < n; ++j) {
    const DdMatrix column = columns(e.vectors, order[j], 1);
    std::copy_n(column.hi(0), n, sorted.hi(j));
    std::copy_n(column.lo(0), n, sorted.lo(j));
    sorted_values[j] = e.values[order[j]];
  }
  e.vectors = std::move(sorted);
  e.values = std::move(sorted_values);
  return e;
}

}  // namespace halfulp::detail
