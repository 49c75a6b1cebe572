#pragma once

#include <cstddef>
#include <span>

#include "detail/mfac_gradients.hpp"

/// Sums over the columns [begin, end) of gradients. Vectors and results have their places in the
/// whole: x_c is x[c d + begin] ... x[c d + end - 1].
///
/// Columns are taken in tiles of a fixed size; a tile's sums are in double (or float, for
/// Accumulation::float32) in a fixed number of lanes, and the tiles' results are added in a fixed
/// tree: same bits for any number of threads. T is float or double.
namespace halfulp::mfac::detail {

struct Columns {
  std::ptrdiff_t begin = 0;
  std::ptrdiff_t end = 0;
};

/// out[i + m j] = g_i . g_j for i >= j (the lower triangle, column-major), the rest left as it is.
/// Rows that are not finite give a diagonal that is not.
void gram(const Gradients& gradients, Columns columns, Accumulation accumulation, int threads,
          std::span<double> out, const Progress& progress = {});
/// out[c m + i] = g_i . x_c, and squares[c] = x_c . x_c unless empty.
template <class T>
void project(const Gradients& gradients, Columns columns, std::span<const T> x, std::ptrdiff_t k,
             Accumulation accumulation, int threads, std::span<double> out,
             std::span<double> squares = {});
/// y_c = scale x_c + sum_i a[c m + i] g_i, rounded once to T; x may be y, or empty with scale 0.
template <class T>
void combine(const Gradients& gradients, Columns columns, std::span<const double> a,
             std::ptrdiff_t k, double scale, std::span<const T> x, Accumulation accumulation,
             int threads, std::span<T> y);
/// gram and project in one pass.
template <class T>
void gram_and_project(const Gradients& gradients, Columns columns, std::span<const T> x,
                      std::ptrdiff_t k, Accumulation accumulation, int threads,
                      std::span<double> gram, std::span<double> projections,
                      std::span<double> squares, const Progress& progress);

}  // namespace halfulp::mfac::detail
