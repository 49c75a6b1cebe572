#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "detail/mfac_gradients.hpp"

/// Sums over the columns [begin, end) of gradients. Vectors and results have their places in the
/// whole: x_c is x[c d + begin] ... x[c d + end - 1].
///
/// Columns are taken in tiles of a size that depends on m and k only. A sum over a tile's columns
/// is 8 sums in double, or 16 in float, of every 8th or 16th product, at most 4096 products in all,
/// and these are added, halves first; tiles follow each other in up to 64 lanes, their
/// number a function of the sizes, which are added in a tree. So the bits are the same for any
/// number of threads, and on AVX2, AVX-512 and NEON; without a fused multiply-add (SSE) they are
/// others.
///
/// @accuracy  gram, project: |error| <= (523 + tiles of a lane) u times the sum of magnitudes of
/// the
///            products, u = 2^-53, or 2^-24 in float; from 512 rows on there is one lane. combine:
///            (m + 2) u of them, or in float, where 64 rows are added before the total goes to
///            double, (68 + m/64) u
/// @cost      work space of some MiB a thread: a tile, and of a file 4 MiB of it at a time, or the
///            tile if that is more
/// T is float or double.
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
/// W = L^-1 G, for up to 48 columns at a time: body(c, w, squares), where w[48 i + j - c.begin] =
/// W_ij and squares[j - c.begin] = sum_i W_ij^2. `factor` is what mfac_solve_factor makes of L. On
/// one thread.
void solve_columns(
    const Gradients& gradients, Columns columns, std::span<const double> factor,
    const std::function<void(Columns c, const double* w, const double* squares)>& body);

}  // namespace halfulp::mfac::detail
